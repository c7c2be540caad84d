"""Logic forms of geometry, as in Geometry3K: read as trees, written, and put into English. Nothing is solved here."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import yaml

_DATA = yaml.safe_load(
    resources.files("symbol_llm.tasks.visual").joinpath("geometry_forms.yaml").read_text(encoding="utf-8")
)

Form = tuple[Any, ...] | str
"""A predicate with its arguments, or algebra and names as written."""


def parsed(text: str) -> Form:
    """Return a form as a tree; anything but a predicate with brackets is kept as text."""
    head = re.match(r"\s*([A-Z][A-Za-z]+)\(", text)
    if not head or not text.rstrip().endswith(")"):
        return text.strip()
    parts, depth, start = [], 0, head.end()
    for n, sign in enumerate(text.rstrip()):
        depth += (sign in "({") - (sign in ")}")
        if (sign == "," and depth == 1) or (sign == ")" and depth == 0):
            if depth == 0 and n < len(text.rstrip()) - 1:
                return text.strip()  # more follows: a sum, a product
            parts.append(parsed(text[start:n]))
            start = n + 1
    return (head[1], *parts)


def written(form: Form) -> str:
    """Return a form in the notation."""
    return form if isinstance(form, str) else f"{form[0]}({', '.join(map(written, form[1:]))})"


STATES: Mapping[str, Sequence[str]] = _DATA["states"]
ADJECTIVES = "Isosceles Equilateral Regular Right Shaded Minor Major Red Blue Green".split()
MEASURES: Mapping[str, Sequence[str]] = _DATA["measures"]
TERMS: Mapping[str, str] = _DATA["terms"]


def verbalised(rng: random.Random, forms: Sequence[Form], opening: str = "") -> str:
    """Return the forms in English: the givens in order, one or two per sentence, then the question."""
    given = [_statement(rng, form) for form in forms if form[0] != "Find"]
    asked = [_statement(rng, form) for form in forms if form[0] == "Find"]
    sentences: list[str] = []
    while given:
        n = min(len(given), rng.choice((1, 1, 2)))
        sentences.append(" and ".join(given[:n]))
        given = given[n:]
    if sentences:
        sentences[0] = opening + sentences[0]
    ends = [text if text.endswith("?") else f"{text}." for text in asked]
    return " ".join([*(f"{text[:1].upper()}{text[1:]}." for text in sentences), *ends])


def _statement(rng: random.Random, form: Form) -> str:  # noqa: PLR0911 - one return a kind of form
    if isinstance(form, str):
        return form
    name, *parts = form
    said = [_term(part) for part in parts]
    if (
        name == "Equals"
        and parts[0][0] in ("LengthOf", "MeasureOf")
        and parts[0][1][0] in MEASURES
        and isinstance(parts[1], str)
    ):
        return rng.choice((*MEASURES[parts[0][1][0]], "{2} is {1}")).format(_term(parts[0][1]), said[1], said[0])
    if name in STATES:
        return rng.choice(STATES[name]).format(*said)
    if name == "IntersectAt":
        return f"{_listed(said[:-1])} intersect at {said[-1]}"
    if name.startswith("Is") and name.endswith("Of"):
        return f"{said[0]} is {_article(_words(name[2:-2]))} of {_listed(said[1:])}"
    if name in ADJECTIVES:
        return f"{said[0]} is {name.lower()}"
    if name == "Circle":
        return f"there is a {_term(form)}"
    if name == "UseTheorem":
        return f"the theorem to use is {said[0]}"
    return f"{_letters(parts)} is {_article(_words(name))}" if _letters(parts) else f"there is {_article(_words(name))}"


def _term(form: Form) -> str:  # noqa: PLR0911 - as above
    if isinstance(form, str):
        return form
    name, *parts = form
    if name == "Line":
        return _letters(parts) if len(parts) > 1 else f"line {_letters(parts)}" if _letters(parts) else "the line"
    if name == "Point":
        return _term(parts[0])
    if name in ADJECTIVES:
        return f"the {name.lower()} {_term(parts[0]).removeprefix('the ')}"
    said = [_term(part) for part in parts]
    if name in TERMS and ("{0}" not in TERMS[name] or len(said) == 2):
        return TERMS[name].format(*(said if "{0}" in TERMS[name] else [_listed(said)]))
    if name.endswith("Of"):
        return f"the {_words(name[:-2])} of {_listed(said)}"
    return f"{_words(name)} {_letters(parts)}".strip() if _letters(parts) else f"the {_words(name)}"


def _letters(parts: Sequence[Form]) -> str:
    """Return the names joined; a placeholder has none."""
    said = [_term(part).removeprefix("$") for part in parts]
    return "".join(said) if all(len(name) == 1 for name in said) else " ".join(said).strip()


def _words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _listed(said: Sequence[str]) -> str:
    return f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else "".join(said)
