"""Every error this package raises on purpose.

    SymbolLLMError
    ├── InvalidInput        the caller can mend it: a file, a field, an argument      exit 2
    │   └── Unparsable      a program that its notation's grammar refuses
    ├── MissingDependency   an optional package or solver is not installed            exit 3
    ├── Unavailable         something of ours is down: engine, sandbox, endpoint      exit 3
    ├── LimitExceeded       a limit of time, memory, output or files was hit          exit 4
    │   └── TimedOut        the wall clock ran out
    └── Busy                another process holds the folder                          exit 5

A message says what failed, the offending value and what would be right, in one line.
"""


class SymbolLLMError(Exception):
    """Root of the tree. `exit_code` is what the command line returns."""

    exit_code = 1


class InvalidInput(SymbolLLMError):
    """A file, field or argument is wrong and the caller can mend it."""

    exit_code = 2


class Unparsable(InvalidInput):
    """A program does not belong to its notation; the message holds the position."""


class MissingDependency(SymbolLLMError):
    """An optional package or solver is not installed; the message names the extra."""

    exit_code = 3


class Unavailable(SymbolLLMError):
    """Something of ours does not answer: an engine, the sandbox, an endpoint."""

    exit_code = 3


class LimitExceeded(SymbolLLMError):
    """Running a program hit a limit of memory, output, files or processes; `isolation` is the sandbox level it ran at."""

    exit_code = 4

    def __init__(self, message: str, isolation: str = "none") -> None:
        """Take the message and, where the program ran, the level."""
        super().__init__(message)
        self.isolation = isolation


class TimedOut(LimitExceeded):
    """Running a program hit its wall-clock limit."""


class Busy(SymbolLLMError):
    """Another process holds the folder."""

    exit_code = 5
