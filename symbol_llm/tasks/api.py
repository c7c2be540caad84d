"""Requests to the input of a service: intents and slots, map queries, function calls, dialogue programs, search words.

These are MTOP and TOPv2, NLmaps, BFCL and API-Bank, SMCalFlow, and WebShop.

The generators draw from `api.yaml`: a tree, query or list of calls is built, then written twice, as words and as
symbols. Readers declare the labels of a row's domain, or the functions of a row, in its context.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import Field

from symbol_llm.ground.records import Problem, Split
from symbol_llm.tasks import Published, Row, Task, read_rows

_DATA = yaml.safe_load(resources.files("symbol_llm.tasks").joinpath("api.yaml").read_text(encoding="utf-8"))
OWN = {"split": "train", "source": "generated", "licence": "Apache-2.0"}

# --- intents and slots ------------------------------------------------------------------------------------------------

MTOP_INSTRUCTION = (
    "Parse the request into [IN:intent [SL:slot words ] ] from the labels given. Words outside of slots are left out; a slot"
    " may hold an intent."
)
TOPV2_INSTRUCTION = (
    "Bracket the request as [IN:intent words [SL:slot words ] ] with the labels given. Keep every word in its place; a slot"
    " may hold an intent."
)
_LABEL = re.compile(r"\[((?:IN|SL):\w+)")


class MtopRow(Row):
    """A line of MTOP: the decoupled form, or the nested one with every word."""

    id: str
    utterance: str
    domain: str
    decoupled_form: str | None = None
    logical_form: str | None = Field(default=None, alias="logical form")


class TopV2Row(Row):
    """A line of TOPv2, which has no ids."""

    domain: str
    utterance: str
    semantic_parse: str


class _Parse(NamedTuple):
    split: Split
    id: str
    domain: str
    utterance: str
    form: str | None
    free: bool


def read_mtop(folder: Path) -> Iterator[Problem]:
    """Yield the rows of MTOP in `folder`; slots may be in any order if the form is decoupled."""
    rows = [
        _Parse(
            split, row.id, row.domain, row.utterance, row.decoupled_form or row.logical_form, bool(row.decoupled_form)
        )
        for split, row in read_rows(folder, MtopRow)
    ]
    yield from _parses("mtop", rows, "CC BY-SA 4.0")


def read_topv2(folder: Path) -> Iterator[Problem]:
    """Yield the rows of TOPv2 in `folder`, numbered consecutively."""
    rows = [
        _Parse(split, str(n), row.domain, row.utterance, row.semantic_parse, free=False)
        for n, (split, row) in enumerate(read_rows(folder, TopV2Row))
    ]
    yield from _parses("topv2", rows, "CC BY-SA 4.0")


def _parses(name: str, rows: list[_Parse], licence: str) -> Iterator[Problem]:
    """Declare in each row all labels of its domain in the data, so that the row's own are not given away."""
    labels: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels[row.domain].update(_LABEL.findall(row.form or ""))
    for row in rows:
        wording = MTOP_INSTRUCTION if row.free else TOPV2_INSTRUCTION
        fields = {"split": row.split, "source": f"{name} {row.id}", "licence": licence}
        yield _parse_problem(name, wording, labels[row.domain], row.utterance, row.form, free=row.free, **fields)


def _parse_problem(
    name: str, instruction: str, labels: Iterable[str], utterance: str, form: str | None, *, free: bool, **fields: Any
) -> Problem:
    ordered = sorted(labels)
    lines = [" ".join(label for label in ordered if label.startswith(kind)) for kind in ("IN:", "SL:")]
    return Problem.of(
        task=name,
        family="top",
        instruction=instruction,
        context="\n".join(lines),
        question=utterance,
        program=form,
        environment={"order": "free" if free else "ordered"},
        symbols=tuple(ordered),
        **fields,
    )


class Tree(NamedTuple):
    """An intent or a slot over words and trees."""

    label: str
    parts: list[Tree | str]

    def words(self) -> str:
        """Return the request."""
        return " ".join(part if isinstance(part, str) else part.words() for part in self.parts)

    def form(self, *, every_word: bool) -> str:
        """Return the bracket form; without `every_word`, an intent keeps only its slots."""
        kept = [p for p in self.parts if every_word or self.label.startswith("SL:") or not isinstance(p, str)]
        texts = [part if isinstance(part, str) else part.form(every_word=every_word) for part in kept]
        return " ".join([f"[{self.label}", *texts, "]"])


