"""Mathematical expressions given as text: whether two of them are equal.

Simple cases are decided here: numbers exactly or by interval arithmetic, rational functions by their values at points
modulo a prime, where two that differ agree with a probability below 1e-12 (Schwartz 1980; Zippel 1979). The rest is
left to SymPy in a sandbox child, since a model's text can keep SymPy busy for ever. No text is evaluated as Python, and
no number computed here is longer than MAX_BITS. The second text is gold's; `notation/numbers.py` has the tolerance.

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

from symbol_llm.families.python.answers import FUNCTIONS
from symbol_llm.notation import numbers
from symbol_llm.sandbox import executor

if TYPE_CHECKING:
    from symbol_llm.ground.params import Limits

SHAPE = re.compile(r"[\w\s+\-*/^().,]{1,2000}")
PRIME = 2**61 - 1
POINTS = 3
MAX_POWER = 4096
"""Largest product of a text's exponents for which it is decided here."""
PRECISION = 120
"""Precision of an interval's ends, in bits."""
MAX_BITS = 20_000
"""Most bits of a number that is computed exactly here."""
MAX_FACTORIAL = 1000
MAX_ARGUMENT = 1e6
"""Largest argument of exp, sin and cos of an interval, whose cost grows with it."""

Operator = Callable[[Any, Any], Any]
_CONSTANTS = ("pi", "E")
_NOT_SYMBOLS = ("I", "oo", "zoo", "nan", "inf")
_OPERATORS: dict[type[ast.operator], Operator] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b, ast.Mult: lambda a, b: a * b, ast.Div: lambda a, b: a / b,
    ast.Pow: lambda a, b: a**b,
}  # fmt: skip


def equal(left: str, right: str, limits: Limits) -> bool:
    """Return whether two texts can be shown equal; TimedOut or LimitExceeded if SymPy exceeds `limits`."""
    if not (SHAPE.fullmatch(left) and SHAPE.fullmatch(right)):
        return False
    decided = decide(left, right)
    if decided is not None:
        return decided
    compared = executor.run(f"{__name__}:same", {"left": left, "right": right}, limits, preload=("sympy",))
    compared.check_limits()
    return compared.value is True


def _parse(text: str) -> ast.expr:
    """Return the tree of `text`; SyntaxError or ValueError if there is none."""
    return ast.parse(text.strip().replace("^", "**"), mode="eval").body


# --- without SymPy ----------------------------------------------------------------------------------------------------


class _UndecidedError(Exception):
    """The text uses something that only SymPy understands."""


class _Field(Protocol):
    """A domain in which expressions are evaluated."""

    def number(self, text: str) -> Any:
        """Return the value of a decimal number."""

    def name(self, name: str) -> Any:
        """Return the value of a name."""

    def binary(self, op: ast.operator, left: Any, right: Any) -> Any:
        """Add, subtract, multiply or divide."""

    def power(self, base: Any, exponent: int) -> Any:
        """Raise to an integer power."""

    def call(self, function: str, value: Any) -> Any:
        """Apply a function."""


class _Residues:
    """Numbers modulo PRIME. A constant is always the same number; any other name has one number at each point."""

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
        if function not in self._FUNCTIONS or not abs(value) < MAX_ARGUMENT:
            raise _UndecidedError(function)
        return getattr(self._iv, function)(value)


class _Rationals:
    """Rational numbers of bounded size."""

    def number(self, text: str) -> Fraction:
        return Fraction(text)

    def name(self, name: str) -> Any:
        raise _UndecidedError(name)

    def binary(self, op: ast.operator, left: Fraction, right: Fraction) -> Fraction:
        if _bits(left) + _bits(right) > MAX_BITS:
            raise _UndecidedError
        return Fraction(_OPERATORS[type(op)](left, right))

    def power(self, base: Fraction, exponent: int) -> Fraction:
        if _bits(base) * abs(exponent) > MAX_BITS:
            raise _UndecidedError
        return base**exponent

    def call(self, function: str, value: Fraction) -> Fraction:
        if function == "sqrt" and value >= 0:
            root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
            if root * root == value:
                return root
        if function == "factorial" and value.denominator == 1 and 0 <= value <= MAX_FACTORIAL:
            return Fraction(math.factorial(int(value)))
        if function == "Abs":
            return abs(value)
        raise _UndecidedError(function)


