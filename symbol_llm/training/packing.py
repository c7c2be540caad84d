"""Attention within rows that lie end to end in one sequence, so that a batch needs no padding and no mask.

Each row attends to itself alone, as if it were alone in the model: what it costs grows with the square of a row, not of
the batch, and losses equal those of padded rows but for rounding. The model is told the rows' lengths by the keyword
`row_lengths`, which transformers hands on to attention; `losses.Packer` makes such batches. What carries more than
attention from token to token, such as a state space, cannot be kept apart this way and is refused.
Shape suffixes: H query heads, G key heads, T tokens of all rows, D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from symbol_llm.ground.errors import InvalidInput

ATTENTION = "within_rows"
UNKNOWN = ("softcap", "s_aux", "position_bias")
"""What some models want of attention and is not done here."""
ADVICE = "set `batching=padded` for this stage"


def check(model: Any) -> None:
    """Raise InvalidInput unless attention is all that carries from token to token in `model`."""
    if model._is_stateful or not model._supports_attention_backend:  # noqa: SLF001 - transformers says it nowhere else
        raise InvalidInput(f"rows of a {model.config.model_type!r} model cannot be packed: {ADVICE}")


def attention(
    module: Any,
    query_1HTD: Any,
    key_1GTD: Any,
    value_1GTD: Any,
    attention_mask: None,
    *,
    row_lengths: Sequence[int],
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[Any, None]:
    """Return what each row of `row_lengths` tokens attends to, causally and within itself, of shape 1THD.

    The arguments are those of transformers' attention interface. InvalidInput for a model that wants more than this.
    """
    if wanted := [name for name in UNKNOWN if more.get(name) is not None]:
        raise InvalidInput(f"attention of this model has {wanted[0]}, which packed rows do not: {ADVICE}")
    rows = zip(*(t.split(list(row_lengths), 2) for t in (query_1HTD, key_1GTD, value_1GTD)), strict=True)
    how = {"dropout_p": dropout, "scale": scaling, "enable_gqa": key_1GTD.shape[1] != query_1HTD.shape[1]}
    out = []
    for query, key, value in rows:
        near = _near(query, sliding_window)
        out.append(scaled_dot_product_attention(query, key, value, attn_mask=near, is_causal=near is None, **how))
    return torch.cat(out, 2).transpose(1, 2).contiguous(), None


def _near(query_1HTD: Any, window: int | None) -> Any:
    """Return which tokens of a row each may look back to; None if all before it are within `window`."""
    n = query_1HTD.shape[2]
    if window is None or n <= window:
        return None
    places = torch.arange(n, device=query_1HTD.device)
    back = places[:, None] - places[None, :]
    return (back >= 0) & (back < window)


AttentionInterface.register(ATTENTION, attention)
