"""Two shortcuts for decoding one token at a time on a CPU: a cache that grows in place, attention that copies no heads.

transformers concatenates the whole cache at each token and copies each key head once per query head that shares it. Both
copies cost more than the arithmetic at small model sizes. Results are the same but for rounding.
Shape suffixes: B sequences, H query heads, G key heads, T query tokens, S cached tokens, D head size.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, Cache
from transformers.cache_utils import DynamicLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

ATTENTION = "grouped_sdpa"
ROOM = 64
"""Tokens of room made at a time."""


def growing_cache() -> Cache:
    """Return an empty cache whose layers grow in place."""
    return Cache(layer_class_to_replicate=_GrowingLayer)


class _GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values in buffers with room to spare; `keys` and `values` are views of what is filled."""

    def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """Append the states of new tokens; return all."""
        self.keys: Any
        self.values: Any
        filled = self.get_seq_length()
        needed = filled + key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers: tuple[Any, Any] = (None, None)
        if self._buffers[0] is None or self._buffers[0].shape[-2] < needed:
            self._buffers = (self._roomy(key_states, self.keys, needed), self._roomy(value_states, self.values, needed))
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, filled:needed] = new
        self.keys, self.values = (buffer[:, :, :needed] for buffer in self._buffers)
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each sequence."""
        super().batch_repeat_interleave(repeats)
        self._buffers = (None, None)

    def batch_select_indices(self, indices: Any) -> None:
        """Keep the sequences at `indices`."""
        self._buffers = (
            tuple(buffer[indices] for buffer in self._buffers) if self._buffers[0] is not None else (None, None)
        )
        filled = self.get_seq_length()
        if self._buffers[0] is None:
            super().batch_select_indices(indices)
        else:
            self.keys, self.values = (buffer[:, :, :filled] for buffer in self._buffers)

    def join(self, other: _GrowingLayer, n_unused: int) -> None:
        """Take in the sequences of `other`; what is shorter is padded on the left. The first `n_unused` places of ours go."""
        width = max(self.get_seq_length() - n_unused, other.get_seq_length())
        self._buffers = (
            self._joined(self.keys[:, :, n_unused:], other.keys, width),
            self._joined(self.values[:, :, n_unused:], other.values, width),
        )
        self.keys, self.values = (buffer[:, :, :width] for buffer in self._buffers)

    @staticmethod
    def _joined(ours: Any, theirs: Any, width: int) -> Any:
        n = len(ours)
        buffer = ours.new_empty(n + len(theirs), ours.shape[1], width + ROOM, ours.shape[-1])
        for rows, held in ((buffer[:n], ours), (buffer[n:], theirs)):
            padding = width - held.shape[-2]
            rows[:, :, :padding] = 0  # no attention is paid to it, but 0 times what is not a number would be none
            rows[:, :, padding:width] = held
        return buffer

    @staticmethod
    def _roomy(like: Any, held: Any, needed: int) -> Any:
        buffer = like.new_empty(*like.shape[:2], needed + ROOM, like.shape[-1])
        if held.numel():
            buffer[:, :, : held.shape[-2]] = held
        return buffer


def grouped_attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float | None = None, **kwargs: Any
) -> tuple[Any, None]:
    """Attend with one new token a sequence: the query heads that share a key head are taken as rows of one query."""
    n_sequences, n_heads, n_tokens, size = query.shape
    if n_tokens > 1 or kwargs.get("dropout"):
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)  # type: ignore[no-any-return]
    n_groups = key.shape[1]
    query_BGTD = query.reshape(n_sequences, n_groups, n_heads // n_groups, size)
    out_BGTD = torch.nn.functional.scaled_dot_product_attention(
        query_BGTD, key, value, attn_mask=attention_mask, scale=scaling
    )
    return out_BGTD.reshape(n_sequences, 1, n_heads, size), None


AttentionInterface.register(ATTENTION, grouped_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
