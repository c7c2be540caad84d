"""Names that are made of English words, and which of them surely mean the same. It knows inflection, no meanings.

    same_constant("José_Luis", "jose luis")     # case, accents, what parts the words
    same_predicate("IsPenguin", "Penguins", 1)  # besides: forms of "be", articles, inflection, some ways of spelling

Two names are the same only if they have the same words, so that neither an opposite (Happy, Unhappy; Hot, Cold; Careful,
Careless) nor another thing (anna, hanna; year2018, year2019) can be taken for the name: nothing here measures how alike
two names are. What might turn a meaning round is kept too: the last word of `LovedBy`, `SoldTo`, `FoundIn`; the first of
`HasChild`, `CanSwim`; and the ending -ed, which is a past only where a name of two terms or more has neither a form of
"be" nor a preposition after it (`Visited` is `Visits`; `IsLoved` and `Employed` of one term are not `Loves` and `Employs`).
"""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"\d+|[^\W\d_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BETWEEN_WORDS = re.compile(r"(?<!\d)[\W_]+|[\W_]+(?!\d)")
"""Signs that part words; those between two digits are part of a number."""
_BE = ("is", "are", "be")
_ARTICLES = ("a", "an", "the")
_PREPOSITIONS = frozenset(
    "about after against as at before between by for from in into of on over than to under with".split()
)
FUNCTION_WORDS = _PREPOSITIONS | {*_BE, *_ARTICLES}
_NO_PLURALS = frozenset("customs goods means news".split())
MIN_MISSPELT = 7
"""Letters from which a slip of the pen hardly makes another word: `martial` and `marital` is the only pair met with."""


def words(name: str) -> list[str]:
    """Return the words of a name in lower case, without accents: parted by signs, capitals and digits."""
    return [word.lower() for part in _WORD.findall(_plain(name)) for word in _HUMP.split(part)]


def content(name: str) -> list[str]:
    """Return the words of a name without articles, prepositions and forms of "be", unless there are no others."""
    said = words(name)
    return [word for word in said if word not in FUNCTION_WORDS] or said


def forms(word: str) -> set[str]:
    """Return a word in lower case and what it may be a form of: {"flies", "fly"}, though also "flie"."""
    return {word} | _bases(word, ed=True)


def same_constant(one: str, other: str) -> bool:
    """Say whether two names differ at most in case, in accents, and in what parts their words."""
    return spelt(one) == spelt(other)


def spelt(name: str) -> str:
    """Return a name without case, accents and signs, but for signs between digits."""
    return _BETWEEN_WORDS.sub("", _plain(name)).casefold() or name


def same_predicate(one: str, other: str, n_terms: int) -> bool:
    """Say whether two predicates of `n_terms` terms have the same words but for what the module's text names."""
    if same_constant(one, other):
        return True
    (left, left_is_past), (right, right_is_past) = _said(one, n_terms), _said(other, n_terms)
    if len(left) != len(right):
        return False
    pairs = zip(left, right, strict=True)
    if all(same_word(a, b, ed=(left_is_past, right_is_past)) for a, b in pairs):
        return True
    return n_terms == 1 and len(left) == 2 and sorted(left) == sorted(right)  # SmartStudent, StudentSmart


def same_word(one: str, other: str, ed: tuple[bool, bool] = (False, False)) -> bool:
    """Say whether two words in lower case are forms of one word, or ways to spell it; `ed`: whose -ed may be taken off."""
    one, other = _american(one), _american(other)
    if one == other:
        return True
    bases, others = _bases(one, ed=ed[0]), _bases(other, ed=ed[1])
    return one in others or other in bases or bool(bases & others) or _is_misspelt(one, other)


