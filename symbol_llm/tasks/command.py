"""Commands to action sequences: SCAN.

`meaning` is the whole of SCAN's semantics (Lake and Baroni 2018, arXiv 1711.00350). The generator draws from its
grammar, kept short: at most six actions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from symbol_llm.errors import InvalidInput
from symbol_llm.records import Problem
from symbol_llm.tasks import Row, Task, read_rows

ACTIONS = {"walk": "I_WALK", "look": "I_LOOK", "run": "I_RUN", "jump": "I_JUMP"}
TURNS = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}
TIMES = {"twice": 2, "thrice": 3}
VOCABULARY = [*ACTIONS.values(), *TURNS.values()]
LENGTHS = (3, 4, 6)

NAME = "scan"
INSTRUCTION = f"Translate the command into actions, from: {' '.join(VOCABULARY)}."
LICENCE = "BSD"


class ScanRow(Row):
    """A line of SCAN."""

    id: str
    IN: str
    OUT: str


def read(folder: Path) -> Iterator[Problem]:
    """Yield the rows of SCAN in `folder`."""
    for split, row in read_rows(folder, ScanRow):
        yield _problem(row.IN, row.OUT, split=split, source=f"{NAME} {row.id}", licence=LICENCE)


def generate(rng: random.Random) -> Problem:
    """Return one command of at most six actions, short ones as often as long ones; half join two parts."""
    longest = rng.choice(LENGTHS)
    while True:
        command = _part(rng)
        if rng.random() < 0.5:
            command = f"{command} {rng.choice(('and', 'after'))} {_part(rng)}"
        actions = meaning(command)
        if len(actions.split()) <= longest:
            return _problem(command, actions, split="train", source="generated", licence="Apache-2.0")


def meaning(command: str) -> str:
    """Return the actions that `command` stands for; InvalidInput if SCAN's grammar does not make it."""
    for word, order in ((" and ", 1), (" after ", -1)):
        first, found, second = command.partition(word)
        if found:
            return " ".join((_repeated(first), _repeated(second))[::order])
    return _repeated(command)


def _repeated(phrase: str) -> str:
    head, _, last = phrase.rpartition(" ")
    return " ".join([_turned(head.split())] * TIMES[last]) if last in TIMES else _turned(phrase.split())


def _turned(words: list[str]) -> str:
    match words:
        case [verb] if verb in ACTIONS:
            return ACTIONS[verb]
        case [verb, way] if way in TURNS and (verb in ACTIONS or verb == "turn"):
            return " ".join([TURNS[way], *_act(verb)])
        case [verb, "opposite", way] if way in TURNS and (verb in ACTIONS or verb == "turn"):
            return " ".join([TURNS[way], TURNS[way], *_act(verb)])
        case [verb, "around", way] if way in TURNS and (verb in ACTIONS or verb == "turn"):
            return " ".join([TURNS[way], *_act(verb)] * 4)
    raise InvalidInput(f"command {' '.join(words)!r}: not made by SCAN's grammar")


def _act(verb: str) -> list[str]:
    return [] if verb == "turn" else [ACTIONS[verb]]


def _part(rng: random.Random) -> str:
    verb = rng.choice([*ACTIONS, "turn"])
    manner = rng.choice(("", "", "opposite ", "around "))
    words = [verb, manner + rng.choice(list(TURNS))] if verb == "turn" or rng.random() < 0.6 else [verb]
    return " ".join([*words, *rng.choice(([], [], ["twice"], ["thrice"]))])


def _problem(command: str, actions: str, **fields: str) -> Problem:
    return Problem.of(
        task=NAME,
        family="commands",
        instruction=INSTRUCTION,
        question=command,
        answer=actions,
        program=actions,
        environment={"vocabulary": VOCABULARY},
        **fields,
    )


TASKS = (
    Task(
        NAME,
        "commands",
        INSTRUCTION,
        shots=tuple(
            ("", command, meaning(command))
            for command in ("jump left", "walk twice after run", "look opposite right", "turn around left and jump")
        ),
        licence=LICENCE,
        citation="Lake and Baroni 2018, Generalization without Systematicity",
        folder="command/scan",
        read=read,
        generate=generate,
    ),
)
