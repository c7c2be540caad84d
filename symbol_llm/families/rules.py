"""First-order theories (facts and rules) with one query, decided by Z3. Equal means: the query has gold's label.

    all x. (Bird(x) & ~Penguin(x) -> Flies(x))  # one premise per line, in the syntax of `symbol_llm/notation/logic.py`
    Bird(tweety)
    ~Penguin(tweety)
    query: Flies(tweety)

Sections with a heading of their own line (`Predicates:`, whose declarations are skipped, `Premises:`, `Conclusion:`), and
what Logic-LM (Pan et al. 2023) has a model write for a rule engine are read, too: `Round($x, True) && Cold($x, False) >>>
Nice($x, True) ::: in words` for `all x. (Round(x) & ~Cold(x) -> Nice(x))`.

What acceptance means. The label is "True" if the premises entail the query, "False" if they entail its negation, else
"Unknown". Contradictory premises prove everything and are never accepted; neither is a query that needs no premise, nor
an "Unknown" about predicates of which the program says nothing. "Uncertain" is another word for "Unknown".

If the problem has a context, words tie the program to it. The query must have a predicate of the question, and a
constant if it has any (with a quantifier, either will do). Three quarters of the names must share a word with the
context, and half of each premise's names with one sentence. A premise that decides the query on its own must be stated
by a sentence that has all of its names, and "if" or "or" only if the premise does. So `Nice(bob)` with
`query: Nice(bob)` is right only if the text says that Bob is nice. Words are compared by their forms in
`notation/names.py`; the shares are set by FOLIO's gold theories, whose names are seldom exactly those of the sentences.

Beyond that, the label alone cannot show that the program is about the question: a rule may relate two words of a
sentence wrongly. The problem's environment can narrow this:

- `symbols`, the names that the theory declares: others are refused, and an "Unknown" about declared ones counts;
- `n_premises`, the number of sentences in the theory: a program with fewer distinct premises is not accepted;
- `theory`, a formal gold program over the same names: every premise must follow from it and the query must be
  equivalent to its query, which leaves nothing to invent; and no premise may decide the query alone unless one of
  gold's does.

Missed: functions, arithmetic, sorts; that Logic-LM's rule engine takes what does not follow forwards as unknown, where here
a rule also says what its contraposition says; theories on which Z3 gives up (these are unscored).
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple, Self

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import names as spelling
from symbol_llm.notation import replies
from symbol_llm.notation.logic import (
    Formula,
    Names,
    after_number,
    conjuncts,
    names_in,
    normal,
    operators,
    parse,
    predicates,
    printed,
    satisfiable,
    statements,
    to_z3,
)
from symbol_llm.sandbox import executor

VERSION = 6
METRIC = "label by entailment"

LABELS = ("True", "False", "Unknown")
_SYNONYMS = {"Uncertain": "Unknown"}
"""FOLIO's word for a label."""
MAX_PREMISES = 200
MAX_NAMES = 300
MIN_NAMES, MIN_PREMISE = 0.75, 0.5
"""Least shares of names found in the context: of all names, and of a premise's names in one sentence."""
_QUERY = re.compile(r"\s*(?:query|goal|conclusion)\s*:\s*", re.IGNORECASE)
_HEADING = re.compile(r"\s*(predicates|premises|theory|facts|rules|query|goal|conclusion)\s*:\s*", re.IGNORECASE)


class Theory(NamedTuple):
    """A parsed program."""

    premises: list[Formula]
    query: Formula
    names: Names


class Environment(Needs):
    """What judging needs besides program and gold."""

    symbols: tuple[str, ...] | None = None
    """Names that a theory may use; None: any."""
    n_premises: int = 1
    """Least number of distinct premises of a theory."""
    theory: str | None = None
    """Gold theory that a theory is compared with."""

    def held_to(self, gold: str) -> Self:
        """Return an environment that compares theories with `gold`, not by their label alone."""
        return self.model_copy(update={"theory": gold})


