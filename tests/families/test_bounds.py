"""What reading a text costs, whatever it holds: a second of CPU and 256 MiB in the trusted parent, for every family.

Each token of a family's grammar is repeated to the length that replies may have, nested to it, and put into the middle of
gold. Seconds are those of the machine that the limit was chosen on; `slowness` says how much slower this one is. What a
family leaves to the sandbox is bounded there.
"""

import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from symbol_llm import families
from symbol_llm.families import Family
from symbol_llm.ground.errors import LimitExceeded, TimedOut, Unparsable
from symbol_llm.judging.verify import MAX_CHARS
from symbol_llm.sandbox import executor
from tests import problems
from tests.cpu import slowness

ROOT = Path(__file__).parents[2]
MAX_SECONDS = 1.0
MAX_MIB = 256
NOISE = 1.5
SHORTER = 7_500
"""Characters of a text that families which allow less than a reply may have still read."""
N_TOKENS = 6
"""Words and signs of a family's examples that are tried besides SIGNS."""
SIGNS = (
    *"()[]{}<>\"'`,;:.|&!?*+-/\\=~^%$#@_ \n\t0a",
    "\n\n",
    "a\n",
    "not ",
    "-a",
    "(a",
    "a(",
    "{a",
    "[a",
    "a=",
    "1+",
    "```\n",
)
CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}


class TooSlow(BaseException):
    """A text took longer than it may."""


def tokens(family: Family) -> list[str]:
    """Return the signs that every family is tried with, and names, numbers and signs of its examples."""
    words = re.findall(r"\w+|[^\w\s]+", " ".join(example.program for example in family.EXAMPLES))
    return list(dict.fromkeys([*SIGNS, *list(dict.fromkeys(words))[:N_TOKENS]]))


def texts(family: Family) -> Iterator[tuple[str, str]]:
    """Yield what a text is made of, and the text."""
    gold = family.EXAMPLES[0].program
    middle = len(gold) // 2
    for token in tokens(family):
        yield f"{token!r} repeated", token * (MAX_CHARS // len(token))
        n = MAX_CHARS // (2 * len(token))
        for opening, closing in CLOSING.items():
            if opening in token:
                yield f"{token!r} nested", token * n + closing * n
        for length in (MAX_CHARS, SHORTER):
            times = (length - len(gold)) // len(token)
            yield f"{token!r} inside gold, {length} in all", gold[:middle] + token * times + gold[middle:]


def cost(read: Callable[[str], object], text: str, most: float) -> tuple[float, str]:
    """Return the CPU seconds that `read` takes for `text`, cut off well above `most`, and what it raised that it may not."""
    signal.setitimer(signal.ITIMER_PROF, 2 * most)
    start = time.process_time()
    wrong = ""
    try:
        read(text)
    except (Unparsable, LimitExceeded, TimedOut):
        pass
    except TooSlow:
        wrong = "cut off"
    except Exception as e:  # whatever is raised is what the test reports
        wrong = type(e).__name__
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return time.process_time() - start, wrong


def stop(*_: Any) -> NoReturn:
    raise TooSlow


def not_here(*_: Any, **__: Any) -> NoReturn:
    raise LimitExceeded("this is the sandbox's")


def measure(name: str) -> None:
    """Print each text of the family `name` that takes more than it may, in a process that can have no more memory."""
    family = families.get(name)
    executor.run = not_here
    for example in family.EXAMPLES:  # what is imported or cached on first use is no text's
        cost(family.canonical, example.program, 60)
    signal.signal(signal.SIGPROF, stop)
    most = MAX_SECONDS * slowness(NOISE)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_MIB * 2**20,) * 2)
    n = 0
    for what, text in texts(family):
        for read in (family.program_of, family.canonical):
            seconds, wrong = cost(read, text, most)
            n += 1
            if wrong or seconds > most:
                print(f"{read.__name__} of {what}: {seconds:.2f} s of {most:.2f} {wrong}", flush=True)  # noqa: T201
    print(f"{n} tried")  # noqa: T201 - what the test reads


@pytest.mark.parametrize("name", families.names())
def test_a_text_of_any_token_takes_a_second_and_256_mib_at_most(name: str) -> None:
    problems.family(name)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.families.test_bounds", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    *faults, last = ran.stdout.splitlines() or [""]
    assert (ran.returncode, faults) == (0, []), ran.stderr[-2000:]
    assert int(last.removesuffix(" tried")) > 200


def test_the_measure_sees_what_is_slow_and_what_is_raised() -> None:
    before = signal.signal(signal.SIGPROF, stop)
    try:
        assert cost(lambda text: re.fullmatch("(a|a)*b", text), "a" * 40, 0.05)[1] == "cut off"
        assert cost(lambda text: {}[text], "a", 1)[1] == "KeyError"
        assert cost(len, "a", 1)[1] == ""
    finally:
        signal.signal(signal.SIGPROF, before)


if __name__ == "__main__":
    measure(sys.argv[1])
