"""SQL queries in SQLite's dialect. Equal means: gold's rows on the problem's database and on others generated here.

The database is `environment["database"]` (a file) or `environment["script"]` (the statements that create it); it is
opened read-only in a sandbox child, where an authorizer lets a query read tables and call functions, and nothing else.
`environment["schema"]`, instead of these or besides a script, holds the CREATE TABLE statements alone.
Gold is any of `environment["gold"]` or else `problem.program`, each run in a child of its own. Without a gold query,
only `problem.answer` is compared, on the given database: rows, the cells of one row or column, or a single cell.

The generated databases are fillings of the schema or, without one, copies of the given database with changed rows
(`fillings.py`; test-suite accuracy, Zhong et al. 2020). They contain the constants that gold and the program compare
columns with (`hints.py`), the values just below and above, texts of the lengths compared with, group sums and
differences of numbers and dates likewise, longer and shorter texts, keys with and without a match, duplicates and ties,
and more groups than LIMIT shows; some have one row per table. They respect CHECK constraints and yes/no columns. A
generated database does not count if gold fails on it, is costly, depends on how ties are broken, or gives only NULL,
zero or nothing; so none is empty, and whether MAX of nothing is NULL or no row is never tested. The given database
always counts: where LIMIT cuts through rows that gold's ORDER BY leaves tied, any choice of them is right; where ties
are broken elsewhere, the result of either way of breaking them is. For a program refused on generated rows alone, the
value names the fewest rows that show the difference.

Rows are compared as a multiset or, if the gold query's outermost SELECT has an ORDER BY, as a list in which rows left
tied may stand in any order. Columns are matched by position, not by name. Two whole numbers must be the same;
other numbers may differ by RELATIVE; a decimal point alone makes no difference. A query that reads no table is accepted
only if gold reads none. Gold that returns no rows anywhere proves nothing: such a problem is refused as invalid, hence
unscored and not collected.

Missed: queries that differ only on databases that are not generated, such as ones with NULLs that gold does not ask
for; the choice of row for a column that is neither grouped by nor aggregated.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import random
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from pydantic import Field, model_validator

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.families.sql.fillings import SIZES, Filling, Hints, copies, fill, fillings, read
from symbol_llm.families.sql.hints import hints_of, is_readable
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies
from symbol_llm.notation.numbers import RELATIVE
from symbol_llm.sandbox import executor

VERSION = 6
METRIC = "execution accuracy"

GOLD_STEPS = 3_000_000
"""Instructions of SQLite's virtual machine, some 50 ms, that gold may take for a generated database to count."""
STEPS = 10 * GOLD_STEPS
"""Instructions that a program may take there."""

Row = list[Any]
"""Cells are None, int, float, str, or {"blob": hexadecimal digits}."""


class Rows(NamedTuple):
    """What a query returned, whether it read any table, and what it returns if ties are broken in other ways."""

    rows: list[Row]
    reads: bool
    ties: list[list[Row]] = []
    made: str = ""
    """The rows of the database as text, if it was generated and the text is wanted."""
    pool: list[list[Row]] = []
    """What the query returns without its last LIMIT, sorted both ways."""


MAX_PARSED = 20_000
"""Most characters parsed to find where a query without a fence ends."""


class Environment(Needs):
    """What judging needs besides program and gold."""

    database: str | None = None
    """SQLite file that queries run on."""
    script: str | None = None
    """Statements that create the database, in place of a file."""
    creates: str | None = Field(default=None, alias="schema")
    """The CREATE TABLE statements alone, instead of or besides a script."""
    gold: tuple[str, ...] = ()
    """Right queries; if empty, the problem's program alone."""

    @model_validator(mode="after")
    def _has_one_database(self) -> Self:
        if (self.database is None) == (self.script is None and self.creates is None):
            raise ValueError("expected `database`, or else `script` or `schema`")
        return self


def program_of(reply: str) -> str:
    """Return the query in `reply`: the whole text if it parses, else the longest prefix that does.

    A prefix ends with a semicolon at the end of a line, or with a line that the next one does not continue.
    """
    found = replies.program(reply)
    if found.fenced:
        return found.program
    left = MAX_PARSED
    for end in reversed(list(_ends(found.program))):
        left -= end
        if left >= 0 and is_readable(found.program[:end]):
            return found.program[:end].strip()
    return _first(found.program)


