"""The collection: problems of the chosen tasks, cleaned, split, with checked gold, beside a data card.

Every row is either in `train.jsonl` or `test.jsonl`, or in `dropped.jsonl` with a reason, unless a cap left it out.
Which rows a cap keeps, and which generated problems are test problems, follows from their content, never from position.
"""

from __future__ import annotations

import math
import random
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from symbol_llm import verify
from symbol_llm.errors import InvalidInput
from symbol_llm.files import building, hash_path, read_records, write_manifest, write_records, write_text
from symbol_llm.params import Collect
from symbol_llm.progress import track
from symbol_llm.prompts import messages
from symbol_llm.records import STATUSES, Candidate, GeneralItem, Problem, Record, Split, TrainingRow
from symbol_llm.tasks import SPLITS, Generator, Task, all_tasks, general, get

GENERATED = {"train": 100, "test": 25}
SPARE = 1.1
"""Generated problems drawn for each one wanted, so that dropping a few leaves enough."""
MAX_DRAWS = 20
"""Draws for each distinct problem wanted before a generator counts as exhausted."""
DATABASES = "databases"
MAX_DETAIL = 300
NGRAM = 8
MIN_WORDS = 12
"""Texts with fewer words are copies only if they are equal."""


class Dropped(Record):
    """A row that was read and not kept."""

    id: str
    task: str
    split: Split
    source: str
    reason: str
    detail: str = ""


class Chosen(NamedTuple):
    """A task, and the folder it is read from; None: it is generated."""

    task: Task
    folder: Path | None


class Cleaned(NamedTuple):
    """What is kept, what is dropped, and what was noticed on the way."""

    problems: list[Problem]
    dropped: list[Dropped]
    numbers: dict[str, int]


def collect(out: Path, params: Collect) -> dict[str, float]:
    """Build the collection `out`; return counts.

    InvalidInput for an unknown task, a missing folder, a malformed row, or a task with an empty split.
    """
    chosen = choose(params)
    found = [problem for one in track(chosen, "reading") for problem in _problems(one, params)]
    general_items = _general(params)
    cleaned = _clean(found, general_items["test"], params)
    kept = {split: _capped(cleaned.problems, split, chosen, params) for split in SPLITS}
    _check_splits(chosen, found, cleaned.dropped, kept)
    with building(out) as draft:
        numbers = _write(draft, kept, cleaned, general_items, params)
        write_text(draft / "card.md", _card(chosen, kept, cleaned.dropped, general_items, numbers))
        inputs = {one.task.name: one.folder for one in chosen} | _general_folders(params)
        write_manifest(draft, stage="collect", inputs=inputs, params=params, metrics=numbers)
    return numbers


def read_problems(collection: Path, split: Split) -> list[Problem]:
    """Return the problems of one split; a `database` in their environment is an absolute path."""
    rows = read_records(collection / f"{split}.jsonl", Problem)
    return [_with_database(row, lambda name: str((collection / name).absolute())) for row in rows]


def _with_database(row: Problem, place: Callable[[str], str]) -> Problem:
    if "database" not in row.environment:
        return row
    return row.model_copy(update={"environment": {**row.environment, "database": place(row.environment["database"])}})


# --- reading and generating ----------------------------------------------------------------------------------------


def choose(params: Collect) -> list[Chosen]:
    """Return the tasks that `params` asks for, in the order of names."""
    if params.source and not params.source.is_dir():
        raise InvalidInput(
            f"{params.source}: no such folder; expected <group>/<data set>/train.jsonl and test.jsonl in it"
        )
    if params.tasks:
        return [_named(get(name), params.source) for name in sorted(set(params.tasks))]
    tasks = sorted(all_tasks().values(), key=lambda task: task.name)
    if not params.source:
        return [Chosen(task, None) for task in tasks if task.generate]
    there = [Chosen(task, params.source / task.folder) for task in tasks if task.folder]
    there = [one for one in there if one.folder and one.folder.is_dir()]
    if not there:
        folders = ", ".join(task.folder for task in tasks if task.folder)
        raise InvalidInput(f"{params.source}: holds none of the data sets known here: {folders}")
    return there


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


def _problems(one: Chosen, params: Collect) -> list[Problem]:
    if one.folder and one.task.read:
        return list(one.task.read(one.folder))
    return _generated(one.task.name, one.task.generate, params) if one.task.generate else []


def _generated(task: str, generate: Generator, params: Collect) -> list[Problem]:
    """Return distinct problems, those with the smallest ids as test problems. Item i follows from (seed, task, i)."""
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
    return [row.model_copy(update={"split": "test"}) for row in rows[: n["test"]]] + rows[n["test"] :]


