"""English sentences to first-order formulas, judged by proof: FOLIO, MALLS, LogicNLI.

Entailment between sentences is another domain, `logic.py`. A generated sentence and its formula come from one
structure; the context lists the names that a formula may use. FOLIO is read premise by premise. LogicNLI's formulas are
read from rows with the fields of MALLS.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from symbol_llm.ground.records import Problem
from symbol_llm.notation.logic import Formula, printed
from symbol_llm.tasks import Published, Row, Task, read_rows

FAMILY = "fol"
INSTRUCTION = "Write the sentence as one first-order formula with forall, exists, ~ (not), & (and), | (or), ^ (either or), -> and <->."


# --- public sets ---------------------------------------------------------------------------------------------------


class PairRow(Row):
    """A row of MALLS: a sentence and its formula."""

    id: str
    NL: str
    FOL: str

    def pairs(self) -> list[tuple[str, str]]:
        """Return the one pair."""
        return [(self.NL.strip(), self.FOL.strip())]


class FolioRow(Row):
    """A row of FOLIO: premises, each with its formula."""

    id: str
    premises: list[str]
    premises_fol: list[str] = Field(alias="premises-FOL")

    def pairs(self) -> list[tuple[str, str]]:
        """Return the pairs of sentence and formula; none unless the source has a formula for each sentence."""
        if len(self.premises) != len(self.premises_fol):
            return []
        return [(s.strip(), f.strip()) for s, f in zip(self.premises, self.premises_fol, strict=True)]


def _read(name: str, kind: type[PairRow] | type[FolioRow], licence: str, folder: Path) -> Iterator[Problem]:
    for split, row in read_rows(folder, kind):
        for i, (sentence, formula) in enumerate(row.pairs()):
            yield Problem.of(
                task=name,
                family=FAMILY,
                split=split,
                instruction=INSTRUCTION,
                question=sentence,
                program=formula,
                source=f"{name} {row.id}#{i}",
                licence=licence,
            )


# --- generated sentences -------------------------------------------------------------------------------------------

NAMES = (
    "ann bob carl dora emil fay gus hana ivan june kurt lena max nina otto petra ruth sven tina walt alma boris celia "
    "dario edda felix greta henri ines jonas katya liam mara nils olga pablo quentin rosa saul thea ulla victor wanda yuri zoe"
).split()
KINDS = (
    "baker singer pilot farmer doctor sailor painter dancer teacher lawyer student poet driver gardener judge "
    "miner nurse plumber tailor weaver chemist dentist editor fisher guard hunter author barber cook runner swimmer tourist "
    "neighbour tenant witness winner clerk broker surgeon butcher"
).split()
TRAITS = (
    "kind tall young quiet rich brave happy busy wise strong calm clever cruel eager famous gentle honest humble lazy loyal "
    "lucky modest nervous patient polite proud quick rude serious shy silent sleepy strict stubborn tidy tired warm weak witty "
    "careful cheerful curious generous"
).split()
DEEDS = {
    "sing": "sings", "travel": "travels", "sleep": "sleeps", "vote": "votes", "smoke": "smokes", "dance": "dances",
    "swim": "swims", "lie": "lies", "work": "works", "laugh": "laughs", "cook": "cooks", "read": "reads",
    "paint": "paints", "run": "runs", "pray": "prays", "gamble": "gambles", "snore": "snores", "complain": "complains",
    "exercise": "exercises", "meditate": "meditates",
}  # fmt: skip
TIES = {
    "admire": "admires", "know": "knows", "help": "helps", "trust": "trusts", "fear": "fears", "visit": "visits",
    "follow": "follows", "praise": "praises", "blame": "blames", "envy": "envies", "teach": "teaches", "avoid": "avoids",
    "respect": "respects", "call": "calls", "pay": "pays", "love": "loves", "miss": "misses", "warn": "warns",
}  # fmt: skip


class Property(NamedTuple):
    """A property of a person: its formula for a term, and its wordings in English, affirmed and negated."""

    formula: Callable[[list[str]], Formula]
    positive: str
    negative: str
    noun: str | None = None
    """The kind it names, if that can replace "person"."""

    def phrase(self, holds: bool = True) -> str:
        """Return the words after a name or "who": `is kind`, `does not sing`."""
        return self.positive if holds else self.negative

    def of(self, term: list[str], holds: bool = True) -> Formula:
        """Return the formula that the property holds of `term`, or that it does not."""
        formula = self.formula(term)
        return formula if holds else ["not", formula]


X, Y = ["variable", "x"], ["variable", "y"]
Sentence = tuple[str, Formula]


def _kind(rng: random.Random) -> Property:
    word = rng.choice(KINDS)
    a = "an" if word[0] in "aeiou" else "a"
    return Property(lambda t: ["atom", word.capitalize(), t], f"is {a} {word}", f"is not {a} {word}", word)


def _property(rng: random.Random) -> Property:
    how = rng.randrange(4)
    if how == 0:
        return _kind(rng)
    if how == 1:
        word = rng.choice(TRAITS)
        return Property(lambda t: ["atom", word.capitalize(), t], f"is {word}", f"is not {word}")
    if how == 2:
        verb = rng.choice(list(DEEDS))
        return Property(lambda t: ["atom", DEEDS[verb].capitalize(), t], DEEDS[verb], f"does not {verb}")
    verb, name = rng.choice(list(TIES)), rng.choice(NAMES)
    who = name.capitalize()
    return Property(
        lambda t: ["atom", TIES[verb].capitalize(), t, ["constant", name]],
        f"{TIES[verb]} {who}",
        f"does not {verb} {who}",
    )


def _properties(rng: random.Random, n: int) -> list[Property]:
    """Return `n` properties with different meanings, none of them a kind."""
    found: dict[str, Property] = {}
    while len(found) < n:
        one = _property(rng)
        if one.noun is None:
            found.setdefault(one.positive, one)
    return list(found.values())


def _person(rng: random.Random) -> tuple[str, list[str]]:
    name = rng.choice(NAMES)
    return name.capitalize(), ["constant", name]


def _fact(rng: random.Random, level: int) -> Sentence:
    """About one person: one property; two or three joined."""
    who, term = _person(rng)
    one, *more = [_kind(rng), *_properties(rng, level)][2 - min(level, 2) :][:level]
    signs = [rng.random() < 0.7 for _ in (one, *more)]
    if level == 1:
        return f"{who} {one.phrase(signs[0])}.", one.of(term, signs[0])
    operators = (
        ("and", "or", "xor") if level == 2 else ("and", "or")
    )  # ^ between three says something else than English
    operator = rng.choice(operators)
    joint = " and " if operator == "and" else " or "
    text, formula = one.phrase(signs[0]), one.of(term, signs[0])
    for part, sign in zip(more, signs[1:], strict=True):
        text, formula = f"{text}{joint}{part.phrase(sign)}", [operator, formula, part.of(term, sign)]
    return f"{who} either {text}, but not both." if operator == "xor" else f"{who} {text}.", formula


def _general(rng: random.Random, level: int) -> Sentence:
    """About everyone of a kind: at level 1 one condition, then conditions and consequences."""
    kind = _kind(rng)
    props = _properties(rng, level)
    end, *conditions = props
    holds = rng.random() < 0.7
    if level == 1:
        body, head = kind.of(X), end.of(X, holds)
        text = rng.choice((f"Every {kind.noun} {end.phrase(holds)}.", f"Whoever {kind.phrase()} {end.phrase(holds)}."))
        return text, ["all", "x", ["implies", body, head]]
    signs = [rng.random() < 0.75 for _ in conditions]
    body = kind.of(X)
    for condition, sign in zip(conditions, signs, strict=True):
        body = ["and", body, condition.of(X, sign)]
    relative = " and ".join(condition.phrase(sign) for condition, sign in zip(conditions, signs, strict=True))
    return f"Every {kind.noun} who {relative} {end.phrase(holds)}.", ["all", "x", ["implies", body, end.of(X, holds)]]


def _some(rng: random.Random, level: int) -> Sentence:
    """About existence: some, or none, of a kind have properties."""
    kind, props = _kind(rng), _properties(rng, level)
    body = kind.of(X)
    for part in props:
        body = ["and", body, part.of(X)]
    phrase = " and ".join(part.phrase() for part in props)
    if rng.random() < 0.5:
        return f"Some {kind.noun} {phrase}.", ["exists", "x", body]
    return f"No {kind.noun} {phrase}.", ["not", ["exists", "x", body]]


def _conditional(rng: random.Random, level: int) -> Sentence:
    """From people to people: if ..., then ...; exactly if."""
    (one, first), (two, second) = _person(rng), _person(rng)
    props = _properties(rng, level + 1)
    signs = [rng.random() < 0.7 for _ in props]
    end, *conditions = zip(props, signs, strict=True)
    body = conditions[0][0].of(first, conditions[0][1])
    for part, sign in conditions[1:]:
        body = ["and", body, part.of(first, sign)]
    told = " and ".join(part.phrase(sign) for part, sign in conditions)
    head = end[0].of(second, end[1])
    if rng.random() < 0.3:
        return f"{two} {end[0].phrase(end[1])} if and only if {one} {told}.", ["iff", head, body]
    return f"If {one} {told}, then {two} {end[0].phrase(end[1])}.", ["implies", body, head]


def _anyone(rng: random.Random, level: int) -> Sentence:
    """About people of any kind, as LogicNLI words its rules."""
    props = _properties(rng, level + 1)
    signs = [rng.random() < 0.7 for _ in props]
    end, *conditions = zip(props, signs, strict=True)
    either = len(conditions) > 1 and rng.random() < 0.5
    body = conditions[0][0].of(X, conditions[0][1])
    for part, sign in conditions[1:]:
        body = ["or" if either else "and", body, part.of(X, sign)]
    told = (" or " if either else " and ").join(part.phrase(sign) for part, sign in conditions)
    head = end[0].of(X, end[1])
    if rng.random() < 0.25:
        return f"Someone {told} if and only if they are one who {end[0].phrase(end[1])}.", [
            "all",
            "x",
            ["iff", body, head],
        ]
    return f"If someone {told}, then that person {end[0].phrase(end[1])}.", ["all", "x", ["implies", body, head]]


def _tie(rng: random.Random, level: int) -> Sentence:
    """Between two kinds, the second quantified within the first."""
    kind, other = _kind(rng), _kind(rng)
    verb = rng.choice(list(TIES))
    name = TIES[verb].capitalize()
    condition = _properties(rng, level - 1)
    inner, relative = other.of(Y), ""
    for part in condition:
        inner = ["and", inner, part.of(Y)]
    if condition:
        relative = " who " + " and ".join(part.phrase() for part in condition)
    link: Formula = ["atom", name, X, Y]
    some: Formula = ["exists", "y", ["and", inner, link]]
    every: Formula = ["all", "y", ["implies", inner, link]]
    texts = (
        (f"Every {kind.noun} {TIES[verb]} some {other.noun}{relative}.", ["all", "x", ["implies", kind.of(X), some]]),
        (f"Some {kind.noun} {TIES[verb]} every {other.noun}{relative}.", ["exists", "x", ["and", kind.of(X), every]]),
        (
            f"No {kind.noun} {TIES[verb]} any {other.noun}{relative}.",
            ["not", ["exists", "x", ["and", kind.of(X), some]]],
        ),
        (f"Every {kind.noun} {TIES[verb]} every {other.noun}{relative}.", ["all", "x", ["implies", kind.of(X), every]]),
    )
    return rng.choice(texts)


def _unless(rng: random.Random, level: int) -> Sentence:
    """With an exception, whose negation the formula conjoins."""
    kind = _kind(rng)
    end, exception, *more = _properties(rng, level + 1)
    body = kind.of(X)
    for part in more:
        body = ["and", body, part.of(X)]
    relative = " who " + " and ".join(part.phrase() for part in more) if more else ""
    text = f"Every {kind.noun}{relative} {end.phrase()}, unless that {kind.noun} {exception.phrase()}."
    return text, ["all", "x", ["implies", ["and", body, ["not", exception.of(X)]], end.of(X)]]


SHAPES: dict[str, tuple[Callable[[random.Random, int], Sentence], ...]] = {
    "folio": (_fact, _general, _some, _conditional, _tie),
    "malls": (_general, _tie, _unless, _some),
    "logicnli": (_fact, _conditional, _anyone, _anyone),
}


def _generate(task: str, rng: random.Random, level: int) -> Problem:
    """Return a sentence of one of the task's shapes with its formula; the context lists the names."""
    text, formula = rng.choice(SHAPES[task])(rng, level)
    predicates, constants = _names(formula)
    listed = [*(f"{name}/{n}" for name, n in sorted(predicates.items())), *sorted(constants)]
    symbols = [*sorted(predicates), *sorted(constants)]
    return Problem.of(
        task=task,
        family=FAMILY,
        split="train",
        instruction=INSTRUCTION,
        context=f"Names: {', '.join(listed)}",
        question=text,
        program=printed(formula),
        environment={"symbols": symbols},
        symbols=tuple(symbols),
        source="generated",
        licence="Apache-2.0",
    )


