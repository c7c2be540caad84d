"""Contamination: which training texts copy a test text. Compares words and numbers; reads, drops and writes nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from symbol_llm.ground.records import GeneralItem, Problem

NGRAM = 8
MIN_WORDS = 12
"""Texts with fewer words than this are copies only if they are equal."""
Words = tuple[str, ...]


_WORD = re.compile(r"\d+(?:[.,]\d+)*|\w+|[^\w\s.,;:!?'\"]")


class Text(NamedTuple):
    """The compared parts of a row: a question may occur with many contexts, and a context with many questions."""

    name: str
    context: Words
    question: Words


def words(text: str) -> Words:
    """Return the words, numbers and operators of `text` in lower case; other punctuation does not count."""
    return tuple(_WORD.findall(text.lower())) if text else ()


def text_of(row: Problem | GeneralItem) -> Text:
    """Return the text of a row, with a name by which people can find the row."""
    if isinstance(row, GeneralItem):
        return Text(f"{row.source} ({row.id})", (), words(row.prompt))
    return Text(f"{row.source} {row.task} ({row.id})", words(row.context), words(row.question))


class Copies:
    """Test texts, and which of them a training text copies.

    In a copy, both question and context are alike. Two texts are alike if their words are equal or, from twelve words
    on, if their numbers are equal and they share at least the given fraction of word 8-grams. So texts that differ in a
    number are different problems even if they come from one template, and so are two questions about one schema.
    """

    def __init__(self, tests: Iterable[Text]) -> None:
        """Index the texts of all test rows."""
        self._places: dict[Words, list[Text]] = defaultdict(list)
        self._masked: set[tuple[Words, Words]] = set()
        for test in tests:
            self._masked.add((_masked(test.context), _masked(test.question)))
            for key in {test.question, *_grams(test.question)}:
                self._places[key].append(test)

    def of(self, text: Text, overlap: float) -> str | None:
        """Return the name of a test text that `text` copies, or None."""
        keys = {text.question, *_grams(text.question)}
        tests = {test for key in keys for test in self._places.get(key, ())}
        return min((test.name for test in tests if _alike(text, test, overlap)), default=None)

    def but_for_numbers(self, text: Text) -> bool:
        """Return whether a test text has the same words once numbers are masked. Such rows are counted, not dropped."""
        return (_masked(text.context), _masked(text.question)) in self._masked


def _alike(text: Text, test: Text, overlap: float) -> bool:
    return _share(text.question, test.question) >= overlap and _share(text.context, test.context) >= overlap


def _share(tokens: Words, others: Words) -> float:
    if tokens == others:
        return 1.0
    grams = _grams(tokens)
    if not grams or _numbers(tokens) != _numbers(others):
        return 0.0
    return len(grams & _grams(others)) / len(grams)


def _masked(tokens: Words) -> Words:
    return tuple("0" if token[0].isdigit() else token for token in tokens)


def _numbers(tokens: Words) -> Words:
    return tuple(sorted(token for token in tokens if token[0].isdigit()))


def _grams(tokens: Words) -> set[Words]:
    if len(tokens) < MIN_WORDS:
        return set()
    return {tokens[i : i + NGRAM] for i in range(len(tokens) - NGRAM + 1)}
