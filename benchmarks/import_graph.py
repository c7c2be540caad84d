"""Counts and draws the import graph of the library: rooms, arrows between them, and cycles.

    python -m benchmarks.import_graph .                                    # the working tree
    git archive 2dba2f2 symbol_llm | tar -x -C DIR && python -m benchmarks.import_graph DIR --svg before.svg

A room is a package or module directly below `symbol_llm`; an arrow from one to another means that at least one module of
the first imports at least one of the second. The graph is grimp's, the one that import-linter checks. The package's own
`__init__.py`, which holds the version, is left out.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import click
import grimp

from symbol_llm.ground import files, outputs

PACKAGE = "symbol_llm"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" data-of="import_graph"'
"""How the drawings begin."""
WIDTH, BOX, ROW = 1000, 26, 62
"""Pixels: of the drawing, of a box's height, from one row of boxes to the next."""


class Graph(NamedTuple):
    """The rooms with their number of modules, and the arrows with the number of imports behind each."""

    rooms: Mapping[str, int]
    arrows: Mapping[tuple[str, str], int]

    def below(self, room: str) -> set[str]:
        """Return the rooms that can be reached from `room`; itself among them only if it is in a cycle."""
        found: set[str] = set()
        due = [room]
        while due:
            now = due.pop()
            new = {to for start, to in self.arrows if start == now} - found
            found |= new
            due += new
        return found

    def cycles(self) -> list[set[str]]:
        """Return the sets of rooms that reach one another, largest first."""
        below = {room: self.below(room) for room in self.rooms}
        found = {frozenset(r for r in below[room] if room in below[r]) for room in self.rooms if room in below[room]}
        return sorted((set(one) for one in found), key=lambda one: (-len(one), sorted(one)))

    def counts(self) -> dict[str, int]:
        """Return the figures of the graph."""
        return {
            "modules": sum(self.rooms.values()),
            "rooms": len(self.rooms),
            "arrows": len(self.arrows),
            "imports": sum(self.arrows.values()),
            "cycles": len(self.cycles()),
            "rooms_in_cycles": sum(map(len, self.cycles())),
        }


def read(folder: Path) -> Graph:
    """Return the graph of the package in `folder`."""
    known, path = dict(sys.modules), list(sys.path)
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]  # so that the package of `folder` is found, not one imported before
    sys.path.insert(0, str(folder.absolute()))
    try:
        graph = grimp.build_graph(PACKAGE, cache_dir=None)
    finally:
        sys.path[:] = path
        sys.modules.update(known)
    modules = sorted(graph.modules - {PACKAGE})
    arrows: Counter[tuple[str, str]] = Counter()
    for module in modules:
        for imported in graph.find_modules_directly_imported_by(module) - {PACKAGE}:
            if _room(module) != _room(imported):
                arrows[_room(module), _room(imported)] += 1
    return Graph(Counter(map(_room, modules)), arrows)


def _room(module: str) -> str:
    return module.split(".")[1]


def svg(graph: Graph) -> str:
    """Return a drawing in which every arrow points down, but for those that close a cycle, which are red."""
    places = _places(graph)
    height = max(y for _, y in places.values()) + 2 * BOX
    parts = [f'{SVG} viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">']
    parts.append(f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>')
    for (start, to), n in sorted(graph.arrows.items()):
        (x1, y1), (x2, y2) = places[start], places[to]
        colour, opacity = ("#4a5568", 0.35) if y1 < y2 else ("#c53030", 0.9)
        ends = f'x1="{x1}" y1="{y1 + BOX // 2}" x2="{x2}" y2="{y2 - BOX // 2}"'
        parts.append(
            f'<line {ends} stroke="{colour}" stroke-opacity="{opacity}"><title>{start} to {to}: {n}</title></line>'
        )
    for room, (x, y) in sorted(places.items()):
        wide = 7 * len(room) + 14
        box = f'x="{x - wide / 2}" y="{y - BOX // 2}" width="{wide}" height="{BOX}"'
        parts.append(f'<rect {box} rx="5" fill="#ebf4ff" stroke="#2b6cb0"/>')
        parts.append(f'<text x="{x}" y="{y + 4}" font-size="12" text-anchor="middle">{room}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _places(graph: Graph) -> dict[str, tuple[int, int]]:
    """Return the middle of each room's box: a row above all that it imports, rooms of one cycle in one row."""
    below = {room: graph.below(room) for room in graph.rooms}
    level: dict[str, int] = {}
    for room in sorted(graph.rooms, key=lambda r: len(below[r])):
        level[room] = 1 + max((level[r] for r in below[room] if room not in below[r]), default=-1)
    rows: dict[int, list[str]] = {}
    for room in sorted(graph.rooms):
        rows.setdefault(level[room], []).append(room)
    places = {}
    for number, row in rows.items():
        for n, room in enumerate(row):
            places[room] = (round(WIDTH * (n + 1) / (len(row) + 1)), BOX + ROW * (max(rows) - number))
    return places


def table(columns: Iterable[tuple[str, Graph]]) -> str:
    """Return the figures of several graphs as a Markdown table."""
    named = [(name, graph.counts()) for name, graph in columns]
    lines = ["| | " + " | ".join(name for name, _ in named) + " |", "|---|" + "---|" * len(named)]
    for key in named[0][1]:
        lines.append(f"| {key.replace('_', ' ')} | " + " | ".join(str(counts[key]) for _, counts in named) + " |")
    return "\n".join(lines)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--svg", "drawing", type=click.Path(path_type=Path, dir_okay=False), help="Draw the last graph here.")
def main(folders: tuple[Path, ...], drawing: Path | None) -> None:
    """Print the figures of the import graph of the package in each of FOLDERS, side by side."""
    graphs = [(str(folder), read(folder)) for folder in folders]
    click.echo(table(graphs))
    for name, graph in graphs:
        for cycle in graph.cycles():
            click.echo(f"cycle in {name}: {', '.join(sorted(cycle))}")
    if drawing is not None:
        outputs.refuse_file(drawing, lambda text: text.startswith(SVG.encode()))
        files.write_text(drawing, svg(graphs[-1][1]))


if __name__ == "__main__":
    main()
