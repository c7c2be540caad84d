"""Functional programs over a scene of objects, as in CLEVR and GQA. Equal means: the same answer on this scene and others.

CLEVR (Johnson et al. 2017), nested, or as steps that each take the result of the one before:

    count(filter_color[red](relate[left](unique(filter_shape[cube](scene())))))
    scene -> filter_shape: cube -> unique -> relate: left -> filter_color: red -> count

A node of CLEVR's JSON, {"function" or "type": f, "inputs": [n, m], "value_inputs": [v]}, is `f[v](node n, node m)`; the last
node is the outermost (see `from_nodes`). GQA (Hudson and Manning 2019), {"operation", "argument", "dependencies"}:

    select: boy -> relate: _,holding,o -> query: color
    select: boy -> exist -> select: dog -> filter color: brown -> exist -> and      # or with numbers of steps: `and [1, 4]`

`relate: name,relation,s` finds the objects that are in `relation` to the current ones; with `o`, those to which the
current ones are. `_` or nothing is any name. `filter`, `query`, `verify`, `choose: a|b`, `same`, `different` take an
attribute; the tables below list all functions. A step that needs two inputs takes the last two unused results. Steps may
be items of a list; arguments may be in quotes or among the inputs, `filter_color(red, scene)`, `filter_color(scene(), "red")`.

`environment["scene"]` holds the scene graph: CLEVR's {"objects": [{"color": ...}], "relationships": {"left": [[...]]}} or
GQA's {"objects": {id: {"name": ..., "attributes": {"color": ...} or [...], "relations": [{"name": ..., "object": id}]}}}.
With a scene, the program is executed and its answer compared with `problem.answer` and, if `problem.program` holds
gold, with gold's answers on at least two seeded perturbations of the scene, which exposes most accidents. Without one,
the program is compared with gold in normal form: consecutive filters, operands of `union`, `intersect`, `and`, `or`,
`equal_*`, two-sided `same`, `different`, `common` and choices in any order, `greater_than` turned into `less_than`.

Undefined, hence without answer: `unique` of any number of objects but one, `query` of objects that differ or lack the
attribute.
Missed: programs that differ on no scene drawn; GQA's comparatives and positions.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import replies

VERSION = 5
METRIC = "execution accuracy, else exact match"

MAX_NODES = 100
"""Most functions of a program, written out as a tree."""
N_PERTURBED = 64
"""Perturbed scenes on which gold has an answer; fewer if MAX_DRAWS do not yield so many."""
MAX_DRAWS = 800

Answer = bool | int | str


class Tree(NamedTuple):
    """A function with its argument and inputs."""

    function: str
    argument: str
    inputs: tuple[Tree, ...]
    kind: str
    """Kind of the result: set, object, integer, boolean, value, value of an attribute."""
    n_nodes: int

    def __str__(self) -> str:
        argument = f"[{self.argument}]" if self.argument else ""
        return f"{self.function}{argument}({', '.join(map(str, self.inputs))})"


class Environment(Needs):
    """What judging needs besides program and gold."""

    scene: dict[str, Any] | None = None
    """The scene graph, in the format of CLEVR or GQA; None: normal forms are compared."""


def canonical(program: str) -> str:
    """Return the nested form with commutative parts sorted."""
    return str(_normal(_parse(program)))


program_of = replies.that_parses(canonical)


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the answer on the scene, or the normal form if there is no scene."""
    tree = _parse(program)
    scene = _scene(problem)
    if scene is None:
        return Ran(str(_normal(tree)))
    try:
        return Ran(_show(_execute(tree, scene)))
    except _UndefinedError as e:
        return Ran(None, f"undefined: {e}")


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` answers as gold does, else 0.0."""
    tree = _parse(program)
    gold = _gold(problem)
    scene = _scene(problem)
    if scene is None:
        if gold is None:
            raise InvalidInput(f"problem {problem.id} has neither a scene nor a gold program")
        form = str(_normal(tree))
        return Result(float(form == str(_normal(gold))), form)
    answer = _gold_answer(problem, gold, scene)
    try:
        found = _execute(tree, scene)
    except _UndefinedError as e:
        return Result(0.0, f"undefined: {e}")
    if not _is_same(found, answer):
        return Result(0.0, _show(found))
    if gold and str(_normal(gold)) != str(_normal(tree)) and not _agree(tree, gold, scene, problem.id):
        return Result(0.0, f"{_show(found)} here, but not as gold on a perturbed scene")
    return Result(1.0, _show(found))


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with a filter removed, or a value, direction, attribute or function changed, in random order."""
    tree = _parse(program)
    changed = sorted({str(_normal(other)) for other in _altered(tree)} - {str(_normal(tree))})
    rng.shuffle(changed)
    yield from changed


def from_nodes(nodes: Sequence[Mapping[str, Any]]) -> str:
    """Return a program in CLEVR's JSON as text; InvalidInput if a node lacks its value."""
    texts: list[str] = []
    for n, node in enumerate(nodes):
        function = node.get("function") or node["type"]
        values = node.get("value_inputs") or node.get("side_inputs") or []
        if len(values) != (function.startswith("filter_") or function == "relate"):
            raise InvalidInput(f"node {n}: {function} with values {values!r}")
        argument = f"[{values[0]}]" if values else ""
        texts.append(f"{function}{argument}({', '.join(texts[i] for i in node['inputs'])})")
    return texts[-1]


def _altered(tree: Tree) -> Iterator[Tree]:
    for n, part in enumerate(tree.inputs):
        for changed in _altered(part):
            yield tree._replace(inputs=(*tree.inputs[:n], changed, *tree.inputs[n + 1 :]))
    base, _, attribute = tree.function.partition("_")
    if base == "filter":
        yield tree.inputs[0]
    if base in ("filter", "verify") and attribute in _PALETTE:
        yield from (tree._replace(argument=value) for value in _PALETTE[attribute] if value != tree.argument)
    elif tree.argument:
        parts = tree.argument.split(",")
        other = _OPPOSITES.get(parts[-1]) or f"other {parts[-1]}"
        yield tree._replace(argument=",".join([*parts[:-1], other]))
    if base in ("query", "same") and attribute in _PALETTE:
        yield from (tree._replace(function=f"{base}_{other}") for other in _PALETTE if other != attribute)
    if tree.function in _OPPOSITES:
        yield tree._replace(function=_OPPOSITES[tree.function])


_PALETTE = {
    "color": ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow"),
    "shape": ("cube", "sphere", "cylinder"),
    "size": ("small", "large"),
    "material": ("rubber", "metal"),
}
_PAIRS = (
    ("left", "right"),
    ("front", "behind"),
    ("s", "o"),
    ("less_than", "greater_than"),
    ("union", "intersect"),
    ("and", "or"),
)
_OPPOSITES = {one: other for pair in _PAIRS for one, other in (pair, pair[::-1])}


# --- parsing ----------------------------------------------------------------------------------------------------------

_SIGNATURES: Mapping[str, Sequence[tuple[tuple[str, ...], str, str]]] = {
    # function: (kinds of inputs, what its argument is, kind of result), where ? stands for an attribute
    "scene": [((), "", "set")],
    "select": [((), "name", "set")],
    "unique": [(("set",), "", "object")],
    "relate": [(("object",), "direction", "set"), (("set",), "relation", "set")],
    "union": [(("set", "set"), "", "set")],
    "intersect": [(("set", "set"), "", "set")],
    "count": [(("set",), "", "integer")],
    "exist": [(("set",), "", "boolean")],
    "filter": [(("set",), "value", "set")],
    "filter_?": [(("set",), "value", "set")],
    "query_?": [(("object",), "", "value of ?"), (("set",), "", "value of ?")],
    "same_?": [(("object",), "", "set"), (("set", "set"), "", "boolean")],
    "different_?": [(("set", "set"), "", "boolean")],
    "common": [(("set", "set"), "", "value")],
    "verify": [(("set",), "value", "boolean")],
    "verify_?": [(("set",), "value", "boolean")],
    "verify_rel": [(("set",), "relation", "boolean")],
    "choose_?": [(("set",), "choice", "value of ?")],
    "choose_rel": [(("set",), "relation", "value")],
    "equal_?": [(("value of ?", "value of ?"), "", "boolean")],
    "equal_integer": [(("integer", "integer"), "", "boolean")],
    "equal_object": [(("object", "object"), "", "boolean")],
    "less_than": [(("integer", "integer"), "", "boolean")],
    "greater_than": [(("integer", "integer"), "", "boolean")],
    "and": [(("boolean", "boolean"), "", "boolean")],
    "or": [(("boolean", "boolean"), "", "boolean")],
}  # fmt: skip
_ATTRIBUTE_AS_ARGUMENT = ("query", "same", "different", "equal")
_CALL = re.compile(r"\s*(\w+)\s*(?:\[([^\[\]\n]*)\]\s*)?\(")
_WORD = re.compile(r"\s*(?:(?P<quote>['\"])(?P<quoted>[^'\"\n]*)(?P=quote)|(?P<bare>\w+))(?=\s*[,)])")
"""Matches an argument among inputs, or `scene` without brackets."""
_ITEM = re.compile(r"(?:\d{1,3}[.):]|[-*•])\s+")
_STEP = re.compile(r"([\w ]+)(?:\[([^\[\]]*)\]|\(([^()]*)\))\s*(?:\(\))?")
"""Matches a step whose argument is in brackets."""
_OBJECT_IDS = re.compile(r" \([\d, -]*\)$")
_ATTRIBUTE = re.compile(r"[a-z]\w*")


def _parse(program: str) -> Tree:
    program = program.rstrip(" \t\n;.")
    is_nested = _CALL.match(program) and not re.search("->|→", program)
    tree = _Nested(program).whole() if is_nested else _steps(program)
    if tree.kind in ("set", "object"):
        raise Unparsable(
            f"the program ends in {tree.function}, which gives objects; expected count, exist, query_* ..."
        )
    return tree


class _Nested:
    """Recursive descent over the nested form."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def whole(self) -> Tree:
        tree = self._call(1)
        if self._text[self._at :].strip():
            raise self._wrong("the end")
        return tree

    def _call(self, depth: int) -> Tree:
        call = _CALL.match(self._text, self._at)
        if call is None or depth > MAX_NODES:
            raise self._wrong("a function such as scene()" if call is None else f"at most {MAX_NODES} functions")
        self._at = call.end()
        inputs: list[Tree] = []
        arguments = [] if call[2] is None else [call[2]]
        if not self._take(")"):
            self._input(inputs, arguments, depth)
            while self._take(","):
                self._input(inputs, arguments, depth)
            if not self._take(")"):
                raise self._wrong("',' or ')'")
        return _tree(_place(self._text, call.start(1)), call[1], ",".join(arguments), inputs)

    def _input(self, inputs: list[Tree], arguments: list[str], depth: int) -> None:
        """Read an input, or the argument if there is none yet."""
        word = _WORD.match(self._text, self._at)
        if word and word["bare"] == "scene":
            inputs.append(_tree(_place(self._text, self._at), "scene", "", []))
        elif word and not arguments:
            arguments.append(word["bare"] or word["quoted"])
        else:
            inputs.append(self._call(depth + 1))
            return
        self._at = word.end()

    def _take(self, sign: str) -> bool:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        found = self._text.startswith(sign, self._at)
        self._at += found
        return found

    def _wrong(self, expected: str) -> Unparsable:
        got = self._text[self._at : self._at + 40].strip() or "the end"
        return Unparsable(f"{_place(self._text, self._at)}: expected {expected}, got {got!r}")


def _place(text: str, offset: int) -> str:
    start = text.rfind("\n", 0, offset) + 1
    return f"line {text.count(chr(10), 0, offset) + 1}, column {offset - start + 1}"


def _steps(program: str) -> Tree:
    """Read steps; one that names no inputs takes the last unused results."""
    results: list[Tree] = []
    free: list[int] = []
    if program.rstrip().endswith(("->", "→")) and re.search(r"\w", program):
        raise Unparsable("an arrow at the end; expected a step behind it")
    for line in filter(None, map(str.strip, re.split(r"->|→|\n|;", program))):
        text = _ITEM.sub("", line, count=1) if _ITEM.match(line) else line
        where = f"step {len(results)}"
        if len(results) == MAX_NODES:
            raise Unparsable(f"{where}: more than {MAX_NODES} steps")
        head, given = _inputs_named(text)
        step = _STEP.fullmatch(head)
        name, argument = (step[1], step[2] or step[3] or "") if step else head.partition(":")[::2]
        function = "_".join(name.lower().split())
        if given is None:
            wanted = _n_inputs(function, argument, results[free[-1]] if free else None)
            given = free[len(free) - wanted :] if wanted <= len(free) else free
        if any(n >= len(results) for n in given):
            raise Unparsable(f"{where}: expected numbers of earlier steps, from 0, got {text[:40]!r}")
        results.append(_tree(where, function, argument, [results[n] for n in given]))
        free = [*(n for n in free if n not in given), len(results) - 1]
    if len(free) != 1:
        raise Unparsable(f"step {free[0]}: no step takes what it gives" if free else "no step")
    return results[-1]


def _inputs_named(text: str) -> tuple[str, list[int] | None]:
    """Split `and [1, 4]` into `and` and the numbers of its inputs."""
    head, bracket, numbers = text.rpartition("[")
    if not bracket or not re.fullmatch(r"[\d,\s]{0,200}\]", numbers):
        return text, None
    return head, [int(number) for number in re.findall(r"\d+", numbers)]


def _n_inputs(function: str, argument: str, last: Tree | None) -> int:
    key, _ = _key(function, argument)
    sizes = {len(kinds) for kinds, _, _ in _SIGNATURES.get(key, ())}
    if len(sizes) > 1:
        return 1 if last and last.kind == "object" else 2
    return max(sizes, default=0)


def _key(function: str, argument: str) -> tuple[str, str]:
    """Return the function's name in the table and its attribute, if any."""
    if function in _SIGNATURES:
        return function, ""
    base, _, attribute = function.partition("_")
    if not attribute and base in _ATTRIBUTE_AS_ARGUMENT:
        attribute = "_".join(argument.lower().split())
    return (f"{base}_?", attribute) if _ATTRIBUTE.fullmatch(attribute) else (function, "")


def _tree(where: str, function: str, argument: str, inputs: Sequence[Tree]) -> Tree:
    """Return the function with its argument in normal order, if it takes such inputs and such an argument."""
    function = function.lower()
    key, attribute = _key(function, argument)
    if key not in _SIGNATURES:
        raise Unparsable(f"{where}: expected a function such as filter_color or query, got {function[:40]!r}")
    if attribute and function == key.removesuffix("_?"):
        function, argument = f"{function}_{attribute}", ""
    got = tuple(part.kind for part in inputs)
    for kinds, wanted, kind in _SIGNATURES[key]:
        if tuple(k.replace("?", attribute) for k in kinds) == got:
            n_nodes = 1 + sum(part.n_nodes for part in inputs)
            if n_nodes > MAX_NODES:
                raise Unparsable(f"{where}: more than {MAX_NODES} functions, written out")
            argument = _argument(f"{where}: {function}", argument, wanted)
            return Tree(function, argument, tuple(inputs), kind.replace("?", attribute), n_nodes)
    kinds = _SIGNATURES[key][-1][0]
    wanted = ", ".join(kinds).replace("?", attribute)
    raise Unparsable(f"{where}: {function} takes ({wanted}), got ({', '.join(got)})"[:300])


def _argument(where: str, text: str, wanted: str) -> str:
    """Return the argument in normal order; a relation always has all three parts."""
    text = _OBJECT_IDS.sub("", " ".join(text.lower().split()))
    text = text[1:-1] if re.fullmatch(r"'[^']*'|\"[^\"]*\"", text) else text
    if wanted == "direction" and "," in text:
        wanted = "relation"
    parts = [part.strip() for part in text.split({"relation": ",", "choice": "|"}.get(wanted, "\n"))]
    if wanted == "relation":
        side = parts.pop() if parts[-1] in ("s", "o") and len(parts) > 1 else "s"
        parts = [*(["_"] if len(parts) == 1 else []), *parts, side]
        parts[0] = parts[0] or "_"
    elif wanted == "choice":
        parts = sorted(set(parts))
    is_whole = len(parts) == {"relation": 3, "choice": 2}.get(wanted, 1) and (all(parts) or not wanted)
    if not is_whole or bool(text) != bool(wanted) or re.search(r"[\[\]]", text):
        raise Unparsable(f"{where}: expected {_ARGUMENTS[wanted]}, got {text[:40]!r}")
    return ("|" if wanted == "choice" else ",").join(parts)


_ARGUMENTS = {"": "no argument", "name": "a name", "value": "a value", "direction": "a direction", "choice": "two values such as red|blue",
              "relation": "name,relation,s or o"}  # fmt: skip


# --- normal form ------------------------------------------------------------------------------------------------------

_SYMMETRIC = ("union", "intersect", "and", "or", "equal", "same", "different", "common")


def _normal(tree: Tree) -> Tree:
    tree = tree._replace(inputs=tuple(map(_normal, tree.inputs)))
    base = tree.function.partition("_")[0]
    if tree.function == "greater_than":
        return tree._replace(function="less_than", inputs=tree.inputs[::-1])
    if base in _SYMMETRIC:
        return tree._replace(inputs=tuple(sorted(tree.inputs, key=str)))
    if base == "filter":
        return _filters_sorted(tree)
    return tree


def _filters_sorted(tree: Tree) -> Tree:
    """Return consecutive filters sorted, each once; those below the first are sorted already."""
    filters: dict[tuple[str, str], Tree] = {}
    below = tree
    while below.function.partition("_")[0] == "filter":
        filters[below.function, below.argument] = below
        below = below.inputs[0]
    for key in sorted(filters, reverse=True):
        below = filters[key]._replace(inputs=(below,), n_nodes=below.n_nodes + 1)
    return below


# --- executing --------------------------------------------------------------------------------------------------------


class Scene(NamedTuple):
    """Objects as attributes and values, `name` among them; attributes of unknown kind are numbered."""

    objects: list[dict[str, str]]
    relations: frozenset[tuple[int, str, int]]
    """(who, relation, to whom)."""


class _UndefinedError(Exception):
    """The program has no answer on a scene."""


def _scene(problem: Problem) -> Scene | None:
    given = needs(problem, Environment).scene
    if given is None:
        return None
    try:
        return _gqa_scene(given) if isinstance(given["objects"], dict) else _clevr_scene(given)
    except (KeyError, TypeError, AttributeError, IndexError) as e:
        raise InvalidInput(f"problem {problem.id}: scene is not as CLEVR or GQA have it: {e!r}") from e


def _clevr_scene(given: Mapping[str, Any]) -> Scene:
    objects = [{key: text.lower() for key, text in o.items() if isinstance(text, str)} for o in given["objects"]]
    relations = {
        (one, direction.lower(), other)
        for direction, found in given.get("relationships", {}).items()
        for other, ones in enumerate(found)
        for one in ones
    }
    return Scene(objects, frozenset(relations))


def _gqa_scene(given: Mapping[str, Any]) -> Scene:
    numbers = {name: n for n, name in enumerate(sorted(given["objects"]))}
    objects, relations = [], set()
    for name in sorted(given["objects"]):
        one = given["objects"][name]
        attributes = one.get("attributes", {})
        if not isinstance(attributes, dict):
            attributes = {str(n): value for n, value in enumerate(attributes)}
        objects.append({"name": one["name"].lower(), **{key: value.lower() for key, value in attributes.items()}})
        relations |= {(numbers[name], r["name"].lower(), numbers[str(r["object"])]) for r in one.get("relations", [])}
    return Scene(objects, frozenset(relations))


def _execute(tree: Tree, scene: Scene) -> Any:
    """Return the set of objects, object or answer; raise _UndefinedError where there is none."""
    inputs = [_execute(part, scene) for part in tree.inputs]
    kinds = [part.kind for part in tree.inputs]
    base, _, attribute = tree.function.partition("_")
    if kinds == ["object"] and base in ("query", "relate"):
        inputs = [frozenset(inputs)]
    if tree.kind in ("set", "object"):
        return _objects(base, attribute, tree.argument, inputs, scene)
    return _answer(base, attribute, tree.argument, inputs, scene)


def _objects(base: str, attribute: str, argument: str, inputs: list[Any], scene: Scene) -> Any:  # noqa: PLR0911 - one return a function
    match base:
        case "scene":
            return frozenset(range(len(scene.objects)))
        case "select":
            return frozenset(n for n, o in enumerate(scene.objects) if o.get("name") == argument)
        case "unique":
            if len(inputs[0]) != 1:
                raise _UndefinedError(f"unique of {len(inputs[0])} objects")
            return min(inputs[0])
        case "filter":
            return frozenset(n for n in inputs[0] if _has(scene.objects[n], attribute, argument))
        case "relate":
            return _related(inputs[0], argument if "," in argument else f"_,{argument},s", scene)
        case "union":
            return inputs[0] | inputs[1]
        case "intersect":
            return inputs[0] & inputs[1]
        case "same":
            value = _value(frozenset(inputs), attribute, scene)
            return frozenset(n for n, o in enumerate(scene.objects) if o.get(attribute) == value and n != inputs[0])
    raise AssertionError(base)


def _answer(base: str, attribute: str, argument: str, inputs: list[Any], scene: Scene) -> Answer:  # noqa: PLR0911, PLR0912 - as above
    match base:
        case "count":
            return len(inputs[0])
        case "exist":
            return bool(inputs[0])
        case "query":
            return _value(inputs[0], attribute, scene)
        case "verify" if attribute == "rel":
            return bool(_related(inputs[0], argument, scene))
        case "verify":
            if not inputs[0]:
                raise _UndefinedError("verify of no object")
            return all(_has(scene.objects[n], attribute, argument) for n in inputs[0])
        case "choose":
            return _chosen(attribute, argument, inputs[0], scene)
        case "same" | "different":
            values = {_value(part, attribute, scene) for part in inputs}
            return (len(values) == 1) == (base == "same")
        case "common":
            shared = [
                a for a in scene.objects[min(inputs[0], default=0)] if a != "name" and _is_shared(a, inputs, scene)
            ]
            if len(shared) != 1:
                raise _UndefinedError(f"common of {len(shared)} attributes")
            return shared[0]
        case "equal":
            return bool(inputs[0] == inputs[1])
        case "less" | "greater":
            return bool(inputs[0] < inputs[1] if base == "less" else inputs[0] > inputs[1])
        case "and" | "or":
            return bool(inputs[0] and inputs[1] if base == "and" else inputs[0] or inputs[1])
    raise AssertionError(base)


def _has(one: Mapping[str, str], attribute: str, value: str) -> bool:
    if attribute:
        return one.get(attribute) == value
    return any(found == value for key, found in one.items() if key != "name")


def _value(objects: frozenset[int], attribute: str, scene: Scene) -> str:
    values = {scene.objects[n].get(attribute) for n in objects}
    value = values.pop() if len(values) == 1 else None
    if value is None:
        raise _UndefinedError(f"{attribute} of {len(objects)} objects")
    return value


def _related(objects: frozenset[int], argument: str, scene: Scene) -> frozenset[int]:
    name, relations, side = argument.split(",")
    names = relations.split("|")
    pairs = ((one, other) if side == "s" else (other, one) for one, r, other in scene.relations if r in names)
    return frozenset(n for n, given in pairs if given in objects and name in ("_", scene.objects[n].get("name")))


def _chosen(attribute: str, argument: str, objects: frozenset[int], scene: Scene) -> str:
    if attribute == "rel":
        name, relations, side = argument.split(",")
        found = [r for r in relations.split("|") if _related(objects, f"{name},{r},{side}", scene)]
    else:
        found = [value for value in argument.split("|") if value == _value(objects, attribute, scene)]
    if len(found) != 1:
        raise _UndefinedError(f"{len(found)} of the choices {argument}")
    return found[0]


def _is_shared(attribute: str, inputs: Sequence[frozenset[int]], scene: Scene) -> bool:
    return len({scene.objects[n].get(attribute) for part in inputs for n in part}) == 1


# --- comparing --------------------------------------------------------------------------------------------------------


def _gold(problem: Problem) -> Tree | None:
    if not problem.program:
        return None
    try:
        return _parse(problem.program)
    except Unparsable as e:  # gold is ours
        raise InvalidInput(f"problem {problem.id}: gold: {e}") from e


def _gold_answer(problem: Problem, gold: Tree | None, scene: Scene) -> Answer:
    answer = problem.answer
    if answer is not None and not isinstance(answer, bool | int | str):
        raise InvalidInput(f"problem {problem.id}: answer {answer!r}; expected true or false, a number or a word")
    if gold is None:
        if answer is None:
            raise InvalidInput(f"problem {problem.id} has neither an answer nor a gold program")
        return answer
    try:
        found: Answer = _execute(gold, scene)
    except _UndefinedError as e:
        raise InvalidInput(f"problem {problem.id}: gold is undefined on its own scene: {e}") from e
    if answer is not None and not _is_same(found, answer):
        raise InvalidInput(f"problem {problem.id}: gold gives {_show(found)} instead of {answer!r}")
    return found


def _agree(tree: Tree, gold: Tree, scene: Scene, seed: str) -> bool:
    """Return whether both agree on perturbed scenes, at least two, on which gold has an answer."""
    mentioned: dict[str, list[str]] = {}
    _mention(gold, mentioned)
    _mention(tree, mentioned)
    n_alike = 0
    for n in range(MAX_DRAWS):
        other = _perturbed(scene, mentioned, random.Random(f"{seed} {n}"))
        try:
            answer = _execute(gold, other)
        except _UndefinedError:
            continue
        try:
            if _execute(tree, other) != answer:
                return False
        except _UndefinedError:
            return False
        n_alike += 1
        if n_alike == N_PERTURBED:
            break
    return n_alike >= 2


def _mention(tree: Tree, mentioned: dict[str, list[str]]) -> None:
    """Collect the values of each attribute that the program mentions."""
    base, _, attribute = tree.function.partition("_")
    if base in ("filter", "verify", "choose", "select") and attribute != "rel":
        mentioned.setdefault("name" if base == "select" else attribute, []).extend(tree.argument.split("|"))
    name = tree.argument.partition(",")[0]
    if "," in tree.argument and name != "_":
        mentioned.setdefault("name", []).append(name)
    for part in tree.inputs:
        _mention(part, mentioned)


def _perturbed(scene: Scene, mentioned: Mapping[str, Sequence[str]], rng: random.Random) -> Scene:
    """Return the scene with values redrawn from its own, CLEVR's and the mentioned ones, and its positions permuted."""
    values = {attribute: list(palette) for attribute, palette in _PALETTE.items()}
    for one in scene.objects:
        for attribute, value in one.items():
            values.setdefault(attribute, []).append(value)
    share = rng.random()

    def drawn(attribute: str) -> str:
        named = mentioned.get(attribute)
        return rng.choice(named if named and rng.random() < share else values[attribute])

    objects = [{attribute: drawn(attribute) for attribute in one} for one in scene.objects]
    places = rng.sample(range(len(objects)), len(objects))
    return Scene(objects, frozenset((places[one], how, places[other]) for one, how, other in scene.relations))


def _show(answer: Answer) -> str:
    return str(answer).lower()


def _is_same(found: Answer, answer: Answer) -> bool:
    text = _YES_NO.get(str(answer).lower(), str(answer).lower()) if isinstance(found, bool) else str(answer).lower()
    return text == _show(found) and isinstance(answer, bool) <= isinstance(found, bool)


_YES_NO = {"yes": "true", "no": "false"}

_SCENE = {
    "objects": [
        {"color": "red", "shape": "cube", "size": "large", "material": "metal"},
        {"color": "blue", "shape": "cube", "size": "small", "material": "metal"},
        {"color": "red", "shape": "sphere", "size": "small", "material": "rubber"},
        {"color": "green", "shape": "cylinder", "size": "large", "material": "rubber"},
    ],
    "relationships": {
        "left": [[], [0], [0, 1], [0, 1, 2]],
        "right": [[1, 2, 3], [2, 3], [3], []],
        "front": [[1], [], [0, 1, 3], [0, 1]],
        "behind": [[2, 3], [0, 2, 3], [], [2]],
    },
}
_COUNT = "count(filter_color[red](filter_size[small](relate[right](unique(filter_color[blue](scene()))))))"


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="scene", split="train", instruction="Write a program over the scene.",
        question="How many small red things are right of the blue thing?", answer=1, program=_COUNT,
        environment={"scene": _SCENE}, source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _COUNT, 1.0),
    _example(
        "different-looking equal",
        "scene -> filter color: blue -> unique -> relate: right -> filter color: red -> filter size: small -> count",
        1.0,
    ),
    _example("same answer by accident", _COUNT.replace("filter_color[red]", "filter_shape[sphere]"), 0.0),
    _example("another direction", _COUNT.replace("right", "left"), 0.0),
    _example("undefined here", _COUNT.replace("blue", "red"), 0.0),
    _example("unknown function", _COUNT.replace("unique", "single"), None),
    _example("no answer", _COUNT[6:-1], None),
    _example("ill-formed", _COUNT[:-1], None),
)
