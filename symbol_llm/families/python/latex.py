r"""LaTeX in short answers, rewritten as plain text that `answers.py` reads. Not an evaluator, and not all of LaTeX.

>>> plain(r"3\frac{3}{4}"), plain(r"\left[0, \tfrac12\right)"), plain("2|x - |y||")
('(3+(3)/(4))', '[0,((1)/(2)))', '2 Abs(x -  Abs(y))')
"""

from __future__ import annotations

import re

MAX_DEPTH = 30

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|[A-Za-z]+|\s+|.", re.DOTALL)
_DROPPED = {
    "left", "right", "displaystyle", "textstyle", "big", "Big", "bigl", "bigr", "Bigl", "Bigr", "quad", "qquad", "limits",
    "mathstrut", "!", ",", ";", ":", "(", ")", "[", "]", "$", "_",
}  # fmt: skip
_SIGNS = {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "pm": "±", "infty": " oo ", "pi": " pi ", "le": "<=", "leq": "<=",
    "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "lt": "<", "gt": ">", "in": "∈", "cup": "∪", "circ": "°",
    "degree": "°", "%": "%", " ": " ", "{": "⦃", "}": "⦄", "lbrace": "⦃", "rbrace": "⦄", "lfloor": " floor(", "rfloor": ")",
    "lceil": " ceiling(", "rceil": ")", "lbrack": "[", "rbrack": "]", "&": " ",
}  # fmt: skip
_TEXTS = {"text", "mbox", "mathrm", "textbf", "textit", "mathbf", "textrm", "operatorname", "mathit"}
_FUNCTIONS = {
    "sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "exp", "ln", "log", "arcsin", "arccos", "arctan",
    "max", "min",
}  # fmt: skip
_NAMES = {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "max": "Max", "min": "Min"}
_GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "theta", "lambda", "mu", "nu", "rho", "sigma", "tau", "phi", "omega",
}  # fmt: skip
_SERIES = {"sum": "Sum", "prod": "Product"}
_BARS = ("\\lvert", "\\rvert", "\\vert", "|")
_BEFORE_AN_OPERAND = ("", *"+-*/^(,=<>[±⦃|&")


def plain(text: str) -> str:
    """Return `text` without LaTeX; ValueError at a command that is not understood."""
    reader = _Reader(_TOKEN.findall(text))
    return reader.upto(None).strip()


