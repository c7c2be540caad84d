"""SQL queries in SQLite's dialect. Equal means: on the problem's database the query returns the gold rows.

The database is `environment["database"]` (a file) or `environment["script"]` (the statements that make it); it is
opened read-only in a sandbox child, where an authorizer lets a query read tables and call functions, and nothing else.
Gold is `problem.answer`, a list of rows, or, where that is None, any of `environment["gold"]` or else
`problem.program`, each run in a child of its own.

Rows are compared as a multiset, as a list if the gold query's outermost SELECT has an ORDER BY. Columns count by place,
not by name; numbers may differ by 1e-6 of themselves. A query that reads no table is not accepted unless gold reads
none. Gold that returns no rows proves nothing: such a problem is refused as invalid, hence unscored and not collected.

Missed: two different queries that agree on this database by accident.
"""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from symbol_llm import sandbox
from symbol_llm.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.families import Example, Ran, Result
from symbol_llm.params import Limits
from symbol_llm.records import Problem

VERSION = 2
METRIC = "execution accuracy"

Row = list[Any]
"""Cells are None, int, float, str, or {"blob": hexadecimal digits}."""


class Rows(NamedTuple):
    """What a query returned, and whether it read any table."""

    rows: list[Row]
    reads: bool


def canonical(program: str) -> str:
    """Return the tokens of one query, a space between: words outside quotes in lower case, no comment or semicolon."""
    return " ".join(_query(program))


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the rows as text."""
    found, isolation = _run(program, problem, limits)
    return Ran(None, found, isolation) if isinstance(found, str) else Ran(str(found.rows), "", isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` returns the gold rows, else 0.0."""
    found, isolation = _run(program, problem, limits)
    if isinstance(found, str):
        return Result(0.0, found, isolation)
    accepted = any(
        _same_rows(found.rows, gold.rows, ordered=ordered) and (found.reads or not gold.reads)
        for gold, ordered in _gold(problem, limits)
    )
    return Result(float(accepted), str(found.rows), isolation)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one number raised by 1, or one comparison, direction, aggregate or text changed."""
    tokens = [token[0] for token in _TOKEN.finditer(program)]
    places = [n for n, token in enumerate(tokens) if _mutate(token) != token]
    rng.shuffle(places)
    for n in places:
        yield "".join([*tokens[:n], _mutate(tokens[n]), *tokens[n + 1 :]])


# --- tokens -----------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<text>'(?:[^']|'')*')
    |(?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
    |(?P<number>0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
    |(?P<word>[^\W\d]\w*)
    |(?P<sign><>|<=|>=|==|!=|\|\||<<|>>|->>|->|[-+*/%&|~<>=(),.;?:@$\#])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN_NAME = re.compile(r"[^\W\d]\w*")
_SAME_SIGN = {"<>": "!=", "==": "="}
_SWAPS = {
    "<": ">=", ">": "<=", "<=": ">", ">=": "<", "=": "<>", "<>": "=", "!=": "=", "asc": "DESC", "desc": "ASC",
    "max": "MIN", "min": "MAX", "sum": "AVG", "avg": "SUM", "count": "MAX", "and": "OR", "or": "AND", "union": "EXCEPT",
}  # fmt: skip


def _query(program: str) -> list[str]:
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
    for token in _TOKEN.finditer(program):
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


def _mutate(text: str) -> str:
    if re.fullmatch(r"\d+", text):
        return str(int(text) + 1)
    return f"{text[:-1]}~'" if text.startswith("'") else _SWAPS.get(text.lower(), text)


def _is_ordered(query: str) -> bool:
    """Return whether the outermost SELECT of `query` has an ORDER BY."""
    depth = 0
    tokens = _query(query)
    for word, following in zip(tokens, [*tokens[1:], ""], strict=True):
        depth += (word == "(") - (word == ")")
        if depth == 0 and (word, following) == ("order", "by"):
            return True
    return False


# --- running ----------------------------------------------------------------------------------------------------------


def _gold(problem: Problem, limits: Limits) -> Iterator[tuple[Rows, bool]]:
    """Yield each accepted result and whether its order counts; InvalidInput if gold does not run or is empty."""
    queries = problem.environment.get("gold") or ([problem.program] if problem.program else [])
    if problem.answer is not None:
        yield _not_empty(Rows(problem.answer, reads=True), problem), any(map(_is_ordered, queries))
        return
    if not queries:
        raise InvalidInput(f"problem {problem.id} has neither an answer nor a gold query")
    for query in queries:
        try:
            rows, _ = _run(query, problem, limits)
        except (Unparsable, LimitExceeded) as e:  # gold is ours
            raise InvalidInput(f"problem {problem.id}: gold query fails: {e}") from e
        if isinstance(rows, str):
            raise InvalidInput(f"problem {problem.id}: gold query fails: {rows}")
        yield _not_empty(rows, problem), _is_ordered(query)


def _not_empty(gold: Rows, problem: Problem) -> Rows:
    if not gold.rows:
        raise InvalidInput(f"problem {problem.id}: gold returns no rows, which any impossible condition would match")
    return gold


def _run(query: str, problem: Problem, limits: Limits) -> tuple[Rows | str, str]:
    """Return the rows or SQLite's complaint, and the isolation; Unparsable if it is one about grammar."""
    _query(query)
    database, script = problem.environment.get("database"), problem.environment.get("script")
    if (database is None) == (script is None):
        raise InvalidInput(f"problem {problem.id}: environment needs either `database` or `script`")
    if database is not None and not Path(database).is_file():
        raise InvalidInput(f"problem {problem.id}: no database {database!r}")
    readable = [Path(database)] if database is not None else []
    args = {"query": query, "database": database and str(Path(database).resolve()), "script": script}
    outcome = sandbox.run(f"{__name__}:select", args, limits, readable=readable)
    outcome.check_limits()
    if re.search("syntax error|unrecognized token|incomplete input", outcome.detail):
        raise Unparsable(outcome.detail)
    if outcome.status != "ok":
        return outcome.detail, outcome.isolation
    if "broken" in outcome.value:
        raise InvalidInput(f"problem {problem.id}: database cannot be used: {outcome.value['broken']}")
    return Rows(outcome.value["rows"], outcome.value["reads"]), outcome.isolation


