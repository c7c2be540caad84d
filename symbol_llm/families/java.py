"""Java programs. Equal means: the same tokens up to local names or, with tests, the expected results.

Comments and layout do not count as tokens. Local variables, parameters and pattern variables are renamed in order of
appearance; fields, methods, types and labels keep their names, since tests call them. Brackets around a whole value or
condition and `final` before a parameter do not count. Gold is `problem.program`. Gold and programs are parsed by
tree-sitter: types, or methods alone, possibly after a package and imports. Type errors that only a compiler would find
are not detected.

`environment["test"]` and `environment["entry_point"]` are those of MBXP (Athiwaratkun et al. 2023): a class Main that
says `int x0 = Some.method(3); int v0 = 9;` and compares the two, call after call. If there is a JDK, a program whose
form is not gold's is built with the calls alone and run in the sandbox; the expected results are computed in a separate
run without the program. Both are printed with their types by the same method, and the texts are equal if and only if
the values are, by `equals` of these types: an Integer is not a Long, 0.0 is not -0.0, NaN is NaN, any two Lists with
equal elements are equal. A value of a type that `_DRIVER` does not know, an exception and an early exit are wrong. A
program that passes all its tests may still be wrong elsewhere.

Without a JDK, a program whose form is not gold's is unscored if the problem has tests, since it may be right. A program
that never names the entry point is rejected, as is every other form if there are no tests.

Missed: without tests, different texts that do the same.
"""

from __future__ import annotations

import functools
import random
import re
from collections.abc import Iterable, Iterator
from typing import Any

import tree_sitter_java
from tree_sitter import Language, Node

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import grammar, replies
from symbol_llm.notation.grammar import Form, Plan, Rules
from symbol_llm.sandbox import toolchain

VERSION = 5
METRIC = "normal form, or execution of tests"


class Environment(Needs):
    """What judging needs besides program and gold."""

    test: str | None = None
    """The tests of MBXP; None: gold's form is compared."""
    entry_point: str | None = None
    """Method that a program must define."""


program_of = replies.up_to(replies.BEHIND_A_BLOCK)


def canonical(program: str) -> str:
    """Return the tokens separated by spaces, with local names v1, v2 ... in order of appearance."""
    return _forms([program], Limits())[0][0].normal


def run(program: str, problem: Problem, limits: Limits) -> Ran:
    """Return the canonical form: nothing is run."""
    forms, isolation = _forms([program], limits)
    return Ran(forms[0].normal, "", isolation)


def score(program: str, problem: Problem, limits: Limits) -> Result:
    """1.0 if `program` has gold's form or passes the tests, else 0.0; Unavailable if they cannot be run here.

    Gold is needed only where there are no tests.
    """
    environment = needs(problem, Environment)
    gold, test = problem.program, environment.test
    forms, isolation = _forms([program] if gold is None else [program, gold], limits)
    has_gold = gold is not None and not forms[1].fault
    if not test and not has_gold:
        raise InvalidInput(f"problem {problem.id}: no gold program that parses: {gold and forms[1].fault}")
    if has_gold and forms[0].normal == forms[1].normal:
        return Result(1.0, forms[0].normal, isolation)
    entry_point = environment.entry_point
    if not test or (entry_point and entry_point not in forms[0].normal.split(" ")):
        return Result(0.0, forms[0].normal, isolation)
    return _pass(program, forms[0].note, test, limits)


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
    """Return the form of each text; Unparsable if the first, the program, has none."""
    forms, isolation = grammar.normal_forms(f"{__name__}:read", texts, limits)
    if forms[0].fault:
        raise Unparsable(forms[0].fault)
    return forms, isolation


# --- tests ------------------------------------------------------------------------------------------------------------

