"""Small theories in English to premises, one per line, then `query: formula`; and ordering puzzles to constraints.

The answer is True, False or Unknown by entailment in an open world. Three public sets are read. `generate` writes
a fact and rules about one person; it decides them itself by enumerating all worlds, which is exact because the rules
have no existential quantifiers.

Since a label is easily guessed, the environment requires as many premises as the text has sentences (`n_premises`) and,
in generated problems, the names that the text lists (`symbols`).
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Row, Task, read_rows

Label = Literal["True", "False", "Unknown"]
LABELS: tuple[Label, ...] = ("True", "False", "Unknown")

INSTRUCTION = "Write the text as first-order logic, one formula a line. End with: query: ..."
FAMILY = "rules"
QUESTION = "Is this true? {}"


# --- public sets ---------------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """The parts of a problem that a row has."""

    sentences: list[str]
    joint: str
    statement: str
    label: Label
    program: str | None


class OptionsRow(Row):
    """A row of ProofWriter or ProntoQA in Logic-LM's format: the answer is the letter of an option."""

    id: str
    context: str
    question: str
    options: list[str]
    answer: Literal["A", "B", "C"]

    def parts(self) -> Parts:
        """Return the parts; every sentence of the context is a fact or a rule."""
        sentences = [sentence for sentence in re.split(r"(?<=\.)\s+", self.context) if sentence]
        return Parts(sentences, " ", self.question.rpartition("? ")[2], LABELS["ABC".index(self.answer)], None)


class FolioRow(Row):
    """A row of FOLIO; the formula of the conclusion is missing in its train file."""

    id: str
    premises: list[str]
    premises_fol: list[str] = Field(alias="premises-FOL")
    conclusion: str
    conclusion_fol: str | None = Field(default=None, alias="conclusion-FOL")
    label: Literal["True", "False", "Uncertain", "Unknown"]

    def parts(self) -> Parts:
        """Return the parts, with a program if the source has all formulas."""
        label: Label = "Unknown" if self.label == "Uncertain" else self.label
        program = None
        if self.conclusion_fol is not None:
            program = "\n".join([*(f.strip() for f in self.premises_fol), f"query: {self.conclusion_fol.strip()}"])
        return Parts([p.strip() for p in self.premises], "\n", self.conclusion.strip(), label, program)


def _public(
    name: str, kind: type[OptionsRow] | type[FolioRow], licence: str, citation: str, folder: str | None = None
) -> Task:
    def read(folder: Path) -> Iterator[Problem]:
        for split, row in read_rows(folder, kind):
            sentences, joint, statement, label, program = row.parts()
            yield Problem.of(
                task=name,
                family=FAMILY,
                split=split,
                instruction=INSTRUCTION,
                context=joint.join(sentences),
                question=QUESTION.format(statement),
                answer=label,
                program=program,
                environment={"n_premises": len(set(sentences))},
                source=f"{name} {row.id}",
                licence=licence,
            )

    return Task(name, FAMILY, INSTRUCTION, SHOTS, licence, citation, folder=f"logic/{folder or name}", read=read)


class OrderRow(Row):
    """A row of BIG-bench's logical deduction in Logic-LM's format: the answer is the letter of an option."""

    id: str
    context: str
    question: str
    options: list[str]
    answer: str


def _orders(folder: Path) -> Iterator[Problem]:
    for split, row in read_rows(folder, OrderRow):
        text = row.context.rpartition("\n\n")[2]
        yield _order(
            text,
            row.options,
            row.answer,
            n_constraints=max(1, text.count(". ")),
            split=split,
            source=f"{ORDERS} {row.id}",
            licence=ORDERS_LICENCE,
        )


class RuleTakerRow(Row):
    """A theory in the form of RuleTaker's open-world release (ProofWriter): questions with True, False or Unknown."""

    id: str
    theory: str
    questions: dict[str, dict[str, Any]]


def _ruletaker(folder: Path) -> Iterator[Problem]:
    for _, row in read_rows(folder, RuleTakerRow):
        sentences = [sentence for sentence in re.split(r"(?<=\.)\s+", row.theory.strip()) if sentence]
        for i, asked in enumerate(row.questions.values()):
            label = str(asked.get("answer"))
            if label not in LABELS:
                raise InvalidInput(f"{folder}: row {row.id!r}: answer {label!r}; expected true, false or Unknown")
            yield Problem.of(
                task="ruletaker",
                family=FAMILY,
                split="test",
                instruction=INSTRUCTION,
                context=" ".join(sentences),
                question=QUESTION.format(asked.get("question", "")),
                answer=label,
                environment={"n_premises": len(set(sentences))},
                source=f"ruletaker {row.id}#{i}",
                licence=RULETAKER_LICENCE,
            )