def canonical(program: str) -> str:
    """Return the formulas with bound variables numbered, operands of commutative operators sorted, premises sorted."""
    theory = _parse(program)
    premises = sorted({normal(premise) for premise in theory.premises})
    return "\n".join([*premises, f"query: {normal(theory.query)}"])


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the label that Z3 finds, or why the guards above make it worthless."""
    theory = _parse(program)
    environment = needs(problem, Environment)
    declared = environment.symbols
    theory.names.check(declared)
    if len({normal(premise) for premise in theory.premises}) < environment.n_premises:
        return Ran(None, "too few premises")
    asked = predicates(theory.query)
    parts = [p for premise in theory.premises for p in conjuncts(premise) if predicates(p) & asked]
    args: dict[str, Any] = {"premises": theory.premises, "query": theory.query, "theory": None, "parts": parts}
    if environment.theory is not None:
        gold = _gold(problem, environment.theory)
        args["theory"] = {"premises": gold.premises, "query": gold.query}
    elif problem.context and (unsaid := _unsaid(theory, problem, declared)):
        return Ran(None, unsaid)
    outcome = executor.run(f"{__name__}:decide", args, limits, preload=(f"{__name__}:warm_up",))
    outcome.check_limits()
    if outcome.status != "ok":  # the child runs no text of the program as code, so the fault is ours
        raise Unavailable(f"Z3 did not decide: {outcome.detail}")
    label, fault = outcome.value["label"], outcome.value["fault"]
    if label == "Unknown" and not fault and not predicates(theory.query) <= _known(theory, declared):
        fault = "no premise speaks of the query's predicates"
    alone = [] if args["theory"] or not problem.context else outcome.value["alone"]
    if not fault and not all(_is_told(part, problem.context) for part in alone):
        fault = "a premise that no sentence says decides the query"
    return Ran(None, f"{label}, but {fault}", outcome.isolation) if fault else Ran(label, "", outcome.isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the label that Z3 finds is `problem.answer` and the guards above hold, else 0.0."""
    label = _SYNONYMS.get(str(problem.answer), problem.answer)
    if label not in LABELS:
        raise InvalidInput(f"problem {problem.id}: answer {problem.answer!r}; expected one of {', '.join(LABELS)}")
    ran = run(program, problem, limits)
    return Result(float(ran.value == label), ran.value or ran.detail, ran.isolation)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a premise removed, negated or replaced by the query, or the query negated, in random order.

    A negated query is a near miss only where the label is "True" or "False"; an open query stays open.
    """
    theory = _parse(program)
    count = len(theory.premises)
    changes = [(kind, n) for n in range(count) for kind in ("drop", "deny", "assume")] + [("query", 0)]
    rng.shuffle(changes)
    for kind, n in changes:
        premises, query = list(theory.premises), theory.query
        if kind == "drop" and count > 1:
            del premises[n]
        elif kind == "deny":
            premises[n] = ["not", premises[n]]
        elif kind == "assume" and normal(query) not in map(normal, premises):
            premises[n] = query
        elif kind == "query":
            query = ["not", query]
        else:
            continue
        yield "\n".join([*map(printed, premises), f"query: {printed(query)}"])


def _known(theory: Theory, declared: Sequence[str] | None) -> set[str]:
    return {name for premise in theory.premises for name in predicates(premise)} | set(declared or ())


def _gold(problem: Problem, text: str) -> Theory:
    try:
        return _parse(text)
    except Unparsable as e:  # gold is ours
        raise InvalidInput(f"problem {problem.id}: the gold theory is ill-formed: {e}") from e


# --- what the text says -----------------------------------------------------------------------------------------------

_SENTENCE = re.compile(r"[^.!?\n]+")
_CONDITIONAL = frozenset("either if or unless when whenever".split())
_FILLERS = spelling.FUNCTION_WORDS | frozenset(
    "all and any do does each every everybody everyone everything no nobody none not nothing one people person thing things".split()
)


class _Text(NamedTuple):
    """A text as a bag of words."""

    words: frozenset[str]
    forms: frozenset[str]
    letters: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the words of `text`."""
        found = frozenset(spelling.words(text))
        return cls(found, frozenset(form for word in found for form in spelling.forms(word)), spelling.spelt(text))

    def says(self, name: str) -> bool:
        """Return whether the text has a word of `name`, or `name` in lower case contains a word of the text."""
        letters = spelling.spelt(name)
        return (
            any(not self.forms.isdisjoint(spelling.forms(word)) for word in spelling.content(name))
            or (len(letters) > 1 and letters in self.letters)
            or any(len(word) > 4 and word in letters for word in self.words)
        )

    def share(self, names: Collection[str]) -> float:
        """Return the share of `names` that the text says; 1 if there are none."""
        return sum(map(self.says, names)) / len(names) if names else 1.0