def generate_mtop(rng: random.Random, level: int) -> Problem:
    """Return one request with its decoupled form."""
    domain, tree = _request(rng, level)
    form = tree.form(every_word=False)
    labels = _labels(domain) | set(_LABEL.findall(form))
    return _parse_problem("mtop", MTOP_INSTRUCTION, labels, tree.words(), form, free=True, **OWN)


def generate_topv2(rng: random.Random, level: int) -> Problem:
    """Return one request with the form that keeps every word."""
    domain, tree = _request(rng, level)
    form = tree.form(every_word=True)
    labels = _labels(domain) | set(_LABEL.findall(form))
    return _parse_problem("topv2", TOPV2_INSTRUCTION, labels, tree.words(), form, free=False, **OWN)


def _labels(domain: str) -> set[str]:
    intents = _DATA["domains"][domain]
    slots = {slot for asks in intents.values() for ask in asks for slot in re.findall(r"{(\w+)}", ask)}
    return {f"IN:{intent}" for intent in intents} | {f"SL:{slot}" for slot in slots}


def _request(rng: random.Random, level: int) -> tuple[str, Tree]:
    """Level 1 has one slot, 2 two or more, 3 an intent in a slot."""
    domain = rng.choice(list(_DATA["domains"]))
    found = []
    for intent, asks in _DATA["domains"][domain].items():
        for ask in asks:
            slots = re.findall(r"{(\w+)}", ask)
            n = 3 if level == 3 and set(slots) & set(_DATA["nested"]) else min(2, len(slots))
            found += [(intent, ask)] if n == level else []
    if not found:
        return _request(rng, level)
    intent, ask = rng.choice(found)
    tree = _filled(rng, intent, ask, depth=2 if level == 3 else 0)
    if level > 1 and rng.random() < 0.4:
        tree.parts.insert(0, rng.choice(_DATA["openings"]))
    elif level > 1 and rng.random() < 0.2:
        tree.parts.append(rng.choice(_DATA["closings"]))
    return domain, tree


def _filled(rng: random.Random, intent: str, ask: str, depth: int) -> Tree:
    """Fill the slots of `ask`; `depth` 2: nest wherever possible, 1: sometimes, 0: never."""
    parts: list[Tree | str] = []
    for piece in re.split(r"({\w+})", ask):
        slot = piece.strip("{}")
        if not piece.startswith("{"):
            parts += [piece.strip()] if piece.strip() else []
        elif slot in _DATA["nested"] and rng.random() < (0, 0.4, 1)[depth]:
            inner = rng.choice(_DATA["nested"][slot])
            asks = _DATA["inner"][inner]
            parts.append(Tree(f"SL:{slot}", [_filled(rng, inner, rng.choice(asks), depth=max(0, depth - 1))]))
        else:
            parts.append(Tree(f"SL:{slot}", [_expanded(rng, rng.choice(_DATA["fillers"][slot]))]))
    return Tree(f"IN:{intent}", parts)


def _expanded(rng: random.Random, text: str) -> str:
    return re.sub(r"<(\w+)>", lambda part: str(rng.choice(_DATA["parts"][part[1]])), text)


# --- maps -------------------------------------------------------------------------------------------------------------

NLMAPS_INSTRUCTION = (
    "Write the map query: query(PLACES,qtype(ASKED)). PLACES is area(keyval('name','Town')),nwr(keyval(...)), in"
    " north/south/east/west(...) for a part of town, or around(center(area(...),nwr(...)),search(nwr(...)),maxdist(METRES or"
    " DIST_INTOWN),topx(1) for the closest). ASKED is latlong, count, findkey('key') or least(topx(N)) for N or more. "
    "dist(query,query) asks how far."
)
DIRECTIONS = ("north", "south", "east", "west")
DISTANCES = (100, 150, 200, 250, 300, 400, 500, 600, 750, 800, 1000, 1200, 1500, 2000, 2500, 3000, 4000, 5000)
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 10: "ten", 12: "twelve"}


class NlmapsRow(Row):
    """A question to OpenStreetMap."""

    id: str
    en: str
    mrl: str


