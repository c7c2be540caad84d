"""The order of rows: which of the Trainer's there is, and that a pass draws anew from one generator."""

import pytest
import torch

from symbol_llm.ground.params import Tune
from symbol_llm.training.order import Shuffled, strategy


@pytest.mark.parametrize(
    ("batching", "shuffle", "expected"),
    [
        ("packed", True, "random"),
        ("padded", True, "group_by_length"),
        ("packed", False, "sequential"),
        ("padded", False, "sequential"),
    ],
)
def test_rows_are_grouped_by_length_only_if_they_are_padded(batching: str, shuffle: bool, expected: str) -> None:
    assert strategy(Tune.model_validate({"batching": batching, "shuffle": shuffle})) == expected


def test_each_pass_has_every_row_once_in_an_order_that_the_seed_alone_decides() -> None:
    draws = torch.Generator()
    sampler = Shuffled(20, draws)
    draws.manual_seed(3)
    first, second = list(sampler), list(sampler)
    torch.manual_seed(1)  # the global generator has no say
    draws.manual_seed(3)
    assert [list(sampler), list(sampler)] == [first, second]
    assert first != second != sorted(second)
    assert sorted(first) == sorted(second) == list(range(len(sampler)))
