"""Abstract Meaning Representation (AMR) graphs in PENMAN notation. Equal means: the same graph up to variable names.

    (w / want-01
       :ARG0 (b / boy)
       :ARG1 (g / go-02 :polarity -
          :ARG0 b))

Inverse roles are turned round (`:ARG0-of`; `:domain` is the inverse of `:mod`), and neither order, alignments (`~e.3`)
nor comments count. As in Smatch, letter case and quotes do not count, and which variable is the top does.

A graph that is not gold's scores its Smatch F1 (Cai and Knight 2013): shared triples under the best pairing of
variables, the top counted as one triple. `environment["threshold"]` (1.0) is the F1 from which a graph is accepted.
The pairing is sought by hill climbing from fixed starts, so the F1 found is a lower bound, and the same each time.

Missed: two equal graphs so regular that neither colour refinement nor the climb can pair them; AMR is nowhere near.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import penman  # type: ignore[import-untyped]
from penman.models.amr import model as AMR  # type: ignore[import-untyped]
from pydantic import Field

from symbol_llm.families import Example, Needs, Ran, Result, needs, read_gold
from symbol_llm.ground.errors import LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import refinement, replies

VERSION = 1
METRIC = "Smatch F1"

MAX_DEPTH = 100
MAX_VARIABLES = 200
N_STARTS = 5
MAX_SWAPS = 100_000
"""Pairs of variables that a climb may try to exchange, over all starts."""

Triple = tuple[str, str, str]

logging.getLogger("penman").setLevel(logging.ERROR)  # it warns of what is refused below


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


program_of = replies.up_to_a_blank_line


def canonical(program: str) -> str:
    """Return the graph on one line, its variables v1, v2 ... and its roles in an order that no old name touches."""
    return _print(_parse(program))


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form."""
    return Ran(canonical(program))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the graph is that of `problem.program` or its Smatch F1 reaches the threshold, else the F1."""
    threshold = needs(problem, Environment).threshold
    gold = read_gold(problem, _parse)
    graph = _parse(program)
    f1 = 1.0 if _print(graph) == _print(gold) else smatch(graph, gold)
    return Result(1.0 if f1 >= threshold else f1, f"Smatch {f1:.4f}", measure=f1)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one concept, role, constant, direction or the top changed, or one leaf left out."""
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
    """Return `triple` in lower case, turned round where that shows an inverse: penman sees none in `-OF` nor in `-of-of`."""
    source, role, target = triple
    role = role.lower()
    while target in concepts and AMR.is_role_inverted(role):
        source, role, target = target, AMR.invert_role(role), source
    return source, role, target


def _tree(program: str) -> penman.Tree:
    n_lines = len(program.splitlines())
    try:
        # penman ends where a graph does and ignores the rest: what follows shows whether there was any.
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
    """Return `text` as it would stand inside quotes, in lower case."""
    return (text[1:-1] if text.startswith('"') else text.replace("\\", "\\\\")).lower()


def _quote(text: Any) -> str:
    return repr(text)[:40]


# --- the canonical form -----------------------------------------------------------------------------------------------


def _print(graph: Graph) -> str:
    """Print along a shortest way from the top, so that it is nested no deeper than any text of the same graph."""
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


def smatch(left: Graph, right: Graph) -> float:
    """Return the F1 of the triples that `left` and `right` share under the best pairing of variables found."""
    total = sum(1 + len(g.concepts) + len(g.attributes) + len(g.relations) for g in (left, right))
    return 2 * _Pairing(left, right).best() / total


class _Pairing:
    """Variables of two graphs, of which the smaller is filled up with variables that match nothing."""

    def __init__(self, left: Graph, right: Graph) -> None:
        self._n = max(len(left.concepts), len(right.concepts))
        rows = {variable: n for n, variable in enumerate(left.concepts)}
        columns = {variable: n for n, variable in enumerate(right.concepts)}
        self._alike = [[0] * self._n for _ in range(self._n)]
        gold_facts = _unary(right)
        for row, mine in _unary(left).items():
            for column, theirs in gold_facts.items():
                self._alike[rows[row]][columns[column]] = len(mine & theirs)
        self._relations = [(rows[s], role, rows[t]) for s, role, t in sorted(left.relations)]
        self._gold = {(columns[s], role, columns[t]) for s, role, t in right.relations}
        self._touching: list[set[int]] = [set() for _ in range(self._n)]
        for n, (source, _, target) in enumerate(self._relations):
            self._touching[source].add(n)
            self._touching[target].add(n)
        self._swaps_left = MAX_SWAPS

    def best(self) -> int:
        """Return the most triples shared that any start led to."""
        rng = random.Random(0)
        found = 0
        for start in range(N_STARTS):
            rows = list(range(self._n))
            if start:
                rng.shuffle(rows)
            paired = self._greedy(rows)
            self._climb(paired)
            everything = range(len(self._relations))
            found = max(found, sum(self._alike[r][c] for r, c in enumerate(paired)) + self._shared(paired, everything))
        return found

    def _greedy(self, rows: list[int]) -> list[int]:
        """Give each row in turn the free column most like it."""
        paired, free = [0] * self._n, list(range(self._n))
        for row in rows:
            paired[row] = max(free, key=lambda column: self._alike[row][column])
            free.remove(paired[row])
        return paired

    def _climb(self, paired: list[int]) -> None:
        """Exchange the columns of two rows for as long as that gains a triple."""
        improved = True
        while improved:
            improved = False
            for one in range(self._n):
                for other in range(one):
                    if self._swaps_left <= 0:
                        return
                    self._swaps_left -= 1
                    improved = self._swap(paired, one, other) or improved

    def _swap(self, paired: list[int], one: int, other: int) -> bool:
        touched = self._touching[one] | self._touching[other]
        before = self._alike[one][paired[one]] + self._alike[other][paired[other]] + self._shared(paired, touched)
        paired[one], paired[other] = paired[other], paired[one]
        after = self._alike[one][paired[one]] + self._alike[other][paired[other]] + self._shared(paired, touched)
        if after <= before:
            paired[one], paired[other] = paired[other], paired[one]
        return after > before

    def _shared(self, paired: list[int], relations: Iterable[int]) -> int:
        edges = (self._relations[n] for n in relations)
        return sum((paired[source], role, paired[target]) in self._gold for source, role, target in edges)


def _unary(graph: Graph) -> dict[str, set[tuple[str, str]]]:
    """Return what each variable says of itself: its concept, its attributes, and that it is the top."""
    facts = {variable: {("/", concept)} for variable, concept in graph.concepts.items()}
    facts[graph.top].add(("top", ""))
    for variable, role, constant in graph.attributes:
        facts[variable].add((role, constant))
    return facts


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
