"""One way for each notation to say whether a program is right, other than the verifier's.

| Notation | The verifier | The second method |
|---|---|---|
| amr | penman, colour refinement and hill climbing | smatch's reader, and graph isomorphism by VF2 (networkx) |
| fol | Z3 | cvc5 |
| plan | a simulator of ours | the reader and the validator of unified-planning |
| regex | Brzozowski derivatives | automata of greenery, from a reader of its own |
| smiles | RDKit | Indigo |
| sql | SQLite | DuckDB, on databases made at random |

All but `fol` read the program on their own; `fol` shares the reader and proves with another prover. Programs come from
models, so all of this runs in the sandbox. An entry returns whether the program is right; it raises ValueError where it
cannot say, as for what the other library does not know. Nothing here aligns names or accepts other spellings.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.second import databases
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.notation import logic
from symbol_llm.sandbox import executor

LIMITS = Limits(timeout_s=30, memory_mib=2048)


class Opinion(NamedTuple):
    """What a second method says."""

    is_right: bool | None
    """None where it cannot say."""
    why: str = ""


class Undecided(ValueError):
    """The method cannot say."""


def ask(problem: Problem, program: str, limits: Limits = LIMITS) -> Opinion:
    """Return what the second method of the problem's family says of `program`; KeyError where there is none."""
    entry = METHODS[problem.family]
    database = problem.environment.get("database")
    args = {"program": program, "gold": problem.program, "environment": problem.environment}
    outcome = executor.run(
        f"{__name__}:{entry.__name__}",
        args,
        limits,
        readable=[Path(database)] if database else (),
        preload=(f"{__name__}:warm_up",),
    )
    if outcome.status != "ok":
        return Opinion(None, f"{outcome.status}: {outcome.detail}")
    return Opinion(outcome.value)


def warm_up() -> None:
    """Import what the methods need and have it set itself up, once for all children."""
    import cvc5
    import networkx
    import smatch  # type: ignore[import-untyped]
    import unified_planning.engines
    import unified_planning.io

    del cvc5, networkx, smatch, unified_planning
    databases.engine()
    _indigo()
    same_language({"gold": "a", "program": "[ab]", "environment": {}})


# --- amr --------------------------------------------------------------------------------------------------------------


def same_graph(args: Mapping[str, Any]) -> bool:
    """Return whether two AMR graphs are isomorphic."""
    from networkx.algorithms.isomorphism import DiGraphMatcher, categorical_node_match

    gold = _graph(args["gold"])
    if gold is None:
        raise Undecided("smatch does not read gold")
    given = _graph(args["program"])
    if given is None:
        return False
    return bool(DiGraphMatcher(gold, given, node_match=categorical_node_match("label", None)).is_isomorphic())


def _graph(text: str) -> Any:
    """Return a graph with a node for each variable, for each constant where it is used, and for each triple; None if unread."""
    import networkx
    from smatch import amr

    text = re.sub(r"~e\.[\d,]+", "", text)
    text = re.sub(r'"[^"]*"', lambda quoted: quoted[0].replace(" ", "_"), text)  # at which the reader would stop
    read = amr.AMR.parse_AMR_line(" ".join(text.split()))
    if read is None:
        return None
    instances, attributes, relations = read.get_triples()
    graph = networkx.DiGraph()
    for _, variable, concept in instances:
        graph.add_node(("variable", variable), label=f"variable {concept.lower()}")
    triples = {(role.lower(), start, ("constant", value.lower().strip('"'))) for role, start, value in attributes}
    for role, start, end in relations:
        # `:domain` is the inverse of `:mod` (AMR guidelines).
        triples.add(("mod", end, ("variable", start)) if role == "domain" else (role.lower(), start, ("variable", end)))
    for triple in triples:
        role, start, end = triple
        if end[0] == "constant":
            end = ("constant", triple)
            graph.add_node(end, label=f"constant {'' if role == 'top' else triple[2][1].rstrip('_')}")
        graph.add_node(("triple", triple), label=f"role {role}")
        graph.add_edge(("variable", start), ("triple", triple))
        graph.add_edge(("triple", triple), end)
    return graph


# --- fol --------------------------------------------------------------------------------------------------------------


