"""Questions over knowledge graphs, to s-expressions, SPARQL and Cypher.

Each question comes with the vocabulary it needs and some that it does not: relations, classes, and what entities are called.
Generated problems have an invented ontology and a small random graph; one abstract `Query` is put into English and into each
notation, and answered here by going through sets, while the verifier runs the program. Cypher is not run.

Public sets: WebQSP (Yih et al. 2016), GrailQA (Gu et al. 2021) and ComplexWebQuestions (Talmor and Berant 2018) as released,
one object a line; of WebQSP the first parse, by its `SExpr` where there is one, else made of its chain and the entities it
asks for. LC-QuAD, QALD-9-plus (English) and TuGraph's examples (Chinese) beside them.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import Field

from symbol_llm.records import Problem
from symbol_llm.tasks import Published, Row, Task, read_rows

SEXPR = "Write the question as an s-expression: (JOIN relation set), (R relation) inverse, (AND set set), (ARGMAX set number), ARGMIN."
GRAIL = f"{SEXPR[:-1]}, (COUNT set), (ge number 5^^xsd:integer), gt, le, lt. State the class of the answer only: (AND class ...)."
SPARQL = "Write the question as SPARQL: SELECT DISTINCT. Put ns: before names of the vocabulary; no class triples."
DBPEDIA = "Write the question as SPARQL over DBpedia."
CYPHER = "Write the question as Cypher. Give every node its label; return distinct names unless other is asked for."
TUGRAPH = "Write the request as a Cypher query."
DISTRACTORS = 4

_DATA = yaml.safe_load(resources.files("symbol_llm.tasks").joinpath("kg.yaml").read_text(encoding="utf-8"))


# --- public sets ------------------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """What a row gives of a problem."""

    question: str
    program: str | None
    relations: Sequence[str] = ()
    classes: Sequence[str] = ()
    entities: Mapping[str, str] = {}
    """Names by identifier; "" where the source tells none."""
    context: str = ""


class KgRow(Row):
    """What rows share."""

    id: str

    def parts(self) -> Parts:
        """Return what the row gives."""
        raise NotImplementedError


class Node(Row):
    """A node of GrailQA's graph queries."""

    node_type: str
    id: str
    friendly_name: str


class Edge(Row):
    """An edge of GrailQA's graph queries."""

    relation: str


class Graph(Row):
    """A graph query of GrailQA."""

    nodes: list[Node]
    edges: list[Edge]


class GrailRow(KgRow):
    """A row of GrailQA."""

    question: str
    s_expression: str
    graph_query: Graph

    def parts(self) -> Parts:
        """Return what the row gives."""
        nodes = self.graph_query.nodes
        return Parts(
            self.question.strip(),
            self.s_expression,
            [edge.relation for edge in self.graph_query.edges],
            [node.id for node in nodes if node.node_type == "class"],
            {node.id: node.friendly_name for node in nodes if node.node_type == "entity"},
        )


class Constraint(Row):
    """A constraint of a parse of WebQSP."""

    Operator: str
    ArgumentType: str
    Argument: str
    EntityName: str | None = None
    SourceNodeIndex: int
    NodePredicate: str


class Parse(Row):
    """A parse of WebQSP."""

    TopicEntityMid: str | None
    TopicEntityName: str | None
    InferentialChain: list[str] | None
    Constraints: list[Constraint] = []
    SExpr: str | None = None

    def program(self) -> str | None:
        """Return the s-expression; None where a constraint is more than an entity to be linked to."""
        if self.SExpr is not None:
            return self.SExpr if self.SExpr.startswith("(") else None
        if not self.InferentialChain or any(
            (c.Operator, c.ArgumentType) != ("Equal", "Entity") for c in self.Constraints
        ):
            return None
        found = str(self.TopicEntityMid)
        for n, relation in enumerate(self.InferentialChain):
            found = f"(JOIN (R {relation}) {found})"
            for c in self.Constraints:
                if c.SourceNodeIndex == n:
                    found = f"(AND (JOIN {c.NodePredicate} {c.Argument}) {found})"
        return found


