"""A ledger through any life: rows appended, reopened, torn at any byte, altered in the middle, garbage after it.

No whole row is ever lost, whatever stands before it.
"""

import itertools
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
"""Bytes that are no rows, whatever they follow: NULs, as a power cut leaves them, or a byte that UTF-8 does not have, and a
row without its checksum behind them."""


class LedgerLife(RuleBasedStateMachine):
    """Holds what must be there: the lines of the file, each with its row, or None where it was damaged."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.lines: list[tuple[bytes, dict[str, Any] | None]] = []
        self.ledger = Ledger(path)

    def teardown(self) -> None:
        self.ledger.__exit__()

    @rule(row=ROWS)
    def append(self, row: dict[str, Any]) -> None:
        before = self.path.stat().st_size
        self.ledger.append(row)
        self.lines.append((self.path.read_bytes()[before:], row))
        assert self.lines[-1][0].endswith(b"\n")

    @rule()
    def reopen(self) -> None:
        self._reopen()

    @precondition(lambda self: self.lines)
    @rule(data=st.data(), garbage=st.just(b"") | GARBAGE)
    def tear_the_last_line(self, data: st.DataObject, garbage: bytes) -> None:
        line, _ = self.lines.pop()
        left = data.draw(st.integers(0, len(line) - 1), label="bytes left")
        self._reopen(tail=line[:left] + garbage)

    @rule(garbage=GARBAGE)
    def leave_garbage_after_the_last_line(self, garbage: bytes) -> None:
        self._reopen(tail=garbage)

    @precondition(lambda self: self.lines)
    @rule(data=st.data())
    def alter_a_byte_of_a_line(self, data: st.DataObject) -> None:
        n = data.draw(st.integers(0, len(self.lines) - 1), label="line")
        line = bytearray(self.lines[n][0])
        at = data.draw(st.integers(0, len(line) - 2), label="byte")
        line[at] = data.draw(st.integers(0, 255).filter(lambda b: b not in (line[at], 10)), label="value")
        if self.lines[n][1] is not None:  # what is damaged might be mended
            self.lines[n] = (bytes(line), None)
        self._reopen()

    @invariant()
    def file_holds_these_lines(self) -> None:
        assert self.path.read_bytes() == b"".join(line for line, _ in self.lines)

    def _reopen(self, *, tail: bytes = b"") -> None:
        self.ledger.__exit__()
        self.path.write_bytes(b"".join(line for line, _ in self.lines) + tail)
        n_bad = sum(row is None for _, row in self.lines) + len(tail.split(b"\n")) - (tail[-1:] in (b"", b"\n"))
        while self.lines and self.lines[-1][1] is None:
            self.lines.pop()
        self.ledger = Ledger(self.path)
        rows = [row for _, row in self.lines if row is not None]
        assert (self.ledger.rows, self.ledger.n_bad) == (rows, n_bad)


def test_whole_rows_stay_in_order_and_what_is_damaged_is_left_out_and_counted(tmp_path: Path) -> None:
    lives = (LedgerLife(tmp_path / f"{n}.jsonl") for n in itertools.count())
    run_state_machine_as_test(
        lambda: next(lives), settings=settings(max_examples=60, stateful_step_count=15, deadline=None)
    )
