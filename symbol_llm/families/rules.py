"""Theories, facts and rules in first-order logic, with one query, decided by Z3. Equal means: the query follows, is refuted or open, as gold says.

    all x. (Bird(x) & ~Penguin(x) -> Flies(x))  # a premise a line, as `symbol_llm/notation/logic.py` reads formulas
    Bird(tweety)
    ~Penguin(tweety)
    query: Flies(tweety)

What acceptance means. The label is "True" if the premises entail the query, "False" if they entail its negation, else
"Unknown". Premises that contradict each other prove everything and are never accepted, nor is a query that needs no
premise, nor an "Unknown" about predicates of which the program says nothing. Beyond that the label alone cannot show
that the program is about the question: it may invent its premises. The problem's environment says how far that goes:

- `symbols`, the names the theory declares: others are refused, and an "Unknown" about declared ones counts;
- `n_premises`, the sentences of the theory: a program with fewer distinct premises is not accepted;
- `theory`, a formal gold program over the same names: every premise must follow from it and the query must be
  equivalent to its query, which leaves nothing to invent.

Missed: functions, arithmetic, sorts, theories on which Z3 gives up (those are unscored).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies
from symbol_llm.notation.logic import (
    Formula,
    Names,
    normal,
    parse,
    predicates,
    printed,
    satisfiable,
    to_z3,
    without_comment,
)
from symbol_llm.sandbox import executor

VERSION = 1
METRIC = "label by entailment"

LABELS = ("True", "False", "Unknown")
_QUERY = re.compile(r"\s*(?:query|goal|conclusion)\s*:\s*", re.IGNORECASE)
_HEADING = re.compile(r"\s*(?:premises|theory|facts|rules)\s*:\s*", re.IGNORECASE)


class Theory(NamedTuple):
    """A parsed program."""

    premises: list[Formula]
    query: Formula
    names: Names


class Environment(Needs):
    """What judging needs besides program and gold."""

    symbols: tuple[str, ...] | None = None
    """Names that a theory may use; None: any."""
    n_premises: int = 1
    """Different premises that a theory must have, at least."""
    theory: str | None = None
    """Gold that a theory is held against."""

    def held_to(self, gold: str) -> Self:
        """Return the environment in which theories are held against `gold`, not by their label alone."""
        return self.model_copy(update={"theory": gold})


def canonical(program: str) -> str:
    """Return the formulas with bound variables numbered, operands of commutative operators sorted, premises sorted."""
    theory = _parse(program)
    premises = sorted({normal(premise) for premise in theory.premises})
    return "\n".join([*premises, f"query: {normal(theory.query)}"])


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the label that Z3 finds, or why it is worthless by the guards above."""
    theory = _parse(program)
    environment = needs(problem, Environment)
    declared = environment.symbols
    theory.names.check(declared)
    if len({normal(premise) for premise in theory.premises}) < environment.n_premises:
        return Ran(None, "too few premises")
    args: dict[str, Any] = {"premises": theory.premises, "query": theory.query, "theory": None}
    if environment.theory is not None:
        gold = _parse(environment.theory)
        args["theory"] = {"premises": gold.premises, "query": gold.query}
    outcome = executor.run(f"{__name__}:decide", args, limits, preload=(f"{__name__}:warm_up",))
    outcome.check_limits()
    if outcome.status != "ok":  # no text of the program runs as code in that child, so this is ours
        raise Unavailable(f"Z3 did not decide: {outcome.detail}")
    label, fault = outcome.value["label"], outcome.value["fault"]
    if label == "Unknown" and not fault and not predicates(theory.query) <= _known(theory, declared):
        fault = "no premise speaks of the query's predicates"
    return Ran(None, f"{label}, but {fault}", outcome.isolation) if fault else Ran(label, "", outcome.isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the label that Z3 finds is `problem.answer` and the guards above hold, else 0.0."""
    if problem.answer not in LABELS:
        raise InvalidInput(f"problem {problem.id}: answer {problem.answer!r}; expected one of {', '.join(LABELS)}")
    ran = run(program, problem, limits)
    return Result(float(ran.value == problem.answer), ran.value or ran.detail, ran.isolation)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a premise left out, a premise denied, or the query denied, in random order.

    A denied query is a near miss only where the label is "True" or "False"; an open query stays open.
    """
    theory = _parse(program)
    count = len(theory.premises)
    changes = [(kind, n) for n in range(count) for kind in ("drop", "deny")] + [("query", 0)]
    rng.shuffle(changes)
    for kind, n in changes:
        premises, query = list(theory.premises), theory.query
        if kind == "drop" and count > 1:
            del premises[n]
        elif kind == "deny":
            premises[n] = ["not", premises[n]]
        elif kind == "query":
            query = ["not", query]
        else:
            continue
        yield "\n".join([*map(printed, premises), f"query: {printed(query)}"])


def _known(theory: Theory, declared: Sequence[str] | None) -> set[str]:
    return {name for premise in theory.premises for name in predicates(premise)} | set(declared or ())


def _parse(program: str) -> Theory:
    premises: list[Formula] = []
    query: Formula | None = None
    names = Names({}, set())
    for n, line in enumerate(program.splitlines(), 1):
        text = without_comment(line)
        if not text.strip() or _HEADING.fullmatch(text):
            continue
        if query is not None:
            raise Unparsable(f"line {n}: nothing may follow the query")
        start = _QUERY.match(text)
        formula = parse(text, names, n, start.end() if start else 0)
        if start:
            query = formula
        else:
            premises.append(formula)
    if query is None:
        raise Unparsable("no query; the last line must be `query: <formula>`")
    if not premises:
        raise Unparsable("no premise before the query")
    return Theory(premises, query, names)


# --- in the child: no text of the program is run, only its tree is translated -----------------------------------------


def warm_up() -> None:
    """Have Z3 set itself up, once for all children."""
    decide({"premises": [["atom", "P", ["constant", "a"]]], "query": ["atom", "Q", ["constant", "a"]], "theory": None})


def decide(args: dict[str, Any]) -> dict[str, str]:
    """Return the label of the query and what makes it worthless, if anything; raises Unavailable where Z3 gives up."""
    import z3

    try:
        premises, query = [to_z3(p) for p in args["premises"]], to_z3(args["query"])
        may_hold, may_fail = satisfiable([*premises, query]), satisfiable([*premises, z3.Not(query)])
        label = {(True, False): "True", (False, True): "False", (True, True): "Unknown"}.get(
            (may_hold, may_fail), "Contradiction"
        )
        return {"label": label, "fault": _fault(label, query, premises, args["theory"])}
    except z3.Z3Exception as e:
        if "memory" in str(e):
            raise MemoryError(str(e)) from e
        raise


def _fault(label: str, query: Any, premises: list[Any], theory: dict[str, Any] | None) -> str:
    import z3

    if label == "Contradiction":
        return "premises that contradict each other prove everything"
    if label == "True" and not satisfiable([z3.Not(query)]) or label == "False" and not satisfiable([query]):
        return "the query needs no premise"
    if theory is None:
        return ""
    given = [to_z3(p) for p in theory["premises"]]
    if satisfiable([query != to_z3(theory["query"])]):
        return "the query is another than was asked"
    invented = any(satisfiable([*given, z3.Not(premise)]) for premise in premises)
    return "a premise does not follow from the theory" if invented else ""


_BIRDS = "all x. (Bird(x) & ~Penguin(x) -> Flies(x))\nBird(tweety)\n~Penguin(tweety)\nquery: Flies(tweety)"


def _example(name: str, program: str, score: float | None, answer: str = "True") -> Example:
    problem = Problem.of(
        task="example", family="rules", split="train", instruction="Write first-order logic.", question="Tweety flies?",
        answer=answer,
        context="Birds that are no penguins fly. Tweety is a bird. Tweety is no penguin.", program=_BIRDS,
        environment={"symbols": ["Bird", "Penguin", "Flies", "tweety"]}, source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _BIRDS, 1.0),
    _example(
        "different-looking equal",
        "¬Penguin(tweety) ∧ Bird(tweety)\n∀y (¬Flies(y) → (Penguin(y) ∨ ¬Bird(y)))\nquery: Flies(tweety)",
        1.0,
    ),
    _example("similar-looking different", _BIRDS.replace("\n~Penguin(tweety)", "\nPenguin(tweety)"), 0.0),
    _example("open query", "Bird(tweety)\nall x. (Flies(x) -> Bird(x))\nquery: Flies(tweety)", 1.0, "Unknown"),
    _example("premises contradict each other", "Bird(tweety)\n~Bird(tweety)\nquery: Flies(tweety)", 0.0),
    _example("query needs no premise", "Bird(tweety)\nquery: Flies(tweety) | ~Flies(tweety)", 0.0),
    _example("name that was not declared", "Wings(tweety)\nquery: Wings(tweety)", None),
    _example("ill-formed", "Bird(tweety\nquery: Bird(tweety)", None),
)
