"""Task-oriented parses of MTOP and TOPv2, nested intents and slots in brackets. Equal means: the same tree.

    [IN:CREATE_REMINDER [SL:PERSON me ] [SL:TODO [IN:CALL [SL:CONTACT mum ] ] ] [SL:DATE_TIME at 7 pm ] ]

An intent holds slots and words, a slot holds words and intents; the root is an intent. Labels and words are compared as
written, without white space. `environment["order"]` is "ordered" (the default: slots follow the order of the
sentence) or "free" (decoupled parses: the slots of an intent may come in any order; words between them keep theirs).
Gold is `problem.program`. Nothing is run.

Missed: words that mean the same but are spelt differently. Li et al. 2021 (MTOP), Chen et al. 2020 (TOPv2).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from symbol_llm.families import Example, Needs, Ran, Result, needs, read_gold
from symbol_llm.ground.errors import Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies

VERSION = 2
METRIC = "exact match of trees"

MAX_DEPTH = 100


class Node(NamedTuple):
    """An intent or a slot."""

    label: str
    """The label with its kind: `IN:CREATE_ALARM`, `SL:DATE_TIME`."""
    children: list[Node | str]


class Environment(Needs):
    """What judging needs besides program and gold."""

    order: Literal["ordered", "free"] = "ordered"
    """Whether slots follow the order of the question."""


def canonical(program: str) -> str:
    """Return the tree with one space between tokens."""
    return _print(_parse(program))


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form, with slots sorted if their order is free."""
    return Ran(_print(_parse(program), free=_is_free(problem)))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the tree is that of `problem.program`, else 0.0."""
    free = _is_free(problem)
    gold = read_gold(problem, lambda text: _print(_parse(text), free=free))
    found = _print(_parse(program), free=free)
    return Result(float(found == gold), found)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a label changed, a slot or word removed, two words exchanged, or a bracket shifted."""
    tree = _parse(program)
    tokens = _print(tree).split(" ")
    changed = list(_changes(tokens, rng))
    rng.shuffle(changed)
    for mutant in map(" ".join, changed):
        if _print(_parse(mutant), free=True) != _print(tree, free=True):
            yield mutant


def _changes(tokens: list[str], rng: random.Random) -> Iterator[list[str]]:
    """Yield token lists that are trees; the first token opens the root and the last one closes it."""
    labels = sorted({token for token in tokens if token.startswith("[")})
    for n, text in enumerate(tokens):
        before, after = tokens[:n], tokens[n + 1 :]
        following = tokens[n + 1] if after else "]"
        if text.startswith("["):
            others = [label for label in labels if label[:3] == text[:3] and label != text] + [f"{text}_TYPE"]
            yield [*before, rng.choice(others), *after]
            if text.startswith("[SL:"):
                yield before + tokens[_end(tokens, n) :]
                if following[0] not in "[]":
                    yield [*before, following, text, *after[1:]]
        elif text != "]":
            yield before + after
            if following[0] not in "[]":
                yield [*before, following, text, *after[1:]]


def _end(tokens: list[str], start: int) -> int:
    depth = 0
    for n in range(start, len(tokens)):
        depth += tokens[n].startswith("[") - (tokens[n] == "]")
        if depth == 0:
            return n + 1
    raise AssertionError(tokens)


def _is_free(problem: Problem) -> bool:
    return needs(problem, Environment).order == "free"


_TOKEN = re.compile(r"\[[^\s\[\]]*|\]|[^\s\[\]]+")
_OPENING = re.compile(r"\[(?:IN|SL):\w+")


def _parse(program: str) -> Node:
    root: Node | None = None
    opened: list[Node] = []
    for found in _TOKEN.finditer(program):
        text = found[0]
        if root is not None and not opened:
            raise _error(program, found, "the end after the root's ']'")
        if text.startswith("["):
            node = _open(program, found, opened)
            root = root or node
        elif not opened:
            raise _error(program, found, "[IN: and a name")
        elif text == "]":
            opened.pop()
        else:
            opened[-1].children.append(text)
    if opened:
        raise Unparsable(f"the text ends before {len(opened)} bracket(s) close, the last one [{opened[-1].label}")
    if root is None:
        raise Unparsable("no tree; expected [IN: and a name")
    return root


def _open(program: str, found: re.Match[str], opened: list[Node]) -> Node:
    """Add a node to the innermost open one and open it."""
    kind = "[SL:" if opened and opened[-1].label.startswith("IN:") else "[IN:"
    if not _OPENING.fullmatch(found[0]) or not found[0].startswith(kind):
        raise _error(program, found, f"{kind} and a name")
    if len(opened) == MAX_DEPTH:
        raise _error(program, found, f"at most {MAX_DEPTH} levels")
    node = Node(found[0][1:], [])
    if opened:
        opened[-1].children.append(node)
    opened.append(node)
    return node


def _error(program: str, token: re.Match[str], expected: str) -> Unparsable:
    line = program.count("\n", 0, token.start()) + 1
    column = token.start() - program.rfind("\n", 0, token.start())
    return Unparsable(f"line {line}, column {column}: expected {expected}, got {token[0][:40]!r}")


def _print(node: Node, *, free: bool = False) -> str:
    parts = [child if isinstance(child, str) else _print(child, free=free) for child in node.children]
    if free and node.label.startswith("IN:"):
        parts.sort(key=lambda part: (part.startswith("["), part if part.startswith("[") else ""))
    return " ".join([f"[{node.label}", *parts, "]"])


_CALL = "[IN:CREATE_REMINDER [SL:PERSON me ] [SL:TODO [IN:CALL [SL:CONTACT mum ] ] ] [SL:DATE_TIME at 7 pm ] ]"


def _example(name: str, program: str, score: float | None, order: str = "ordered") -> Example:
    problem = Problem.of(
        task="example", family="top", split="train", instruction="Write the parse.", program=_CALL,
        question="remind me to call mum at 7 pm", environment={"order": order},
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


_TURNED = "[IN:CREATE_REMINDER [SL:DATE_TIME at 7 pm ] [SL:PERSON me ] [SL:TODO [IN:CALL [SL:CONTACT mum ] ] ] ]"
EXAMPLES = (
    _example("gold itself", _CALL, 1.0),
    _example("different-looking equal", _CALL.replace(" ]", "]").replace("[SL", "\n  [SL"), 1.0),
    _example("slots in another order, which is free", _TURNED, 1.0, "free"),
    _example("slots in another order, which counts", _TURNED, 0.0),
    _example("similar-looking different", _CALL.replace("[SL:DATE_TIME at 7", "at [SL:DATE_TIME 7"), 0.0),
    _example("words in another order", _CALL.replace("7 pm", "pm 7"), 0.0, "free"),
    _example("slot in a slot", "[IN:CREATE_REMINDER [SL:TODO [SL:CONTACT mum ] ] ]", None),
    _example("ill-formed", _CALL[:-2], None),
)
