r"""Logic forms of plane geometry, as in Geometry3K. Equal means: the same set of forms.

    Equals(LengthOf(Line(A, B)), 2x+3)
    Perpendicular(Line(A, B), Line(B, C))
    Find(x)

One form per line, with or without a number or bullet before it and a full stop after it. The order and repetition of forms do not count, nor does the order of symmetric parts: the sides of
`Equals`, `Parallel`, `Perpendicular`, the ends of a `Line`, the terms of `Add`, `Mul`, `SumOf`, the lines of
`IntersectAt`, an `Angle` or `Arc` read backwards, the corners of a triangle, those of other polygons up to rotation and
reflection; in `Congruent` and `Similar` corners correspond, so both shapes are rotated together. `Point(A)` is `A`.

Algebra is that of the data set: numbers, letters, products written without a sign, + - * / ^, \sqrt{3}, \frac{1}{2},
\pi, placeholders `$`, `$1`, names such as `radius_0_0`, `angle 4`; also sqrt(3), √3, 45°, \(2x\), and `Line(AB)` for
`Line(A, B)`. Sums and products are compared in any order, and nothing else is computed: `2x+x` is not `3x`.

Gold is `problem.program`. A score below 1.0 is the F1 of the two sets, as in Lu et al. 2021; 1.0 needs all forms.
`environment` holds nothing. Missed: forms that follow from each other; which end of a sector is its centre.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from symbol_llm.families import Example, Needs, Ran, Result, read_gold
from symbol_llm.ground.errors import Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies

VERSION = 4
METRIC = "exact match of sets; F1 below it"

MAX_NESTING = 60
"""Most brackets and signs open at once while reading."""
MAX_DEPTH = 20
"""Most levels of a form; printing opens at most two brackets per level, so the printed form can be read again."""

Tree = tuple[Any, ...]
"""("call", predicate, tree ...), ("name" | "number", text), ("+" | "*" | "/" | "^" | "-" | "sqrt", tree ...)."""

_POLYGONS = {
    "Triangle": 3, "Quadrilateral": 4, "Parallelogram": 4, "Trapezoid": 4, "Rectangle": 4, "Square": 4, "Rhombus": 4,
    "Kite": 4, "Pentagon": 5, "Hexagon": 6, "Heptagon": 7, "Octagon": 8, "Polygon": 0, "Shape": 0,
}  # fmt: skip
_ARGUMENTS: Mapping[str, Sequence[int]] = {
    **{name: (1, n) if n else range(1, 21) for name, n in _POLYGONS.items()},
    **dict.fromkeys("Equals Parallel Perpendicular Congruent Similar PointLiesOnLine PointLiesOnCircle".split(), (2,)),
    **dict.fromkeys("Tangent Secant IsMidpointOf IsCentroidOf IsIncenterOf IsOrthocenterOf IsRadiusOf".split(), (2,)),
    **dict.fromkeys("IsDiameterOf IsMedianOf IsAltitudeOf IsPerpendicularBisectorOf IsMidsegmentOf".split(), (2,)),
    **dict.fromkeys("IsDiagonalOf IsHypotenuseOf IsLegOf IsBaseOf IsSideOf IsChordOf BisectsAngle Bisects".split(), (2,)),
    **dict.fromkeys("InscribedIn CircumscribedTo ScaleFactorOf".split(), (2,)),
    **dict.fromkeys("Find MeasureOf LengthOf AreaOf PerimeterOf RadiusOf DiameterOf CircumferenceOf HeightOf".split(), (1,)),
    **dict.fromkeys("BaseOf SideOf LegOf HypotenuseOf AltitudeOf MedianOf WidthOf HalfOf SquareOf SqrtOf".split(), (1,)),
    **dict.fromkeys("SinOf CosOf TanOf CotOf Isosceles Equilateral Regular Right RightAngle Minor Major".split(), (1,)),
    **dict.fromkeys("Shaded Red Blue Green Point UseTheorem".split(), (1,)),
    **dict.fromkeys("Line Circle RatioOf".split(), (1, 2)),
    **dict.fromkeys("Add Mul SumOf".split(), range(2, 21)),
    "Angle": (1, 3), "Arc": (1, 2, 3), "Sector": (1, 3), "IntersectAt": range(3, 21), "Sub": (2,), "Div": (2,), "Pow": (2,),
}  # fmt: skip
_UNORDERED = ("Equals", "Parallel", "Perpendicular", "Line", "Add", "Mul", "SumOf", "Triangle")
_REVERSIBLE = ("Angle", "Arc")


class Environment(Needs):
    """What judging needs besides program and gold: nothing."""


def canonical(program: str) -> str:
    """Return the forms sorted, each once, with symmetric parts sorted too."""
    return "\n".join(sorted({_show(_normal_form(form)) for form in _parse(program)}))


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the forms sorted."""
    return Ran(canonical(program))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the forms are those of gold, else the F1 of the two sets."""
    found = set(canonical(program).split("\n"))
    gold = read_gold(problem, lambda text: set(canonical(text).split("\n")))
    f1 = 2 * len(found & gold) / (len(found) + len(gold))
    return Result(f1, f"{len(found & gold)} of {len(found)} forms are among the {len(gold)} of gold, F1 {f1:.3f}")


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a form left out, or one letter, number or predicate changed, in random order."""
    forms = [_parse(line)[0] for line in canonical(program).split("\n")]
    letters = sorted({letter for form in forms for letter in _letters(form)} | {"A", "Z"})
    changed = [[*forms[:n], *forms[n + 1 :]] for n in range(len(forms)) if len(forms) > 1]
    changed += [
        [*forms[:n], other, *forms[n + 1 :]] for n, form in enumerate(forms) for other in _altered(form, letters, rng)
    ]
    rng.shuffle(changed)
    yield from ("\n".join(map(_show, other)) for other in changed)