def _ends(text: str) -> Iterator[int]:
    """Yield the positions where a query may end, up to the first semicolon that ends a line."""
    at, is_open = 0, 0
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "other":  # never part of a query
            return
        if token[0] == ";" and _FIRST.match(text, token.start()):
            yield token.end()
            return
        if token.lastgroup == "space" and "\n" in token[0] and at and is_open <= 0:
            following = _TOKEN.match(text, token.end())
            if following and following[0].lower() not in _GO_ON:
                yield at
        if token.lastgroup != "space":
            at = token.end()
            is_open += (token[0] == "(") - (token[0] == ")")
    yield at


def _first(text: str) -> str:
    """Return `text` up to the first blank line or line-ending semicolon, so that an error concerns that part alone."""
    match = _FIRST.search(text)
    return text[: match.end()].strip() if match else text


def canonical(program: str) -> str:
    """Return the tokens of one query separated by spaces: unquoted words in lower case, no comment or semicolon."""
    return " ".join(_query(program))


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the rows as text."""
    first = range(len(SIZES) if _given(problem) is None else 1)
    found, isolation = _run(program, problem, hints_of(_gold_queries(problem), None), limits, list(first))
    fault = _fault(found)
    return Ran(None, fault, isolation) if fault else Ran(_show(found), "", isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` returns the gold rows on each database that counts, else 0.0."""
    _query(program)
    hints = hints_of(_gold_queries(problem), program)
    golds = list(_gold(problem, hints, limits))
    wanted = sorted({n for gold in golds for n in gold})
    may_tie = not {"order", "limit", "group_concat"}.isdisjoint(_query(program))
    found, isolation = _run(program, problem, hints, limits, wanted, ties=may_tie, steps=STEPS, shows=True)
    if fault := _fault(found):
        if "interrupted" in fault:
            raise LimitExceeded(f"on a database of few rows the query needs more than {STEPS} steps", isolation)
        return Result(0.0, fault, isolation)
    rows = {n: one for n, one in zip(wanted, found, strict=True) if not isinstance(one, str)}
    wrong = [[rows[n] for n, one in gold.items() if not _agrees(rows[n], one)] for gold in golds]
    if not all(wrong):
        return Result(1.0, _show(found), isolation)
    return Result(0.0, _why(min(wrong, key=len)) or _show(found), isolation)


def _why(wrong: list[Rows]) -> str:
    """Return the result on the smallest generated database where it is wrong; empty if wrong on the given one."""
    if not all(one.made for one in wrong):
        return ""
    least = min(wrong, key=lambda one: len(one.made))
    return f"{str(least.rows)[:MAX_SHOWN]} where there is {least.made}"


def _agrees(found: Rows, gold: Gold) -> bool:
    """Return whether a program's rows are gold's; if gold has no open ties, then however the program's are broken."""
    ways = [found.rows, *found.ties] if gold.firm else [found.rows]
    return all(_matches(rows, gold) for rows in ways) and found.reads >= gold.reads


def _fault(found: list[Rows | str]) -> str:
    return next((one for one in found if isinstance(one, str)), "")


