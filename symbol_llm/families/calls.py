r"""Function calls, as JSON or in Python's call syntax. Equal means: the same calls, in any order, with allowed values.

    [{"name": "weather.get", "arguments": {"city": "Kiel", "days": 3}}]
    [weather.get(city="Kiel", days=3), weather.get(city="Bonn", days=3)]
    <tool_call>{"name": "weather.get", "arguments": {"city": "Kiel", "days": 3}}</tool_call>
    {"tool_calls": [{"type": "function", "function": {"name": "weather.get", "arguments": "{\"city\": \"Kiel\"}"}}]}
    {"weather.get": {"city": "Kiel", "days": 3}}

Arguments hold literals of Python or JSON. A single call needs no list, and several may stand one after another.
`environment["functions"]` holds the descriptions of functions in BFCL's shape ({"name", "parameters": {"properties",
"required"}}). If given, an unknown function or argument is unparsable and a call without a required argument is wrong.
Arguments may then be without a name, `weather.get("Kiel", 3)` or `"arguments": ["Kiel", 3]`, in the order of the
properties; unless an optional one precedes a required one, since then the order is not that of a signature.

Gold is `problem.answer` in the shape of BFCL's possible answers, [{function: {argument: [allowed value, ...]}}, ...],
where "" among the values means that the argument may be left out, and likewise for each key of an allowed dict; or else
the calls in `problem.program`. Each gold call must be matched by one call of the program, and none may be left over:

- int and float are equal by value, a bool only to a bool, None to None, lists and tuples in order, dicts by key.
- Texts are equal if their words, numbers and signs are, ignoring case and taking ' for ". Mere separators do not count:
  spaces, underscores, commas, a dot after a word, a hyphen between words, the separators of a date. Every other sign
  does: `x**3` is not `x/3`, 1.5 kg not 15 kg, -5C not 5C, 1-10 not 110.

The measure is BFCL's own rule, which drops the signs space , . / - _ * ^ from texts everywhere; it accepts no program.

Missed: values that are not literals (BFCL's variables). Nothing is run. BFCL: Patil et al., Berkeley Function Calling
Leaderboard.
"""

from __future__ import annotations

import ast
import json
import math
import random
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies

VERSION = 5
METRIC = "all calls as allowed"

MAX_DEPTH = 50

# Oddities of a program ("\d" in a plain string) are not worth a warning, which -W error would make a syntax error.
warnings.filterwarnings("ignore", module=r"<calls>")


class Call(NamedTuple):
    """One call; values are JSON values."""

    name: str
    arguments: dict[str, Any]


class Allowed(NamedTuple):
    """The values that gold allows for one argument, or for one key of a dict."""

    values: list[Any]
    """If one is a dict, its values are `Allowed`."""
    optional: bool


NameOf = Callable[[str, int], str | None]
"""Returns the name of a function's argument by its place, from 0; None if the place says nothing."""
Options = Mapping[str, Allowed]
SameText = Callable[[str, str], bool]


class Function(NamedTuple):
    """What a description says about arguments."""

    arguments: frozenset[str]
    required: frozenset[str]
    order: tuple[str, ...]
    """All arguments as a signature would list them; empty if the description does not tell."""


class Environment(Needs):
    """What judging needs besides program and gold."""

    functions: list[Any] | None = None
    """The functions that may be called, as JSON Schema describes them; None: any."""


def canonical(program: str) -> str:
    """Return the calls as JSON, sorted, keys sorted, whole numbers as integers; `#1` names the first nameless argument."""
    return _print(_parse(program, lambda _, place: f"#{place + 1}"))


_find = replies.that_parses(canonical)


