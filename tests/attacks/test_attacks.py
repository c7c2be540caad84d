"""Hostile programs, none of which may be accepted, cost the judge a verdict, or leave anything behind.

`corpus/KIND.yaml` holds a list of entries. Each has `name` (what it tries), `family` and `program`; where the problem
of the family's first example is not enough, `answer`, `gold` or `environment` make another one. `repeat: {text, times}`
stands for `{repeat}` in the program, or is the program; `{n}` in its text is the number of the repetition. `finding`
says why an attack that still works is known.

Programs are written so that to be accepted is to have done the harm: what they answer is stolen or forged.
"""

import functools
import pkgutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from symbol_llm import families
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging.verify import judge
from symbol_llm.sandbox import confinement, executor
from tests.problems import family, problem

CORPUS = Path(__file__).parent / "corpus"
KINDS = ("escape", "forge", "exhaust", "cheat")
FAMILIES = {module.name for module in pkgutil.iter_modules(families.__path__)}
"""Of this package; other packages may add theirs."""
ENTRIES = [(kind, entry) for kind in KINDS for entry in yaml.safe_load((CORPUS / f"{kind}.yaml").read_text())]
TIMEOUT_S = {"exhaust": 1.0}
PATIENCE = Limits(timeout_s=20)
SLACK_S = 6
"""For a sandbox that must start anew on a busy machine; what is judged without one has no timeout, so this is its."""


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
    judge_next(entry["family"])  # so that starting the sandbox does not count as the attack's time
    if "test" in entry.get("environment", {}):
        skip_or_warm_up(entry["family"], entry["environment"]["test"])
    start = time.monotonic()
    verdict = judge(problem_of(entry), program_of(entry), limits)
    assert time.monotonic() - start < limits.timeout_s + SLACK_S
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


@functools.cache
def skip_or_warm_up(name: str, test: str) -> None:
    """Skip where the tests cannot be run; else have it worked out what they want, which happens once."""
    other = next(example for example in family(name).EXAMPLES if example.score == 0)
    verdict = judge(problem(name, environment={"test": test}), other.program, PATIENCE)
    if verdict.status == "unscored":
        pytest.skip(verdict.detail)
    assert verdict.status == "rejected"


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
    """Yield the processes forked by zygotes, and by workers, but for idle workers."""
    zygotes = {zygote._process.pid for zygote in executor._zygotes.values()}
    parents = zygotes | {worker.pid for worker in executor._idle._workers}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, parent, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(stat.parent.name)
        if pid not in parents and parents & {int(parent), int(session)}:
            yield pid


def test_the_corpus_covers_every_kind_and_family_under_names_of_their_own() -> None:
    assert len(ENTRIES) >= 150
    assert {entry["family"] for _, entry in ENTRIES} == FAMILIES
    assert {kind for kind, _ in ENTRIES} == set(KINDS)
    assert [n for n, count in Counter(entry["name"] for _, entry in ENTRIES).items() if count > 1] == []
    known = {"name", "family", "program", "answer", "gold", "environment", "repeat", "finding"}
    assert [entry["name"] for _, entry in ENTRIES if not entry.keys() <= known] == []
