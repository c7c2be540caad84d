"""First-order formulas compared with gold. Equal means: Z3 proves them logically equivalent once names are aligned.

    all x. (Bird(x) & ~Penguin(x) -> Flies(x))  # one formula per line, in the syntax of `symbol_llm/notation/logic.py`

The formulas of several lines are joined by "and". A formula may go on over lines, as `statements` there says.

Aligning names. If the environment declares `symbols`, a program may use no others and nothing is aligned. Otherwise a
predicate or constant that gold lacks is aligned with one of the same arity that only gold has, if they are surely the
same name: the same words up to case, separators, inflection and spelling, as `notation/names.py` defines. A program
may thus say `PlayWith` for `PlaysWith` or `IsBird` for `Birds`. An opposite, a synonym, the converse of a relation or
another individual is a different name, and a name with two possible counterparts is not aligned: such programs are not
accepted. Names are never aligned by trying which choice would make the formulas equivalent.

Measured on the 1,569 readable formulas of FOLIO and MALLS, with one name of each changed, against version 2, which
aligned names that share half of their letters. Opposites (Un-, Not-, Non-, In-, Dis-, Anti-, No-, IsNot-, -less): 0
accepted, formerly 1,567. A constant with one more letter or digit: 0 of 474, formerly 474. Singular for plural and vice
versa: 1,403 of 1,436, formerly all. Case and separators, a prefix Is-, case of a constant: all (1,569; 1,248; 469), as
before.

`measure` is the logical equivalence score (LE) of LogicLLaMA (Yang et al. 2023, arXiv 2305.15541): the share of rows in
which the two truth tables agree, ignoring quantifiers and with every name aligned with the most similar one. A wrong
formula may have a high LE; only the proof makes a program accepted.

Missed: functions, arithmetic, sorts. Formulas on which Z3 gives up are unscored, also those on which it runs out of time,
unless the program brought predicates of its own.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import names as spelling
from symbol_llm.notation import replies
from symbol_llm.notation.logic import (
    MAX_TERMS,
    Formula,
    Names,
    normal,
    parse,
    printed,
    satisfiable,
    statements,
    to_z3,
)
from symbol_llm.sandbox import executor

VERSION = 6
METRIC = "logical equivalence"
MAX_ATOMS = 12
"""Most atoms of both formulas together for which a truth table is built; beyond that there is no LE."""


class Formulas(NamedTuple):
    """A parsed program."""

    lines: list[Formula]
    names: Names


class Environment(Needs):
    """What judging needs besides program and gold."""

    symbols: tuple[str, ...] | None = None
    """Names that a program may use; None: any, aligned with gold's."""