def equivalent(args: Mapping[str, Any]) -> bool:
    """Return whether cvc5 proves two formulas equivalent; names are the same if their letters and digits are."""
    import cvc5

    manager = cvc5.TermManager()
    terms = [_conjunction(manager, args[side]) for side in ("gold", "program")]
    for option in ("finite-model-find", "full-saturate-quant"):  # for what is satisfiable, for what is not
        solver = cvc5.Solver(manager)
        solver.setLogic("ALL")
        solver.setOption(option, "true")
        solver.setOption("tlimit-per", "8000")
        solver.assertFormula(manager.mkTerm(cvc5.Kind.DISTINCT, *terms))
        found = solver.checkSat()
        if not found.isUnknown():
            return bool(found.isUnsat())
    raise Undecided("cvc5 gave up")


def _conjunction(manager: Any, program: str) -> Any:
    import cvc5

    names = logic.Names({}, set())
    parts = [_term(manager, logic.parse(text, names), {}) for _, text in logic.statements(program)]
    return parts[0] if len(parts) == 1 else manager.mkTerm(cvc5.Kind.AND, *parts)


_KINDS = {"not": "NOT", "and": "AND", "or": "OR", "xor": "XOR", "implies": "IMPLIES", "iff": "EQUAL", "=": "EQUAL"}


def _term(manager: Any, node: list[Any], bound: Mapping[str, Any]) -> Any:
    import cvc5

    match node:
        case ["variable", name]:
            return bound[name]
        case ["constant", name]:
            return _symbol(manager, f"constant {_plain(name)}", 0)
        case ["atom", name, *terms]:
            predicate = _symbol(manager, f"predicate {_plain(name)}", len(terms), is_predicate=True)
            given = [_term(manager, term, bound) for term in terms]
            return manager.mkTerm(cvc5.Kind.APPLY_UF, predicate, *given) if given else predicate
        case ["all" | "exists" as quantifier, name, body]:
            variable = manager.mkVar(_things(manager), name)
            kind = cvc5.Kind.FORALL if quantifier == "all" else cvc5.Kind.EXISTS
            variables = manager.mkTerm(cvc5.Kind.VARIABLE_LIST, variable)
            return manager.mkTerm(kind, variables, _term(manager, body, {**bound, name: variable}))
    parts = [_term(manager, part, bound) for part in node[1:]]
    return manager.mkTerm(getattr(cvc5.Kind, _KINDS[node[0]]), *parts)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


@functools.cache
def _things(manager: Any) -> Any:
    return manager.mkUninterpretedSort("Thing")


@functools.cache
def _symbol(manager: Any, name: str, n_terms: int, is_predicate: bool = False) -> Any:
    sort = manager.getBooleanSort() if is_predicate else _things(manager)
    return manager.mkConst(manager.mkFunctionSort([_things(manager)] * n_terms, sort) if n_terms else sort, name)


# --- plan -------------------------------------------------------------------------------------------------------------


def valid_plan(args: Mapping[str, Any]) -> bool:
    """Return whether unified-planning's validator accepts a plan; one that it cannot read is not valid."""
    from unified_planning.engines import SequentialPlanValidator
    from unified_planning.exceptions import UPException
    from unified_planning.io import PDDLReader

    reader = PDDLReader()
    environment = args["environment"]
    problem = reader.parse_problem_string(environment["domain"], environment["problem"])
    names = environment.get("names", {})
    plan = re.sub(r"[^\s()]+", lambda word: names.get(word[0], word[0]), args["program"].lower())
    try:
        steps = reader.parse_plan_string(problem, plan)
        return bool(SequentialPlanValidator().validate(problem, steps))
    except (UPException, AssertionError, KeyError):  # an action, an object or a number of them that there is not
        return False


# --- regex ------------------------------------------------------------------------------------------------------------


def same_language(args: Mapping[str, Any]) -> bool:
    """Return whether greenery's automata of two expressions accept the same texts."""
    dialect = args["environment"].get("dialect", "python")
    if args["environment"].get("match", "full") != "full":
        raise Undecided("only whole matches are compared")
    gold = automaton(args["gold"], dialect)
    return bool(gold.equivalent(automaton(args["program"], dialect)))


def automaton(text: str, dialect: str) -> Any:
    """Return greenery's automaton of an expression."""
    import greenery

    if dialect == "python":
        return greenery.parse(text).to_fsm()
    return _Reader(text).all()


