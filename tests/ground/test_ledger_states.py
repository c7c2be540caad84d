"""A ledger through any life: rows appended, reopened, torn at any byte, garbage after it. No whole row is ever lost."""

import itertools
import json
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from symbol_llm.ground.files import Ledger

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
ROWS = st.dictionaries(st.text(max_size=5), VALUES | st.lists(VALUES, max_size=3), max_size=3)
NULS = st.integers(1, 9).map(bytes)
GARBAGE = st.tuples(
    NULS | st.binary(max_size=40).map(lambda more: b"\xff" + more), st.sampled_from([b"", b"\n", b'\n{"a": 1}\n'])
).map(b"".join)
"""Bytes that are no JSON, whatever they follow: NULs, as a power cut leaves them, or a byte that UTF-8 does not have. What
looks like a row behind them is cut off with them."""


class LedgerLife(RuleBasedStateMachine):
    """Holds what must be there: the rows whose append returned and whose line is whole, and how long their lines are."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.ends = [0]
        """Where the lines end, by the size of the file right after each append."""
        self.ledger = Ledger(path)

    def teardown(self) -> None:
        self.ledger.__exit__()

    @rule(row=ROWS)
    def append(self, row: dict[str, Any]) -> None:
        self.ledger.append(row)
        self.rows.append(row)
        self.ends.append(self.path.stat().st_size)
        assert self.ends[-1] >= self.ends[-2] + len("{}\n")

    @rule()
    def reopen(self) -> None:
        self._reopen(n_torn=0)

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), garbage=st.just(b"") | GARBAGE)
    def tear_the_last_line(self, data: st.DataObject, garbage: bytes) -> None:
        left = data.draw(st.integers(self.ends[-2], self.ends[-1] - 1), label="bytes left")
        self.rows.pop()
        self.ends.pop()
        self._reopen(n_torn=int(left > self.ends[-1] or garbage != b""), left=left, garbage=garbage)

    @rule(garbage=GARBAGE)
    def leave_garbage_after_the_last_line(self, garbage: bytes) -> None:
        self._reopen(n_torn=1, left=self.ends[-1], garbage=garbage)

    @invariant()
    def file_ends_after_whole_lines(self) -> None:
        assert self.path.stat().st_size == self.ends[-1]

    def _reopen(self, *, n_torn: int, left: int | None = None, garbage: bytes = b"") -> None:
        self.ledger.__exit__()
        if left is not None:
            whole = self.path.read_bytes()[:left]
            self.path.write_bytes(whole + garbage)
        self.ledger = Ledger(self.path)
        assert (self.ledger.rows, self.ledger.n_torn) == (self.rows, n_torn)
        lines = self.path.read_bytes().split(b"\n")
        assert [*map(json.loads, lines[:-1]), lines[-1]] == [*self.rows, b""]


def test_whole_rows_stay_in_order_and_a_torn_end_is_cut_off_and_counted(tmp_path: Path) -> None:
    lives = (LedgerLife(tmp_path / f"{n}.jsonl") for n in itertools.count())
    run_state_machine_as_test(
        lambda: next(lives), settings=settings(max_examples=60, stateful_step_count=15, deadline=None)
    )
