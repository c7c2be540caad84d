"""A slice of the fuzzing that `make fuzz` does for as long as one likes: for each family, the same few texts every time."""

import signal
from typing import Any, NoReturn

import pytest

from symbol_llm import families
from symbol_llm.sandbox import executor
from tests import problems
from tests.fuzz.fuzz_families import MAX_CHARS, NAMELESS, NotCanonicalError, check, run_here, texts

N_TEXTS = 800
CPU_S = 10
"""Of one text, of at most MAX_CHARS; `make fuzz` allows as much."""


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parse here what a family has parsed in the sandbox."""
    monkeypatch.setattr(executor, "run", run_here)


def too_slow(*_: Any) -> NoReturn:
    raise TimeoutError(f"a text took {CPU_S} s of CPU")


@pytest.mark.parametrize("name", families.names())
@pytest.mark.usefixtures("in_this_process")
def test_no_text_breaks_the_parser_or_has_two_canonical_forms(name: str) -> None:
    family = problems.family(name)
    before = signal.signal(signal.SIGPROF, too_slow)
    n_read = 0
    try:
        for text in texts(family, 12, N_TEXTS):
            signal.setitimer(signal.ITIMER_PROF, CPU_S)
            family.program_of(text)
            n_read += check(family.canonical, text, is_program=name not in NAMELESS)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert 0 < n_read < N_TEXTS  # texts that are refused at once would try nothing


def test_the_same_seed_gives_the_same_texts_and_none_is_too_long() -> None:
    family = families.get("regex")
    assert list(texts(family, 1, 20)) == list(texts(family, 1, 20)) != list(texts(family, 2, 20))
    assert max(map(len, texts(family, 1, 500))) <= MAX_CHARS


def test_a_parser_that_is_wrong_is_found() -> None:
    with pytest.raises(NotCanonicalError):
        check(lambda text: text[1:], "abc")
    with pytest.raises(KeyError):
        check(lambda text: {}[text], "abc")
    assert check(str.lower, "ABC")