def program_of(reply: str) -> str:
    """Return the text inside `<tool_call>` tags, else the program in `reply`."""
    tagged = _TAGGED.findall(replies.THOUGHT.sub("", reply))
    return "\n".join(text.strip() for text in tagged) if tagged else _find(reply)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form; Unparsable at the first function or argument that is not described."""
    functions = _functions(problem)
    calls = _parse(program, _order(functions))
    _check_known([(call.name, call.arguments) for call in calls], functions)
    return Ran(_print(calls))


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if the calls can be paired with gold's so that each is allowed, else 0.0."""
    functions = _functions(problem)
    gold = _gold(problem)
    try:
        _check_known(gold, functions)
    except Unparsable as e:  # gold is ours
        raise InvalidInput(f"problem {problem.id}: gold: {e}") from e
    calls = _parse(program, _order(functions))
    _check_known([(call.name, call.arguments) for call in calls], functions)
    if len(calls) != len(gold):
        return Result(0.0, _print(calls), measure=0.0)
    score, measure = (
        float(_can_be_paired([[_is_allowed(call, *one, functions, same) for one in gold] for call in calls]))
        for same in (_same_text, _same_by_bfcl)
    )
    return Result(score, _print(calls), measure=measure)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a call removed, duplicated or renamed, a value changed, or two values exchanged."""
    calls = _parse(program)
    changed = list(_changes(calls, rng))
    rng.shuffle(changed)
    for mutant in changed:
        if mutant and _print(mutant) != _print(calls):
            yield _print(mutant)


def _changes(calls: list[Call], rng: random.Random) -> Iterator[list[Call]]:
    for n, (name, arguments) in enumerate(calls):
        before, after = calls[:n], calls[n + 1 :]
        yield before + after
        yield [*before, calls[n], *calls[n:]]
        others = sorted({call.name for call in calls} - {name}) or [f"{name}_all"]
        yield [*before, Call(rng.choice(others), arguments), *after]
        for key, value in arguments.items():
            for other in _near(value):
                yield [*before, Call(name, {**arguments, key: other}), *after]
            partner = rng.choice(sorted(arguments))
            yield [*before, Call(name, {**arguments, key: arguments[partner], partner: value}), *after]


def _near(value: Any) -> Iterator[Any]:
    """Yield values that differ from `value`, some only in a sign."""
    match value:
        case bool():
            yield not value
        case int() | float():
            yield value + 1
        case str():
            number = re.search(r"[0-9]{1,9}", value)
            yield f"{value[: number.start()]}{int(number[0]) + 1}{value[number.end() :]}" if number else f"{value}x"
            if number and len(number[0]) > 1:
                yield f"{value[: number.start() + 1]}.{value[number.start() + 1 :]}"
            if number:
                yield f"{value[: number.start()]}-{value[number.start() :]}"
        case list():
            yield value[:-1]
            if not any(isinstance(item, str) for item in value):  # lists of names are often allowed in any order
                yield value[::-1]
            for n, item in enumerate(value):
                yield from ([*value[:n], other, *value[n + 1 :]] for other in _near(item))
        case dict():
            for key, item in value.items():
                yield from ({**value, key: other} for other in _near(item))


# --- gold -------------------------------------------------------------------------------------------------------------


def _functions(problem: Problem) -> dict[str, Function] | None:
    described = needs(problem, Environment).functions
    if described is None:
        return None
    functions = {}
    for function in described:
        parameters = function.get("parameters") if isinstance(function, dict) else None
        if not isinstance(parameters, dict) or not isinstance(function.get("name"), str):
            raise InvalidInput(f"problem {problem.id}: function {function!r:.100}; expected name and parameters")
        names, required = tuple(parameters.get("properties") or ()), tuple(parameters.get("required") or ())
        order = names if names[: len(required)] == required else ()
        functions[function["name"]] = Function(frozenset(names), frozenset(required), order)
    return functions


def _order(functions: dict[str, Function] | None) -> NameOf:
    orders = {name: function.order for name, function in (functions or {}).items()}
    return lambda name, place: next(iter(orders.get(name, ())[place : place + 1]), None)


def _no_order(_name: str, _place: int) -> None:
    """Return None: no place says which argument stands there."""


def _gold(problem: Problem) -> Sequence[tuple[str, Options]]:
    if problem.answer is None and problem.program is None:
        raise InvalidInput(f"problem {problem.id} has neither an answer nor a program; expected gold calls")
    if problem.answer is None:
        try:
            calls = _parse(problem.program or "")
        except Unparsable as e:  # gold is ours
            raise InvalidInput(f"problem {problem.id}: gold calls: {e}") from e
        return [(name, _exactly(arguments)) for name, arguments in calls]
    gold = []
    for call in problem.answer if isinstance(problem.answer, list) else [problem.answer]:
        entries = list(call.items()) if isinstance(call, dict) else []
        options = entries[0][1] if len(entries) == 1 else None
        if not isinstance(options, dict) or not all(isinstance(allowed, list) for allowed in options.values()):
            expected = "{function: {argument: [allowed value, ...]}}"
            raise InvalidInput(f"problem {problem.id}: gold {call!r:.100}; expected {expected}")
        gold.append((entries[0][0], _any_of(options)))
    if not gold:
        raise InvalidInput(f"problem {problem.id}: gold has no call")
    return gold


def _any_of(value: Any) -> Any:
    """Replace each list of allowed values in a dict of BFCL's answers by an `Allowed`."""
    if not isinstance(value, dict):
        return [_any_of(item) for item in value] if isinstance(value, list) else value
    lists = {key: allowed if isinstance(allowed, list) else [allowed] for key, allowed in value.items()}
    return {key: Allowed([_any_of(item) for item in allowed], "" in allowed) for key, allowed in lists.items()}


