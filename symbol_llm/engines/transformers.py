"""Sampling and scoring with transformers: the engine of a machine without vLLM, and the default on a CPU.

Replies that have ended leave the batch, so a few long ones do not hold up the rest. Not for serving many users.
Shape suffixes: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoModelForCausalLM

from symbol_llm.engines import Completion, Ended, Engine, Request, Sampling, precision
from symbol_llm.engines.chat import completions, encode, prompt_ids, tokenizer
from symbol_llm.engines.decoding import ATTENTION, growing_cache
from symbol_llm.engines.memory import advising
from symbol_llm.engines.prefixes import HELD, Group, batches
from symbol_llm.ground.records import Messages

SCORED = 2**13
"""Places of a batch that is scored: their logits over 49,152 tokens take 0.8 GB in bf16."""
ADVICE = "lower `batch` or `max_tokens` of this stage"


def start(checkpoint: Path, *, batch: int) -> TransformersEngine:
    """Return the engine with `checkpoint` loaded."""
    return TransformersEngine(checkpoint, batch=batch)


class TransformersEngine(Engine):
    """A causal language model on the GPU if there is one, else on the CPU, in the floats that are fast there."""

    name = "transformers"

    def __init__(self, checkpoint: Path, *, batch: int) -> None:
        """Load `checkpoint`; at most `batch` sequences are generated at once, fewer if they are long (`prefixes.HELD`)."""
        self.batch = batch
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.runs_on = precision.device()
        self.dtype = precision.dtype()
        self.width = self.dtype.itemsize // torch.bfloat16.itemsize
        self.load(checkpoint)

    def load(self, checkpoint: Path) -> None:
        """Take the weights of `checkpoint`."""
        self.tok = tokenizer(checkpoint)
        self.model = AutoModelForCausalLM.from_pretrained(
            checkpoint,
            dtype=self.dtype,
            use_safetensors=True,
            attn_implementation=ATTENTION,
            trust_remote_code=False,
        )
        self.model.to(self.device).eval()

    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        """See `Engine.stream`. Prompts of like length share a batch; requests share one only if they are `together`."""
        numbered = [(n, r._replace(sampling=_drawn(r.sampling))) for n, r in enumerate(requests)]
        for turn in [numbered] if self.together else [[one] for one in numbered]:
            yield from self._turn(turn, requests)

    def _turn(self, turn: list[tuple[int, Request]], requests: Sequence[Request]) -> Iterator[Ended]:
        """Yield the replies to requests whose prompts may share batches."""
        prompts = [_Prompt(number, place, request) for number, request in turn for place in range(len(request.prompts))]
        ids = [prompt_ids(self.tok, p.request.prompts[p.place]) for p in prompts]
        n = max(request.sampling.n for _, request in turn)
        more = max(request.sampling.max_tokens for _, request in turn)
        most, size = [len(row) - 1 for row in ids], max(1, self.batch // n)
        for batch, groups in enumerate(batches(ids, most, size, held=HELD // (self.width * n), more=more)):
            owners = [prompts[i] for i in _rows(groups)]
            rngs = [self._rng(f"{o.request.seed}:{o.place}") for o in owners] if self.together else []
            rngs = rngs or [self._rng(f"{owners[0].request.seed}:{batch}")] * len(owners)
            with advising(f"a batch of {self.batch} sequences", ADVICE):
                replies = iter(self._decode(ids, groups, owners, rngs))
            for number, place, request in owners:
                mine = list(itertools.islice(replies, request.sampling.n))
                yield Ended(number, place, mine * (requests[number].sampling.n // request.sampling.n))

    def _rng(self, seed: str) -> torch.Generator:
        rng = torch.Generator(self.device)
        rng.manual_seed(random.Random(seed).getrandbits(63))
        return rng

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _decode(
        self, ids: list[list[int]], groups: list[Group], owners: list[_Prompt], rngs: list[torch.Generator]
    ) -> list[Completion]:
        """Return the replies to the prompts `owners`, in their order, drawn with what `rngs` has for each."""
        cache, head_mask_BT = self._read_heads(ids, groups)
        tails = [ids[i][g.head :] for g in groups for i in g.rows]
        tail_BT, tail_mask_BT = self._padded(tails, left=True)
        mask_BT = torch.cat([head_mask_BT, tail_mask_BT], 1)
        logits_BV = self._forward(tail_BT, mask_BT, cache, 1)[:, -1].float()
        replies = [
            _Reply(o.request.sampling, rng)
            for o, rng in zip(owners, rngs, strict=True)
            for _ in range(o.request.sampling.n)
        ]
        if len(replies) > len(owners):
            copies_B = torch.tensor([i for i, o in enumerate(owners) for _ in range(o.request.sampling.n)])
            copies_B = copies_B.to(self.device)
            cache.batch_select_indices(copies_B)
            mask_BT, logits_BV = mask_BT[copies_B], logits_BV[copies_B]
        rows = list(replies)
        while rows:
            next_B, logprob_B = _draw_each(logits_BV, rows)
            for row, token, logprob in zip(rows, next_B.tolist(), logprob_B.tolist(), strict=True):
                row.tokens.append(token)
                row.logprob += logprob
            alive = [b for b, row in enumerate(rows) if not row.has_ended(self.tok.eos_token_id)]
            if len(alive) < len(rows):
                keep = torch.tensor(alive, device=self.device, dtype=torch.long)
                rows = [rows[b] for b in alive]
                if not rows:
                    break
                cache.batch_select_indices(keep)
                mask_BT, next_B = mask_BT[keep], next_B[keep]
            mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(rows), 1)], 1)
            logits_BV = self._forward(next_B[:, None], mask_BT, cache, 1)[:, -1].float()
        texts = [self.tok.decode(r.tokens, skip_special_tokens=True) for r in replies]
        return completions(texts, [r.logprob for r in replies], [len(r.tokens) for r in replies])

    def _read_heads(self, ids: Sequence[list[int]], groups: list[Group]) -> tuple[Any, torch.Tensor]:
        """Return a cache that holds what each group shares, once a row, and its mask."""
        cache = growing_cache()
        head_BT, mask_BT = self._padded([ids[g.rows[0]][: g.head] for g in groups], left=True)
        group_of_B = torch.tensor([n for n, g in enumerate(groups) for _ in g.rows], device=self.device)
        if head_BT.shape[1]:
            self._forward(head_BT, mask_BT, cache, 1)
            cache.batch_select_indices(group_of_B)
        return cache, mask_BT[group_of_B]

    def _padded(self, rows: list[list[int]], *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `rows` as a tensor of their greatest length, padded on the left or right, and the mask of what is real."""
        width = max(map(len, rows))
        fill = [[0] * (width - len(row)) for row in rows]
        ids = [f + row if left else row + f for f, row in zip(fill, rows, strict=True)]
        real = [[1] * len(row) for row in rows]
        mask = [f + ones if left else ones + f for f, ones in zip(fill, real, strict=True)]
        return torch.tensor(ids, device=self.device), torch.tensor(mask, device=self.device)

    def _forward(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor, cache: Any, n_logits: int) -> torch.Tensor:
        """Return the logits at the last `n_logits` of `ids_BT`, which go on from `cache`; `mask_BT` covers both."""
        positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
        out = self.model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            logits_to_keep=n_logits,
        )
        logits_BTV: torch.Tensor = out.logits
        return logits_BTV

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        """See `Engine.score`."""
        rows = [encode(self.tok, p, r) for p, r in zip(prompts, replies, strict=True)]
        ids, n_prompt = [r.ids for r in rows], [r.n_prompt for r in rows]
        sums = [0.0] * len(rows)
        for groups in batches(ids, [n - 1 for n in n_prompt], max(1, self.batch // 4), held=SCORED // self.width):
            with advising(f"a batch of {self.batch} sequences", ADVICE):
                for i, total in zip(_rows(groups), self._reply_logprobs(ids, n_prompt, groups), strict=True):
                    sums[i] = total
        return completions(list(replies), sums, [len(r.ids) - r.n_prompt for r in rows])

    def _reply_logprobs(self, ids: list[list[int]], n_prompt: list[int], groups: list[Group]) -> list[float]:
        cache, head_mask_BT = self._read_heads(ids, groups)
        rows = [(ids[i][g.head :], n_prompt[i] - g.head) for g in groups for i in g.rows]
        tail_BT, tail_mask_BT = self._padded([tail for tail, _ in rows], left=False)
        mask_BT = torch.cat([head_mask_BT, tail_mask_BT], 1)
        first = min(n for _, n in rows)
        logits_BTV = self._forward(tail_BT, mask_BT, cache, tail_BT.shape[1] - first + 1)
        totals = []
        for logits_TV, (tail, n) in zip(logits_BTV, rows, strict=True):
            reply_T = torch.tensor(tail[n:], device=self.device)
            predicting_TV = logits_TV[n - first : len(tail) - first].float()
            totals.append(-float(torch.nn.functional.cross_entropy(predicting_TV, reply_T, reduction="sum")))
        return totals


class _Prompt(NamedTuple):
    """A prompt: the number of its request, its place in that, and the request with as many replies as are drawn."""

    number: int
    place: int
    request: Request


@dataclass
class _Reply:
    """A reply under way."""

    sampling: Sampling
    rng: torch.Generator
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0

    def has_ended(self, end: int) -> bool:
        return self.tokens[-1] == end or len(self.tokens) >= self.sampling.max_tokens


def _drawn(sampling: Sampling) -> Sampling:
    """Return `sampling` with one reply where all would be the same."""
    return sampling if sampling.temperature > 0 else sampling._replace(n=1)


def _rows(groups: list[Group]) -> list[int]:
    return [i for g in groups for i in g.rows]


def _draw_each(logits_BV: torch.Tensor, rows: Sequence[_Reply]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `_draw` gives for the rows of each generator, in the order of `rows`."""
    if len({id(row.rng) for row in rows}) == 1:
        return _draw(logits_BV, rows[0].sampling, rows[0].rng)
    next_B = torch.empty(len(rows), dtype=torch.long, device=logits_BV.device)
    logprob_B = torch.empty(len(rows), device=logits_BV.device)
    for _, group in itertools.groupby(range(len(rows)), key=lambda b: id(rows[b].rng)):
        mine = list(group)
        mine_B = torch.tensor(mine, device=logits_BV.device)
        next_B[mine_B], logprob_B[mine_B] = _draw(logits_BV[mine_B], rows[mine[0]].sampling, rows[mine[0]].rng)
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
