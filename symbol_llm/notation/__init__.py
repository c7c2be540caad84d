"""Reading of notations, shared by families: tokens, grammars, logic, planning domains, colour refinement."""