def _show(found: list[Rows | str]) -> str:
    return str(next((one.rows for one in found if not isinstance(one, str) and one.rows), []))


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one number raised by 1, or one comparison, boundary, direction, aggregate or text changed."""
    tokens = [token[0] for token in _TOKEN.finditer(program)]
    changes = [(n, new) for n, token in enumerate(tokens) for new in _changes(token)]
    rng.shuffle(changes)
    for n, new in changes:
        yield "".join([*tokens[:n], new, *tokens[n + 1 :]])


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


_BOUNDARIES = {"<": "<=", ">": ">=", "<=": "<", ">=": ">"}


def _changes(text: str) -> list[str]:
    if re.fullmatch(r"\d{1,18}", text):
        return [str(int(text) + 1)]
    if text.startswith("'"):
        return [f"{text[:-1]}~'"]
    return [found[text.lower()] for found in (_SWAPS, _BOUNDARIES) if text.lower() in found]


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


class Gold(NamedTuple):
    """The result of a gold query, or the given answer, on one database."""

    ties: list[list[Row]]
    """The rows, with ties broken in opposite ways."""
    reads: bool
    ordered: bool
    lax: bool = False
    """On a generated database: nothing, zero and NULL are equal."""
    pool: list[list[Row]] = []
    """Where the last LIMIT cuts through rows that are tied: all rows, sorted both ways."""
    start: int = 0
    """Index in `pool` of the first row that LIMIT keeps."""

    @property
    def firm(self) -> bool:
        """Return whether breaking ties otherwise changes only the order of the rows."""
        return all(_same_rows(self.ties[0], other, ordered=False) for other in self.ties)

    @property
    def telling(self) -> bool:
        """Return whether the rows hold more than NULL and zero, which many wrong queries give too."""
        return not _is_nothing(self.ties[0])


def _is_nothing(rows: list[Row]) -> bool:
    """Return whether there is nothing but zero and NULL."""
    return all(cell in (None, 0) for row in rows for cell in row)


def _gold(problem: Problem, hints: Hints, limits: Limits) -> Iterator[dict[int, Gold]]:
    """Yield each gold query's results by number of the database, without those that prove nothing.

    InvalidInput if gold does not run or none of its results has a row.
    """
    queries = _gold_queries(problem)
    if not queries and problem.answer is not None:
        for rows in _readings(problem):
            yield _proofs({0: Gold([rows], reads=True, ordered=False)}, problem)
        return
    if not queries:
        raise InvalidInput(f"problem {problem.id} has neither an answer nor a gold query")
    for query in queries:
        try:
            results, _ = _run(query, problem, hints, limits, ties=True, steps=GOLD_STEPS)
        except (Unparsable, LimitExceeded) as e:  # gold is ours
            raise InvalidInput(f"problem {problem.id}: gold query fails: {e}") from e
        if all(isinstance(one, str) for one in results) or (_given(problem) is not None and _fault(results[:1])):
            raise InvalidInput(f"problem {problem.id}: gold query fails: {results[0]}")
        ordered = _is_ordered(query)
        found = {
            n: Gold(one.ties, one.reads, ordered, n > 0 or _given(problem) is None, one.pool, _skipped(query))
            for n, one in enumerate(results)
            if not isinstance(one, str)
        }
        if problem.answer is not None and not (0 in found and any(_matches(r, found[0]) for r in _readings(problem))):
            raise InvalidInput(f"problem {problem.id}: gold query gives {_show(results[:1])[:80]}, not the answer")
        yield _proofs(found, problem)


def _readings(problem: Problem) -> list[list[Row]]:
    """Return the rows that the answer may stand for: bare cells are one row or one column, a single cell is both."""
    answer = problem.answer
    given = answer if isinstance(answer, list) else [answer]
    rows = [list(row.values()) if isinstance(row, dict) and "blob" not in row else row for row in given]
    are_rows = all(isinstance(row, list) for row in rows)
    readings = [rows] if are_rows else [[rows], [[cell] for cell in rows]]
    cells = [cell for row in readings[-1] for cell in row]
    if not all(cell is None or isinstance(cell, str | int | float) or _is_blob(cell) for cell in cells):
        raise InvalidInput(
            f"problem {problem.id}: answer {str(answer)[:80]}; expected rows of texts, numbers and nulls"
        )
    return readings


def _is_blob(cell: Any) -> bool:
    return isinstance(cell, dict) and cell.keys() == {"blob"}


def _proofs(found: dict[int, Gold], problem: Problem) -> dict[int, Gold]:
    """Return the results that count: on the given database, and on generated ones where they do not depend on ties."""
    firm = {n: one for n, one in found.items() if one.firm or (n == 0 and _given(problem) is not None)}
    if not any(one.ties[0] for one in firm.values()):
        raise InvalidInput(f"problem {problem.id}: gold returns no rows, which any impossible condition would match")
    return firm


def _given(problem: Problem) -> str | None:
    """Return the problem's own database, file or script, which is number 0."""
    return needs(problem, Environment).database or needs(problem, Environment).script


def _gold_queries(problem: Problem) -> tuple[str, ...]:
    return needs(problem, Environment).gold or ((problem.program,) if problem.program else ())


