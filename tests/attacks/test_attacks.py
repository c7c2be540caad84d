"""Hostile programs, none of which may be accepted, cost the judge a verdict, or leave anything behind.

`corpus/KIND.yaml` holds a list of entries. Each has `name` (what it tries), `family` and `program`; where the problem
of the family's first example is not enough, `answer`, `gold` or `environment` make another one. `repeat: {text, times}`
stands for `{repeat}` in the program, or is the program; `{n}` in its text is the number of the repetition. `finding`
says why an attack that still works is known.

Programs are written so that to be accepted is to have done the harm: what they answer is stolen or forged.
"""

import functools
import os
import pkgutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from symbol_llm import families
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging.verify import judge
from symbol_llm.sandbox import confinement, executor
from tests.cpu import slowness
from tests.problems import family, problem

CORPUS = Path(__file__).parent / "corpus"
KINDS = ("escape", "forge", "exhaust", "cheat")
FAMILIES = {module.name for module in pkgutil.iter_modules(families.__path__)}
"""Of this package; other packages may add theirs."""
ENTRIES = [
    (kind, entry)
    for kind in KINDS
    for entry in yaml.load((CORPUS / f"{kind}.yaml").read_text(), yaml.CSafeLoader)  # noqa: S506 - safe, and fast
]
TIMEOUT_S = {"exhaust": 1.0}
PATIENCE = Limits(timeout_s=20)
SLACK_S = 6
"""For a sandbox that must start anew; what is judged without one has no timeout, so this is its. On the reference machine."""


def attack(kind: str, entry: dict[str, Any]) -> Any:
    marks = [pytest.mark.xfail(strict=True, reason=entry["finding"])] if "finding" in entry else []
    return pytest.param(kind, entry, id=f"{kind}/{entry['name']}", marks=marks)


def problem_of(entry: dict[str, Any]) -> Problem:
    if not entry.keys() & {"answer", "gold", "environment"}:
        return family(entry["family"]).EXAMPLES[0].problem
    fields = {"answer": entry.get("answer"), "program": entry.get("gold"), "environment": entry.get("environment", {})}
    return problem(entry["family"], **fields)


def program_of(entry: dict[str, Any]) -> str:
    if "repeat" not in entry:
        return str(entry["program"])
    text, times = entry["repeat"]["text"], entry["repeat"]["times"]
    repeated = "".join(text.replace("{n}", str(n)) for n in range(times))
    return str(entry.get("program", "{repeat}")).replace("{repeat}", repeated)


@pytest.mark.parametrize(("kind", "entry"), [attack(*one) for one in ENTRIES])
def test_attack_is_contained_and_the_next_sample_is_judged_right(kind: str, entry: dict[str, Any]) -> None:
    limits = Limits(timeout_s=TIMEOUT_S.get(kind, 2.0))
    warm_up(entry["family"])
    if "test" in entry.get("environment", {}):
        skip_or_warm_up(entry["family"], entry["environment"]["test"])
    with Clock() as clock:
        verdict = judge(problem_of(entry), program_of(entry), limits)
    assert clock.seconds < limits.timeout_s + SLACK_S * slowness(), f"and waited {clock.waited:.1f} s for a core"
    assert verdict.status in ("rejected", "unparsable", "timeout", "resource"), verdict.detail
    judge_next(entry["family"])
    assert not list(Path("/tmp").glob("symbol-llm-escaped-*"))
    assert not survivors()


@pytest.mark.parametrize("version", range(1, confinement.NEWEST_LANDLOCK))
def test_no_program_escapes_on_a_kernel_with_an_older_landlock(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if confinement.landlock_version() < version:
        pytest.skip("the kernel's Landlock is older still")
    monkeypatch.setattr(confinement, "NEWEST_LANDLOCK", version)
    for kind, entry in ENTRIES:
        if kind != "escape" or entry["family"] != "python" or "finding" in entry:
            continue
        verdict = judge(problem_of(entry), program_of(entry), Limits(timeout_s=2.0))
        assert verdict.status in ("rejected", "unparsable", "timeout", "resource"), (entry["name"], verdict.detail)
        assert verdict.isolation in (f"landlock{version}+seccomp+rlimits", "none")  # none: it was not run
    judge_next("python")
    assert not list(Path("/tmp").glob("symbol-llm-escaped-*"))
    assert not survivors()


class Clock:
    """The wall clock, stopped while the judge, or what the sandbox runs for it, could run and had no core.

    Other work on the machine is thus no fault of the attack. Whatever the attack does itself counts, sleep included, and
    so does a thread that waits for a core because others of its process have them.
    """

    def __enter__(self) -> "Clock":
        """Start it, and a thread that looks at the sandbox's processes."""
        self._before = {pid: times(Path(f"/proc/{pid}")) for pid in _sandboxed()}
        self._of_sandbox = 0.0
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look)
        self._own = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._own_before = times_of_thread(self._own)
        self._start = time.monotonic()
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        wall = time.monotonic() - self._start
        self._ended.set()
        self._looking.join()
        self.waited = times_of_thread(self._own).waited - self._own_before.waited + self._of_sandbox
        self.seconds = wall - self.waited

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            now = {pid: times(Path(f"/proc/{pid}")) for pid in _sandboxed()}
            for pid, (ran, waited) in now.items():  # of which one runs after the other
                before = self._before.get(pid, Times(0.0, 0.0))
                self._of_sandbox += max(0.0, waited - before.waited - max(0.0, ran - before.ran))
            self._before = now