def read_nlmaps(folder: Path) -> Iterator[Problem]:
    """Yield the rows of NLmaps in `folder`."""
    for split, row in read_rows(folder, NlmapsRow):
        fields = {"split": split, "source": f"nlmaps {row.id}", "licence": "CC BY-NC-SA 4.0"}
        yield _map_problem(row.en, row.mrl, "", **fields)


def _map_problem(question: str, query: str, tags: str, **fields: Any) -> Problem:
    text = {"instruction": NLMAPS_INSTRUCTION, "context": tags, "question": question, "program": query}
    return Problem.of(task="nlmaps", family="mrl", **text, **fields)


_KEYVAL = "keyval('{}')"


class Kind(NamedTuple):
    """A kind of place on a map."""

    one: str
    many: str
    tags: str

    def nwr(self) -> str:
        """Return the operator that finds places of this kind."""
        pairs = [tag.replace("=", "','") for tag in self.tags.split()]
        return f"nwr({','.join(map(_KEYVAL.format, pairs))})"


KINDS = tuple(Kind(*row) for row in _DATA["kinds"])


class Asked(NamedTuple):
    """A question about some places: the qtype, and the wordings around {where}."""

    qtype: str
    wordings: tuple[str, ...]


def generate_nlmaps(rng: random.Random, level: int) -> Problem:
    """Level 1 asks about a town, 2 about a part of it or nearby places, 3 about the closest or two places."""
    kinds = rng.sample(KINDS, 4)
    town = rng.choice(_DATA["towns"])
    area = f"area(keyval('name','{town}'))"
    if level == 3 and rng.random() < 0.25:
        question, query = _distance(rng, town, area)
    else:
        where, places = _places(rng, level, kinds, town, area)
        asked = _asked_of_one(rng, kinds[0]) if "topx" in places else _asked(rng, level, kinds[0])
        query = f"query({places},qtype({asked.qtype}))"
        question = rng.choice(asked.wordings).format(where=where)
    shown = sorted(kinds[: 2 if level == 1 else 4])
    tags = "; ".join(f"{kind.one}: {kind.tags}" for kind in shown)
    keys = re.findall(r"findkey\(and\('(.+?)','(.+?)'\)|findkey\('(.+?)'\)", query)
    names = {key: name for name, key in _DATA["properties"]}
    tags += "".join(f"; {names[key]}: key {key}" for found in keys for key in found if key in names)
    return _map_problem(question, query, f"Tags: {tags}", **OWN)


def _places(rng: random.Random, level: int, kinds: list[Kind], town: str, area: str) -> tuple[str, str]:
    kind = kinds[0].nwr()
    if level == 1:
        return rng.choice((f"in {town}", f"in the town of {town}")), f"{area},{kind}"
    if level == 2 and rng.random() < 0.5:
        way = rng.choice(DIRECTIONS)
        return rng.choice((f"in the {way} of {town}", f"in {way}ern {town}")), f"{way}({area},{kind})"
    spot, metres = rng.choice(_DATA["spots"]), rng.choice(DISTANCES)
    centre, near = f"nwr(keyval('name','{spot}'))", f"the {spot}"
    if level == 3 and rng.random() < 0.4:
        centre, near = kinds[1].nwr(), f"a {kinds[1].one}"
    limit, within = rng.choice(((str(metres), f"within {metres} metres of"), ("DIST_INTOWN", "around")))
    closest, way = "", ""
    if level == 3 and rng.random() < 0.5 and not near.startswith("a "):
        closest, limit, within = ",topx(1)", "DIST_INTOWN", "closest to"
    around = f"around(center({area},{centre}),search({kind}),maxdist({limit}){closest})"
    if level == 3 and not closest and rng.random() < 0.4:
        way = rng.choice(DIRECTIONS)
        return f"{within} {near} in the {way} of {town}", f"{way}({around})"
    return f"{within} {near} in {town}", around


