"""Programs parsed by tree-sitter: the first fault, the tokens, and which names are local.

tree-sitter never refuses a text: where the grammar does not fit, its tree has ERROR and MISSING nodes. It is C code
that reads hostile text, so everything but `normal_forms` is called only in a sandbox child. It runs nothing and knows
no types.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from tree_sitter import Language, Node, Parser

from symbol_llm.ground.errors import LimitExceeded, Unavailable
from symbol_llm.ground.params import Limits
from symbol_llm.sandbox import executor

MAX_DEPTH = 400
"""Most levels of a tree, so that it can be walked recursively."""


# --- the caller's side ------------------------------------------------------------------------------------------------


class Form(NamedTuple):
    """The result of reading one text: its normal form, or its first fault."""

    normal: str
    fault: str
    note: str = ""
    """Further information from the language's reader."""


def normal_forms(entry: str, texts: Sequence[str], limits: Limits) -> tuple[list[Form], str]:
    """Call `entry` on {"texts": texts} in a child; return a form for each text, the program first, and the isolation.

    `entry` returns for each text {"normal": ...}, maybe with a "note", {"fault": ...} or {"limit": ...}; the last raises
    LimitExceeded, and so does a program that brings the parser down.
    """
    outcome = executor.run(entry, {"texts": list(texts)}, limits)
    outcome.check_limits()
    if outcome.crashed and not (len(texts) > 1 and executor.run(entry, {"texts": list(texts[1:])}, limits).crashed):
        raise LimitExceeded(f"the parser {outcome.detail}", outcome.isolation)
    if outcome.status != "ok":
        raise Unavailable(f"not parsed: {outcome.detail}")
    for found in outcome.value:
        if "limit" in found:
            raise LimitExceeded(found["limit"])
    forms = [Form(*(found.get(key, "") for key in Form._fields)) for found in outcome.value]
    return forms, outcome.isolation


# --- in the child -----------------------------------------------------------------------------------------------------


def parse(language: Language, text: str) -> Node:
    """Return the root of the tree of `text`."""
    return Parser(language).parse(text.encode(errors="replace")).root_node


def first_fault(root: Node) -> str:
    """Return the place and text of the first ERROR or MISSING node; empty if there is none."""
    if not root.has_error:
        return ""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.is_missing:
            return f"{place(node)}: expected {node.type!r}"
        inside = [child for child in node.children if child.has_error or child.is_missing]
        if node.is_error and not inside:
            fault = node.children[-1] if node.children else node  # the part before it parsed
            return f"{place(fault)}: unexpected {text_of(fault)[:40]!r}"
        stack += reversed(inside)
    last = root.children[-1] if root.children else root  # the missing node is hidden: the end of a line
    return f"{place(last)}: unexpected {text_of(last)[:40]!r}"


def first_stray(root: Node, text: str, stray: re.Pattern[str]) -> str:
    """Return the place of the first match of `stray` between two tokens or in a comment; empty if there is none.

    The grammars take many characters for white space and ignore comments, where the languages do not.
    """
    source = text.encode(errors="replace")
    tokens = sorted((leaf.start_byte, leaf.end_byte) for leaf in leaves(root, ()))
    at = 0
    for start, end in [*tokens, (len(source), len(source))]:
        if found := stray.search(source[at:start].decode(errors="replace")):
            row = source[:at].count(b"\n") + found.string[: found.start()].count("\n")
            return f"line {row + 1}: {found[0][:40]!r} means something there"
        at = max(at, end)
    return ""


def is_too_deep(root: Node) -> bool:
    """Return whether the tree has more than `MAX_DEPTH` levels."""
    stack = [(root, 1)]
    while stack:
        node, depth = stack.pop()
        if depth > MAX_DEPTH:
            return True
        stack += [(child, depth + 1) for child in node.children]
    return False


