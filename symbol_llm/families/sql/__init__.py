"""SQL queries in SQLite's dialect. Equal means: on the problem's database, and on others made for the purpose, gold's rows.

The database is `environment["database"]` (a file) or `environment["script"]` (the statements that make it); it is
opened read-only in a sandbox child, where an authorizer lets a query read tables and call functions, and nothing else.
`environment["schema"]`, instead of these or besides a script, holds the CREATE TABLE statements alone.
Gold is any of `environment["gold"]` or else `problem.program`, each run in a child of its own; without such queries it is
`problem.answer`, a list of rows on the given database, and that is all that is compared.

The databases made are fillings of the schema or, without one, copies of the given database with changed rows
(`fillings.py`; test-suite accuracy, Zhong et al. 2020). They hold what gold and the program
compare columns with (`hints.py`), one below and one above, texts with more or less to them, keys that match and that do not,
doubles and ties; one filling has a row a table. One where gold fails, is costly, hangs on how ties are broken, or gives
but NULL, zero or nothing does not count; hence none is empty, nor is it asked whether MAX of nothing is NULL or no row.

Rows are compared as a multiset, as a list if the gold query's outermost SELECT has an ORDER BY, where rows that it leaves
tied may stand in any order. Columns count by place, not by name; numbers may differ by 1e-6 of themselves. A query that
reads no table is not accepted unless gold reads none. Gold that returns no rows anywhere proves nothing: such a problem
is refused as invalid, hence unscored and not collected.

Missed: queries that differ only on databases that are not made, such as ones with NULLs that gold does not ask for;
which row's value a column takes that is neither grouped by nor aggregated.
"""

from __future__ import annotations

import contextlib
import functools
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
from symbol_llm.families.sql.hints import hints_of
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies
from symbol_llm.sandbox import executor

VERSION = 5
METRIC = "execution accuracy"

GOLD_STEPS = 3_000_000
"""Instructions of SQLite's machine, some 50 ms, in which gold must end on a database that was made, or it does not count."""
STEPS = 10 * GOLD_STEPS
"""In which a program must end there."""

Row = list[Any]
"""Cells are None, int, float, str, or {"blob": hexadecimal digits}."""


class Rows(NamedTuple):
    """What a query returned, whether it read any table, and for gold what it returns as ties are broken in other ways."""

    rows: list[Row]
    reads: bool
    ties: list[list[Row]] = []


ENDS = re.compile(r";[ \t]*(?=\n|\Z)|\n[ \t]*(?=\n)")


class Environment(Needs):
    """What judging needs besides program and gold."""

    database: str | None = None
    """SQLite file that queries run on."""
    script: str | None = None
    """Statements that make the database, in place of a file."""
    creates: str | None = Field(default=None, alias="schema")
    """The CREATE TABLE statements alone, in place of a script or beside it."""
    gold: tuple[str, ...] = ()
    """Right queries; none: the problem's program alone."""

    @model_validator(mode="after")
    def _has_one_database(self) -> Self:
        if (self.database is None) == (self.script is None and self.creates is None):
            raise ValueError("expected `database`, or else `script` or `schema`")
        return self


program_of = replies.up_to(ENDS)


def canonical(program: str) -> str:
    """Return the tokens of one query, a space between: words outside quotes in lower case, no comment or semicolon."""
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
    found, isolation = _run(program, problem, hints, limits, wanted, ties=may_tie, steps=STEPS)
    if fault := _fault(found):
        if "interrupted" in fault:
            raise LimitExceeded(f"on a database of few rows the query needs more than {STEPS} steps", isolation)
        return Result(0.0, fault, isolation)
    rows = {n: one for n, one in zip(wanted, found, strict=True) if not isinstance(one, str)}
    accepted = any(all(_agrees(rows[n], one) for n, one in gold.items()) for gold in golds)
    return Result(float(accepted), _show(found), isolation)


def _agrees(found: Rows, gold: Gold) -> bool:
    """Return whether a program's rows are gold's, however it breaks ties of its own if gold leaves none open."""
    ways = [found.rows, *found.ties] if gold.firm else [found.rows]
    return all(_matches(rows, gold) for rows in ways) and found.reads >= gold.reads


def _fault(found: list[Rows | str]) -> str:
    return next((one for one in found if isinstance(one, str)), "")


def _show(found: list[Rows | str]) -> str:
    return str(next((one.rows for one in found if not isinstance(one, str) and one.rows), []))


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


class Gold(NamedTuple):
    """What a gold query, or the answer that is given, says of one database."""

    ties: list[list[Row]]
    """Its rows, with ties broken in opposite ways."""
    reads: bool
    ordered: bool
    lax: bool = False
    """On a database that was made: nothing, zero and NULL are one."""

    @property
    def firm(self) -> bool:
        """Say whether the order of rows that gold leaves open changes nothing but that order."""
        return all(_same_rows(self.ties[0], other, ordered=False) for other in self.ties)

    @property
    def telling(self) -> bool:
        """Say whether there is more than many a wrong query gives."""
        return not _is_nothing(self.ties[0])


def _is_nothing(rows: list[Row]) -> bool:
    """Say whether there is nothing, zero or NULL alone."""
    return all(cell in (None, 0) for row in rows for cell in row)