def _said(name: str, n_terms: int) -> tuple[list[str], bool]:
    """Return what a name says without articles, a form of "be" before it and an "of" after it; whether -ed is a past."""
    said = words(name)
    n_before = 0
    while n_before < len(said) - 1 and said[n_before] in (*_BE, *_ARTICLES):
        n_before += 1
    is_past = n_terms > 1 and not set(said[:n_before]) & set(_BE) and said[-1:] != [] and said[-1] not in _PREPOSITIONS
    said = said[n_before:]
    is_noun_of = n_terms == 2 and len(said) > 1 and said[-1] == "of" and not said[-2].endswith(("ed", "made"))
    return said[: len(said) - is_noun_of], is_past


def _plain(name: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFKD", name) if not unicodedata.combining(sign))


# --- inflection -------------------------------------------------------------------------------------------------------

_SHORT = re.compile(r"[^aeiou]*[aeiou][^aeiouwxy]")
"""One syllable whose last letter is doubled before -ing and -ed."""
_DOUBLED = re.compile(r"([bdfgklmnprtvz])\1")


def _bases(word: str, *, ed: bool) -> set[str]:
    """Return the words that `word` may be the plural, third person, -ing or -ed form of."""
    found: set[str] = set()
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) and word not in _NO_PLURALS:
        found.add(word[:-1])
        if word.endswith(("ches", "shes", "sses", "xes", "zzes", "oes")):
            found.add(word[:-2])
        if word.endswith("ies"):
            found.add(f"{word[:-3]}y")
        if word.endswith("ves"):
            found |= {f"{word[:-3]}f", f"{word[:-3]}fe"}
    if word.endswith("ing") and not word.endswith("eering"):  # an engineer is no engineering
        found |= _without_ending(word[:-3])
    if ed and word.endswith("ied"):
        found.add(f"{word[:-3]}y")
    elif ed and word.endswith("ed"):
        found |= _without_ending(word[:-2])
    return found


def _without_ending(rest: str) -> set[str]:
    """Return what -ing or -ed was put after: `visit`, `bake` after `bak`, `swim` after `swimm`."""
    if len(rest) < 2 or not re.search("[aeiouy]", rest):
        return set()
    found = {f"{rest}e"}
    if not _SHORT.fullmatch(rest):  # `hoping` is of `hope`, since `hop` has `hopping`
        found.add(rest)
    if _DOUBLED.fullmatch(rest[-2:]):
        found.add(rest[:-1])
    return found


# --- spelling ---------------------------------------------------------------------------------------------------------

_SPELLINGS = (
    (re.compile(r"(?<=[bdilmnpv])our(?=(?:s|ed|er|ing|ful|less|ite|able|hood|al|ly|y)?$)"), "or"),
    (re.compile(r"(?<=...)is(?=e[sd]?$|ing$|ation)"), "iz"),
    (re.compile(r"tre(?=s?$)"), "ter"),
    (re.compile(r"(?<=[aeiou].[aeiou])ll(?=e[dr]|ing|or)"), "l"),
)
"""British and American: colour, organise, centre, travelled."""
_DOUBLING = re.compile(r"(?:ed|ing|ers?)$")
"""Endings before which a doubled letter tells words apart: striped, stripped."""


def _is_misspelt(one: str, other: str) -> bool:
    """Say whether one word has a letter doubled, or two neighbours exchanged, that the other has not."""
    if not (one + other).isalpha() or one[0] != other[0] or one[-1] != other[-1]:
        return False
    if min(len(one), len(other)) < MIN_MISSPELT or abs(len(one) - len(other)) > 1:
        return False
    if len(one) == len(other):
        return _is_exchanged(one, other)
    return _single(one) == _single(other) and not _DOUBLING.search(one)


def _american(word: str) -> str:
    for british, american in _SPELLINGS if len(word) > 4 else ():
        word = british.sub(american, word)
    return word


def _single(word: str) -> str:
    return re.sub(r"([a-z])\1", r"\1", word)


def _is_exchanged(one: str, other: str) -> bool:
    """Say whether `other` is `one` with two neighbours exchanged."""
    at = [n for n in range(len(one)) if one[n] != other[n]]
    return len(at) == 2 and at[1] == at[0] + 1 and one[at[0]] == other[at[1]] and one[at[1]] == other[at[0]]