def _cap(params: Collect, split: Split) -> int | None:
    return params.n_train if split == "train" else params.n_test


def _capped(problems: Iterable[Problem], split: Split, chosen: Iterable[Chosen], params: Collect) -> list[Problem]:
    """Return the problems of `split` by task and id, of each task the first by id up to its cap."""
    kept = []
    for one in chosen:
        cap = _cap(params, split) or (None if one.folder else GENERATED[split])
        rows = (row for row in problems if (row.task, row.split) == (one.task.name, split))
        kept += sorted(rows, key=lambda row: row.id)[:cap]
    return kept


def _check_splits(
    chosen: Iterable[Chosen], found: list[Problem], dropped: list[Dropped], kept: dict[Split, list[Problem]]
) -> None:
    for one, split in ((one, split) for one in chosen for split in SPLITS):
        place = (one.task.name, split)
        if not any(row.task == one.task.name for row in kept[split]):
            n = sum((row.task, row.split) == place for row in found)
            reasons = Counter(row.reason for row in dropped if (row.task, row.split) == place)
            why = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "none dropped"
            raise InvalidInput(f"task {one.task.name!r} has no {split} problems: {n} read; {why}")


def _general(params: Collect) -> dict[Split, list[GeneralItem]]:
    folders = _general_folders(params)
    sources = [general.shipped()]
    sources += [list(source.read(folders[source.name])) for source in general.SOURCES if source.name in folders]
    items: dict[Split, list[GeneralItem]] = {"train": [], "test": []}
    for split in SPLITS:
        for rows in sources:
            of_split = {item.id: item for item in rows if item.split == split}
            items[split] += sorted(of_split.values(), key=lambda item: item.id)[: params.n_general]
    copies = Copies(map(text_of, items["test"]))
    items["train"] = [item for item in items["train"] if not copies.of(text_of(item), params.overlap)]
    return {split: sorted(rows, key=lambda item: item.id) for split, rows in items.items()}


def _general_folders(params: Collect) -> dict[str, Path]:
    folders = {source.name: params.source / source.folder for source in general.SOURCES if params.source}
    return {name: folder for name, folder in folders.items() if folder.is_dir()}


# --- cleaning ------------------------------------------------------------------------------------------------------

Words = tuple[str, ...]


class Text(NamedTuple):
    """What is compared of a row: a question may be asked of many contexts, a context may carry many questions."""

    name: str
    context: Words
    question: Words


def words(text: str) -> Words:
    """Return the words, numbers and operators of `text` in lower case; other punctuation does not count."""
    return tuple(re.findall(r"\d+(?:[.,]\d+)*|\w+|[^\w\s.,;:!?'\"]", text.lower()))


def text_of(row: Problem | GeneralItem) -> Text:
    """Return the text of a row, named so that a person finds the row."""
    if isinstance(row, GeneralItem):
        return Text(f"{row.source} ({row.id})", (), words(row.prompt))
    return Text(f"{row.source} {row.task} ({row.id})", words(row.context), words(row.question))


class Copies:
    """Test texts, and which of them a training text copies.

    A copy asks the same of the same: question and context are both alike. Alike are equal words; or, from twelve words
    on, equal numbers and at least the given share of word 8-grams in common. So texts that differ in a number are
    different problems even if one template made them, and so are two questions about one schema or theory.
    """

    def __init__(self, tests: Iterable[Text]) -> None:
        """Index the texts of all test rows."""
        self._places: dict[Words, list[Text]] = defaultdict(list)
        self._masked: set[tuple[Words, Words]] = set()
        for test in tests:
            self._masked.add((_masked(test.context), _masked(test.question)))
            for key in {test.question, *_grams(test.question)}:
                self._places[key].append(test)

    def of(self, text: Text, overlap: float) -> str | None:
        """Return the name of a test text that `text` copies, or None."""
        keys = {text.question, *_grams(text.question)}
        tests = {test for key in keys for test in self._places.get(key, ())}
        return min((test.name for test in tests if _alike(text, test, overlap)), default=None)

    def but_for_numbers(self, text: Text) -> bool:
        """Say whether a test text has the same words once numbers are masked. Counted, not dropped."""
        return (_masked(text.context), _masked(text.question)) in self._masked


def _alike(text: Text, test: Text, overlap: float) -> bool:
    return _share(text.question, test.question) >= overlap and _share(text.context, test.context) >= overlap