def _exactly(value: Any) -> Any:
    """Replace each value in a dict by an `Allowed` that allows nothing else."""
    if isinstance(value, dict):
        return {key: Allowed([_exactly(item)], optional=False) for key, item in value.items()}
    return [_exactly(item) for item in value] if isinstance(value, list) else value


def _check_known(calls: Sequence[tuple[str, Mapping[str, Any]]], functions: dict[str, Function] | None) -> None:
    if functions is None:
        return
    for n, (name, arguments) in enumerate(calls, 1):
        if name not in functions:
            raise Unparsable(f"call {n}: unknown function {name[:60]!r}; have {', '.join(functions)}"[:300])
        strange = sorted(arguments.keys() - functions[name].arguments)
        if strange:
            known = ", ".join(sorted(functions[name].arguments)) or "none"
            raise Unparsable(f"call {n}: unknown argument {strange[0][:60]!r} of {name}; have {known}"[:300])


def _is_allowed(
    call: Call, name: str, options: Options, functions: dict[str, Function] | None, same_text: SameText
) -> bool:
    if call.name != name or (functions is not None and not functions[name].required <= call.arguments.keys()):
        return False
    return _fits(call.arguments, options, same_text)


def _fits(found: Mapping[str, Any], options: Options, same_text: SameText) -> bool:
    """Return whether each value of `found` is allowed and nothing required is missing."""
    return found.keys() <= options.keys() and all(
        any(_same(found[key], value, same_text) for value in allowed.values) if key in found else allowed.optional
        for key, allowed in options.items()
    )


def _same(found: Any, gold: Any, same_text: SameText) -> bool:
    match found, gold:
        case (bool(), _) | (_, bool()):
            return found is gold
        case (int() | float(), int() | float()):
            return bool(found == gold)
        case (str(), str()):
            return same_text(found, gold)
        case (list(), list()):
            pairs = zip(found, gold, strict=False)
            return len(found) == len(gold) and all(_same(one, two, same_text) for one, two in pairs)
        case (dict(), dict()):
            return _fits(found, gold, same_text)
    return found is None and gold is None


_IGNORED = re.compile(r"[ ,./\-_*^]")
_DATE = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})")
_TOKEN = re.compile(r"(?<![\w.)\]])[+-]?\d+(?:,\d{3}(?!\d))*(?:\.\d+)?|\d+(?:,\d{3}(?!\d))*(?:\.\d+)?|[^\W\d_]+|\S")
_DASHES = str.maketrans("−–—‐‑'‘’“”", '-----"""""')


def _same_text(found: str, gold: str) -> bool:
    return found.strip() == gold.strip() or _words(found) == _words(gold)


def _same_by_bfcl(found: str, gold: str) -> bool:
    one, two = (_IGNORED.sub("", text).lower().replace("'", '"') for text in (found, gold))
    return one == two


def _words(text: str) -> list[str]:
    """Return the words, the numbers, and the signs that are not mere separators."""
    text = text.strip().translate(_DASHES).casefold()
    if date := _DATE.fullmatch(text):
        return ["date", *date.groups()]
    words = []
    for match in _TOKEN.finditer(text):
        sign, before, after = match[0], text[: match.start()][-1:], text[match.end() :][:1]
        if sign[-1].isdigit():
            words.append(sign.replace(",", "").removeprefix("+"))
        elif sign in "_," or (sign == "." and before.isalnum() and after in ("", " ")):
            continue
        elif not (sign == "-" and before.isalpha() and after.isalpha()):
            words.append(sign)
    return words


def _can_be_paired(met: list[list[bool]]) -> bool:
    """Return whether each row can be matched with a column of its own (Kuhn's algorithm)."""
    row_of: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column, meets in enumerate(met[row]):
            if meets and column not in tried:
                tried.add(column)
                if column not in row_of or place(row_of[column], tried):
                    row_of[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(met)))


# --- parsing ----------------------------------------------------------------------------------------------------------

