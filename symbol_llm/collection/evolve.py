"""Symbol-evol (Symbol-LLM, arXiv 2311.09278, section 3): rows with meaningless names, whose definitions must be read.

Some of the names that a row declares (`Problem.symbols`) become random strings, by one bijection over instruction,
context, program, answer and environment. The question stays as it is; a line above the context says what each string
stands for. The bijection is kept in `Problem.renamed`, and `restored` undoes it.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping
from typing import Any

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Problem, content_id

MAX_RENAMED = 8
"""Most names of a row that are renamed: the first that its program uses, so that the glossary stays short."""
LENGTHS = range(5, 9)
GLOSSARY = "Names: {}."
TEXTS = ("instruction", "context", "program", "answer", "environment", "symbols")


def evolved(problem: Problem, rng: random.Random) -> Problem | None:
    """Return `problem` with names renamed; None if its program uses none of the names that it declares.

    A prefix that ends in a colon stays (`IN:`, `ns:`), since notations require it. InvalidInput if a name is declared
    twice or does not occur in the row's instruction or context.
    """
    names = _chosen(problem, rng)
    if names is None:
        return None
    taken = f"{problem.question}\n{_flat([getattr(problem, field) for field in TEXTS])}"
    renamed: dict[str, str] = {}
    for name in names:
        renamed[name] = _fresh(name, taken, renamed.values(), rng)
    fields = {field: _replaced(getattr(problem, field), renamed) for field in TEXTS}
    glossary = GLOSSARY.format(", ".join(f"{new} is {old}" for old, new in renamed.items()))
    fields["context"] = f"{glossary}\n{fields['context']}".strip()
    key = content_id(problem.id, renamed)
    return problem.model_copy(update={**fields, "symbols": tuple(fields["symbols"]), "renamed": renamed, "id": key})


def restored(problem: Problem) -> Problem:
    """Return the row from which `evolved` made `problem`, except for its id, which must be recomputed."""
    back = {new: old for old, new in problem.renamed.items()}
    _, _, context = problem.context.partition("\n")
    fields = {field: _replaced(getattr(problem, field), back) for field in TEXTS if field != "context"}
    fields["context"] = _replaced(context, back)
    fields["symbols"] = tuple(fields["symbols"])
    key = content_id(problem.task, fields["context"], problem.question)
    return problem.model_copy(update={**fields, "renamed": {}, "id": key})


def _chosen(problem: Problem, rng: random.Random) -> list[str] | None:
    twice = [name for i, name in enumerate(problem.symbols) if name in problem.symbols[:i]]
    if twice:
        raise InvalidInput(f"{problem.source}: the name {twice[0]!r} is declared twice, so renaming it is ambiguous")
    declared = f"{problem.instruction}\n{problem.context}"
    for name in problem.symbols:
        if not _word(name).search(declared):
            raise InvalidInput(f"{problem.source}: the name {name!r} stands neither in instruction nor in context")
    used = [name for name in problem.symbols if _word(name).search(problem.program or "")]
    if not used:
        return None
    spare = [name for name in problem.symbols if name not in used]
    room = max(0, MAX_RENAMED - len(used))
    names = used[:MAX_RENAMED] + rng.sample(spare, min(len(spare), room))
    return sorted(names, key=problem.symbols.index)


def _fresh(name: str, taken: str, others: Any, rng: random.Random) -> str:
    prefix = name[: name.rfind(":") + 1]
    while True:
        letters = rng.choices(string.ascii_lowercase + string.digits, k=rng.choice(LENGTHS) - 1)
        new = f"{prefix}{rng.choice(string.ascii_lowercase)}{''.join(letters)}"
        if new not in taken and new not in others:
            return new


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(name)}(?![\w-])")


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    """Return a JSON value with every whole word of `names` replaced in its texts, keys included, all at once."""
    if isinstance(value, str):
        either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        return re.sub(rf"(?<![\w-])(?:{either})(?![\w-])", lambda found: names[found[0]], value)
    if isinstance(value, Mapping):
        return {_replaced(key, names): _replaced(part, names) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(part, names) for part in value]
    return value


def _flat(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{_flat(key)} {_flat(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(_flat, value))
    return str(value)
