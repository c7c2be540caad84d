r"""Triples of an ontology, `relation(subject, object)`, one per line or separated by `;`. Equal means: the same set.

    birthPlace(Ada_Lovelace, London)
    knownFor(Ada_Lovelace, "Note G, of 1843"); "area (km2)"(London, 1572)

A name may be bare, including paired brackets (`Venus_(planet)`). A name that contains a comma or semicolon outside such
brackets, a lone bracket or a double quote needs double quotes, with `\"` and `\\` for quote and backslash; so does a
relation that contains any bracket. Order, repetition, quotes, letter case and `_` for a space do not count, as in
Text2KGBench (Mihindukulasooriya et al. 2023), which also drops spaces; nor do a number or bullet before a triple, a
full stop after it, backticks, a comment after ` # `, the Unicode form of accents (NFC is used), of hyphens and of quotes, and
single quotes around a bare name. Triples may also be separated by commas.

Gold is `problem.answer`, a list of [subject, relation, object], or else `problem.program`. A set that is not gold's
scores its F1, the harmonic mean of precision and recall. `environment["threshold"]` (1.0) is the F1 from which a set is
accepted; `environment["relations"]` lists the ontology's relations: any other makes a program unparsable.

Missed: names that mean the same but are spelt differently, such as 1800 and 1800.0, or a date in two forms.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies

VERSION = 4
METRIC = "set F1"


class Triple(NamedTuple):
    """Names as written, without quotes."""

    relation: str
    subject: str
    object: str


class Environment(Needs):
    """What judging needs besides program and gold."""

    threshold: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0
    """F1 from which a set is accepted."""
    relations: tuple[str, ...] | None = None
    """The ontology's relations; None: any."""