def _letters(tree: Tree) -> Iterator[str]:
    if tree[0] == "name" and re.fullmatch("[A-Z]", tree[1]):
        yield tree[1]
    for part in tree[1:]:
        if isinstance(part, tuple):
            yield from _letters(part)


def _altered(tree: Tree, letters: Sequence[str], rng: random.Random) -> Iterator[Tree]:
    if tree[0] == "name" and (tree[1] in letters or tree[1] in _VARIABLES):
        among = letters if tree[1] in letters else _VARIABLES
        yield ("name", rng.choice([letter for letter in among if letter != tree[1]]))
    elif tree[0] == "number":
        yield ("number", _number(f"{float(tree[1]) + 1:.6f}"))
    elif tree[0] == "call" and tree[1] in _OTHERS:
        yield ("call", _OTHERS[tree[1]], *tree[2:])
    for n, part in enumerate(tree):
        if isinstance(part, tuple):
            yield from ((*tree[:n], other, *tree[n + 1 :]) for other in _altered(part, letters, rng))


_TIMES = ("*", "·", "×", r"\cdot", r"\times")
_VARIABLES = "abkxyz"
_PAIRS = ("Parallel Perpendicular", "Congruent Similar", "Add Mul", "RadiusOf DiameterOf", "AreaOf PerimeterOf", "SinOf CosOf",
          "LengthOf HalfOf", "PointLiesOnLine IsMidpointOf", "InscribedIn CircumscribedTo", "Minor Major")  # fmt: skip
_OTHERS = {one: other for pair in map(str.split, _PAIRS) for one, other in (pair, pair[::-1])}


# --- parsing ----------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<name>angle[ \t]+\d+|[A-Za-z]\w*'?|\$\d*|\\pi)|(?P<sign>√|\\sqrt|\\frac|\\cdot|\\times|[-+*·×/^(){},;])|(?P<other>\S))"
)
_MARK = re.compile(r"[ \t]*(?:\d{1,4}[.)]|[-*•])[ \t]+(?=[A-Z])")
_FUNCTIONS = ("sin", "cos", "tan", "log", "sqrt")
_SPELLING = (
    (re.compile("[`°]"), " "),
    (re.compile(r"\\[()]"), "  "),
    (re.compile(r"\^\\circ\b|\^\{\\circ\}"), "      "),
    (re.compile(r"\$([^$(),]+)\$(?=[ \t]*[,)])"), r" \1 "),
    (re.compile(r"\\[dt]frac"), r" \\frac"),
    (re.compile("[−–]"), "-"),
)
"""What Markdown and LaTeX add, and what stands in its place."""
_SPELT = frozenset(("Line", "Angle", "Arc", *_POLYGONS))
"""Predicates of points, which may be written without commas."""


