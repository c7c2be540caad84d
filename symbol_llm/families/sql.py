"""SQL queries in SQLite's dialect. Equal means: on the problem's database the query returns the gold rows.

The database is `environment["database"]` (a file) or `environment["script"]` (the statements that make it); it is
opened read-only in a sandbox child, where an authorizer lets a query read tables and call functions, and nothing else.
`environment["schema"]`, instead of these or besides a script, holds the CREATE TABLE statements alone: they are filled in
several ways, with matching keys and the constants of gold, and the query must return the gold rows each time
(test-suite accuracy, Zhong et al. 2020). A filling on which gold itself depends on the order of the rows does not count.
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

VERSION = 3
METRIC = "execution accuracy"

Row = list[Any]
"""Cells are None, int, float, str, or {"blob": hexadecimal digits}."""


class Rows(NamedTuple):
    """What a query returned, whether it read any table, and whether ties could change its rows or their order."""

    rows: list[Row]
    reads: bool
    firm: bool = True
    in_firm_order: bool = True


def canonical(program: str) -> str:
    """Return the tokens of one query, a space between: words outside quotes in lower case, no comment or semicolon."""
    return " ".join(_query(program))


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the rows as text."""
    found, isolation = _run(program, problem, limits)
    return Ran(None, found, isolation) if isinstance(found, str) else Ran(_show(found), "", isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` returns the gold rows, else 0.0."""
    found, isolation = _run(program, problem, limits)
    if isinstance(found, str):
        return Result(0.0, found, isolation)
    accepted = any(
        all(
            not right.firm
            or (
                _same_rows(left.rows, right.rows, ordered=ordered and right.in_firm_order) and left.reads >= right.reads
            )
            for left, right in zip(found, gold, strict=True)
        )
        for gold, ordered in _gold(problem, limits)
    )
    return Result(float(accepted), _show(found), isolation)


def _show(found: list[Rows]) -> str:
    return str(next((one.rows for one in found if one.rows), []))


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


def _gold(problem: Problem, limits: Limits) -> Iterator[tuple[list[Rows], bool]]:
    """Yield each accepted result and whether its order counts; InvalidInput if gold does not run or is empty."""
    queries = _gold_queries(problem)
    if problem.answer is not None and "schema" not in problem.environment:
        yield _not_empty([Rows(problem.answer, reads=True)], problem), any(map(_is_ordered, queries))
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
        if problem.answer is not None and not _same_rows(rows[0].rows, problem.answer, ordered=_is_ordered(query)):
            raise InvalidInput(f"problem {problem.id}: gold query gives {str(rows[0].rows)[:80]}, not the answer")
        yield _not_empty(rows, problem), _is_ordered(query)


def _gold_queries(problem: Problem) -> list[str]:
    return problem.environment.get("gold") or ([problem.program] if problem.program else [])


def _not_empty(gold: list[Rows], problem: Problem) -> list[Rows]:
    if not any(one.rows for one in gold if one.firm):
        raise InvalidInput(f"problem {problem.id}: gold returns no rows, which any impossible condition would match")
    return gold


def _run(query: str, problem: Problem, limits: Limits) -> tuple[list[Rows] | str, str]:
    """Return the rows by database or SQLite's complaint, and the isolation; Unparsable if it is one about grammar."""
    _query(query)
    database, script, schema = (problem.environment.get(name) for name in ("database", "script", "schema"))
    if (database is None) == (script is None and schema is None):
        raise InvalidInput(f"problem {problem.id}: environment needs `database`, or else `script` or `schema`")
    if database is not None and not Path(database).is_file():
        raise InvalidInput(f"problem {problem.id}: no database {database!r}")
    readable = [Path(database)] if database is not None else []
    golds = _gold_queries(problem) if schema is not None else []
    constants = [pair for gold in golds for pair in _constants(gold)]
    equated = {name.lower() for gold in golds for pair in _EQUATED.findall(gold) for name in pair}
    database = database and str(Path(database).resolve())
    args = {"query": query, "database": database, "script": script, "schema": schema, "constants": constants}
    args["equated"] = sorted(equated)
    outcome = sandbox.run(f"{__name__}:select", args, limits, readable=readable)
    outcome.check_limits()
    if re.search("syntax error|unrecognized token|incomplete input", outcome.detail):
        raise Unparsable(outcome.detail)
    if outcome.status != "ok":
        return outcome.detail, outcome.isolation
    if "broken" in outcome.value:
        raise InvalidInput(f"problem {problem.id}: database cannot be used: {outcome.value['broken']}")
    return [Rows(*one) for one in outcome.value["results"]], outcome.isolation


def select(args: dict[str, Any]) -> dict[str, Any]:
    """Open the database or fill the schema, run the query and return its rows. Only ever called in a sandbox child."""
    results = []
    for opened in _databases(args):
        if isinstance(opened, str):
            return {"broken": opened}
        rows, reads = _select(opened, args["query"])
        if args["schema"] is None:
            return {"results": [(rows, reads)]}
        opened.set_authorizer(None)
        opened.execute("PRAGMA reverse_unordered_selects = ON")
        again, _ = _select(opened, args["query"])
        results.append((rows, reads, _same_rows(rows, again, ordered=False), _same_rows(rows, again, ordered=True)))
    return {"results": results}


def _databases(args: dict[str, Any]) -> Iterator[sqlite3.Connection | str]:
    """Yield the database that is given and each filling of the schema, or what is wrong with one."""
    try:
        if args["database"] is not None or args["script"] is not None:
            yield _open(args["database"], args["script"])
        if args["schema"] is not None:
            groups = [6 * value for name, value in args["constants"] if name == "count" and value in range(2, 100)]
            for seed, size in enumerate((*FILLING_SIZES, *groups[:1])):
                connection = _open(None, args["schema"])
                _fill(connection, args["constants"], args["equated"], size, seed)
                yield connection
    except sqlite3.Error as e:
        yield str(e)


def _select(connection: sqlite3.Connection, query: str) -> tuple[list[Row], bool]:
    reads = False

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        nonlocal reads
        reads = reads or (action == sqlite3.SQLITE_READ and not (first or "").startswith("sqlite_"))
        if action == sqlite3.SQLITE_FUNCTION and (second or "").lower() in ("load_extension", "fts3_tokenizer"):
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY

    connection.set_authorizer(authorize)
    return [[_cell(value) for value in row] for row in connection.execute(query)], reads


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


# --- filling ----------------------------------------------------------------------------------------------------------

FILLING_SIZES = (4, 6, 8, 10, 12, 16, 20, 24)
"""Most rows of a table, by filling."""
DENSE = 4
"""Values of a column in every other filling."""
_EQUATED = re.compile(r"\b(?:\w+\s*\.\s*)?([^\W\d]\w*)\s*=\s*(?:\w+\s*\.\s*)?([^\W\d]\w*)\b(?!\s*[.(])")
_WORDS = "amber birch cedar delta ember fjord grove haven".split()
Constant = tuple[str, Any]
"""A column's name in lower case, and a text or number which gold compares it with."""


def _constants(query: str) -> Iterator[Constant]:
    """Yield each constant of `query` with the last name before it."""
    column = ""
    for token in _TOKEN.finditer(query):
        text = token[0]
        match token.lastgroup:
            case "word" if text.lower() not in _KEYWORDS:
                column = text.lower()
            case "number" if not text.lower().startswith("0x"):
                yield column, float(text) if re.search("[.eE]", text) else int(text)
            case "text" | "name" if text[0] in "'\"":
                yield column, text[1:-1].replace(text[0] * 2, text[0])
            case "name":
                column = text[1:-1].lower()


def _fill(connection: sqlite3.Connection, constants: list[Constant], equated: list[str], size: int, seed: int) -> None:
    """Put rows into every table, those that others refer to first; columns `equated` share a few numbers.

    With an even seed cells are of few values, so that groups are large; with an odd one of many, so that ties are rare.
    """
    rng, n_values = random.Random(seed), 3 * size if seed % 2 else DENSE
    names = [n for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    links: dict[str, dict[str, tuple[str, str]]] = {
        name: {
            row[3].lower(): (row[2].lower(), (row[4] or row[3]).lower())
            for row in connection.execute(f'PRAGMA foreign_key_list("{name}")')
        }
        for name in names
    }
    made: dict[tuple[str, str], list[Any]] = {}
    while names:
        left = {name.lower() for name in names}
        table = next((n for n in names if not ({t for t, _ in links[n].values()} & left - {n.lower()})), names[0])
        names.remove(table)
        n_rows, filled = rng.randint(size // 2, size), []
        for _, column, kind, _, _, key in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
            mine = [value for name, value in constants if name == column.lower()]
            known = made.get(links[table].get(column.lower(), ("", "")))
            if known:
                n_known = min(n_rows, len(known))
                cells = rng.sample(known, n_known) if key == 1 else rng.choices(known[:n_values], k=n_rows)
            else:
                few = (n_rows if key == 1 else max(3, n_values // 9)) if column.lower() in equated else 0
                drawn = [
                    rng.randint(1, few)
                    if few and (not mine or rng.random() < 0.4)
                    else _made_up(kind, mine, [value for _, value in constants], max(n_values, 3 * n_rows * key), rng)
                    for _ in range(4 * n_rows)
                ]
                if key == 1:  # SQLite's INTEGER PRIMARY KEY takes nothing else
                    drawn = [
                        cell for cell in dict.fromkeys(drawn) if kind.upper() != "INTEGER" or isinstance(cell, int)
                    ]
                cells = drawn[:n_rows]
            made[table.lower(), column.lower()] = cells
            filled.append(cells)
        marks = ", ".join("?" * len(filled))
        rows = zip(*filled)  # noqa: B905 - a key may have fewer values than there are rows
        connection.executemany(f'INSERT OR IGNORE INTO "{table}" VALUES ({marks})', rows)  # noqa: S608 - our schema


def _made_up(kind: str, mine: list[Any], constants: list[Any], n_values: int, rng: random.Random) -> Any:
    """Return a cell for a column of SQL type `kind`: every other one is near a constant, its own if it has any."""
    near = mine or constants
    value = (
        rng.choice(near) if near and rng.random() < (0.2 if not mine else 0.9 if n_values == DENSE else 0.5) else None
    )
    n = rng.randint(1, n_values)
    if re.search("INT|NUM|REAL|FLOA|DOUB|DEC", kind.upper()):
        if isinstance(value, int | float):
            return value + rng.choice((-9, -1, 0, 0, 0, 0, 1, 9))
        return value if mine and value is not None else n
    if value is not None:
        plain = str(value).strip("%").replace("%", " ")
        return rng.choice((plain, plain, value, f"{plain}s", f"x{plain}")) if plain != str(value) else plain
    if re.search("DATE|TIME", kind.upper()):
        return f"{2000 + n}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    return "TF"[n % 2] if "BOOL" in kind.upper() else f"{_WORDS[n % len(_WORDS)]}{n // len(_WORDS) or ''}"


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