# --- generated orders ----------------------------------------------------------------------------------------------

ORDERS = "logical_deduction"
ORDERS_LICENCE = "MIT (repository); BIG-bench Apache-2.0"
RULETAKER_LICENCE = "CC BY 4.0"
ORDER_INSTRUCTION = (
    "Write the order as a constraint problem: Domain, Variables, Constraints, one a line, then Query with the options."
)
ORDER_QUESTION = "Which is true? {}"
SCENES = (
    ("On a shelf, there are {n} books: {them}.", "a {}", ("red book", "blue book", "green book", "black book", "white book", "grey book", "brown book"), "left"),
    ("On a branch, there are {n} birds: {them}.", "a {}", ("wren", "crow", "hawk", "dove", "finch", "stork", "robin"), "left"),
    ("In a race, there were {n} runners: {them}.", "{}", ("Ada", "Ben", "Cora", "Dan", "Ella", "Finn", "Gina"), "ahead"),
    ("A fruit stand sells {n} fruits: {them}.", "{}", ("apples", "pears", "plums", "figs", "limes", "dates", "grapes"), "cheaper"),
    ("In a yard, there are {n} vehicles: {them}.", "a {}", ("bus", "tram", "truck", "van", "jeep", "sedan", "coupe"), "older"),
)  # fmt: skip
RANKS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")


def _superlatives(word: str) -> tuple[str, ...]:
    return (word, *(f"{rank}-{word}" for rank in RANKS[1:]))


class Wordings(NamedTuple):
    """Wordings of an order: for two things, for one, and for rank 1."""

    before: str
    after: str
    place: str
    first: str
    ranks: tuple[str, ...]


WORDINGS = {
    "left": Wordings("{} is left of {}", "{} is right of {}", "{} is {} from the left", "1 is the leftmost", RANKS),
    "ahead": Wordings("{} finished ahead of {}", "{} finished behind {}", "{} finished {}", "1 is the winner", RANKS),
    "cheaper": Wordings("{} cost less than {}", "{} cost more than {}", "{} are the {}", "1 is the cheapest", _superlatives("cheapest")),
    "older": Wordings("{} is older than {}", "{} is newer than {}", "{} is the {}", "1 is the oldest", _superlatives("oldest")),
}  # fmt: skip
SIZES = {1: (3, "three"), 2: (5, "five"), 3: (7, "seven")}


class Clue(NamedTuple):
    """A sentence about an order, its constraint, and whether it holds of a placing (name to rank, from 1)."""

    text: str
    constraint: str
    holds: Callable[[dict[str, int]], bool]


def generate_order(rng: random.Random, level: int) -> Problem:
    """Return an ordering puzzle of three, five or seven things, whose clues determine the order."""
    opening, one, things, how = rng.choice(SCENES)
    n, number = SIZES[level]
    names = rng.sample(things, n)
    order = {name: rank for rank, name in enumerate(rng.sample(names, len(names)), 1)}
    clues = _clues(rng, names, order, WORDINGS[how])
    rank = rng.randint(1, len(names))
    options = [(name, f"{'ABCDEFG'[i]}) {_said(WORDINGS[how], name, rank)}") for i, name in enumerate(names)]
    answer = next(option[0] for name, option in options if order[name] == rank)
    program = [
        f"Domain: 1..{len(names)}  # {WORDINGS[how].first}",
        f"Variables: {', '.join(map(_variable, names))}",
        "Constraints:",
        f"all_different({', '.join(map(_variable, names))})",
        *(clue.constraint for clue in clues),
        "Query:",
        *(f"{option[0]}) {_variable(name)} == {rank}" for name, option in options),
    ]
    listed = [one.format(name) for name in names]
    opened = opening.format(n=number, them=f"{', '.join(listed[:-1])} and {listed[-1]}")
    text = " ".join([opened, *(f"{clue.text}." for clue in clues)])
    made = {"program": "\n".join(program), "split": "train", "source": "generated", "licence": "Apache-2.0"}
    return _order(text, [option for _, option in options], answer, n_constraints=len(clues) + 1, **made)


def _clues(rng: random.Random, names: list[str], order: dict[str, int], words: Wordings) -> list[Clue]:
    """Return clues that only `order` satisfies, none of which is redundant."""
    found = [_clue(rng, one, other, order, words) for one, other in itertools.permutations(names, 2)]
    placings = [dict(zip(names, ranks, strict=True)) for ranks in itertools.permutations(range(1, len(names) + 1))]
    rng.shuffle(found)
    chosen: list[Clue] = []
    for clue in found:
        left = [placing for placing in placings if clue.holds(placing)]
        if len(left) < len(placings):
            placings = left
            chosen.append(clue)
        if len(placings) == 1:
            break
    return chosen


