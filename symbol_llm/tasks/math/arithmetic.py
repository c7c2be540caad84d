"""Arithmetic in Python's syntax: small programs of assignments, run here and made from formulas. Numbers only."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping

from symbol_llm.ground.errors import InvalidInput

Number = int | float
TOLERANCE = 1e-4
OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def run(program: str, names: Mapping[str, Number] | None = None) -> dict[str, Number]:
    """Return the value of every name after the assignments of `program`; InvalidInput if it is more than arithmetic."""
    values = dict(names or {})
    try:
        lines = ast.parse(program).body
    except SyntaxError as e:
        raise InvalidInput(f"program {program!r}: {e.msg}") from e
    for line in lines:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = _value(value, values)
            case _:
                raise InvalidInput(f"program {program!r}: expected lines of the form name = arithmetic")
    return values


def _value(node: ast.expr, values: Mapping[str, Number]) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            try:
                return tidy(OPERATORS[type(op)](_value(left, values), _value(right, values)))
            except ZeroDivisionError as e:
                raise InvalidInput(f"{ast.unparse(node)!r}: divides by zero") from e
    raise InvalidInput(f"{ast.unparse(node)!r}: expected numbers, known names and + - * / // %")


def tidy(number: Number) -> Number:
    """Return `number` as an int if it is whole, else without binary rounding noise."""
    return int(number) if number == int(number) else round(number, 10)


def program_of_steps(text: str, answer: Number) -> str | None:
    """Return a line for each calculation `<<formula=result>>`, earlier results by name; None unless they give `answer`."""
    steps = re.findall(r"<<([^=<>]+)=([^<>]+)>>", text)
    lines: list[str] = []
    names: dict[str, str] = {}
    for n, (formula, result) in enumerate(steps):
        named = re.sub(r"(?<![\w.])[\d.]+(?![\w.])", lambda found: names.get(found[0], found[0]), formula)
        names[result.strip()] = f"step{n + 1}"
        try:
            right = ast.unparse(ast.parse(named.strip(), mode="eval"))
        except SyntaxError:
            return None
        lines.append(f"{'answer' if n + 1 == len(steps) else f'step{n + 1}'} = {right}")
    try:
        found = run("\n".join(lines))["answer"] if lines else None
    except (InvalidInput, KeyError):
        return None
    return "\n".join(lines) if found is not None and abs(found - answer) <= TOLERANCE else None


def program_of(formula: str, answer: Number) -> str | None:
    """Return `answer = formula` if that is arithmetic and gives `answer`, else None."""
    try:
        tree = ast.parse(re.sub(r"\b(\d+)\.0\b", r"\1", formula.strip()), mode="eval")
        program = f"answer = {ast.unparse(tree)}"
        value = run(program)["answer"]
    except (SyntaxError, InvalidInput):
        return None
    return program if abs(value - answer) <= TOLERANCE else None
