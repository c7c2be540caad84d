"""Messages to token ids through the model's own chat template: one way, for training, sampling and scoring alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from symbol_llm.engines import Completion, weights
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Messages


class Encoded(NamedTuple):
    """Token ids of prompt, reply and end of turn; the first `n_prompt` are the prompt."""

    ids: list[int]
    n_prompt: int


def tokenizer(checkpoint: Path) -> Any:
    """Return the tokenizer of a checkpoint that is fit to use; InvalidInput if it is not (see `weights.check`)."""
    from transformers import AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(weights.check(checkpoint), padding_side="left", trust_remote_code=False)
    if loaded.eos_token_id is None:
        raise InvalidInput(
            f"checkpoint {str(checkpoint)!r}: its tokenizer has no end-of-sequence token, so no reply could end; "
            "set `eos_token` in tokenizer_config.json"
        )
    if not loaded.chat_template:
        raise InvalidInput(
            f"checkpoint {str(checkpoint)!r}: its tokenizer has no chat template; an instruction-tuned model is needed"
        )
    if loaded.pad_token_id is None:
        loaded.pad_token = loaded.eos_token
    return loaded


def prompt_ids(tok: Any, messages: Messages) -> list[int]:
    """Return the ids of `messages` up to where the assistant begins."""
    text = tok.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids: list[int] = tok(text, add_special_tokens=False).input_ids
    return ids


def encode(tok: Any, messages: Messages, reply: str) -> Encoded:
    """Return the ids of `messages` answered with `reply` and the end of turn."""
    prompt = prompt_ids(tok, messages)
    return Encoded([*prompt, *tok(reply, add_special_tokens=False).input_ids, tok.eos_token_id], len(prompt))


def completions(replies: Sequence[str], sums: Sequence[float], counts: Sequence[int]) -> list[Completion]:
    """Return replies with token counts and mean log-probabilities out of summed ones.

    InvalidInput for a sum that is not finite, which no sound model gives.
    """
    if not all(map(math.isfinite, sums)):
        raise InvalidInput("the model gives log-probabilities that are not finite: its weights are broken")
    return [Completion(text, n, total / max(n, 1)) for text, total, n in zip(replies, sums, counts, strict=True)]
