"""Cron expressions, such as `*/15 9-17 * * MON-FRI`. Equal means: they fire at the same minutes, for ever.

Five fields: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday). A field is `*`, a number, a
range `a-b`, either of the latter two with a step `/n`, or a list of those; months and weekdays may be named by three
letters. `@hourly`, `@daily`, `@weekly`, `@monthly` and `@yearly` stand for what crontab(5) says. If both fields of days
begin with something else than `*`, a day counts that matches either of them, else one that matches both.

Each date falls on each weekday in some year, so that two expressions are equal just if they agree on every month, day
and weekday, of which there are finitely many. `0 0 30 2 *` never fires and equals `0 0 31 6 *`. Missed: `@reboot`,
seconds, `L`, `W` and `#`, which are extensions.
"""

import random
import re
from collections.abc import Iterator
from itertools import product

from symbol_llm.families import Example, Needs, Ran, Result, read_gold
from symbol_llm.ground.errors import Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem, content_id
from symbol_llm.notation import replies

VERSION = 1
METRIC = "the same minutes"

_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
_WEEKDAYS = "SUN MON TUE WED THU FRI SAT".split()
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, {name: n for n, name in enumerate(_MONTHS, 1)}),
    ("weekday", 0, 7, {name: n for n, name in enumerate(_WEEKDAYS)}),
)
"""Name, least and greatest number, names of numbers."""
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_SHORTHANDS = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *", "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
_PART = re.compile(r"(?:(\*)|([0-9]{1,2}|[A-Z]{3})(?:-([0-9]{1,2}|[A-Z]{3}))?)(?:/([0-9]{1,2}))?")


class Environment(Needs):
    """What judging needs besides program and gold: nothing."""


program_of = replies.up_to_a_blank_line


def canonical(program: str) -> str:
    """Return the minutes, the hours and the days that it fires at; Unparsable names the field at fault."""
    texts = _SHORTHANDS.get(program.strip().lower(), program).upper().split()
    if len(texts) != len(_FIELDS):
        raise Unparsable(f"expected five fields, got {len(texts)}")
    minutes, hours, days, months, weekdays = (_numbers(n, text) for n, text in enumerate(texts))
    weekdays = {n % 7 for n in weekdays}
    is_either = not (texts[2].startswith("*") or texts[4].startswith("*"))
    fires = [
        (month, day, weekday)
        for month, day, weekday in product(sorted(months), range(1, 32), range(7))
        if day <= _LENGTHS[month - 1]
        and ((day in days or weekday in weekdays) if is_either else (day in days and weekday in weekdays))
    ]
    return f"minutes {_listed(minutes)}, hours {_listed(hours)}, days {content_id(fires)}" if fires else "never"


def _numbers(n: int, text: str) -> set[int]:
    """Return the numbers that field `n` stands for."""
    name, least, greatest, _ = _FIELDS[n]
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise Unparsable(f"{name} {text[:40]!r}: expected numbers, ranges or *")
        star, low, high, step = match.groups()
        if step and not (star or high):
            raise Unparsable(f"{name} {text[:40]!r}: a step goes with a range or *")
        first, last = (least, greatest) if star else (_number(low, n), _number(high or low, n))
        if not least <= first <= last <= greatest or step and int(step) == 0:
            raise Unparsable(f"{name} {text[:40]!r}: expected {least} to {greatest}, rising, by at least 1")
        found.update(range(first, last + 1, int(step or 1)))
    return found


def _number(text: str, n: int) -> int:
    name, _, _, names = _FIELDS[n]
    if text.isdigit():
        return int(text)
    if text not in names:
        raise Unparsable(f"{name} {text!r}: no such name")
    return names[text]


def _listed(numbers: set[int]) -> str:
    return " ".join(map(str, sorted(numbers)))


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form: nothing is run."""
    return Ran(canonical(program))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the program fires when gold does, else 0.0."""
    found = canonical(program)
    return Result(float(found == read_gold(problem, canonical)), found)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one field shifted, freed or given another step, where that changes when it fires."""
    fields = _SHORTHANDS.get(program.strip().lower(), program).upper().split()
    other = [[str(least), str(least + 1), f"*/{2 + n}", "*"] for n, (_, least, _, _) in enumerate(_FIELDS)]
    changes = [(n, text) for n, texts in enumerate(other) for text in texts]
    for n, text in rng.sample(changes, len(changes)):
        mutant = " ".join([*fields[:n], text, *fields[n + 1 :]])
        if canonical(mutant) != canonical(program):
            yield mutant


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="cron", family="cron", split="test", instruction="Write a cron expression.", source="own",
        question="At half past eight on weekdays", program="30 8 * * 1-5", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", "30 8 * * 1-5", 1.0),
    _example("names and a step", "30 8 */1 * MON-FRI", 1.0),
    _example("a list, turned", "30 8 * 1-12 5,4,3,2,1", 1.0),
    _example("Sunday as well", "30 8 * * 0-5", 0.0),
    _example("the first of the month besides", "30 8 1 * 1-5", 0.0),
    _example("minute and hour exchanged", "8 30 * * 1-5", None),
    _example("six fields", "0 30 8 * * 1-5", None),
)