def canonical(program: str) -> str:
    """Return the triples in lower case, spaces for underscores, quoted only where needed, sorted, one per line."""
    return "\n".join(map(_print, sorted(_normal(_parse(program)))))


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form; Unparsable at the first relation that the ontology does not have."""
    return Ran("\n".join(map(_print, sorted(_normal(_parse(program, _relations(problem)))))))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the triples are gold's or their F1 reaches the threshold, else the F1."""
    threshold = needs(problem, Environment).threshold
    gold = _normal(_gold(problem))
    found = _normal(_parse(program, _relations(problem)))
    n_right = len(found & gold)
    f1 = 2 * n_right / (len(found) + len(gold))
    return Result(
        1.0 if f1 >= threshold else f1, f"F1 {f1:.4f}: {n_right} of {len(found)} right, {len(gold)} in gold", measure=f1
    )


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a triple removed or reversed, a name changed, or two objects exchanged."""
    triples = _parse(program)
    changed = [(n, kind) for n in range(len(triples)) for kind in ("drop", "turn", "relation", "object", "exchange")]
    rng.shuffle(changed)
    for n, kind in changed:
        mutant, triple = list(triples), triples[n]
        match kind:
            case "drop":
                del mutant[n]
            case "turn":
                mutant[n] = Triple(triple.relation, triple.object, triple.subject)
            case "relation":
                others = sorted({t.relation for t in triples} - {triple.relation}) or [f"{triple.relation}Of"]
                mutant[n] = triple._replace(relation=rng.choice(others))
            case "object":
                number = re.search(r"[0-9]{1,9}", triple.object)
                digits = number and str(int(number[0]) + 1)
                other = number and f"{triple.object[: number.start()]}{digits}{triple.object[number.end() :]}"
                mutant[n] = triple._replace(object=other or f"{triple.object}s")
            case "exchange":
                with_other = rng.randrange(len(triples))
                mutant[n] = triple._replace(object=triples[with_other].object)
                mutant[with_other] = triples[with_other]._replace(object=triple.object)
        if mutant and _normal(mutant) != _normal(triples):
            yield "\n".join(map(_print, mutant))


def _gold(problem: Problem) -> Sequence[Triple]:
    if problem.answer is None and problem.program is None:
        raise InvalidInput(f"problem {problem.id} has neither an answer nor a program; expected gold triples")
    if problem.answer is None:
        try:
            return _parse(problem.program or "", _relations(problem))
        except Unparsable as e:  # gold is ours
            raise InvalidInput(f"problem {problem.id}: gold triples: {e}") from e
    triples = []
    for row in problem.answer if isinstance(problem.answer, list) else [problem.answer]:
        if not (isinstance(row, list) and len(row) == 3 and all(isinstance(name, str) and _key(name) for name in row)):
            raise InvalidInput(f"problem {problem.id}: gold {row!r}; expected [subject, relation, object] of texts")
        triples.append(Triple(row[1], row[0], row[2]))
    if not triples:
        raise InvalidInput(f"problem {problem.id}: gold has no triples")
    return triples


def _relations(problem: Problem) -> Sequence[str] | None:
    return needs(problem, Environment).relations


def _normal(triples: Sequence[Triple]) -> set[Triple]:
    return {Triple(*map(_key, triple)) for triple in triples}


def _key(name: str) -> str:
    return " ".join(unicodedata.normalize("NFC", name).translate(_PLAIN).replace("_", " ").lower().split())


def _print(triple: Triple) -> str:
    return f"{_quoted(triple.relation, '()')}({_quoted(triple.subject)}, {_quoted(triple.object)})"


def _quoted(name: str, forbidden: str = "") -> str:
    bare = name == name.strip() and not re.search(r'["\n]', name) and not any(sign in name for sign in forbidden)
    bare = bare and not (forbidden and _BULLET.match(name)) and name[:1] not in "'‘“"
    if bare and name and _end_of_bare(name, 0) == len(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --- parsing ----------------------------------------------------------------------------------------------------------

_QUOTED = re.compile(r'"((?:[^"\\\n]|\\["\\])*)"')
_PLAIN = str.maketrans("‐‑–−‘’“”", "----''\"\"")
_SINGLE = (("'", "'"), ("‘", "’"), ("“", "”"))
_COMMENT = re.compile(r"[ \t]*#[ \t][^\n]*")
_BULLET = re.compile(r"(?:\(?\d{1,4}[.):]|[-*•–])[ \t]+")
_BETWEEN = " \t\r\n;,`"
_RELATION = re.compile(r'[^\s"(),;][^"(),;\n]*')


def _parse(program: str, relations: Sequence[str] | None = None) -> list[Triple]:
    known = None if relations is None else {_key(relation) for relation in relations}
    triples = []
    at = _skip(program, 0, _BETWEEN)
    while at < len(program):
        bullet = _BULLET.match(program, at)
        start = at = _skip(program, bullet.end(), "`") if bullet else at
        relation, at = _name(program, at, bare=_RELATION)
        if known is not None and _key(relation) not in known:
            names = ", ".join(relations or ())
            raise Unparsable(f"{_place(program, start)}: {relation[:40]!r} is no relation; have {names}"[:300])
        at = _sign(program, at, "(")
        subject, at = _name(program, at)
        at = _sign(program, at, ",")
        object_, at = _name(program, at)
        at = _sign(program, at, ")")
        triples.append(Triple(relation, subject, object_))
        at += program[at : at + 1] == "."
        comment = _COMMENT.match(program, at)
        at = _skip(program, comment.end() if comment else at, " \t`")
        if at < len(program) and program[at] not in "\r\n;,":
            raise _error(program, at, "a new line or ';'")
        at = _skip(program, at, _BETWEEN)
    if not triples:
        raise Unparsable("no triple; expected relation(subject, object)")
    return triples


def _name(program: str, at: int, bare: re.Pattern[str] | None = None) -> tuple[str, int]:
    """Return the name that starts at `at`, without quotes, and its end."""
    quoted = _QUOTED.match(program, at)
    if quoted:
        name, end = re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
    elif bare:
        found = bare.match(program, at)
        name, end = (found[0], found.end()) if found else ("", at)
    else:
        end = _end_of_bare(program, at)
        name = program[at:end].strip()
        if len(name) > 2 and (name[0], name[-1]) in _SINGLE:
            name = name[1:-1]
    if not _key(name):
        raise _error(program, at, "a name" if bare is None else "a relation")
    return name.strip(), end


def _end_of_bare(text: str, at: int) -> int:
    """Return the end of the bare name at `at`: a comma, semicolon or closing bracket that is not inside a pair."""
    opened = []
    for n in range(at, len(text)):
        if text[n] in '"\n':
            return n
        if text[n] == "(":
            opened.append(n)
        elif text[n] == ")" and opened:
            opened.pop()
        elif text[n] in "),;" and not opened:
            return n
    return opened[0] if opened else len(text)


def _sign(program: str, at: int, sign: str) -> int:
    at = _skip(program, at, " \t")
    if program[at : at + 1] != sign:
        more = "; quote a name that holds a comma, a bracket or a quote" if sign == ")" else ""
        raise _error(program, at, f"{sign!r}{more}")
    return _skip(program, at + 1, " \t")


def _skip(program: str, at: int, blanks: str) -> int:
    while at < len(program) and program[at] in blanks:
        at += 1
    return at


def _error(program: str, at: int, expected: str) -> Unparsable:
    got = repr(program[at : at + 20]) if at < len(program) else "the end"
    return Unparsable(f"{_place(program, at)}: expected {expected}, got {got}")


def _place(program: str, at: int) -> str:
    return f"line {program.count(chr(10), 0, at) + 1}, column {at - program.rfind(chr(10), 0, at)}"


_ADA = """birthPlace(Ada_Lovelace, London)
field(Ada_Lovelace, "mathematics, computing")
partOf(London, England)"""


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="triples", split="train", instruction="Write the triples.", program=_ADA,
        question="Ada Lovelace, who worked on mathematics and computing, was born in London, England.",
        environment={"relations": ["birthPlace", "field", "partOf", "spouse"]},
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _ADA, 1.0),
    _example(
        "different-looking equal",
        'partOf("london", England); birthPlace( Ada Lovelace , London );\nfield(Ada_Lovelace,"Mathematics,_computing")',
        1.0,
    ),
    _example("similar-looking different", _ADA.replace("(London, England)", "(England, London)"), 2 / 3),
    _example("prefix of gold", "birthPlace(Ada_Lovelace, London)", 0.5),
    _example("relation outside the ontology", "livedIn(Ada_Lovelace, London)", None),
    _example("comma in a bare name", "field(Ada_Lovelace, mathematics, computing)", None),
    _example("ill-formed", "birthPlace(Ada_Lovelace, London", None),
)
