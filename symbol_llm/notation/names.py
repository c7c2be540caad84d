"""Names made of English words, and which of them surely mean the same. It knows inflection but no meanings.

    same_constant("José_Luis", "jose luis")     # case, accents, separators of words
    same_predicate("IsPenguin", "Penguins", 1)  # also forms of "be", articles, inflection, some variants of spelling

Two names are the same only if they have the same words, so neither an opposite (Happy, Unhappy; Hot, Cold; Careful,
Careless) nor a different thing (anna, hanna; year2018, year2019) can be mistaken for the name: no similarity is
measured. Parts that might reverse a meaning are kept too: the last word of `LovedBy`, `SoldTo`, `FoundIn`; the first of
`HasChild`, `CanSwim`; and the ending -ed, which is a past tense only if a name of two or more terms has neither a form
of "be" nor a preposition after it (`Visited` is `Visits`; with one term, `IsLoved` and `Employed` are not `Loves` and
`Employs`).
"""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"\d+|[^\W\d_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BETWEEN_WORDS = re.compile(r"(?<!\d)[\W_]+|[\W_]+(?!\d)")
"""Signs that separate words; between two digits they are part of a number."""
_BE = ("is", "are", "be")
_ARTICLES = ("a", "an", "the")
_PREPOSITIONS = frozenset(
    "about after against as at before between by for from in into of on over than to under with".split()
)
FUNCTION_WORDS = _PREPOSITIONS | {*_BE, *_ARTICLES}
_NO_PLURALS = frozenset("customs goods means news".split())
MIN_MISSPELT = 7
"""Letters from which a doubled letter that is missing hardly makes another word."""
_WORDS_THAT_DIFFER_SO = ("desert", "canvas")
"""Longer words that make another with a letter doubled: `deserts` and `desserts`."""


def words(name: str) -> list[str]:
    """Return the words of a name in lower case, without accents, split at signs, capitals and digits."""
    return [word.lower() for part in _WORD.findall(_plain(name)) for word in _HUMP.split(part)]


def content(name: str) -> list[str]:
    """Return the words of a name without articles, prepositions and forms of "be", unless there are no others."""
    said = words(name)
    return [word for word in said if word not in FUNCTION_WORDS] or said


def forms(word: str) -> set[str]:
    """Return a word in lower case and the words it may be a form of: {"flies", "fly"}, though also "flie"."""
    return {word} | _bases(word, ed=True)


def same_constant(one: str, other: str) -> bool:
    """Return whether two names differ at most in case, accents, and the separators of their words."""
    return spelt(one) == spelt(other)


def spelt(name: str) -> str:
    """Return a name without case, accents and signs, except for signs between digits."""
    return _BETWEEN_WORDS.sub("", _plain(name)).casefold() or name


def same_predicate(one: str, other: str, n_terms: int) -> bool:
    """Return whether two predicates of `n_terms` terms have the same words, up to the variants described above."""
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
    """Return whether two words in lower case are forms or spellings of one word; `ed`: which may drop -ed."""
    one, other = _american(one), _american(other)
    if one == other:
        return True
    bases, others = _bases(one, ed=ed[0]), _bases(other, ed=ed[1])
    return one in others or other in bases or bool(bases & others) or _is_misspelt(one, other)


def _said(name: str, n_terms: int) -> tuple[list[str], bool]:
    """Return a name's words without articles, leading "be" and trailing "of", and whether -ed is a past tense."""
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
"""One-syllable words whose last letter is doubled before -ing and -ed."""
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
    if word.endswith("ing") and not word.endswith("eering"):  # `engineering` is not a form of `engineer`
        found |= _without_ending(word[:-3])
    if ed and word.endswith("ied"):
        found.add(f"{word[:-3]}y")
    elif ed and word.endswith("ed"):
        found |= _without_ending(word[:-2])
    return found


def _without_ending(rest: str) -> set[str]:
    """Return the words that give `rest` before -ing or -ed: `visit`, `bake` for `bak`, `swim` for `swimm`."""
    if len(rest) < 2 or not re.search("[aeiouy]", rest):
        return set()
    found = {f"{rest}e"}
    if not _SHORT.fullmatch(rest):  # `hoping` comes from `hope`, since `hop` gives `hopping`
        found.add(rest)
    if _DOUBLED.fullmatch(rest[-2:]):
        found.add(rest[:-1])
    return found


# --- spelling ---------------------------------------------------------------------------------------------------------

_SPELLINGS = (
    (re.compile(r"(?<=[^\W\d_][bdilmnpv])our(?=(?:s|ed|er|ing|ful|less|ite|able|hood|al|ly|y)?$)"), "or"),
    (re.compile(r"(?<=...)is(?=e[sd]?$|ing$|ation)"), "iz"),
    (re.compile(r"tre(?=s?$)"), "ter"),
    (re.compile(r"(?<=[aeiou].[aeiou])ll(?=e[dr]|ing|or)"), "l"),
)
"""British and American: colour, organise, centre, travelled."""
_DOUBLING = re.compile(r"(?:ed|ing|ers?)$")
"""Endings before which a doubled letter makes a different word: striped, stripped."""


def _is_misspelt(one: str, other: str) -> bool:
    """Return whether the words differ only in one doubled letter, or in `ie` for `ei`.

    Other letters that are exchanged make too many words of another meaning: singing, signing; complaint, compliant.
    """
    if not (one + other).isalpha() or one[0] != other[0] or one[-1] != other[-1]:
        return False
    if min(len(one), len(other)) < MIN_MISSPELT or abs(len(one) - len(other)) > 1:
        return False
    if len(one) == len(other):
        return _is_exchanged(one, other)
    plain = _single(one)
    return plain == _single(other) and not _DOUBLING.search(one) and not plain.startswith(_WORDS_THAT_DIFFER_SO)


def _american(word: str) -> str:
    for british, american in _SPELLINGS if len(word) > 4 else ():
        word = british.sub(american, word)
    return word


def _single(word: str) -> str:
    return re.sub(r"([a-z])\1", r"\1", word)


def _is_exchanged(one: str, other: str) -> bool:
    """Say whether `other` is `one` with one `ie` turned into `ei` or the reverse."""
    at = [n for n in range(len(one)) if one[n] != other[n]]
    return len(at) == 2 and at[1] == at[0] + 1 and {one[at[0] : at[1] + 1], other[at[0] : at[1] + 1]} == {"ie", "ei"}