class WebRow(KgRow):
    """A question of WebQSP."""

    id: str = Field(validation_alias="QuestionId")
    ProcessedQuestion: str
    Parses: list[Parse] = Field(min_length=1)

    def parts(self) -> Parts:
        """Return what the first parse gives."""
        parse = self.Parses[0]
        program = parse.program()
        entities = {str(parse.TopicEntityMid): parse.TopicEntityName or ""} if parse.TopicEntityMid else {}
        entities |= {c.Argument: c.EntityName or "" for c in parse.Constraints if c.ArgumentType == "Entity"}
        named = [name for name in re.findall(r"[\w.]+\.[\w.]+", program or "") if not _is_entity(name)]
        return Parts(self.ProcessedQuestion.strip(), program, named, (), entities)


class ComplexRow(KgRow):
    """A row of ComplexWebQuestions."""

    id: str = Field(validation_alias="ID")
    question: str
    sparql: str

    def parts(self) -> Parts:
        """Return what the row gives; Virtuoso's OR is put as SPARQL has it."""
        query = re.sub(r"^#.*\n", "", self.sparql.strip(), flags=re.MULTILINE)
        query = re.sub(r"""("[^"\n]*"|'[^'\n]*')|\bOR\b""", lambda part: part[1] or "||", query)
        named = re.findall(r"\bns:([\w.]*\w)", query)
        entities = {name: "" for name in named if _is_entity(name)}
        return Parts(self.question.strip(), query, [name for name in named if name not in entities], (), entities)


class LcQuadRow(KgRow):
    """A row of LC-QuAD."""

    corrected_question: str
    sparql_query: str

    def parts(self) -> Parts:
        """Return what the row gives, with prefixes for DBpedia's namespaces."""
        query = " ".join(self.sparql_query.split())
        for prefix, place in _SPACES.items():
            query = re.sub(rf"<{re.escape(place)}(\w+)>", rf"{prefix}:\1", query)
        return Parts(self.corrected_question.strip(), query, _terms(query))


_SPACES = {
    "dbo": "http://dbpedia.org/ontology/", "dbp": "http://dbpedia.org/property/", "dbr": "http://dbpedia.org/resource/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
}  # fmt: skip


class Text(Row):
    """A question in one language."""

    language: str
    string: str


class Query9(Row):
    """A query of QALD."""

    sparql: str


class QaldRow(KgRow):
    """A row of QALD-9-plus."""

    question: list[Text]
    query: Query9

    def parts(self) -> Parts:
        """Return what the row gives, in English where it has that."""
        texts = sorted(self.question, key=lambda text: text.language != "en")
        query = self.query.sparql.strip()
        return Parts(texts[0].string.strip(), query, _terms(query))


class TuGraphRow(KgRow):
    """An example of TuGraph."""

    instruction: str
    input: str
    output: str

    def parts(self) -> Parts:
        """Return what the row gives; its schema stands at the end of its instruction."""
        return Parts(
            self.input.strip(), self.output.strip(), context=self.instruction.rpartition("##Instruction:")[2].strip()
        )


def _terms(query: str) -> list[str]:
    """Return what a query over DBpedia names, but for what RDF itself defines."""
    named = re.findall(r"<[^<>\s]+>|\b\w+:\w+", re.sub(r"PREFIX\s+\S+\s+<[^>]*>", "", query, flags=re.IGNORECASE))
    return [term for term in named if not term.startswith(("rdf:", "rdfs:", "xsd:", "<http://www.w3.org/"))]


def _is_entity(name: str) -> bool:
    return re.match(r"[mg]\.", name) is not None