def _asked(rng: random.Random, level: int, kind: Kind) -> Asked:
    (name, key), (other, second) = rng.sample(_DATA["properties"], 2)
    number, word = rng.choice(list(NUMBERS.items()))
    plain = [
        Asked("count", (f"How many {kind.many} are there {{where}}?", f"Count the {kind.many} {{where}}.",
                        f"What is the number of {kind.many} {{where}}?")),
        Asked("latlong", (f"Where are the {kind.many} {{where}}?", f"Show me the {kind.many} {{where}}.",
                          f"Give me the locations of {kind.many} {{where}}.")),
        Asked("findkey('name')", (f"What are the {kind.many} {{where}} called?", f"Name the {kind.many} {{where}}.",
                                  f"What are the names of the {kind.many} {{where}}?")),
        Asked("least(topx(1))", (f"Is there a {kind.one} {{where}}?", f"Are there any {kind.many} {{where}}?")),
    ]  # fmt: skip
    further = [
        Asked(f"findkey('{key}')", (f"What is the {name} of the {kind.many} {{where}}?",
                                    f"Tell me the {name} of each {kind.one} {{where}}.")),
        Asked(f"least(topx({number}))", (f"Are there {word} or more {kind.many} {{where}}?",
                                         f"Are there at least {number} {kind.many} {{where}}?")),
        Asked(f"findkey(and('name','{key}'))", (f"Give me name and {name} of the {kind.many} {{where}}.",)),
        Asked(f"findkey(and('{key}','{second}'))", (f"What are {name} and {other} of the {kind.many} {{where}}?",)),
    ]  # fmt: skip
    return rng.choice(plain if level == 1 else further + plain)


def _asked_of_one(rng: random.Random, kind: Kind) -> Asked:
    name, key = rng.choice([("name", "name"), *_DATA["properties"]])
    place = Asked("latlong", (f"Where is the {kind.one} {{where}}?", f"Show me the {kind.one} {{where}}."))
    wordings = f"What is the {name} of the {kind.one} {{where}}?", f"Give me the {name} of the {kind.one} {{where}}."
    return rng.choice((place, Asked(f"findkey('{key}')", wordings)))


def _distance(rng: random.Random, town: str, area: str) -> tuple[str, str]:
    one, two = rng.sample(_DATA["spots"], 2)
    parts = ",".join(f"query({area},nwr(keyval('name','{spot}')),qtype(latlong))" for spot in (one, two))
    unit, words = rng.choice((("", ""), (",unit(km)", " in kilometres"), (",unit(mi)", " in miles")))
    wordings = (
        f"How far is the {one} from the {two} in {town}{words}?",
        f"What is the distance{words} between the {one} and the {two} in {town}?",
    )
    return rng.choice(wordings), f"dist({parts}{unit})"


# --- calls ------------------------------------------------------------------------------------------------------------

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
    names = rng.sample(list(_DATA["functions"]), (1, 3, 5)[level - 1])
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
    data = _DATA["functions"][name]
    kinds = {**data["parameters"], **data.get("optional", {})}
    properties = {key: {"type": kind[0]} for key, kind in kinds.items()}
    parameters = {"type": "object", "properties": properties, "required": list(data["parameters"])}
    return {"name": name, "description": data["about"], "parameters": parameters}


def _asked_call(rng: random.Random, name: str, *, more: bool) -> tuple[str, str]:
    """Return the words and the call; texts drawn from the same values differ."""
    data = _DATA["functions"][name]
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
    return rng.choice([value for value in _DATA["values"][kind] if value not in texts])


# --- dialogues --------------------------------------------------------------------------------------------------------

SMCALFLOW_INSTRUCTION = (
    "Write what the calendar assistant does next in Lispress: (Function argument :name argument), one in the other, (Yield"
    ' ...) around what is told to the user. "Texts" and whole numbers such as 3L are arguments; (let (x0 ...) ...) names what'
    " is used twice."
)


class DialogueRow(Row):
    """A turn of SMCalFlow 2.0."""

    id: str
    dialogue_id: str
    turn_index: int
    user_utterance: str
    agent_utterance: str
    lispress: str
    skip: bool = False
    """Whether the turn is only context for later ones; the source excludes it from training and testing."""


def read_smcalflow(folder: Path) -> Iterator[Problem]:
    """Yield the turns of SMCalFlow in `folder`, each after the previous one if present; those to skip have no gold."""
    before: DialogueRow | None = None
    for split, row in read_rows(folder, DialogueRow):
        follows = before and (before.dialogue_id, before.turn_index) == (row.dialogue_id, row.turn_index - 1)
        yield Problem.of(
            task="smcalflow",
            family="lispress",
            instruction=SMCALFLOW_INSTRUCTION,
            context=f"User: {before.user_utterance}\nAgent: {before.agent_utterance}" if before and follows else "",
            question=row.user_utterance.strip(),
            program=None if row.skip else row.lispress,
            split=split,
            source=f"smcalflow {row.id}",
            licence="CC BY-SA 4.0",
        )
        before = row