def canonical(program: str) -> str:
    """Return the formulas with bound variables numbered, operands of commutative operators sorted, lines sorted."""
    return "\n".join(sorted({normal(formula) for formula in _parse(program).lines}))


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the normal form; nothing is run, so `limits` is unused."""
    del limits
    formulas = _parse(program)
    formulas.names.check(needs(problem, Environment).symbols)
    return Ran("\n".join(sorted({normal(formula) for formula in formulas.lines})))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` is equivalent to the gold program once names are aligned, else 0.0; the measure is the LE.

    Unavailable if Z3 does not decide whether it is.
    """
    gold = _gold(problem)
    given = _parse(program)
    given.names.check(needs(problem, Environment).symbols)
    alignment = _alignment(given.names, gold.names)
    args = {
        "gold": _joined(gold.lines),
        "given": _renamed(_joined(given.lines), alignment),
        "loosely": _loosely_named(given, gold),
    }
    outcome = executor.run(f"{__name__}:compare", args, limits, preload=(f"{__name__}:warm_up",))
    if (
        outcome.status == "timeout"
        and given.names.arities.keys() <= gold.names.arities.keys() | alignment.predicates.keys()
    ):
        raise Unavailable(f"Z3 did not decide: {outcome.detail}")  # nobody's fault: many such pairs cannot be decided
    outcome.check_limits()
    if outcome.status != "ok":  # the child runs no text of the program as code, so the fault is ours
        raise Unavailable(f"Z3 did not decide: {outcome.detail}")
    equal, le = outcome.value["equal"], outcome.value["le"]
    value = "equivalent" if equal else "not equivalent"
    return Result(float(equal), value, outcome.isolation, measure=1.0 if equal else le)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with the meaning of one part changed, in random order.

    The part is negated or reversed, or gets another quantifier, connective or name: an opposite, another constant.
    """
    lines, names = _parse(program)
    changed = [
        [mutant if i == n else line for i, line in enumerate(lines)]
        for n, line in enumerate(lines)
        for mutant in _mutants(line)
    ]
    changed += [[_renamed(line, alignment) for line in lines] for alignment in _other_names(names, rng)]
    rng.shuffle(changed)
    own = canonical(program)
    for mutated in changed:
        text = "\n".join(map(printed, mutated))
        if canonical(text) != own:
            yield text


_OPPOSITES = ("Un{}", "Non{}", "Not{}", "IsNot{}", "Dis{}", "Anti{}", "In{}", "No{}", "{}less")


def _other_names(names: Names, rng: random.Random) -> Iterator[Alignment]:
    """Yield renamings that change what a name means: an opposite of a predicate, letters exchanged, another individual."""
    for name in sorted(names.arities):
        if (other := rng.choice(_OPPOSITES).format(name)) not in names.arities:
            yield Alignment({name: other}, {})
        if (other := _exchanged(name, rng)) not in names.arities:
            yield Alignment({name: other}, {})
    for name in sorted(names.constants):
        others = (f"{name}2", f"h{name}", f"{name}a", *sorted(names.constants - {name}))
        yield Alignment({}, {name: rng.choice(others)})


def _exchanged(name: str, rng: random.Random) -> str:
    """Return `name` with two neighbouring letters inside exchanged, as in `Signing` for `Singing`; as it is if none can be."""
    places = [
        n
        for n in range(1, len(name) - 2)
        if name[n : n + 2].isalpha() and name[n : n + 2].islower() and name[n : n + 2] not in ("ie", "ei")
    ]
    n = rng.choice([n for n in places if name[n] != name[n + 1]] or [len(name)])
    return name[:n] + name[n + 1 : n + 2] + name[n : n + 1] + name[n + 2 :]


def _mutants(formula: Formula) -> Iterator[Formula]:
    match formula:
        case ["all" | "exists" as quantifier, variable, part]:
            other = "exists" if quantifier == "all" else "all"
            if _speaks_of(part, variable):
                yield [other, variable, part]
            yield from ([quantifier, variable, mutant] for mutant in _mutants(part))
        case ["implies", left, right]:
            if left != right:
                yield ["implies", right, left]
            yield ["and", left, right]
            yield from (["implies", left, mutant] for mutant in _mutants(right))
        case ["and" | "or" as operator, left, right]:
            if left != right:
                yield ["or" if operator == "and" else "and", left, right]
            yield from ([operator, mutant, right] for mutant in _mutants(left))
        case ["atom", *_]:
            yield ["not", formula]
    if formula[0] in ("xor", "iff", "not", "="):
        yield ["not", formula]


def _speaks_of(formula: Formula, variable: str) -> bool:
    if formula[0] in ("all", "exists"):
        return formula[1] != variable and _speaks_of(formula[2], variable)
    if formula[0] == "variable":
        return bool(formula[1] == variable)
    return any(isinstance(part, list) and _speaks_of(part, variable) for part in formula[1:])


def _gold(problem: Problem) -> Formulas:
    if not problem.program:
        raise InvalidInput(f"problem {problem.id}: no gold program; formulas are compared with one")
    try:
        return _parse(problem.program)
    except Unparsable as e:
        raise InvalidInput(f"problem {problem.id}: the gold program is ill-formed: {e}") from e


def _parse(program: str) -> Formulas:
    names = Names({}, set())
    lines = [parse(text, names, n) for n, text in statements(program)]
    if not lines:
        raise Unparsable("no formula")
    return Formulas(lines, names)


def _joined(lines: list[Formula]) -> Formula:
    if len(lines) == 1:
        return lines[0]
    middle = len(lines) // 2  # a chain of thousands would be too deep to walk
    return ["and", _joined(lines[:middle]), _joined(lines[middle:])]


# --- names ------------------------------------------------------------------------------------------------------------


class Alignment(NamedTuple):
    """Names of the program, and the names of gold that they stand for."""

    predicates: dict[str, str]
    constants: dict[str, str]


def _alignment(given: Names, gold: Names) -> Alignment:
    """Return which names of `given` are surely names of `gold`."""
    predicates: dict[str, str] = {}
    for n, ours, theirs in _unshared(given, gold):
        predicates |= _same(ours, theirs, lambda one, other, n=n: spelling.same_predicate(one, other, n))  # type: ignore[misc]
    constants = _same(given.constants - gold.constants, gold.constants - given.constants, spelling.same_constant)
    return Alignment(predicates, constants)


def _unshared(given: Names, gold: Names) -> Iterator[tuple[int, set[str], set[str]]]:
    """Yield each arity with the predicates that only `given` has and those that only `gold` has."""
    for arity in sorted({*given.arities.values()}):
        ours, theirs = ({name for name, n in names.arities.items() if n == arity} for names in (given, gold))
        yield arity, ours - theirs, theirs - ours


def _same(ours: set[str], theirs: set[str], is_same: Callable[[str, str], bool]) -> dict[str, str]:
    """Pair names that are the same: first those with the same letters, then those with only one possible partner."""
    pairs: dict[str, str] = {}
    for rule in (spelling.same_constant, is_same):
        rest, free = sorted(ours - pairs.keys()), sorted(theirs - set(pairs.values()))
        fitting = {one: [other for other in free if rule(one, other)] for one in rest}
        wanted = Counter(other for found in fitting.values() for other in found)
        pairs |= {one: found[0] for one, found in fitting.items() if len(found) == 1 and wanted[found[0]] == 1}
    return pairs


def _loosely_named(given: Formulas, gold: Formulas) -> Formula | None:
    """Return `given` with every name aligned with the most similar one, for the LE; None if too long for one."""
    if len(given.names.arities) > MAX_ATOMS or len(given.names.constants) > MAX_ATOMS * MAX_TERMS:
        return None
    predicates: dict[str, str] = {}
    for _, ours, theirs in _unshared(given.names, gold.names):
        predicates |= _most_similar(ours, theirs)
    ours, theirs = given.names.constants, gold.names.constants
    return _renamed(_joined(given.lines), Alignment(predicates, _most_similar(ours - theirs, theirs - ours)))


def _most_similar(ours: set[str], theirs: set[str]) -> dict[str, str]:
    """Pair names one to one, the most similar first; ties are broken alphabetically."""
    ranked = sorted((-_similarity(one, other), one, other) for one in ours for other in theirs)
    pairs: dict[str, str] = {}
    for _, one, other in ranked:
        if one not in pairs and other not in pairs.values():
            pairs[one] = other
    return pairs


def _similarity(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower(), autojunk=False).ratio()


def _renamed(formula: Formula, names: Alignment) -> Formula:
    """Return `formula` with aligned names; unaligned ones become names that gold cannot have."""
    match formula:
        case ["atom", name, *terms]:
            return ["atom", names.predicates.get(name, name), *(_renamed(term, names) for term in terms)]
        case ["constant", name]:
            return ["constant", names.constants.get(name, name)]
        case ["variable", _]:
            return formula
        case ["all" | "exists" as quantifier, variable, part]:
            return [quantifier, variable, _renamed(part, names)]
    return [formula[0], *(_renamed(part, names) for part in formula[1:])]


# --- in the child: no text of the program is run, only its tree is translated -----------------------------------------


def warm_up() -> None:
    """Have Z3 set itself up, once for all children."""
    atom = ["atom", "P", ["constant", "a"]]
    compare({"gold": atom, "given": atom, "loosely": atom})


def compare(args: dict[str, Any]) -> dict[str, Any]:
    """Return whether `given` and `gold` are equivalent, and the LE of `loosely`; Unavailable where Z3 gives up."""
    import z3

    try:
        equal = not satisfiable([z3.Xor(to_z3(args["gold"]), to_z3(args["given"]))])
    except z3.Z3Exception as e:
        if "memory" in str(e):
            raise MemoryError(str(e)) from e
        raise
    return {"equal": equal, "le": args["loosely"] and agreement(args["gold"], args["loosely"])}


def agreement(one: Formula, other: Formula) -> float | None:
    """Return the share of truth-table rows in which both agree, ignoring quantifiers; None if too large."""
    first, second = _open(one, {}), _open(other, {})
    atoms = sorted({*_atoms(first), *_atoms(second)})
    if len(atoms) > MAX_ATOMS:
        return None
    rows = [dict(zip(atoms, bits, strict=True)) for bits in itertools.product((False, True), repeat=len(atoms))]
    return sum(_holds(first, row) == _holds(second, row) for row in rows) / len(rows)


def _open(formula: Formula, numbers: Mapping[str, int]) -> Any:
    """Return `formula` without quantifiers, its atoms as texts with variables numbered by their quantifier's depth."""
    if formula[0] in ("all", "exists"):
        return _open(formula[2], {**numbers, formula[1]: len(numbers)})
    if formula[0] in ("atom", "="):
        return normal(formula, numbers)
    return [formula[0], *(_open(part, numbers) for part in formula[1:])]


