"""The collection: problems of the chosen tasks, cleaned, split, with checked gold, and a data card.

Every row is in `train.jsonl`, `dev.jsonl` or `test.jsonl`, or in `dropped.jsonl` with a reason, unless a cap left it out.
Which rows a cap keeps, and which become dev or test problems, depends on their content, never on their position.
Training rows wait on disk, so that memory holds only an id and a few hashes of each.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from symbol_llm import families
from symbol_llm.collection import sources, symbolic_collection
from symbol_llm.collection.card import write_card
from symbol_llm.collection.cleaning import Cleaner
from symbol_llm.collection.near_duplicates import Copies, Words, text_of
from symbol_llm.engines.prompts import messages
from symbol_llm.ground import provenance
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import Ledger, hash_path, read_records, write_records
from symbol_llm.ground.outputs import LEDGERS, building, state_dir
from symbol_llm.ground.params import Collect
from symbol_llm.ground.problems import with_database
from symbol_llm.ground.progress import track
from symbol_llm.ground.records import GeneralItem, Problem, Split, TrainingRow, content_id
from symbol_llm.tasks import (
    SPLITS,
    Chosen,
    Generator,
    Task,
    all_tasks,
    commercial,
    domain_of,
    general,
    get,
    in_domain,
    tolerating,
)

GENERATED = {"train": 100, "dev": 25, "test": 25}
SPARE = 1.1
"""Problems generated for each one wanted, so that enough remain when some are dropped."""
GENERAL_SPLITS: tuple[Split, ...] = ("train", "test")
"""No choice is made by general ability, so it needs no dev rows."""
MAX_DRAWS = 20
"""Draws for each distinct problem wanted before a generator counts as exhausted."""
DATABASES = "databases"

logger = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a training row is stored until it is needed."""

    id: str
    offset: int
    has_gold: bool


class Shelf:
    """Problems on disk, each found again by its offset."""

    def __init__(self, file: IO[bytes]) -> None:
        """Write to and read from `file`, which must be empty."""
        self._file, self._end = file, 0

    def put(self, row: Problem) -> Place:
        """Store `row`."""
        line = row.model_dump_json().encode() + b"\n"
        self._file.seek(self._end)
        self._file.write(line)
        self._end += len(line)
        return Place(row.id, self._end - len(line), row.program is not None)

    def get(self, place: Place) -> Problem:
        """Return the row that `put` stored there."""
        self._file.seek(place.offset)
        return Problem.model_validate_json(self._file.readline())


def collect(out: Path, params: Collect) -> dict[str, float]:
    """Build the collection `out`; return counts.

    If restarted with the same parameters after an interruption, it resumes judging gold and writes the same bytes.
    InvalidInput for an unknown task, a missing folder, too many malformed rows, or a task with an empty split.
    """
    source = sources.find(params.source) if params.source else None
    folder = source.place if source else None
    params = params.model_copy(update={"source": source.reference}) if source else params
    mixed = symbolic_collection.sort(folder) if folder and folder.is_file() else None
    chosen = _chosen(params, folder, mixed)
    made_from = params.model_dump(mode="json"), provenance.identity()
    path = state_dir() / LEDGERS / f"collect-{content_id(*made_from)}.jsonl"
    read = {"source": folder, "written": params.written}
    with (
        building(out, "collect", params, read) as draft,
        tempfile.TemporaryFile(dir=draft.folder) as file,
        Ledger(path) as ledger,
    ):
        draft.ledger = path.name
        cleaner = Cleaner(params, ledger, [one.task.name for one in chosen])
        _note_unrouted(mixed, cleaner)
        rows = _read(chosen, Shelf(file), cleaner, params)
        general_items = _general(params, folder)
        cleaner.hold_against("test", [*(row for one in rows.test.values() for row in one), *general_items["test"]])
        cleaner.hold_against("dev", [row for one in rows.dev.values() for row in one])
        kept = {one.task.name: _kept(one, rows, cleaner, params) for one in track(chosen, "cleaning and checking")}
        chosen = _whole(chosen, rows, kept, cleaner, params)
        numbers = _write(draft.folder, kept, rows.shelf, params) | _write_rest(draft.folder, general_items, cleaner)
        draft.metrics = numbers | write_card(draft.folder, chosen, numbers, params)
        draft.inputs = {symbolic_collection.NAME if mixed else one.task.name: one.folder for one in chosen}
        draft.inputs |= {**_general_folders(params, folder), "written": params.written}
    return draft.metrics