_TAGGED = re.compile(r"<(?:tool_call|function_?call)>(.*?)(?:</(?:tool_call|function_?call)>|\Z)", re.DOTALL)
_LEAD = re.compile(r"\A\s*(?:\[TOOL_CALLS\]|<\|python_tag\|>)\s*")
"""Matches what chat templates have a model write before calls."""
_NAMES = ("name", "function", "function_name", "tool", "tool_name")
_ARGUMENTS = ("arguments", "parameters", "args", "kwargs", "input", "tool_input")
"""Keys under which models write the parts of a call."""
_JSON = re.compile(r"[\s\[]*[{\]]|\s*\[\s*\Z")
_BETWEEN = re.compile(r"[\s,;]*")
_MARKS = {"id", "type", "index", "call_id"}
"""Keys next to a call that carry no part of it."""


def _parse(program: str, name_of: NameOf = _no_order) -> list[Call]:
    text = program.strip()
    text = _LEAD.sub("", text)
    if _TAGGED.search(text) and not _TAGGED.sub("", text).strip():
        text = "\n".join(_TAGGED.findall(text)).strip()
    if not text:
        raise Unparsable("no call")
    calls = _parse_json(text, name_of) if _JSON.match(text) else _parse_python(text, name_of)
    if not calls:
        raise Unparsable("no call")
    try:
        _print(calls).encode()
    except (UnicodeEncodeError, ValueError) as e:
        raise Unparsable(f"a value that cannot be written: {str(e)[:100]}") from e
    return calls


def _parse_json(text: str, name_of: NameOf) -> list[Call]:
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_refuse_constant)
    values, at = [], 0
    try:
        while at < len(text):
            value, at = decoder.raw_decode(text, at)
            values += value if isinstance(value, list) else [value]
            at = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
    except json.JSONDecodeError as e:
        values = _python_values(text)
        if not values:
            raise Unparsable(f"line {e.lineno}, column {e.colno}: {e.msg}") from e
    except (ValueError, RecursionError) as e:  # an integer of thousands of digits
        raise Unparsable(f"not JSON that can be read: {str(e)[:100] or type(e).__name__}") from e
    bare = [call for value in values for call in _unwrapped(value)]
    return [_json_call(call, n, name_of) for n, call in enumerate(bare, 1)]