def select(args: dict[str, Any]) -> dict[str, Any]:
    """Open the database, run the query and return its rows. Only ever called in a sandbox child."""
    try:
        connection = _open(args["database"], args["script"])
    except sqlite3.Error as e:
        return {"broken": str(e)}
    reads = False

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        nonlocal reads
        reads = reads or (action == sqlite3.SQLITE_READ and not (first or "").startswith("sqlite_"))
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in ("load_extension", "fts3_tokenizer"):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    rows = [[_cell(value) for value in row] for row in connection.execute(args["query"])]
    return {"rows": rows, "reads": reads}


_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)


def _open(database: str | None, script: str | None) -> sqlite3.Connection:
    if database is None:
        connection = sqlite3.connect(":memory:")
        connection.executescript(script or "")
    else:
        # immutable: no lock and no journal, for which there is no right to write
        connection = sqlite3.connect(f"file:{quote(database)}?mode=ro&immutable=1", uri=True)
    connection.execute("PRAGMA temp_store = MEMORY")  # big sorts would go to a file, which the sandbox denies
    connection.text_factory = lambda data: data.decode(errors="replace")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    return connection


def _cell(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"blob": value.hex()}
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return {"blob": repr(value)}
    return value


# --- comparing --------------------------------------------------------------------------------------------------------


def _same_rows(found: list[Row], gold: list[Row], *, ordered: bool) -> bool:
    if len(found) != len(gold):
        return False
    if not ordered:
        found, gold = sorted(found, key=_sort_key), sorted(gold, key=_sort_key)
    return all(
        len(left) == len(right) and all(map(_same_cell, left, right)) for left, right in zip(found, gold, strict=True)
    )


def _sort_key(row: Row) -> tuple[list[str], list[float]]:
    """Order by all that is no number first, so that a rounding error cannot change which rows are compared."""
    numbers = [cell for cell in row if isinstance(cell, int | float)]
    return [repr(cell) for cell in row if not isinstance(cell, int | float)], numbers


def _same_cell(found: Any, gold: Any) -> bool:
    if isinstance(found, int | float) and isinstance(gold, int | float):
        return found == gold or abs(found - gold) <= 1e-6 * max(1.0, abs(gold))
    return type(found) is type(gold) and bool(found == gold)


_CITIES = """
CREATE TABLE city (name TEXT, country TEXT, people INTEGER);
INSERT INTO city VALUES ('Bonn', 'DE', 330), ('Kiel', 'DE', 250), ('Lyon', 'FR', 520), ('Nice', 'FR', 331);
"""
_LARGE = "SELECT name FROM city WHERE people > 330 ORDER BY people DESC"


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="sql", split="train", instruction="Write SQL.", context="city(name, country, people)",
        question="Cities of more than 330 thousand people, the largest first?", program=_LARGE,
        environment={"script": _CITIES}, source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _LARGE, 1.0),
    _example("different-looking equal", "select c.NAME from city as c where not people <= 330 order by -people;", 1.0),
    _example("similar-looking different", "SELECT name FROM city WHERE people > 330 ORDER BY people", 0.0),
    _example("one row too many", "SELECT name FROM city WHERE people >= 330 ORDER BY people DESC", 0.0),
    _example("constants without a table", "SELECT 'Lyon' UNION ALL SELECT 'Nice'", 0.0),
    _example("unknown column", "SELECT title FROM city", 0.0),
    _example("two statements", "SELECT name FROM city; DROP TABLE city", None),
    _example("not a query", "DELETE FROM city", None),
    _example("ill-formed", "SELECT name FORM city WHERE", None),
)
