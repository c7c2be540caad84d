"""Invented knowledge graphs, and questions about them in English, as s-expressions, in SPARQL and in Cypher.

A `World` has a theme's classes and relations with some things. One abstract `Query` is drawn about it, answered by set
operations, and written in every notation. Notations are not read here, and nothing is run.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml

_DATA = yaml.safe_load(
    resources.files("symbol_llm.tasks.kg").joinpath("knowledge_graphs.yaml").read_text(encoding="utf-8")
)


class Link(NamedTuple):
    """A relation between two classes, and its wordings."""

    name: str
    subject: str
    object: str
    objects: str
    """A noun for the linked things: "makers" of a film."""
    to: Sequence[str]
    """Wording from subject to object."""
    back: Sequence[str]
    """Wording from object to subject."""


class World(NamedTuple):
    """A theme's classes, relations and measures, with things in them."""

    theme: str
    plural: Mapping[str, str]
    links: Sequence[Link]
    measures: Mapping[str, tuple[str, str]]
    """By identifier: class and name."""
    things: Mapping[str, Sequence[str]]
    """By class."""
    names: Mapping[str, str]
    pairs: Mapping[str, frozenset[tuple[str, str]]]
    """By relation, (subject, object)."""
    values: Mapping[str, Mapping[str, int]]
    """By measure and thing; all distinct."""


def world(rng: random.Random) -> World:
    """Return a theme with some six things per class, linked at random."""
    theme, data = rng.choice(list(_DATA["themes"].items()))
    names: dict[str, str] = {}
    things: dict[str, list[str]] = {}
    for class_, (_, _, kind) in data["classes"].items():
        things[class_] = []
        for _ in range(rng.randint(5, 7)):
            id_ = f"m.0{''.join(rng.choices('bcdfghjklmnpqrstvwxyz0123456789', k=rng.randint(3, 5)))}"
            name = _name(rng, kind)
            if id_ not in names and name not in names.values():
                names[id_] = name
                things[class_].append(id_)
    links = [Link(*row[:4], *(said.split("|") for said in row[4:])) for row in data["links"]]
    pairs = {
        link.name: frozenset(
            (s, o) for s in things[link.subject] for o in rng.sample(things[link.object], rng.randint(1, 2)) if s != o
        )
        for link in links
    }
    values = {
        name: dict(zip(things[class_], rng.sample(range(1, 400), len(things[class_])), strict=True))
        for name, class_, _ in data["numbers"]
    }
    plural = {class_: many for class_, (_, many, _) in data["classes"].items()}
    measures = {name: (class_, said) for name, class_, said in data["numbers"]}
    return World(theme, plural, links, measures, things, names, pairs, values)


_NAMES: Mapping[str, list[list[str]]] = {
    kind: [words.split() for words in parts] for kind, parts in _DATA["names"].items()
}


def _name(rng: random.Random, kind: str) -> str:
    first, second = (rng.choice(words) for words in _NAMES[kind])
    if kind == "topic":
        return f"{first}{second}".capitalize()
    return f"{first} {second}".title()


# --- abstract queries -------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """The condition that x is linked to something: x is the subject of the relation, or the object if `back`."""

    link: Link
    back: bool
    target: Found | str
    """An entity, or the things found by further conditions."""


class Bound(NamedTuple):
    """The condition that a measure of x compares by `sign` with a value."""

    measure: str
    sign: Literal["ge", "gt", "le", "lt"]
    number: int


class Found(NamedTuple):
    """The things of a class that meet all conditions."""

    class_: str
    conditions: tuple[Step | Bound, ...]


class Query(NamedTuple):
    """A question about the things found: all, how many, the one with most or least of a measure, its mean (Cypher)."""

    found: Found
    mode: Literal["list", "count", "most", "least", "mean"] = "list"
    measure: str = ""


SIGNS = {"ge": ("at least", ">="), "gt": ("more than", ">"), "le": ("at most", "<="), "lt": ("less than", "<")}


def things(w: World, found: Found) -> set[str]:
    """Return the things that `found` describes."""
    left = set(w.things[found.class_])
    for one in found.conditions:
        left &= _holding(w, one)
    return left


