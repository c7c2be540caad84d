"""Cleaning: which rows of a collection stay, and why the others do not. Reads no source and writes only its ledger.

A row is dropped if it has no usable answer, repeats another, is a worked example, copies a test row, or has a gold
program that its own verifier refuses. Dropped rows are recorded in `Cleaner.dropped` with the reason.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from symbol_llm import families
from symbol_llm.collection.evolve import evolved
from symbol_llm.collection.near_duplicates import Copies, Text, text_of, words
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import Ledger
from symbol_llm.ground.params import Collect
from symbol_llm.ground.records import STATUSES, GeneralItem, Problem, Record, Split, Status, content_id
from symbol_llm.judging.verify import Item, judge_all
from symbol_llm.tasks import get

CHUNK = 512
"""Number of gold programs judged together."""
MAX_DETAIL = 300


HELD_AGAINST: dict[Split, tuple[Literal["test", "dev"], ...]] = {"train": ("test", "dev"), "dev": ("test",), "test": ()}
"""By split, the splits whose rows it may not copy."""


class Dropped(Record):
    """A row that was read and not kept."""

    id: str
    task: str
    split: Split
    source: str
    reason: str
    detail: str = ""


class Gold(NamedTuple):
    """The verifier's judgement of a gold program."""

    status: Status
    detail: str
    canonical: str | None
    """Equal for equal programs in equal contexts."""


