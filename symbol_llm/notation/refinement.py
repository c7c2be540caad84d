"""Names for variables that depend neither on their old names nor on any order, by colour refinement.

Variables of one colour look alike. Each is recoloured by how it looks among the colours of the others, until that
distinguishes no more. Among those still alike, `number` singles one out, which is fast; `least_text` tries each, which
is exact. Missed by `number`: two equal graphs so regular that the choice makes a difference.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MAX_KEPT = 4000
"""Length in characters from which a text is compared by its digest."""
Edges = Sequence[tuple[str, bool, str]]
"""The edges of one variable: (label, whether the edge is incoming, the variable at the other end)."""


def number(own: Mapping[str, Any], around: Mapping[str, Edges], key: Callable[[str], Any]) -> dict[str, int]:
    """Number the variables of a graph from 0, by the properties of each alone (sortable) and the edges around it.

    Of variables that cannot be told apart, the least by `key` is singled out.
    """
    colours = _rank(own)
    while (before := len(set(colours.values()))) < len(colours):
        colours = _rank({v: (colours[v], tuple(sorted((e, i, colours[o]) for e, i, o in around[v]))) for v in colours})
        if len(set(colours.values())) == before:
            tied = min(colour for colour, n in Counter(colours.values()).items() if n > 1)
            chosen = min((v for v in colours if colours[v] == tied), key=key)
            colours = _rank({v: (colour, v != chosen) for v, colour in colours.items()})
    return colours


def _rank(keys: Mapping[str, Any]) -> dict[str, int]:
    """Replace the keys by their ranks, equal keys by the same rank."""
    ranks = {key: n for n, key in enumerate(sorted(set(keys.values())))}
    return {variable: ranks[key] for variable, key in keys.items()}


def _kept(text: str) -> str:
    """Return `text`, or its digest if it is long, so that a thousand of them fit into memory."""
    return text if len(text) <= MAX_KEPT else hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


class _TooManyError(Exception):
    """More texts were asked for than allowed."""


def least_text(
    variables: Sequence[str],
    show: Callable[[Mapping[str, str]], str],
    name: Callable[[Sequence[str]], Mapping[str, str]],
    *,
    max_shown: int,
) -> str | None:
    """Return the least text over all namings of the variables that refinement leaves; None if there are too many.

    `show` prints the text with the variables named, possibly several by the same name; `name` gives the final name of
    each by its rank.
    """
    n_shown = 0

    def shown(naming: Mapping[str, str]) -> str:
        nonlocal n_shown
        n_shown += 1
        if n_shown > max_shown:
            raise _TooManyError
        return show(naming)

    def refine(colours: dict[str, int]) -> dict[str, int]:
        """Distinguish variables by how the text looks from each, until that distinguishes no more."""
        while True:
            looks = {
                v: (colours[v], _kept(shown({o: "" if o == v else f"c{colour:03}" for o, colour in colours.items()})))
                for v in variables
            }
            refined = _rank(looks)
            if len(set(refined.values())) == len(set(colours.values())):
                return colours
            colours = refined

    def least(colours: dict[str, int]) -> str:
        colours = refine(colours)
        tied = min((colour for colour, n in Counter(colours.values()).items() if n > 1), default=None)
        if tied is None:
            return shown(name(sorted(variables, key=colours.__getitem__)))
        chosen = (v for v in variables if colours[v] == tied)
        return min(least({v: 2 * c + (c == tied and v != first) for v, c in colours.items()}) for first in chosen)

    try:
        return least(dict.fromkeys(variables, 0))
    except _TooManyError:
        return None
