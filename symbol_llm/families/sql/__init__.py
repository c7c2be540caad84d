"""SQL queries in SQLite's dialect. Equal means: gold's rows on the problem's database and on others generated here.

The database is `environment["database"]` (a file) or `environment["script"]` (the statements that create it); it is
opened read-only in a sandbox child, where an authorizer lets a query read tables and call functions, and nothing else.
`environment["schema"]`, instead of these or besides a script, holds the CREATE TABLE statements alone.
Gold is any of `environment["gold"]` or else `problem.program`, each run in a child of its own. Without a gold query,
only `problem.answer` is compared, on the given database: rows, the cells of one row or column, or a single cell.

The generated databases are fillings of the schema or, without one, copies of the given database with changed rows
(`fillings.py`, `copies.py`; test-suite accuracy, Zhong et al. 2020). They contain the constants that gold and the program compare
columns with (`hints.py`), the values just below and above, texts of the lengths compared with, group sums and
differences of numbers and dates likewise, longer and shorter texts, keys with and without a match, duplicates and ties,
more groups than LIMIT shows, groups of as many rows as HAVING counts, of one more and of one fewer; in some, each table
has one row, or all numbers that are added up are alike. They respect CHECK constraints, yes/no columns, dates, and
columns of numbers none of which is below 0. A generated database does not count if gold fails on it, is costly, or
depends on how ties are broken. Nothing, NULL and zero are one there, so whether MAX of nothing is NULL or no row is
never tested. The given database always counts: where LIMIT cuts through rows that gold's ORDER BY leaves tied, any
choice of them is right; where ties are broken elsewhere, the result of either way of breaking them is. For a program
refused on generated rows alone, the value names the fewest rows that show the difference.

Rows are compared as a multiset or, if the gold query's outermost SELECT has an ORDER BY, as a list in which rows left
tied may stand in any order. Columns are matched by position, not by name. Two whole numbers must be the same;
other numbers may differ by RELATIVE; a decimal point alone makes no difference. A query that reads no table is accepted
only if gold reads none. Gold that returns no rows anywhere proves nothing: such a problem is refused as invalid, hence
unscored and not collected.

Missed: queries that differ only on databases that are not generated, such as ones with NULLs that gold does not ask
for, or with more rows than a LIMIT above 200; the choice of row for a column that is neither grouped by nor aggregated.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.families.sql.child import MAX_SHOWN
from symbol_llm.families.sql.fillings import SIZES, fillings
from symbol_llm.families.sql.hints import Hints, hints_of, is_readable
from symbol_llm.families.sql.rows import Gold, Row, Rows, matches
from symbol_llm.families.sql.tokens import (
    TOKEN,
    ends,
    first_statement,
    is_ordered,
    last_limit,
    near_misses,
    query_of,
    skipped,
    tie_breaks,
)
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies
from symbol_llm.sandbox import executor

VERSION = 9
METRIC = "execution accuracy"

GOLD_STEPS = 3_000_000
"""Instructions of SQLite's virtual machine, some 50 ms, that gold may take for a generated database to count."""
STEPS = 10 * GOLD_STEPS
"""Instructions that a program may take there."""

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
    for end in reversed(list(ends(found.program))):
        left -= end
        if left >= 0 and is_readable(found.program[:end]):
            return found.program[:end].strip()
    first = first_statement(found.program)
    return found.program if found.program[len(first) :].lstrip()[:1] in tuple("),.=<>+*/|%") else first


def canonical(program: str) -> str:
    """Return the tokens of one query separated by spaces: unquoted words in lower case, no comment or semicolon."""
    return " ".join(query_of(program))


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the rows as text."""
    first = range(len(SIZES) if _given(problem) is None else 1)
    found, isolation = _run(program, problem, hints_of(_gold_queries(problem), None), limits, list(first))
    fault = _fault(found)
    return Ran(None, fault, isolation) if fault else Ran(_show(found), "", isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` returns the gold rows on each database that counts, else 0.0."""
    query_of(program)
    hints = hints_of(_gold_queries(problem), program)
    golds = list(_gold(problem, hints, limits))
    wanted = sorted({n for gold in golds for n in gold})
    may_tie = not {"order", "limit", "group_concat"}.isdisjoint(query_of(program))
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
    return all(matches(rows, gold) for rows in ways) and found.reads >= gold.reads


def _fault(found: list[Rows | str]) -> str:
    return next((one for one in found if isinstance(one, str)), "")


def _show(found: list[Rows | str]) -> str:
    return str(next((one.rows for one in found if not isinstance(one, str) and one.rows), []))


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one number raised by 1, or one comparison, boundary, direction, aggregate or text changed."""
    tokens = [token[0] for token in TOKEN.finditer(program)]
    changes = [(n, new) for n, token in enumerate(tokens) for new in near_misses(token)]
    rng.shuffle(changes)
    for n, new in changes:
        yield "".join([*tokens[:n], new, *tokens[n + 1 :]])


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
        ordered = is_ordered(query)
        found = {
            n: Gold(one.ties, one.reads, ordered, n > 0 or _given(problem) is None, one.pool, skipped(query))
            for n, one in enumerate(results)
            if not isinstance(one, str)
        }
        if problem.answer is not None and not (0 in found and any(matches(r, found[0]) for r in _readings(problem))):
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
    query_of(query)
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
        "ties": tie_breaks(query) if ties else [],
        "given": _given(problem) is not None,
        "shows": shows,
        "pool": tie_breaks(query[: limit.start()]) if ties and (limit := last_limit(query)) else [],
    }
    n_results = len(only) if only is not None else 3 * (1 + len(fillings(hints)))
    wide = limits.model_copy(update={"output_kib": limits.output_kib * n_results * (4 if ties else 1)})
    outcome = executor.run(f"{__name__}.child:select", args, wide, readable=readable)
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