def _read(task: Task, kind: type[KgRow], folder: Path) -> Iterator[Problem]:
    rows = [(split, row.id, row.parts()) for split, row in read_rows(folder, kind)]
    known: dict[str, set[str]] = defaultdict(set)
    for _, _, parts in rows:
        for name in parts.relations:
            if not name.startswith(("dbr:", "res:", "<")):
                known[_space(name)].add(name)
    for split, id_, parts in rows:
        near = sorted(set().union(*(known[_space(name)] for name in parts.relations)) - set(parts.relations))
        others = random.Random(id_).sample(near, min(DISTRACTORS, len(near)))
        relations, classes = sorted({*parts.relations, *others}), sorted(set(parts.classes))
        freebase = task.family == "sexpr" or kind is ComplexRow
        yield Problem.of(
            task=task.name,
            family=task.family,
            split="test" if task.evaluation_only else split,
            instruction=task.instruction,
            context=parts.context
            or _vocabulary(relations, classes, parts.entities, "Relations" if freebase else "Terms"),
            question=parts.question,
            program=parts.program,
            symbols=tuple(dict.fromkeys([*relations, *classes])) if freebase else (),
            source=f"{task.name} {id_}",
            licence=task.licence,
        )


def _space(name: str) -> str:
    """Return what names of one kind begin with."""
    return re.split(r"[.:]", name)[0]


def _vocabulary(
    relations: Iterable[str], classes: Iterable[str], entities: Mapping[str, str], kind: str = "Relations"
) -> str:
    lines = {kind: relations, "Classes": classes}
    lines["Entities"] = [f"{id_} = {name}" if name else id_ for id_, name in sorted(entities.items())]
    return "\n".join(f"{what}: {', '.join(names)}" for what, names in lines.items() if names)


# --- an invented graph ------------------------------------------------------------------------------------------------


class Link(NamedTuple):
    """A relation between two classes, and how it is said."""

    name: str
    subject: str
    object: str
    objects: str
    """What the things linked to are: "makers" of a film."""
    to: Sequence[str]
    """What subjects do to objects."""
    back: Sequence[str]
    """What objects do to subjects."""


class World(NamedTuple):
    """A theme's classes, relations and measures, with things in them."""

    theme: str
    plural: Mapping[str, str]
    links: Sequence[Link]
    measures: Mapping[str, tuple[str, str]]
    """By identifier: the class it is of, and its name."""
    things: Mapping[str, Sequence[str]]
    """By class."""
    names: Mapping[str, str]
    pairs: Mapping[str, frozenset[tuple[str, str]]]
    """By relation, (subject, object)."""
    values: Mapping[str, Mapping[str, int]]
    """By measure and thing; all different."""


def world(rng: random.Random) -> World:
    """Return a theme with some six things a class, linked at random."""
    theme, data = rng.choice(list(_DATA["themes"].items()))
    names: dict[str, str] = {}
    things: dict[str, list[str]] = {}
    for class_, (_, _, kind) in data["classes"].items():
        things[class_] = []
        for _ in range(rng.randint(5, 7)):
            id_ = f"m.0{''.join(rng.choices('bcdfghjklmnpqrstvwxyz0123456789', k=rng.randint(3, 5)))}"
            name = _name(rng, kind)
            if id_ not in names and name not in names.values():
                names[id_] = name
                things[class_].append(id_)
    links = [Link(*row[:4], *(said.split("|") for said in row[4:])) for row in data["links"]]
    pairs = {
        link.name: frozenset(
            (s, o) for s in things[link.subject] for o in rng.sample(things[link.object], rng.randint(1, 2)) if s != o
        )
        for link in links
    }
    values = {
        name: dict(zip(things[class_], rng.sample(range(1, 400), len(things[class_])), strict=True))
        for name, class_, _ in data["numbers"]
    }
    plural = {class_: many for class_, (_, many, _) in data["classes"].items()}
    measures = {name: (class_, said) for name, class_, said in data["numbers"]}
    return World(theme, plural, links, measures, things, names, pairs, values)


