r"""Regular expressions over ASCII. Equal means: the same language, decided by Brzozowski derivatives.

`environment["dialect"]` is "python" (default: the regular part of Python's `re` and PCRE) or "nl-rx", the notation
of NL-RX (Locascio et al. 2016, "Neural Generation of Regular Expressions from Natural Language"): besides classes,
groups, `|` and repetition it has `&` (intersection, tighter than `|`, looser than sequence) and `~` (complement of the
next item); `.` is any character; `<VOW>` `<NUM>` `<LET>` `<CAP>` `<LOW>` are classes; repetitions may be stacked.
`environment["match"]` is "full" (default: `re.fullmatch`) or "search" (`re.search`). Gold is `problem.program`.

`\b`, `\B`, `^`, `$`, `\A` and `\Z` are decided by the characters on either side of a position (Moseley et al. 2023),
which neither `greenery` nor `interegular` does and a seventh of NL-RX needs. Lazy and greedy repetition have the same
language.

If gold matches no text at all, or every text (a quarter of NL-RX), its language proves nothing: a program is then
accepted if it has gold's normal form, rejected if its language differs, and unscored otherwise.
The cost of comparing may explode, hence the sandbox child.

Refused as not regular: backreferences, lookaround, conditions. Refused: possessive repetition, atomic groups, verbose
mode, characters outside ASCII, a literal `{` that is not escaped, `[[:digit:]]`, which Python and PCRE read differently,
and punctuation alone, which is chatter.
Missed: Python's `$` also matches before a newline at the end of a text; `$` is `\Z` here unless (?m) is set.
`\B` matches the empty text, as it does from Python 3.14 on.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterator
from typing import Any, Literal

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.families.regex.languages import Languages
from symbol_llm.families.regex.parser import (
    WORD,
    Token,
    is_punctuation,
    parse,
    printed_class,
    printed_repetition,
    read_tokens,
    tokenize,
)
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, TimedOut, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies
from symbol_llm.sandbox import executor

VERSION = 5
METRIC = "language equivalence"

DIALECTS = ("python", "nl-rx")
MATCHES = ("full", "search")
MAX_MUTANT_PAIRS = 300
"""Most pairs of states visited before a mutant counts as undecided and is not yielded."""


class Environment(Needs):
    """What judging needs besides program and gold."""

    dialect: Literal["python", "nl-rx"] = "python"
    """Notation of the expressions."""
    match: Literal["full", "search"] = "full"
    """Whether an expression must match a whole text or a part of it."""


_LITERAL = re.compile(r"r(['\"])(.*)\1", re.DOTALL)
_SLASHED = re.compile(r"/(\^.*|.*(?<!\\)\$)/")


def program_of(reply: str) -> str:
    """Return the expression in `reply`, without the quotes of a raw text of Python and the slashes of JavaScript.

    Slashes are those only around an anchor, `/^a+$/`, where they cannot be part of the text.
    """
    text = replies.up_to_a_blank_line(reply)
    literal, slashed = _LITERAL.fullmatch(text), _SLASHED.fullmatch(text)
    return literal[2] if literal else slashed[1] if slashed else text


def canonical(program: str) -> str:
    """Return the tokens with uniform classes, escapes and repetitions, and without groups around a single atom.

    `program` is read in whichever dialect parses it; parts that the two read differently are kept as they are.
    """
    try:
        parse(program, "python")
    except Unparsable:
        parse(program, "nl-rx")
    groups: list[list[str]] = [[]]
    for token in tokenize(program, "python"):
        if token.kind == "open":
            groups.append([token.normal])
        elif token.kind == "close" and len(groups) > 1:
            inside = groups.pop()
            lone = len(inside) == 2 and inside[0] == "(" and _ATOM.fullmatch(inside[1])
            groups[-1].append(inside[1] if lone else f"{''.join(inside)})")
        else:
            groups[-1].append(token.normal)
    normal = "".join(part for group in groups for part in group)
    # Escaped or grouped punctuation is a program and has to remain one.
    return f"({normal})" if is_punctuation(read_tokens(normal, "python")) else normal


_ATOM = re.compile(r"[^\\^$&~*+?{|<]|\\[^bBAZ]|\\x..|\[(?:[^\]\\]|\\.)+\]|\((?:[^()\\]|\\.)*\)", re.DOTALL)
"""Matches text that needs no group around it: one character, one class, one group without a group in it."""


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the size and a hash of the minimal automaton, which are the same for equal languages."""
    dialect, match = _reading(problem)
    parse(program, dialect)
    args = {"program": program, "dialect": dialect, "match": match}
    outcome = executor.run(f"{__name__}:describe", args, limits)
    outcome.check_limits()
    if outcome.status != "ok":
        raise Unavailable(f"no automaton of {program[:80]!r}: {outcome.detail}")
    return Ran(outcome.value, "", outcome.isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` has gold's language, else 0.0; Unavailable if that proves nothing or gold is too costly."""
    dialect, match = _reading(problem)
    parse(program, dialect)
    gold = problem.program
    if not isinstance(gold, str):
        raise InvalidInput(f"problem {problem.id} has no gold expression")
    try:
        parse(gold, dialect)
        same_form = canonical(program) == canonical(gold)
    except (Unparsable, LimitExceeded) as e:
        raise InvalidInput(f"problem {problem.id}: gold expression fails: {e}") from e
    if same_form:
        return Result(1.0, canonical(program))
    args = {"program": program, "gold": gold, "dialect": dialect, "match": match}
    outcome = executor.run(f"{__name__}:compare", args, limits)
    if outcome.status in ("timeout", "resource"):
        _check_gold(problem, {**args, "program": gold}, limits)
    outcome.check_limits()
    if outcome.status != "ok":
        raise Unavailable(f"not compared: {outcome.detail}")
    if outcome.value["same"] and outcome.value["trivial"]:
        raise Unavailable(f"gold matches {outcome.value['trivial']} text, which proves nothing")
    return Result(float(outcome.value["same"]), canonical(program), outcome.isolation)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one token changed or removed, if that changes the language in every reading of it."""
    readings = [(dialect, match) for dialect in DIALECTS for match in MATCHES if _parses(program, dialect)]
    tokens = tokenize(program, "python")
    changes = [(n, new) for n, token in enumerate(tokens) for new in _changes(token)]
    rng.shuffle(changes)
    for n, new in changes:
        mutant = "".join([*(t.text for t in tokens[:n]), new, *(t.text for t in tokens[n + 1 :])])
        if all(_parses(mutant, d) and _differ(program, mutant, d, m) for d, m in readings):
            yield mutant


def _changes(token: Token) -> list[str]:  # noqa: PLR0911 - one return a kind of token
    match token.kind:
        case "repeat":
            low, high = token.value
            return sorted({printed_repetition(low + 1, high and high + 1), printed_repetition(int(low == 0), high), ""})
        case "set" if token.text.startswith("["):
            chars = [n for n in range(128) if token.value >> n & 1]
            return (
                [printed_class(token.value & ~(1 << chars[-1])), printed_class(token.value ^ WORD), ""]
                if len(chars) > 1
                else []
            )
        case "set" if token.text.isalnum():
            return [chr((ord(token.text) - 96) % 26 + 97) if token.text.islower() else "x", ""]
        case "set" | "dot":
            return ["", "x"]
        case "operator":
            return ["|", ""]
        case "bar":
            return [""]
    return []


def _parses(program: str, dialect: str) -> bool:
    try:
        parse(program, dialect)
    except (Unparsable, LimitExceeded):
        return False
    return True


def _differ(one: str, two: str, dialect: str, match: str) -> bool:
    languages = Languages()
    pair = [_language(languages, text, dialect, match) for text in (one, two)]
    return languages.same(pair[0], pair[1], MAX_MUTANT_PAIRS) is False


def _reading(problem: Problem) -> tuple[str, str]:
    environment = needs(problem, Environment)
    return environment.dialect, environment.match


def _check_gold(problem: Problem, args: dict[str, Any], limits: Limits) -> None:
    """Raise Unavailable if gold alone hits the limit."""
    try:
        executor.run(f"{__name__}:describe", args, limits).check_limits()
    except (LimitExceeded, TimedOut) as e:
        raise Unavailable(f"problem {problem.id}: the automaton of gold hits a limit: {e}") from e


# --- in the child -----------------------------------------------------------------------------------------------------


def compare(args: dict[str, str]) -> dict[str, Any]:
    """Return whether program and gold have the same language, and whether that is "no" text or "every" text."""
    languages = Languages()
    one, two = (_language(languages, args[which], args["dialect"], args["match"]) for which in ("program", "gold"))
    same = languages.same(one, two)
    trivial = ""
    if same:
        trivial = "no" if languages.same(two, languages.none) else "every" if languages.same(two, languages.all) else ""
    return {"same": same, "trivial": trivial}


def describe(args: dict[str, str]) -> str:
    """Return the number of states of the minimal automaton and a hash of it."""
    languages = Languages()
    table = languages.minimal(_language(languages, args["program"], args["dialect"], args["match"]))
    return f"automaton of {len(table)} states, {hashlib.sha256(repr(table).encode()).hexdigest()[:16]}"


def _language(languages: Languages, text: str, dialect: str, match: str) -> int:
    language = languages.of(parse(text, dialect))
    return languages.sequence([languages.all, language, languages.all]) if match == "search" else language


def _example(name: str, program: str, score: float | None, gold: str = "[A-Z][a-z]+(-[a-z]+)*", **more: str) -> Example:
    problem = Problem.of(
        task="example", family="regex", split="train", instruction="Write a regular expression.",
        question="A capitalised word, possibly with hyphens?", program=gold, environment=more,
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", "[A-Z][a-z]+(-[a-z]+)*", 1.0),
    _example("different-looking equal", "[A-Z](?:[a-z]+-)*[a-z][a-z]*", 1.0),
    _example("similar-looking different", "[A-Z][a-z]*(-[a-z]+)*", 0.0),
    _example("prefix of gold", "[A-Z][a-z]+", 0.0),
    _example("complement and intersection", ".*a.*&~(.*b.*)", 1.0, "[^b]*a[^b]*", dialect="nl-rx"),
    _example("different because of the rest", "\\bto$", 0.0, "\\bto", match="search"),
    _example("equal only where searching", "\\bto+?", 1.0, "\\bto[a-z]*", match="search"),
    _example("not regular", "([a-z])\\1", None),
    _example("ill-formed", "([A-Z][a-z]+(-[a-z]+)*", None),
)
