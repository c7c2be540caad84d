"""Requests to function calls: BFCL, API-Bank, and generated ones. The functions of a row are declared in its context."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Row, Task, read_rows
from symbol_llm.tasks.api.data import DATA, OWN, shots

CALLS_INSTRUCTION = (
    "Write the call that the request needs, function(argument=value), from the functions given; several calls as a list"
    " [f(...), g(...)]. A question mark marks arguments that may be left out."
)
API_BANK_INSTRUCTION = "Write the next call of the assistant, function(argument='value'), from the functions given."


class Turn(Row):
    """One message of a chat."""

    role: str
    content: str


class BfclRow(Row):
    """A request with functions and, for each call, the allowed values of its arguments."""

    id: str
    question: list[list[Turn]] = Field(min_length=1)
    function: list[dict[str, Any]] = Field(min_length=1)
    ground_truth: list[dict[str, dict[str, Any]]] | None = None


def read_bfcl(folder: Path) -> Iterator[Problem]:
    """Yield the rows of BFCL in `folder`; the text of a system message comes before the functions."""
    for split, row in read_rows(folder, BfclRow):
        turns = row.question[0]
        context = [turn.content.strip() for turn in turns if turn.role == "system"] + [
            _described(f) for f in row.function
        ]
        yield Problem.of(
            task="bfcl",
            family="calls",
            instruction=CALLS_INSTRUCTION,
            context="\n".join(context),
            question="\n".join(turn.content for turn in turns if turn.role != "system"),
            answer=row.ground_truth,
            program=_first_allowed(row.ground_truth) if row.ground_truth else None,
            environment={"functions": row.function},
            symbols=tuple(sorted({function["name"] for function in row.function})),
            split=split,
            source=f"bfcl {row.id}",
            licence="Apache-2.0",
        )


def _described(function: Mapping[str, Any]) -> str:
    """Return a function's signature and description, and a line for each argument with more details."""
    parameters = function.get("parameters", {})
    properties, required = parameters.get("properties", {}), parameters.get("required", ())
    names = [f"{name}{'' if name in required else '?'}: {p.get('type', 'any')}" for name, p in properties.items()]
    lines = [f"{function['name']}({', '.join(names)}): {function.get('description', '')}".rstrip(": ")]
    for name, p in properties.items():
        more = {k: v for k, v in p.items() if k not in ("type", "description") and (k != "items" or "properties" in v)}
        text = p.get("description", "") + (f" {json.dumps(more, ensure_ascii=False)}" if more else "")
        if text:
            lines.append(f"- {name}: {text.strip()}")
    return "\n".join(lines)


def _first_allowed(calls: list[dict[str, dict[str, Any]]]) -> str:
    shown = []
    for call in calls:
        ((name, options),) = call.items()
        chosen = {key: _chosen(values[0]) for key, values in options.items() if values and values[0] != ""}
        shown.append(_call(name, chosen))
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"


def _chosen(value: Any) -> Any:
    """Return the first allowed value of each key of a dict, which BFCL nests in lists, without optional keys."""
    if isinstance(value, list):
        return [_chosen(item) for item in value]
    if not isinstance(value, dict):
        return value
    lists = {key: options if isinstance(options, list) else [options] for key, options in value.items()}
    return {key: _chosen(options[0]) for key, options in lists.items() if options and "" not in options[:1]}


