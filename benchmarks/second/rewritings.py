"""Right programs that look different from gold, mostly written by another library: what recall is measured on besides gold.

    SELECT a FROM t WHERE b > 3        ->  WITH answer AS (SELECT a FROM t WHERE 3 < b) SELECT * FROM answer
    all x. (Bird(x) -> Flies(x))       ->  ~exists y1. ~(~Flies(y1) -> ~Bird(y1))

A rewriting can be wrong where its library is, so that a second method is asked about it as about any other program.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.second import methods
from symbol_llm.ground.errors import Unparsable
from symbol_llm.ground.records import Problem
from symbol_llm.notation import logic

MAX_CHARS = 500
"""Longest rewriting; automata can become very long expressions."""


def rewritten(problem: Problem) -> str | None:
    """Return a program that should mean what gold means; None where no rule applies."""
    try:
        found = _RULES[problem.family](problem, random.Random(f"0 {problem.id}"))
    except (ValueError, Unparsable):
        return None
    return (
        found
        if found and found != problem.program and len(found) <= max(MAX_CHARS, 2 * len(problem.program or ""))
        else None
    )


def _amr(problem: Problem, rng: random.Random) -> str:
    """Branches in another order, and other variables."""
    import penman  # type: ignore[import-untyped]
    from penman.layout import rearrange  # type: ignore[import-untyped]

    tree = penman.parse(problem.program)
    tree.reset_variables("n{i}")
    rearrange(tree, key=lambda role: rng.random())
    return str(penman.format(tree))


def _fol(problem: Problem, rng: random.Random) -> str:
    """Contrapositions, other quantifiers, other variables."""
    del rng
    names = logic.Names({}, set())
    return "\n".join(
        logic.printed(_turned(logic.parse(line, names), {}))
        for line in (problem.program or "").splitlines()
        if line.strip()
    )


def _turned(node: list[Any], variables: Mapping[str, str]) -> list[Any]:
    match node:
        case ["variable", name]:
            return ["variable", variables[name]]
        case ["constant", _]:
            return node
        case ["all" | "exists" as quantifier, name, body]:
            other = "exists" if quantifier == "all" else "all"
            new = f"y{len(variables) + 1}"
            return ["not", [other, new, ["not", _turned(body, {**variables, name: new})]]]
        case ["implies", left, right]:
            return ["implies", ["not", _turned(right, variables)], ["not", _turned(left, variables)]]
        case ["and" | "or" as operator, left, right]:
            return [operator, _turned(right, variables), _turned(left, variables)]
    return [part if isinstance(part, str) else _turned(part, variables) for part in node]


def _plan(problem: Problem, rng: random.Random) -> str | None:
    """Two steps that do not depend on each other in the other order, as unified-planning finds."""
    steps = (problem.program or "").splitlines()
    for n in rng.sample(range(len(steps) - 1), min(4, len(steps) - 1)):
        swapped = "\n".join([*steps[:n], steps[n + 1], steps[n], *steps[n + 2 :]])
        if methods.ask(problem, swapped).is_right:
            return swapped
    return None


def _regex(problem: Problem, rng: random.Random) -> str | None:
    """What greenery prints for its automaton."""
    from greenery.rxelems import from_fsm

    del rng
    automaton = methods.automaton(problem.program or "", problem.environment.get("dialect", "python"))
    return None if automaton.empty() else str(from_fsm(automaton).reduce())


def _smiles(problem: Problem, rng: random.Random) -> str | None:
    """What Indigo writes."""
    del rng
    found = str(methods.molecule(problem.program or "").canonicalSmiles())
    return None if "|" in found else found


def _sql(problem: Problem, rng: random.Random) -> str:
    """Comparisons turned round by sqlglot, and all of it in a common table expression unless its order counts."""
    import sqlglot
    from sqlglot import exp

    del rng
    turned: dict[type[exp.Expression], type[exp.Expression]] = {
        exp.GT: exp.LT, exp.LT: exp.GT, exp.GTE: exp.LTE, exp.LTE: exp.GTE, exp.EQ: exp.EQ, exp.NEQ: exp.NEQ,
    }  # fmt: skip
    tree = sqlglot.parse_one(problem.program or "", read="sqlite")
    for one in list(tree.find_all(*turned)):
        if not one.find_ancestor(exp.Join):
            one.replace(turned[type(one)](this=one.args["expression"].copy(), expression=one.this.copy()))
    text = tree.sql(dialect="sqlite")
    ordered = tree.args.get("order") or re.search(r"\bWITH\b", text, re.IGNORECASE)
    return text if ordered else f"WITH answer AS ({text}) SELECT * FROM answer"  # noqa: S608 - of gold, which is ours


_RULES: Mapping[str, Callable[[Problem, random.Random], str | None]] = {
    "amr": _amr, "fol": _fol, "plan": _plan, "regex": _regex, "smiles": _smiles, "sql": _sql,
}  # fmt: skip