def _unsaid(theory: Theory, problem: Problem, declared: Sequence[str] | None) -> str:
    """Return names of the program that the text lacks; empty if they are few. Declared names count as present."""
    before = {new: old for old, new in problem.renamed.items()}  # the question keeps the old ones
    question, names = _Text.of(problem.question), {before.get(name, name) for name in names_in(theory.query)}
    asked = {before.get(name, name) for name in predicates(theory.query)}
    kinds = [names] if operators(theory.query) & {"all", "exists"} else [asked, names - asked]
    if not all(question.share(kind) for kind in kinds):
        return "the question does not speak of what the query speaks of"
    premises = [names_in(premise) - set(declared or ()) for premise in theory.premises]
    if _Text.of(problem.context).share({name for names in premises for name in names}) < MIN_NAMES:
        return "the context does not speak of what the premises speak of"
    sentences = _sentences(problem.context)
    if any(all(sentence.share(names) < MIN_PREMISE for sentence in sentences) for names in premises):
        return "a premise speaks of what no sentence speaks of"
    return ""


def _is_told(premise: Formula, context: str) -> bool:
    """Return whether a sentence has all names of `premise`, and a condition only if `premise` has one.

    A condition is the word "if" or, for a statement about all things, one more word, as in "furry things are nice".
    """
    names, kinds = names_in(premise), operators(premise)
    if kinds & {"implies", "or", "xor", "iff"}:
        return any(sentence.share(names) == 1.0 for sentence in _sentences(context))
    own = {form for name in names for word in spelling.words(name) for form in spelling.forms(word)}

    def is_it(sentence: _Text) -> bool:
        others = [word for word in sentence.words - _FILLERS if own.isdisjoint(spelling.forms(word))]
        return not (sentence.words & _CONDITIONAL) and not ("all" in kinds and others)

    return any(sentence.share(names) == 1.0 and is_it(sentence) for sentence in _sentences(context))


def _sentences(context: str) -> list[_Text]:
    """Return the sentences of a context, except for a list of names after a colon."""
    return [_Text.of(found) for found in _SENTENCE.findall(context) if ":" not in found] or [_Text.of(context)]


def _parse(program: str) -> Theory:
    premises: list[Formula] = []
    query: Formula | None = None
    names = Names({}, set())
    for n, text, start, is_query in _formulas(program):
        if query is not None:
            raise Unparsable(f"line {n}: nothing may follow the query")
        formula = parse(text, names, n, start)
        if len(premises) > MAX_PREMISES or len(names.arities) + len(names.constants) > MAX_NAMES:
            raise Unparsable(f"line {n}: more than {MAX_PREMISES} premises or {MAX_NAMES} names")
        if is_query:
            query = formula
        else:
            premises.append(formula)
    if query is None:
        raise Unparsable("no query; the last line must be `query: <formula>`")
    if not premises:
        raise Unparsable("no premise before the query")
    return Theory(premises, query, names)


def _formulas(program: str) -> Iterator[tuple[int, str, int, bool]]:
    """Yield the number and text of each line that has a formula, where it starts, and whether it is the query."""
    section = ""
    for n, text in statements(program):
        if heading := _HEADING.fullmatch(text):
            section = heading[1].lower()
        elif section != "predicates":
            start = _QUERY.match(text, after_number(text))
            is_query = start is not None or _QUERY.match(f"{section}:") is not None
            yield n, _plain(text), start.end() if start else 0, is_query


_TRUTH = re.compile(r"\b([^\W\d]\w*)\(([^()]*),\s*(True|False)\s*\)")
_VARIABLE = re.compile(r"\$([^\W\d]\w*)")


def _plain(text: str) -> str:
    """Return a line that Logic-LM has written for a rule engine as first-order logic; any other line as it is."""
    if ">>>" not in text and not _TRUTH.search(text):
        return text
    names = dict.fromkeys(_VARIABLE.findall(text))
    signed = _TRUTH.sub(lambda found: f"{'~' * (found[3] == 'False')}{found[1]}({found[2]})", text)
    formula = _VARIABLE.sub(r"\1", signed).replace(">>>", "->")
    return f"{''.join(f'all {name}. ' for name in names)}({formula})" if names else formula


