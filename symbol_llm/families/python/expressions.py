"""Expressions of mathematics, as texts: whether two of them are equal.

What can be decided here is decided here: numbers by interval arithmetic, rational functions by their values at points
modulo a prime, where two that differ agree with a chance below 1e-12 (Schwartz 1980; Zippel 1979). The rest is SymPy's,
in a sandbox child, since a text of a model's can keep SymPy busy for ever. No text is evaluated as Python anywhere.

>>> decide("pi*r**2", "r*pi*r"), decide("sin(x)**2 + cos(x)**2", "1")
(True, None)
"""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

from symbol_llm.sandbox import executor

if TYPE_CHECKING:
    from symbol_llm.ground.params import Limits

SHAPE = re.compile(r"[\w\s+\-*/^().,\[\]]{1,500}")
PRIME = 2**61 - 1
POINTS = 3
MAX_POWER = 4096
"""Product of all exponents of a text up to which it is decided here."""
PRECISION = 120
"""Bits of an interval's ends."""

Operator = Callable[[Any, Any], Any]
_CONSTANTS = ("pi", "E")
_NOT_SYMBOLS = ("I", "oo", "zoo", "nan", "inf")
_FUNCTIONS = {
    "sqrt", "cbrt", "exp", "log", "ln", "sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "Abs", "factorial", "binomial", "floor", "ceiling", "Rational", "Max", "Min", "re", "im",
    "conjugate",
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], Operator] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b, ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}  # fmt: skip


def equal(left: str, right: str, limits: Limits) -> bool:
    """Say whether two texts are shown to be equal; TimedOut or LimitExceeded where SymPy came to no end within `limits`."""
    if not (SHAPE.fullmatch(left) and SHAPE.fullmatch(right)):
        return False
    decided = decide(left, right)
    if decided is not None:
        return decided
    compared = executor.run(f"{__name__}:same", {"left": left, "right": right}, limits, preload=("sympy",))
    compared.check_limits()
    return compared.value is True


def close(value: float, gold: float) -> bool:
    """Say whether two numbers are equal within 1e-4, or 1e-9 of gold where that is more, or a hundredth where less."""
    if not (math.isfinite(value) and math.isfinite(gold)):
        return False
    return abs(value - gold) <= max(1e-9, min(1e-4, abs(gold) / 100), 1e-9 * abs(gold))


def _parse(text: str) -> ast.expr:
    """Return the tree of `text`; SyntaxError or ValueError if there is none."""
    return ast.parse(text.strip().replace("^", "**"), mode="eval").body


# --- without SymPy ----------------------------------------------------------------------------------------------------


class _UndecidedError(Exception):
    """The text has what only SymPy understands."""


class _Field(Protocol):
    """Where expressions have values."""

    def number(self, text: str) -> Any:
        """Return the value of a decimal number."""

    def name(self, name: str) -> Any:
        """Return what a name stands for."""

    def binary(self, op: ast.operator, left: Any, right: Any) -> Any:
        """Add, subtract, multiply or divide."""

    def power(self, base: Any, exponent: int) -> Any:
        """Raise to a whole power."""

    def call(self, function: str, value: Any) -> Any:
        """Apply a function."""


class _Residues:
    """Numbers modulo PRIME. A constant is one number for ever, another name one at each point."""

    def __init__(self, point: int) -> None:
        self._point = point

    def number(self, text: str) -> int:
        value = Fraction(text)
        return value.numerator * pow(value.denominator, -1, PRIME) % PRIME

    def name(self, name: str) -> int:
        seed = name if name in _CONSTANTS else f"{name} {self._point}"
        return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8]) % PRIME

    def binary(self, op: ast.operator, left: int, right: int) -> int:
        if isinstance(op, ast.Div):
            return left * pow(right, -1, PRIME) % PRIME
        return int(_OPERATORS[type(op)](left, right) % PRIME)

    def power(self, base: int, exponent: int) -> int:
        return pow(base, exponent, PRIME)

    def call(self, function: str, value: int) -> int:
        raise _UndecidedError(function)


class _Intervals:
    """Real numbers between two ends."""

    _FUNCTIONS = ("sqrt", "exp", "log", "ln", "sin", "cos")

    def __init__(self) -> None:
        from mpmath import iv

        iv.prec = PRECISION
        self._iv = iv

    def number(self, text: str) -> Any:
        return self._iv.mpf(text)

    def name(self, name: str) -> Any:
        return {"pi": self._iv.pi, "E": self._iv.e}[name]

    def binary(self, op: ast.operator, left: Any, right: Any) -> Any:
        return _OPERATORS[type(op)](left, right)

    def power(self, base: Any, exponent: int) -> Any:
        return base**exponent

    def call(self, function: str, value: Any) -> Any:
        if function not in self._FUNCTIONS:
            raise _UndecidedError(function)
        return getattr(self._iv, function)(value)