_HEAD = """
class Main {
    public static boolean compare(Object obj1, Object obj2) {
        if (obj1 == null && obj2 == null){
            return true;
        } else if (obj1 == null || obj2 == null){
            return false;
        } else {
            return obj1.equals(obj2);
        }
    }
    public static void main(String[] args) throws Exception {
"""
_CASE = re.compile(
    r"\s*(?:[^\n=]+ arg\d+ = [^\n]*;\n)*\s*(?P<type>[\w<>, ]+) (?P<x>x\d+) = (?P<call>[^\n]*);\n"
    r"\s*(?P=type) (?P<v>v\d+) = (?P<value>[^\n]*);\n"
    r"\s*if \(!\(compare\((?P=x), (?P=v)\)\)\) \{\n\s*throw new [^\n]*;\n\s*\}\n"
)
_FILE_NAME = re.compile(r"[A-Za-z_$][\w$]{0,99}", re.ASCII)
_CLASS = "Judged"
_DRIVER = r"""
import java.io.*;
import java.math.*;
import java.util.*;

class Judged {
    public static void main(java.lang.String[] args) {
        java.io.PrintStream out = java.lang.System.out;
        java.io.PrintStream nowhere = new java.io.PrintStream(java.io.OutputStream.nullOutputStream());
        java.lang.System.setOut(nowhere);
        java.lang.System.setErr(nowhere);
        java.util.List<java.lang.String> shown = new java.util.ArrayList<>();
        int status = 0;
        try {
            run(shown);
            out.println("MARK" + shown);
        } catch (java.lang.Throwable e) {
            out.println("error: " + e);
            status = 1;
        }
        out.flush();
        java.lang.Runtime.getRuntime().halt(status);
    }

    static void run(java.util.List<java.lang.String> shown) throws java.lang.Throwable {
CASES
    }

    static java.lang.String show(java.lang.Object value) {
        if (value == null || value instanceof java.lang.Boolean || value instanceof java.lang.Integer) return "" + value;
        if (value instanceof java.lang.Long) return value + "L";
        if (value instanceof java.lang.Double) return value + "d";
        if (value instanceof java.lang.Float) return value + "f";
        if (value instanceof java.lang.Short) return value + "s";
        if (value instanceof java.lang.Byte) return value + "b";
        if (value.getClass() == java.math.BigInteger.class) return value + "n";
        if (value.getClass() == java.math.BigDecimal.class) return value + "m";
        if (value instanceof java.lang.Character) return "'" + escape("" + value) + "'";
        if (value instanceof java.lang.String) return '"' + escape((java.lang.String) value) + '"';
        java.util.List<java.lang.String> parts = new java.util.ArrayList<>();
        if (value instanceof java.util.List) {
            for (java.lang.Object one : (java.util.List<?>) value) parts.add(show(one));
            return parts.toString();
        }
        if (value instanceof java.util.Set) {
            for (java.lang.Object one : (java.util.Set<?>) value) parts.add(show(one));
        } else if (value instanceof java.util.Map) {
            for (java.util.Map.Entry<?, ?> one : ((java.util.Map<?, ?>) value).entrySet())
                parts.add(show(one.getKey()) + ": " + show(one.getValue()));
        } else {
            throw new java.lang.IllegalArgumentException("a " + value.getClass().getName() + " is not compared");
        }
        java.util.Collections.sort(parts);
        return (value instanceof java.util.Set ? "set" : "map") + parts;
    }

    static java.lang.String escape(java.lang.String text) {
        java.lang.StringBuilder to = new java.lang.StringBuilder();
        for (char c : text.toCharArray()) {
            if (c < ' ' || c > '~' || c == '"' || c == '\\') to.append(java.lang.String.format("\\u%04x", (int) c));
            else to.append(c);
        }
        return to.toString();
    }
}
"""


def _pass(program: str, public: str, test: str, limits: Limits) -> Result:
    """Return whether the calls of `test` give the expected results; `public` names the program's public type if any."""
    tools = toolchain.jdk(_CLASS)
    if tools is None:
        raise Unavailable(f"not gold's form, and the tests cannot be run without {toolchain.JDK}")
    wanted = _wanted(test, tools)
    name = public if _FILE_NAME.fullmatch(public) else "Program"
    calls = _driver((case["type"], case["x"], case["call"]) for case in _cases(test))
    claim = toolchain.ask(tools, {f"{name}.java": program, f"{_CLASS}.java": calls}, limits)
    return Result(float(claim.text == wanted), claim.text or claim.detail, claim.isolation)