def _parse(program: str) -> list[Tree]:
    forms: list[Tree] = []
    for n, line in enumerate(program.splitlines(), 1):
        if line.strip(" \t;,"):
            plain = line
            for pattern, sign in _SPELLING:
                plain = pattern.sub(sign, plain)
            marked = _MARK.match(plain)
            plain = " " * marked.end() + plain[marked.end() :] if marked else plain
            forms += _Parser(plain.rstrip(" \t;,."), n).forms()
    if not forms:
        raise Unparsable("no form; expected lines such as Find(x)")
    return forms


class _Parser:
    """Recursive descent over one line."""

    def __init__(self, line: str, n: int) -> None:
        self._line, self._n, self._at, self._nesting = line, n, 0, 0
        self._tokens: list[tuple[str, str, int]] = []
        for token in _TOKEN.finditer(line):
            kind = token.lastgroup or ""
            if kind == "other" or len(token[kind]) > 40:
                raise self._wrong("a form", token.start(kind))
            self._tokens += _split(kind, token[kind], token.start(kind))
        self._tokens.append(("", "", len(line)))

    def forms(self) -> Iterator[Tree]:
        """Yield the forms of the line, which `;` or `,` separates."""
        while True:
            if self._peek(1) != "(" or self._tokens[self._at][0] != "name":
                raise self._wrong("a form such as Equals(LengthOf(Line(A, B)), 3)")
            form = self._call()
            if _depth(form) > MAX_DEPTH:
                raise Unparsable(f"line {self._n}: a form of more than {MAX_DEPTH} levels")
            yield form
            if not self._take(";") and not self._take(","):
                break
        if self._peek():
            raise self._wrong("the end of the line")

    def _peek(self, ahead: int = 0) -> str:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)][1]

    def _wrong(self, expected: str, column: int | None = None) -> Unparsable:
        column = self._tokens[self._at][2] if column is None else column
        got = self._line[column : column + 40] or "the end"
        return Unparsable(f"line {self._n}, column {column + 1}: expected {expected}, got {got!r}")

    def _take(self, sign: str) -> bool:
        found = self._peek() == sign
        self._at += found
        return found

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise self._wrong(repr(sign))

    def _call(self) -> Tree:
        name = self._peek()
        if name not in _ARGUMENTS:
            raise self._wrong("a predicate such as Equals or Line")
        start = self._at
        self._at += 2
        arguments = [self._sum()]
        while self._take(","):
            arguments.append(self._sum())
        self._expect(")")
        points = arguments[0][1] if len(arguments) == 1 and arguments[0][0] == "name" and name in _SPELT else ""
        if len(points) > 1 and len(points) in _ARGUMENTS[name] and re.fullmatch("[A-Z]+", points):
            arguments = [("name", point) for point in points]
        if len(arguments) not in _ARGUMENTS[name]:
            self._at = start
            raise self._wrong(f"{name} with {' or '.join(map(str, list(_ARGUMENTS[name])[:3]))} arguments")
        return ("call", name, *arguments)

    def _sum(self) -> Tree:
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise self._wrong(f"at most {MAX_NESTING} brackets open at once")
        parts = [self._signed()]
        while self._peek() in ("+", "-"):
            parts.append(self._signed() if self._peek() == "-" or self._take("+") else ())
        self._nesting -= 1
        return ("+", *parts) if len(parts) > 1 else parts[0]

    def _signed(self) -> Tree:
        minus = 0
        while self._take("-"):
            minus += 1
        product = self._product()
        return ("-", product) if minus % 2 else product

    def _product(self) -> Tree:
        parts = [self._power()]
        while True:
            if any(map(self._take, _TIMES)):
                parts.append(self._power())
            elif self._take("/"):
                left = parts[0] if len(parts) == 1 else ("*", *parts)
                parts = [("/", left, self._power())]
                if _depth(parts[0]) > MAX_DEPTH:
                    raise self._wrong(f"at most {MAX_DEPTH} divisions")
            elif self._begins_factor():
                parts.append(self._power())
            else:
                return ("*", *parts) if len(parts) > 1 else parts[0]

    def _begins_factor(self) -> bool:
        """Return whether another factor follows without a sign; two numbers side by side are not a product."""
        kind, text, _ = self._tokens[self._at]
        after_number = self._tokens[self._at - 1][0] == "number"
        return kind == "name" or (kind == "number" and not after_number) or text in ("(", "√", "\\sqrt", "\\frac")

    def _power(self) -> Tree:
        base = self._primary()
        return ("^", base, self._primary()) if self._take("^") else base

    def _primary(self) -> Tree:  # noqa: PLR0911 - one return a kind of term
        kind, text, _ = self._tokens[self._at]
        if (
            kind == "name"
            and self._peek(1) == "("
            and (text in _ARGUMENTS or (len(text) > 1 and text not in _FUNCTIONS))
        ):
            return self._call()
        self._at += 1
        match kind, text:
            case ("name", "sqrt") if self._peek() == "(":
                return ("sqrt", self._primary())
            case ("name", _):
                return ("name", text)
            case ("number", _):
                return ("number", _number(text))
            case (_, "("):
                return self._closed(")")
            case (_, "{"):
                return self._closed("}")
            case (_, "\\sqrt"):
                self._expect("{")
                return ("sqrt", self._closed("}"))
            case (_, "√") if self._tokens[self._at][0] in ("name", "number") or self._peek() == "(":
                return ("sqrt", self._primary())
            case (_, "\\frac"):
                self._expect("{")
                above = self._closed("}")
                self._expect("{")
                return ("/", above, self._closed("}"))
        self._at -= 1
        raise self._wrong("a term")

    def _closed(self, sign: str) -> Tree:
        inner = self._sum()
        self._expect(sign)
        return inner