_NAMES: Mapping[str, list[list[str]]] = {
    kind: [words.split() for words in parts] for kind, parts in _DATA["names"].items()
}


def _name(rng: random.Random, kind: str) -> str:
    first, second = (rng.choice(words) for words in _NAMES[kind])
    if kind == "topic":
        return f"{first}{second}".capitalize()
    return f"{first} {second}".title()


# --- abstract queries -------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """That x is linked to something: x stands before the relation, or after it if `back`."""

    link: Link
    back: bool
    target: Found | str
    """An entity, or what is found by further conditions."""


class Bound(NamedTuple):
    """That a measure of x is as `sign` says."""

    measure: str
    sign: Literal["ge", "gt", "le", "lt"]
    number: int


class Found(NamedTuple):
    """The things of a class that meet all conditions."""

    class_: str
    conditions: tuple[Step | Bound, ...]


class Query(NamedTuple):
    """What is asked of the things found: all, how many, which has the most or least of a measure, or its mean (in Cypher only)."""

    found: Found
    mode: Literal["list", "count", "most", "least", "mean"] = "list"
    measure: str = ""


SIGNS = {"ge": ("at least", ">="), "gt": ("more than", ">"), "le": ("at most", "<="), "lt": ("less than", "<")}


def things(w: World, found: Found) -> set[str]:
    """Return the things that `found` describes."""
    left = set(w.things[found.class_])
    for one in found.conditions:
        left &= _holding(w, one)
    return left


def _holding(w: World, one: Step | Bound) -> set[str]:
    if isinstance(one, Bound):
        holds: Callable[[int], bool] = {
            "ge": one.number.__le__, "gt": one.number.__lt__, "le": one.number.__ge__, "lt": one.number.__gt__
        }[one.sign]  # fmt: skip
        return {thing for thing, value in w.values[one.measure].items() if holds(value)}
    targets = {one.target} if isinstance(one.target, str) else things(w, one.target)
    pairs = w.pairs[one.link.name]
    return {o for s, o in pairs if s in targets} if one.back else {s for s, o in pairs if o in targets}


def answer(w: World, query: Query) -> list[Any]:
    """Return what the query asks for."""
    found = things(w, query.found)
    if query.mode == "count":
        return [len(found)]
    if query.mode == "list":
        return sorted(found)
    return [(max if query.mode == "most" else min)(found, key=w.values[query.measure].__getitem__)]


def draw(
    rng: random.Random, w: World, sizes: Sequence[int], bounds: int = 0, class_: str | None = None
) -> Found | None:
    """Return a description that some thing meets, None if none was found: `sizes` steps, each that deep, and `bounds`."""
    classes = [class_] if class_ else sorted({of for of, _ in w.measures.values()} if bounds else w.things)
    for _ in range(20):
        found = _about(rng, w, rng.choice(w.things[rng.choice(classes)]), sizes, bounds, ())
        if found:
            return found
    return None


def _about(
    rng: random.Random, w: World, x: str, sizes: Sequence[int], bounds: int, used: tuple[str, ...]
) -> Found | None:
    class_ = next(class_ for class_, all_ in w.things.items() if x in all_)
    ways = [(link, back, y) for link in w.links for back in (False, True) for y in _linked(w, link, x, back)]
    rng.shuffle(ways)
    conditions: list[Step | Bound] = []
    for size in sizes:
        for link, back, y in ways:
            inner = _about(rng, w, y, (size - 1,), 0, (*used, link.name)) if size and link.name not in used else None
            if link.name not in used and (inner or not size):
                conditions.append(Step(link, back, inner or y))
                used = (*used, link.name)
                break
        else:
            return None
    for measure in [measure for measure, (of, _) in w.measures.items() if of == class_][:bounds]:
        sign: Any = rng.choice(list(SIGNS))
        just = w.values[measure][x] + {"ge": 0, "gt": -1, "le": 0, "lt": 1}[sign]  # so that one more or less tells
        conditions.append(Bound(measure, sign, just))
    rng.shuffle(conditions)
    return Found(class_, tuple(conditions))


