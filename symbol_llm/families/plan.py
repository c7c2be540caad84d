"""Plans for a PDDL problem, one action per line. Equal means: any plan that can be executed and reaches the goal.

    (unstack a b)        ; also `1. (unstack a b)`, `- (unstack a b)`, `0.0: (unstack a b) [1]`, `unstack(a, b)`
    (put-down a)

If no line has brackets, each is a step of its own: `unstack a b`, numbered or not. Commas, bold type, backticks, comments
after `#`, a full stop after a bracket and the marks `[PLAN]` and `[PLAN END]` do not count. Nor do remarks among steps
in brackets: behind a dash, an arrow, two strokes or a colon, `(unstack a b) - takes a off`, or in a line right below a step
that is a sentence or has a label, with a step behind it. A line that reads like a step, an action's name with as many words
as it takes or with objects alone, is none.

The plan is simulated from the initial state, as VAL does (Howey et al. 2004): STRIPS with types, constants, equality,
negative, disjunctive and quantified conditions over the finite objects, conditional and quantified effects; a step
first deletes facts, then adds. The cost of a plan does not count: `increase` and the like are ignored.

`environment` holds `domain` and `problem`, the texts of the two files, and may hold `names`, other names that plans may
use for objects, such as {"red": "a"} if the question speaks of a red block that the problem names `a`. Gold is a plan
in `problem.program`, which must itself be valid, or `problem.answer` true if it is only known that a plan exists.

An unknown action or object, a wrong number or type of arguments, and a plan without actions are Unparsable. Missed:
empty plans, durations, numeric conditions, derived predicates, probabilistic effects (a domain that has them is refused
as invalid, hence unscored).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies, strips
from symbol_llm.notation.strips import Domain, Formula, Instance, Names, Node, Types, expected, show

VERSION = 5
METRIC = "plan validity"

MAX_CHECKS = 500_000
"""Most facts looked up while one plan is simulated, a second or two."""

_NUMBERING = re.compile(
    r"^[ \t]*(?:(?:step|action)[ \t]{1,9})?\d{1,9}(?:\.\d{1,9})?[ \t]{0,9}(?:[.:)]?[ \t]{0,9}(?=\()|[.:)][ \t]{1,9}(?=\w))",
    re.MULTILINE | re.IGNORECASE,
)
_DURATION = re.compile(r"(?<=\))[ \t]*\[\d{1,9}(?:\.\d{1,9})?\]")
_MARKUP = re.compile(r"[#;][^\n]*|\*\*|`|(?<=\))\.(?=\s|\Z)|^\[PLAN(?: END)?\](?=\s|\Z)", re.MULTILINE)
_BULLET = re.compile(r"^[ \t]*[-*•][ \t]{1,9}(?=[(\w])", re.MULTILINE)
_REMARK = re.compile(r"(?<=\))[ \t]*(?:--?>?|[–—→:]|//)[ \t]+[^()\n]*$", re.MULTILINE)
"""Matches what is said of the step in brackets before it."""
_SENTENCE = re.compile(
    r"^(?=[ \t]*(?:[-*•][ \t]+|\d{1,9}[.)][ \t]+)?[^\W\d][^()\n]*$)[^\n]*(?:[.:!?][ \t]*$|\w:[ \t][^\n]*)", re.MULTILINE
)
"""Matches a line without brackets that ends as a sentence does, or has a label."""
_WORD = re.compile(r"[^\W\d_][\w@-]*|[\w@-]+")
_NAME = r"\w[\w.@-]*"
_BARE = re.compile(rf"[ \t]*{_NAME}(?:[ \t]+{_NAME})*[ \t]*(?<!\.)")
"""Matches a line that is a step without brackets; one that ends with a full stop is a sentence."""
_CALL = re.compile(rf"({_NAME})\(([\w.@, \t-]*)\)")
_CALLS = re.compile(rf"[ \t]*{_CALL.pattern}(?:[ \t,]*{_CALL.pattern})*[ \t,]*")
Bindings = Mapping[str, str]


class Action(NamedTuple):
    """An operator of the domain."""

    parameters: list[tuple[str, Types]]
    precondition: Formula
    effect: Formula
    """("add" | "delete", atom), ("when", formula, effect), ("forall", variable, types, effect), ("and", effect ...)."""


class Task(NamedTuple):
    """A domain and a problem, ready for simulation."""

    domain: Domain
    actions: Mapping[str, Action]
    instance: Instance
    objects: Mapping[str, Types]
    names: Names


class Environment(Needs):
    """What judging needs besides program and gold."""

    domain: str
    """Text of the domain file."""
    problem: str
    """Text of the problem file."""
    names: dict[str, str] = {}
    """Other names that plans may use for objects."""


def canonical(program: str) -> str:
    """Return the actions in lower case, one per line, without numbers and comments."""
    return "\n".join(str(step) for step in _steps(program))


_STEP = re.compile(
    rf"{replies.GOES_ON.pattern}|(?:\d+[.:)]?[ ]*)?(?:[a-z][\w-]*(?:[ ]+[a-z][\w-]*)+|[A-Z][\w-]*(?:[ ]+[A-Z][\w-]*)+)"
    r"[ ]*[.,;]?[ ]*(?:\n|\Z)"
)
"""Matches another step, also one without brackets, which is none among steps in brackets."""
program_of = replies.that_parses(canonical, goes_on=_STEP)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Report that the goal is reached, or where and why the plan fails."""
    fault = _simulate(program, _task(problem), needs(problem, Environment).names)
    return Ran(None, fault) if fault else Ran("the goal is reached")


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` can be executed from the initial state and reaches the goal, else 0.0."""
    task, names = _task(problem), needs(problem, Environment).names
    fault = _simulate(program, task, names)
    if problem.program:
        try:
            gold_fault = _simulate(problem.program, task, names)
        except Unparsable as e:  # gold is ours
            gold_fault = str(e)
        if gold_fault:
            raise InvalidInput(f"problem {problem.id}: gold plan: {gold_fault}")
    elif problem.answer is not True:
        raise InvalidInput(f"problem {problem.id}: neither a gold plan nor the answer true, that there is one")
    return Result(float(not fault), fault or "the goal is reached")


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a step removed or duplicated, the last one first, or one object changed, in random order.

    The first three break any plan that wastes no step; another object usually does.
    """
    steps = [tuple(part.name for part in step.parts or ()) for step in _steps(program)]
    objects = sorted({name for step in steps for name in step[1:]})
    changed = [[*steps[-1:], *steps[:-1]]] if len(set(steps)) > 1 else []
    for n, step in enumerate(steps):
        changed += [[*steps[:n], *steps[n + 1 :]]] if len(steps) > 1 else []
        changed += [[*steps[: n + 1], *steps[n:]]]
        for place in range(1, len(step)):
            other = rng.choice(objects)
            if other != step[place]:
                changed += [[*steps[:n], (*step[:place], other, *step[place + 1 :]), *steps[n + 1 :]]]
    rng.shuffle(changed)
    yield from ("\n".join(f"({' '.join(step)})" for step in plan) for plan in changed)


# --- reading ----------------------------------------------------------------------------------------------------------


def _steps(program: str) -> list[Node]:
    """Return the actions, each a list of names; numbering and the like are blanked out, so positions stay valid."""
    program = _MARKUP.sub(_blank, program)
    for remark in _remarks(program):
        program = f"{program[: remark.start()]}{_blank(remark)}{program[remark.end() :]}"
    for noise in (_REMARK, _BULLET, _NUMBERING, _DURATION):
        program = noise.sub(_blank, program)
    steps = strips.read(_in_brackets(program).replace(",", " "))
    if len(steps) == 1 and steps[0].parts and all(part.parts for part in steps[0].parts):
        steps = list(steps[0].parts)
    if not steps:
        raise Unparsable("no action; expected lines such as (unstack a b)")
    for step in steps:
        for part in strips.parts_of(step, "an action such as (unstack a b)") or (step,):
            strips.name_of(part, "an action such as (unstack a b)")
    return steps


def _blank(match: re.Match[str]) -> str:
    return " " * len(match[0])


def _remarks(program: str) -> list[re.Match[str]]:
    """Return the lines before the last bracket that are remarks.

    Behind the first step, a line that ends with a colon or comes after a blank line is none: an explanation begins there.
    """
    first, last = program.find("("), program.rfind("(")
    found = _SENTENCE.finditer(program, 0, max(last, 0))
    return [one for one in found if one.start() < first or not _ends_a_plan(program, one)]


def _ends_a_plan(program: str, line: re.Match[str]) -> bool:
    before = program[program.rfind("\n", 0, max(line.start() - 1, 0)) + 1 : line.start()]
    return line[0].rstrip().endswith(":") or not before.strip()


def _in_brackets(program: str) -> str:
    """Return `program` with brackets around each line's step; as it is, unless no line but calls has any."""
    lines = program.split("\n")
    if not all(not line.strip() or _BARE.fullmatch(line) or _CALLS.fullmatch(line) for line in lines):
        return program
    bare = (_CALL.sub(r"(\1 \2)", line) if "(" in line else f"({line})" for line in lines)
    return "\n".join(line if old.strip() else "" for line, old in zip(bare, lines, strict=True))


@lru_cache(maxsize=256)
def _read(domain_text: str, problem_text: str) -> Task:
    domain = strips.read_domain(domain_text)
    instance = strips.read_instance(problem_text, domain)
    objects = {**domain.constants, **instance.objects}
    actions = {name: _action(node, domain) for name, node in domain.actions.items()}
    return Task(domain, actions, instance, objects, Names(domain, instance.objects))


def _task(problem: Problem) -> Task:
    environment = needs(problem, Environment)
    try:
        return _read(environment.domain, environment.problem)
    except Unparsable as e:  # both are ours
        raise InvalidInput(f"problem {problem.id}: {e}") from e


def _action(node: Node, domain: Domain) -> Action:
    parts = (node.parts or ())[2:]
    fields = {key.name: value for key, value in zip(parts[::2], parts[1::2], strict=False)}
    if len(parts) % 2 or fields.keys() - {":parameters", ":precondition", ":effect"}:
        raise expected(node, "an action of :parameters, :precondition and :effect")
    parameters = strips.variables(fields.get(":parameters"))
    names, bound = Names(domain, {}), dict(parameters)
    condition, effect = fields.get(":precondition"), fields.get(":effect")
    return Action(
        parameters,
        names.formula(condition, bound) if condition else ("and",),
        _effect(effect, names, bound) if effect else ("and",),
    )


def _effect(node: Node, names: Names, bound: Mapping[str, Types]) -> Formula:  # noqa: PLR0911 - one return a kind of effect
    parts = strips.parts_of(node, "an effect")
    match node.head:
        case "" if not parts:
            return ("and",)
        case "and":
            return ("and", *(_effect(part, names, bound) for part in parts[1:]))
        case "not" if len(parts) == 2:
            return ("delete", names.fact(parts[1], bound))
        case "when" if len(parts) == 3:
            return ("when", names.formula(parts[1], bound), _effect(parts[2], names, bound))
        case "forall" if len(parts) == 3:
            inner = strips.variables(parts[1])
            body = _effect(parts[2], names, {**bound, **dict(inner)})
            for variable, types in reversed(inner):
                body = ("forall", variable, types, body)
            return body
        case "increase" | "decrease" | "assign" | "scale-up" | "scale-down":
            return ("and",)
    return ("add", names.fact(node, bound))


# --- simulating -------------------------------------------------------------------------------------------------------


def _simulate(program: str, task: Task, names: Mapping[str, str]) -> str:
    """Return why `program` does not reach the goal; empty if it does."""
    called = {name.lower(): object_.lower() for name, object_ in names.items()}
    _refuse_bare_steps(program, task, called)
    calls = [_call(step, task, called) for step in _steps(program)]
    world = _World(task)
    for n, (step, action, bindings) in enumerate(calls, 1):
        missing = world.missing(action.precondition, bindings)
        if missing:
            return f"step {n} {step}: {missing} does not hold"
        world.apply(action.effect, bindings)
    missing = world.missing(task.instance.goal, {})
    return f"after the last step: {missing} does not hold" if missing else ""


def _refuse_bare_steps(program: str, task: Task, called: Mapping[str, str]) -> None:
    """Raise Unparsable if a line that passes for a remark reads like a step."""
    for remark in _remarks(_MARKUP.sub(_blank, program)):
        head, *terms = [word.lower() for word in _WORD.findall(_NUMBERING.sub("", _BULLET.sub("", remark[0])))] or [""]
        action = task.actions.get(head)
        if action and (len(terms) == len(action.parameters) or all(called.get(t, t) in task.objects for t in terms)):
            raise Unparsable(f"expected a step in brackets or a remark, got {remark[0].strip()[:40]!r}")


def _call(step: Node, task: Task, called: Mapping[str, str]) -> tuple[str, Action, Bindings]:
    head, *terms = step.parts or ()
    action = task.actions.get(head.name)
    if action is None:
        raise expected(head, f"one of the actions {', '.join(task.actions)}"[:200])
    if len(terms) != len(action.parameters):
        raise expected(step, f"{head.name} with {len(action.parameters)} objects")
    bindings = {}
    for term, (variable, types) in zip(terms, action.parameters, strict=True):
        name = called.get(term.name, term.name)
        if name not in task.objects:
            raise expected(term, "an object of the problem")
        if not task.names.fits(task.objects[name], types):
            raise expected(term, f"an object of type {strips.show_types(types)}")
        bindings[variable] = name
    return str(step), action, bindings


class _World:
    """The facts that hold while a plan runs."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._facts = set(task.instance.facts)
        self._checks = 0

    def missing(self, formula: Formula, bindings: Bindings) -> str:
        """Return the first part of `formula` that does not hold, as text; empty if all does."""
        if formula[0] == "and":
            return next(filter(None, (self.missing(part, bindings) for part in formula[1:])), "")
        return "" if self._holds(formula, bindings) else show(_bound(formula, bindings))

    def apply(self, effect: Formula, bindings: Bindings) -> None:
        """Delete, then add the facts that `effect` gives in the state before it."""
        changes = list(self._changes(effect, bindings))
        self._facts.difference_update(fact for kind, fact in changes if kind == "delete")
        self._facts.update(fact for kind, fact in changes if kind == "add")

    def _changes(self, effect: Formula, bindings: Bindings) -> Iterator[tuple[str, tuple[str, ...]]]:
        match effect:
            case ("and", *parts):
                for part in parts:
                    yield from self._changes(part, bindings)
            case ("when", condition, part):
                if self._holds(condition, bindings):
                    yield from self._changes(part, bindings)
            case ("forall", variable, types, part):
                for name in self._of(types):
                    yield from self._changes(part, {**bindings, variable: name})
            case (kind, fact):
                self._count()
                yield kind, _ground(fact, bindings)

    def _holds(self, formula: Formula, bindings: Bindings) -> bool:  # noqa: PLR0911 - one return a kind of formula
        match formula:
            case ("atom", *fact):
                self._count()
                return _ground(fact, bindings) in self._facts
            case ("=", left, right):
                return bindings.get(left, left) == bindings.get(right, right)
            case ("not", part):
                return not self._holds(part, bindings)
            case ("and", *parts):
                return all(self._holds(part, bindings) for part in parts)
            case ("or", *parts):
                return any(self._holds(part, bindings) for part in parts)
            case ("imply", left, right):
                return not self._holds(left, bindings) or self._holds(right, bindings)
            case (quantifier, variable, types, part):
                found = (self._holds(part, {**bindings, variable: name}) for name in self._of(types))
                return all(found) if quantifier == "forall" else any(found)
        raise AssertionError(formula)

    def _of(self, types: Types) -> list[str]:
        return [name for name, its in self._task.objects.items() if self._task.names.fits(its, types)]

    def _count(self) -> None:
        self._checks += 1
        if self._checks > MAX_CHECKS:
            raise LimitExceeded(f"simulating the plan takes more than {MAX_CHECKS} look-ups")


def _ground(fact: list[str] | tuple[str, ...], bindings: Bindings) -> tuple[str, ...]:
    return tuple(bindings.get(term, term) for term in fact)


def _bound(formula: Formula, bindings: Bindings) -> Formula:
    """Return `formula` with the variables in `bindings` replaced by objects."""
    if formula[0] in ("forall", "exists"):
        inner = {variable: name for variable, name in bindings.items() if variable != formula[1]}
        return (*formula[:3], _bound(formula[3], inner))
    if formula[0] in ("atom", "="):
        return (formula[0], *_ground(formula[1:], bindings))
    return (formula[0], *(_bound(part, bindings) for part in formula[1:]))


_DOMAIN = """(define (domain ferry) (:requirements :strips :typing) (:types car place)
(:predicates (at ?c - car ?p - place) (ferry-at ?p - place) (aboard ?c - car) (empty))
(:action sail :parameters (?from ?to - place) :precondition (ferry-at ?from)
  :effect (and (ferry-at ?to) (not (ferry-at ?from))))
(:action board :parameters (?c - car ?p - place) :precondition (and (at ?c ?p) (ferry-at ?p) (empty))
  :effect (and (aboard ?c) (not (at ?c ?p)) (not (empty))))
(:action leave :parameters (?c - car ?p - place) :precondition (and (aboard ?c) (ferry-at ?p))
  :effect (and (at ?c ?p) (empty) (not (aboard ?c)))))"""
_PROBLEM = """(define (problem one) (:domain ferry) (:objects mini - car north south - place)
(:init (at mini north) (ferry-at south) (empty)) (:goal (at mini south)))"""
_PLAN = "(sail south north)\n(board mini north)\n(sail north south)\n(leave mini south)"


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="plan", split="train", instruction="Write a plan.", context=f"{_DOMAIN}\n{_PROBLEM}",
        question="Bring the mini to the south.", program=_PLAN,
        environment={"domain": _DOMAIN, "problem": _PROBLEM}, source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _PLAN, 1.0),
    _example("different-looking equal", "; over and back\n1. (SAIL south north)\n2. (board mini north) ; in\n3. (sail north south)\n4. (leave mini south)", 1.0),
    _example("longer plan that is valid too", "(sail south south) (sail south north)\n" + _PLAN[19:], 1.0),
    _example("precondition that does not hold", _PLAN[19:], 0.0),
    _example("prefix of gold", _PLAN[:-19].rstrip(), 0.0),
    _example("action that the domain lacks", _PLAN.replace("leave", "unload"), None),
    _example("wrong number of objects", _PLAN.replace("(leave mini south)", "(leave mini)"), None),
    _example("ill-formed", "(sail south north", None),
)  # fmt: skip