def _note_unrouted(mixed: symbolic_collection.Sorted | None, cleaner: Cleaner) -> None:
    if mixed is None or not mixed.left:
        return
    n, (line, why) = len(mixed.left) + sum(map(len, mixed.tasks.values())), mixed.left[0]
    logger.warning(
        "%d of %d rows are of no task, such as line %d (%s); see dropped.jsonl", len(mixed.left), n, line, why
    )
    for line, why in mixed.left:
        cleaner.unrouted(f"{symbolic_collection.NAME} line {line}", why)


# --- reading and generating ----------------------------------------------------------------------------------------


def choose(params: Collect) -> list[Chosen]:
    """Return the tasks that `params` asks for, sorted by name.

    MissingDependency if the library of a task's notation is missing and the task was asked for by name; else it is
    left out.
    """
    place = sources.find(params.source).place if params.source else None
    return _chosen(params, place, symbolic_collection.sort(place) if place and place.is_file() else None)


def _chosen(params: Collect, source: Path | None, mixed: symbolic_collection.Sorted | None) -> list[Chosen]:
    if source and mixed:
        for name in params.tasks:
            families.get(get(name).family)
        found = [one for one in symbolic_collection.chosen(source, mixed, params.tasks) if _can_be_judged(one.task)]
    elif params.tasks:
        found = [_named(get(name), source) for name in sorted(set(params.tasks))]
        for one in found:
            families.get(one.task.family)
    else:
        found = [one for one in _all(source) if _can_be_judged(one.task)]
    return _allowed(found, params)


def _can_be_judged(task: Task) -> bool:
    if not families.available(task.family):
        logger.warning("task %s is left out: the library of family %s is not installed", task.name, task.family)
        return False
    return True


def _all(source: Path | None) -> list[Chosen]:
    tasks = sorted(all_tasks().values(), key=lambda task: task.name)
    if not source:
        return [Chosen(task, None) for task in tasks if task.generate and task.published]
    there = [Chosen(task, source / task.folder) for task in tasks if task.folder and task.read]
    there = [one for one in there if one.folder and one.folder.is_dir()]
    if not there:
        folders = ", ".join(sorted({task.folder for task in tasks if task.folder}))
        raise InvalidInput(f"{source}: holds none of the data sets known here: {folders}")
    return there


def _allowed(found: list[Chosen], params: Collect) -> list[Chosen]:
    domain = domain_of()
    for name in params.domains:
        in_domain(name)
    if params.domains:
        found = [one for one in found if domain[one.task.name] in params.domains]
    if params.licence == "permissive":
        found = [one for one in found if one.folder is None or commercial(one.task.licence)]
    if not found:
        raise InvalidInput("no task is left: see `collect.tasks`, `collect.domains` and `collect.licence`")
    return found


def _named(task: Task, source: Path | None) -> Chosen:
    if source and task.folder:
        if not (source / task.folder).is_dir():
            raise InvalidInput(
                f"task {task.name!r}: no folder {source / task.folder}; expected train.jsonl and test.jsonl there"
            )
        return Chosen(task, source / task.folder)
    if not task.generate:
        raise InvalidInput(f"task {task.name!r} is not generated: set `source` to a folder that holds {task.folder}")
    return Chosen(task, None)


