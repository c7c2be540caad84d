"""PDDL problem files. Equal means: the same problem up to the names of its objects.

    (define (problem two) (:domain blocks) (:objects a b)
      (:init (ontable a) (ontable b) (clear a) (clear b) (handempty)) (:goal (and (on a b))))

The domain name must be the same, and one renaming of the objects must carry over their types, the initial facts,
values, goal and metric: an isomorphism of labelled graphs, found by colour refinement with individualisation. Hence a
goal that already holds at the start equals only another such goal. Order, repetition, case, comments, layout,
`:requirements`, the problem's name, bound variables and negated facts in `:init` do not count.

`environment` may hold `domain`, the text of the domain file, against which predicates, arguments, types and objects are
checked, and `fixed_names`, true if the question names the objects, so that their names count. Gold is
`problem.program`.

Missed: goals that only logic shows to be equal; objects of a supertype declared by its name instead of by `either`;
problems so symmetric that the search gives up (a limit the program exceeds, unless gold alone exceeds it); domains with
derived predicates, durative actions or other sections that `notation/strips.py` does not know (unscored). Planetarium
(Zuo et al. 2024) also compares by isomorphism; its saturation of facts that a goal implies is not done here.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from symbol_llm.families import Example, Needs, Ran, Result, needs, read_gold
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies, strips
from symbol_llm.notation.strips import Domain, Formula, Instance, show, show_types

VERSION = 3
METRIC = "same problem up to renaming"

MAX_WORK = 3_000_000
"""Most edges visited in search of a renaming, some seconds."""


class Environment(Needs):
    """What judging needs besides program and gold."""

    domain: str | None = None
    """Text of the domain file; None: unknown."""
    fixed_names: bool = False
    """Whether objects must have the names that gold gives them."""


def canonical(program: str) -> str:
    """Return the problem with its parts sorted. Names stay, since whether they count depends on `fixed_names`."""
    return _print(strips.read_instance(program, None))


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the sorted problem, checked against the domain."""
    return Ran(_print(strips.read_instance(program, _domain(problem))))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` states the gold problem, else 0.0."""
    domain = _domain(problem)
    found = strips.read_instance(program, domain)
    gold = read_gold(problem, lambda text: strips.read_instance(text, domain))
    difference = _difference(found, gold, fixed_names=needs(problem, Environment).fixed_names)
    return Result(float(not difference), difference or "the same problem")


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with an object added, or a fact or part of the goal removed or changed, in random order.

    A change is yielded only where the objects' profiles show that no renaming undoes it.
    """
    instance = strips.read_instance(program, None)
    goal = _conjuncts(instance.goal)
    instance = instance._replace(goal=("and", *goal))
    changed = [instance._replace(objects={**instance.objects, "spare-object": ("object",)})]
    for n, part in enumerate(goal):
        changed += [instance._replace(goal=("and", *goal[:n], *goal[n + 1 :]))] if len(goal) > 1 else []
        changed += [instance._replace(goal=("and", *goal[:n], ("not", part), *goal[n + 1 :]))]
        changed += [instance._replace(goal=("and", *goal[:n], p, *goal[n + 1 :])) for p in _altered(part, instance)]
    facts = sorted(instance.facts)
    for fact in rng.sample(facts, min(len(facts), 20)):
        rest = instance.facts - {fact}
        changed += [instance._replace(facts=rest)]
        changed += [
            instance._replace(facts=rest | {other[1:]})
            for other in _altered(("atom", *fact), instance)
            if other[1:] not in instance.facts
        ]
    rng.shuffle(changed)
    own = _profile(instance)
    yield from (_print(other) for other in changed if _profile(other) != own)


def _altered(part: Formula, instance: Instance) -> Iterator[Formula]:
    """Yield the atom `part` with its first two arguments swapped, and with another object for the last."""
    if part[0] != "atom" or part[1] == "=" or len(part) < 3:
        return
    if len(part) > 3:
        yield (*part[:2], part[3], part[2], *part[4:])
    types = instance.objects.get(part[-1])
    others = [name for name, its in sorted(instance.objects.items()) if its == types and name != part[-1]]
    yield from ((*part[:-1], name) for name in others[:3])


def _profile(instance: Instance) -> object:
    """Return an invariant of renaming that changed arguments mostly alter: which objects occur where, with which."""
    atoms = [("init", *fact) for fact in instance.facts] + [("goal", *a) for a in _atoms(instance.goal)]
    places: dict[str, list[str]] = {name: [str(types)] for name, types in instance.objects.items()}
    for place, predicate, *terms in atoms:
        for n, term in enumerate(terms):
            places.setdefault(term, []).append(f"{place} {predicate} {n} {len(set(terms))}")
    once = {name: str(sorted(found)) for name, found in places.items()}
    shape = show(strips.normal(instance.goal, {})).count("(not ")
    return shape, Counter((place, p, *(once[t] for t in terms)) for place, p, *terms in atoms), Counter(once.values())


def _atoms(formula: Formula) -> Iterator[tuple[str, ...]]:
    if formula[0] in ("atom", "="):
        yield formula[1:] if formula[0] == "atom" else formula
    for part in formula[1:]:
        if isinstance(part, tuple) and part and part[0] in _OPERATORS:
            yield from _atoms(part)


_OPERATORS = ("atom", "=", "not", "and", "or", "imply", "forall", "exists")


def _domain(problem: Problem) -> Domain | None:
    text = needs(problem, Environment).domain
    if text is None:
        return None
    try:
        return strips.read_domain(text)
    except Unparsable as e:  # the domain is ours
        raise InvalidInput(f"problem {problem.id}: domain: {e}") from e


def _conjuncts(goal: Formula) -> list[Formula]:
    flat = strips.normal(goal, {})
    return list(flat[1:]) if flat[0] == "and" else [flat]


def _print(instance: Instance) -> str:
    objects = sorted((show_types(types), name) for name, types in instance.objects.items())
    listed = (
        f"{' '.join(name for _, name in group)} - {types}"
        for types, group in itertools.groupby(objects, key=lambda pair: pair[0])
    )
    goal = _conjuncts(instance.goal)
    lines = [
        f"(define (problem p) (:domain {instance.domain})",
        f"(:objects {' '.join(listed)})",
        f"(:init {' '.join(sorted(map(_print_fact, instance.facts)))})",
        f"(:goal {show(('and', *goal))})",
        *([f"(:metric {instance.metric})"] if instance.metric else []),
    ]
    return "\n".join(lines) + ")"


def _print_fact(fact: tuple[str, ...]) -> str:
    return f"(= ({' '.join(fact[1:-1])}) {fact[-1]})" if fact[0] == "=" else f"({' '.join(fact)})"


# --- comparing --------------------------------------------------------------------------------------------------------


def _difference(found: Instance, gold: Instance, *, fixed_names: bool) -> str:
    """Describe the difference between the two, for people; empty if there is none."""
    if _print(found) == _print(gold):
        return ""
    for what, one, other in (
        ("domain", found.domain, gold.domain),
        ("metric", found.metric, gold.metric),
        ("number of objects of a type", Counter(found.objects.values()), Counter(gold.objects.values())),
        ("initial facts", Counter(f[0] for f in found.facts), Counter(f[0] for f in gold.facts)),
    ):
        if one != other:
            return f"another {what}"
    if fixed_names or not _is_renamed(found, gold):
        return "facts or goal hold of other objects"
    return ""


def _is_renamed(found: Instance, gold: Instance) -> bool:
    """Return whether only names differ; LimitExceeded if that cannot be decided, Unavailable if gold is the cause."""
    try:
        return _Matching(_graph(found), _graph(gold)).exists()
    except LimitExceeded:
        try:
            _Matching(_graph(gold), _graph(gold)).exists()
        except LimitExceeded as e:
            raise Unavailable(f"gold: {e}") from e
        raise


class _Graph(NamedTuple):
    """Labelled nodes; each edge is stored at both ends, with its label and the other end."""

    labels: list[str]
    edges: list[list[tuple[str, int]]]

    def add(self, label: str, *links: tuple[str, int]) -> int:
        node = len(self.labels)
        self.labels.append(label)
        self.edges.append([])
        for how, other in links:
            self.edges[node].append((how, other))
            self.edges[other].append((f"-{how}", node))
        return node


def _graph(instance: Instance) -> _Graph:
    """Return a graph; two are isomorphic if and only if the problems differ only in names of objects."""
    graph = _Graph([], [])
    nodes = {name: graph.add(f"object {show_types(types)}") for name, types in sorted(instance.objects.items())}

    def term(name: str) -> int:
        if name not in nodes:  # a constant of the domain
            nodes[name] = graph.add(f"name {name}")
        return nodes[name]

    def formula(part: Formula) -> int:
        match part:
            case ("atom", name, *terms):
                return graph.add(f"goal {name}", *((f"{n}", term(t)) for n, t in enumerate(terms)))
            case ("=", left, right):
                return graph.add("equal", ("side", term(left)), ("side", term(right)))
            case ("imply", left, right):
                return graph.add("imply", ("if", formula(left)), ("then", formula(right)))
            case ("forall" | "exists" as quantifier, variable, types, body):
                nodes[variable] = graph.add("variable")
                return graph.add(f"{quantifier} {show_types(types)}", ("of", nodes[variable]), ("body", formula(body)))
            case (operator, *parts):
                return graph.add(operator, *(("part", formula(p)) for p in parts))
        raise AssertionError(part)

    for fact in sorted(instance.facts):
        label, terms = (f"value {fact[1]} {fact[-1]}", fact[2:-1]) if fact[0] == "=" else (f"init {fact[0]}", fact[1:])
        graph.add(label, *((f"{n}", term(t)) for n, t in enumerate(terms)))
    graph.add("whole", ("part", formula(("and", *_conjuncts(instance.goal)))))
    return graph


class _Matching:
    """Search for an isomorphism of two graphs: a colouring of both at once that pairs every node with one other."""

    def __init__(self, left: _Graph, right: _Graph) -> None:
        self._n_left = n = len(left.labels)
        self._labels = left.labels + right.labels
        self._edges = left.edges + [[(how, other + n) for how, other in edges] for edges in right.edges]
        self._work = 0

    def exists(self) -> bool:
        """Return whether there is one; LimitExceeded if the search takes too long."""
        numbers = {label: n for n, label in enumerate(sorted(set(self._labels)))}
        colours = [numbers[label] for label in self._labels]
        if any(self._is_uneven(group) for group in _grouped(range(len(colours)), colours).values()):
            return False
        open_: list[Iterator[tuple[list[int], Iterable[int]]]] = [iter([(colours, range(len(colours)))])]
        while open_:
            colours, recoloured = next(open_[-1], ([], ()))
            if not colours:
                open_.pop()
            elif self._refine(colours, recoloured):
                mixed = [group for group in _grouped(range(len(colours)), colours).values() if len(group) > 2]
                if not mixed:
                    return True
                open_.append(_pairings(colours, min(mixed, key=lambda group: (len(group), group[0]))))
        return False

    def _refine(self, colours: list[int], recoloured: Iterable[int]) -> bool:
        """Split, in place, classes whose nodes have differently coloured neighbours; False if left and right differ.

        One part of a class keeps its colour, so that only the neighbours of the others must be visited again.
        """
        classes = {colour: set(group) for colour, group in _grouped(range(len(colours)), colours).items()}
        fresh = max(classes) + 1
        self._work += len(colours)
        while recoloured:
            touched = sorted({other for node in recoloured for _, other in self._edges[node]})
            changes: dict[int, int] = {}
            for colour, nodes in _grouped(touched, colours).items():
                for part in self._others(classes[colour], nodes, colours):
                    if self._is_uneven(part):
                        return False
                    changes |= dict.fromkeys(part, fresh)
                    classes[colour].difference_update(part)
                    classes[fresh] = set(part)
                    fresh += 1
            for node, colour in changes.items():
                colours[node] = colour
            recoloured = list(changes)
        return True

    def _others(self, members: set[int], touched: list[int], colours: list[int]) -> list[list[int]]:
        """Return the touched nodes of a class grouped by neighbourhood, without the part that keeps the colour."""
        parts: dict[tuple[tuple[str, int], ...], list[int]] = defaultdict(list)
        for node in touched:
            parts[self._around(node, colours)].append(node)
        if len(touched) < len(members):  # the untouched ones are all alike
            known = set(touched)
            parts.pop(self._around(next(node for node in members if node not in known), colours), None)
        else:
            del parts[max(parts, key=lambda around: len(parts[around]))]
        return list(parts.values())

    def _around(self, node: int, colours: list[int]) -> tuple[tuple[str, int], ...]:
        self._work += len(self._edges[node])
        if self._work > MAX_WORK:
            raise LimitExceeded("the problem is too symmetric to tell whether names alone differ")
        return tuple(sorted((how, colours[other]) for how, other in self._edges[node]))

    def _is_uneven(self, group: list[int]) -> bool:
        return 2 * sum(node < self._n_left for node in group) != len(group)


def _pairings(colours: list[int], group: list[int]) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Yield `colours` with the first left node of `group` and each right one in turn set apart, and the two."""
    fresh = max(colours) + 1
    for other in group[len(group) // 2 :]:
        paired = colours.copy()
        paired[group[0]] = paired[other] = fresh
        yield paired, (group[0], other)


def _grouped(nodes: Iterable[int], colours: list[int]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = defaultdict(list)
    for node in nodes:
        groups[colours[node]].append(node)
    return dict(groups)


_DOMAIN = """(define (domain blocks) (:requirements :strips :typing) (:types block)
(:predicates (on ?x ?y - block) (ontable ?x - block) (clear ?x - block) (holding ?x - block) (handempty)))"""
_TOWER = """(define (problem three) (:domain blocks) (:objects red green blue - block)
(:init (ontable red) (on green red) (clear green) (ontable blue) (clear blue) (handempty))
(:goal (and (on red green) (on green blue))))"""


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="pddl", split="train", instruction="Write the PDDL problem.", context=_DOMAIN,
        question="Green is on red, blue is on the table. Put red on green on blue.", program=_TOWER,
        environment={"domain": _DOMAIN}, source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _TOWER, 1.0),
    _example(
        "different-looking equal",
        """; the same with letters
        (define (problem p) (:domain Blocks) (:objects A - block B C - block)
        (:goal (and (on a b) (and (on b c))))
        (:init (handempty) (clear B) (clear C) (on B A) (ontable A) (ontable C) (ontable C)))""",
        1.0,
    ),
    _example("goal the wrong way round", _TOWER.replace("(on red green) (on green blue)", "(on green red) (on blue green)"), 0.0),
    _example("goal that already holds", _TOWER.replace("(on red green) (on green blue)", "(on green red) (clear blue)"), 0.0),
    _example("fact missing", _TOWER.replace(" (handempty)", ""), 0.0),
    _example("predicate that the domain lacks", _TOWER.replace("(on green red)", "(above green red)"), None),
    _example("object that is not declared", _TOWER.replace("(clear blue)", "(clear pink)"), None),
    _example("bracket that is never closed", _TOWER[:-1], None),
)  # fmt: skip
