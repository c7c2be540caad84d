"""Questions over knowledge graphs, to s-expressions, SPARQL and Cypher.

Each question comes with the vocabulary it needs and some that it does not: relations, classes, and names of entities.
Generated problems are about the invented graphs of `knowledge_graphs.py`, which answers them by set operations, while
the verifier runs the program. Cypher is not run.

Public sets: WebQSP (Yih et al. 2016), GrailQA (Gu et al. 2021) and ComplexWebQuestions (Talmor and Berant 2018) as
released, one object per line; of WebQSP the first parse, from its `SExpr` if there is one, else from its chain and the
entities it requires. Also LC-QuAD, QALD-9-plus (English) and TuGraph's examples (Chinese).
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import Field

from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Published, Row, Task, read_rows
from symbol_llm.tasks.kg.knowledge_graphs import (
    Bound,
    Found,
    Query,
    World,
    answer,
    cypher,
    draw,
    english,
    label,
    last_part,
    sexpr,
    sparql,
    world,
)

SEXPR = "Write the question as an s-expression: (JOIN relation set), (R relation) inverse, (AND set set), (ARGMAX set number), ARGMIN."
GRAIL = f"{SEXPR[:-1]}, (COUNT set), (ge number 5^^xsd:integer), gt, le, lt. State the class of the answer only: (AND class ...)."
SPARQL = "Write the question as SPARQL: SELECT DISTINCT. Put ns: before names of the vocabulary; no class triples."
DBPEDIA = "Write the question as SPARQL over DBpedia."
CYPHER = "Write the question as Cypher. Give every node its label; return distinct names unless other is asked for."
TUGRAPH = "Write the request as a Cypher query."
DISTRACTORS = 4

_DATA = yaml.safe_load(resources.files("symbol_llm.tasks.kg").joinpath("kg.yaml").read_text(encoding="utf-8"))


# --- public sets ------------------------------------------------------------------------------------------------------


class Parts(NamedTuple):
    """The parts of a problem that a row has."""

    question: str
    program: str | None
    relations: Sequence[str] = ()
    classes: Sequence[str] = ()
    entities: Mapping[str, str] = {}
    """Names by identifier; "" if the source gives none."""
    context: str = ""


class KgRow(Row):
    """The shared fields of rows."""

    id: str

    def parts(self) -> Parts:
        """Return the parts of a problem that the row has."""
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
        """Return the parts of a problem that the row has."""
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
        """Return the s-expression; None if a constraint is more than a link to an entity."""
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
        """Return the parts that the first parse has."""
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
        """Return the parts that the row has, with Virtuoso's OR rewritten in standard SPARQL."""
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
        """Return the parts that the row has, with prefixes for DBpedia's namespaces."""
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
        """Return the parts that the row has, in English if available."""
        texts = sorted(self.question, key=lambda text: text.language != "en")
        query = self.query.sparql.strip()
        return Parts(texts[0].string.strip(), query, _terms(query))


class TuGraphRow(KgRow):
    """An example of TuGraph."""

    instruction: str
    input: str
    output: str

    def parts(self) -> Parts:
        """Return the parts that the row has; its schema is at the end of its instruction."""
        return Parts(
            self.input.strip(), self.output.strip(), context=self.instruction.rpartition("##Instruction:")[2].strip()
        )


def _terms(query: str) -> list[str]:
    """Return the terms that a query over DBpedia names, except those of RDF itself."""
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
    """Return the prefix of names of the same kind."""
    return re.split(r"[.:]", name)[0]


def _vocabulary(
    relations: Iterable[str], classes: Iterable[str], entities: Mapping[str, str], kind: str = "Relations"
) -> str:
    lines = {kind: relations, "Classes": classes}
    lines["Entities"] = [f"{id_} = {name}" if name else id_ for id_, name in sorted(entities.items())]
    return "\n".join(f"{what}: {', '.join(names)}" for what, names in lines.items() if names)


VALUE: Sequence[str] = _DATA["value"]


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
    """Return the world and a question about it of one of the level's shapes."""
    while True:
        w = world(rng)
        sizes, bounds, mode = rng.choice(SHAPES[name][level])
        measure = rng.choice(list(w.measures)) if mode in ("best", "mean") else ""
        found = draw(rng, w, sizes, bounds, class_=w.measures[measure][0] if measure else None)
        chosen: Any = rng.choice(("most", "least")) if mode == "best" else mode
        if found:
            return w, Query(found, chosen, measure)


def _names_in(found: Found) -> tuple[set[str], set[str]]:
    """Return the relations and measures of a description, and its entities."""
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
    """Return the graph in the format of `sexpr` or, if `turtle`, of `sparql`."""
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
        program = f"MATCH (x:{label(class_)} {{name: '{name}'}}) RETURN x.{last_part(measure)}"
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
        owned[class_].append(last_part(measure))
    nodes = " ".join(f"(:{label(class_)} {{{', '.join(own)}}})" for class_, own in owned.items())
    edges = " ".join(f"(:{label(e.subject)})-[:{last_part(e.name).upper()}]->(:{label(e.object)})" for e in w.links)
    names = [*map(label, owned), *(last_part(e.name).upper() for e in w.links), *map(last_part, w.measures)]
    return f"Nodes: {nodes}\nEdges: {edges}", names


# --- tasks ------------------------------------------------------------------------------------------------------------

_SHOTS: Mapping[str, Sequence[tuple[str, str, str]]] = _DATA["shots"]


def _public(
    name: str, family: str, kind: type[KgRow], instruction: str, licence: str, citation: str, *,
    shots: str = "", generate: Any = None, published: Published | None = None, evaluation_only: bool = False,
    language: str = "en",
) -> Task:  # fmt: skip
    def read(folder: Path) -> Iterator[Problem]:
        return _read(task, kind, folder)

    task = Task(
        name, family, instruction, tuple(_SHOTS[shots or name]), licence, citation, folder=f"kg/{name}", read=read,
        generate=generate, published=published, evaluation_only=evaluation_only,
        language=language,
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
    _public(
        "tugraph_cypher", "cypher", TuGraphRow, TUGRAPH, "MIT", "DB-GPT-Hub, TuGraph examples", shots="graph_questions",
        language="zh",
    ),
    Task(
        "graph_questions", "cypher", CYPHER, tuple(_SHOTS["graph_questions"]), "Apache-2.0", "written for this project",
        generate=_generate_cypher,
    ),
)  # fmt: skip
