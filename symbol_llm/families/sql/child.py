"""Running a query on each database. Called in a sandbox child alone, which an authorizer lets read tables and nothing else."""

from __future__ import annotations

import contextlib
import functools
import itertools
import sqlite3
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from symbol_llm.families.sql.copies import copies, read
from symbol_llm.families.sql.fillings import Filling, fill, fillings
from symbol_llm.families.sql.hints import Hints
from symbol_llm.families.sql.rows import Row


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