class Cleaner:
    """Decides row by row; remembers what it has seen. Ask it about test rows before training rows of the same task."""

    def __init__(self, params: Collect, ledger: Ledger, tasks: Iterable[str]) -> None:
        """Load the verdicts in `ledger`; worked examples of `tasks` count as seen."""
        self._params, self._ledger = params, ledger
        self._judged = {row["key"]: Gold(row["status"], row["detail"], row["canonical"]) for row in ledger.rows}
        self._seen = _worked_examples(tasks)
        self._copies: dict[Split, Copies] = {"test": Copies(()), "dev": Copies(())}
        self._test_programs: set[str] = set()
        self._seconds, self._n_new = 0.0, 0
        self.dropped: list[Dropped] = []
        noticed = [
            "numbers_only",
            "same_program",
            "malformed",
            "unrouted",
            *(f"gold_{s}" for s in STATUSES if s != "accepted"),
        ]
        self.numbers: Counter[str] = Counter({f"n_{name}": 0 for name in noticed})

    def hold_against(self, split: Literal["test", "dev"], rows: Iterable[Problem | GeneralItem]) -> None:
        """Register the rows of `split`, which no training row may copy; nor may a dev row copy a test row."""
        self._copies[split] = Copies(map(text_of, rows))

    def malformed(self, task: str, fault: str) -> None:
        """Note a line that could not be read; `fault` is `file:line: what`."""
        place, _, detail = fault.partition(": ")
        self.numbers["n_malformed"] += 1
        self.dropped.append(
            Dropped(id=content_id(place), task=task, split="train", source=place, reason="malformed", detail=detail)
        )

    def unrouted(self, source: str, why: str) -> None:
        """Note a row that is of no task."""
        self.numbers["n_unrouted"] += 1
        self.dropped.append(
            Dropped(id=content_id(source), task="none", split="train", source=source, reason="unrouted", detail=why)
        )

    def kept(self, rows: Iterable[Problem], cap: int | None) -> Iterator[Problem]:
        """Yield the first `cap` rows (None: all) that are clean and whose gold is right.

        Gold that its grammar refuses does not discredit the answer: such a row stays, without program, if it has one.
        """
        clean = (row for row in rows if self._is_clean(row))
        n = 0
        while chunk := list(itertools.islice(clean, min(CHUNK, cap - n) if cap else CHUNK)):
            for row in self._checked(chunk):
                yield row
                n += 1
            if n == cap:
                return

    def evolved(self, rows: Iterable[Problem], n: int) -> Iterator[tuple[str, Problem]]:
        """Yield the ids and renamed copies of the first `n` of `rows` that declare names their programs use."""
        made = ((row.id, copy) for row in rows if (copy := self._evolve(row)))
        while n > 0 and (chunk := list(itertools.islice(made, n))):
            origin = {copy.id: id_ for id_, copy in chunk}
            for row in self._checked([copy for _, copy in chunk]):
                n -= 1
                yield origin[row.id], row

    def rate(self) -> float:
        """Return the number of gold programs judged per second, not counting those from the ledger."""
        return self._n_new / self._seconds if self._seconds else 0.0

    def _drop(self, row: Problem, reason: str, detail: str) -> None:
        fields = {"id": row.id, "task": row.task, "split": row.split, "source": row.source}
        self.dropped.append(Dropped(**fields, reason=reason, detail=detail))

    def _is_clean(self, row: Problem) -> bool:
        text = text_of(row)
        fault = self._fault(row, text)
        if fault:
            self._drop(row, *fault)
        elif row.split == "train" and any(held.but_for_numbers(text) for held in self._copies.values()):
            self.numbers["n_numbers_only"] += 1
        return not fault

    def _fault(self, row: Problem, text: Text) -> tuple[str, str] | None:
        """Return (reason, detail) if `row` is to be dropped for its content; note its text as seen.

        A training text counts once per family, since a problem may occur in several sets; any other, once per task.
        """
        if row.answer is None and row.program is None:
            return "without a usable answer", "the source gives none that a program could be held to"
        place = _place(f"train {row.family}" if row.split == "train" else f"{row.split} {row.task}", text)
        if place in self._seen:
            return "repeated", f"same words as {self._seen[place]}"
        self._seen[place] = text.name
        for split in HELD_AGAINST[row.split]:
            if copied := self._copies[split].of(text, self._params.overlap):
                return f"copies of {split} rows", f"like {copied}"
        return None

    def _checked(self, rows: list[Problem]) -> Iterator[Problem]:
        golds = self._judge(rows) if self._params.check_gold else {}
        for row in rows:
            gold = golds.get(row.id)
            if gold is None or gold.status == "accepted":
                if self._is_new(row, gold):
                    yield row
                continue
            self.numbers[f"n_gold_{gold.status}"] += 1
            if gold.status == "unparsable" and row.answer is not None:
                yield row.model_copy(update={"program": None})
            else:
                self._drop(row, f"gold {gold.status}", gold.detail)

    def _is_new(self, row: Problem, gold: Gold | None) -> bool:
        """Return whether a training row's program is in no test row, or is kept anyway; note those of test rows."""
        if gold is None or gold.canonical is None:
            return True
        if row.split != "train":
            self._test_programs.add(gold.canonical)
            return True
        if gold.canonical not in self._test_programs:
            return True
        self.numbers["n_same_program"] += 1
        if self._params.same_program == "keep":
            return True
        self._drop(row, "program of a test row", "the same is asked in other words")
        return False

    def _judge(self, rows: list[Problem]) -> dict[str, Gold]:
        """Return the verifiers' judgements of gold programs, by row id; those in the ledger are not judged again."""
        keys = {row.id: _gold_key(row) for row in rows if row.program is not None}
        new = [row for row in rows if row.program is not None and keys[row.id] not in self._judged]
        start = time.monotonic()
        golds = (Item(row, row.program or "", is_program=True) for row in new)
        for row, verdict in zip(new, judge_all(golds, self._params.limits), strict=True):
            refused = f"gave {verdict.value}; the answer is {str(row.answer)[:MAX_DETAIL]}"
            detail = "" if verdict.status == "accepted" else verdict.detail or refused
            canonical = content_id(row.task, row.context, verdict.canonical) if verdict.canonical else None
            gold = Gold(verdict.status, detail, canonical)
            self._judged[keys[row.id]] = gold
            self._ledger.append({"key": keys[row.id], **gold._asdict()})
        self._seconds, self._n_new = self._seconds + time.monotonic() - start, self._n_new + len(new)
        return {id_: self._judged[key] for id_, key in keys.items()}

    def _evolve(self, row: Problem) -> Problem | None:
        try:
            return evolved(row, random.Random(f"{self._params.seed} evolve {row.id}"))
        except InvalidInput as e:
            self._drop(row, "names that cannot be renamed (the row itself stays)", str(e))
            return None


def _place(scope: str, text: Text) -> bytes:
    """Return a hash of the compared parts of a row, short since millions of them are kept."""
    whole = "\n".join((scope, " ".join(text.context), " ".join(text.question)))
    return hashlib.blake2b(whole.encode(errors="surrogatepass"), digest_size=16).digest()


def _worked_examples(names: Iterable[str]) -> dict[bytes, str]:
    """Return the texts shown in few-shot prompts, as already seen texts."""
    seen = {}
    for task in map(get, names):
        for context, question, _ in task.shots:
            for scope in (f"test {task.name}", f"dev {task.name}", f"train {task.family}"):
                seen[_place(scope, Text("", words(context), words(question)))] = "a worked example"
    return seen


def _gold_key(row: Problem) -> str:
    version = families.get(row.family).VERSION
    return content_id(row.task, row.family, version, row.program, row.answer, row.environment)