# --- in the child: no text of the program is run, only its tree is translated -----------------------------------------


def warm_up() -> None:
    """Have Z3 set itself up, once for all children."""
    atoms = [["atom", name, ["constant", "a"]] for name in "PQ"]
    decide({"premises": atoms[:1], "query": atoms[1], "theory": None, "parts": []})


def decide(args: dict[str, Any]) -> dict[str, Any]:
    """Return the query's label, what makes it worthless, if anything, and the `parts` that decide it alone.

    Unavailable if Z3 gives up.
    """
    import z3

    try:
        premises, query = [to_z3(p) for p in args["premises"]], to_z3(args["query"])
        may_hold, may_fail = satisfiable([*premises, query]), satisfiable([*premises, z3.Not(query)])
        label = {(True, False): "True", (False, True): "False", (True, True): "Unknown"}.get(
            (may_hold, may_fail), "Contradiction"
        )
        alone = [part for part in args["parts"] if _decides(to_z3(part), query)]
        fault = _fault(label, query, premises, args["theory"])
        if not fault and alone and args["theory"]:
            given = (part for premise in args["theory"]["premises"] for part in conjuncts(premise))
            fault = "" if any(_decides(to_z3(part), query) for part in given) else "a premise only repeats the question"
        return {"label": label, "fault": fault, "alone": alone}
    except z3.Z3Exception as e:
        if "memory" in str(e):
            raise MemoryError(str(e)) from e
        raise


def _decides(premise: Any, query: Any) -> bool:
    import z3

    return not satisfiable([premise, z3.Not(query)]) or not satisfiable([premise, query])


def _fault(label: str, query: Any, premises: list[Any], theory: dict[str, Any] | None) -> str:
    import z3

    if label == "Contradiction":
        return "premises that contradict each other prove everything"
    if label == "True" and not satisfiable([z3.Not(query)]) or label == "False" and not satisfiable([query]):
        return "the query needs no premise"
    if theory is None:
        return ""
    given = [to_z3(p) for p in theory["premises"]]
    if satisfiable([query != to_z3(theory["query"])]):
        return "the query is another than was asked"
    invented = any(satisfiable([*given, z3.Not(premise)]) for premise in premises)
    return "a premise does not follow from the theory" if invented else ""


_BIRDS = "all x. (Bird(x) & ~Penguin(x) -> Flies(x))\nBird(tweety)\n~Penguin(tweety)\nquery: Flies(tweety)"


def _example(name: str, program: str, score: float | None, answer: str = "True") -> Example:
    problem = Problem.of(
        task="example", family="rules", split="train", instruction="Write first-order logic.", question="Tweety flies?",
        answer=answer,
        context="Birds that are no penguins fly. Tweety is a bird. Tweety is no penguin.", program=_BIRDS,
        environment={"symbols": ["Bird", "Penguin", "Flies", "tweety"]}, source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _BIRDS, 1.0),
    _example(
        "different-looking equal",
        "¬Penguin(tweety) ∧ Bird(tweety)\n∀y (¬Flies(y) → (Penguin(y) ∨ ¬Bird(y)))\nquery: Flies(tweety)",
        1.0,
    ),
    _example("similar-looking different", _BIRDS.replace("\n~Penguin(tweety)", "\nPenguin(tweety)"), 0.0),
    _example("open query", "Bird(tweety)\nall x. (Flies(x) -> Bird(x))\nquery: Flies(tweety)", 1.0, "Unknown"),
    _example(
        "as Logic-LM has it",
        "Predicates:\nBird($x, bool) ::: Is x a bird?\nFacts:\nBird(tweety, True)\nPenguin(tweety, False)\nRules:\n"
        "Bird($x, True) && Penguin($x, False) >>> Flies($x, True) ::: Birds that are no penguins fly.\n"
        "Query:\nFlies(tweety, True)",
        1.0,
    ),
    _example("premises contradict each other", "Bird(tweety)\n~Bird(tweety)\nquery: Flies(tweety)", 0.0),
    _example("query needs no premise", "Bird(tweety)\nquery: Flies(tweety) | ~Flies(tweety)", 0.0),
    _example("name that was not declared", "Wings(tweety)\nquery: Wings(tweety)", None),
    _example("ill-formed", "Bird(tweety\nquery: Bird(tweety)", None),
)
