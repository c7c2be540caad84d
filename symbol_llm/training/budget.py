"""Which problems are worth more samples: the budget that easy ones leave goes to those with no or few right programs.

K samples of every problem are mostly spent on problems that were solved by the first. Here each is sampled K / 2 times, and
then, a step at a time, the better half of those that may be worth more, until as many were taken as K each would have been.
(Ours; not part of a published method.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Tried(NamedTuple):
    """What the samples of a problem came to."""

    n: int
    n_right: int
    n_distinct: int
    """Right programs that differ."""


def worth(tried: Tried) -> float:
    """Return what one more sample of a problem is worth: how likely it brings a right program that is new, and needed.

    The chance that it is right is the mean of the pass rate's posterior, Beta(1 + right, 1 + wrong); that it is new, the share
    of right ones that were; and each right program that is there makes another count for less.

    >>> worth(Tried(2, 0, 0)), worth(Tried(4, 0, 0)), worth(Tried(2, 1, 1)), worth(Tried(2, 2, 1))
    (0.25, 0.16..., 0.25, 0.1875)
    """
    right = (1 + tried.n_right) / (2 + tried.n)
    new = tried.n_distinct / tried.n_right if tried.n_right else 1.0
    return right * new / (1 + tried.n_distinct)


def next_step(tried: Mapping[str, Tried], step: int, left: int, enough: int, k_max: int) -> list[str]:
    """Return the problems, by id, that are sampled `step` times more: the worthier half, as far as `left` samples go.

    One with `enough` distinct right programs gets none, nor one that would come to more than `k_max` samples.
    """
    wanting = [name for name, t in tried.items() if t.n_distinct < enough and t.n + step <= k_max]
    n = min((len(wanting) + 1) // 2, left // step)
    return sorted(wanting, key=lambda name: (-worth(tried[name]), name))[:n]
