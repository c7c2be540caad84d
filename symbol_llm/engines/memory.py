"""Running out of memory, told as what to lower."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator

from symbol_llm.ground.errors import LimitExceeded

WORDS = ("can't allocate memory", "Cannot allocate memory", "not enough memory")
"""How libraries whose errors have no type of their own say it."""


@contextlib.contextmanager
def advising(what: str, advice: str) -> Iterator[None]:
    """Turn running out of memory inside the block into LimitExceeded: no memory for `what`, and `advice`."""
    try:
        yield
    except Exception as e:
        if not _is_exhaustion(e):
            raise
        raise LimitExceeded(f"no memory for {what}: {advice}") from e


def _is_exhaustion(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return any(words in str(error) for words in WORDS)