def _generated(task: str, generate: Generator, params: Collect) -> list[Problem]:
    """Return distinct problems, by id first test, then dev, then training. Item i depends only on (seed, task, i)."""
    n = {split: math.ceil(SPARE * (_cap(params, split) or GENERATED[split])) for split in SPLITS}
    wanted = sum(n.values())
    found: dict[tuple[Words, ...], Problem] = {}
    for i in range(MAX_DRAWS * wanted):
        level = params.levels[i % len(params.levels)]
        problem = generate(random.Random(f"{params.seed} {task} {i}"), level).model_copy(update={"level": level})
        found.setdefault(text_of(problem)[1:], problem)
        if len(found) == wanted:
            break
    rows = sorted(found.values(), key=lambda row: row.id)
    if len(rows) < wanted:  # the generator is exhausted: dev problems must leave enough for training
        n["dev"] = min(n["dev"], int(params.dev_share * len(rows)))
    splits = itertools.chain(
        *(itertools.repeat(split, n[split]) for split in ("test", "dev")), itertools.repeat("train")
    )
    return [row.model_copy(update={"split": split}) for row, split in zip(rows, splits, strict=False)]


def _cap(params: Collect, split: Split) -> int | None:
    return {"train": params.n_train, "dev": params.n_dev, "test": params.n_test}[split]


def _general(params: Collect, folder: Path | None) -> dict[Split, list[GeneralItem]]:
    """Return general rows: of each source and split those with the smallest ids; no training row copies a test row."""
    folders = _general_folders(params, folder)
    rows = {general.SHIPPED: general.shipped()}
    rows |= {
        source.name: list(source.read(folders[source.name])) for source in general.SOURCES if source.name in folders
    }
    train, test = ({name: _first(of_it, split, params) for name, of_it in rows.items()} for split in GENERAL_SPLITS)
    tested = [item for items in test.values() for item in items]
    copies = Copies(map(text_of, tested))
    learnt = {
        name: [item for item in items if not copies.of(text_of(item), params.overlap)] for name, items in train.items()
    }
    mixed = [item for items in _in_shares(learnt, params.general_shares).values() for item in items]
    return {"train": sorted(mixed, key=lambda item: item.id), "test": sorted(tested, key=lambda item: item.id)}


def _first(items: Iterable[GeneralItem], split: Split, params: Collect) -> list[GeneralItem]:
    of_split = {item.id: item for item in items if item.split == split}
    return sorted(of_split.values(), key=lambda item: item.id)[: params.n_general]


def _in_shares(items: Mapping[str, list[GeneralItem]], shares: Mapping[str, float]) -> dict[str, list[GeneralItem]]:
    """Return as many of the sources' first rows as these shares allow; without shares, all.

    InvalidInput for a source without training rows here.
    """
    if not shares:
        return dict(items)
    missing = sorted(name for name in shares if not items.get(name))
    if missing:
        have = ", ".join(sorted(name for name, rows in items.items() if rows))
        raise InvalidInput(f"general_shares: no general training rows of {', '.join(map(repr, missing))}; have {have}")
    most = min(len(items[name]) / share for name, share in shares.items())
    return {name: items[name][: max(1, round(most * share))] for name, share in shares.items()}


def _general_folders(params: Collect, source: Path | None) -> dict[str, Path]:
    folders = {one.name: source / one.folder for one in general.SOURCES if source}
    allowed = {source.name for source in general.SOURCES if params.licence == "any" or commercial(source.licence)}
    return {name: folder for name, folder in folders.items() if folder.is_dir() and name in allowed}


# --- the rows of each task -----------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """All rows read, by task: test rows, and the places of training rows."""

    test: dict[str, list[Problem]]
    dev: dict[str, list[Problem]]
    train: dict[str, list[Place]]
    shelf: Shelf


class Kept(NamedTuple):
    """The rows of one task that stay; `evolved` holds renamed copies with the ids of their originals."""

    test: list[Problem]
    dev: list[Problem]
    train: list[Place]
    evolved: list[tuple[str, Problem]]


