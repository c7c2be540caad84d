"""Abstract Meaning Representation (AMR) graphs in PENMAN notation. Equal means: the same graph up to variable names.

    (w / want-01
       :ARG0 (b / boy)
       :ARG1 (g / go-02 :polarity -
          :ARG0 b))

Inverse roles are normalized (`:ARG0-of`; `:domain` is the inverse of `:mod`); order, alignments (`~e.3`) and comments
do not count. As in Smatch, letter case and quotes do not count either, but the choice of the top variable does.

A graph that is not gold's scores its Smatch F1 (Cai and Knight 2013): shared triples under the best pairing of
variables, the top counted as one triple. `environment["threshold"]` (1.0) is the F1 from which a graph is accepted.
The pairing is found by its authors' package `smatch`, in a sandbox child that is stopped at the time limit: two graphs
of 100 variables take some 4 s. It is hill climbing, here from fixed starting points, so the F1 is a lower bound.

Missed: equal graphs so regular that neither colour refinement nor hill climbing can pair them; no AMR comes close.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Collection, Iterator, Mapping
from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple

import penman  # type: ignore[import-untyped]
import smatch  # type: ignore[import-untyped]
from penman.models.amr import model as AMR  # type: ignore[import-untyped]
from pydantic import Field

from symbol_llm.families import Example, Needs, Ran, Result, needs, read_gold
from symbol_llm.ground.errors import LimitExceeded, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import refinement, replies
from symbol_llm.sandbox import executor

VERSION = 3
METRIC = "Smatch F1"

MAX_DEPTH = 100
MAX_VARIABLES = 200
Triple = tuple[str, str, str]

logging.getLogger("penman").setLevel(logging.ERROR)  # it warns of faults that are refused below


class Graph(NamedTuple):
    """A parsed program: no inverse role, all in lower case, no quotes."""

    top: str
    concepts: Mapping[str, str]
    """By variable."""
    attributes: frozenset[Triple]
    """(variable, role, constant)."""
    relations: frozenset[Triple]
    """(variable, role, variable)."""


class Environment(Needs):
    """What judging needs besides program and gold."""

    threshold: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0
    """Smatch F1 from which a graph is accepted."""


def canonical(program: str) -> str:
    """Return the graph on one line, with variables v1, v2 ... and roles in an order independent of the old names."""
    return _print(_parse(program))


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form."""
    return Ran(canonical(program))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the graph is that of `problem.program` or its Smatch F1 reaches the threshold, else the F1."""
    threshold = needs(problem, Environment).threshold
    gold = read_gold(problem, _parse)
    graph = _parse(program)
    f1, isolation = (1.0, "none") if _print(graph) == _print(gold) else _smatch(graph, gold, limits)
    return Result(1.0 if f1 >= threshold else f1, f"Smatch {f1:.4f}", isolation, measure=f1)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one concept, role, constant, direction or the top changed, or one leaf removed."""
    graph = _parse(program)
    changed = list(_changes(graph))
    rng.shuffle(changed)
    for mutant in changed:
        if _print(mutant) != _print(graph):
            yield _print(mutant)


def _changes(graph: Graph) -> Iterator[Graph]:
    for variable, concept in graph.concepts.items():
        yield graph._replace(concepts={**graph.concepts, variable: _another(concept)})
        yield graph._replace(top=variable)
        if variable != graph.top and sum(variable in (s, t) for s, _, t in graph.relations) == 1:
            yield Graph(
                graph.top,
                {v: c for v, c in graph.concepts.items() if v != variable},
                frozenset(triple for triple in graph.attributes if triple[0] != variable),
                frozenset(triple for triple in graph.relations if variable not in (triple[0], triple[2])),
            )
    for triple in sorted(graph.attributes):
        variable, role, constant = triple
        rest = graph.attributes - {triple}
        yield graph._replace(attributes=rest)
        yield graph._replace(attributes=rest | {(variable, role, _another(constant))})
    for triple in sorted(graph.relations):
        source, role, target = triple
        others = graph.relations - {triple}
        yield graph._replace(relations=others | {(source, _another_role(role), target)})
        yield graph._replace(relations=others | {(target, role, source)})


def _another(name: str) -> str:
    frame = re.fullmatch(r"(.*-)(\d\d)", name)
    if frame:
        return f"{frame[1]}{(int(frame[2]) + 1) % 100:02}"
    return str(int(name) + 1) if re.fullmatch(r"[0-9]{1,18}", name) else f"{name}-01"


