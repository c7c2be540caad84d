r"""Python programs: programs of thought, or a requested function. Equal means: running gives the gold answer.

A program either defines `solution()`, whose return value is the answer, or assigns `answer` at top level; `solution`
wins. It runs in a sandbox child that returns a tagged value, which is compared with gold here, out of its reach:

- Numbers are compared by `notation/numbers.py`: whole numbers and ratios exactly, floats within 1e-9 of gold, and gold
  decimals of few digits within one unit of the last, at most 1e-4. NaN and infinity match nothing.
- A text that holds a number ("1,200", "3/4") counts as that number; other texts are compared ignoring case and runs of
  white space. A bool equals only a bool; None matches nothing; where gold is a list, lists and tuples are compared
  element by element, sets in sorted order.
- Gold that is a mathematical text ("2*(x + 1)", "2^10", "3\frac{3}{4}", "[0, 1)", "x = 3") is read by `answers.py`:
  sets in any order, intervals, equations, units. Expressions are equal if `expressions.py` can show it, without running
  any of the program's Python.

A problem with `environment["function"]` asks for a function of that name: `environment["calls"]` holds the arguments of
each call as source, such as "[1, 2], 'a'", and `answer` the results, each as the source of a literal.
The child receives the calls but never the results, so no program can forge its tests; it returns the result of each
call, which is compared here as Python's `==` does, except that floats are compared as above. A function that passes all
its tests may still be wrong elsewhere. `environment["compare"]` "form" is for code without tests: equal then means that
the normal form is gold's.

Missed: a right program of thought whose answer is a dict; programs that need input, the network or files.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import itertools
import math
import random
import re
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, Literal

from symbol_llm.families import Example, Needs, Ran, Redrawn, Result, needs, read_gold
from symbol_llm.families.python import answers, expressions, redrawing
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import numbers, replies
from symbol_llm.sandbox import executor, interpreter
from symbol_llm.sandbox.interpreter import MAX_DEPTH

VERSION = 6
METRIC = "execution accuracy"
MAX_ASKED = 12
"""Most pairs of expressions of one answer that are put to SymPy."""

REFLECTION = {
    "eval", "exec", "compile", "globals", "locals", "vars", "dir", "getattr", "setattr", "delattr", "hasattr", "help",
    "inspect", "sys", "gc", "__import__", "__builtins__", "__dict__", "__name__", "__qualname__", "__doc__", "__code__",
    "__annotations__", "__class__", "__globals__",
}  # fmt: skip
"""A program that uses one of these may depend on its own names, so it is compared as written."""


class Environment(Needs):
    """What judging needs besides program and gold."""

    imports: tuple[str, ...] = ()
    """Modules that a program finds imported."""
    function: str | None = None
    """Name of the function asked for; None: a program that sets `answer`."""
    calls: list[Any] | None = None
    """Arguments of each call of the function."""
    compare: Literal["form"] | None = None
    """`form`: compare normal forms and run nothing, for problems whose answer cannot be had by running."""

    def asks_for_a_value(self) -> bool:
        """Return whether only a value is asked for, which many programs give."""
        return self.function is None and self.compare is None


def _parse(program: str) -> ast.Module:
    try:
        return ast.parse(program, "<program>")
    except SyntaxError as e:
        raise Unparsable(f"line {e.lineno}, column {e.offset}: {e.msg}") from e
    except (ValueError, RecursionError, MemoryError, OverflowError) as e:
        raise Unparsable(f"not Python: {str(e) or type(e).__name__}") from e


_STATEMENT = re.compile(
    r"[a-z_]\w*(?:\[[^\]\n]*\])?[ ]*(?:[-+*/%]|//|\*\*)?=(?!=)|(?:for|while|if|with|def)\b[^\n]*[(:\[]"
)
"""Matches another statement, which may change the answer."""
program_of = replies.that_parses(_parse, label_alone=True, goes_on=_STATEMENT)


def canonical(program: str) -> str:
    """Return `program` without comments, docstrings and layout, with local names normalized and imports sorted."""
    tree = _parse(program)
    try:
        if not REFLECTION & set(_mentioned(tree)):
            _strip(tree)
            _rename(tree)
        return ast.unparse(tree)
    except RecursionError as e:
        raise Unparsable("nested too deeply") from e


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the answer as text; `environment["imports"]` are modules that the program finds imported."""
    outcome = _run(program, problem, limits)
    if outcome.status == "ok" and needs(problem, Environment).function:
        return Ran(_show_results(outcome.value), "", outcome.isolation)
    value = _decode(outcome.value)
    if outcome.status != "ok" or value is None:
        return Ran(None, outcome.detail or "the answer is None", outcome.isolation)
    return Ran(_show(value), "", outcome.isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if running `program` gives `problem.answer` or, where forms are compared, its form is gold's; else 0.0."""
    environment = needs(problem, Environment)
    if environment.compare == "form" and problem.answer is None:
        return Result(float(canonical(program) == read_gold(problem, canonical)))
    if environment.function:
        return _score_function(program, problem, limits)
    if problem.answer is None:
        raise InvalidInput(f"problem {problem.id} has no answer; a python problem needs one")
    outcome = _run(program, problem, limits)
    if outcome.status != "ok":
        return Result(0.0, outcome.detail, outcome.isolation)
    value = _decode(outcome.value)
    return Result(float(same_answer(value, problem.answer, limits)), _show(value), outcome.isolation)


def redraw(programs: Sequence[str], problem: Problem, rng: random.Random) -> Redrawn | None:
    """Return the question with other numbers, if it asks for a number; see `redrawing.py`."""
    environment = needs(problem, Environment)
    if problem.context or not environment.asks_for_a_value() or isinstance(problem.answer, (str, bool, list)):
        return None
    return redrawing.redraw(programs, problem.question, rng)


def same_answer(value: Any, gold: Any, limits: Limits) -> bool:
    """Return whether `value` equals the JSON value `gold`; `limits` bound the comparisons that need SymPy."""
    asked = itertools.count()

    def same(found: str, wanted: str) -> bool:
        decided = expressions.decide(found, wanted)
        if decided is None and next(asked) >= MAX_ASKED:
            raise LimitExceeded(f"more than {MAX_ASKED} pairs of expressions to compare")
        return expressions.equal(found, wanted, limits) if decided is None else decided

    return _matches(value, gold, same)


def _score_function(program: str, problem: Problem, limits: Limits) -> Result:
    calls, answer = needs(problem, Environment).calls, problem.answer
    if not isinstance(calls, list) or not isinstance(answer, list) or not 0 < len(calls) == len(answer):
        raise InvalidInput(f"problem {problem.id}: expected a list of calls and an answer with as many results")
    try:
        wanted = [ast.literal_eval(text) for text in answer]
    except (ValueError, SyntaxError) as e:
        raise InvalidInput(f"problem {problem.id}: a result is not a literal: {e}") from e
    outcome = _run(program, problem, limits)
    if outcome.status != "ok":
        return Result(0.0, outcome.detail, outcome.isolation)
    try:
        found = _plain(outcome.value)
    except _NoValue as e:
        return Result(0.0, str(e), outcome.isolation)
    return Result(float(_equals(found, wanted)), _show_results(outcome.value), outcome.isolation)


def _run(program: str, problem: Problem, limits: Limits) -> executor.Outcome:
    _parse(program)
    environment = needs(problem, Environment)
    args: dict[str, Any] = {"program": program, "imports": environment.imports}
    if environment.function:
        args |= {"function": environment.function, "calls": environment.calls or []}
    preload = ("sympy",) if "sympy" in program else ()
    outcome = executor.run(f"{interpreter.__name__}:execute", args, limits, preload=preload)
    outcome.check_limits()
    return outcome


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a number raised by 1, an operator swapped, or the answer raised by a half, in random order."""
    tree = _parse(program)
    places = [n for n, node in enumerate(ast.walk(tree)) if _mutate(copy.deepcopy(node))]
    rng.shuffle(places)
    for place in places:
        mutant = copy.deepcopy(tree)
        _mutate(list(ast.walk(mutant))[place])
        yield ast.unparse(mutant)


# --- parsing and the canonical form -----------------------------------------------------------------------------------


def _mentioned(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield name


def _strip(tree: ast.AST) -> None:
    """Remove statements that are mere constants; sort imports."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                kept = [s for s in block if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
                needed = block and not isinstance(node, ast.Module)
                setattr(node, name, _sort_imports(kept) or ([ast.Pass()] if needed else []))


def _sort_imports(block: list[ast.stmt]) -> list[ast.stmt]:
    """Sort the imports that open `block`, one name a statement; those that shadow one another keep their order."""
    opening = next((n for n, s in enumerate(block) if not isinstance(s, ast.Import | ast.ImportFrom)), len(block))
    single: list[ast.Import | ast.ImportFrom] = []
    for statement in block[:opening]:
        for alias in statement.names:  # type: ignore[attr-defined]
            one = copy.copy(statement)
            one.names = [alias]  # type: ignore[attr-defined]
            single.append(one)  # type: ignore[arg-type]
    bound = [_bound_by(s.names[0]) for s in single]
    if "*" not in bound and len(set(bound)) == len(bound):
        single.sort(key=lambda s: (getattr(s, "module", None) or "", s.names[0].name))
    return [*single, *block[opening:]]


def _bound_by(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _rename(tree: ast.Module) -> None:
    """Number every name that the program binds, in order of appearance; a name has the same number everywhere.

    Names that are visible from outside (attributes, keywords, members of classes) stay, so no two names are confused.
    """
    fixed = {"solution", "answer", "*"}
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                fixed.add(name)
            case ast.ClassDef(body=body):
                fixed.update(name for statement in body for name in _binds_deep(statement))
            case ast.Import(names=[ast.alias(name=name, asname=None)]) if "." in name:
                fixed.add(name.partition(".")[0])
    top = {name for node in tree.body for name in _binds_above(node)}
    if not top & {"solution", "answer"}:  # a module whose functions are called from outside
        fixed |= top
    numbers: dict[str, str] = {}
    for name in _binds_deep(tree):
        if name not in fixed and not name.startswith("__"):
            numbers.setdefault(name, f"${len(numbers)}")
    for node in list(ast.walk(tree)):
        _renumber(node, numbers)


def _binds_above(node: ast.AST) -> Iterator[str]:
    """Yield the names that `node` binds in its enclosing scope."""
    yield from _binds(node)
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.comprehension)
    for child in () if isinstance(node, inner) else ast.iter_child_nodes(node):
        yield from _binds_above(child)


def _binds_deep(node: ast.AST) -> Iterator[str]:
    yield from _binds(node)
    for child in ast.iter_child_nodes(node):
        yield from _binds_deep(child)


def _binds(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case ast.alias():
            yield _bound_by(node)


def _renumber(node: ast.AST, numbers: dict[str, str]) -> None:
    for field in ("id", "arg", "name", "rest"):
        name = getattr(node, field, None)
        if isinstance(name, str) and name in numbers and not isinstance(node, ast.alias | ast.keyword):
            setattr(node, field, numbers[name])
    if isinstance(node, ast.Global | ast.Nonlocal):
        node.names = [numbers.get(name, name) for name in node.names]
    if isinstance(node, ast.alias) and _bound_by(node) in numbers:
        node.asname = numbers[_bound_by(node)]


_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Add,
    ast.Pow: ast.Mult, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}  # fmt: skip


def _mutate(node: ast.AST) -> bool:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            node.value = number + 1
        case ast.Assign(targets=[ast.Name(id="answer")], value=value):
            node.value = ast.BinOp(value, ast.Add(), ast.Constant(0.5))
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in _SWAPS:
            node.op = _SWAPS[type(op)]()  # type: ignore[assignment]
        case ast.Compare(ops=[op]) if type(op) in _SWAPS:
            node.ops = [_SWAPS[type(op)]()]  # type: ignore[list-item]
        case _:
            return False
    return True


# --- the comparison, on the caller's side -----------------------------------------------------------------------------

_INTEGER = re.compile(r"[+-]?\d{1,4000}")
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_DECIMAL = re.compile(r"[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,3})?")
_RATIO = re.compile(r"([+-]?\d{1,4000})\s*/\s*(\d{1,4000})")


@dataclasses.dataclass(frozen=True)
class _Expression:
    text: str


@dataclasses.dataclass(frozen=True)
class _Set:
    items: list[Any]
    """In sorted order, where they have one."""


def _decode(tagged: Any, depth: int = 0) -> Any:
    """Return the child's value: bool, str, Fraction (exact), float, _Expression, list, tuple or _Set; None: malformed."""
    match tagged:
        case ["bool", bool(value)] | ["str", str(value)]:
            return value
        case ["expression", str(text)]:
            return _Expression(text)
        case ["int" | "fraction" | "float", str(text)]:
            return _number(text)
        case ["list" | "tuple" | "set" as kind, list(items)] if depth <= MAX_DEPTH:
            parts = [_decode(item, depth + 1) for item in items]
            return parts if kind == "list" else tuple(parts) if kind == "tuple" else _Set(parts)
        case _:
            return None


def _number(text: str) -> Fraction | float | None:
    """Return the number that `text` holds; decimal fractions are floats, whole numbers and ratios exact."""
    text = text.strip()
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    if _INTEGER.fullmatch(text):
        return Fraction(int(text))
    if ratio := _RATIO.fullmatch(text):
        bottom = int(ratio[2])
        return Fraction(int(ratio[1]), bottom) if bottom else None
    return float(text) if _DECIMAL.fullmatch(text) else None


def _matches(value: Any, gold: Any, same: Callable[[str, str], bool]) -> bool:  # noqa: PLR0911 - a return a type
    """Return whether the decoded `value` is the JSON value `gold`; `same` compares two expressions."""
    if isinstance(gold, bool) or isinstance(value, bool):
        return isinstance(gold, bool) and isinstance(value, bool) and value == gold
    if isinstance(gold, list):
        items = value.items if isinstance(value, _Set) else value
        both = isinstance(items, list | tuple) and len(items) == len(gold)
        return both and all(_matches(v, g, same) for v, g in zip(items, gold, strict=True))
    found = _number(value) if isinstance(value, str) else value
    wanted = _number(gold) if isinstance(gold, str) else Fraction(gold) if isinstance(gold, int) else gold
    if isinstance(found, Fraction | float) and isinstance(wanted, Fraction | float):
        return numbers.equal(found, wanted, numbers.unit_of(gold) if isinstance(gold, str) and "." in gold else None)
    if isinstance(value, str) and isinstance(gold, str) and _folded(value) == _folded(gold):
        return True
    if isinstance(value, list | tuple | _Set) and not isinstance(gold, str):
        return False
    try:
        return answers.equal(_answer(value), _answer(gold), same)
    except (ValueError, RecursionError):
        return False


def _answer(value: Any) -> answers.Answer:
    """Return a value in the form in which answers are compared; ValueError if it has none."""
    match value:
        case _Expression(text) | str(text):
            return answers.read(text)
        case Fraction() | int() | float():
            return answers.Scalar(_exactly(value))
        case list(items) | _Set(items) | tuple(items):
            kind: answers.Kind = (
                "sequence" if isinstance(value, list) else "set" if isinstance(value, _Set) else "tuple"
            )
            return answers.Group(kind, tuple(map(_answer, items)))
    raise ValueError("no answer")


def _exactly(number: Fraction | float) -> str:
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError("not a number")
    return f"({number})" if isinstance(number, Fraction) else repr(number)


class _NoValue(Exception):
    """The child returned something that is not a value."""


def _plain(tagged: Any, depth: int = 0) -> Any:  # noqa: PLR0911 - a return a kind
    """Return a result of a function as a Python value; _NoValue if it is malformed."""
    match tagged:
        case ["none", None]:
            return None
        case ["bytes" | "complex", str(text)] if len(text) < 4000:
            with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                return ast.literal_eval(text)
        case ["float", "nan" | "inf" | "-inf" as text]:
            return float(text)
        case ["list" | "tuple" | "set" as kind, list(items)] if depth <= MAX_DEPTH:
            parts = [_plain(item, depth + 1) for item in items]
            with contextlib.suppress(TypeError):
                return parts if kind == "list" else tuple(parts) if kind == "tuple" else set(parts)
        case ["dict", list(items)] if depth <= MAX_DEPTH and all(isinstance(i, list) and len(i) == 2 for i in items):
            with contextlib.suppress(TypeError):
                return {_plain(key, depth + 1): _plain(value, depth + 1) for key, value in items}
        case _:
            value = _decode(tagged)
            if isinstance(value, Fraction) and value.denominator == 1:
                return int(value)
            if value is not None:
                return value.text if isinstance(value, _Expression) else value
    raise _NoValue("the function's result cannot be compared")


def _equals(found: Any, wanted: Any) -> bool:
    """Return whether two values are equal by `==`, except that floats are compared with a tolerance."""
    if isinstance(found, complex) and isinstance(wanted, complex):
        return numbers.equal(found.real, wanted.real) and numbers.equal(found.imag, wanted.imag)
    if isinstance(found, float) or isinstance(wanted, float):
        are_numbers = isinstance(found, int | float | Fraction) and isinstance(wanted, int | float)
        return are_numbers and (found == wanted or numbers.equal(found, wanted))
    if isinstance(found, list | tuple) and type(found) is type(wanted):
        return len(found) == len(wanted) and all(map(_equals, found, wanted))
    if isinstance(found, dict) and isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(_equals(found[key], wanted[key]) for key in wanted)
    return bool(found == wanted)


def _show_results(tagged: Any) -> str:
    """Return the results of the calls as text, equal texts for equal values."""
    try:
        return ", ".join(map(_show_result, _plain(tagged)))
    except (_NoValue, TypeError):
        return "no values"


def _show_result(value: Any) -> str:
    match value:
        case float():
            return _show(value)
        case list():
            return f"[{', '.join(map(_show_result, value))}]"
        case tuple():
            return f"({', '.join(map(_show_result, value))})"
        case set():
            return f"{{{', '.join(sorted(map(_show_result, value)))}}}"
        case dict():
            return f"{{{', '.join(sorted(f'{_show_result(k)}: {_show_result(v)}' for k, v in value.items()))}}}"
        case _:
            return repr(value)


_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox)\s*\{([^{}\\]*)\}")
_SUBSCRIPT = re.compile(r"_\{(\w+)\}")