def _python_values(text: str) -> list[Any]:
    """Return what would be JSON but for Python's quotes and words, `{'name': 'f', 'arguments': {'a': True}}`; else nothing."""
    try:
        value = _literal(ast.parse(text, "<calls>", "eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError, Unparsable):
        return []
    return value if isinstance(value, list) else [value]


def _unwrapped(value: Any) -> Iterator[Any]:
    """Yield the calls inside the wrappers of OpenAI's API."""
    if isinstance(value, dict) and isinstance(value.get("tool_calls"), list):
        yield from (call for inner in value["tool_calls"] for call in _unwrapped_once(inner))
    else:
        yield from _unwrapped_once(value)


def _unwrapped_once(value: Any) -> Iterator[Any]:
    is_wrapper = isinstance(value, dict) and isinstance(value.get("function"), dict)
    yield value["function"] if is_wrapper and value.keys() <= _MARKS | {"function"} else value


def _json_call(call: Any, n: int, name_of: NameOf) -> Call:
    named = {key: value for key, value in call.items() if key not in _MARKS} if isinstance(call, dict) else {}
    if len(named) == 1 and not named.keys() & {*_NAMES, *_ARGUMENTS}:
        named = {"name": next(iter(named)), "arguments": next(iter(named.values()))}
    name, *names = [named[key] for key in _NAMES if key in named] or [None]
    arguments, *others = [named[key] for key in _ARGUMENTS if key in named] or [{}]
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, object_pairs_hook=_object, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as e:
            raise Unparsable(f"call {n}: arguments in a text that is no JSON: {str(e)[:100]}") from e
    if isinstance(arguments, list) and isinstance(name, str):
        places = [name_of(name, place) for place in range(len(arguments))]
        arguments = arguments if None in places else dict(zip(places, arguments, strict=True))
    is_known = not names and not others and named.keys() <= {*_NAMES, *_ARGUMENTS}
    if not (is_known and isinstance(name, str) and isinstance(arguments, dict)):
        raise Unparsable(f'call {n}: expected {{"name": ..., "arguments": {{...}}}}, got {json.dumps(call)[:60]}')
    _check_values(arguments, n)
    return Call(name, arguments)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Unparsable(f"a key stands twice among {', '.join(key for key, _ in pairs)}"[:200])
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise Unparsable(f"{name} is no JSON number")


def _check_values(value: Any, call: int, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise Unparsable(f"call {call}: nested more than {MAX_DEPTH} levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise Unparsable(f"call {call}: a number is out of range")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_values(item, call, depth + 1)


def _parse_python(text: str, name_of: NameOf) -> list[Call]:
    try:
        lines = ast.parse(text, "<calls>").body
    except SyntaxError as e:
        raise Unparsable(f"line {e.lineno}, column {e.offset}: {e.msg}") from e
    except (ValueError, RecursionError, MemoryError, OverflowError) as e:
        raise Unparsable(f"neither JSON nor Python: {str(e)[:100] or type(e).__name__}") from e
    trees = [line.value if isinstance(line, ast.Expr) else line for line in lines]
    nodes = [node for tree in trees for node in (tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree])]
    calls = []
    for n, node in enumerate(nodes, 1):
        if not isinstance(node, ast.Call):
            raise _error(node, "a call, function(argument=value)")
        name = _dotted_name(node.func)
        arguments: dict[str, Any] = {}
        for place, value in enumerate(node.args):
            argument = None if isinstance(value, ast.Starred) else name_of(name, place)
            if argument is None:
                raise _error(value, "argument=value")
            arguments[argument] = _literal(value)
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg in arguments:
                raise _error(keyword.value, "each argument once, as argument=value")
            arguments[keyword.arg] = _literal(keyword.value)
        _check_values(arguments, n)
        calls.append(Call(name, arguments))
    return calls


def _dotted_name(node: ast.expr) -> str:
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise _error(node, "a name of a function")
    return ".".join([node.id, *reversed(parts)])


def _literal(node: ast.expr | None, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise Unparsable(f"nested more than {MAX_DEPTH} levels")
    match node:
        case ast.Name(id="true" | "false" | "null" as name):
            return {"true": True, "false": False, "null": None}[name]
        case ast.Constant(value=str() | bool() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() as number)) if (
            not isinstance(number, bool)
        ):
            return -number if isinstance(sign, ast.USub) else number
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_literal(item, depth + 1) for item in items]
        case ast.Dict(keys=keys, values=values):
            names = [_literal(key, depth + 1) if key is not None else None for key in keys]
            if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
                raise _error(node, "a dict whose keys are texts, each once")
            return {name: _literal(value, depth + 1) for name, value in zip(names, values, strict=True)}
    raise _error(node, "a literal")


def _error(node: ast.expr | ast.stmt | None, expected: str) -> Unparsable:
    place = f"line {node.lineno}, column {node.col_offset + 1}: " if node else ""
    return Unparsable(f"{place}expected {expected}, got {type(node).__name__}")


def _print(calls: list[Call]) -> str:
    shown = sorted(json.dumps(_normal(call._asdict()), sort_keys=True, ensure_ascii=False) for call in calls)
    return f"[{', '.join(shown)}]"


def _normal(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    return [_normal(item) for item in value] if isinstance(value, list) else value


_WEATHER = '[weather.get(city="Kiel", days=3), weather.get(city="Bonn", days=3, units="metric")]'


def _example(name: str, program: str, score: float | None) -> Example:
    properties = {"city": {"type": "string"}, "days": {"type": "integer"}, "units": {"type": "string"}}
    parameters = {"type": "dict", "properties": properties, "required": ["city", "days"]}
    problem = Problem.of(
        task="example", family="calls", split="train", instruction="Write the calls.",
        question="What will the weather in Kiel and Bonn be like, the next three days?",
        answer=[
            {"weather.get": {"city": ["Kiel"], "days": [3], "units": ["", "metric"]}},
            {"weather.get": {"city": ["Bonn", "Bonn, DE"], "days": [3], "units": ["", "metric"]}},
        ],
        program=_WEATHER, environment={"functions": [{"name": "weather.get", "parameters": parameters}]},
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _WEATHER, 1.0),
    _example(
        "different-looking equal",
        '[{"name": "weather.get", "arguments": {"days": 3.0, "city": "bonn de"}}, '
        '{"name": "weather.get", "arguments": {"city": "kiel", "days": 3}}]',
        1.0,
    ),
    _example("similar-looking different", _WEATHER.replace("metric", "imperial"), 0.0),
    _example("one call too few", '[weather.get(city="Kiel", days=3)]', 0.0),
    _example("required argument left out", _WEATHER.replace(", days=3", "", 1), 0.0),
    _example("arguments without names", '[weather.get("Bonn", 3), weather.get("Kiel", days=3)]', 1.0),
    _example("arguments without names in another order", '[weather.get("Bonn", 3), weather.get(3, "Kiel")]', 0.0),
    _example("unknown argument", _WEATHER.replace("days", "n_days"), None),
    _example("unknown function", _WEATHER.replace("weather.get", "forecast"), None),
    _example("value that is no literal", _WEATHER.replace("days=3", "days=1 + 2"), None),
    _example("ill-formed", _WEATHER[:-1], None),
)