def _linked(w: World, link: Link, x: str, back: bool) -> list[str]:
    return sorted(s if back else o for s, o in w.pairs[link.name] if x == (o if back else s))


# --- English ----------------------------------------------------------------------------------------------------------

WHICH: Sequence[str] = _DATA["which"]
OF: Sequence[str] = _DATA["of"]
ASK: Mapping[str, Sequence[str]] = _DATA["ask"]
VALUE: Sequence[str] = _DATA["value"]


def english(rng: random.Random, w: World, query: Query) -> str:
    """Return a question."""
    found = query.found
    said, many = _conditions(rng, w, found), w.plural[found.class_]
    if query.mode != "list":
        return rng.choice(ASK[query.mode]).format(many, said, query.measure and w.measures[query.measure][1])
    match found.conditions:
        case (Step(link, True, target),) if rng.random() < 0.5:
            return rng.choice(OF).format(link.objects, _target(rng, w, target))
    return rng.choice(WHICH if ", and that " not in said else WHICH[1:]).format(many, said)


def _conditions(rng: random.Random, w: World, found: Found) -> str:
    """Return what `found` says of its things, nested conditions last, lest what follows be taken for a part of them."""
    said = []
    for one in sorted(found.conditions, key=_is_nested):
        if isinstance(one, Bound):
            said.append(f"have a {w.measures[one.measure][1]} of {SIGNS[one.sign][0]} {one.number}")
        else:
            said.append(f"{rng.choice(one.link.back if one.back else one.link.to)} {_target(rng, w, one.target)}")
    return (", and that " if sum(map(_is_nested, found.conditions)) > 1 else " and ").join(said)


def _is_nested(one: Step | Bound) -> bool:
    return isinstance(one, Step) and isinstance(one.target, Found)


def _target(rng: random.Random, w: World, target: Found | str) -> str:
    return (
        w.names[target] if isinstance(target, str) else f"{w.plural[target.class_]} that {_conditions(rng, w, target)}"
    )


# --- notations --------------------------------------------------------------------------------------------------------


def sexpr(w: World, query: Query, *, classes: bool) -> str:
    """Return the s-expression, with the class of what is found if `classes`."""
    text = _sexpr(query.found)
    text = f"(AND {w.theme}.{query.found.class_} {text})" if classes else text
    match query.mode:
        case "count":
            return f"(COUNT {text})"
        case "most" | "least":
            return f"({'ARGMAX' if query.mode == 'most' else 'ARGMIN'} {text} {query.measure})"
    return text


def _sexpr(found: Found) -> str:
    text = ""
    for one in reversed(found.conditions):
        if isinstance(one, Bound):
            part = f"({one.sign} {one.measure} {one.number}^^xsd:integer)"
        else:
            target = one.target if isinstance(one.target, str) else _sexpr(one.target)
            part = f"(JOIN {f'(R {one.link.name})' if one.back else one.link.name} {target})"
        text = f"(AND {part} {text})" if text else part
    return text


def sparql(query: Query) -> str:
    """Return the SPARQL query."""
    lines, filters = list[str](), list[str]()
    _triples(query.found, "?x", lines, filters, iter("yzuvwabcdefgh"))
    end = ""
    if query.mode in ("most", "least"):
        lines.append(f"?x ns:{query.measure} ?n .")
        end = f" ORDER BY {'DESC' if query.mode == 'most' else 'ASC'}(?n) LIMIT 1"
    return f"SELECT DISTINCT ?x WHERE {{ {' '.join([*lines, *filters])} }}{end}"