def _clue(rng: random.Random, one: str, other: str, order: dict[str, int], words: Wordings) -> Clue:
    a, b = _variable(one), _variable(other)
    if rng.random() < 0.2:
        rank = order[one]
        return Clue(_said(words, one, rank), f"{a} == {rank}", lambda placing: placing[one] == rank)
    if order[one] < order[other]:
        return Clue(_upper(words.before.format(_the(one), _the(other))), f"{a} < {b}", lambda p: p[one] < p[other])
    return Clue(_upper(words.after.format(_the(one), _the(other))), f"{a} > {b}", lambda p: p[one] > p[other])


def _said(words: Wordings, name: str, rank: int) -> str:
    return _upper(words.place.format(_the(name), words.ranks[rank - 1]))


def _the(name: str) -> str:
    return name if name[0].isupper() else f"the {name}"


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


def _variable(name: str) -> str:
    return name.lower().replace(" ", "_")


def _order(text: str, options: list[str], answer: str, *, n_constraints: int, **fields: Any) -> Problem:
    letters = [option.partition(")")[0] for option in options]
    return Problem.of(
        task=ORDERS,
        family="csp",
        instruction=ORDER_INSTRUCTION,
        context=text,
        question=ORDER_QUESTION.format(" ".join(options)),
        answer=answer,
        environment={"options": letters, "n_constraints": n_constraints},
        **fields,
    )


# --- generated theories --------------------------------------------------------------------------------------------

World = frozenset[str]
"""The words that hold of the one person a theory is about."""


class Claim(NamedTuple):
    """The claim that `word` holds, or that it does not."""

    word: str
    positive: bool

    def holds(self, world: World) -> bool:
        """Return whether the claim is true in `world`."""
        return (self.word in world) == self.positive

    def formula(self, term: str) -> str:
        """Return the literal about `term`."""
        return f"{'' if self.positive else '~'}{self.word.capitalize()}({term})"

    def phrase(self) -> str:
        """Return the words after "is": `not a baker`, `kind`."""
        return f"{'' if self.positive else 'not '}{'a ' if self.word in KINDS else ''}{self.word}"


class Premise(NamedTuple):
    """A sentence, its formula, and whether it holds in a world."""

    text: str
    formula: str
    holds: Callable[[World], bool]
    words: tuple[str, ...]


NAMES = "ann bob carl dora emil fay gus hana ivan june kurt lena max nina otto petra ruth sven tina walt".split()
KINDS = "baker singer pilot farmer doctor sailor painter dancer blick dorp".split()
TRAITS = "kind tall young quiet rich brave happy busy wise strong".split()


def entailed(premises: Sequence[Premise], claim: Claim) -> Label | None:
    """Return the label of the claim under `premises`; None if they contradict each other."""
    words = sorted({word for premise in premises for word in premise.words} | {claim.word})
    found = set()
    for bits in itertools.product((False, True), repeat=len(words)):
        world = frozenset(itertools.compress(words, bits))
        if all(premise.holds(world) for premise in premises):
            found.add(claim.holds(world))
    if not found:
        return None
    return "Unknown" if len(found) == 2 else "True" if found == {True} else "False"


def generate(rng: random.Random, level: int) -> Problem:
    """Return facts about one person with rules, and a statement that none of them makes outright.

    Level 1 has a fact and a rule or two over three words; each further level adds two words, a fact and two rules.
    """
    target = rng.choice(LABELS)
    while True:
        name, words = rng.choice(NAMES), [rng.choice(KINDS), *rng.sample(TRAITS, 2 * level)]
        premises = _theory(rng, name, words)
        used = {word for premise in premises for word in premise.words}
        claim = Claim(rng.choice(sorted(used)), rng.random() < 0.6)
        stated = {premise.formula.lstrip("~") for premise in premises}
        outright = Claim(claim.word, True).formula(name) in stated
        if not outright and entailed(premises, claim) == target:
            return _problem(premises, name, claim, target)


def _theory(rng: random.Random, name: str, words: Sequence[str]) -> list[Premise]:
    order = rng.sample(words, len(words))
    extra = (len(words) - 3) // 2
    rules = [_rule(rng, one, two) for one, two in itertools.pairwise(order[: 2 + 2 * extra])]
    if rng.random() < 0.25:
        rules.append(_rule(rng, order[-2], order[-1]))
    facts = [_fact(name, Claim(word, rng.random() < 0.7)) for word in rng.sample(order[:-1], 1 + extra)]
    return [*facts, *rules] if rng.random() < 0.5 else [*rules, *facts]


