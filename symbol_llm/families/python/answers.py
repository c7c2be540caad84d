r"""Mathematical answers given as text: their structure, and whether two of them are equal.

    3\frac{3}{4}   \frac{\sqrt{3}}{2}   50\%   1,200   5\text{ cm}   3+4i   x = 3   [0, 1)   (1, 2)   {1, 2}   1 \pm \sqrt{2}

A text is split into tuples, sets, intervals, matrices and equations of expressions; `expressions.py` compares the
expressions. Equal means:

- A mixed number is a sum. Degree signs, currency and thousands separators are ignored. A unit counts if both have one.
- 50% equals 50, as is customary in the field, and also 0.5.
- `x = 3` equals 3 but not `y = 3`; other equations are equal if one is a multiple of the other. `x < 3` is an interval.
- Sets, and answers with commas but no brackets, are equal in any order, each member once; tuples and lists are ordered.
- `(a, b)` is a pair or an open interval. An interval's brackets count. A matrix is the list of its rows.
- `i` is the imaginary unit and `e` Euler's number.

Missed: the values of numbers in other bases; integrals; LaTeX that `latex.py` does not know. A date is not read as a
subtraction.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from symbol_llm.families.python import latex

MAX_CHARS = 500
MAX_DEPTH = 20
MAX_MEMBERS = 40
"""Most members of a set; each is compared with each."""

FUNCTIONS = {
    "sqrt", "cbrt", "exp", "log", "ln", "sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "Abs", "factorial", "binomial", "floor", "ceiling", "Rational", "Max", "Min", "re", "im",
    "conjugate", "Sum", "Product",
}  # fmt: skip

Kind = Literal["tuple", "list", "sequence", "set", "members", "interval", "union"]
Same = Callable[[str, str], bool]


class Scalar(NamedTuple):
    """An expression in plain syntax, with its unit."""

    text: str
    unit: str = ""


class Group(NamedTuple):
    """Several answers; `members` are those of a text without brackets, a `sequence` is a Python list.

    `ends` are the brackets of an interval.
    """

    kind: Kind
    items: tuple[Answer, ...]
    ends: str = ""


class Named(NamedTuple):
    """An answer that names the variable whose value it is."""

    name: str
    value: Answer


class Relation(NamedTuple):
    """An equation or inequality: `difference` is compared with 0 by `sign`, which is =, < or <=."""

    sign: str
    difference: str


Answer = Scalar | Group | Named | Relation


def read(text: str) -> Answer:
    """Return the answer in `text`; ValueError if it is not understood."""
    if len(text) > MAX_CHARS:
        raise ValueError("too long")
    text = text.strip().replace("\\\\%", "%")
    if not {"\\", "{", "$", "|"}.isdisjoint(text):
        text = latex.plain(re.sub(r"\\\$|\$(?=\d)", "", text).replace("$", ""))
    text = text.translate(_SIGNS).strip().rstrip(".").strip()
    if _DATE.fullmatch(text):
        raise ValueError("a date")
    return _read(text, 0)


def equal(found: Answer, gold: Answer, same: Same) -> bool:  # noqa: PLR0911 - a return a kind
    """Return whether two answers are equal; `same` compares expressions."""
    match found, gold:
        case Named(), Named():
            return found.name == gold.name and equal(found.value, gold.value, same)
        case Named(), _:
            return equal(found.value, gold, same)
        case _, Named():
            return equal(found, gold.value, same)
        case Scalar(), Scalar():
            return _same_scalar(found, gold, same)
        case Relation(), Relation():
            return found.sign == gold.sign and _same_relation(found, gold, same)
        case Group(), Group():
            return _same_group(found, gold, same)
    return False


# --- comparing --------------------------------------------------------------------------------------------------------


def _same_scalar(found: Scalar, gold: Scalar, same: Same) -> bool:
    units = found.unit, gold.unit
    if "%" in units and units != ("%", "%"):
        if all(units):
            return False
        hundredth = [f"({side.text})/100" if side.unit else side.text for side in (found, gold)]
        return same(found.text, gold.text) or same(*hundredth)
    if all(units) and units[0] != units[1]:
        return False
    return same(found.text, gold.text)


def _same_relation(found: Relation, gold: Relation, same: Same) -> bool:
    """Return whether two relations agree; equations may be multiples: f(x) g(p) = g(x) f(p) at a point p."""
    if found.sign != "=" or same(found.difference, gold.difference):
        return same(found.difference, gold.difference)
    ours, theirs = _at_a_point(found.difference), _at_a_point(gold.difference)
    if same(ours, "0") or same(theirs, "0"):
        return False
    return same(f"({found.difference})*({theirs})", f"({gold.difference})*({ours})")


def _at_a_point(difference: str) -> str:
    """Return `difference` with a number in place of each name, always the same one for the same name."""
    return re.sub(
        r"(?<![\w.])[A-Za-z]\w*",
        lambda name: name[0] if name[0] in _KNOWN else f"({zlib.crc32(name[0].encode()) % 9973 + 2}/10007)",
        difference,
    )


def _same_group(found: Group, gold: Group, same: Same) -> bool:
    ours, theirs = _as_interval(found, gold), _as_interval(gold, found)
    if len(ours.items) != len(theirs.items) or ours.ends != theirs.ends or not _can_be(ours, theirs):
        return False
    if _in_any_order(theirs) or (_are_named(ours) and _are_named(theirs)):
        return _same_members(ours, theirs, same)
    pairs = zip(ours.items, theirs.items, strict=True)
    if theirs.kind == "interval":
        return all((_is_infinite(two) and one == two) or equal(one, two, same) for one, two in pairs)
    return all(equal(one, two, same) for one, two in pairs)


def _can_be(found: Group, gold: Group) -> bool:
    """Return whether the kind of `found` can stand for that of `gold`, in order and ends."""
    kinds = (found.kind, gold.kind)
    if "interval" in kinds or "union" in kinds:
        return found.kind == gold.kind
    if found.kind == "set":
        return _in_any_order(gold)
    return kinds not in (("tuple", "set"), ("tuple", "list"), ("list", "tuple"))


def _in_any_order(group: Group) -> bool:
    return group.kind in ("set", "union") or (group.kind == "members" and not _are_named(group))


def _is_infinite(answer: Answer) -> bool:
    return isinstance(answer, Scalar) and answer.text in ("oo", "-oo")


def _as_interval(group: Group, other: Group) -> Group:
    """Return a pair or list of two as an interval if `other` is one."""
    if other.kind == "interval" and group.kind in ("tuple", "list", "sequence") and len(group.items) == 2:
        return Group("interval", group.items, "()" if group.kind == "tuple" else "[]")
    return group


def _interval(answer: Answer) -> Answer:
    return _as_interval(answer, Group("interval", ())) if isinstance(answer, Group) else answer


def _are_named(group: Group) -> bool:
    """Return whether each item is the value of a name of its own."""
    names = [item.name for item in group.items if isinstance(item, Named)]
    return len(names) == len(group.items) and len(set(names)) == len(names)


def _same_members(found: Group, gold: Group, same: Same) -> bool:
    """Return whether the members can be paired; equality is transitive enough to take the first that fits."""
    if len(gold.items) > MAX_MEMBERS:
        return False
    left = list(gold.items)
    for item in found.items:
        place = next((n for n, other in enumerate(left) if equal(item, other, same)), None)
        if place is None:
            return False
        del left[place]
    return True


# --- reading ----------------------------------------------------------------------------------------------------------

_SIGNS = str.maketrans({
    "−": "-", "–": "-", "—": "-", "·": "*", "×": "*", "÷": "/", "∞": " oo ", "π": " pi ", "√": " sqrt ", "²": "^2", "³": "^3",
    "½": "(1/2)", "¼": "(1/4)", "¾": "(3/4)",
})  # fmt: skip
_DATE = re.compile(r"\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{1,2}[-/]\d{1,2}[-/]\d{4}")
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?!\d)")
_CURRENCY = re.compile(r"(-?)\s*(?:[$€£¥]|Rs\.?|USD|EUR)\s*(?=[\d.])")
_UNIT = re.compile(
    r"(?P<number>.*[\d)])(?P<unit>\s*%|\s+(?!(?:pi|oo|sqrt|and|or|x|E|e|i)\b)[a-zA-Z][a-zA-Z]+(?:[ /*][a-zA-Z]+|\.)*(?:\s*\^\(?[23]\)?)?"
    r"|\s+(?:m|g|s|h|L|C|F|K|N|J|W|V|A)\s*(?:\^\(?[23]\)?)?|\s*\([a-zA-Z]{2}[a-zA-Z ]*\)"
    r"|(?:[cmk]m|[mk]g|ml|h(?:ou)?rs?|min(?:ute)?s?|sec(?:ond)?s?|days?|years?|met(?:er|re)s?|miles?|f(?:ee|oo)?t|in(?:ch)?(?:es)?|[mk]m?ph"
    r"|degrees?|cents?|dollars?)(?:\s*\^\(?[23]\)?)?)"
)
_SCALES = re.compile(
    r"\b(?:thousand|million|billion|trillion|lakh|crore|dozen|hundred|and|or|to|pm|am|sqrt|log|sin|cos)\b", re.I
)
_NAME = re.compile(r"[A-Za-z](?:_?\(?\w*\)?)?(?:\(\w\))?")
_RELATION = re.compile(r"<=|>=|≤|≥|<|>|==?")
_PAIRS = {"(": ")]", "[": ")]", "⦃": "⦄"}
_TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}


def _read(text: str, depth: int) -> Answer:  # noqa: PLR0911 - a return a shape
    text = text.strip()
    if depth > MAX_DEPTH or not text:
        raise ValueError("nested too deeply or empty")
    whole = _CURRENCY.sub(r"\1", text)
    without = whole[:1] + whole[1:].replace(",", "") if _GROUPED.match(whole.lstrip("+-")) else whole
    if without != whole and re.fullmatch(r"[+-]?\d+(\.\d+)?\D*", without) and not re.search(r",(?!\d{3}(?!\d))", whole):
        return _scalar(without)
    text = whole
    name, is_in, rest = text.partition("∈")
    if is_in:
        return Named(name.strip(), _read(rest, depth + 1))
    parts = _split(text, "∪")
    if len(parts) > 1:
        return Group("union", tuple(_interval(_read(part, depth + 1)) for part in parts))
    parts = [part for piece in _split(text, ",") for part in re.split(r"\s(?:and|or)\s", f" {piece} ")]
    if len(parts) > 1:
        return Group("members", tuple(_read(part, depth + 1) for part in parts if part.strip()))
    relation = _relation(text, depth)
    if relation is not None:
        return relation
    if text[0] in _PAIRS and _closes(text) == len(text) - 1:
        return _bracketed(text, depth)
    matrix = re.fullmatch(r"Matrix\((\[.*\])\)", text)
    if matrix:
        return _read(matrix[1], depth + 1)
    if text.count("±") == 1:
        return Group("members", tuple(_read(text.replace("±", sign), depth + 1) for sign in "+-"))
    return _scalar(text)


def _bracketed(text: str, depth: int) -> Answer:
    inner = text[1:-1].strip()
    ends = text[0] + text[-1]
    parts = [part for part in _split(inner, ",")] if inner else []
    if ends == "()" and len(parts) == 1:
        return _read(inner, depth + 1) if any(sign in inner for sign in "=<>±∪") else _scalar(text)
    if parts and not parts[-1].strip():
        parts.pop()
    items = tuple(_read(part, depth + 1) for part in parts)
    if len(items) == 2 and (ends in ("[)", "(]") or any(map(_is_infinite, items))):
        return Group("interval", items, ends)
    if ends not in ("()", "[]", "⦃⦄"):
        raise ValueError(f"{ends} do not belong together")
    kinds: dict[str, Kind] = {"()": "tuple", "[]": "list", "⦃⦄": "set"}
    return Group(kinds[ends], items)


def _relation(text: str, depth: int) -> Answer | None:
    signs = [(m.start(), m.end()) for m in _RELATION.finditer(text) if _depth(text, m.start()) == 0]
    if not signs or len(signs) > 2:
        return None
    ends = [0, *itertools.chain.from_iterable(signs), len(text)]
    sides = [text[ends[n] : ends[n + 1]].strip() for n in range(0, len(ends), 2)]
    words = [text[start:end].replace("==", "=").replace("≤", "<=").replace("≥", ">=") for start, end in signs]
    if words == ["="] and _NAME.fullmatch(sides[0]) and not _NAME.fullmatch(sides[1]):
        return Named(sides[0], _read(sides[1], depth + 1))
    if words == ["="] and _NAME.fullmatch(sides[1]):
        return Named(sides[1], _read(sides[0], depth + 1))
    if len(sides) == 2:
        return _inequality(sides, words[0])
    if words[0][0] == words[1][0] and words[0][0] in "<>" and _NAME.fullmatch(sides[1]):
        low, high, signs_ = (sides[0], sides[2], words) if words[0][0] == "<" else (sides[2], sides[0], words[::-1])
        ends_ = ("[" if "=" in signs_[0] else "(") + ("]" if "=" in signs_[1] else ")")
        return Named(sides[1], Group("interval", (_scalar(low), _scalar(high)), ends_))
    raise ValueError("relations that are not understood")


def _inequality(sides: list[str], sign: str) -> Answer:
    if sign == "=":
        return Relation("=", f"({_expression(sides[0])})-({_expression(sides[1])})")
    if _NAME.fullmatch(sides[1]) and not _NAME.fullmatch(sides[0]):
        sides, sign = sides[::-1], _TURNED[sign]
    if _NAME.fullmatch(sides[0]):
        close = "]" if "=" in sign else ")"
        bound = _scalar(sides[1])
        if sign[0] == "<":
            return Named(sides[0], Group("interval", (Scalar("-oo"), bound), f"({close}"))
        return Named(sides[0], Group("interval", (bound, Scalar("oo")), f"{'[' if close == ']' else '('})"))
    one, two = sides if sign[0] == "<" else sides[::-1]
    return Relation(sign.replace(">", "<"), f"({_expression(one)})-({_expression(two)})")


def _scalar(text: str) -> Scalar:
    text = text.replace("°", " ").strip()
    with_unit = _UNIT.fullmatch(text)
    if with_unit and not _SCALES.search(with_unit["unit"]):
        unit = re.sub(r"[\s.()]", "", with_unit["unit"]).lower()
        unit = unit[:-1] if len(unit) > 3 and unit.endswith("s") else unit
        return Scalar(_expression(with_unit["number"]), unit)
    return Scalar(_expression(text))


def _depth(text: str, place: int) -> int:
    return sum((sign in "([⦃") - (sign in ")]⦄") for sign in text[:place])


def _closes(text: str) -> int:
    """Return the position of the bracket that closes the one at the start of `text`."""
    depth = 0
    for n, sign in enumerate(text):
        depth += (sign in "([⦃") - (sign in ")]⦄")
        if depth == 0:
            return n
    return -1


def _split(text: str, by: str) -> list[str]:
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "([⦃") - (sign in ")]⦄")
        if sign == by and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


# --- expressions ------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+(?![\w.]))?)|(?P<name>[A-Za-z]\w*)|(?P<sign>\*\*|[-+*/^(),!\[\]])|(?P<space>\s+)"
)
_SPELLINGS = {
    "i": "I", "e": "E", "abs": "Abs", "max": "Max", "min": "Min", "ceil": "ceiling", "arcsin": "asin", "arccos": "acos",
    "arctan": "atan",
}  # fmt: skip
_KNOWN = {*FUNCTIONS, "pi", "E", "I", "oo"}


def _expression(text: str) -> str:
    """Return `text` with every product written out and `**` for powers; ValueError if a sign is unknown."""
    made: list[str] = []
    for kind, written in _tokens(text):
        piece = _SPELLINGS.get(written, written)
        if kind == "name" and made and made[-1][0].isdigit() and piece.isalpha() and piece not in _KNOWN:
            piece = "*".join(piece)  # 2xy
        if made and _is_product(made[-1], kind, piece):
            made.append("*")
        if piece == "!":
            _factorial(made)
        else:
            made.append("**" if piece == "^" else piece)
    return _with_roots(made)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    mixed = re.sub(r"(?<![\w.)/*^])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\w.])", r"(\1+\2/\3)", text)
    if re.search(r"[\d.]\s+[\d.]", mixed):
        raise ValueError("two numbers without a sign between them")
    place = 0
    while place < len(mixed):
        match = _TOKEN.match(mixed, place)
        if not match:
            raise ValueError(f"{mixed[place]!r} is not understood")
        place = match.end()
        if match.lastgroup != "space":
            yield match.lastgroup or "", match[0].lstrip("0") or "0" if re.fullmatch(r"0\d+", match[0]) else match[0]


def _is_product(before: str, kind: str, piece: str) -> bool:
    ends_operand = before == ")" or before[0].isalnum() or before[0] == "."
    if not ends_operand:
        return False
    if kind in ("number", "name"):
        return before not in FUNCTIONS
    return piece == "(" and before not in FUNCTIONS and (not before[0].isalpha() or len(before) == 1)


def _factorial(made: list[str]) -> None:
    """Replace the operand at the end of `made` by its factorial."""
    depth = 0
    for start in range(len(made) - 1, -1, -1):
        depth += (made[start] == ")") - (made[start] == "(")
        if depth == 0:
            made[start:] = ["factorial", "(", *made[start:], ")"]
            return
    raise ValueError("! follows nothing")


def _with_roots(made: list[str]) -> str:
    """Join the tokens; a root without brackets, as of √3, takes the number or name that follows."""
    for n in range(len(made) - 2, -1, -1):
        if made[n] in ("sqrt", "ln", "log", "sin", "cos", "tan") and made[n + 1] != "(":
            made[n + 1] = f"({made[n + 1]})"
    return "".join(made)