# --- search -----------------------------------------------------------------------------------------------------------

WEBSHOP_INSTRUCTION = (
    "Write the words that a shopper types into the search box of a web shop to find this, nothing else."
)


class GoalRow(Row):
    """A shopping goal of WebShop, and the queries that people typed."""

    id: str
    goal: str
    query: list[str]


def read_webshop(folder: Path) -> Iterator[Problem]:
    """Yield the shopping goals of WebShop in `folder`, all of them test rows; any of the typed queries is right."""
    for _, row in read_rows(folder, GoalRow):
        queries = [query.strip() for query in row.query if query.strip()]
        yield Problem.of(
            task="webshop_goals",
            family="choice",
            instruction=WEBSHOP_INSTRUCTION,
            question=row.goal.strip(),
            program=queries[0] if queries else None,
            answer=queries or None,
            split="test",
            source=f"webshop_goals {row.id}",
            licence="MIT",
        )


def _shots(name: str) -> tuple[tuple[str, str, str], ...]:
    return tuple((context, question, program) for context, question, program in _DATA["shots"][name])


TASKS = (
    Task(
        "mtop",
        "top",
        MTOP_INSTRUCTION,
        environment={"order": "free"},
        shots=_shots("mtop"),
        licence="CC BY-SA 4.0",
        citation="Li et al. 2021, MTOP",
        folder="api/mtop",
        read=read_mtop,
        generate=generate_mtop,
        published=Published(16, "EM", 18784, 500),
    ),
    Task(
        "topv2",
        "top",
        TOPV2_INSTRUCTION,
        environment={"order": "ordered"},
        shots=_shots("topv2"),
        licence="CC BY-SA 4.0",
        citation="Chen et al. 2020, Low-Resource Domain Adaptation for Compositional Task-Oriented Semantic Parsing",
        folder="api/topv2",
        read=read_topv2,
        generate=generate_topv2,
        published=Published(17, "EM", 149696, 500),
    ),
    Task(
        "nlmaps",
        "mrl",
        NLMAPS_INSTRUCTION,
        shots=_shots("nlmaps"),
        licence="CC BY-NC-SA 4.0",
        citation="Haas and Riezler 2016, A Corpus and Semantic Parser for Multilingual NL Querying of OpenStreetMap",
        folder="api/nlmaps",
        read=read_nlmaps,
        generate=generate_nlmaps,
        published=Published(18, "EM", 1500, 10594),
    ),
    Task(
        "function_calls",
        "calls",
        CALLS_INSTRUCTION,
        shots=_shots("function_calls"),
        licence="Apache-2.0",
        citation="this project",
        generate=generate_calls,
    ),
    Task(
        "bfcl",
        "calls",
        CALLS_INSTRUCTION,
        shots=_shots("function_calls"),
        licence="Apache-2.0",
        citation="Patil et al. 2025, The Berkeley Function Calling Leaderboard",
        folder="api/bfcl",
        read=read_bfcl,
    ),
    Task(
        "api_bank",
        "calls",
        API_BANK_INSTRUCTION,
        shots=_shots("api_bank"),
        licence="MIT",
        citation="Li et al. 2023, API-Bank",
        folder="api/api_bank",
        read=read_api_bank,
    ),
    Task(
        "smcalflow",
        "lispress",
        SMCALFLOW_INSTRUCTION,
        shots=_shots("smcalflow"),
        licence="CC BY-SA 4.0",
        citation="Andreas et al. 2020, Task-Oriented Dialogue as Dataflow Synthesis",
        folder="api/smcalflow",
        read=read_smcalflow,
    ),
    Task(
        "webshop_goals",
        "choice",
        WEBSHOP_INSTRUCTION,
        shots=_shots("webshop_goals"),
        licence="MIT",
        citation="Yao et al. 2022, WebShop",
        folder="web/webshop_goals",
        read=read_webshop,
        evaluation_only=True,  # a query that nobody typed may be right too, so rejections must not be learned from
    ),
)
