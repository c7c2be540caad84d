"""Sentences to Abstract Meaning Representation graphs in PENMAN notation, on one line.

Four sets are read, all with rows of `snt` and `amr`. The generators build sentence and graph together from one grammar:
each function below returns words and the node for their meaning. `amr2` has single clauses, `amr3` adds sentences of
several clauses, questions, orders and comparisons; `bioamr` is about proteins. Tense and number are not in the graph.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import yaml

from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Generator, Published, Row, Task, read_rows

INSTRUCTION = "Write the AMR graph of the sentence in PENMAN notation."
FAMILY = "amr"


class AmrRow(Row):
    """A sentence and its graph."""

    id: str
    snt: str
    amr: str


def _reader(name: str, licence: str) -> Callable[[Path], Iterator[Problem]]:
    def read(folder: Path) -> Iterator[Problem]:
        for split, row in read_rows(folder, AmrRow):
            graph = "\n".join(line for line in row.amr.splitlines() if not line.lstrip().startswith("#"))
            yield _problem(
                name, row.snt.strip(), " ".join(graph.split()), split=split, source=f"{name} {row.id}", licence=licence
            )

    return read


def _problem(task: str, sentence: str, graph: str, **fields: str) -> Problem:
    return Problem.of(
        task=task, family=FAMILY, instruction=INSTRUCTION, question=sentence, program=graph or None, **fields
    )


# --- graphs -----------------------------------------------------------------------------------------------------------


class Node:
    """A variable: its concept and its roles in order. A node that occurs twice is one variable."""

    def __init__(self, concept: str, *roles: tuple[str, Node | str]) -> None:
        self.concept = concept
        self.roles = list(roles)

    def add(self, role: str, target: Node | str) -> Node:
        """Add a role and return the node itself."""
        self.roles.append((role, target))
        return self


def printed(top: Node) -> str:
    """Return the graph in PENMAN notation; variables are the first letters of concepts, numbered from the second on."""
    names: dict[int, str] = {}
    taken: set[str] = set()

    def show(node: Node) -> str:
        if id(node) in names:
            return names[id(node)]
        letter = node.concept[0].lower() if node.concept[0].isalpha() else "x"
        name = next(n for n in (letter, *(f"{letter}{i}" for i in range(2, 99))) if n not in taken)
        taken.add(name)
        names[id(node)] = name
        roles = "".join(f" :{role} {show(to) if isinstance(to, Node) else to}" for role, to in node.roles)
        return f"({name} / {node.concept}{roles})"

    return show(top)


def named(concept: str, *words: str) -> Node:
    """Return a named entity."""
    return Node(concept, ("name", Node("name", *((f"op{n + 1}", f'"{word}"') for n, word in enumerate(words)))))


# --- words ------------------------------------------------------------------------------------------------------------


class Verb(NamedTuple):
    """A verb: its sense and its forms."""

    frame: str
    base: str
    past: str
    noun: str = ""


class Phrase(NamedTuple):
    """Words and their meaning."""

    text: str
    node: Node


class Predicate(NamedTuple):
    """A verb phrase about a subject, with its event already tied to the subject."""

    verb: Verb
    rest: str
    event: Node

    def past(self) -> str:
        """Return the past form, as in `she saw the dog`."""
        return f"{self.verb.past} {self.rest}".strip()

    def bare(self) -> str:
        """Return the bare form, as in `she can see the dog`."""
        return f"{self.verb.base} {self.rest}".strip()


_DATA = yaml.safe_load(resources.files("symbol_llm.tasks").joinpath("amr.yaml").read_text(encoding="utf-8"))


def _verbs(key: str) -> tuple[Verb, ...]:
    return tuple(Verb(*entry.split()) for entry in _DATA[key].split(";"))


INTRANSITIVE, TRANSITIVE, BETWEEN, GIVING, WANTING, ASKING, SAYING = map(
    _verbs, ("intransitive", "transitive", "between_people", "giving", "wanting", "asking", "saying")
)
BIO, FINDINGS, EFFECTS = map(_verbs, ("bio_verbs", "bio_findings", "effects"))
WORDS: dict[str, list[str]] = {key: text.split() for key, text in _DATA.items() if ";" not in text}
MODALS = (
    ("can", "possible-01", "ARG1"),
    ("may", "possible-01", "ARG1"),
    ("must", "obligate-01", "ARG2"),
    ("should", "recommend-01", "ARG1"),
)
ADVERBS = {"happy": "happily", "angry": "angrily", "polite": "politely"}


AGENTS = dict(zip(WORDS["agents"][::2], WORDS["agents"][1::2], strict=True))


def _word(rng: random.Random, kind: str) -> str:
    return rng.choice(WORDS[kind])


def _of(word: str) -> Node:
    """Return the node of a noun: a teacher is a person who teaches."""
    return Node("person", ("ARG0-of", Node(AGENTS[word]))) if word in AGENTS else Node(word)


# --- phrases ----------------------------------------------------------------------------------------------------------


def noun(rng: random.Random, kind: str, fill: int = 0) -> Phrase:
    """Return a noun phrase of people, things or animals, with up to `fill` additions."""
    if kind == "people" and rng.random() < 0.25:
        return _person(rng, fill)
    word = _word(rng, kind)
    node = _of(word)
    before, after = [], ""
    article = rng.choice(("the", "a"))
    if fill and rng.random() < 0.3:
        owner = _person(rng) if rng.random() < 0.5 else Phrase(f"the {(who := _word(rng, 'people'))}", _of(who))
        article = f"{owner.text}'s"
        node.add("poss", owner.node)
    if fill and rng.random() < 0.5:
        adjective = _word(rng, "adjectives")
        mod = Node(adjective)
        if fill > 1 and rng.random() < 0.3:
            mod.add("degree", Node("very"))
            adjective = f"very {adjective}"
        before.append(adjective)
        node.add("mod", mod)
    elif (
        fill > 1
        and article == "the"
        and rng.random() < 0.4
        and word not in ("child", "woman", "man", "knife", "mouse", "sheep")
    ):
        number = rng.randrange(len(WORDS["numbers"]))
        before.append(WORDS["numbers"][number])
        word = _plural(word)
        node.add("quant", str(number + 2))
    if fill > 1 and rng.random() < 0.3:
        place = _word(rng, "places")
        after = f" from the {place}"
        node.add("source", Node(place))
    text = " ".join([article, *before, word])
    return Phrase(_an(text) + after, node)


def _an(text: str) -> str:
    return f"an{text[1:]}" if text.startswith("a ") and text[2] in "aeiou" else text


def _plural(word: str) -> str:
    if word.endswith(("x", "ch", "s")):
        return f"{word}es"
    return f"{word[:-1]}ies" if word.endswith("y") and word[-2] not in "aeiou" else f"{word}s"


def _person(rng: random.Random, fill: int = 0) -> Phrase:
    names = [_word(rng, "first_names")]
    if fill and rng.random() < 0.5:
        names.append(_word(rng, "last_names"))
    return Phrase(" ".join(names), named("person", *names))


def _adjunct(rng: random.Random, event: Node) -> str:
    """Add a time, place, manner or duration to `event` and return its words."""
    match rng.randrange(6):
        case 0:
            time = _word(rng, "times")
            event.add("time", Node(time))
            return time
        case 1:
            place = _word(rng, "places")
            event.add("location", Node(place))
            return f"in the {place}"
        case 2:
            manner = _word(rng, "manners")
            event.add("manner", Node(manner))
            return ADVERBS.get(manner, f"{manner}ly")
        case 3:
            number, unit = rng.randrange(len(WORDS["numbers"])), _word(rng, "units")
            event.add("duration", Node("temporal-quantity", ("quant", str(number + 2)), ("unit", Node(unit))))
            return f"for {WORDS['numbers'][number]} {unit}s"
        case 4:
            kind = rng.choice(("city", "country"))
            name = _word(rng, "cities" if kind == "city" else "countries")
            event.add("location", named(kind, name))
            return f"in {name}"
    return _date(rng, event)


def _date(rng: random.Random, event: Node) -> str:
    year, month, day = rng.randint(1950, 2024), rng.randrange(12), rng.randint(1, 28)
    match rng.randrange(3):
        case 0:
            event.add("time", Node("date-entity", ("year", str(year))))
            return f"in {year}"
        case 1:
            event.add("time", Node("date-entity", ("day", str(day)), ("month", str(month + 1)), ("year", str(year))))
            return f"on {WORDS['months'][month]} {day}, {year}"
    weekday = _word(rng, "weekdays")
    event.add("time", Node("date-entity", ("weekday", Node(weekday.lower()))))
    return f"on {weekday}"


def predicate(rng: random.Random, subject: Node, fill: int) -> Predicate:
    """Return a plain predicate of `subject` with up to `fill` additions."""
    kind = rng.choice(("intransitive", "transitive", "transitive", "between", *["giving"] * (fill > 0)))
    if kind == "intransitive":
        verb = rng.choice(INTRANSITIVE)
        event, rest = Node(verb.frame, ("ARG0", subject)), []
    else:
        verb = rng.choice({"transitive": TRANSITIVE, "between": BETWEEN, "giving": GIVING}[kind])
        objects = "people" if kind == "between" else rng.choice(("things", "things", "things", "animals"))
        target = noun(rng, objects, fill)
        event, rest = Node(verb.frame, ("ARG0", subject), ("ARG1", target.node)), [target.text]
        if kind == "giving":
            other = noun(rng, "people")
            event.add("ARG2", other.node)
            rest.append(f"to {other.text}")
    if rng.random() < 0.3 * fill:
        rest.append(_adjunct(rng, event))
    return Predicate(verb, " ".join(rest), event)


# --- clauses ----------------------------------------------------------------------------------------------------------


def plain(rng: random.Random, fill: int) -> Phrase:
    """Return a clause of one event: `The boy saw a dog`."""
    subject = noun(rng, "people", fill)
    said = predicate(rng, subject.node, fill)
    return Phrase(f"{subject.text} {said.past()}", said.event)


def negated(rng: random.Random, fill: int) -> Phrase:
    """Return `The boy did not see a dog`."""
    subject = noun(rng, "people", fill)
    said = predicate(rng, subject.node, fill)
    return Phrase(f"{subject.text} did not {said.bare()}", said.event.add("polarity", "-"))


def modal(rng: random.Random, fill: int) -> Phrase:
    """Return `The boy can see a dog`, or a sentence with `must not` or `cannot` as AMR treats them."""
    subject = noun(rng, "people", fill)
    said = predicate(rng, subject.node, fill)
    word, frame, role = rng.choice(MODALS)
    if rng.random() < 0.25 and word == "can":
        return Phrase(f"{subject.text} cannot {said.bare()}", Node(frame, (role, said.event), ("polarity", "-")))
    if rng.random() < 0.2 and word in ("must", "should"):
        return Phrase(f"{subject.text} {word} not {said.bare()}", Node(frame, (role, said.event.add("polarity", "-"))))
    return Phrase(f"{subject.text} {word} {said.bare()}", Node(frame, (role, said.event)))


def state(rng: random.Random, fill: int) -> Phrase:
    """Return `The vase is very old`."""
    subject = noun(rng, rng.choice(("people", "things", "animals")), 0)
    adjective = _word(rng, "adjectives")
    node = Node(adjective, ("domain", subject.node))
    text = adjective
    if fill and rng.random() < 0.4:
        node.add("degree", Node("very"))
        text = f"very {adjective}"
    if rng.random() < 0.3:
        node.add("polarity", "-")
        text = f"not {text}"
    return Phrase(f"{subject.text} is {text}", node)


def passive(rng: random.Random, fill: int) -> Phrase:
    """Return `The vase was hidden by the boy`, with verbs whose participle is their past tense."""
    verb = rng.choice([verb for verb in (*TRANSITIVE, *BETWEEN) if verb.past.endswith("ed")])
    agent = noun(rng, "people", fill)
    target = noun(rng, "people" if verb in BETWEEN else "things", 0)
    return Phrase(
        f"{target.text} was {verb.past} by {agent.text}", Node(verb.frame, ("ARG1", target.node), ("ARG0", agent.node))
    )


def control(rng: random.Random, fill: int) -> Phrase:
    """Return `The boy wants to see a dog`, in which the boy is one variable."""
    subject = noun(rng, "people", fill)
    if rng.random() < 0.35:
        verb, other = rng.choice(ASKING), noun(rng, "people", 0)
        inner = predicate(rng, other.node, fill - 1)
        event = Node(verb.frame, ("ARG0", subject.node), ("ARG1" if verb.base != "ask" else "ARG2", other.node))
        event.add("ARG2" if verb.base != "ask" else "ARG1", inner.event)
        return Phrase(f"{subject.text} {verb.past} {other.text} to {inner.bare()}", event)
    verb = rng.choice(WANTING)
    inner = predicate(rng, subject.node, fill - 1)
    event = Node(verb.frame, ("ARG0", subject.node), ("ARG1", inner.event))
    if rng.random() < 0.25:
        event.add("polarity", "-")
        return Phrase(f"{subject.text} did not {verb.base} to {inner.bare()}", event)
    return Phrase(f"{subject.text} {verb.past} to {inner.bare()}", event)


def relative(rng: random.Random, fill: int) -> Phrase:
    """Return `The boy who saw a dog laughed` or `The dog that the boy saw ...`."""
    subject = noun(rng, "people", 0)
    while subject.text[0].isupper():
        subject = noun(rng, "people", 0)
    outer = predicate(rng, subject.node, fill - 1)
    if rng.random() < 0.5:
        inner = predicate(rng, subject.node, fill - 1)
        inner.event.roles.remove(("ARG0", subject.node))
        subject.node.add("ARG0-of", inner.event)
        return Phrase(f"{subject.text} who {inner.past()} {outer.past()}", outer.event)
    other, verb = noun(rng, "people", 0), rng.choice(BETWEEN)
    subject.node.add("ARG1-of", Node(verb.frame, ("ARG0", other.node)))
    return Phrase(f"{subject.text} whom {other.text} {verb.past} {outer.past()}", outer.event)


def joined(rng: random.Random, fill: int) -> Phrase:
    """Return two subjects of one event, or two events of one subject."""
    word = rng.choice(("and", "and", "or"))
    if rng.random() < 0.5:
        one, two = noun(rng, "people", fill - 1), noun(rng, "people", 0)
        both = Node(word, ("op1", one.node), ("op2", two.node))
        said = predicate(rng, both, fill)
        return Phrase(f"{one.text} {word} {two.text} {said.past()}", said.event)
    subject = noun(rng, "people", fill - 1)
    first, second = (predicate(rng, subject.node, fill - 1) for _ in range(2))
    return Phrase(
        f"{subject.text} {first.past()} {word} {second.past()}", Node(word, ("op1", first.event), ("op2", second.event))
    )


def reported(rng: random.Random, fill: int) -> Phrase:
    """Return `The boy said that ...`."""
    subject, verb = noun(rng, "people", 0), rng.choice(SAYING)
    inner = rng.choice((plain, negated, modal, state))(rng, fill - 1)
    return Phrase(
        f"{subject.text} {verb.past} that {inner.text}", Node(verb.frame, ("ARG0", subject.node), ("ARG1", inner.node))
    )


def linked(rng: random.Random, fill: int) -> Phrase:
    """Return two clauses with because, if, although, but, after or before."""
    parts = (plain, negated, modal, state, control)
    one, two = rng.choice(parts)(rng, fill - 1), rng.choice(parts)(rng, fill - 1)
    match rng.choice(("because", "if", "although", "but", "after", "before")):
        case "because":
            cause = Node("cause-01", ("ARG0", two.node))
            return Phrase(f"{one.text} because {two.text}", one.node.add("ARG1-of", cause))
        case "if":
            return Phrase(f"if {two.text}, {one.text}", one.node.add("condition", two.node))
        case "although":
            return Phrase(f"{one.text} although {two.text}", one.node.add("concession", two.node))
        case "but":
            return Phrase(f"{one.text}, but {two.text}", Node("contrast-01", ("ARG1", one.node), ("ARG2", two.node)))
        case word:
            return Phrase(f"{one.text} {word} {two.text}", one.node.add("time", Node(word, ("op1", two.node))))


def question(rng: random.Random, fill: int) -> Phrase:
    """Return `Who saw the dog?`, `Did the boy see the dog?` or `Where did ...?`."""
    unknown = Node("amr-unknown")
    kind = rng.choice(("who", "whether", "where", "when", "why"))
    if kind == "who":
        said = predicate(rng, unknown, fill)
        return Phrase(f"who {said.past()}?", said.event)
    subject = noun(rng, "people", fill - 1)
    said = predicate(rng, subject.node, 0)
    if kind == "whether":
        return Phrase(f"did {subject.text} {said.bare()}?", said.event.add("polarity", unknown))
    if kind == "why":
        said.event.add("ARG1-of", Node("cause-01", ("ARG0", unknown)))
        return Phrase(f"why did {subject.text} {said.bare()}?", said.event)
    return Phrase(
        f"{kind} did {subject.text} {said.bare()}?", said.event.add("location" if kind == "where" else "time", unknown)
    )


def order(rng: random.Random, fill: int) -> Phrase:
    """Return `Do not open the box!`."""
    said = predicate(rng, Node("you"), fill)
    said.event.add("mode", "imperative")
    if rng.random() < 0.4:
        return Phrase(f"do not {said.bare()}!", said.event.add("polarity", "-"))
    return Phrase(f"{said.bare()}!", said.event)


def comparison(rng: random.Random, fill: int) -> Phrase:
    """Return `The boy is more polite than the girl`."""
    one, two = noun(rng, "people", fill - 1), noun(rng, "people", 0)
    adjective, degree = _word(rng, "adjectives"), rng.choice(("more", "less"))
    node = Node("have-degree-91", ("ARG1", one.node), ("ARG2", Node(adjective, ("domain", one.node))))
    node.add("ARG3", Node(degree)).add("ARG4", two.node)
    return Phrase(f"{one.text} is {degree} {adjective} than {two.text}", node)


def two_sentences(rng: random.Random, fill: int) -> Phrase:
    """Return two sentences under one graph."""
    one, two = rng.choice((plain, modal, reported))(rng, fill - 1), rng.choice((negated, control, state))(rng, fill - 1)
    node = Node("multi-sentence", ("snt1", one.node), ("snt2", two.node))
    return Phrase(f"{one.text}. {_capital(two.text)}", node)


# --- biology ----------------------------------------------------------------------------------------------------------


def protein(rng: random.Random, fill: int) -> Phrase:
    """Return a protein, perhaps mutant or phosphorylated."""
    name = _word(rng, "proteins")
    node = named("protein", name)
    if fill and rng.random() < 0.15 * fill:
        node.add("ARG2-of", Node("mutate-01"))
        return Phrase(f"mutant {name}", node)
    if fill and rng.random() < 0.15 * fill:
        node.add("ARG1-of", Node("phosphorylate-01"))
        return Phrase(f"phosphorylated {name}", node)
    return Phrase(name, node)


def agent(rng: random.Random, fill: int) -> Phrase:
    """Return a protein or a drug."""
    if rng.random() < 0.3:
        name = _word(rng, "small_molecules")
        return Phrase(name, named("small-molecule", name))
    return protein(rng, fill)


def _bio_event(verb: Verb, one: Phrase, two: Phrase) -> Node:
    """Return the event; the agent of phosphorylating is ARG2."""
    return Node(verb.frame, ("ARG2" if verb.base == "phosphorylate" else "ARG0", one.node), ("ARG1", two.node))


def _bio_place(rng: random.Random, event: Node) -> str:
    match rng.randrange(3):
        case 0:
            name = _word(rng, "cell_lines")
            event.add("location", named("cell-line", name))
            return f" in {name} cells"
        case 1:
            place = _word(rng, "compartments")
            event.add("location", Node(place))
            return f" in the {place}"
    number, unit = rng.randrange(len(WORDS["numbers"])), rng.choice(("hour", "day", "minute"))
    event.add("duration", Node("temporal-quantity", ("quant", str(number + 2)), ("unit", Node(unit))))
    return f" for {WORDS['numbers'][number]} {unit}s"


def effect(rng: random.Random, fill: int) -> Phrase:
    """Return `SRC phosphorylated AKT1 at serine 473 in HeLa cells`, active or passive, perhaps negated."""
    verb, one, two = rng.choice(BIO), agent(rng, fill), protein(rng, fill)
    while verb.base == "express" or one.text == two.text:
        verb, one, two = rng.choice(BIO), agent(rng, fill), protein(rng, fill)
    site = ""
    if verb.base == "phosphorylate" and rng.random() < 0.6:
        residue, place = rng.choice(("serine", "threonine", "tyrosine")), rng.randint(15, 999)
        where = Node("amino-acid", ("mod", str(place)), ("name", Node("name", ("op1", f'"{residue}"'))))
        two = Phrase(two.text, where.add("part-of", two.node))
        site = f" at {residue} {place}"
    event = _bio_event(verb, one, two)
    tail = site + (_bio_place(rng, event) if rng.random() < 0.3 * fill else "")
    if fill and rng.random() < 0.2:
        return Phrase(f"{one.text} did not {verb.base} {two.text}{tail}", event.add("polarity", "-"))
    if rng.random() < 0.35:
        return Phrase(f"{two.text} was {verb.past} by {one.text}{tail}", event)
    return Phrase(f"{one.text} {verb.past} {two.text}{tail}", event)


def binding(rng: random.Random, fill: int) -> Phrase:
    """Return `GRB2 bound to SOS1` or `interacted with`."""
    one, two = protein(rng, fill), protein(rng, fill)
    words, frame = rng.choice((("bound to", "bind-01"), ("bound", "bind-01"), ("interacted with", "interact-01")))
    roles = ("ARG1", "ARG2") if frame == "bind-01" else ("ARG0", "ARG1")
    event = Node(frame, (roles[0], one.node), (roles[1], two.node))
    return Phrase(f"{one.text} {words} {two.text}{_bio_place(rng, event) if rng.random() < 0.3 * fill else ''}", event)


def nominal(rng: random.Random, fill: int) -> Phrase:
    """Return `the inhibition of AKT1 by SRC`."""
    verb, two = rng.choice(BIO), protein(rng, fill)
    if rng.random() < 0.4 or verb.base == "express":
        return Phrase(f"the {verb.noun} of {two.text}", Node(verb.frame, ("ARG1", two.node)))
    one = agent(rng, fill)
    return Phrase(f"the {verb.noun} of {two.text} by {one.text}", _bio_event(verb, one, two))


def influence(rng: random.Random, fill: int) -> Phrase:
    """Return `The inhibition of MEK1 reduced the expression of MYC`."""
    verb = rng.choice(EFFECTS)
    one = nominal(rng, fill) if rng.random() < 0.6 else agent(rng, fill)
    two = nominal(rng, fill)
    event = Node(verb.frame, ("ARG0", one.node), ("ARG1", two.node))
    if rng.random() < 0.2:
        return Phrase(f"{one.text} did not {verb.base} {two.text}", event.add("polarity", "-"))
    return Phrase(f"{one.text} {verb.past} {two.text}", event)


def finding(rng: random.Random, fill: int) -> Phrase:
    """Return `We found that ...`."""
    verb, source = rng.choice(FINDINGS), _word(rng, "sources")
    inner = rng.choice((effect, binding, influence))(rng, fill)
    event = Node(verb.frame, ("ARG0", Node(source)), ("ARG1", inner.node))
    return Phrase(f"{'the ' * (source == 'data')}{source} {verb.past} that {inner.text}", event)


def after_treatment(rng: random.Random, fill: int) -> Phrase:
    """Return `After treatment with imatinib, ...` or two contrasted findings."""
    one = rng.choice((effect, influence, binding))(rng, fill)
    if rng.random() < 0.5:
        name = _word(rng, "small_molecules")
        treat = Node("treat-04", ("ARG2", named("small-molecule", name)))
        return Phrase(f"after treatment with {name}, {one.text}", one.node.add("time", Node("after", ("op1", treat))))
    two = rng.choice((effect, influence, binding))(rng, fill)
    word, frame = rng.choice((("whereas", "contrast-01"), ("and", "and")))
    roles = ("ARG1", "ARG2") if word == "whereas" else ("op1", "op2")
    return Phrase(f"{one.text} {word} {two.text}", Node(frame, (roles[0], one.node), (roles[1], two.node)))


# --- generators ---------------------------------------------------------------------------------------------------------

Rule = Callable[[random.Random, int], Phrase]
GRAMMARS: dict[str, dict[int, tuple[Rule, ...]]] = {
    "amr2": {
        1: (plain, plain, negated, state),
        2: (plain, negated, modal, passive, joined),
        3: (control, relative, joined, reported),
    },
    "amr3": {
        1: (plain, negated, state, question, order),
        2: (modal, question, order, comparison, passive, control),
        3: (linked, linked, reported, two_sentences, relative),
    },
    "bioamr": {1: (effect, binding), 2: (effect, influence, binding, influence), 3: (finding, after_treatment)},
}
FILL = {1: 0, 2: 1, 3: 2}
"""Most additions to phrases, by level."""


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _generator(task: str) -> Generator:
    def generate(rng: random.Random, level: int) -> Problem:
        said = rng.choice(GRAMMARS[task][level])(rng, FILL[level])
        sentence = _capital(said.text) + ("" if said.text[-1] in "?!" else ".")
        return _problem(task, sentence, printed(said.node), split="train", source="generated", licence="Apache-2.0")

    return generate


def _shots(*pairs: tuple[str, str]) -> tuple[tuple[str, str, str], ...]:
    return tuple(("", sentence, graph) for sentence, graph in pairs)


SHOTS = _shots(
    ("The gardener watered a tree.", "(w / water-01 :ARG0 (g / gardener) :ARG1 (t / tree))"),
    (
        "Lena Berg did not want to leave.",
        '(w / want-01 :ARG0 (p / person :name (n / name :op1 "Lena" :op2 "Berg")) :ARG1 (l / leave-11 :ARG0 p) :polarity -)',
    ),
    (
        "The cook can bake two large cakes in 1999.",
        "(p / possible-01 :ARG1 (b / bake-01 :ARG0 (c / cook) :ARG1 (c2 / cake :mod (l / large) :quant 2) "
        ":time (d / date-entity :year 1999)))",
    ),
    (
        "Who met the captain that the crew elected?",
        "(m / meet-03 :ARG0 (a / amr-unknown) :ARG1 (c / captain :ARG1-of (e / elect-01 :ARG0 (c2 / crew))))",
    ),
)
BIO_SHOTS = _shots(
    (
        "CDK1 phosphorylated LMNA at serine 22.",
        '(p / phosphorylate-01 :ARG2 (p2 / protein :name (n / name :op1 "CDK1")) :ARG1 (a / amino-acid :mod 22 '
        ':name (n2 / name :op1 "serine") :part-of (p3 / protein :name (n3 / name :op1 "LMNA"))))',
    ),
    (
        "FGFR1 bound to FRS2.",
        '(b / bind-01 :ARG1 (p / protein :name (n / name :op1 "FGFR1")) :ARG2 (p2 / protein :name (n2 / name :op1 "FRS2")))',
    ),
    (
        "Nilotinib did not reduce the expression of CCND1.",
        '(r / reduce-01 :ARG0 (s / small-molecule :name (n / name :op1 "nilotinib")) '
        ':ARG1 (e / express-03 :ARG1 (p / protein :name (n2 / name :op1 "CCND1"))) :polarity -)',
    ),
)


def _task(
    name: str,
    licence: str,
    citation: str,
    published: Published | None = None,
    shots: Sequence[tuple[str, str, str]] = SHOTS,
) -> Task:
    generate = _generator(name) if name in GRAMMARS else None
    read = _reader(name, licence)
    return Task(
        name, FAMILY, INSTRUCTION, tuple(shots), licence, citation, f"amr/{name}", read, generate, published=published
    )


TASKS = (
    _task(
        "amr3",
        "LDC User Agreement",
        "Knight et al. 2020, AMR Annotation Release 3.0 (LDC2020T02)",
        Published(11, "Smatch", 68778, 1898),
    ),
    _task(
        "amr2",
        "LDC User Agreement",
        "Knight et al. 2017, AMR Annotation Release 2.0 (LDC2017T10)",
        Published(12, "Smatch", 45436, 1371),
    ),
    _task(
        "bioamr",
        "no licence stated",
        "Garg et al. 2016, Bio-AMR corpus of ISI",
        Published(13, "Smatch", 7150, 500),
        BIO_SHOTS,
    ),
    _task("qald9_amr", "Apache-2.0", "Lee et al. 2022, QALD-9-AMR (IBM)"),
)
