"""Sampling and scoring with transformers: the engine of a machine without vLLM, and the default on a CPU.

Replies that have ended leave the batch, so a few long ones do not hold up the rest. Not for serving many users.
Shape suffixes: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from symbol_llm.errors import LimitExceeded
from symbol_llm.models import Completion
from symbol_llm.models.chat import completions, encode, prompt_ids, tokenizer
from symbol_llm.models.decoding import ATTENTION, growing_cache
from symbol_llm.records import Messages

IGNORED = -100


def start(checkpoint: Path, *, batch: int) -> TransformersEngine:
    """Return the engine with `checkpoint` loaded."""
    return TransformersEngine(checkpoint, batch=batch)


class TransformersEngine:
    """A causal language model in bf16 on the GPU if there is one, else on the CPU."""

    name = "transformers"

    def __init__(self, checkpoint: Path, *, batch: int) -> None:
        """Load `checkpoint`; at most `batch` sequences are generated at once."""
        self.batch = batch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.load(checkpoint)

    def load(self, checkpoint: Path) -> None:
        """Take the weights of `checkpoint`."""
        self.tok = tokenizer(checkpoint)
        self.model = AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=torch.bfloat16, use_safetensors=True, attn_implementation=ATTENTION
        )
        self.model.to(self.device).eval()

    def generate(
        self, prompts: Sequence[Messages], *, n: int, temperature: float, top_p: float, max_tokens: int, seed: int
    ) -> list[list[Completion]]:
        """See `Engine.generate`. Prompts of like length share a batch, which leaves the order of results as it was."""
        n_drawn = n if temperature > 0 else 1
        ids = [prompt_ids(self.tok, p) for p in prompts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        step = max(1, self.batch // n_drawn)
        found: dict[int, list[Completion]] = {}
        for at in range(0, len(order), step):
            group = order[at : at + step]
            rng = torch.Generator(self.device).manual_seed(random.Random(f"{seed}:{at}").getrandbits(63))
            with _memory(self.batch):
                replies = self._decode([ids[i] for i in group], n_drawn, temperature, top_p, max_tokens, rng)
            for place, i in enumerate(group):
                mine = replies[place * n_drawn : (place + 1) * n_drawn]
                found[i] = mine * (n // n_drawn)
        return [found[i] for i in range(len(ids))]

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _decode(
        self, prompts: list[list[int]], n: int, temperature: float, top_p: float, max_tokens: int, rng: torch.Generator
    ) -> list[Completion]:
        padded = self.tok.pad({"input_ids": prompts}, return_tensors="pt").to(self.device)
        mask_BT = padded.attention_mask
        cache = growing_cache()
        logits_BV = self._forward(padded.input_ids, mask_BT, cache)
        if n > 1:
            cache.batch_repeat_interleave(n)
            mask_BT, logits_BV = mask_BT.repeat_interleave(n, 0), logits_BV.repeat_interleave(n, 0)
        total = len(prompts) * n
        tokens: list[list[int]] = [[] for _ in range(total)]
        sums = [0.0] * total
        rows = list(range(total))
        for _ in range(max_tokens):
            next_B, logprob_B = _draw(logits_BV, temperature, top_p, rng)
            for row, token, logprob in zip(rows, next_B.tolist(), logprob_B.tolist(), strict=True):
                tokens[row].append(token)
                sums[row] += logprob
            alive = [b for b, row in enumerate(rows) if tokens[row][-1] != self.tok.eos_token_id]
            if not alive:
                break
            if len(alive) < len(rows):
                keep = torch.tensor(alive, device=self.device)
                cache.batch_select_indices(keep)
                mask_BT, next_B, rows = mask_BT[keep], next_B[keep], [rows[b] for b in alive]
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(rows), 1)], 1)
            logits_BV = self._forward(next_B[:, None], mask_BT, cache)
        texts = [self.tok.decode(t, skip_special_tokens=True) for t in tokens]
        return completions(texts, sums, [len(t) for t in tokens])

    def _forward(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor, cache: Any) -> torch.Tensor:
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
        out = self.model(
            input_ids=ids_BT, attention_mask=mask_BT, position_ids=positions_BT, past_key_values=cache, logits_to_keep=1
        )
        last_BV: torch.Tensor = out.logits[:, -1].float()
        return last_BV

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        """See `Engine.score`."""
        rows = [encode(self.tok, p, r) for p, r in zip(prompts, replies, strict=True)]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
        sums = [0.0] * len(rows)
        step = max(1, self.batch // 4)
        for at in range(0, len(order), step):
            group = order[at : at + step]
            with _memory(self.batch):
                found = self._reply_logprobs([rows[i].ids for i in group], [rows[i].n_prompt for i in group])
            for i, total in zip(group, found, strict=True):
                sums[i] = total
        return completions(list(replies), sums, [len(r.ids) - r.n_prompt for r in rows])

    def _reply_logprobs(self, ids: list[list[int]], n_prompt: list[int]) -> list[float]:
        width = max(map(len, ids))
        ids_BT = torch.tensor([row + [self.tok.pad_token_id] * (width - len(row)) for row in ids], device=self.device)
        mask_BT = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=self.device)
        first = min(n_prompt)
        logits_BTV = self.model(input_ids=ids_BT, attention_mask=mask_BT, logits_to_keep=width - first + 1).logits[
            :, :-1
        ]
        labels_BT = ids_BT[:, first:].clone()
        for b, row in enumerate(ids):
            labels_BT[b, : n_prompt[b] - first] = IGNORED
            labels_BT[b, len(row) - first :] = IGNORED
        loss_BT = torch.nn.functional.cross_entropy(
            logits_BTV.float().transpose(1, 2), labels_BT, ignore_index=IGNORED, reduction="none"
        )
        totals: list[float] = (-loss_BT.sum(1)).tolist()
        return totals


def _draw(
    logits_BV: torch.Tensor, temperature: float, top_p: float, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the drawn tokens and their log-probabilities at temperature 1."""
    logprobs_BV = torch.log_softmax(logits_BV, -1)
    if temperature == 0:
        next_B = logprobs_BV.argmax(-1)
    else:
        probs_BV = torch.softmax(logits_BV / temperature, -1)
        if top_p < 1:
            probs_BV = _nucleus(probs_BV, top_p)
        cumulative_BV = probs_BV.cumsum(-1)
        point_B1 = torch.rand(len(probs_BV), 1, generator=rng, device=rng.device) * cumulative_BV[:, -1:]
        next_B = torch.searchsorted(cumulative_BV, point_B1, right=True).clamp(max=probs_BV.shape[-1] - 1)[:, 0]
    return next_B, logprobs_BV.gather(1, next_B[:, None])[:, 0]


def _nucleus(probs_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    sorted_BV, order_BV = probs_BV.sort(-1, descending=True)
    sorted_BV[sorted_BV.cumsum(-1) - sorted_BV >= top_p] = 0
    return torch.zeros_like(probs_BV).scatter_(-1, order_BV, sorted_BV)


class _memory:
    """Turn running out of memory into an error that says which parameter to lower."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        text = str(error)
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in text:
            raise LimitExceeded(
                f"no memory for a batch of {self.batch} sequences: lower `batch` or `max_tokens` of this stage"
            ) from error
