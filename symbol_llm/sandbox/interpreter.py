"""The sandbox child's part in running Python: executes one program and returns its answer, tagged with its type.

It knows no gold. It imports the standard library alone, so that the parent it is forked from stays small and forking it cheap.
"""

from __future__ import annotations

import ast
import importlib
import random
import sys
import warnings
from fractions import Fraction
from typing import Any

from symbol_llm.sandbox.child import REHEARSALS

MAX_DEPTH = 20
"""Of containers in an answer."""

# A program's own oddities ("\d" in a plain string) are no news, and under -W error would become syntax errors.
warnings.filterwarnings("ignore", module=r"<program>")


def rehearse() -> None:
    """Run a program a few times, in the zygote; see `child.rehearse`. Every child has the random numbers that it leaves."""
    for _ in range(REHEARSALS):
        execute({"program": "a = 1\nb = a * 2 + 3\nanswer = b", "imports": []})
    random.seed(0)


def execute(args: dict[str, Any]) -> Any:
    """Run the program and return its answer, tagged with its type. Only ever called in a sandbox child."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    namespace |= {name: importlib.import_module(name) for name in args["imports"]}
    code = compile(args["program"], "<program>", "exec", dont_inherit=True)  # not our own __future__ imports
    exec(code, namespace)  # noqa: S102 - this is the sandbox
    if "function" in args:
        function = namespace.get(args["function"])
        if not callable(function):
            raise NameError(f"the program defines no function {args['function']}")
        return ["list", [_encode_result(function(*ast.literal_eval(f"[{call}]"))) for call in args["calls"]]]
    if callable(namespace.get("solution")):
        return _encode(namespace["solution"]())
    if "answer" not in namespace:
        raise NameError("the program defines neither solution() nor answer")
    return _encode(namespace["answer"])


def _encode(value: Any, depth: int = 0) -> list[Any]:  # noqa: PLR0911, PLR0912 - one return a type
    if depth > MAX_DEPTH:
        raise TypeError("the answer is nested too deeply")
    library = type(value).__module__.partition(".")[0]
    if library == "numpy":
        value = value.tolist()
    if library == "sympy":
        return _encode_sympy(value, depth)
    match value:
        case None:
            return ["none", None]
        case bool():
            return ["bool", value]
        case int():
            return ["int", int.__repr__(value)]
        case float():
            return ["float", float.__repr__(value)]
        case str():
            return ["str", str(value)]
        case Fraction():
            return ["fraction", f"{value.numerator}/{value.denominator}"]
        case complex():
            return ["expression", f"({value.real!r}) + ({value.imag!r})*I"]
        case list() | tuple():
            return ["list" if isinstance(value, list) else "tuple", [_encode(v, depth + 1) for v in value]]
        case set() | frozenset():
            return ["set", [_encode(v, depth + 1) for v in _in_order(value)]]
    if type(value).__module__ in ("decimal", "datetime"):
        return ["float" if hasattr(value, "as_tuple") else "str", str(value)]
    raise TypeError(f"the answer has type {type(value).__name__}; expected a number, string, bool, list or expression")


def _encode_result(value: Any, depth: int = 0) -> list[Any]:
    """Return what a function gave, tagged; containers by their kind, which counts here."""
    if depth > MAX_DEPTH:
        raise TypeError("the result is nested too deeply")
    for kind, name in ((list, "list"), (tuple, "tuple"), (set, "set"), (frozenset, "set")):
        if isinstance(value, kind):
            return [name, [_encode_result(v, depth + 1) for v in value]]
    if isinstance(value, dict):
        return ["dict", [[_encode_result(k, depth + 1), _encode_result(v, depth + 1)] for k, v in value.items()]]
    if isinstance(value, bytes | complex):
        return [type(value).__name__, repr(value)]
    return _encode(value)


def _in_order(values: set[Any] | frozenset[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def _encode_sympy(value: Any, depth: int) -> list[Any]:  # noqa: PLR0911 - one return a type
    sympy = sys.modules["sympy"]
    if value in (sympy.true, sympy.false):
        return ["bool", bool(value)]
    if isinstance(value, sympy.Basic):
        value = value.doit()  # a sum, limit or integral that was only written down
    if isinstance(value, sympy.Tuple | sympy.FiniteSet):
        kind = "tuple" if isinstance(value, sympy.Tuple) else "set"
        return [kind, [_encode(v, depth + 1) for v in value]]
    if isinstance(value, sympy.MatrixBase):
        return _encode(value.tolist(), depth)
    if isinstance(value, sympy.Interval | sympy.Union | sympy.core.relational.Relational):
        return ["str", _written(sympy, value)]
    if getattr(value, "is_Rational", False):
        return ["fraction", f"{value.p}/{value.q}"]
    if getattr(value, "is_Float", False):
        return ["float", repr(float(value))]
    return ["expression", str(value)]


def _written(sympy: Any, value: Any) -> str:
    """Return an interval, a union or a relation as it is written on paper."""
    if isinstance(value, sympy.Interval):
        return f"{'[('[bool(value.left_open)]}{value.start}, {value.end}{'])'[bool(value.right_open)]}"
    if isinstance(value, sympy.Union):
        return " ∪ ".join(_written(sympy, part) for part in value.args)
    if isinstance(value, sympy.FiniteSet):
        return f"{{{', '.join(map(str, value))}}}"
    if isinstance(value, sympy.core.relational.Relational):
        return f"{value.lhs} {'=' if value.rel_op == '==' else value.rel_op} {value.rhs}"
    return str(value)