def _holding(w: World, one: Step | Bound) -> set[str]:
    if isinstance(one, Bound):
        holds: Callable[[int], bool] = {
            "ge": one.number.__le__, "gt": one.number.__lt__, "le": one.number.__ge__, "lt": one.number.__gt__
        }[one.sign]  # fmt: skip
        return {thing for thing, value in w.values[one.measure].items() if holds(value)}
    targets = {one.target} if isinstance(one.target, str) else things(w, one.target)
    pairs = w.pairs[one.link.name]
    return {o for s, o in pairs if s in targets} if one.back else {s for s, o in pairs if o in targets}


def answer(w: World, query: Query) -> list[Any]:
    """Return the answer to the query."""
    found = things(w, query.found)
    if query.mode == "count":
        return [len(found)]
    if query.mode == "list":
        return sorted(found)
    return [(max if query.mode == "most" else min)(found, key=w.values[query.measure].__getitem__)]


def draw(
    rng: random.Random, w: World, sizes: Sequence[int], bounds: int = 0, class_: str | None = None
) -> Found | None:
    """Return a description that some thing meets, or None: a step of each depth in `sizes`, and `bounds`."""
    classes = [class_] if class_ else sorted({of for of, _ in w.measures.values()} if bounds else w.things)
    for _ in range(20):
        found = _about(rng, w, rng.choice(w.things[rng.choice(classes)]), sizes, bounds, ())
        if found:
            return found
    return None


def _about(
    rng: random.Random, w: World, x: str, sizes: Sequence[int], bounds: int, used: tuple[str, ...]
) -> Found | None:
    class_ = next(class_ for class_, all_ in w.things.items() if x in all_)
    ways = [(link, back, y) for link in w.links for back in (False, True) for y in _linked(w, link, x, back)]
    rng.shuffle(ways)
    conditions: list[Step | Bound] = []
    for size in sizes:
        for link, back, y in ways:
            inner = _about(rng, w, y, (size - 1,), 0, (*used, link.name)) if size and link.name not in used else None
            if link.name not in used and (inner or not size):
                conditions.append(Step(link, back, inner or y))
                used = (*used, link.name)
                break
        else:
            return None
    for measure in [measure for measure, (of, _) in w.measures.items() if of == class_][:bounds]:
        sign: Any = rng.choice(list(SIGNS))
        just = w.values[measure][x] + {"ge": 0, "gt": -1, "le": 0, "lt": 1}[sign]  # so that one more or less matters
        conditions.append(Bound(measure, sign, just))
    rng.shuffle(conditions)
    return Found(class_, tuple(conditions))


def _linked(w: World, link: Link, x: str, back: bool) -> list[str]:
    return sorted(s if back else o for s, o in w.pairs[link.name] if x == (o if back else s))


# --- English ----------------------------------------------------------------------------------------------------------

WHICH: Sequence[str] = _DATA["which"]
OF: Sequence[str] = _DATA["of"]
ASK: Mapping[str, Sequence[str]] = _DATA["ask"]


def english(rng: random.Random, w: World, query: Query) -> str:
    """Return a question."""
    found = query.found
    said, many = _conditions(rng, w, found), w.plural[found.class_]
    if query.mode != "list":
        return rng.choice(ASK[query.mode]).format(many, said, query.measure and w.measures[query.measure][1])
    match found.conditions:
        case (Step(link, True, target),) if rng.random() < 0.5:
            return rng.choice(OF).format(link.objects, _target(rng, w, target))
    return rng.choice(WHICH if ", and that " not in said else WHICH[1:]).format(many, said)


def _conditions(rng: random.Random, w: World, found: Found) -> str:
    """Return the conditions of `found` in words, nested ones last, so that none is read as part of them."""
    said = []
    for one in sorted(found.conditions, key=_is_nested):
        if isinstance(one, Bound):
            said.append(f"have a {w.measures[one.measure][1]} of {SIGNS[one.sign][0]} {one.number}")
        else:
            said.append(f"{rng.choice(one.link.back if one.back else one.link.to)} {_target(rng, w, one.target)}")
    return (", and that " if sum(map(_is_nested, found.conditions)) > 1 else " and ").join(said)


def _is_nested(one: Step | Bound) -> bool:
    return isinstance(one, Step) and isinstance(one.target, Found)


def _target(rng: random.Random, w: World, target: Found | str) -> str:
    return (
        w.names[target] if isinstance(target, str) else f"{w.plural[target.class_]} that {_conditions(rng, w, target)}"
    )