def _share(tokens: Words, others: Words) -> float:
    if tokens == others:
        return 1.0
    grams = _grams(tokens)
    if not grams or _numbers(tokens) != _numbers(others):
        return 0.0
    return len(grams & _grams(others)) / len(grams)


def _masked(tokens: Words) -> Words:
    return tuple("0" if token[0].isdigit() else token for token in tokens)


def _numbers(tokens: Words) -> Words:
    return tuple(sorted(token for token in tokens if token[0].isdigit()))


def _grams(tokens: Words) -> set[Words]:
    if len(tokens) < MIN_WORDS:
        return set()
    return {tokens[i : i + NGRAM] for i in range(len(tokens) - NGRAM + 1)}


def _clean(found: list[Problem], general_tests: Iterable[GeneralItem], params: Collect) -> Cleaned:
    """Drop what has no answer, repeats, is a worked example or copies a test row; then check the gold of the rest.

    Training rows are compared with every test row read, also with those that are dropped or capped later.
    """
    dropped: list[Dropped] = []
    tests = [text_of(row) for row in found if row.split == "test"]
    copies = Copies([*tests, *(text_of(item) for item in general_tests)])
    kept: list[Problem] = []
    n_numbers = 0
    seen = _worked_examples({row.task for row in found})
    for row in track(sorted(found, key=lambda row: (row.task, row.id)), "cleaning"):
        if fault := _fault(row, seen, copies, params.overlap):
            dropped.append(_drop(row, *fault))
            continue
        kept.append(row)
        n_numbers += row.split == "train" and copies.but_for_numbers(text_of(row))
    numbers = {"n_numbers_only": n_numbers, **{f"n_gold_{status}": 0 for status in STATUSES if status != "accepted"}}
    if params.check_gold:
        kept = list(_check_gold(kept, dropped, numbers, params))
    return Cleaned(kept, dropped, numbers)


Seen = dict[tuple[str, Words, Words], str]


def _fault(row: Problem, seen: Seen, copies: Copies, overlap: float) -> tuple[str, str] | None:
    """Return (reason, detail) if `row` is to be dropped; note its text in `seen`.

    A training text counts once in its family, since a problem may stand in several sets; a test text once in its task.
    """
    if row.answer is None and row.program is None:
        return "without a usable answer", "the source gives none that a program could be held to"
    text = text_of(row)
    place = (f"test {row.task}" if row.split == "test" else f"train {row.family}", *text[1:])
    if place in seen:
        return "repeated", f"same words as {seen[place]}"
    seen[place] = text.name
    copied = copies.of(text, overlap) if row.split == "train" else None
    return ("copies of test rows", f"like {copied}") if copied else None


def _worked_examples(names: Iterable[str]) -> Seen:
    """Return the texts shown in few-shot prompts as texts that have been seen already."""
    seen = {}
    for task in map(get, names):
        for context, question, _ in task.shots:
            for scope in (f"test {task.name}", f"train {task.family}"):
                seen[scope, words(context), words(question)] = "a worked example"
    return seen


def _drop(row: Problem, reason: str, detail: str) -> Dropped:
    return Dropped(id=row.id, task=row.task, split=row.split, source=row.source, reason=reason, detail=detail)


def _check_gold(
    rows: list[Problem], dropped: list[Dropped], numbers: dict[str, int], params: Collect
) -> Iterator[Problem]:
    """Yield `rows` without those whose gold is refused.

    A gold that its grammar refuses says nothing against the answer: such a row stays, without program, if it has one.
    """
    golds = [(row, _as_candidate(row.id, row.program)) for row in rows if row.program is not None]
    verdicts = track(verify.judge_all(golds, params.limits), "checking gold", total=len(golds))
    by_problem = {verdict.problem: verdict for verdict in verdicts}
    for row in rows:
        verdict = by_problem.get(row.id)
        if verdict is None or verdict.status == "accepted":
            yield row
            continue
        numbers[f"n_gold_{verdict.status}"] += 1
        if verdict.status == "unparsable" and row.answer is not None:
            yield row.model_copy(update={"program": None})
        else:
            detail = verdict.detail or f"gave {verdict.value}; the answer is {str(row.answer)[:MAX_DETAIL]}"
            dropped.append(_drop(row, f"gold {verdict.status}", detail))


def _as_candidate(problem: str, program: str) -> Candidate:
    return Candidate(id=problem, problem=problem, origin="explore", index=0, reply=program, n_tokens=0, logprob=0.0)


# --- writing -------------------------------------------------------------------------------------------------------


