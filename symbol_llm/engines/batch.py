"""Replies that are written at once, a token a step: how tokens are drawn, how rows leave, and how others join them.

Shape suffixes: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from symbol_llm.engines import Request, Sampling


class Prompt(NamedTuple):
    """A prompt that is read: the one at `place` of request `number`."""

    number: int
    place: int
    ids: list[int]
    request: Request
    """With as many replies as are drawn: one where all would be the same."""
    copies: int
    """Replies that each drawn one stands for."""


@dataclass
class Row:
    """A reply under way: number `index` of those to its prompt."""

    prompt: Prompt
    index: int
    rng: torch.Generator
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0

    @property
    def n_left(self) -> int:
        """Tokens that it may still get."""
        return self.prompt.request.sampling.max_tokens - len(self.tokens)

    def has_ended(self, end: int) -> bool:
        """Return whether its last token is `end`, or it may get no more."""
        return self.tokens[-1] == end or not self.n_left


@dataclass
class Batch:
    """Rows that share a cache, each with the logits of its next token. The rows of one generator lie side by side."""

    rows: list[Row]
    cache: Any
    """As `decoding.growing_cache` makes it."""
    mask_BT: torch.Tensor
    logits_BV: torch.Tensor

    @property
    def width(self) -> int:
        """Places of a row in the cache."""
        return int(self.mask_BT.shape[1])

    def keep(self, places: Sequence[int]) -> None:
        """Keep the rows at `places` alone."""
        self.rows = [self.rows[b] for b in places]
        if not self.rows:
            return
        places_B = torch.tensor(places, device=self.mask_BT.device, dtype=torch.long)
        self.cache.batch_select_indices(places_B)
        self.mask_BT, self.logits_BV = self.mask_BT[places_B], self.logits_BV[places_B]

    def join(self, other: Batch) -> None:
        """Take the rows of `other` in after the present ones; what is shorter is padded on the left.

        Places that only rows used that have left are given up, so a batch that is joined for ever does not grow for ever.
        """
        n_unused = int(self.mask_BT.any(0).int().argmax())
        for ours, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            ours.join(theirs, n_unused)
        masks = [self.mask_BT[:, n_unused:], other.mask_BT]
        width = max(mask.shape[1] for mask in masks)
        padded = [torch.nn.functional.pad(mask, (width - mask.shape[1], 0)) for mask in masks]
        self.mask_BT = torch.cat(padded)
        self.logits_BV = torch.cat([self.logits_BV, other.logits_BV])
        self.rows += other.rows


def draw_each(logits_BV: torch.Tensor, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a token a row, drawn with its own generator, and the log-probabilities of these tokens at temperature 1."""
    if len({id(row.rng) for row in rows}) == 1:
        return _draw(logits_BV, rows[0].prompt.request.sampling, rows[0].rng)
    next_B = torch.empty(len(rows), dtype=torch.long, device=logits_BV.device)
    logprob_B = torch.empty(len(rows), device=logits_BV.device)
    for _, group in itertools.groupby(range(len(rows)), key=lambda b: id(rows[b].rng)):
        mine = list(group)
        mine_B = torch.tensor(mine, device=logits_BV.device)
        row = rows[mine[0]]
        next_B[mine_B], logprob_B[mine_B] = _draw(logits_BV[mine_B], row.prompt.request.sampling, row.rng)
    return next_B, logprob_B


def _draw(logits_BV: torch.Tensor, how: Sampling, rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the drawn tokens and their log-probabilities at temperature 1."""
    logprobs_BV = torch.log_softmax(logits_BV, -1)
    if how.temperature == 0:
        next_B = logprobs_BV.argmax(-1)
    else:
        probs_BV = torch.softmax(logits_BV / how.temperature, -1)
        if how.top_p < 1:
            probs_BV = _nucleus(probs_BV, how.top_p)
        cumulative_BV = probs_BV.cumsum(-1)
        point_B1 = torch.rand(len(probs_BV), 1, generator=rng, device=rng.device) * cumulative_BV[:, -1:]
        next_B = torch.searchsorted(cumulative_BV, point_B1, right=True).clamp(max=probs_BV.shape[-1] - 1)[:, 0]
    return next_B, logprobs_BV.gather(1, next_B[:, None])[:, 0]


def _nucleus(probs_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    sorted_BV, order_BV = probs_BV.sort(-1, descending=True)
    sorted_BV[sorted_BV.cumsum(-1) - sorted_BV >= top_p] = 0
    return torch.zeros_like(probs_BV).scatter_(-1, order_BV, sorted_BV)
