"""The order in which a tuning stage takes its rows: as given, at random, or at random with rows of similar length together.

It comes from one generator alone, which `tune.py` seeds at the start of each epoch. The Trainer's own comes from the
global one, which at a restart within an epoch is not where it was when that epoch began.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from symbol_llm.ground.params import Tune


def strategy(params: Tune) -> str:
    """Return transformers' word for the order: rows that are padded are better off with others of their length."""
    if not params.shuffle:
        return "sequential"
    return "random" if params.batching == "packed" else "group_by_length"


class Shuffled:
    """A sampler that draws an order at each pass. It is no RandomSampler, for which accelerate puts one with its own seed."""

    def __init__(self, n: int, draws: Any) -> None:
        """Order `n` rows by the generator `draws`."""
        self.n, self.draws = n, draws

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.n

    def __iter__(self) -> Iterator[int]:
        """Return the rows in the order of this pass."""
        import torch

        return iter(torch.randperm(self.n, generator=self.draws).tolist())


def ordered(kind: Any, draws: Any) -> Any:
    """Return the Trainer class `kind`, whose order of rows comes from the generator `draws`."""
    from torch.utils.data import RandomSampler
    from transformers.trainer_pt_utils import LengthGroupedSampler

    class Ordered(kind):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            made = super()._get_train_sampler(train_dataset)
            if isinstance(made, RandomSampler):
                return Shuffled(len(self.train_dataset), draws)
            if isinstance(made, LengthGroupedSampler):
                made.generator = draws
            return made

    return Ordered