def _run(
    query: str,
    problem: Problem,
    hints: Hints,
    limits: Limits,
    only: list[int] | None = None,
    *,
    ties: bool = False,
    steps: int = 0,
    shows: bool = False,
) -> tuple[list[Rows | str], str]:
    """Return the rows or SQLite's error by database, and the isolation; Unparsable if it is a syntax error."""
    _query(query)
    environment = needs(problem, Environment)
    database, script, schema = environment.database, environment.script, environment.creates
    if database is not None and not Path(database).is_file():
        raise InvalidInput(f"problem {problem.id}: no database {database!r}")
    readable = [Path(database)] if database is not None else []
    database = database and str(Path(database).resolve())
    args: dict[str, Any] = {"query": query, "database": database, "script": script, "schema": schema, "hints": hints}
    args |= {
        "steps": steps,
        "only": only,
        "ties": _tie_breaks(query) if ties else [],
        "given": _given(problem) is not None,
        "shows": shows,
        "pool": _tie_breaks(query[: limit.start()]) if ties and (limit := _last_limit(query)) else [],
    }
    n_results = len(only) if only is not None else 3 * (1 + len(fillings(hints)))
    wide = limits.model_copy(update={"output_kib": limits.output_kib * n_results * (4 if ties else 1)})
    outcome = executor.run(f"{__name__}:select", args, wide, readable=readable)
    outcome.check_limits()
    if outcome.status != "ok":
        return [outcome.detail], outcome.isolation
    if "broken" in outcome.value:
        raise InvalidInput(f"problem {problem.id}: database cannot be used: {outcome.value['broken']}")
    found = [one if isinstance(one, str) else Rows(*one) for one in outcome.value["results"]]
    for one in found:
        if isinstance(one, str) and re.search("syntax error|unrecognized token|incomplete input", one):
            raise Unparsable(one)
    return found, outcome.isolation


def _tie_breaks(query: str) -> list[str]:
    """Return `query` twice, with the ties of each ORDER BY broken by the columns returned, up and down; else as it is.

    `{ASC}` and `{DESC}` stand for all columns of the outermost SELECT; in an inner one the first column decides.
    """
    return list(dict.fromkeys(_tie_broken(query, direction) for direction in ("ASC", "DESC")))


def _tie_broken(query: str, direction: str) -> str:
    words, depth, open_at, before = [], 0, set(), ""
    for token in _TOKEN.finditer(query.rstrip().rstrip(";")):
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


def _last_limit(query: str) -> re.Match[str] | None:
    """Return the LIMIT of the outermost SELECT with its numbers; None if there is none or it is not a plain number."""
    limits = [limit for limit in _LIMIT.finditer(query) if "'" not in limit[0] and '"' not in limit[0]]
    return limits[-1] if limits and limits[-1].end() == len(query) else None


def _skipped(query: str) -> int:
    limit = _last_limit(query)
    return int((limit["second"] or 0) if limit["sign"] != "," else limit["first"]) if limit else 0


_LIMIT = re.compile(
    r"\bLIMIT\s+(?P<first>\d{1,9})(?:\s*(?P<sign>,|\bOFFSET\b)\s*(?P<second>\d{1,9}))?\s*(?:;\s*)?\Z", re.IGNORECASE
)
_FRAMES = ("rows", "range", "groups")


# --- in the child -----------------------------------------------------------------------------------------------------


def select(args: dict[str, Any]) -> dict[str, Any]:
    """Open or create each database, run the query and return its rows. Only ever called in a sandbox child."""
    results: list[Any] = []
    makers = _makers(args)
    for n in range(len(makers)) if args["only"] is None else args["only"]:
        is_copy = n > 0 and args["schema"] is None
        is_made = n >= args["given"]
        try:
            with contextlib.closing(makers[n]()) as opened:
                made = _preview(opened) if is_made and args["shows"] else ""
                if args["steps"] and is_made:
                    opened.set_progress_handler(lambda: 1, args["steps"])
                results.append(_result(opened, args, made, pools=not is_made))
        except sqlite3.Error as e:
            if not is_copy:  # a database that cannot be copied is judged alone
                return {"broken": str(e)}
            results.append(f"no copy: {e}")
        if args["only"] is not None and isinstance(results[-1], str):  # one fault of a program is enough
            break
    return {"results": results}


