"""The same story with other numbers. A program that takes numbers from a text, each once, should solve it with others, too.

A number that no program takes stays if it is in words, as in "the two boys", which may be no quantity. New numbers keep what a reader would take for granted: how many digits they have, which is larger, which divides which.
So a share of a whole stays one, and a price stays a price. One and nought stay as they are.
"""

from __future__ import annotations

import io
import itertools
import random
import re
import tokenize
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from symbol_llm.families import Redrawn

WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
MAX_NUMBERS = 8
MAX_DRAWS = 200
_NUMBER = re.compile(
    r"(?<![\w.,/:])(?:(?P<digits>\d{1,3}(?:,\d{3})+|\d{1,9})(?P<decimals>\.\d{1,6})?|(?P<word>"
    + "|".join(WORDS)
    + r"))"
    r"(?![\w/:]|[.,]\d)",
    re.IGNORECASE,
)
_ANY_DIGIT = re.compile(r"\d")


class _Number(NamedTuple):
    """A number of a text: what it is, where it stands, how it is written."""

    value: Fraction
    start: int
    end: int
    n_decimals: int
    has_commas: bool
    is_word: bool


def redraw(programs: Sequence[str], question: str, rng: random.Random) -> Redrawn | None:
    """Return `question` with other numbers and each of `programs` with the same change, None for one that does not fit.

    None in all if the text has no numbers, has one twice, or writes one in a way that is not read here: 3/4, 10:30, 5th.
    """
    found = _numbers(question)
    if found is None:
        return None
    written = [_literals(p) for p in programs]
    used = {value for literals in written for value, *_ in literals or ()}
    drawn = _draw(found := [n for n in found if not n.is_word or n.value in used], rng)
    if drawn is None:
        return None
    changed = tuple(_changed(*one, drawn) for one in zip(programs, written, strict=True))
    return Redrawn(_rewritten(question, found, drawn), changed)


def _numbers(text: str) -> list[_Number] | None:
    found = []
    for match in _NUMBER.finditer(text):
        digits, decimals, word = match["digits"], match["decimals"] or "", match["word"]
        value = Fraction(WORDS.index(word.lower())) if word else Fraction(digits.replace(",", "") + decimals)
        found.append(
            _Number(value, *match.span(), max(0, len(decimals) - 1), "," in (digits or ""), is_word=bool(word))
        )
    elsewhere = "".join(text[a.end : b.start] for a, b in itertools.pairwise([_EDGE, *found, _end(text)]))
    if not 0 < len(found) <= MAX_NUMBERS or len({n.value for n in found}) < len(found) or _ANY_DIGIT.search(elsewhere):
        return None
    return found


_EDGE = _Number(Fraction(0), 0, 0, 0, has_commas=False, is_word=False)


def _end(text: str) -> _Number:
    return _EDGE._replace(start=len(text), end=len(text))


def _draw(found: Sequence[_Number], rng: random.Random) -> dict[Fraction, Fraction] | None:
    """Return another number for each, by number; None if there is none or no draw keeps how they stand to each other."""
    relations = _relations([n.value for n in found])
    for _ in range(MAX_DRAWS if found else 0):
        values = [_another(n, rng) for n in found]
        if _relations(values) == relations and values != [n.value for n in found]:
            return dict(zip((n.value for n in found), values, strict=True))
    return None


def _another(number: _Number, rng: random.Random) -> Fraction:
    """Return a number with as many digits before and behind the point."""
    if number.value in (0, 1):
        return number.value
    if number.is_word:
        return Fraction(rng.randint(2, 9) if number.value < 10 else rng.randint(10, len(WORDS) - 1))  # noqa: PLR2004
    scale = 10**number.n_decimals
    whole = int(number.value)
    low = 10 ** (len(str(whole)) - 1) if whole else 0
    high = 10 ** len(str(whole)) - 1 if whole else 0
    first, last = max(low * scale, 2 if not number.n_decimals else 1), high * scale + scale - 1
    return Fraction(rng.randint(first, max(first, last)), scale)


def _relations(values: Sequence[Fraction]) -> list[tuple[bool, bool, bool]]:
    """Return, of each pair, whether they are equal, which is the larger, and whether whole ones are multiples."""
    return [(a == b, a < b, _divides(min(a, b), max(a, b))) for a, b in itertools.combinations(values, 2)]


def _divides(a: Fraction, b: Fraction) -> bool:
    return a.denominator == b.denominator == 1 and a != 0 and int(b) % int(a) == 0


def _rewritten(text: str, found: Sequence[_Number], drawn: Mapping[Fraction, Fraction]) -> str:
    parts, at = [], 0
    for number in found:
        parts += [text[at : number.start], _written(number, drawn[number.value], text)]
        at = number.end
    return "".join([*parts, text[at:]])


def _written(number: _Number, value: Fraction, text: str) -> str:
    if number.is_word:
        word = WORDS[int(value)]
        return word.capitalize() if text[number.start].isupper() else word
    whole, part = divmod(value * 10**number.n_decimals, 10**number.n_decimals)
    shown = f"{int(whole):,}" if number.has_commas else str(int(whole))
    return f"{shown}.{int(part):0{number.n_decimals}d}" if number.n_decimals else shown


class _Literal(NamedTuple):
    """A number of a program, and where it stands."""

    value: Fraction
    line: int
    start: int
    end: int


def _literals(program: str) -> list[_Literal] | None:
    """Return the numbers in `program`; None if it is no Python."""
    try:
        tokens = [t for t in tokenize.generate_tokens(io.StringIO(program).readline) if t.type == tokenize.NUMBER]
        return [_Literal(Fraction(t.string.replace("_", "")), t.start[0], t.start[1], t.end[1]) for t in tokens]
    except (tokenize.TokenError, SyntaxError, ValueError):
        return None


def _changed(program: str, literals: list[_Literal] | None, drawn: Mapping[Fraction, Fraction]) -> str | None:
    """Return `program` with the numbers that it takes from the text replaced; None if there are none, or one is there twice."""
    ours = [one for one in literals or () if one.value in drawn]
    if not ours or len({one.value for one in ours}) < len(ours):
        return None
    lines = program.splitlines(keepends=True)
    for value, line, start, end in reversed(ours):
        new = drawn[value]
        text = str(new.numerator) if new.denominator == 1 else str(float(new))
        lines[line - 1] = lines[line - 1][:start] + text + lines[line - 1][end:]
    return "".join(lines)