def _read(chosen: Iterable[Chosen], shelf: Shelf, cleaner: Cleaner, params: Collect) -> Rows:
    rows = Rows(defaultdict(list), defaultdict(list), defaultdict(list), shelf)
    written = _written(params.written)
    for one in track(list(chosen), "reading"):
        name = one.task.name
        faults: list[InvalidInput] = []
        with tolerating(faults.append):
            for row in _problems(one, params):
                if row.split != "train":
                    (rows.test if row.split == "test" else rows.dev)[name].append(row)
                else:
                    rows.train[name].append(
                        shelf.put(row.model_copy(update=written.get(row.id)) if row.program is None else row)
                    )
        n = len(rows.test[name]) + len(rows.dev[name]) + len(rows.train[name]) + len(faults)
        if len(faults) > params.max_malformed * n:
            raise InvalidInput(f"{faults[0]}; {len(faults)} of {n} rows: see `collect.max_malformed`")
        for fault in faults:
            cleaner.malformed(name, str(fault))
        if one.folder and not rows.dev[name]:
            _set_aside_dev(rows, name, params.dev_share)
    return rows


def _set_aside_dev(rows: Rows, task: str, share: float) -> None:
    """Make `share` of the training rows of `task`, rounded down, its dev rows: those with the smallest ids."""
    waiting = sorted(rows.train[task])
    n = int(share * len(waiting))
    rows.dev[task] = [rows.shelf.get(place).model_copy(update={"split": "dev"}) for place in waiting[:n]]
    rows.train[task] = waiting[n:]


def _written(folder: Path | None) -> dict[str, dict[str, str | None]]:
    """Return program and source of the rows completed by `symbol-llm write`, by id; they are judged like any gold."""
    rows = read_records(folder / "written.jsonl", Problem) if folder else ()
    return {row.id: {"program": row.program, "source": row.source} for row in rows}


def _problems(one: Chosen, params: Collect) -> Iterable[Problem]:
    if one.folder and one.task.read:
        return one.task.read(one.folder)
    return _generated(one.task.name, one.task.generate, params) if one.task.generate else []


def _kept(one: Chosen, rows: Rows, cleaner: Cleaner, params: Collect) -> Kept:
    """Return the rows of a task that stay: the first of each split by id, up to its cap."""
    name, shelf = one.task.name, rows.shelf
    caps = {split: _cap(params, split) or (None if one.folder else GENERATED[split]) for split in SPLITS}
    test = list(cleaner.kept(sorted(rows.test[name], key=lambda row: row.id), caps["test"]))
    dev = list(cleaner.kept(sorted(rows.dev[name], key=lambda row: row.id), caps["dev"]))
    waiting = sorted(rows.train[name])
    places = {place.id: place for place in reversed(waiting)}
    train = []
    for row in cleaner.kept(map(shelf.get, waiting), caps["train"]):
        unchanged = places[row.id].has_gold == (row.program is not None)
        train.append(places[row.id] if unchanged else shelf.put(row))
    golds = (shelf.get(place) for place in train if place.has_gold)
    return Kept(test, dev, train, list(cleaner.evolved(golds, math.ceil(params.evolved_share * len(train)))))


def _whole(chosen: list[Chosen], rows: Rows, kept: dict[str, Kept], cleaner: Cleaner, params: Collect) -> list[Chosen]:
    """Return the tasks that have problems; tasks asked for by name must have training and test problems.

    InvalidInput if one does not, or if none is left. A task that is only evaluated needs no training problems.
    """
    if not params.tasks:
        left = [one for one in chosen if kept[one.task.name].train or kept[one.task.name].test]
        for one in chosen:
            if one not in left:
                logger.warning("task %s is left out: all its rows were dropped, see dropped.jsonl", one.task.name)
        if any(kept[one.task.name].test for one in left):
            return left
    for task, _ in chosen:
        here = {"train": kept[task.name].train or task.evaluation_only, "test": kept[task.name].test}
        n_read = {"train": len(rows.train[task.name]), "test": len(rows.test[task.name])}
        for split in (split for split in here if not here[split]):
            place = (task.name, split)
            reasons = Counter(row.reason for row in cleaner.dropped if (row.task, row.split) == place)
            why = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "none dropped"
            raise InvalidInput(f"task {task.name!r} has no {split} problems: {n_read[split]} read; {why}")
    return chosen