def _split(kind: str, text: str, column: int) -> Iterator[tuple[str, str, int]]:
    """Yield the token, or its letters if it is a product of variables such as `xy`."""
    if kind == "name" and re.fullmatch(r"[a-z]{2,3}", text) and text not in _FUNCTIONS:
        yield from (("name", letter, column + n) for n, letter in enumerate(text))
    elif text:
        yield kind, " ".join(text.split()), column


def _number(text: str) -> str:
    whole, _, part = text.partition(".")
    part = part.rstrip("0")
    return f"{whole.lstrip('0') or '0'}{'.' * bool(part)}{part}"


def _depth(tree: Tree) -> int:
    return 1 + max((_depth(part) for part in tree[1:] if isinstance(part, tuple)), default=0)


# --- normal form ------------------------------------------------------------------------------------------------------


def _normal_form(form: Tree) -> Tree:
    """Return a whole form in normal order; a `Point(A)` on its own stays, since a name is not a form."""
    return ("call", "Point", _normal(form[2])) if form[1] == "Point" else _normal(form)


def _normal(tree: Tree) -> Tree:
    if tree[0] in ("name", "number"):
        return tree
    if tree[0] == "call" and tree[1] in ("Congruent", "Similar"):
        return ("call", tree[1], *_turned_together(*map(_with_corners, tree[2:])))
    if tree[0] == "call":
        return _normal_call(tree[1], [_normal(part) for part in tree[2:]])
    operator, *parts = (tree[0], *map(_normal, tree[1:]))
    if operator == "-" and parts[0][0] == "-":
        return tuple(parts[0][1])
    if operator in ("+", "*"):
        flat = [inner for part in parts for inner in (part[1:] if part[0] == operator else (part,))]
        return (operator, *sorted(flat, key=_show))
    return (operator, *parts)


def _normal_call(name: str, parts: list[Tree]) -> Tree:
    if name == "Point" and parts[0][0] == "name":
        return parts[0]
    if name in _UNORDERED:
        parts = sorted(parts, key=_show)
    elif name in _REVERSIBLE:
        parts = min(parts, parts[::-1], key=_key)
    elif name in _POLYGONS:  # show each corner once, not once per rotation
        shown = min(_turned([(_show(part), n) for n, part in enumerate(parts)]))
        parts = [parts[n] for _, n in shown]
    elif name == "IntersectAt":
        parts = [*sorted(parts[:-1], key=_show), parts[-1]]
    return ("call", name, *parts)