def _another_role(role: str) -> str:
    numbered = re.fullmatch(r"(:[a-z]+)([0-9])", role)
    return f"{numbered[1]}{(int(numbered[2]) + 1) % 5}" if numbered else ":topic" if role == ":poss" else ":poss"


# --- parsing ----------------------------------------------------------------------------------------------------------


def _parse(program: str) -> Graph:
    tree = _tree(program)
    graph = penman.interpret(tree, model=AMR)
    concepts: dict[str, str] = {}
    for variable, _, concept in graph.instances():
        if concept is None:
            raise Unparsable(f"{_quote(variable)} has no concept; expected (variable / concept ...)")
        if concepts.setdefault(variable, _constant(concept)) != _constant(concept):
            raise Unparsable(f"{_quote(variable)} has two concepts, {concepts[variable]!r} and {_constant(concept)!r}")
    if len(concepts) > MAX_VARIABLES:
        raise LimitExceeded(f"the graph has {len(concepts)} variables; at most {MAX_VARIABLES} are compared")
    attributes, relations = set(), set()
    for triple in graph.triples:
        source, role, target = _upright(triple, concepts)
        if role == ":":
            raise Unparsable(f"a role of {_quote(source)} has no name")
        if target is None:
            raise Unparsable(f"{_quote(role)} of {_quote(source)} has no target")
        if role == ":instance":
            continue
        if target not in concepts:
            attributes.add((source, role, _constant(target)))
        elif role == ":mod":
            relations.add((target, ":domain", source))
        else:
            relations.add((source, role, target))
    return Graph(str(graph.top), concepts, frozenset(attributes), frozenset(relations))


def _upright(triple: Any, concepts: Collection[str]) -> Any:
    """Return `triple` in lower case, with inverse roles reversed that penman does not see: `-OF`, `-of-of`."""
    source, role, target = triple
    role = role.lower()
    while target in concepts and AMR.is_role_inverted(role):
        source, role, target = target, AMR.invert_role(role), source
    return source, role, target


def _tree(program: str) -> penman.Tree:
    n_lines = len(program.splitlines())
    try:
        # penman stops at the end of a graph and ignores the rest, so check whether there is any.
        trees = list(penman.iterparse(f"{program}\n(end / end)"))
    except penman.DecodeError as e:
        line, column = e.lineno or 0, e.offset or 0
        if line > n_lines:
            raise Unparsable(f"line {n_lines}: the text ends before its brackets are closed") from e
        message, found = str(e.message)[:80], (e.text or "")[column : column + 20]
        raise Unparsable(f"line {line}, column {column + 1}: {message}, got {found!r}") from e
    except RecursionError as e:
        raise Unparsable(f"nested more than {MAX_DEPTH} levels") from e
    if len(trees) != 2:
        raise Unparsable("expected one graph, (variable / concept ...), and nothing else but comments")
    level = [trees[0].node]
    for _ in range(MAX_DEPTH):
        level = [target for _, branches in level for _, target in branches if isinstance(target, tuple)]
        if not level:
            return trees[0]
    raise Unparsable(f"nested more than {MAX_DEPTH} levels")


def _constant(text: str) -> str:
    """Return `text` as written inside quotes, in lower case."""
    return (text[1:-1] if text.startswith('"') else text.replace("\\", "\\\\")).lower()


def _quote(text: Any) -> str:
    return repr(text)[:40]


# --- the canonical form -----------------------------------------------------------------------------------------------


def _print(graph: Graph) -> str:
    """Print along shortest paths from the top, so that the nesting is no deeper than in any text of the same graph."""
    order = _order(graph)
    names = {variable: f"v{n + 1}" for variable, n in order.items()}
    edges: dict[str, list[tuple[str, bool, int, str]]] = {variable: [] for variable in order}
    for source, role, target in graph.relations:
        edges[source].append((role, False, order[target], target))
        edges[target].append((role, True, order[source], source))
    branches: dict[str, list[tuple[str, str]]] = {variable: [] for variable in order}
    nested: dict[str, list[tuple[str, str]]] = {variable: [] for variable in order}
    seen, way = {graph.top}, set()
    queue = [graph.top]
    for variable in queue:
        for role, inverse, _, other in sorted(edges[variable]):
            if other not in seen:
                seen.add(other)
                queue.append(other)
                way.add((other, role, variable) if inverse else (variable, role, other))
                nested[variable].append((f"{role}-of" if inverse else role, other))
    for source, role, target in graph.relations - way:
        branches[source].append((role, names[target]))
    for variable, role, constant in graph.attributes:
        branches[variable].append((role, _atom(constant)))

    def show(variable: str) -> str:
        parts = sorted(branches[variable] + [(role, show(other)) for role, other in nested[variable]])
        return f"({names[variable]} / {_atom(graph.concepts[variable])}{''.join(f' {r} {t}' for r, t in parts)})"

    return show(graph.top)