def _call(name: str, arguments: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"


class Said(Row):
    """One turn of a dialogue: an utterance, or a call of an API."""

    role: str
    text: str = ""
    api_name: str | None = None
    param_dict: dict[str, Any] = {}
    result: Any = None


class ApiBankRow(Row):
    """A dialogue with calls in it."""

    id: str
    dialogue: list[Said]


def read_api_bank(folder: Path) -> Iterator[Problem]:
    """Yield a problem for each call of the dialogues in `folder`, `#i` being the i-th; a dialogue without a call lacks gold.

    The source does not describe arguments; a function's signature lists those it has anywhere in the data.
    """
    rows = list(read_rows(folder, ApiBankRow))
    arguments: dict[str, dict[str, Any]] = defaultdict(dict)
    for _, row in rows:
        for turn in row.dialogue:
            if turn.api_name:
                arguments[turn.api_name].update(turn.param_dict)
    functions = {name: _as_function(name, known) for name, known in arguments.items()}
    for split, row in rows:
        used = sorted(
            {turn.api_name for turn in row.dialogue if turn.api_name} | (set(row.id.split("-")) & set(functions))
        )
        for n, (before, call) in enumerate(_calls_of(row.dialogue)):
            yield Problem.of(
                task="api_bank",
                family="calls",
                instruction=API_BANK_INSTRUCTION,
                context="\n".join(_described(functions[name]) for name in used),
                question=before,
                program=_call(call.api_name, call.param_dict) if call and call.api_name else None,
                environment={"functions": [functions[name] for name in used]},
                symbols=tuple(used),
                split=split,
                source=f"api_bank {row.id}#{n}",
                licence="MIT",
            )


def _calls_of(dialogue: list[Said]) -> Iterator[tuple[str, Said | None]]:
    """Yield each call with the dialogue before it, or a whole dialogue that has none."""
    said: list[str] = []
    for turn in dialogue:
        if turn.api_name is None:
            said.append(f"{turn.role}: {turn.text}")
            continue
        yield "\n".join(said), turn
        output = turn.result.get("output") if isinstance(turn.result, dict) else turn.result
        said.append(f"API: {_call(turn.api_name, turn.param_dict)} gives {json.dumps(output, ensure_ascii=False)}")
    if said and not any(turn.api_name for turn in dialogue):
        yield "\n".join(said), None


def _as_function(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
    properties = {key: {"type": kinds.get(type(value), "string")} for key, value in arguments.items()}
    return {"name": name, "parameters": {"type": "object", "properties": properties, "required": []}}


def generate_calls(rng: random.Random, level: int) -> Problem:
    """Level 1 declares one function, 2 three with optional arguments, 3 five and asks for two or three calls."""
    names = rng.sample(list(DATA["functions"]), (1, 3, 5)[level - 1])
    wanted = rng.choices(names[:3], k=rng.choice((2, 3))) if level == 3 else names[:1]
    asks, calls = zip(*(_asked_call(rng, name, more=level > 1) for name in wanted), strict=True)
    functions = [_declared(name) for name in sorted(names)]
    program = calls[0] if len(calls) == 1 else f"[{', '.join(calls)}]"
    joined = f"{', '.join(asks[:-1])}{rng.choice((' and ', ', then ', ', and also '))}" if len(asks) > 1 else ""
    question = f"{rng.choice(('', '', '', 'please: ', 'hi, ', 'quickly: '))}{joined}{asks[-1]}"
    return Problem.of(
        task="function_calls",
        family="calls",
        instruction=CALLS_INSTRUCTION,
        context="\n".join(_described(function) for function in functions),
        question=question,
        program=program,
        environment={"functions": functions},
        symbols=tuple(sorted(names)),
        **OWN,
    )


def _declared(name: str) -> dict[str, Any]:
    data = DATA["functions"][name]
    kinds = {**data["parameters"], **data.get("optional", {})}
    properties = {key: {"type": kind[0]} for key, kind in kinds.items()}
    parameters = {"type": "object", "properties": properties, "required": list(data["parameters"])}
    return {"name": name, "description": data["about"], "parameters": parameters}


def _asked_call(rng: random.Random, name: str, *, more: bool) -> tuple[str, str]:
    """Return the words and the call; texts drawn from the same values differ."""
    data = DATA["functions"][name]
    arguments: dict[str, Any] = {}
    for key, (_, values) in data["parameters"].items():
        arguments[key] = _value(rng, values, arguments)
    words = rng.choice(data["asks"]).format(**arguments)
    for key, (_, values, phrase) in data.get("optional", {}).items():
        if more and rng.random() < 0.5:
            arguments[key] = _value(rng, values, arguments)
            words = f"{words} {phrase.format(**arguments)}"
    return words, _call(name, arguments)


def _value(rng: random.Random, kind: str, taken: Mapping[str, Any]) -> Any:
    texts = [value for value in taken.values() if isinstance(value, str)]
    return rng.choice([value for value in DATA["values"][kind] if value not in texts])


TASKS = (
    Task(
        "function_calls",
        "calls",
        CALLS_INSTRUCTION,
        shots=shots("function_calls"),
        licence="Apache-2.0",
        citation="this project",
        generate=generate_calls,
    ),
    Task(
        "bfcl",
        "calls",
        CALLS_INSTRUCTION,
        shots=shots("function_calls"),
        licence="Apache-2.0",
        citation="Patil et al. 2025, The Berkeley Function Calling Leaderboard",
        folder="api/bfcl",
        read=read_bfcl,
    ),
    Task(
        "api_bank",
        "calls",
        API_BANK_INSTRUCTION,
        shots=shots("api_bank"),
        licence="MIT",
        citation="Li et al. 2023, API-Bank",
        folder="api/api_bank",
        read=read_api_bank,
    ),
)
