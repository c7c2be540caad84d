"""Go programs. Equal means: the same tokens up to local names or, with tests, the expected results.

Comments and layout do not count as tokens. Local variables, parameters and results are renamed in order of appearance;
functions, types, fields, packages and labels keep their names, since tests call them. The clause `package main` and
brackets around a whole value or condition do not count. Gold is `problem.program`. Gold and programs are parsed by
tree-sitter: functions, possibly after a package, imports and other declarations. Type errors and unused imports, which
only a compiler would refuse, are not detected.

`environment["test"]` and `environment["entry_point"]` are those of MBXP (Athiwaratkun et al. 2023): a function main
with `actual_1 := f(3)` and `expected_1 := 9` that compares the two as JSON, call after call. If there is Go, a program
whose form is not gold's is built with the calls alone and run in the sandbox; the expected results are computed in a
separate run without the program. The two are compared here as the tests' `deepCompare` does, by their `encoding/json`
form: every number is a float64, a nil slice is not an empty one, keys have no order, names of types do not count. A
panic and an early exit are wrong. The imports of `encoding/json` and `reflect`, which MBXP requires for its tests, and
the package clause are optional. A program that passes all its tests may still be wrong elsewhere.

Without Go, a program whose form is not gold's is unscored if the problem has tests, since it may be right. A program
that never names the entry point is rejected, as is every other form if there are no tests.

Missed: without tests, different texts that do the same; a local name that is a key in a literal without a stated type.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
import re
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import tree_sitter_go
from tree_sitter import Language, Node

from symbol_llm.families import Example, Needs, Ran, Result, needs
from symbol_llm.ground.errors import InvalidInput, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import grammar, replies
from symbol_llm.notation.grammar import Form, Plan, Rules
from symbol_llm.sandbox import toolchain

VERSION = 6
METRIC = "normal form, or execution of tests"


class Environment(Needs):
    """What judging needs besides program and gold."""

    test: str | None = None
    """The tests of MBXP; None: gold's form is compared."""
    entry_point: str | None = None
    """Function that a program must define."""


program_of = replies.up_to(replies.BEHIND_A_BLOCK)


