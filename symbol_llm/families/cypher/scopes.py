"""Scopes of a Cypher query: which variable is which. Also rewrites the patterns of MATCH in a uniform way.

It works on the trees of `cypher/parser.py`, in place.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from symbol_llm.families.cypher.parser import Tree, nodes, printed_name


def resolve(query: Tree) -> None:
    """Give every variable of `query` a name of its own, and rewrite patterns of MATCH in a uniform way."""
    _Resolver(query)


class _Resolver:
    """Gives every variable of a query a name of its own, and rewrites patterns of MATCH in a uniform way."""

    def __init__(self, query: Tree) -> None:
        self._n = 0
        self._star = any(node == ["star", "*"] for node in nodes(query) if node[0] == "star")
        self._scope: dict[str, str] = {}
        for part in query[1:]:
            if not isinstance(part, str):
                self._scope = {}
                for clause in part:
                    self._clause(clause)

    def _declare(self, name: str) -> str:
        self._n += 1
        self._scope[name] = f"{name}#{self._n}"
        return self._scope[name]

    def _clause(self, clause: Tree) -> None:
        match clause[0]:
            case "match" | "create":
                self._bind_patterns(clause[-1] if clause[0] == "create" else clause[2])
                if clause[0] == "match":
                    self._visit(clause[3])
                    if not self._star:
                        self._spread(clause)
            case "merge":
                self._bind_patterns([clause[1]])
                for _, action in clause[2]:
                    self._visit(action)
            case "with":
                self._project(clause)
            case "return":
                self._return(clause)
            case "unwind":
                self._visit(clause[1])
                clause[2][1] = self._declare(clause[2][1])
            case "call":
                self._visit(clause[2])
                for output in clause[3]:
                    output[1][1] = self._declare(output[1][1])
                self._visit(clause[4])
            case _:
                self._visit(clause[1])

    def _bind_patterns(self, patterns: list[Tree]) -> None:
        for pattern in patterns:
            for variable in [pattern[1], *(part[1] for part in pattern[3])]:
                if variable and variable[1] not in self._scope:
                    self._declare(variable[1])
        self._visit(patterns)

    def _project(self, clause: Tree) -> None:
        """Read WITH: variables that it does not name go out of scope, and a reused name is another variable."""
        before = dict(self._scope)
        kept: dict[str, str] = dict(before) if ["star", "*"] in clause[2] else {}
        new: dict[str, str] = {}
        for item in clause[2]:
            if item[0] == "var" and item[1] in before:
                kept[item[1]] = before[item[1]]
            if item[0] == "as":
                self._visit(item[1])
                if item[1][0] == "var" and self._scope.get(item[2][1]) == item[1][1]:
                    new[item[2][1]] = item[1][1]
                else:
                    self._n += 1
                    new[item[2][1]] = f"{item[2][1]}#{self._n}"
                item[2][1] = new[item[2][1]]
            else:
                self._visit(item)
        self._scope = {**before, **kept, **new}
        self._visit(clause[3:6])
        self._scope = {**kept, **new}
        self._visit(clause[6])

    def _return(self, clause: Tree) -> None:
        """Read RETURN: names of columns do not count, so expand those that ORDER BY uses."""
        columns: dict[str, Tree] = {}
        for n, item in enumerate(clause[2]):
            if item[0] == "as":
                columns[item[2][1]] = clause[2][n] = item[1]
        self._visit(clause[2])
        clause[3] = self._written_out(clause[3], columns)
        self._visit(clause[3:])

    def _written_out(self, tree: Any, columns: Mapping[str, Tree]) -> Any:
        if not isinstance(tree, list):
            return tree
        if tree[:1] == ["var"]:
            return copy.deepcopy(columns.get(tree[1], tree))
        return [self._written_out(part, columns) for part in tree]

    def _visit(self, tree: Any) -> None:
        if not isinstance(tree, list) or not tree:
            return
        match tree[0]:
            case "var":
                if tree[1] in self._scope:
                    tree[1] = self._scope[tree[1]]
                elif "#" not in tree[1]:
                    tree[0] = "free"
            case "each" | "reduce":
                self._visit_local(tree)
            case "pattern":
                outer = dict(self._scope)
                for variable in [tree[1], *(part[1] for part in tree[3])]:
                    if variable and variable[1] not in self._scope and "#" not in variable[1]:
                        self._declare(variable[1])
                for part in tree[1:]:
                    self._visit(part)
                self._scope = outer
            case _:
                for part in tree:
                    self._visit(part)

    def _visit_local(self, tree: Tree) -> None:
        outer = dict(self._scope)
        own = [tree[1], tree[3]] if tree[0] == "reduce" else [tree[2]]
        outside = [tree[2], tree[4]] if tree[0] == "reduce" else [tree[3]]
        for part in outside:
            self._visit(part)
        for variable in own:
            variable[1] = self._declare(variable[1])
        for part in [tree[5]] if tree[0] == "reduce" else tree[4:]:
            self._visit(part)
        self._scope = outer

    def _spread(self, clause: Tree) -> None:
        """Split patterns into single edges, name unnamed parts, and turn labels and properties into conditions."""
        _, _, patterns, conditions = clause
        _type_edges(patterns, conditions)
        pieces: list[Tree] = []
        lone: list[Tree] = []
        for pattern in patterns:
            parts = [self._stripped(part, conditions) for part in pattern[3]]
            if pattern[1] is not None or pattern[2] is not None:
                pieces.append(["pattern", pattern[1], pattern[2], parts])
            elif len(parts) == 1:
                lone.append(["pattern", None, None, parts])
            else:
                pieces += [["pattern", None, None, parts[n : n + 3]] for n in range(0, len(parts) - 2, 2)]
        clause[3] = [single for condition in conditions for single in _single_labels(condition)]
        placed = {part[1][1] for piece in pieces for part in piece[3] if part[0] == "node"}
        clause[2] = [*pieces, *(piece for piece in lone if piece[3][0][1][1] not in placed)]

    def _stripped(self, part: Tree, conditions: list[Tree]) -> Tree:
        if part[1] is None and (part[0] == "node" or not part[3]):
            self._n += 1
            part[1] = ["var", f"#{self._n}"]
        is_node, properties = part[0] == "node", part[-1] if part[0] == "node" else part[4]
        if is_node and part[2]:
            conditions.append(["labels", list(part[1]), part[2]])
        if (is_node or not part[3]) and properties and properties[0] == "map":
            conditions += [["op", "=", ["property", list(part[1]), key[1]], value] for key, value in properties[1:]]
            properties = None
        return ["node", part[1], (), properties] if is_node else [*part[:4], properties, part[5]]


def _type_edges(patterns: list[Tree], conditions: list[Tree]) -> None:
    """Move into the untyped edges of `patterns` the types that `conditions` ask of them, once each."""
    parts = [part for pattern in patterns if pattern[2] is None for part in pattern[3]]
    edges = [part for part in parts if part[0] == "edge" and part[1] and not part[3]]
    for condition in list(conditions):
        variable, types = _asked_types(condition)
        asked = [edge for edge in edges if edge[1] == variable]
        if len(asked) == 1 and asked[0][2] in ((), types):
            asked[0][2] = types
            conditions.remove(condition)


def _asked_types(condition: Tree) -> tuple[Tree | None, tuple[str, ...]]:
    """Return the variable and the types of `r:plays`, `type(r) = "plays"` or `type(r) IN ["plays", "likes"]`, if it is one."""
    match condition:
        case ["labels", variable, (label,)]:
            return variable, (label,)
        case ["op", "=", ["literal", _] as name, ["call", "type", False, [variable]]]:
            names = [name]
        case ["op", "=", ["call", "type", False, [variable]], ["literal", _] as name]:
            names = [name]
        case ["op", "IN", ["call", "type", False, [variable]], ["list", *names]]:
            pass
        case _:
            return None, ()
    if not names or not all(name[0] == "literal" and name[1].startswith('"') for name in names):
        return None, ()
    return variable, tuple(sorted({printed_name(json.loads(name[1])) for name in names}))


def _single_labels(condition: Tree) -> list[Tree]:
    if condition[0] != "labels":
        return [condition]
    return [["labels", list(condition[1]), (label,)] for label in condition[2]]
