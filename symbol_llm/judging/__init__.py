"""Verdicts: where a program ends in a reply, what it is worth, and how far the verdicts themselves can be trusted."""