def _triples(found: Found, x: str, lines: list[str], filters: list[str], fresh: Iterator[str]) -> None:
    for one in found.conditions:
        y = f"?{next(fresh)}" if isinstance(one, Bound) or isinstance(one.target, Found) else f"ns:{one.target}"
        if isinstance(one, Bound):
            lines.append(f"{x} ns:{one.measure} {y} .")
            filters.append(f"FILTER({y} {SIGNS[one.sign][1]} {one.number})")
            continue
        lines.append(f"{y} ns:{one.link.name} {x} ." if one.back else f"{x} ns:{one.link.name} {y} .")
        if isinstance(one.target, Found):
            _triples(one.target, y, lines, filters, fresh)


def cypher(w: World, query: Query) -> str:
    """Return the Cypher query."""
    patterns, filters = list[str](), list[str]()
    _patterns(w, query.found, "x", patterns, filters, iter("yzuvwabcdefgh"))
    where = f" WHERE {' AND '.join(filters)}" if filters else ""
    start = f"MATCH {', '.join(patterns)}{where} RETURN "
    match query.mode:
        case "count":
            return f"{start}count(DISTINCT x)"
        case "mean":
            return f"{start}avg(x.{_last(query.measure)})"
        case "most" | "least":
            order = "DESC" if query.mode == "most" else "ASC"
            return f"{start}x.name ORDER BY x.{_last(query.measure)} {order} LIMIT 1"
    return f"{start}DISTINCT x.name"


def _patterns(w: World, found: Found, x: str, patterns: list[str], filters: list[str], fresh: Iterator[str]) -> None:
    near = f"({x}:{_label(found.class_)})"
    if not any(isinstance(one, Step) for one in found.conditions):
        patterns.append(near)
    for one in found.conditions:
        if isinstance(one, Bound):
            filters.append(f"{x}.{_last(one.measure)} {SIGNS[one.sign][1]} {one.number}")
            continue
        of = _label(one.link.subject if one.back else one.link.object)
        y = next(fresh) if isinstance(one.target, Found) else ""
        far = f"({y}:{of})" if y else f"(:{of} {{name: '{w.names[str(one.target)]}'}})"
        edge = f"-[:{_last(one.link.name).upper()}]-"
        patterns.append(f"{near}<{edge}{far}" if one.back else f"{near}{edge}>{far}")
        near = f"({x})"
        if isinstance(one.target, Found):
            inner = list[str]()
            _patterns(w, one.target, y, inner, filters, fresh)
            patterns += [pattern.replace(f"({y}:{of})", f"({y})", 1) for pattern in inner]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _label(class_: str) -> str:
    return class_.capitalize()


# --- generators -------------------------------------------------------------------------------------------------------

Shape = tuple[tuple[int, ...], int, str]
"""Steps with their depths, number of bounds, mode; "best" is most or least."""
_ONE, _TWO, _NEST, _BOUND = ((0,), 0, "list"), ((0, 0), 0, "list"), ((1,), 0, "list"), ((0,), 1, "list")
_HARD = (((1, 0), 0, "list"), ((2,), 0, "list"), ((1, 1), 0, "list"))
_HARDER = (((1,), 0, "best"), ((0, 0), 1, "list"), ((1,), 1, "list"), ((1, 0), 0, "best"), ((2, 0), 0, "list"))
_COUNTS = (((1,), 0, "count"), ((1,), 1, "count"), ((0, 0), 1, "count"))
SHAPES: Mapping[str, Mapping[int, Sequence[Shape]]] = {
    "webqsp": {1: (_ONE,), 2: (_TWO, _NEST), 3: (*_HARD, ((1,), 0, "best"), ((0, 0), 0, "best"))},
    "grailqa": {
        1: (_ONE,),
        2: (_TWO, _NEST, _BOUND, ((0,), 0, "count"), ((0,), 0, "best")),
        3: (*_HARD, *_HARDER, *_COUNTS),
    },
    "compwebq": {1: (_ONE,), 2: (_TWO, _NEST, _BOUND), 3: (*_HARD, *_HARDER)},
    "graph_questions": {
        1: (_ONE,),
        2: (_TWO, _NEST, _BOUND, ((0,), 0, "count"), ((0,), 0, "mean")),
        3: (*_HARD, *_HARDER, *_COUNTS, ((0, 0), 0, "mean"), ((1,), 0, "mean")),
    },
}


