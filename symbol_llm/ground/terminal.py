"""What may be shown in a terminal: text that a model or a file holds can carry escape sequences that act there."""

from __future__ import annotations

import re

_ACTS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters other than newline and tab, changes of writing direction, and halves of characters."""


def shown(text: str) -> str:
    r"""Return `text` with each character that would act in a terminal as its JSON escape.

    >>> print(shown("\x1b[2Jgone"))
    \u001b[2Jgone
    """
    return _ACTS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