def _atom(constant: str) -> str:
    plain = re.fullmatch(r"[\w.+-]+", constant) and not re.fullmatch(r"v\d+", constant)
    return constant if plain else f'"{constant}"'


def _order(graph: Graph) -> dict[str, int]:
    """Number the variables, the top first; see `refinement.number`."""
    around: dict[str, list[tuple[str, bool, str]]] = {variable: [] for variable in graph.concepts}
    for source, role, target in graph.relations:
        around[source].append((role, False, target))
        around[target].append((role, True, source))
    own: dict[str, list[tuple[str, str]]] = {variable: [] for variable in graph.concepts}
    for variable, role, constant in graph.attributes:
        own[variable].append((role, constant))
    alone = {v: (v != graph.top, concept, tuple(sorted(own[v]))) for v, concept in graph.concepts.items()}
    return refinement.number(alone, around, key=lambda v: (len(v), v))


# --- Smatch -----------------------------------------------------------------------------------------------------------


def _smatch(left: Graph, right: Graph, limits: Limits) -> tuple[float, str]:
    """Return the F1 of the triples that `left` and `right` share under the best pairing found, and the isolation."""
    args = {"left": _triples(left, _LEFT), "right": _triples(right, _RIGHT)}
    outcome = executor.run(f"{__name__}:count_shared", args, limits)
    outcome.check_limits()
    if outcome.status != "ok":
        raise Unavailable(f"smatch did not compare the graphs: {outcome.detail}")
    return 2 * outcome.value / sum(len(triples) for graph in args.values() for triples in graph), outcome.isolation


_LEFT, _RIGHT = "a", "b"
"""Prefixes that smatch expects in the names of variables, before a number."""


def _triples(graph: Graph, prefix: str) -> list[list[Triple]]:
    """Return the instances, attributes (including the top) and relations in the form in which smatch reads a text."""
    names = {variable: f"{prefix}{n}" for n, variable in enumerate(graph.concepts)}
    return [
        [("instance", names[variable], concept) for variable, concept in graph.concepts.items()],
        [("TOP", names[graph.top], "top"), *((role, names[v], value) for v, role, value in sorted(graph.attributes))],
        [(role, names[source], names[target]) for source, role, target in sorted(graph.relations)],
    ]


def count_shared(args: dict[str, Any]) -> int:
    """Return how many triples two graphs share under the best pairing that smatch finds. Only called in a sandbox child."""
    # It seeds from the clock before each start, which could give one program two verdicts.
    smatch.random = SimpleNamespace(seed=lambda: None, randint=random.Random(0).randint)
    smatch.match_triple_dict = _Forgetful()
    _, shared = smatch.get_best_match(*args["left"], *args["right"], _LEFT, _RIGHT)
    return int(shared)


class _Forgetful(dict[Any, Any]):
    """A cache that keeps nothing: smatch's own takes 512 MiB from 80 variables on and saves little time."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


_BOY = "(w / want-01 :ARG0 (b / boy) :ARG1 (g / go-02 :ARG0 b :time (d / date-entity :year 2024) :polarity -))"


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="amr", split="train", instruction="Write the AMR graph.", program=_BOY,
        question="The boy wants not to go in 2024.", source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _BOY, 1.0),
    _example(
        "different-looking equal",
        """# ::id 7
        (x0 / want-01
            :ARG1 (x1 / go-02 :polarity "-" :ARG0 (x2 / boy :ARG0-of x0) :time (x3 / date-entity :year 2024)))""",
        1.0,
    ),
    _example("similar-looking different", _BOY.replace(" :polarity -", ""), 20 / 21),
    _example(
        "another top",
        "(b / boy :ARG0-of (w / want-01 :ARG1 (g / go-02 :ARG0 b :time (d / date-entity :year 2024) :polarity -)))",
        20 / 22,
    ),
    _example("ill-formed", "(w / want-01 :ARG0 (b / boy)", None),
    _example("text after the graph", _BOY + " as asked", None),
)