def _names(formula: Formula) -> tuple[dict[str, int], set[str]]:
    """Return the predicates with their arities, and the constants."""
    if formula[0] == "atom":
        return {formula[1]: len(formula) - 2}, {term[1] for term in formula[2:] if term[0] == "constant"}
    predicates: dict[str, int] = {}
    constants: set[str] = set()
    for part in formula[1:]:
        if isinstance(part, list) and part[0] != "variable":
            more, others = _names(part)
            predicates |= more
            constants |= others
    return predicates, constants


SHOTS = (
    ("Names: Captain/1, Swears/1", "Every captain swears.", "forall x (Captain(x) -> Swears(x))"),
    ("Names: Greets/2, Jealous/1, abel, lois", "If Lois is jealous, then Abel does not greet Lois.", "Jealous(lois) -> ~Greets(abel, lois)"),
    ("Names: Banker/1, Deaf/1, Hires/2", "Some banker hires every banker who is deaf.", "exists x (Banker(x) & forall y (Banker(y) & Deaf(y) -> Hires(x, y)))"),
    ("Names: Afraid/1, Monk/1, norma", "Norma is a monk or is not afraid.", "Monk(norma) | ~Afraid(norma)"),
)  # fmt: skip


def _task(name: str, kind: type[PairRow] | type[FolioRow], licence: str, citation: str, published: Published) -> Task:
    return Task(
        name,
        FAMILY,
        INSTRUCTION,
        SHOTS,
        licence,
        citation,
        folder=f"logic/{name}",
        read=partial(_read, name, kind, licence),
        generate=partial(_generate, name),
        published=published,
    )


TASKS = (
    _task("folio", FolioRow, "CC BY-SA 4.0", "Han et al. 2022, FOLIO", Published(25, "LE", 2006, 500)),
    _task("malls", PairRow, "CC BY-NC 4.0", "Yang et al. 2023, LogicLLaMA", Published(26, "LE", 39626, 1000)),
    _task("logicnli", PairRow, "not stated", "Tian et al. 2021, LogicNLI", Published(27, "LE", 11559, 2373)),
)