def decide(left: str, right: str) -> bool | None:
    """Say whether two texts are equal expressions, which what is none never is; None where only SymPy could tell."""
    try:
        trees = _parse(left), _parse(right)
    except (SyntaxError, ValueError):
        return False
    except (RecursionError, MemoryError):
        return None
    if not all(map(_is_expression, trees)):
        return False
    try:
        found = [_decide(*pair) for pair in _paired(*trees)]
    except (_UndecidedError, ValueError, ArithmeticError, TypeError, RecursionError):
        return None
    if False in found:
        return False
    return None if None in found else True


def _is_expression(tree: ast.expr) -> bool:
    """Say whether `tree` has nothing that `_read` would refuse."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                pass
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS:
                pass
            case ast.BinOp(op=op) if type(op) in _OPERATORS:
                pass
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                pass
            case ast.Name() | ast.List() | ast.Tuple() | ast.operator() | ast.unaryop() | ast.expr_context():
                pass
            case _:
                return False
    return True


def _paired(left: ast.expr, right: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    match left, right:
        case ((ast.List(elts=ours) | ast.Tuple(elts=ours)), (ast.List(elts=theirs) | ast.Tuple(elts=theirs))):
            if len(ours) != len(theirs):
                raise _UndecidedError
            yield from zip(ours, theirs, strict=True)
        case _:
            yield left, right


def _decide(left: ast.expr, right: ast.expr) -> bool | None:
    for side in (left, right):
        if math.prod(max(1, abs(n)) for n in _exponents(side)) > MAX_POWER:
            raise _UndecidedError
    called = {id(node.func) for side in (left, right) for node in ast.walk(side) if isinstance(node, ast.Call)}
    names = [node for side in (left, right) for node in ast.walk(side) if isinstance(node, ast.Name)]
    symbols = {node.id for node in names if id(node) not in called} - {*_CONSTANTS}
    if symbols & {*_NOT_SYMBOLS}:
        raise _UndecidedError
    return _same_function(left, right) if symbols else _same_number(left, right)


def _exponents(tree: ast.expr) -> Iterator[int]:
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(op=ast.Pow(), right=exponent):
                yield _whole(exponent)


def _whole(node: ast.expr) -> int:
    match node:
        case ast.Constant(value=int(n)) if not isinstance(n, bool):
            return n
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(n))) if not isinstance(n, bool):
            return -n
    raise _UndecidedError


def _same_function(left: ast.expr, right: ast.expr) -> bool | None:
    fields = [_Residues(point) for point in range(POINTS)]
    ours, theirs = ([_value(side, field) for field in fields] for side in (left, right))
    if ours == theirs:
        return True
    if len({*ours}) == len({*theirs}) == 1:  # all names cancel, and numbers have a tolerance
        return None
    return False


def _same_number(left: ast.expr, right: ast.expr) -> bool | None:
    field = _Intervals()
    values = [_value(left, field), _value(right, field)]
    if any(float(value.delta) > 1e-15 * max(1.0, abs(float(value.mid))) for value in values):
        return None
    return close(float(values[0].mid), float(values[1].mid))


def _value(node: ast.expr, field: _Field) -> Any:  # noqa: PLR0911 - a return a kind of node
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return field.number(str(number))
        case ast.Name(id=name):
            return field.name(name)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, field)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return field.binary(ast.Sub(), field.number("0"), _value(operand, field))
        case ast.BinOp(op=ast.Pow(), left=base, right=exponent):
            return field.power(_value(base, field), _whole(exponent))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATORS:
            return field.binary(op, _value(left, field), _value(right, field))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
            return field.call(name, _value(argument, field))
    raise _UndecidedError


# --- with SymPy, in the child -----------------------------------------------------------------------------------------


def same(args: dict[str, Any]) -> bool:
    """Return whether two texts are equal as mathematics; False also where that is not shown. Only called in a child."""
    import sympy

    try:
        left, right = (_read(_parse(args[side])) for side in ("left", "right"))
    except (SyntaxError, ValueError, ZeroDivisionError):
        return False
    pairs = [(left, right)]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = list(zip(left, right, strict=True))
    return all(isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr) and _is_zero(a, b) for a, b in pairs)


def _is_zero(left: Any, right: Any) -> bool:
    import sympy

    difference = left - right
    if not difference.free_symbols and left.is_real and right.is_real:
        return close(float(left), float(right))
    return bool(sympy.simplify(difference) == 0)


def _read(node: ast.AST) -> Any:
    """Build the expression from a syntax tree; ValueError if it is more than an expression."""
    import sympy

    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return sympy.Rational(str(number))
        case ast.Name(id=name) if name not in ("oo", "zoo", "nan", "inf"):
            return {"pi": sympy.pi, "E": sympy.E, "I": sympy.I}.get(name) or sympy.Symbol(name)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as op, operand=operand):
            value = _read(operand)
            return -value if isinstance(op, ast.USub) else value
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_read(left), _read(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return getattr(sympy, name)(*map(_read, arguments))
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_read(item) for item in items]
    raise ValueError(f"not an expression: {type(node).__name__}")
