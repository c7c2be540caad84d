"""What several families read their notations with: tokens, grammars, logic, planning domains, colour refinement."""