# --- notations --------------------------------------------------------------------------------------------------------


def sexpr(w: World, query: Query, *, classes: bool) -> str:
    """Return the s-expression, with the class of the things found if `classes`."""
    text = _sexpr(query.found)
    text = f"(AND {w.theme}.{query.found.class_} {text})" if classes else text
    match query.mode:
        case "count":
            return f"(COUNT {text})"
        case "most" | "least":
            return f"({'ARGMAX' if query.mode == 'most' else 'ARGMIN'} {text} {query.measure})"
    return text


def _sexpr(found: Found) -> str:
    text = ""
    for one in reversed(found.conditions):
        if isinstance(one, Bound):
            part = f"({one.sign} {one.measure} {one.number}^^xsd:integer)"
        else:
            target = one.target if isinstance(one.target, str) else _sexpr(one.target)
            part = f"(JOIN {f'(R {one.link.name})' if one.back else one.link.name} {target})"
        text = f"(AND {part} {text})" if text else part
    return text


def sparql(query: Query) -> str:
    """Return the SPARQL query."""
    lines, filters = list[str](), list[str]()
    _triples(query.found, "?x", lines, filters, iter("yzuvwabcdefgh"))
    end = ""
    if query.mode in ("most", "least"):
        lines.append(f"?x ns:{query.measure} ?n .")
        end = f" ORDER BY {'DESC' if query.mode == 'most' else 'ASC'}(?n) LIMIT 1"
    return f"SELECT DISTINCT ?x WHERE {{ {' '.join([*lines, *filters])} }}{end}"


def _triples(found: Found, x: str, lines: list[str], filters: list[str], fresh: Iterator[str]) -> None:
    for one in found.conditions:
        y = f"?{next(fresh)}" if isinstance(one, Bound) or isinstance(one.target, Found) else f"ns:{one.target}"
        if isinstance(one, Bound):
            lines.append(f"{x} ns:{one.measure} {y} .")
            filters.append(f"FILTER({y} {SIGNS[one.sign][1]} {one.number})")
            continue
        lines.append(f"{y} ns:{one.link.name} {x} ." if one.back else f"{x} ns:{one.link.name} {y} .")
        if isinstance(one.target, Found):
            _triples(one.target, y, lines, filters, fresh)


def cypher(w: World, query: Query) -> str:
    """Return the Cypher query."""
    patterns, filters = list[str](), list[str]()
    _patterns(w, query.found, "x", patterns, filters, iter("yzuvwabcdefgh"))
    where = f" WHERE {' AND '.join(filters)}" if filters else ""
    start = f"MATCH {', '.join(patterns)}{where} RETURN "
    match query.mode:
        case "count":
            return f"{start}count(DISTINCT x)"
        case "mean":
            return f"{start}avg(x.{last_part(query.measure)})"
        case "most" | "least":
            order = "DESC" if query.mode == "most" else "ASC"
            return f"{start}x.name ORDER BY x.{last_part(query.measure)} {order} LIMIT 1"
    return f"{start}DISTINCT x.name"


def _patterns(w: World, found: Found, x: str, patterns: list[str], filters: list[str], fresh: Iterator[str]) -> None:
    near = f"({x}:{label(found.class_)})"
    if not any(isinstance(one, Step) for one in found.conditions):
        patterns.append(near)
    for one in found.conditions:
        if isinstance(one, Bound):
            filters.append(f"{x}.{last_part(one.measure)} {SIGNS[one.sign][1]} {one.number}")
            continue
        of = label(one.link.subject if one.back else one.link.object)
        y = next(fresh) if isinstance(one.target, Found) else ""
        far = f"({y}:{of})" if y else f"(:{of} {{name: '{w.names[str(one.target)]}'}})"
        edge = f"-[:{last_part(one.link.name).upper()}]-"
        patterns.append(f"{near}<{edge}{far}" if one.back else f"{near}{edge}>{far}")
        near = f"({x})"
        if isinstance(one.target, Found):
            inner = list[str]()
            _patterns(w, one.target, y, inner, filters, fresh)
            patterns += [pattern.replace(f"({y}:{of})", f"({y})", 1) for pattern in inner]


def last_part(name: str) -> str:
    """Return the part after the last dot of an identifier."""
    return name.rpartition(".")[2]


def label(class_: str) -> str:
    """Return the Cypher label of a class."""
    return class_.capitalize()
