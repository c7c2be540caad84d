"""What a test may cost: CPU seconds of its own thread, and how this machine compares with the one that limits were chosen on."""

import contextlib
import functools
import gc
import time
from collections.abc import Iterator

REFERENCE_S = 0.08
"""What a million additions take on the machine that limits are meant for."""


@functools.cache
def slowness(noise: float = 1.0) -> float:
    """Return how many times slower than the reference this machine computes, times `noise`, and at least 1."""
    start = time.thread_time()
    total = 0
    for n in range(1_000_000):
        total += n % 7
    return max(1.0, noise * (time.thread_time() - start) / REFERENCE_S)


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fail where the body costs more than `seconds`, not counting other threads or walks through what other tests left in memory."""
    gc.disable()
    start = time.thread_time()
    try:
        yield
        used = time.thread_time() - start
    finally:
        gc.enable()
    assert used < seconds, f"{used:.2f} s of CPU"