@functools.lru_cache(maxsize=4096)
def _wanted(test: str, tools: toolchain.Toolchain) -> str:
    """Return the results that `test` expects, in the form of a program's output, computed without any program."""
    values = _driver((case["type"], case["v"], case["value"]) for case in _cases(test))
    return toolchain.work_out(tools, {f"{_CLASS}.java": values})


def _cases(test: str) -> list[re.Match[str]]:
    """Return the calls of `test` with their expected results; Unavailable if it holds anything else."""
    head, start, body = test.partition(_HEAD.splitlines()[-1])
    if (head + start).split() != _HEAD.split():
        raise Unavailable("the tests are not of MBXP's shape: no class Main that compares as it does")
    cases, at = [], 0
    while case := _CASE.match(body, at):
        cases.append(case)
        at = case.end()
    if not cases or body[at:].split() != ["}", "}"]:
        raise Unavailable(f"the tests are not of MBXP's shape: {' '.join(body[at:].split())[:80]!r}")
    return cases


def _driver(variables: Iterable[tuple[str, str, str]]) -> str:
    lines = (f"        {kind} {name} = {value};\n        shown.add(show({name}));" for kind, name, value in variables)
    return _DRIVER.strip().replace("MARK", "\\u0002" + toolchain.MARK[1:]).replace("CASES", "\n".join(lines))


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
    named = grammar.without_needless_brackets(grammar.renamed(root, rules, _ATOMS), _is_needless)
    tokens = [text for text, node in named if text != "final" or not _is_of_parameter(node)]
    normal = " ".join(t for t, after in zip(tokens, [*tokens[1:], ""], strict=True) if (t, after) != (",", "}"))
    return {"normal": normal, "note": _public(root)}


_WHOLE = ("return_statement", "variable_declarator", "argument_list", "parenthesized_expression")
"""Kinds of node that hold whole values, whose brackets change nothing."""
_LOOSE = ("assignment_expression", "lambda_expression", "ternary_expression", "switch_expression")
"""Kinds of value that bind less tightly than `?`, or as tightly."""


def _is_needless(brackets: Node) -> bool:
    above, inside = brackets.parent, brackets.named_children
    if above is None or not inside:
        return False
    if above.type == "assignment_expression":
        return above.child_by_field_name("right") == brackets
    is_condition = above.type == "ternary_expression" and above.child_by_field_name("condition") == brackets
    return above.type in _WHOLE or (is_condition and inside[-1].type not in _LOOSE)


def _is_of_parameter(final: Node) -> bool:
    """Return whether `final` stands before a parameter or the variable of a loop, which it cannot make a constant."""
    above = final.parent.parent if final.parent is not None else None
    return above is not None and above.type in ("formal_parameter", "catch_formal_parameter", "enhanced_for_statement")


_STRAY = re.compile(r"[\x0b\x1a]|\\u+[0-9a-fA-F]{4}")
"""Characters that are not white space to Java, and escapes, which it reads before it looks for the end of a comment."""


def _misplaced(root: Node) -> str:
    """Return a fault for statements outside a class, which tree-sitter accepts but no compiler does."""
    parts = [node for node in root.children if "comment" not in node.type and node.type != ";"]
    for node in parts:
        if node.type not in _TOP:
            return f"{grammar.place(node)}: expected a class or a method, got {grammar.text_of(node)[:40]!r}"
    if not any(node.type in (*_TYPES, "method_declaration") for node in parts):
        return "line 1, column 1: expected a class or a method"
    return ""


def _public(root: Node) -> str:
    """Return the name of the first public type, which its file must have too; empty if there is none."""
    for node in root.children:
        name = node.child_by_field_name("name")
        if node.type in _TYPES and name is not None and any(_is_public(child) for child in node.children):
            return grammar.text_of(name)
    return ""


def _is_public(modifiers: Node) -> bool:
    return modifiers.type == "modifiers" and any(word.type == "public" for word in modifiers.children)


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
"""The fields that hold a name that is never local."""
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
    """Yield the names of the fields of a body, which hide local ones of the same name anywhere in it."""
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