def _atoms(formula: Any) -> Iterator[str]:
    if isinstance(formula, str):
        yield formula
    else:
        for part in formula[1:]:
            yield from _atoms(part)


def _holds(formula: Any, row: Mapping[str, bool]) -> bool:
    if isinstance(formula, str):
        return row[formula]
    left, *more = (_holds(part, row) for part in formula[1:])
    right = more[0] if more else left
    return {
        "not": not left, "and": left and right, "or": left or right, "xor": left != right,
        "implies": not left or right, "iff": left == right,
    }[formula[0]]  # fmt: skip


_BIRDS = "all x. (Bird(x) & ~Penguin(x) -> Flies(x))"


def _example(name: str, program: str, score: float | None, **environment: Any) -> Example:
    problem = Problem.of(
        task="example", family="fol", split="train", instruction="Write first-order logic.",
        question="Birds that are no penguins fly.", program=_BIRDS, environment=environment,
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _BIRDS, 1.0),
    _example("different-looking equal", "∀y (¬Flies(y) → (Penguin(y) ∨ ¬Bird(y)))", 1.0),
    _example("name that is an opposite", _BIRDS.replace("Bird", "NonBird"), 0.0),
    _example("names a little different", "forall x ((Birds(x) & ~IsPenguin(x)) -> Fly(x))", 1.0),
    _example("similar-looking different", "all x. (Bird(x) & Penguin(x) -> Flies(x))", 0.0),
    _example("names that could stand for anything", "all x. (A(x) & ~B(x) -> C(x))", 0.0),
    _example("weaker than gold", "exists x. (Bird(x) & ~Penguin(x) -> Flies(x))", 0.0),
    _example("what always holds", "all x. (Bird(x) -> Bird(x))", 0.0),
    _example("name that was not declared", "all x. (Bird(x) -> Wings(x))", None, symbols=["Bird", "Penguin", "Flies"]),
    _example("ill-formed", "all x. (Bird(x) & ~Penguin(x) -> Flies(x)", None),
)