def _folded(text: str) -> str:
    """Return a text without case and runs of white space, nor LaTeX's marks of words and subscripts."""
    return " ".join(_SUBSCRIPT.sub(r"_\1", _LATEX_TEXT.sub(r"\1", text)).split()).casefold()


def _show(value: Any) -> str:
    match value:
        case _Expression(text):
            return text
        case list():
            return f"[{', '.join(map(_show, value))}]"
        case _Set(items):
            return f"{{{', '.join(map(_show, items))}}}"
        case tuple():
            return f"({', '.join(map(_show, value))})"
        case float():
            return f"{value:.10g}"  # 17.0 is 17
        case _:
            return str(value)


def _example(name: str, answer: Any, program: str, score: float | None, **environment: Any) -> Example:
    problem = Problem.of(
        task="example", family="python", split="train", instruction="Write Python.", question=f"What gives {answer!r}?",
        answer=answer, program=program, source="generated", licence="Apache-2.0", environment=environment,
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", 17, "eggs = 3 * 4\nanswer = eggs + 5", 1.0),
    _example("different-looking equal", 17, "def solution():\n    return sum([12, 5])", 1.0),
    _example("zero is an answer", 0, "answer = 7 - 7", 1.0),
    _example("number in a string", 1200, "answer = '1,200'", 1.0),
    _example("equal expression", "2*(x + 1)", "from sympy import symbols\nx = symbols('x')\nanswer = 2*x + 2", 1.0),
    _example("similar-looking different", 17, "eggs = 3 * 4\nanswer = eggs - 5", 0.0),
    _example("true is not one", 1, "answer = True", 0.0),
    _example("no answer", 17, "x = 17", 0.0),
    _example("crash", 17, "answer = 1 / 0", 0.0),
    _example("ill-formed", 17, "answer = (3 * 4", None),
    _example(
        "function", ["(1, 2)"], "def ends(xs):\n    return xs[0], xs[-1]", 1.0, function="ends", calls=["[1, 3, 2]"]
    ),
    _example(
        "function of another name", ["1"], "def first(xs):\n    return xs[0]", 0.0, function="head", calls=["[1]"]
    ),
)
