"""What families read notations with: grammars, syntax trees, normal forms, automata. None of them judges or runs a program."""