def _makers(args: dict[str, Any]) -> list[Callable[[], sqlite3.Connection]]:
    """Return functions that open the given database and create each of the others."""
    hints = Hints.of(args["hints"])
    opening = functools.partial(_open, args["database"], args["script"])
    given = [opening] if args["given"] else []
    if args["schema"] is not None:
        return [*given, *(functools.partial(_filled, args["schema"], hints, one) for one in fillings(hints))]
    contents = functools.cache(lambda: read(opening(), hints))
    return [*given, *(functools.partial(lambda make: make(contents()), make) for make in copies(hints))]


def _filled(schema: str, hints: Hints, filling: Filling) -> sqlite3.Connection:
    connection = _open(None, schema)
    fill(connection, hints, filling)
    return connection


def _result(connection: sqlite3.Connection, args: dict[str, Any], made: str, *, pools: bool) -> list[Any] | str:
    """Return the fields of `Rows`, or SQLite's error."""
    first = _attempt(connection, args["query"])
    if isinstance(first, str):
        return first
    n_columns = len(first[0][0]) if first[0] else 0
    if not args["ties"] or not n_columns:
        return [*first, [first[0]] if args["ties"] else [], made]
    breaks = {way: ", ".join(f"{1 + k} {way}" for k in range(n_columns)) for way in ("ASC", "DESC")}
    ties = _ties(connection, args["ties"], breaks, args["query"])
    if isinstance(ties, str):
        return ties
    is_tied = pools and any(sorted(map(repr, one)) != sorted(map(repr, first[0])) for one in ties)
    pool = _ties(connection, args["pool"], breaks, None) if is_tied else []
    return [*first, [first[0], *ties], made, [] if isinstance(pool, str) else pool]


def _ties(
    connection: sqlite3.Connection, queries: list[str], breaks: dict[str, str], otherwise: str | None
) -> list[list[Row]] | str:
    """Return the rows with ties broken in each way, or by `otherwise` if an ORDER BY takes no more terms."""
    ties = []
    for n, query in enumerate(queries):
        connection.set_authorizer(None)
        connection.execute(f"PRAGMA reverse_unordered_selects = {n + 1 == len(queries)}")
        found = _attempt(connection, query.format(**breaks), None if otherwise else MAX_POOL)
        if isinstance(found, str) and otherwise:
            found = _attempt(connection, otherwise)
        if isinstance(found, str):
            return found
        ties.append(found[0])
    return ties


MAX_POOL = 1000
"""Most rows that LIMIT may choose among; beyond that, only the choices with ties broken both ways are known."""
MAX_SHOWN = 120
"""Most characters shown of generated rows, and of a program's result on them."""


def _preview(connection: sqlite3.Connection) -> str:
    """Return the tables of a database with their first rows, shortened."""
    parts: list[str] = []
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid").fetchall():
        quoted = '"' + name.replace('"', '""') + '"'
        rows = connection.execute(f"SELECT * FROM {quoted} LIMIT 3").fetchall()  # noqa: S608 - a name of the database
        if rows:
            parts.append(f"{name} {', '.join(str(tuple(row)).replace(',)', ')') for row in rows)}")
    shown = "; ".join(parts) or "no row"
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]}..."


def _attempt(connection: sqlite3.Connection, query: str, most: int | None = None) -> tuple[list[Row], bool] | str:
    try:
        rows, reads = _select(connection, query, most)
    except sqlite3.Error as e:
        return f"{type(e).__name__}: {e}"
    return (rows, reads) if most is None or len(rows) <= most else f"more than {most} rows"


def _select(connection: sqlite3.Connection, query: str, most: int | None = None) -> tuple[list[Row], bool]:
    reads = False

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        nonlocal reads
        reads = reads or (action == sqlite3.SQLITE_READ and not (first or "").startswith("sqlite_"))
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in ("load_extension", "fts3_tokenizer"):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    found = itertools.islice(connection.execute(query), most and most + 1)
    return [[_cell(value) for value in row] for row in found], reads


_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)


def _open(database: str | None, script: str | None) -> sqlite3.Connection:
    if database is None:
        connection = sqlite3.connect(":memory:")
        connection.executescript(script or "")
    else:
        # immutable: no lock and no journal, for which there is no right to write
        connection = sqlite3.connect(f"file:{quote(database)}?mode=ro&immutable=1", uri=True)
    connection.execute("PRAGMA temp_store = MEMORY")  # the sandbox denies the file that a big sort would need
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