def _bits(number: Fraction) -> int:
    return number.numerator.bit_length() + number.denominator.bit_length()


def decide(left: str, right: str) -> bool | None:
    """Return whether two texts are equal expressions, False if either is not one; None where only SymPy could tell."""
    try:
        trees = _parse(left), _parse(right)
    except (SyntaxError, ValueError):
        return False
    except (RecursionError, MemoryError):
        return None
    if not all(map(_is_expression, trees)):
        return False
    try:
        return _decide(*trees, _unit(right))
    except (_UndecidedError, ValueError, ArithmeticError, TypeError, RecursionError):
        return None


def _unit(gold: str) -> float | None:
    """Return one unit of the last digit of `gold`; None if it is not a decimal number."""
    found = re.fullmatch(r"\s*-?\s*(\d*\.\d+(?:[eE][+-]?\d{1,3})?)\s*", gold)
    return numbers.unit_of(found[1]) if found else None


def _is_expression(tree: ast.expr) -> bool:
    """Return whether `tree` contains nothing that `_read` would refuse."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=int() as number) if not isinstance(number, bool):
                pass
            case ast.Constant(value=float() as number) if math.isfinite(number):
                pass
            case ast.Call(func=ast.Name(id=name), keywords=[]) if name in FUNCTIONS:
                pass
            case ast.BinOp(op=op) if type(op) in _OPERATORS:
                pass
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                pass
            case ast.Name() | ast.Tuple() | ast.operator() | ast.unaryop() | ast.expr_context():
                pass
            case _:
                return False
    return True


def _decide(left: ast.expr, right: ast.expr, unit: float | None) -> bool | None:
    for side in (left, right):
        if math.prod(max(1, abs(n)) for n in _exponents(side)) > MAX_POWER:
            raise _UndecidedError
    called = {id(node.func) for side in (left, right) for node in ast.walk(side) if isinstance(node, ast.Call)}
    names = [node for side in (left, right) for node in ast.walk(side) if isinstance(node, ast.Name)]
    symbols = {node.id for node in names if id(node) not in called} - {*_CONSTANTS}
    if symbols & {*_NOT_SYMBOLS}:
        raise _UndecidedError
    return _same_function(left, right) if symbols else _same_number(left, right, unit)


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


def _same_number(left: ast.expr, right: ast.expr, unit: float | None) -> bool | None:
    found, gold = (_number(side) for side in (left, right))
    return None if found is None or gold is None else numbers.equal(found, gold, unit)


def _number(tree: ast.expr) -> numbers.Number | None:
    """Return the value: a Fraction if exact, else a float; None if it is too uncertain for that."""
    try:
        exact = _value(tree, _Rationals())
    except _UndecidedError:
        value = _value(tree, _Intervals())
        return float(value.mid) if float(value.delta) <= 1e-15 * max(1e-300, abs(float(value.mid))) else None
    return float(exact) if _has_decimals(tree) else Fraction(exact)


def _has_decimals(tree: ast.expr) -> bool:
    return any(isinstance(node, ast.Constant) and isinstance(node.value, float) for node in ast.walk(tree))


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
    """Return whether two texts can be shown to be mathematically equal. Only called in a sandbox child."""
    import sympy

    try:
        trees = [_parse(args[side]) for side in ("left", "right")]
        left, right = map(_read, trees)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return False
    if not (isinstance(left, sympy.Expr) and isinstance(right, sympy.Expr)):
        return False
    if left.free_symbols or right.free_symbols:
        return bool(sympy.simplify(left - right) == 0)
    if any(map(_has_decimals, trees)) or not all(side.is_Rational for side in (left, right)):
        found, gold = (_parts(side) for side in (left, right))
        return all(numbers.equal(one, two, _unit(args["right"])) for one, two in zip(found, gold, strict=True))
    return bool(left == right)


def _parts(number: Any) -> tuple[float, float]:
    value = complex(number)
    size = abs(value)
    return tuple(0.0 if abs(part) <= 1e-14 * size else part for part in (value.real, value.imag))  # type: ignore[return-value]


def _read(node: ast.AST) -> Any:
    """Build the expression from a syntax tree; ValueError if it contains anything else."""
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
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return getattr(sympy, name)(*map(_read, arguments)).doit()
        case ast.Tuple(elts=items):
            return sympy.Tuple(*map(_read, items))
    raise ValueError(f"not an expression: {type(node).__name__}")