class Times(NamedTuple):
    """Seconds for which a thread ran, and for which it could have run and had no core."""

    ran: float
    waited: float


def times(process: Path) -> Times:
    """Return how long all threads of a process ran together, and how long the most starved one waited; 0 once it has ended."""
    try:
        found = [times_of_thread(thread / "schedstat") for thread in (process / "task").iterdir()]
    except OSError:
        found = []
    return Times(sum(one.ran for one in found), max((one.waited for one in found), default=0.0))


def times_of_thread(schedstat: Path) -> Times:
    try:
        ran, waited, _ = map(int, schedstat.read_text().split())
    except (OSError, ValueError):
        return Times(0.0, 0.0)
    return Times(ran / 1e9, waited / 1e9)


def test_the_clock_stops_for_want_of_a_core_and_not_for_sleep() -> None:
    with Clock() as clock:
        time.sleep(0.3)
    assert 0.25 < clock.seconds < 1
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})  # inherited by what keeps the core busy
    spin = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        with Clock() as clock:
            end = time.thread_time() + 0.5
            while time.thread_time() < end:
                pass
    finally:
        os.sched_setaffinity(0, before)
        for one in spin:
            one.kill()
            one.wait()
    assert clock.waited > 0.5
    assert 0.4 < clock.seconds < 1


@functools.cache
def skip_or_warm_up(name: str, test: str) -> None:
    """Skip where the tests cannot be run; else have it worked out what they want, which happens once."""
    other = next(example for example in family(name).EXAMPLES if example.score == 0)
    verdict = judge(problem(name, environment={"test": test}), other.program, PATIENCE)
    if verdict.status == "unscored":
        pytest.skip(verdict.detail)
    assert verdict.status == "rejected"


@functools.cache
def warm_up(name: str) -> None:
    """Start the sandbox for the family `name`, once, so that it does not count as an attack's time."""
    judge_next(name)


def judge_next(name: str) -> None:
    """Assert that a right and a wrong program of the family `name` get their verdicts."""
    examples = family(name).EXAMPLES
    wrong = next(e for e in examples if e.score is not None and e.score < 1)
    assert judge(examples[0].problem, examples[0].program, PATIENCE).status == "accepted"
    assert judge(wrong.problem, wrong.program, PATIENCE).status == "rejected"


def survivors() -> list[int]:
    """Return the processes of the sandbox that outlive three seconds, but for those that wait for the next program."""
    deadline = time.monotonic() + 3
    while (found := list(_sandboxed())) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def _sandboxed() -> Iterator[int]:
    """Yield the processes below zygotes, and of their sessions, but for idle workers."""
    zygotes = {zygote._process.pid for zygote in executor._zygotes.values()}
    ours = zygotes | {worker.pid for worker in executor._idle._workers}
    parents: dict[int, int] = {}
    sessions: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):  # fifty times a second: no paths, which cost thrice as much
        try:
            with open(f"/proc/{name}/stat", "rb", buffering=0) as stat:
                _, parent, _, session = stat.read().rpartition(b")")[2].split(maxsplit=4)[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(name)], sessions[int(name)] = int(parent), int(session)
    for pid in parents.keys() - ours:
        above = pid
        while above in parents and above not in ours:
            above = parents[above]
        if above in ours or sessions[pid] in ours:
            yield pid


def test_the_corpus_covers_every_kind_and_family_under_names_of_their_own() -> None:
    assert len(ENTRIES) >= 150
    assert {entry["family"] for _, entry in ENTRIES} == FAMILIES
    assert {kind for kind, _ in ENTRIES} == set(KINDS)
    assert [n for n, count in Counter(entry["name"] for _, entry in ENTRIES).items() if count > 1] == []
    known = {"name", "family", "program", "answer", "gold", "environment", "repeat", "finding"}
    assert [entry["name"] for _, entry in ENTRIES if not entry.keys() <= known] == []