def canonical(program: str) -> str:
    """Return the tokens separated by spaces, with semicolons for line ends and local names v1, v2 ... in order."""
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
    r"//[^\n]*|/\*.*?(?:\*/|\Z)|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`[^`]*`"
    r"|\d[\w.]*|[^\W\d]\w*|\+\+|--|:=|<-|&\^|[-+*/%=!]=|<<=?|>>=?|[<>]=?|&&|\|\||\s+|.",
    re.DOTALL,
)
_SWAPS = {
    "+": "-", "-": "+", "/": "*", "%": "/", "==": "!=", "!=": "==", "<": ">=", ">": "<=", "<=": ">", ">=": "<",
    "&&": "||", "||": "&&", "++": "--", "--": "++", "+=": "-=", "-=": "+=", "true": "false", "false": "true",
    "break": "continue", "continue": "break",
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
func deepCompare(a interface{}, b interface{}, msg string) bool {
	aJSON, err := json.Marshal(a)
	if err != nil {
		panic(msg)
	}
	bJSON, err := json.Marshal(b)
	if err != nil {
		panic(msg)
	}
	var a2 interface{}
	var b2 interface{}
	err = json.Unmarshal(aJSON, &a2)
	if err != nil {
		panic(msg)
	}
	err = json.Unmarshal(bJSON, &b2)
	if err != nil {
		panic(msg)
	}
	result := reflect.DeepEqual(a2, b2)
	if result {
		return true
	} else {
		panic(msg)
	}
}
func main() {
"""
_CASE = re.compile(
    r"\s*(?P<actual>actual_\d+) := (?P<call>[^\n]*)\n\s*(?P<expected>expected_\d+) := (?P<value>[^\n]*)\n"
    r"\s*deepCompare\((?P=actual), (?P=expected), \"[^\"\n]*\"\)\n"
)
_DRIVER = """
package main

import (
	judgedJSON "encoding/json"
	judgedOS "os"
	judgedSyscall "syscall"
)

var judgedOut = judgedOpen()

func judgedOpen() *judgedOS.File {
	out, _ := judgedSyscall.Dup(1)
	nowhere, _ := judgedSyscall.Open("/dev/null", judgedSyscall.O_WRONLY, 0)
	judgedSyscall.Dup3(nowhere, 1, 0)
	return judgedOS.NewFile(uintptr(out), "out")
}

func judgedShow(value interface{}) judgedJSON.RawMessage {
	text, err := judgedJSON.Marshal(value)
	if err != nil {
		panic(err)
	}
	return text
}

func main() {
	var judged []judgedJSON.RawMessage
CASES
	judgedOut.WriteString("MARK" + string(judgedShow(judged)) + "\\n")
	judgedOS.Exit(0)
}
"""
_IMPORTED = {"encoding/json": "var _ = json.Marshal", "reflect": "var _ = reflect.DeepEqual"}
"""Declarations that use the imports MBXP requires for its tests."""


def _pass(program: str, note: str, test: str, limits: Limits) -> Result:
    """Return whether the calls of `test` give the expected results; `note` is what `_note` returns for the program."""
    tools = toolchain.go()
    if tools is None:
        raise Unavailable(f"not gold's form, and the tests cannot be run without {toolchain.GO}")
    wanted = _wanted(test, tools)
    named = note.split()
    whole = program if "package" in named else f"package main; {program}"
    whole = "\n".join([whole, *(_IMPORTED[name] for name in named[1:])])
    calls = _driver(case["call"] for case in _cases(test))
    claim = toolchain.ask(tools, {"judged.go": calls, "program.go": whole}, limits)
    is_right = claim.text is not None and _is_same(claim.text, wanted)
    return Result(float(is_right), claim.text or claim.detail, claim.isolation)


@functools.lru_cache(maxsize=4096)
def _wanted(test: str, tools: toolchain.Toolchain) -> str:
    """Return the results that `test` expects, in the form of a program's output, computed without any program."""
    values = _driver(case["value"] for case in _cases(test))
    return toolchain.work_out(tools, {"judged.go": values})


def _cases(test: str) -> list[re.Match[str]]:
    """Return the calls of `test` with their expected results; Unavailable if it holds anything else."""
    head, start, body = test.partition(_HEAD.splitlines()[-1] + "\n")
    if (head + start).split() != _HEAD.split():
        raise Unavailable("the tests are not of MBXP's shape: no main after a deepCompare that compares as it does")
    cases, at = [], 0
    while case := _CASE.match(body, at):
        cases.append(case)
        at = case.end()
    if not cases or body[at:].split() != ["}"]:
        raise Unavailable(f"the tests are not of MBXP's shape: {' '.join(body[at:].split())[:80]!r}")
    return cases


def _driver(values: Iterable[str]) -> str:
    lines = (f"\tjudged = append(judged, judgedShow({value}))" for value in values)
    return _DRIVER.strip().replace("MARK", "\\x02" + toolchain.MARK[1:]).replace("CASES", "\n".join(lines))


def _is_same(claimed: str, wanted: str) -> bool:
    """Return whether two JSON texts are equal as Go's `interface{}` are; the first comes from a program."""
    try:
        return bool(_typed(claimed) == _typed(wanted))
    except (ValueError, RecursionError):
        return False


def _typed(text: str) -> Any:
    """Return the value of `text` with true and 1 kept apart, which are equal in Python."""
    value = json.loads(text, parse_int=float, parse_constant=_refuse)

    def typed(part: Any) -> Any:
        if isinstance(part, list):
            return [typed(one) for one in part]
        if isinstance(part, dict):
            return {key: typed(one) for key, one in part.items()}
        return (type(part), part)

    return typed(value)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


# --- in the child -----------------------------------------------------------------------------------------------------

_LANGUAGE = Language(tree_sitter_go.language())
_ATOMS = ("interpreted_string_literal", "raw_string_literal", "rune_literal")
_FUNCTIONS = ("function_declaration", "method_declaration", "func_literal")
_TOP = (
    *_FUNCTIONS, "package_clause", "import_declaration", "const_declaration", "var_declaration", "type_declaration",
)  # fmt: skip
_ENDS = ("++", "--", ")", "]", "}")
_WORD_END = re.compile(r"[\w\"'`.]\Z")
_KEYWORDS = frozenset(
    "default func interface select case defer go map struct chan else goto package switch const if range type for"
    " import var . ...".split()
)
_IDLE = {(";", "}"), (";", ")"), (",", "}"), (",", ")"), (";", "")}
"""Tokens that may be omitted before the next one; an end of line would be read as a semicolon."""


def read(args: dict[str, Any]) -> list[dict[str, str]]:
    """Return the normal form, the first fault or the limit hit of each text. Only ever called in a sandbox child."""
    return [_read(text) for text in args["texts"]]


def _read(text: str) -> dict[str, str]:
    root = grammar.parse(_LANGUAGE, text)
    if fault := _fault(root) or _misplaced(root) or grammar.first_stray(root, text, _STRAY):
        return {"fault": fault}
    if grammar.is_too_deep(root):
        return {"limit": f"the program has more than {grammar.MAX_DEPTH} levels"}
    named = grammar.renamed(root, Rules(_FUNCTIONS, _is_scope, _plan), _ATOMS)
    tokens = list(_with_semicolons(grammar.without_needless_brackets(named, _is_needless)))
    normal = " ".join(t for t, after in zip(tokens, [*tokens[1:], ""], strict=True) if (t, after) not in _IDLE)
    normal = normal.removeprefix("package main ; ")
    if fault := _fault(grammar.parse(_LANGUAGE, normal)):
        return {"fault": f"a line ends where a statement goes on; written on one line, {fault}"}
    return {"normal": normal, "note": _note(root)}


_WHOLE = (
    "if_statement", "for_statement", "for_clause", "expression_switch_statement", "expression_list", "argument_list",
    "parenthesized_expression",
)  # fmt: skip
"""Kinds of node that hold whole values or conditions, whose brackets change nothing."""


def _is_needless(brackets: Node) -> bool:
    """Return whether brackets on one line are around a whole value; before a brace and `:=` they mean something."""
    above = brackets.parent
    if above is None or above.type not in _WHOLE or "{" in grammar.text_of(brackets):
        return False
    is_left = above.parent is not None and above.parent.child_by_field_name("left") == above
    return brackets.start_point.row == brackets.end_point.row and not is_left


_STRAY = re.compile(r"[\x0b\x0c]|//go:(?:build|embed|linkname)|//[ \t]*\+build")
"""Characters that are not white space to Go, and comments that are directives to the toolchain."""


def _fault(root: Node) -> str:
    """Return the first fault, also where tree-sitter reads as two tokens what Go reads as one: && before an operand."""
    if fault := grammar.first_fault(root):
        return fault
    for node, after in itertools.pairwise(grammar.leaves(root, _ATOMS)):
        one, two = grammar.text_of(node), grammar.text_of(after)
        whole = next((o for o in _OPERATORS if o != one and o.startswith(one) and (one + two).startswith(o)), None)
        if one and whole and node.end_byte == after.start_byte:
            return f"{grammar.place(node)}: unexpected {whole!r}"
    return ""


_OPERATORS = (
    *("<<", ">>", "&^", "&&", "||", "<-", "++", "--", "==", "!=", "<=", ">=", ":="),
    *(f"{operator}=" for operator in ("+", "-", "*", "/", "%", "&", "|", "^")),
)
"""Operators of two characters. Those of three begin with one of these."""


def _with_semicolons(tokens: list[tuple[str, Node]]) -> Iterator[str]:
    """Yield the tokens with a semicolon at each end of line where the language reads one."""
    row, last = 0, ""
    for text, node in tokens:
        is_end = last in _ENDS or (_WORD_END.search(last) is not None and last not in _KEYWORDS)
        if node.start_point.row > row and is_end and text != ";":
            yield ";"
        if text:
            yield text
            row, last = node.end_point.row, text


def _misplaced(root: Node) -> str:
    """Return a fault for statements outside a function, which tree-sitter accepts but no compiler does."""
    parts = [node for node in root.children if node.is_named and node.type != "comment"]
    for node in parts:
        if node.type not in _TOP:
            return f"{grammar.place(node)}: expected a function, got {grammar.text_of(node)[:40]!r}"
    return "" if any(node.type in _FUNCTIONS for node in parts) else "line 1, column 1: expected a function"


def _note(root: Node) -> str:
    """Return "package" or "none", then which of `_IMPORTED` the program imports under their own names."""
    words = ["package" if any(node.type == "package_clause" for node in root.children) else "none"]
    imports = [node for node in root.children if node.type == "import_declaration"]
    specs = [spec for node in imports for part in node.children for spec in (part, *part.children)]
    for spec in specs:
        path = spec.child_by_field_name("path") if spec.type == "import_spec" else None
        if path is not None and spec.child_by_field_name("name") is None:
            words += [name for name in _IMPORTED if name == grammar.text_of(path)[1:-1]]
    return " ".join(words)


# --- local names ------------------------------------------------------------------------------------------------------

_SCOPES = (
    *_FUNCTIONS, "if_statement", "for_statement", "expression_switch_statement", "type_switch_statement",
    "select_statement", "expression_case", "default_case", "type_case", "communication_case", "function_type",
    "method_elem",
)  # fmt: skip
_INDEXED = ("map_type", "slice_type", "array_type", "implicit_length_array_type")


def _is_scope(node: Node) -> bool:
    if node.type == "block":  # parameters belong to the outermost block of a function, as do its own declarations
        return node.parent is None or node.parent.type not in _FUNCTIONS
    return node.type in _SCOPES


def _plan(node: Node) -> Plan | None:  # noqa: PLR0911 - one return a kind of node
    match node.type:
        case "function_declaration" | "type_parameter_declaration":
            return [(c, "skip" if c.type == "identifier" else "visit") for c in node.children]
        case "parameter_declaration" | "variadic_parameter_declaration" | "var_spec" | "const_spec":
            names = node.children_by_field_name("name")
            steps = [(c, "declare" if c in names and c.type == "identifier" else "visit") for c in node.children]
            return sorted(steps, key=lambda step: step[1] == "declare")
        case "short_var_declaration":
            return _values_first(node, "left", "redeclare")
        case "range_clause" | "receive_statement" if any(c.type == ":=" for c in node.children):
            return _values_first(node, "left", "redeclare")
        case "type_switch_statement":
            return _with_alias(node)
        case "keyed_element" if not _is_indexed(node):
            key = node.children[0]
            bare = key.type == "literal_element" and key.child_count == 1 and key.children[0].type == "identifier"
            return [(c, "skip" if c == key and bare else "visit") for c in node.children]
    return None


def _values_first(node: Node, field: str, role: str) -> Plan:
    """Return everything but the names of `field`, then those: a name is not in scope in its own value."""
    left = node.child_by_field_name(field)
    rest: Plan = [(c, "visit") for c in node.children if c != left]
    return [*rest, *((c, role if c.type == "identifier" else "visit") for c in (left.children if left else []))]


def _with_alias(node: Node) -> Plan:
    alias, value = node.child_by_field_name("alias"), node.child_by_field_name("value")
    steps: Plan = []
    for child in node.children:
        if child != alias:
            steps.append((child, "visit"))
        if child == value and alias is not None:
            steps += [(c, "declare" if c.type == "identifier" else "visit") for c in alias.children]
    return steps


def _is_indexed(node: Node) -> bool:
    """Return whether the keys of the literal that contains `node` are values rather than field names."""
    literal = node.parent.parent if node.parent is not None else None
    kind = literal.child_by_field_name("type") if literal is not None else None
    return kind is not None and kind.type in _INDEXED


_MIDDLE = """package main

func clamp(value int, low int, high int) int {
	if value < low {
		return low
	}
	result := value
	if result > high && high >= low {
		result = high
	}
	return result
}
"""
_OTHER_LOOK = _MIDDLE.replace("result", "r").replace("value int, low int", "x int, // the value\n\tlow int")


def _example(name: str, program: str, score: float | None) -> Example:
    problem = Problem.of(
        task="example", family="go", split="train", instruction="Write Go.",
        question="A function clamp that keeps a value between two bounds?", program=_MIDDLE,
        source="generated", licence="Apache-2.0",
    )  # fmt: skip
    return Example(name, problem, program, score)


EXAMPLES = (
    _example("gold itself", _MIDDLE, 1.0),
    _example("different-looking equal", _OTHER_LOOK.replace("value", "x"), 1.0),
    _example("similar-looking different", _MIDDLE.replace("result = high", "result = low"), 0.0),
    _example("another function", _MIDDLE.replace("clamp(", "limit("), 0.0),
    _example("prefix of gold", _MIDDLE[: _MIDDLE.rindex("}")], None),
    _example("a statement alone", "result := 3", None),
    _example("ill-formed", _MIDDLE.replace("if value < low {", "if value < {"), None),
)
