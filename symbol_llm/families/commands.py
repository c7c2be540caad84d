"""SCAN action sequences, such as `I_TURN_LEFT I_JUMP`. Equal means: the same actions in the same order.

`environment["vocabulary"]` lists the actions if a problem renames them. Nothing is run; no actions are unparsable.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence

from symbol_llm.families import Example, Needs, Ran, Redrawn, Result, needs
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies

VERSION = 2
METRIC = "exact sequence of actions"

VOCABULARY = ("I_TURN_LEFT", "I_TURN_RIGHT", "I_WALK", "I_LOOK", "I_RUN", "I_JUMP")
_WORD = re.compile(r"\b[a-z]+\b")
_ACTION = re.compile(r"[A-Za-z0-9_]+")


class Environment(Needs):
    """What judging needs besides program and gold."""

    vocabulary: tuple[str, ...] = VOCABULARY
    """The known actions."""


def canonical(program: str) -> str:
    """Return the actions joined by one space. Only `score`, which knows the problem, checks the vocabulary."""
    actions = program.split()
    if not actions:
        raise Unparsable("no action")
    for n, action in enumerate(actions, 1):
        if not _ACTION.fullmatch(action):
            raise Unparsable(f"action {n}: {action[:40]!r} is not a name")
    return " ".join(actions)


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the actions; Unparsable at the first unknown one."""
    return Ran(" ".join(_read(program, needs(problem, Environment).vocabulary)))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the actions are those of `problem.answer`, else 0.0; Unparsable at the first unknown action."""
    if not isinstance(problem.answer, str):
        raise InvalidInput(f"problem {problem.id}: answer {problem.answer!r}; expected a sequence of actions")
    vocabulary = needs(problem, Environment).vocabulary
    actions = _read(program, vocabulary)
    return Result(float(actions == _read(problem.answer, vocabulary)), " ".join(actions))


def redraw(programs: Sequence[str], problem: Problem, rng: random.Random) -> Redrawn | None:
    """Return the command with its moves permuted, and likewise its turns, in the published vocabulary."""
    if needs(problem, Environment).vocabulary != VOCABULARY:
        return None
    words = [action.removeprefix("I_").removeprefix("TURN_").lower() for action in VOCABULARY]
    moves, turns = words[2:], words[:2]
    drawn = dict(zip(turns + moves, rng.sample(turns, 2) + rng.sample(moves, 4), strict=True))
    question = _WORD.sub(lambda m: drawn.get(m[0], m[0]), problem.question)
    actions = {a: VOCABULARY[words.index(drawn[w])] for a, w in zip(VOCABULARY, words, strict=True)}
    changed = (" ".join(actions.get(a, a) for a in canonical(program).split()) for program in programs)
    return Redrawn(question, tuple(changed)) if question != problem.question else None


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one action removed, duplicated, or swapped with a different neighbour, in random order."""
    actions = canonical(program).split()
    places = list(range(len(actions)))
    rng.shuffle(places)
    for n in places:
        if len(actions) > 1:
            yield " ".join(actions[:n] + actions[n + 1 :])
        yield " ".join(actions[: n + 1] + actions[n:])
        if n and actions[n] != actions[n - 1]:
            yield " ".join([*actions[: n - 1], actions[n], actions[n - 1], *actions[n + 1 :]])


def _read(program: str, vocabulary: Sequence[str]) -> list[str]:
    actions = canonical(program).split()
    for n, action in enumerate(actions, 1):
        if action not in vocabulary:
            raise Unparsable(f"action {n}: {action[:40]!r}; expected one of {', '.join(vocabulary)}"[:300])
    return actions


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="commands", split="train", instruction="Write the actions.", question="jump left twice",
        answer="I_TURN_LEFT I_JUMP I_TURN_LEFT I_JUMP", program="I_TURN_LEFT I_JUMP I_TURN_LEFT I_JUMP",
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", "I_TURN_LEFT I_JUMP I_TURN_LEFT I_JUMP", 1.0),
    _example("different-looking equal", "I_TURN_LEFT\nI_JUMP\n  I_TURN_LEFT\tI_JUMP", 1.0),
    _example("similar-looking different", "I_TURN_LEFT I_TURN_LEFT I_JUMP I_JUMP", 0.0),
    _example("prefix of gold", "I_TURN_LEFT I_JUMP I_TURN_LEFT", 0.0),
    _example("unknown action", "I_TURN_LEFT I_HOP", None),
    _example("ill-formed", "I_TURN_LEFT, I_JUMP", None),
)