def _fact(name: str, claim: Claim) -> Premise:
    return Premise(f"{name.capitalize()} is {claim.phrase()}.", claim.formula(name), claim.holds, (claim.word,))


def _rule(rng: random.Random, one: str, two: str) -> Premise:
    body, head = Claim(one, True), Claim(two, rng.random() < 0.7)
    return Premise(
        rng.choice(_wordings(body, head)),
        f"forall x ({body.formula('x')} -> {head.formula('x')})",
        lambda world: head.holds(world) or not body.holds(world),
        (one, two),
    )


def _wordings(body: Claim, head: Claim) -> list[str]:
    some = body.word if body.word in KINDS else f"{body.word} person"
    return [
        f"Everyone who is {body.phrase()} is {head.phrase()}.",
        f"Every {some} is {head.phrase()}." if head.positive else f"No {some} is {Claim(head.word, True).phrase()}.",
    ]


def _problem(premises: Sequence[Premise], name: str, claim: Claim, label: Label) -> Problem:
    words = {word.capitalize() for premise in premises for word in premise.words}
    symbols = [*sorted(words), name]
    return Problem.of(
        task="rule_theories",
        family=FAMILY,
        split="train",
        instruction=INSTRUCTION,
        context=f"{' '.join(premise.text for premise in premises)}\nNames: {', '.join(symbols)}",
        question=QUESTION.format(f"{name.capitalize()} is {claim.phrase()}."),
        answer=label,
        program="\n".join([*(premise.formula for premise in premises), f"query: {claim.formula(name)}"]),
        environment={"symbols": symbols, "n_premises": len(premises)},
        symbols=tuple(symbols),
        source="generated",
        licence="Apache-2.0",
    )


SHOTS = (
    (
        "Rita is a nurse. Every nurse is calm.\nNames: Calm, Nurse, rita",
        QUESTION.format("Rita is calm."),
        "Nurse(rita)\nforall x (Nurse(x) -> Calm(x))\nquery: Calm(rita)",
    ),
    (
        "No cook is slow. Tom is a cook.\nNames: Cook, Slow, tom",
        QUESTION.format("Tom is slow."),
        "forall x (Cook(x) -> ~Slow(x))\nCook(tom)\nquery: Slow(tom)",
    ),
    (
        "Eva is not proud. If someone is shy, then they are polite.\nNames: Polite, Proud, Shy, eva",
        QUESTION.format("Eva is polite."),
        "~Proud(eva)\nforall x (Shy(x) -> Polite(x))\nquery: Polite(eva)",
    ),
    (
        "Jan is lazy or fit, but not both. Jan is not lazy.\nNames: Fit, Lazy, jan",
        QUESTION.format("Jan is not fit."),
        "Lazy(jan) ^ Fit(jan)\n~Lazy(jan)\nquery: ~Fit(jan)",
    ),
)

ORDER_SHOTS = (
    (
        "On a wall hang a map, a clock and a mirror. The clock is left of the map. The mirror is third from the left.",
        ORDER_QUESTION.format("A) The map is first from the left B) The clock is first from the left"),
        "Domain: 1..3  # 1 is the leftmost\nVariables: map, clock, mirror\nConstraints:\nall_different(map, clock, mirror)\n"
        "clock < map\nmirror == 3\nQuery:\nA) map == 1\nB) clock == 1",
    ),
)

TASKS = (
    Task("rule_theories", FAMILY, INSTRUCTION, SHOTS, "Apache-2.0", "written for this project", generate=generate),
    _public("proofwriter", OptionsRow, "CC BY 4.0 (copied from an MIT repository)", "Tafjord et al. 2021, ProofWriter"),
    _public("prontoqa", OptionsRow, "Apache-2.0 (copied from an MIT repository)", "Saparov and He 2023, PrOntoQA"),
    _public("folio_stories", FolioRow, "CC BY-SA 4.0", "Han et al. 2022, FOLIO", folder="folio"),
    Task(
        ORDERS,
        "csp",
        ORDER_INSTRUCTION,
        ORDER_SHOTS,
        ORDERS_LICENCE,
        "Srivastava et al. 2022, BIG-bench",
        folder=f"logic/{ORDERS}",
        read=_orders,
        generate=generate_order,
    ),
    Task(
        "ruletaker",
        FAMILY,
        INSTRUCTION,
        SHOTS,
        RULETAKER_LICENCE,
        "Clark et al. 2020, RuleTaker; Tafjord et al. 2021, ProofWriter",
        folder="logic/ruletaker",
        read=_ruletaker,
        evaluation_only=True,
    ),
)
