"""`python -m symbol_llm` is the command `symbol-llm`."""

from symbol_llm.cli import main

main()
