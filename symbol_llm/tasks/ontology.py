"""Sentences to triples under an ontology that the context declares: `relation(subject, object)`, one per line.

Five public sets are read; those without an ontology of their own get the relations that their rows use. The generator
draws facts from an ontology of `ontology.yaml`, a small graph of made-up entities, and phrases each subject's facts.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import yaml

from symbol_llm.ground.files import read_records
from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Generator, Published, Row, Task, read_rows

INSTRUCTION = "Write the facts of the text as triples, one a line: relation(subject, object). Use the relations given."
FAMILY = "triples"
Triple = list[str]
"""Subject, relation, object."""

MANY_NAMES = 5
"""Relations of other rows that are declared besides a row's own if the source has no ontology."""


def declaration(relations: Iterable[tuple[str, str, str]]) -> str:
    """Return the line that declares relations with domain and range (empty: unknown)."""
    shown = (f"{name}({domain}, {span})" if domain else name for name, domain, span in relations)
    return f"Relations: {'; '.join(shown)}"


def printed(triples: Iterable[Sequence[str]]) -> str:
    """Return triples one per line, quoting names with a comma, a semicolon, a quote or a lone bracket."""
    return "\n".join(f"{_quoted(r, BARE_RELATION)}({_quoted(s)}, {_quoted(o)})" for s, r, o in triples)


BARE = re.compile(r'[^",;()\n]*(?:\([^",;()\n]*\)[^",;()\n]*)*')
BARE_RELATION = re.compile(r'[^",;()\n]+')


def _quoted(name: str, bare: re.Pattern[str] = BARE) -> str:
    if bare.fullmatch(name):
        return name
    return '"{}"'.format(name.replace("\\", "\\\\").replace('"', '\\"'))


