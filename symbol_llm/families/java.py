"""Java programs. Equal means: the same tokens, without comments and layout, whatever local names are called.

Local variables, parameters and the variables of patterns are renamed in the order in which they appear; fields, methods,
types and labels keep their names, since tests call them. Gold is `problem.program`, parsed by tree-sitter as is a program:
types, or methods alone, possibly after a package and imports. What the compiler would refuse for its types passes.

`environment["test"]` and `environment["entry_point"]` are those of MBXP (Athiwaratkun et al. 2023). Running tests takes a
JDK, which starts processes, and no sandbox child may. Hence a problem with tests leaves a program of another form than
gold's unscored, for it may be right; where it never names the entry point it is rejected. A problem without tests
rejects every other form.

Missed: all that makes two different texts do the same.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import tree_sitter_java
from tree_sitter import Language, Node

from symbol_llm.errors import InvalidInput, Unavailable, Unparsable
from symbol_llm.families import Example, Ran, Result
from symbol_llm.params import Limits
from symbol_llm.records import Problem
from symbol_llm.syntax import grammar
from symbol_llm.syntax.grammar import Form, Plan, Rules

VERSION = 2
METRIC = "normal form"


def canonical(program: str) -> str:
    """Return the tokens, a space between, local names as v1, v2 ... by where they appear."""
    return _forms([program], Limits())[0][0].normal


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form: nothing is run."""
    forms, isolation = _forms([program], limits)
    return Ran(forms[0].normal, "", isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` has gold's form, else 0.0; Unavailable where only running the tests could tell."""
    gold = problem.program
    forms, isolation = _forms([program] if gold is None else [program, gold], limits)
    if gold is None or forms[1].fault:
        raise InvalidInput(f"problem {problem.id}: no gold program that parses: {gold and forms[1].fault}")
    if forms[0].normal == forms[1].normal:
        return Result(1.0, forms[0].normal, isolation)
    entry_point = problem.environment.get("entry_point")
    calls = not entry_point or entry_point in forms[0].normal.split(" ")
    if problem.environment.get("test") and calls:
        raise Unavailable("not gold's form, and the tests cannot be run without a JDK")
    return Result(0.0, forms[0].normal, isolation)


def mutants(program: str, rng: random.Random) -> Iterator[str]:
    """Yield `program` with one number raised by 1, one operator exchanged, or one condition or text changed."""
    tokens = [match[0] for match in _TOKEN.finditer(program)]
    places = [n for n, token in enumerate(tokens) if _mutate(token) != token]
    rng.shuffle(places)
    for n in places:
        yield "".join([*tokens[:n], _mutate(tokens[n]), *tokens[n + 1 :]])


_TOKEN = re.compile(
    r"//[^\n]*|/\*.*?(?:\*/|\Z)|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'"
    r"|\d[\w.]*|[^\W\d]\w*|\+\+|--|->|::|[-+*/%=!]=|<<?=?|>=|&&|\|\||\s+|.",
    re.DOTALL,
)
_SWAPS = {
    "+": "-", "-": "+", "/": "*", "%": "/", "==": "!=", "!=": "==", "<=": ">", ">=": "<", "&&": "||",
    "||": "&&", "++": "--", "--": "++", "+=": "-=", "-=": "+=", "true": "false", "false": "true", "break": "continue",
    "continue": "break",
}  # fmt: skip


def _mutate(token: str) -> str:
    if re.fullmatch(r"\d+", token):
        return str(int(token) + 1)
    if len(token) > 1 and token[0] == '"':
        return f'{token[:-1]}~"'
    return _SWAPS.get(token, token)


def _forms(texts: list[str], limits: Limits) -> tuple[list[Form], str]:
    """Return the form of each text; Unparsable if the first, which is the program, has none."""
    forms, isolation = grammar.normal_forms(f"{__name__}:read", texts, limits)
    if forms[0].fault:
        raise Unparsable(forms[0].fault)
    return forms, isolation


# --- in the child -----------------------------------------------------------------------------------------------------

_LANGUAGE = Language(tree_sitter_java.language())
_ATOMS = ("string_literal", "character_literal")
_TYPES = ("class_declaration", "interface_declaration", "enum_declaration", "record_declaration")
_TOP = (*_TYPES, "annotation_type_declaration", "package_declaration", "import_declaration", "method_declaration")


def read(args: dict[str, Any]) -> list[dict[str, str]]:
    """Return the normal form, the first fault or the limit hit of each text. Only ever called in a sandbox child."""
    return [_read(text) for text in args["texts"]]


def _read(text: str) -> dict[str, str]:
    root = grammar.parse(_LANGUAGE, text)
    if fault := grammar.first_fault(root) or _misplaced(root) or grammar.first_stray(root, text, _STRAY):
        return {"fault": fault}
    if grammar.is_too_deep(root):
        return {"limit": f"the program has more than {grammar.MAX_DEPTH} levels"}
    rules = Rules(_FUNCTIONS, lambda node: node.type in _SCOPES, _plan)
    tokens = [token for token, _ in grammar.renamed(root, rules, _ATOMS)]
    return {
        "normal": " ".join(t for t, after in zip(tokens, [*tokens[1:], ""], strict=True) if (t, after) != (",", "}"))
    }


_STRAY = re.compile(r"[\x0b\x1a]|\\u+[0-9a-fA-F]{4}")
"""No blanks to Java, and escapes, which it reads before it looks for the end of a comment."""


def _misplaced(root: Node) -> str:
    """tree-sitter takes statements outside of a class, which no compiler does."""
    parts = [node for node in root.children if "comment" not in node.type and node.type != ";"]
    for node in parts:
        if node.type not in _TOP:
            return f"{grammar.place(node)}: expected a class or a method, got {grammar.text_of(node)[:40]!r}"
    if not any(node.type in (*_TYPES, "method_declaration") for node in parts):
        return "line 1, column 1: expected a class or a method"
    return ""


# --- local names ------------------------------------------------------------------------------------------------------

_FUNCTIONS = (
    "method_declaration", "constructor_declaration", "compact_constructor_declaration", "lambda_expression", "block",
)  # fmt: skip
_SCOPES = (
    *_FUNCTIONS, "for_statement", "enhanced_for_statement", "try_with_resources_statement", "catch_clause",
    "switch_block", "switch_rule", "record_declaration", "class_body", "interface_body", "enum_body", "enum_body_declarations",
)  # fmt: skip
_BODIES = ("class_body", "interface_body", "enum_body", "enum_body_declarations")
_FIELDS = ("field_declaration", "constant_declaration")
_NAMES_LAST = {"type_pattern": -1, "record_pattern_component": -1}
_NAMES = {
    "method_invocation": "name", "field_access": "field", "annotation": "name", "marker_annotation": "name",
    "element_value_pair": "key", "method_declaration": "name", "constructor_declaration": "name",
    "compact_constructor_declaration": "name", "enum_constant": "name", **dict.fromkeys(_TYPES, "name"),
    "annotation_type_declaration": "name", "annotation_type_element_declaration": "name",
}  # fmt: skip
"""Which field holds a name that is never local."""
_DECLARING = ("formal_parameter", "catch_formal_parameter", "resource", "instanceof_expression", "variable_declarator")


def _plan(node: Node) -> Plan | None:  # noqa: PLR0911 - one return a kind of node
    kind, children = node.type, node.children
    if kind in _NAMES:
        return _marked(node, _NAMES[kind], "skip")
    if kind in _DECLARING:
        role = "skip" if _is_field(node) else "declare"
        return sorted(_marked(node, "name", role), key=lambda step: step[1] != "visit")
    if kind == "enhanced_for_statement":
        return sorted(_marked(node, "name", "declare"), key=lambda step: _TURN.get(_field_of(node, step[0]), 0))
    if kind in _BODIES:
        return [*((name, "hide") for name in _fields(node)), *((child, "visit") for child in children)]
    if kind == "lambda_expression":
        return [(c, "declare" if c == node.child_by_field_name("parameters") and c.type == "identifier" else "visit")
                for c in children]  # fmt: skip
    if kind in ("inferred_parameters", *_NAMES_LAST):
        return [(c, "declare" if c.type == "identifier" else "visit") for c in children]
    if kind == "method_reference":
        return [(c, "skip" if n == len(children) - 1 else "visit") for n, c in enumerate(children)]
    if kind in ("scoped_identifier", "break_statement", "continue_statement", "package_declaration"):
        return []
    if kind in ("record_pattern", "labeled_statement"):
        return [(c, "visit") for c in children if c.type != "identifier"]
    return None


_TURN = {"name": 1, "body": 2}


def _marked(node: Node, field: str, role: str) -> Plan:
    name = node.child_by_field_name(field)
    return [(child, role if name is not None and child == name else "visit") for child in node.children]


def _field_of(node: Node, child: Node) -> str:
    return next((name for name in _TURN if node.child_by_field_name(name) == child), "")


def _is_field(node: Node) -> bool:
    """Return whether what `node` names is a field: of a class, or a component of a record."""
    above = node.parent
    if node.type == "variable_declarator":
        return above is not None and above.type in _FIELDS
    return above is not None and above.parent is not None and above.parent.type == "record_declaration"


def _fields(body: Node) -> Iterator[Node]:
    """Yield the names of the fields of a body, which hide local ones of the same name wherever in it they stand."""
    for member in body.children:
        for part in member.children if member.type in _FIELDS else []:
            name = part.child_by_field_name("name") if part.type == "variable_declarator" else None
            if name is not None:
                yield name


_MIDDLE = """class Clamp {
    static int clamp(int value, int low, int high) {
        int result = value <= low ? low : value;
        return result >= high && high >= low ? high : result;
    }
}"""


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="java", split="train", instruction="Write Java.",
        question="A class Clamp whose method clamp keeps a value between two bounds?", program=_MIDDLE,
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _MIDDLE, 1.0),
    _example("different-looking equal", _MIDDLE.replace("result", "r").replace("value", "x // the value\n"), 1.0),
    _example("similar-looking different", _MIDDLE.replace("? high : result", "? result : high"), 0.0),
    _example("another method", _MIDDLE.replace("clamp(", "limit("), 0.0),
    _example("prefix of gold", _MIDDLE[:-1], None),
    _example("a statement alone", "int result = 3;", None),
    _example("ill-formed", _MIDDLE.replace("? low :", "? low"), None),
)