class _Reader:
    """Reads tokens from left to right, each once."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = ["|" if piece in _BARS else piece for piece in reversed(tokens)]
        self._are_bars_paired = self._tokens.count("|") % 2 == 0
        self._has_commands = any(piece[0] == "\\" for piece in tokens)
        self._depth = 0

    def upto(self, end: str | None) -> str:
        """Return the text before the piece `end` and consume both; None reads to the end."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
        made: list[str] = []
        while self._tokens:
            piece = self._tokens.pop()
            if piece == end and not (piece == "|" and _wants_an_operand(made)):
                self._depth -= 1
                return "".join(made)
            self._one(piece, made)
        if end is not None:
            raise ValueError(f"{end} is missing")
        self._depth -= 1
        return "".join(made)

    def _one(self, piece: str, made: list[str]) -> None:
        if piece in ("^", "_"):
            self._script(piece, made)
        elif piece == "{":
            is_group = self._has_commands
            inner = self.upto("}")
            made.append("," if inner == "," else f"({inner})" if is_group else f"⦃{inner}⦄")
        elif piece == "}":
            raise ValueError("} closes nothing")
        elif piece == "|" and self._are_bars_paired:
            made.append(f" Abs({self.upto('|')})")
        elif piece[0] == "\\":
            self._command(piece[1:], made)
        else:
            made.append(piece)

    def _script(self, piece: str, made: list[str]) -> None:
        argument = self._argument()
        if piece == "_":
            made.append(f"_{argument}" if argument.isalnum() else f"_({argument})")
        elif argument.strip() == "°":
            made.append("°")
        else:
            made.append(f"^({argument})")

    def _command(self, name: str, made: list[str]) -> None:  # noqa: PLR0912 - a branch a kind of command
        if name in _DROPPED:
            return
        if name in _SIGNS:
            made.append(_SIGNS[name])
        elif name in ("frac", "dfrac", "tfrac", "cfrac"):
            made.append(_fraction(self._argument(), self._argument(), made))
        elif name == "sqrt":
            made.append(self._root())
        elif name in ("binom", "dbinom", "tbinom"):
            made.append(f" binomial({self._argument()},{self._argument()})")
        elif name in _TEXTS:
            made.append(_words(self._raw()))
        elif name == "boxed":
            made.append(self._argument())
        elif name in _FUNCTIONS:
            made.append(self._function(name))
        elif name in _GREEK:
            made.append(f" {name} ")
        elif name in _SERIES:
            made.append(self._series(_SERIES[name]))
        elif name == "overline":
            made.append(_repeating(self._argument(), made))
        elif name == "begin":
            made.append(self._matrix(self._raw()))
        else:
            raise ValueError(f"\\{name} is not understood")

    def _next(self) -> str:
        while self._tokens and self._tokens[-1].isspace():
            self._tokens.pop()
        return self._tokens[-1] if self._tokens else ""

    def _argument(self) -> str:
        """Return the next group, command or character."""
        piece = self._next()
        if not piece:
            raise ValueError("an argument is missing")
        self._tokens.pop()
        if piece == "{":
            return self.upto("}")
        if piece[0].isalnum() and len(piece) > 1:  # \frac12
            self._tokens.append(piece[1:])
            return piece[0]
        made: list[str] = []
        self._one(piece, made)
        return "".join(made)

    def _raw(self) -> str:
        if self._next() != "{":
            raise ValueError("expected {")
        self._tokens.pop()
        made: list[str] = []
        while self._tokens and self._tokens[-1] != "}":
            made.append(self._tokens.pop())
        if not self._tokens:
            raise ValueError("} is missing")
        self._tokens.pop()
        return "".join(made)

    def _root(self) -> str:
        if self._next() != "[":
            return f" sqrt({self._argument()})"
        self._tokens.pop()
        degree = self.upto("]")
        return f"(({self._argument()})^(1/({degree})))"

    def _function(self, name: str) -> str:
        base = power = ""
        while self._next() in ("^", "_"):
            sign = self._tokens.pop()
            if sign == "^":
                power = self._argument()
            else:
                base = self._argument()
        if power.replace(" ", "") == "-1":
            raise ValueError("an inverse function is not understood")
        if self._next() == "(":
            self._tokens.pop()
            inner = self.upto(")")
        else:
            inner = self._operand()
        called = f" {_NAMES.get(name, name)}({inner}{',' + base if base else ''})"
        return f"({called})^({power})" if power else called

    def _operand(self) -> str:
        """Return the text up to the next sign: for sin 2x + 1, the operand is 2x."""
        made: list[str] = []
        while self._next() not in ("", "+", "-", ",", ")", "]", "}", "=", "<", ">", "&", "\\\\", "\\right", "\\cdot"):
            if made and self._tokens[-1][1:] in _FUNCTIONS:
                break
            self._one(self._tokens.pop(), made)
        return "".join(made)

    def _series(self, name: str) -> str:
        limits = {}
        while self._next() in ("^", "_"):
            sign = self._tokens.pop()
            limits[sign] = self._argument()
        index, _, low = limits.get("_", "").partition("=")
        if not (index.strip().isalpha() and low and "^" in limits):
            raise ValueError("a sum without its limits is not understood")
        return f" {name}({self._operand()},({index},{low},{limits['^']}))"

    def _matrix(self, name: str) -> str:
        if name == "array" and self._next() == "{":
            self._raw()
        elif name not in ("matrix", "pmatrix", "bmatrix", "array"):
            raise ValueError(f"{name} is not understood")
        rows: list[list[str]] = [[""]]
        while self._tokens:
            piece = self._tokens.pop()
            if piece == "\\end":
                self._raw()
                filled = [row for row in rows if row != [""]]
                return f" Matrix([{','.join('[' + ','.join(row) + ']' for row in filled)}])"
            if piece == "&":
                rows[-1].append("")
            elif piece == "\\\\":
                rows.append([""])
            else:
                made: list[str] = []
                self._one(piece, made)
                rows[-1][-1] = (rows[-1][-1] + "".join(made)).strip()
        raise ValueError("\\end is missing")


def _wants_an_operand(made: list[str]) -> bool:
    return next((piece.rstrip()[-1] for piece in reversed(made) if piece.strip()), "") in _BEFORE_AN_OPERAND


def _fraction(over: str, under: str, made: list[str]) -> str:
    """Return the fraction, together with the whole number before it if there is one."""
    while made and made[-1].isspace():
        made.pop()
    if made and made[-1].isdigit() and over.isdigit() and under.isdigit():
        return f"({made.pop()}+({over})/({under}))"
    return f"(({over})/({under}))"


def _repeating(digits: str, made: list[str]) -> str:
    """Return the number at the end of `made`, continued by `digits` that repeat for ever."""
    before = made.pop() if made else ""
    if before == "." and made and made[-1].isdigit():
        before = f"{made.pop()}."
    if not re.fullmatch(r"\d+\.\d*", before) or not digits.isdigit():
        raise ValueError("a line over what does not repeat is not understood")
    shift = len(before.partition(".")[2])
    return f"(({int(before.replace('.', ''))})/(10^{shift})+({int(digits)})/(10^{shift}*(10^{len(digits)}-1)))"


def _words(text: str) -> str:
    return "," if text.strip() in ("and", "or", ",") else f" {text} "
