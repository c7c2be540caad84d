"""Running out of memory says what to lower; every other failure stays what it is."""

import errno

import pytest
import torch

from symbol_llm.engines.memory import advising
from symbol_llm.ground.errors import LimitExceeded


@pytest.mark.parametrize("allocate", [lambda: torch.empty(2**50), lambda: bytearray(2**62)])
def test_a_real_want_of_memory_says_what_to_lower(allocate) -> None:
    with pytest.raises(LimitExceeded, match="no memory for 8 rows: lower `batch`"), advising("8 rows", "lower `batch`"):
        allocate()


def test_the_kernels_word_for_it_counts() -> None:
    with pytest.raises(LimitExceeded), advising("8 rows", "lower `batch`"):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")


def test_another_failure_passes() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), advising("8 rows", "lower `batch`"):
        raise RuntimeError("shapes differ")