def _gold(problem: Problem, hints: Hints, limits: Limits) -> Iterator[dict[int, Gold]]:
    """Yield for each gold query what it says, by number of the database; those that prove nothing are left out.

    InvalidInput if gold does not run or none of its results has a row.
    """
    queries = _gold_queries(problem)
    if not queries and problem.answer is not None:
        yield _proofs({0: Gold([problem.answer], reads=True, ordered=False)}, problem)
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
            n: Gold(one.ties, one.reads, ordered, lax=n > 0 or _given(problem) is None)
            for n, one in enumerate(results)
            if not isinstance(one, str)
        }
        if problem.answer is not None and (0 not in found or not _matches(problem.answer, found[0])):
            raise InvalidInput(f"problem {problem.id}: gold query gives {_show(results[:1])[:80]}, not the answer")
        yield _proofs(found, problem)


def _proofs(found: dict[int, Gold], problem: Problem) -> dict[int, Gold]:
    """Return what counts: on the given database, and on those made where it does not hang on ties.

    None of them is enough unless gold tells something on one; where it does not, one with rows must do.
    """
    firm = {n: one for n, one in found.items() if one.firm}
    tells = any(one.telling for one in firm.values())
    if _given(problem) is not None and not tells:
        firm[0] = found[0]
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
) -> tuple[list[Rows | str], str]:
    """Return by database the rows or SQLite's complaint, and the isolation; Unparsable if it is one about grammar."""
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
    """Return `query` with what each ORDER BY leaves open decided by the columns returned, up and down; or once as it is.

    `{ASC}` and `{DESC}` stand for all columns of the outermost SELECT; one inside is decided by its first.
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


_FRAMES = ("rows", "range", "groups")


# --- in the child -----------------------------------------------------------------------------------------------------


def select(args: dict[str, Any]) -> dict[str, Any]:
    """Open or make each database, run the query and return its rows. Only ever called in a sandbox child."""
    results: list[Any] = []
    makers = _makers(args)
    for n in range(len(makers)) if args["only"] is None else args["only"]:
        is_copy = n > 0 and args["schema"] is None
        try:
            with contextlib.closing(makers[n]()) as opened:
                if args["steps"] and n >= args["given"]:
                    opened.set_progress_handler(lambda: 1, args["steps"])
                results.append(_ties(opened, args) if args["ties"] else _attempt(opened, args["query"]))
        except sqlite3.Error as e:
            if not is_copy:  # a database that cannot be copied is judged alone
                return {"broken": str(e)}
            results.append(f"no copy: {e}")
        if args["only"] is not None and isinstance(results[-1], str):  # of a program one fault is enough
            break
    return {"results": results}


def _makers(args: dict[str, Any]) -> list[Callable[[], sqlite3.Connection]]:
    """Return what opens the database that is given and makes each other one."""
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


def _ties(connection: sqlite3.Connection, args: dict[str, Any]) -> list[Any] | str:
    """Return the rows, whether a table was read, and the rows with ties broken both ways; or what SQLite says."""
    first = _attempt(connection, args["query"])
    if isinstance(first, str):
        return first
    n_columns = len(first[0][0]) if first[0] else 0
    ties = [first[0]]
    for n, query in enumerate(args["ties"] if n_columns else []):
        connection.set_authorizer(None)
        connection.execute(f"PRAGMA reverse_unordered_selects = {n + 1 == len(args['ties'])}")
        breaks = {way: ", ".join(f"{1 + k} {way}" for k in range(n_columns)) for way in ("ASC", "DESC")}
        found = _attempt(connection, query.format(**breaks))
        if isinstance(found, str):  # where an ORDER BY takes no more terms
            found = _attempt(connection, args["query"])
        if isinstance(found, str):
            return found
        ties.append(found[0])
    return [*first, ties]


def _attempt(connection: sqlite3.Connection, query: str) -> tuple[list[Row], bool] | str:
    try:
        return _select(connection, query)
    except sqlite3.Error as e:
        return f"{type(e).__name__}: {e}"


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
    """Return whether `found` are the rows of gold, in its order where it has one, but for ties."""
    if gold.lax and not gold.telling:
        return _is_nothing(found)
    if not gold.firm:
        return any(_same_rows(found, rows, ordered=gold.ordered) for rows in gold.ties)
    if not gold.ordered or len(found) != len(gold.ties[0]) or not found:
        return _same_rows(found, gold.ties[0], ordered=False)
    return all(
        _same_rows(found[start:end], gold.ties[-1][start:end], ordered=False)
        for start, end in _blocks(gold.ties[-2], gold.ties[-1])
    )


def _blocks(one: list[Row], two: list[Row]) -> Iterator[tuple[int, int]]:
    """Yield the bounds of the shortest stretches in which both lists have the same rows: those that are tied."""
    start, open_rows = 0, Counter[str]()
    for n, (left, right) in enumerate(zip(one, two, strict=True), 1):
        open_rows[repr(left)] += 1
        open_rows[repr(right)] -= 1
        if not any(open_rows.values()):
            yield start, n
            start, open_rows = n, Counter()


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
