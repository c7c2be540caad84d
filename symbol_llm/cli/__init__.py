"""The command `symbol-llm`. Each module adds its commands to the group.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from symbol_llm.cli import catalogue, judging, registry, results, stages, upkeep  # noqa: F401 - they add their commands
from symbol_llm.cli.group import Source, main

__all__ = ["Source", "main"]