# --- writing -------------------------------------------------------------------------------------------------------


def _write(draft: Path, kept: dict[str, Kept], shelf: Shelf, params: Collect) -> dict[str, float]:
    databases = Databases(draft)
    train = (row for one in kept.values() for row in _training_rows(one, shelf))
    dev = (row for one in kept.values() for row in one.dev)
    test = (row for one in kept.values() for row in one.test)
    return {
        "n_train": write_records(draft / "train.jsonl", map(databases.copied, train)),
        "n_dev": write_records(draft / "dev.jsonl", map(databases.copied, dev)),
        "n_test": write_records(draft / "test.jsonl", map(databases.copied, test)),
        "n_evolved": sum(len(one.evolved) for one in kept.values()),
        "n_injection": write_records(draft / "training_set.jsonl", _injection(kept, shelf, params)),
    }


def _write_rest(draft: Path, items: dict[Split, list[GeneralItem]], cleaner: Cleaner) -> dict[str, float]:
    numbers: dict[str, float] = {
        f"n_general_{split}": write_records(draft / f"general_{split}.jsonl", items[split]) for split in GENERAL_SPLITS
    }
    dropped = sorted(cleaner.dropped, key=lambda row: (row.task, row.id, row.source))
    numbers["n_dropped"] = write_records(draft / "dropped.jsonl", dropped)
    return numbers | cleaner.numbers | {"gold_per_s": cleaner.rate()}


def _training_rows(kept: Kept, shelf: Shelf) -> Iterator[Problem]:
    yield from map(shelf.get, kept.train)
    yield from (row for _, row in kept.evolved)


def _injection(kept: dict[str, Kept], shelf: Shelf, params: Collect) -> Iterator[TrainingRow]:
    """Yield gold programs as training rows: the first of each task by id up to its share, with their renamed copies."""
    fewest = min((n for one in kept.values() if (n := _n_gold(one))), default=0)
    rows = (row for one in kept.values() for row in _learnt(one, fewest, shelf, params))
    for row in sorted(rows, key=lambda row: row.level or 0) if params.curriculum else rows:
        yield TrainingRow.of(kind="injection", problem=row.id, messages=messages(row), completion=row.program or "")


def _learnt(kept: Kept, fewest: int, shelf: Shelf, params: Collect) -> Iterator[Problem]:
    n = _n_gold(kept)
    mixed = n * (fewest / n) ** (1 - 1 / params.mixing_temperature) if n else 0
    places = [place for place in kept.train if place.has_gold][: math.ceil(params.gold_share * mixed)]
    yield from map(shelf.get, places)
    ids = {place.id for place in places}
    yield from (row for origin, row in kept.evolved if origin in ids)


def _n_gold(kept: Kept) -> int:
    return sum(place.has_gold for place in kept.train)


class Databases:
    """Copies the databases that rows use next to them, under names derived from content."""

    def __init__(self, draft: Path) -> None:
        """Copy into a folder of `draft`."""
        self._draft = draft
        self._names: dict[str, str] = {}

    def copied(self, row: Problem) -> Problem:
        """Return `row` with its database's new name."""
        return with_database(row, self._name)

    def _name(self, place: str) -> str:
        if place not in self._names:
            self._names[place] = f"{DATABASES}/{hash_path(Path(place))[:16]}.sqlite"
            (self._draft / DATABASES).mkdir(exist_ok=True)
            shutil.copyfile(place, self._draft / self._names[place])
        return self._names[place]
