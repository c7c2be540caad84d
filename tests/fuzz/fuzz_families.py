"""Coverage-guided fuzzing of a family's parser: `make fuzz SECONDS=60`. `test_fuzz.py` runs a few fixed texts of it.

    pip install atheris
    python -m tests.fuzz.fuzz_families FAMILY [options of libFuzzer]
    python -m tests.fuzz.fuzz_families regex -max_total_time=30
    python -m tests.fuzz.fuzz_families regex /tmp/symbol-llm-fuzz-found-regex-crash-...        # once more, what was found

Whatever the text, `canonical` must raise Unparsable (LimitExceeded where the text is too large), or return a text that is
its own canonical form, but for the families in `NAMELESS`. Anything else is a crash, and so is what takes longer than `-timeout=` seconds. Inputs begin as the
programs of the family's EXAMPLES; those that reached something new are kept in /tmp/symbol-llm-fuzz-FAMILY for the next
run. What a family parses in a sandbox child is parsed here, where coverage can be seen: the sandbox itself is not fuzzed.
"""

from __future__ import annotations

import importlib
import random
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from symbol_llm import families
from symbol_llm.ground.errors import LimitExceeded, Unparsable
from symbol_llm.sandbox import executor

MAX_CHARS = 400
# `keep_seed`: coverage does not see into libraries written in C, to which all examples would look alike.
USUAL = (f"-max_len={4 * MAX_CHARS}", "-timeout=10", "-rss_limit_mb=3000", "-keep_seed=1")
NAMELESS = ("fol", "python", "rules")
"""Their forms have signs for names that no program can have, and so are no programs."""


class NotCanonicalError(Exception):
    """A canonical form has another canonical form."""


def check(canonical: Callable[[str], str], text: str, *, is_program: bool = True) -> bool:
    """Return whether `canonical` takes `text`; raise unless it then gives the same again, also for the form if it `is_program`.

    A refusal is Unparsable or LimitExceeded; whatever else `canonical` raises is passed on.
    """
    try:
        form = canonical(text)
    except (Unparsable, LimitExceeded):
        return False
    again = canonical(form if is_program else text)
    if again != form:
        raise NotCanonicalError(f"{text!r} gives {form!r}, which gives {again!r}")
    return True


def run_here(entry: str, args: dict[str, Any], *rest: Any, **more: Any) -> executor.Outcome:
    """Stand in for `sandbox.run`: call `entry` in this process."""
    module, _, name = entry.partition(":")
    return executor.Outcome("ok", getattr(importlib.import_module(module), name)(args))


def texts(family: families.Family, seed: int, n: int) -> Iterator[str]:
    """Yield `n` texts drawn with `seed`: examples with a few tokens or characters taken from each other, lost or repeated."""
    rng = random.Random(seed)
    parts = [re.findall(r"\w+|\s+|[^\w\s]", example.program) for example in family.EXAMPLES]
    pool = [token for tokens in parts for token in tokens] + [
        *"()[]{}<>\"'`\\\0 \n",
        "\U0001f600",
        "9" * 400,
        "1e999",
    ]
    for _ in range(n):
        tokens = list(rng.choice(parts))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(tokens) + 1)
            length = rng.choice((0, 0, 1, 3))
            tokens[at : at + length] = rng.choice(
                ([], [rng.choice(pool)], tokens[at : at + length] * 2, rng.choice(parts)[:8])
            )
        yield "".join(tokens)[:MAX_CHARS]


def main(arguments: list[str]) -> None:
    """Fuzz the family that is named first; does not return."""
    if len(arguments) < 2 or arguments[1] not in families.names():
        sys.exit(f"usage: python -m tests.fuzz.fuzz_families FAMILY [options]; families: {', '.join(families.names())}")
    try:
        import atheris  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        sys.exit("fuzzing needs atheris, which is no dependency of the project: pip install atheris")
    name = arguments[1]
    with atheris.instrument_imports(include=["symbol_llm"]):
        family = families.get(name)

    def test_one_input(data: bytes) -> None:
        text = data.decode(errors="replace").replace("\r\n", "\n")[:MAX_CHARS]
        check(family.canonical, text, is_program=name not in NAMELESS)

    inputs = Path(tempfile.gettempdir()) / f"symbol-llm-fuzz-{name}"
    inputs.mkdir(exist_ok=True)
    for n, example in enumerate(family.EXAMPLES):
        (inputs / f"example-{n}").write_text(example.program)
    replays = any(not option.startswith("-") for option in arguments[2:])
    executor.run = run_here  # type: ignore[assignment]
    found = f"-artifact_prefix={tempfile.gettempdir()}/symbol-llm-fuzz-found-{name}-"
    atheris.Setup([*arguments[:1], *USUAL, found, *arguments[2:], *([] if replays else [str(inputs)])], test_one_input)
    atheris.Fuzz()  # which ends the process


if __name__ == "__main__":
    main(sys.argv)