def _matches(found: list[Row], gold: Gold) -> bool:
    """Return whether `found` are gold's rows, in gold's order up to ties if it has one."""
    if gold.lax and not gold.telling:
        return _is_nothing(found)
    if not gold.firm:
        return any(_same_rows(found, rows, ordered=gold.ordered) for rows in gold.ties) or _is_a_choice(found, gold)
    if not gold.ordered or len(found) != len(gold.ties[0]) or not found:
        return _same_rows(found, gold.ties[0], ordered=False)
    return all(
        _same_rows(found[start:end], gold.ties[-1][start:end], ordered=False)
        for start, end in _blocks(gold.ties[-2], gold.ties[-1])
    )


def _is_a_choice(found: list[Row], gold: Gold) -> bool:
    """Return whether `found` are as many of gold's rows as LIMIT keeps, each in a position that ties allow."""
    if not gold.pool or len(found) != len(gold.ties[0]):
        return False
    end = gold.start + len(found)
    blocks = list(_blocks(gold.pool[0], gold.pool[-1])) if gold.ordered else [(0, len(gold.pool[0]))]
    for first, last in blocks:
        shown = found[max(first, gold.start) - gold.start : max(min(last, end) - gold.start, 0)]
        left = [*gold.pool[0][first:last]]
        for row in shown:
            same = next((n for n, other in enumerate(left) if _same_rows([row], [other], ordered=True)), None)
            if same is None:
                return False
            del left[same]
    return True


def _blocks(one: list[Row], two: list[Row]) -> Iterator[tuple[int, int]]:
    """Yield the bounds of the shortest ranges in which both lists have the same rows: the tied ones."""
    start, open_rows = 0, Counter[str]()
    for n, (left, right) in enumerate(zip(one, two, strict=True), 1):
        open_rows[repr(left)] += 1
        open_rows[repr(right)] -= 1
        if not any(open_rows.values()):
            yield start, n
            start, open_rows = n, Counter()


def _sort_key(row: Row) -> tuple[list[str], list[float]]:
    """Order by everything but numbers first, so that a rounding error cannot change which rows are compared."""
    numbers = [cell for cell in row if isinstance(cell, int | float)]
    return [repr(cell) for cell in row if not isinstance(cell, int | float)], numbers


def _same_cell(found: Any, gold: Any) -> bool:
    if isinstance(found, int | float) and isinstance(gold, int | float):
        return _same_number(found, gold)
    return type(found) is type(gold) and bool(found == gold)


def _same_number(found: float, gold: float) -> bool:
    """Return whether two numbers are the same or, unless both are SQL integers, differ by RELATIVE of the greater.

    Stricter than `numbers.equal`: both were computed from the same rows, so nothing was rounded for display.
    """
    if isinstance(found, int) and isinstance(gold, int):
        return found == gold
    return math.isclose(found, gold, rel_tol=RELATIVE, abs_tol=0.0)


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


def _on_schema(name: str, program: str, score: float | None) -> Example:
    schema = "CREATE TABLE city (name TEXT, country TEXT, people INTEGER)"
    problem = Problem.of(
        task="example", family="sql", split="train", instruction="Write SQL.", context=schema, source="generated",
        question="Cities of more than 330 thousand people?", program="SELECT name FROM city WHERE people > 330",
        environment={"schema": schema}, licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _LARGE, 1.0),
    _example("different-looking equal", "select c.NAME from city as c where not people <= 330 order by -people;", 1.0),
    _example("similar-looking different", "SELECT name FROM city WHERE people > 330 ORDER BY people", 0.0),
    _example("one row too many", "SELECT name FROM city WHERE people >= 330 ORDER BY people DESC", 0.0),
    _example("constants without a table", "SELECT 'Lyon' UNION ALL SELECT 'Nice'", 0.0),
    _example("unknown column", "SELECT title FROM city", 0.0),
    _on_schema("equal on every filling", "select NAME from city where not people <= 330", 1.0),
    _on_schema("equal but at the boundary", "SELECT name FROM city WHERE people >= 330", 0.0),
    _example("two statements", "SELECT name FROM city; DROP TABLE city", None),
    _example("not a query", "DELETE FROM city", None),
    _example("ill-formed", "SELECT name FORM city WHERE", None),
)