def place(node: Node) -> str:
    """Return "line 1, column 1" of where `node` starts, in characters."""
    row, n_bytes = node.start_point
    root = node
    while root.parent is not None:
        root = root.parent
    start = node.start_byte - root.start_byte
    before = (root.text or b"")[max(0, start - n_bytes) : start]
    return f"line {row + 1}, column {len(before.decode(errors='replace')) + 1}"


def text_of(node: Node) -> str:
    """Return the text of `node`."""
    return (node.text or b"").decode(errors="replace")


def leaves(root: Node, atoms: Collection[str]) -> Iterator[Node]:
    """Yield the tokens in order, without comments; a node whose kind is in `atoms` is one token."""
    stack = [root]
    while stack:
        node = stack.pop()
        if "comment" in node.type:
            continue
        if node.type in atoms or not node.child_count:
            yield node
        else:
            stack += reversed(node.children)


def without_needless_brackets(
    tokens: Sequence[tuple[str, Node]], is_needless: Callable[[Node], bool]
) -> list[tuple[str, Node]]:
    """Return `tokens` without the round brackets of the nodes for which `is_needless` holds."""
    return [(text, node) for text, node in tokens if text not in ("(", ")") or not _is_bracket_of(node, is_needless)]


def _is_bracket_of(node: Node, is_needless: Callable[[Node], bool]) -> bool:
    return node.parent is not None and node.parent.type == "parenthesized_expression" and is_needless(node.parent)


# --- local names ------------------------------------------------------------------------------------------------------

Plan = list[tuple[Node, str]]
"""Children in the order in which their names enter the scope, each with an action:

`visit` it, `declare` it as a new name, `redeclare` it (new unless its scope has it), `hide` names like it, `skip` it.
"""


class Rules(NamedTuple):
    """Rules for the local names of a language."""

    functions: Collection[str]
    """Kinds of node inside which names are local."""
    scopes: Callable[[Node], bool]
    """Whether the names declared inside a node are forgotten at its end."""
    plan: Callable[[Node], Plan | None]
    """What to do with the children of a node; None: visit all. An `identifier` that is visited is a use."""


def local_names(root: Node, rules: Rules) -> dict[int, int]:
    """Return the byte at which each local name was declared, by the byte of its occurrence."""
    found: dict[int, int] = {}
    scopes: list[dict[str, int | None]] = [{}]
    n_functions = 0

    def declare(node: Node, role: str) -> None:
        name, scope = text_of(node), scopes[-1]
        if role == "hide" or not n_functions or name == "_":
            scope[name] = None
        elif role == "declare" or name not in scope:
            scope[name] = node.start_byte
        use(node)

    def use(node: Node) -> None:
        name = text_of(node)
        declared = next((scope[name] for scope in reversed(scopes) if name in scope), None)
        if declared is not None:
            found[node.start_byte] = declared

    def visit(node: Node) -> None:
        nonlocal n_functions
        if node.type == "identifier":
            use(node)
        is_function, is_scope, plan = node.type in rules.functions, rules.scopes(node), rules.plan(node)
        n_functions += is_function
        if is_scope:
            scopes.append({})
        for child, role in [(child, "visit") for child in node.children] if plan is None else plan:
            if role == "visit":
                visit(child)
            elif role != "skip":
                declare(child, role)
        if is_scope:
            scopes.pop()
        n_functions -= is_function

    visit(root)
    return found


def renamed(root: Node, rules: Rules, atoms: Collection[str]) -> list[tuple[str, Node]]:
    """Return the tokens with local names as v1, v2 ... in order of appearance, skipping names already in use."""
    local = local_names(root, rules)
    tokens = list(leaves(root, atoms))
    taken = {text_of(node) for node in tokens if node.start_byte not in local}
    fresh = (name for n in range(1, len(tokens) + len(taken) + 2) if (name := f"v{n}") not in taken)
    names: dict[int, str] = {}
    for node in tokens:
        declared = local.get(node.start_byte)
        if declared is not None and declared not in names:
            names[declared] = next(fresh)
    return [(names[local[node.start_byte]] if node.start_byte in local else text_of(node), node) for node in tokens]