def _draw_query(rng: random.Random, name: str, level: int) -> tuple[World, Query]:
    """Return a question of one of the level's shapes, and the world it is about."""
    while True:
        w = world(rng)
        sizes, bounds, mode = rng.choice(SHAPES[name][level])
        measure = rng.choice(list(w.measures)) if mode in ("best", "mean") else ""
        found = draw(rng, w, sizes, bounds, class_=w.measures[measure][0] if measure else None)
        chosen: Any = rng.choice(("most", "least")) if mode == "best" else mode
        if found:
            return w, Query(found, chosen, measure)


def _names_in(found: Found) -> tuple[set[str], set[str]]:
    """Return the relations and measures, and the entities, that a description has."""
    names, entities = set[str](), set[str]()
    for one in found.conditions:
        if isinstance(one, Bound):
            names.add(one.measure)
            continue
        names.add(one.link.name)
        if isinstance(one.target, str):
            entities.add(one.target)
        else:
            inner = _names_in(one.target)
            names |= inner[0]
            entities |= inner[1]
    return names, entities


def _shown(rng: random.Random, w: World, query: Query, level: int, *, classes: bool) -> tuple[str, list[str]]:
    """Return the vocabulary, and its names: those of the query and some others, all of the theme from level 2."""
    used, entities = _names_in(query.found)
    used |= {query.measure} - {""}
    signatures = {link.name: f"({link.subject}, {link.object})" for link in w.links}
    signatures |= {measure: f"({class_}, number)" for measure, (class_, _) in w.measures.items()}
    rest = [name for name in signatures if name not in used]
    names = sorted({*used, *rng.sample(rest, 2 if level == 1 else len(rest))})
    others = rng.sample(list(w.names), level)
    kinds = sorted(f"{w.theme}.{class_}" for class_ in w.things) if classes else []
    told = {id_: w.names[id_] for id_ in {*entities, *others}}
    return _vocabulary([f"{name} {signatures[name]}" for name in names], kinds, told), [*names, *kinds]


def _triples_of(w: World, *, turtle: bool) -> list[list[Any]]:
    """Return the graph as `sexpr` takes it, or as `sparql` does."""
    prefix = "ns:" if turtle else ""
    graph: list[list[Any]] = [
        [prefix + s, prefix + name, prefix + o] for name, all_ in w.pairs.items() for s, o in sorted(all_)
    ]
    for name, values in w.values.items():
        graph += [[prefix + thing, prefix + name, str(value) if turtle else value] for thing, value in values.items()]
    if not turtle:
        graph += [
            [thing, "type.object.type", f"{w.theme}.{class_}"] for class_, all_ in w.things.items() for thing in all_
        ]
    return graph


def _generated(task: str, family: str, instruction: str, **fields: Any) -> Problem:
    return Problem.of(
        task=task,
        family=family,
        instruction=instruction,
        split="train",
        source="generated",
        licence="Apache-2.0",
        **fields,
    )


def _generate_on_graph(name: str, family: str, instruction: str, rng: random.Random, level: int) -> Problem:
    w, query = _draw_query(rng, name, level)
    context, symbols = _shown(rng, w, query, level, classes=name == "grailqa")
    return _generated(
        name,
        family,
        instruction,
        context=context,
        question=english(rng, w, query),
        answer=answer(w, query),
        program=sparql(query) if family == "sparql" else sexpr(w, query, classes=name == "grailqa"),
        environment={"graph": _triples_of(w, turtle=family == "sparql")},
        symbols=tuple(symbols),
    )