def symbols_of(relations: Iterable[str], context: str, triples: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the relations that may be renamed: whole words that mean nothing else in context or entities."""
    entities = "\n".join(name for subject, _, object_ in triples for name in (subject, object_))

    def count(name: str, text: str) -> int:
        return len(re.findall(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text))

    return tuple(name for name in relations if count(name, context) == 1 and not count(name, entities))


class Ontology(NamedTuple):
    """The declarations of a problem."""

    context: str
    relations: list[str]


def _problem(
    task: str, ontology: Ontology, sentence: str, triples: list[Triple], *, split: str, source: str, licence: str
) -> Problem:
    """Return the problem; a row without triples becomes one without gold."""
    return Problem.of(
        task=task,
        family=FAMILY,
        split=split,
        instruction=INSTRUCTION,
        context=ontology.context,
        question=sentence.strip(),
        answer=triples or None,
        program=printed(triples) or None,
        environment={"relations": ontology.relations},
        symbols=symbols_of(ontology.relations, ontology.context, triples),
        source=source,
        licence=licence,
    )


def _plain(name: str) -> str:
    """Return a name without surrounding blanks and the quotes that its source puts around texts."""
    name = " ".join(name.split())
    return name[1:-1].strip() if len(name) > 2 and name[0] == name[-1] == '"' else name


# --- public sets: Text2KGBench --------------------------------------------------------------------------------------


class Concept(Row):
    """A concept of an ontology."""

    qid: str
    label: str


class Relation(Row):
    """A relation of an ontology; domain and range are ids of concepts or words of their own."""

    label: str
    domain: str
    range: str


class OntologyRow(Row):
    """An ontology."""

    id: str
    concepts: list[Concept]
    relations: list[Relation]

    def declared(self) -> Ontology:
        """Return the ontology as a problem declares it."""
        labels = {concept.qid: concept.label for concept in self.concepts}
        rows = [
            (r.label.strip(), labels.get(r.domain, r.domain) or "any", labels.get(r.range, r.range) or "any")
            for r in self.relations
        ]
        return Ontology(declaration(rows), [name for name, _, _ in rows])


class Fact(Row):
    """A triple of a row."""

    sub: str
    rel: str
    obj: str


class BenchRow(Row):
    """A row of Text2KGBench: `triples`, or in TekGen's train file one triple in three labels."""

    id: str
    sent: str
    triples: list[Fact] | None = None
    sub_label: str = ""
    rel_label: str = ""
    obj_label: str = ""

    def facts(self) -> list[Triple]:
        """Return the triples of the row."""
        if self.triples is None:
            return [[_plain(self.sub_label), self.rel_label.strip(), _plain(self.obj_label)]]
        return [[_plain(fact.sub), fact.rel.strip(), _plain(fact.obj)] for fact in self.triples]


def _bench(name: str, folder: str, licence: str, generate: Generator, published: Published) -> Task:
    def read(folder: Path) -> Iterator[Problem]:
        ontologies = {row.id: row.declared() for row in read_records(folder / "ontologies.jsonl", OntologyRow)}
        for split, row in read_rows(folder, BenchRow):
            ontology = ontologies.get(re.sub(r"_(train|test)_\d+$", "", row.id), Ontology("", []))
            source = f"{name} {row.id}"
            yield _problem(name, ontology, row.sent, row.facts(), split=split, source=source, licence=licence)

    citation = "Mihindukulasooriya et al. 2023, Text2KGBench"
    return Task(name, FAMILY, INSTRUCTION, SHOTS, licence, citation, folder, read, generate, published=published)


# --- public sets without an ontology ----------------------------------------------------------------------------------


class WebnlgRow(Row):
    """A row of WebNLG: triples as `subject | relation | object`, and their wordings."""

    id: str
    category: str
    modifiedtripleset: list[str]
    lex: list[str]

    def stated(self) -> tuple[str, list[Triple], list[str]]:
        """Return the group of rows with similar relations, the triples and the texts."""
        triples = [[_plain(part) for part in text.split(" | ", 2)] for text in self.modifiedtripleset]
        return self.category, triples, self.lex


class Annotation(Row):
    """A wording of DART."""

    text: str


class DartRow(Row):
    """A row of DART."""

    id: str
    tripleset: list[list[str]]
    annotations: list[Annotation]

    def stated(self) -> tuple[str, list[Triple], list[str]]:
        """Return the group of rows with similar relations (here all), the triples and the texts."""
        triples = [[_plain(part) for part in triple] for triple in self.tripleset]
        return "", triples, [annotation.text for annotation in self.annotations]


class E2eRow(Row):
    """A row of the E2E challenge: attributes of one restaurant as `name[...], area[...]`."""

    id: str
    mr: str
    ref: str

    def stated(self) -> tuple[str, list[Triple], list[str]]:
        """Return the group of rows with similar relations (here all), the triples and the text."""
        values = dict(re.findall(r"([\w ]+?)\s*\[([^\]]*)\]", self.mr))
        subject = values.pop("name", "restaurant")
        return "", [[subject, relation.strip(), value] for relation, value in values.items()], [self.ref]


def _stated(
    name: str, kind: type[WebnlgRow] | type[DartRow] | type[E2eRow], folder: str, licence: str, citation: str
) -> Task:
    def read(folder: Path) -> Iterator[Problem]:
        rows = [(split, row.id, *row.stated()) for split, row in read_rows(folder, kind)]
        used: dict[str, set[str]] = {}
        for _, _, group, triples, _ in rows:
            used.setdefault(group, set()).update(relation for _, relation, _ in triples)
        for split, row_id, group, triples, texts in rows:
            mine = {relation for _, relation, _ in triples}
            others = sorted(used[group] - mine)
            more = random.Random(row_id).sample(others, min(MANY_NAMES, len(others)))
            names = sorted(mine | set(more))
            ontology = Ontology(declaration((relation, "", "") for relation in names), names)
            for n, text in enumerate(texts):
                source = f"{name} {row_id}#{n + 1}"
                yield _problem(name, ontology, text, triples, split=split, source=source, licence=licence)

    return Task(name, FAMILY, INSTRUCTION, SHOTS, licence, citation, folder, read)


# --- generated problems -----------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A relation of `ontology.yaml`: its two names, the concepts it relates, and its wordings."""

    label: str
    camel: str
    domain: str
    range: str
    wordings: tuple[str, ...]


class Entity(NamedTuple):
    """Something that a text mentions: its concept, and its names in the text and in a triple."""

    concept: str
    text: str
    name: str


class Known(NamedTuple):
    """A fact."""

    subject: Entity
    kind: Kind
    object: Entity


_DATA = yaml.safe_load(resources.files("symbol_llm.tasks").joinpath("ontology.yaml").read_text(encoding="utf-8"))
ONTOLOGIES: dict[str, tuple[Kind, ...]] = {
    name: tuple(Kind(row[0], row[1], row[2], row[3], tuple(row[4:])) for row in rows)
    for name, rows in _DATA["ontologies"].items()
}
PARTS: dict[str, list[list[str]]] = _DATA["entities"]
MONTHS = "January February March April May June July August September October November December".split()
N_FACTS = {1: (1, 1, 2), 2: (2, 3), 3: (4, 5)}
N_DECLARED = {1: 5, 2: 8, 3: 12}
"""Most relations declared, by level."""


def entity(concept: str, rng: random.Random) -> Entity:
    """Return an entity; a date is in words in the text and in numbers in the triple."""
    if concept == "Date":
        day, month, year = rng.randint(1, 28), rng.randrange(12), rng.randint(1850, 2020)
        return Entity(concept, f"{day} {MONTHS[month]} {year}", f"{year}-{month + 1:02}-{day:02}")
    joint = "" if concept == "Year" else " "
    text = joint.join(str(rng.choice(part)) for part in PARTS[concept])
    return Entity(concept, text, text)


def facts(kinds: Sequence[Kind], n: int, rng: random.Random) -> list[Known]:
    """Return `n` connected facts: each after the first is about an entity named before."""
    first = rng.choice(kinds)
    entities = [entity(first.domain, rng)]
    found: list[Known] = []
    while len(found) < n:
        concepts = {known.concept for known in entities}
        kind = first if not found else rng.choice([kind for kind in kinds if kind.domain in concepts])
        subject = rng.choice([known for known in entities if known.concept == kind.domain])
        object_ = entity(kind.range, rng)
        if object_.text in {known.text for known in entities}:
            continue
        if any(fact.subject == subject and fact.kind == kind for fact in found):
            # few relations are left when an ontology says little of its first subject
            if rng.random() < 0.1:
                return facts(kinds, n, rng)
            continue
        found.append(Known(subject, kind, object_))
        entities.append(object_)
    return found


def worded(found: Sequence[Known], rng: random.Random) -> str:
    """Return `found` as a text: one sentence per subject, or a relative clause if the subject was just named."""
    subjects = list(dict.fromkeys(fact.subject for fact in found))
    said = {
        subject: [(fact, rng.choice(fact.kind.wordings)) for fact in found if fact.subject == subject]
        for subject in subjects
    }
    done: set[Entity] = set()

    def predicate(fact: Known, wording: str, *, last: bool) -> str:
        text = re.sub(r"\ba (?=[aeio])", "an ", wording.format(o=fact.object.text))
        inner = said.get(fact.object, [])
        if last and len(inner) == 1 and fact.object not in done and wording.endswith("{o}") and rng.random() < 0.6:
            done.add(fact.object)
            return f"{text}, {_who(fact.object)} {predicate(*inner[0], last=True)}"
        return text

    sentences = []
    for subject in subjects:
        if subject in done:
            continue
        done.add(subject)
        sentences += _sentences(subject, [predicate(*one, last=one is said[subject][-1]) for one in said[subject]], rng)
    return " ".join(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in sentences)


def _sentences(subject: Entity, predicates: list[str], rng: random.Random) -> list[str]:
    name = f"the {subject.text}" if subject.concept in ("Species", "University", "Car", "River") else subject.text
    match predicates:
        case [one]:
            return [f"{name} {one}"]
        case [one, two] if rng.random() < 0.4:
            return [f"{name}, {_who(subject)} {one}, {two}"]
        case [one, two]:
            return [f"{name} {one} and {two}"]
        case [one, two, *rest] if len(rest) > 1 or rng.random() < 0.5:
            return [f"{name} {one} and {two}", *_sentences(subject, rest, rng)]
    return [f"{name} {', '.join(predicates[:-1])} and {predicates[-1]}"]


def _who(subject: Entity) -> str:
    return "who" if subject.concept == "Person" else "which"


def _generator(task: str, label: Callable[[Kind], str], name: Callable[[Entity], str]) -> Generator:
    def generate(rng: random.Random, level: int) -> Problem:
        kinds = list(rng.choice(list(ONTOLOGIES.values())))
        found = facts(kinds, rng.choice(N_FACTS[level]), rng)
        used = list(dict.fromkeys(fact.kind for fact in found))
        others = [kind for kind in kinds if kind not in used]
        more = rng.sample(others, max(0, min(len(others), N_DECLARED[level] - len(used))))
        declared = sorted([*used, *more], key=label)
        ontology = Ontology(
            declaration((label(kind), kind.domain, kind.range) for kind in declared), [label(kind) for kind in declared]
        )
        triples = [[name(fact.subject), label(fact.kind), name(fact.object)] for fact in found]
        text = worded(found, rng)
        return _problem(task, ontology, text, triples, split="train", source="generated", licence="Apache-2.0")

    return generate


SHOTS = (
    (
        "Relations: country(Town, Country); mayor(Town, Person); twinTown(Town, Town)",
        "Hillsborough is a town in Freedonia.",
        "country(Hillsborough, Freedonia)",
    ),
    (
        "Relations: place of work(Person, Company); date of birth(Person, Date); spouse of(Person, Person)",
        "Edda Stone, who works at Acme Tools, is married to Karl Stone.",
        "place of work(Edda Stone, Acme Tools)\nspouse of(Edda Stone, Karl Stone)",
    ),
    (
        "Relations: author(Play, Person); premiereDate(Play, Date); theatre(Play, Building)",
        "The Open Door, a play by Ivo Lang, was first seen on 4 May 1921 at the Royal Hall, Arnberg.",
        'author(The_Open_Door, Ivo_Lang)\npremiereDate(The_Open_Door, 1921-05-04)\ntheatre(The_Open_Door, "Royal Hall, Arnberg")',
    ),
)
TEXT2KG_LICENCE = "CC BY-SA 4.0"
TASKS = (
    _bench(
        "tekgen",
        "ontology/text2kgbench_tekgen",
        f"{TEXT2KG_LICENCE}; TekGen CC BY-SA 2.0",
        _generator("tekgen", lambda kind: kind.label, lambda known: known.text),
        Published(14, "F1", 11219, 4062),
    ),
    _bench(
        "webnlg",
        "ontology/text2kgbench_dbpedia_webnlg",
        f"{TEXT2KG_LICENCE}; WebNLG CC BY-NC-SA 4.0",
        _generator("webnlg", lambda kind: kind.camel, lambda known: known.name.replace(" ", "_")),
        Published(15, "F1", 3415, 2014),
    ),
    _stated(
        "webnlg_original",
        WebnlgRow,
        "ontology/webnlg",
        "CC BY-NC-SA 4.0",
        "Gardent et al. 2017, Creating Training Corpora for NLG Micro-Planners",
    ),
    _stated(
        "dart", DartRow, "ontology/dart", "MIT", "Nan et al. 2021, DART: Open-Domain Structured Data Record to Text"
    ),
    _stated("e2e_nlg", E2eRow, "ontology/e2e_nlg", "CC BY-SA 4.0", "Novikova et al. 2017, The E2E Dataset"),
)