def _write(
    draft: Path,
    kept: dict[Split, list[Problem]],
    cleaned: Cleaned,
    general_items: dict[Split, list[GeneralItem]],
    params: Collect,
) -> dict[str, float]:
    injection = _injection(kept["train"], params.gold_share)
    numbers: dict[str, float] = {
        "n_injection": write_records(draft / "training_set.jsonl", injection),
        **cleaned.numbers,
    }
    for split in SPLITS:
        rows = _copy_databases(kept[split], draft)
        numbers[f"n_{split}"] = write_records(draft / f"{split}.jsonl", rows)
        numbers[f"n_general_{split}"] = write_records(draft / f"general_{split}.jsonl", general_items[split])
    dropped = sorted(cleaned.dropped, key=lambda row: (row.task, row.id, row.source))
    numbers["n_dropped"] = write_records(draft / "dropped.jsonl", dropped)
    return numbers


def _injection(rows: Iterable[Problem], share: float) -> Iterator[TrainingRow]:
    """Yield the gold programs of `rows` as training rows: of each task the first by id, up to `share` of them."""
    golds: dict[str, list[tuple[Problem, str]]] = {}
    for row in rows:
        if row.program is not None:
            golds.setdefault(row.task, []).append((row, row.program))
    for of_task in golds.values():
        for row, program in of_task[: math.ceil(share * len(of_task))]:
            yield TrainingRow.of(kind="injection", problem=row.id, messages=messages(row), completion=program)


def _copy_databases(rows: list[Problem], draft: Path) -> list[Problem]:
    """Copy what the rows run on into `draft`, under names made from content; return the rows with those names."""
    places: dict[str, str] = {}
    for name in sorted({row.environment["database"] for row in rows if "database" in row.environment}):
        places[name] = f"{DATABASES}/{hash_path(Path(name))[:16]}.sqlite"
        (draft / DATABASES).mkdir(exist_ok=True)
        shutil.copyfile(name, draft / places[name])
    return [_with_database(row, places.__getitem__) for row in rows]


def _card(
    chosen: Iterable[Chosen],
    kept: dict[Split, list[Problem]],
    dropped: list[Dropped],
    general_items: dict[Split, list[GeneralItem]],
    numbers: dict[str, float],
) -> str:
    """Return the data card: a line for each task and general source, why rows were dropped, what is known of copies."""
    reasons = Counter((row.task, row.split, row.reason) for row in dropped)
    lines = [
        "# Data card",
        "",
        *_table("task", "family", "from", "train", "test", "train with gold", "dropped", "licence", "citation"),
        *(_row(*_task_cells(one, kept, dropped)) for one in chosen),
        "",
        "Dropped rows, by task and split; each is listed in `dropped.jsonl`:",
        "",
        *([f"- {task}, {split}: {n} {reason}" for (task, split, reason), n in sorted(reasons.items())] or ["- none"]),
        "",
        *_table("general", "train", "test", "licence", "citation"),
        *(_row(*cells) for cells in _general_cells(general_items)),
        "",
        f"Injection learns {numbers['n_injection']:g} of the gold programs.",
        f"Training rows that equal a test row once numbers are masked: {numbers['n_numbers_only']} (kept).",
        "No training row asks the same of the same as a test row of any task: equal words, or, from "
        f"{MIN_WORDS} words on, equal numbers and the share of word {NGRAM}-grams set by `overlap`.",
    ]
    return "\n".join(lines) + "\n"


def _task_cells(one: Chosen, kept: dict[Split, list[Problem]], dropped: list[Dropped]) -> tuple[object, ...]:
    task, folder = one
    train, test = ([row for row in kept[split] if row.task == task.name] for split in SPLITS)
    n_gold = sum(row.program is not None for row in train)
    n_dropped = sum(row.task == task.name for row in dropped)
    origin = (task.licence, task.citation) if folder else (general.SHIPPED_LICENCE, "written for this project")
    return (
        task.name,
        task.family,
        task.folder if folder else "generated",
        len(train),
        len(test),
        n_gold,
        n_dropped,
        *origin,
    )


def _general_cells(items: dict[Split, list[GeneralItem]]) -> Iterator[tuple[object, ...]]:
    about = {source.name: (source.licence, source.citation) for source in general.SOURCES}
    about[general.SHIPPED] = (general.SHIPPED_LICENCE, "written for this project")
    counts = {split: Counter(item.source.split()[0] for item in items[split]) for split in SPLITS}
    for name in sorted(counts["train"] | counts["test"]):
        yield name, counts["train"][name], counts["test"][name], *about[name]


def _table(*heads: str) -> list[str]:
    return [_row(*heads), "|---" * len(heads) + "|"]


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"