def _generate_cypher(rng: random.Random, level: int) -> Problem:
    w, query = _draw_query(rng, "graph_questions", level)
    if level == 1 and rng.random() < 0.4:
        measure = rng.choice(list(w.measures))
        class_, said = w.measures[measure]
        name = w.names[rng.choice(w.things[class_])]
        question = rng.choice(VALUE).format(said, name)
        program = f"MATCH (x:{_label(class_)} {{name: '{name}'}}) RETURN x.{_last(measure)}"
    else:
        question, program = english(rng, w, query), cypher(w, query)
    context, symbols = _schema(w)
    return _generated(
        "graph_questions", "cypher", CYPHER, context=context, question=question, program=program, symbols=tuple(symbols)
    )


def _schema(w: World) -> tuple[str, list[str]]:
    """Return nodes with their properties, edges, and the names of both."""
    owned: dict[str, list[str]] = {class_: ["name"] for class_ in w.things}
    for measure, (class_, _) in w.measures.items():
        owned[class_].append(_last(measure))
    nodes = " ".join(f"(:{_label(class_)} {{{', '.join(own)}}})" for class_, own in owned.items())
    edges = " ".join(f"(:{_label(e.subject)})-[:{_last(e.name).upper()}]->(:{_label(e.object)})" for e in w.links)
    names = [*map(_label, owned), *(_last(e.name).upper() for e in w.links), *map(_last, w.measures)]
    return f"Nodes: {nodes}\nEdges: {edges}", names


# --- tasks ------------------------------------------------------------------------------------------------------------

_SHOTS: Mapping[str, Sequence[tuple[str, str, str]]] = _DATA["shots"]


def _public(
    name: str, family: str, kind: type[KgRow], instruction: str, licence: str, citation: str, *,
    shots: str = "", generate: Any = None, published: Published | None = None, evaluation_only: bool = False,
) -> Task:  # fmt: skip
    def read(folder: Path) -> Iterator[Problem]:
        return _read(task, kind, folder)

    task = Task(
        name, family, instruction, tuple(_SHOTS[shots or name]), licence, citation, folder=f"kg/{name}", read=read,
        generate=generate, published=published, evaluation_only=evaluation_only,
    )  # fmt: skip
    return task


def _maker(name: str, family: str, instruction: str) -> Callable[[random.Random, int], Problem]:
    return lambda rng, level: _generate_on_graph(name, family, instruction, rng, level)


TASKS = (
    _public(
        "webqsp", "sexpr", WebRow, SEXPR, "MSR terms, non-commercial", "Yih et al. 2016, WebQSP",
        generate=_maker("webqsp", "sexpr", SEXPR), published=Published(8, "F1", 3098, 1639),
    ),
    _public(
        "grailqa", "sexpr", GrailRow, GRAIL, "CC BY-SA 4.0", "Gu et al. 2021, GrailQA",
        generate=_maker("grailqa", "sexpr", GRAIL), published=Published(9, "EM", 44337, 6463),
    ),
    _public(
        "compwebq", "sparql", ComplexRow, SPARQL, "not stated", "Talmor and Berant 2018, ComplexWebQuestions",
        generate=_maker("compwebq", "sparql", SPARQL), published=Published(10, "EM", 27639, 2816),
    ),
    _public("lc_quad", "sparql", LcQuadRow, DBPEDIA, "GPL-3.0", "Trivedi et al. 2017, LC-QuAD", shots="dbpedia"),
    _public(
        "qald9_plus", "sparql", QaldRow, DBPEDIA, "CC BY 4.0", "Perevalov et al. 2022, QALD-9-plus", shots="dbpedia",
        evaluation_only=True,
    ),
    _public("tugraph_cypher", "cypher", TuGraphRow, TUGRAPH, "MIT", "DB-GPT-Hub, TuGraph examples", shots="graph_questions"),
    Task(
        "graph_questions", "cypher", CYPHER, tuple(_SHOTS["graph_questions"]), "Apache-2.0", "written for this project",
        generate=_generate_cypher,
    ),
)  # fmt: skip
