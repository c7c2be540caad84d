"""The statistics of every figure: Wilson's interval of a share, the percentile bootstrap of a mean, pass@k. One rule each."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import NormalDist, fmean

from symbol_llm.ground.records import Interval

Z_95 = NormalDist().inv_cdf(0.975)
N_RESAMPLES = 2000


def wilson(mean: float, n: int) -> Interval:
    """Return Wilson's 95 % interval of a share `mean` of `n`; (0, 1) for n = 0.

    >>> wilson(0.5, 100)
    Interval(n=100, mean=0.5, low=0.4038..., high=0.5961...)
    """
    if n == 0:
        return Interval(n=0, mean=0.0, low=0.0, high=1.0)
    z2 = Z_95**2
    centre = (mean + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(mean * (1 - mean) / n + z2 / (4 * n * n))
    return Interval(n=n, mean=mean, low=max(0.0, centre - half), high=min(1.0, centre + half))


def pass_at(k: int, n: int, n_right: int) -> float:
    """Return the unbiased estimate of pass@k out of `n` samples, `n_right` of them right (Chen et al. 2021, eq. 1).

    >>> pass_at(1, 4, 1), pass_at(4, 4, 1)
    (0.25, 1.0)
    """
    return 1.0 - math.comb(n - n_right, k) / math.comb(n, k)


def bootstrap(values: Sequence[float], confidence: float = 0.95, seed: int = 0) -> Interval:
    """Return the mean of `values` with its percentile bootstrap interval (2,000 resamples); (0, 1) for no values.

    The bounds are the resampled means that leave a share of (1 - confidence) / 2, rounded down, below and above.
    """
    if not values:
        return Interval(n=0, mean=0.0, low=0.0, high=1.0)
    rng = random.Random(seed)  # noqa: S311 - statistics, not secrets
    means = sorted(fmean(rng.choices(values, k=len(values))) for _ in range(N_RESAMPLES))
    n_beyond = int((1 - confidence) / 2 * N_RESAMPLES)
    return Interval(n=len(values), mean=fmean(values), low=means[n_beyond], high=means[-1 - n_beyond])