class _Reader:
    """Reads NL-RX: `|` is the loosest, then `&`, then sequence; `~` is the complement of the next item."""

    _CLASSES: Mapping[str, str] = {
        "<VOW>": "[AEIOUaeiou]", "<NUM>": "[0-9]", "<LET>": "[A-Za-z]", "<CAP>": "[A-Z]", "<LOW>": "[a-z]",
    }  # fmt: skip
    _ITEM = re.compile(r"<[A-Z]{3}>|\[(?:\\.|[^\]\\])+\]|\\.|[\w .,:;'\"!@#%=/<>-]")
    _REPEAT = re.compile(r"\*|\+|\?|\{(\d+)(,?)(\d*)\}")

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def all(self) -> Any:
        found = self._joined("|", lambda: self._joined("&", self._sequence))
        if self._at < len(self._text):
            raise Undecided(f"column {self._at + 1}: {self._text[self._at]!r}")
        return found.reduce()

    def _joined(self, sign: str, part: Callable[[], Any]) -> Any:
        found = part()
        while self._text.startswith(sign, self._at):
            self._at += 1
            found = (found | part() if sign == "|" else found & part()).reduce()
        return found

    def _sequence(self) -> Any:
        found = self._item()
        while self._at < len(self._text) and self._text[self._at] not in "|&)":
            found = (found + self._item()).reduce()
        return found

    def _item(self) -> Any:
        import greenery

        if self._text.startswith("~", self._at):
            self._at += 1
            return self._item().everythingbut()
        if self._text.startswith("(", self._at):
            self._at += 1
            found = self._joined("|", lambda: self._joined("&", self._sequence))
            if not self._text.startswith(")", self._at):
                raise Undecided(f"column {self._at + 1}: expected )")
            self._at += 1
        else:
            item = self._ITEM.match(self._text, self._at)
            if not item or item[0] in (r"\b", r"\B"):
                raise Undecided(f"column {self._at + 1}: not read")
            self._at = item.end()
            found = greenery.parse(self._CLASSES.get(item[0], item[0])).to_fsm()
        while repeat := self._REPEAT.match(self._text, self._at):
            self._at = repeat.end()
            found = self._repeated(found, repeat)
        return found

    @staticmethod
    def _repeated(found: Any, repeat: re.Match[str]) -> Any:
        import greenery

        if repeat[0] in "*+?":
            return {
                "*": found.star,
                "+": lambda: found + found.star(),
                "?": lambda: found | greenery.parse("").to_fsm(),
            }[repeat[0]]()
        least = int(repeat[1])
        head = found.times(least)
        if not repeat[2]:
            return head
        if not repeat[3]:
            return head + found.star()
        maybe = found | greenery.parse("").to_fsm()
        return head + maybe.times(int(repeat[3]) - least)


# --- smiles -----------------------------------------------------------------------------------------------------------


@functools.cache
def _indigo() -> Any:
    from indigo import Indigo

    return Indigo()


def same_molecule(args: Mapping[str, Any]) -> bool:
    """Return whether Indigo matches two molecules atom by atom, with stereochemistry, isotopes and charges."""
    from indigo import IndigoException

    try:
        gold = molecule(args["gold"])
    except IndigoException as e:
        raise Undecided(f"gold: {e}") from e
    try:
        given = molecule(args["program"])
    except IndigoException:
        return False
    return _indigo().exactMatch(gold, given, "ALL") is not None


def molecule(text: str) -> Any:
    """Return Indigo's molecule of a SMILES, without explicit hydrogens and with aromatic bonds."""
    found = _indigo().loadMolecule(text.strip())
    found.foldHydrogens()
    found.aromatize()
    return found


# --- sql --------------------------------------------------------------------------------------------------------------


def same_rows(args: Mapping[str, Any]) -> bool:
    """Return whether DuckDB gives gold's rows on the given database and on those made at random; see `databases.py`."""
    environment = args["environment"]
    golds = environment.get("gold") or [args["gold"]]
    return any(databases.agree(args["program"], gold, environment) for gold in golds)


METHODS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "amr": same_graph,
    "fol": equivalent,
    "plan": valid_plan,
    "regex": same_language,
    "smiles": same_molecule,
    "sql": same_rows,
}
