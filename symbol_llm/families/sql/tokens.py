"""Queries as tokens: where they end, whether their rows are ordered, how their ties are broken, near misses of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from symbol_llm.ground.errors import Unparsable

TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<text>'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    |(?P<number>0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign><>|<=|>=|==|!=|\|\||<<|>>|->>|->|[-+*/%&|~<>=(),.;?:@$\#])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_FIRST = re.compile(r";[ \t]*(?=\n|\Z)|\n[ \t]*(?=\n)")
_GO_ON = (
    frozenset(
        (
            "select from where group order by having limit offset join left right full inner outer cross natural on using as and or"
            " not in is like glob between exists case when then else end union except intersect values asc desc over partition filter"
            " escape window collate nulls"
        ).split()
    )
    | set("),.=<>+-*/|%")
    | {"||", "<=", ">=", "<>", "!=", "=="}
)
"""Tokens that begin a line only where it continues a query."""
_PLAIN_NAME = re.compile(r"[^\W\d]\w*")
_SAME_SIGN = {"<>": "!=", "==": "="}
_SWAPS = {
    "<": ">=", ">": "<=", "<=": ">", ">=": "<", "=": "<>", "<>": "=", "!=": "=", "asc": "DESC", "desc": "ASC",
    "max": "MIN", "min": "MAX", "sum": "AVG", "avg": "SUM", "count": "MAX", "and": "OR", "or": "AND", "union": "EXCEPT",
}  # fmt: skip


def ends(text: str) -> Iterator[int]:
    """Yield the positions where a query may end, up to the first semicolon that ends a line."""
    at, is_open = 0, 0
    for token in TOKEN.finditer(text):
        if token.lastgroup == "other":  # never part of a query
            return
        if token[0] == ";" and _FIRST.match(text, token.start()):
            yield token.end()
            return
        if token.lastgroup == "space" and "\n" in token[0] and at and is_open <= 0:
            following = TOKEN.match(text, token.end())
            if following and following[0].lower() not in _GO_ON:
                yield at
        if token.lastgroup != "space":
            at = token.end()
            is_open += (token[0] == "(") - (token[0] == ")")
    yield at


def first_statement(text: str) -> str:
    """Return `text` up to the first blank line or line-ending semicolon, so that an error concerns that part alone."""
    match = _FIRST.search(text)
    return text[: match.end()].strip() if match else text


def query_of(program: str) -> list[str]:
    """Return the normal tokens of `program`; Unparsable unless it is one SELECT, possibly after WITH."""
    tokens = list(_tokens(program))
    while tokens and tokens[-1] == ";":
        tokens.pop()
    if not tokens:
        raise Unparsable("no query")
    if ";" in tokens:
        raise Unparsable("more than one statement; expected one query")
    if tokens[0] not in ("select", "with"):
        raise Unparsable(f"starts with {tokens[0][:40]!r}; expected SELECT or WITH")
    return tokens


def _tokens(program: str) -> Iterator[str]:
    for token in TOKEN.finditer(program):
        text = token[0]
        match token.lastgroup:
            case "space":
                continue
            case "other":
                raise Unparsable(f"character {token.start() + 1}: unexpected {text!r}")
            case "word":
                yield text.lower()
            case "name":
                # "x" may be a text where no column x exists, so only brackets and backticks lose their quotes.
                inner = text[1:-1].lower()
                plain = text[0] != '"' and _PLAIN_NAME.fullmatch(inner) and inner not in _KEYWORDS
                yield inner if plain else text
            case _:
                yield _SAME_SIGN.get(text, text)


_KEYWORDS = {
    "select", "from", "where", "group", "order", "by", "having", "limit", "offset", "join", "left", "right", "full",
    "inner", "outer", "cross", "natural", "on", "using", "as", "and", "or", "not", "in", "is", "null", "like", "glob",
    "between", "exists", "case", "when", "then", "else", "end", "distinct", "all", "union", "except", "intersect",
    "with", "recursive", "values", "asc", "desc", "cast", "collate", "over", "partition", "filter", "escape", "regexp",
    "match", "window", "rows", "range", "groups", "current_date", "current_time", "current_timestamp", "true", "false", "isnull",
    "notnull", "index", "indexed", "table", "default", "set",
}  # fmt: skip


_BOUNDARIES = {"<": "<=", ">": ">=", "<=": "<", ">=": ">"}


def near_misses(text: str) -> list[str]:
    """Return what may stand in place of the token `text` and is wrong there."""
    if re.fullmatch(r"\d{1,18}", text):
        return [str(int(text) + 1)]
    if text.startswith("'"):
        return [f"{text[:-1]}~'"]
    return [found[text.lower()] for found in (_SWAPS, _BOUNDARIES) if text.lower() in found]


def is_ordered(query: str) -> bool:
    """Return whether the outermost SELECT of `query` has an ORDER BY."""
    depth = 0
    tokens = query_of(query)
    for word, following in zip(tokens, [*tokens[1:], ""], strict=True):
        depth += (word == "(") - (word == ")")
        if depth == 0 and (word, following) == ("order", "by"):
            return True
    return False


def tie_breaks(query: str) -> list[str]:
    """Return `query` twice, with the ties of each ORDER BY broken by the columns returned, up and down; else as it is.

    `{ASC}` and `{DESC}` stand for all columns of the outermost SELECT; in an inner one the first column decides.
    """
    return list(dict.fromkeys(_tie_broken(query, direction) for direction in ("ASC", "DESC")))


def _tie_broken(query: str, direction: str) -> str:
    words, depth, open_at, before = [], 0, set(), ""
    for token in TOKEN.finditer(query.rstrip().rstrip(";")):
        text = token[0].lower()
        ends = depth in open_at and (text in (")", "limit") or text in _FRAMES)
        if ends:
            open_at.discard(depth)
            words.append(f", {{{direction}}} " if depth == 0 else f", 1 {direction} ")
        depth += (text == "(") - (text == ")")
        if (before, text) == ("order", "by"):
            open_at.add(depth)
        words.append(token[0].replace("{", "{{").replace("}", "}}"))
        before = before if token.lastgroup == "space" else text
    return "".join(words) + (f"\n, {{{direction}}}" if 0 in open_at else "")


def last_limit(query: str) -> re.Match[str] | None:
    """Return the LIMIT of the outermost SELECT with its numbers; None if there is none or it is not a plain number."""
    limits = [limit for limit in _LIMIT.finditer(query) if "'" not in limit[0] and '"' not in limit[0]]
    return limits[-1] if limits and limits[-1].end() == len(query) else None


def skipped(query: str) -> int:
    """Return how many rows the OFFSET of the last LIMIT skips."""
    limit = last_limit(query)
    return int((limit["second"] or 0) if limit["sign"] != "," else limit["first"]) if limit else 0


_LIMIT = re.compile(
    r"\bLIMIT\s+(?P<first>\d{1,9})(?:\s*(?P<sign>,|\bOFFSET\b)\s*(?P<second>\d{1,9}))?\s*(?:;\s*)?\Z", re.IGNORECASE
)
_FRAMES = ("rows", "range", "groups")