def _key(parts: Sequence[Tree]) -> list[str]:
    return [_show(part) for part in parts]


def _turned(corners: Sequence[Any]) -> Iterator[list[Any]]:
    """Yield every rotation of `corners`, forwards and backwards."""
    for row in (list(corners), list(corners)[::-1]):
        yield from (row[n:] + row[:n] for n in range(len(row)))


def _with_corners(tree: Tree) -> Tree:
    """Return `tree` in normal order except for the corners of a polygon, which correspond to those of another."""
    if tree[0] == "call" and tree[1] in _POLYGONS:
        return ("call", tree[1], *map(_normal, tree[2:]))
    return _normal(tree)


def _turned_together(left: Tree, right: Tree) -> tuple[Tree, Tree]:
    """Return two shapes with corresponding corners in the least order of all in which both are turned alike."""
    same = left[0] == right[0] == "call" and left[1] == right[1] and left[1] in _POLYGONS and len(left) == len(right)
    if not same:
        return min((left, right), (right, left), key=_key)
    corners = [[(_show(corner), corner) for corner in shape[2:]] for shape in (left, right)]
    ways = [way for pair in (corners, corners[::-1]) for way in _turned(list(zip(*pair, strict=True)))]
    least = min(ways, key=lambda way: [[one for one, _ in shape] for shape in zip(*way, strict=True)])
    one, other = (("call", left[1], *(corner for _, corner in shape)) for shape in zip(*least, strict=True))
    return one, other


def _show(tree: Tree) -> str:
    match tree:
        case ("name" | "number", text):
            return str(text)
        case ("call", name, *parts):
            return f"{name}({', '.join(map(_show, parts))})"
        case ("sqrt", part):
            return f"\\sqrt{{{_show(part)}}}"
        case ("-", part):
            return f"-{_closed(part, '*/^')}"
        case ("+", first, *parts):
            rest = (_show(part) if part[0] == "-" else f"+{_show(part)}" for part in parts)
            return _show(first) + "".join(rest)
        case (operator, *parts):
            return str(operator).join(_closed(part, "^" if operator == "*" else "") for part in parts)
    raise AssertionError(tree)


def _closed(tree: Tree, bare: str) -> str:
    """Print `tree` in brackets unless it is one term or one of the operators `bare`."""
    return _show(tree) if tree[0] in ("name", "number", "call", "sqrt") or tree[0] in bare else f"({_show(tree)})"


_SQUARE = "Square(A, B, C, D)\nEquals(LengthOf(Line(A, B)), 2x+3)\nPerpendicular(Line(A, C), Line(B, D))\nFind(AreaOf(Triangle(A, B, C)))"


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="geometry", split="train", instruction="Write the logic forms.", program=_SQUARE,
        question="ABCD is a square whose side AB is 2x + 3. AC and BD are perpendicular. What is the area of ABC?",
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _SQUARE, 1.0),
    _example(
        "different-looking equal",
        "Find(AreaOf(Triangle(C,A,B)));\nEquals(3 + 2*x, LengthOf(Line(B,A)))\n"
        "Perpendicular(Line(D,B),Line(A,C))\nSquare(C,B,A,D)\nSquare(A,B,C,D)",
        1.0,
    ),
    _example("corners in another order", _SQUARE.replace("Square(A, B, C, D)", "Square(A, C, B, D)"), 0.75),
    _example("another length", _SQUARE.replace("2x+3", "2x-3"), 0.75),
    _example("form missing", "\n".join(_SQUARE.split("\n")[:3]), 6 / 7),
    _example("unknown predicate", _SQUARE.replace("Perpendicular", "Crosses"), None),
    _example("wrong number of arguments", _SQUARE.replace("Triangle(A, B, C)", "Triangle(A, B)"), None),
    _example("ill-formed", _SQUARE[:-1], None),
)
