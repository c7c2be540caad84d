"""Sampling and scoring with transformers: the engine of a machine without vLLM, and the default on a CPU.

Replies that have ended leave the batch, so a few long ones do not hold up the rest; requests that come meanwhile join it.
Shape suffixes: B sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from symbol_llm.engines import Completion, Ended, Engine, Intake, Request, Written, precision
from symbol_llm.engines.batch import Batch, Prompt, Row, draw_each
from symbol_llm.engines.chat import completions, encode, prompt_ids, tokenizer
from symbol_llm.engines.decoding import ATTENTION, growing_cache
from symbol_llm.engines.memory import advising
from symbol_llm.engines.prefixes import HELD, Group, batches
from symbol_llm.ground.records import Messages

SCORED = 2**13
"""Places of a batch that is scored: their logits over 49,152 tokens take 0.8 GB in bf16."""
ADVICE = "lower `batch` or `max_tokens` of this stage"


def start(checkpoint: Path, *, batch: int, n_engines: int = 1) -> TransformersEngine:
    """Return the engine with `checkpoint` loaded."""
    del n_engines  # each takes what it needs, when it does
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
        """See `Engine.stream`. Prompts of like length share a batch; those of two requests do not."""
        for number, request in enumerate(requests):
            prompts = self._prompts(number, request)
            n, more = prompts[0].request.sampling.n, request.sampling.max_tokens
            ids = [p.ids for p in prompts]
            most, size = [len(row) - 1 for row in ids], max(1, self.batch // n)
            for count, groups in enumerate(batches(ids, most, size, held=HELD // (self.width * n), more=more)):
                rngs = [self._rng(f"{request.seed}:{count}")] * len(prompts)
                for prompt, replies in self._decode(prompts, groups, rngs):
                    yield Ended(number, prompt.place, replies * prompt.copies)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def _decode(
        self, prompts: Sequence[Prompt], groups: list[Group], rngs: Sequence[torch.Generator]
    ) -> Iterator[tuple[Prompt, list[Completion]]]:
        """Yield each of the `prompts` in `groups` with its replies, once all of them have ended."""
        ended: dict[int, list[Row]] = {}
        with self._advising():
            batch = self._begin(prompts, groups, rngs)
            while batch.rows:
                for row in self._step(batch):
                    rows = ended.setdefault(row.prompt.place, [])
                    rows.append(row)
                    if len(rows) == row.prompt.request.sampling.n:
                        yield row.prompt, [self._completion(r) for r in sorted(rows, key=lambda r: r.index)]

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def serve(self, intake: Intake) -> Iterator[Written]:
        """See `Engine.serve`. Each prompt is drawn with a generator of its own, and joins those under way at the next token."""
        waiting: deque[Prompt] = deque()
        batch: Batch | None = None
        n_asked = 0
        while True:
            for request in intake.take():
                waiting.extend(self._prompts(n_asked, request))
                n_asked += 1
            waiting = deque(p for p in waiting if intake.wants(p.number, p.place))
            if batch:
                wanted = [b for b, r in enumerate(batch.rows) if intake.wants(r.prompt.number, r.prompt.place)]
                if len(wanted) < len(batch.rows):
                    batch.keep(wanted)
            with self._advising():
                batch = self._joined(batch, waiting)
                if batch is None:
                    return
                ended = self._step(batch)
            for row in ended:
                yield from self._written(row, has_ended=True)
            for row in batch.rows:
                if intake.watches(row.prompt.number):
                    yield from self._written(row, has_ended=False)

    def _joined(self, batch: Batch | None, waiting: deque[Prompt]) -> Batch | None:
        """Return `batch` with as many of those `waiting` as there is room for, first come, first served; None if there is no row."""
        if batch and not batch.rows:
            batch = None
        n_rows = len(batch.rows) if batch else 0
        width = batch.width + max(row.n_left for row in batch.rows) if batch else 0
        joining: list[Prompt] = []
        while waiting:
            n_rows += waiting[0].request.sampling.n
            width = max(width, len(waiting[0].ids) + waiting[0].request.sampling.max_tokens)
            if (batch or joining) and (n_rows > self.batch or n_rows * width > HELD // self.width):
                break
            joining.append(waiting.popleft())
        if not joining:
            return batch
        ids = [p.ids for p in joining]
        (groups,) = batches(ids, [len(row) - 1 for row in ids], len(ids), held=sys.maxsize)
        new = self._begin(joining, groups, [self._rng(f"{p.request.seed}:{p.place}") for p in joining])
        if batch:
            batch.join(new)
        return batch or new

    def _advising(self) -> AbstractContextManager[None]:
        return advising(f"a batch of {self.batch} sequences", ADVICE)

    def _prompts(self, number: int, request: Request) -> list[Prompt]:
        """Return the prompts of `request`, with one reply each where all would be the same."""
        n = request.sampling.n if request.sampling.temperature > 0 else 1
        drawn, copies = request._replace(sampling=request.sampling._replace(n=n)), request.sampling.n // n
        return [
            Prompt(number, place, prompt_ids(self.tok, messages), drawn, copies)
            for place, messages in enumerate(request.prompts)
        ]

    def _completion(self, row: Row) -> Completion:
        text = self.tok.decode(row.tokens, skip_special_tokens=True)
        (completion,) = completions([text], [row.logprob], [len(row.tokens)])
        return completion

    def _written(self, row: Row, *, has_ended: bool) -> Iterator[Written]:
        completion = self._completion(row)
        for index in range(row.index, row.index + row.prompt.copies):
            yield Written(row.prompt.number, row.prompt.place, index, completion, has_ended)

    def _rng(self, seed: str) -> torch.Generator:
        rng = torch.Generator(self.device)
        rng.manual_seed(random.Random(seed).getrandbits(63))
        return rng

    def _begin(self, prompts: Sequence[Prompt], groups: list[Group], rngs: Sequence[torch.Generator]) -> Batch:
        """Return a batch that has read the `prompts` in `groups`, each drawn with the generator in its place of `rngs`."""
        cache, head_mask_BT = self._read_heads([p.ids for p in prompts], groups)
        tails = [prompts[i].ids[g.head :] for g in groups for i in g.rows]
        tail_BT, tail_mask_BT = self._padded(tails, left=True)
        mask_BT = torch.cat([head_mask_BT, tail_mask_BT], 1)
        logits_BV = self._forward(tail_BT, mask_BT, cache, 1)[:, -1].float()
        copies = [(b, i, n) for b, i in enumerate(_rows(groups)) for n in range(prompts[i].request.sampling.n)]
        if len(copies) > len(logits_BV):
            copies_B = torch.tensor([b for b, _, _ in copies], device=self.device)
            cache.batch_select_indices(copies_B)
            mask_BT, logits_BV = mask_BT[copies_B], logits_BV[copies_B]
        return Batch([Row(prompts[i], n, rngs[i]) for _, i, n in copies], cache, mask_BT, logits_BV)

    def _step(self, batch: Batch) -> list[Row]:
        """Give each row of `batch` its next token; return those that have ended, which leave it."""
        next_B, logprob_B = draw_each(batch.logits_BV, batch.rows)
        for row, token, logprob in zip(batch.rows, next_B.tolist(), logprob_B.tolist(), strict=True):
            row.tokens.append(token)
            row.logprob += logprob
        ended = [row for row in batch.rows if row.has_ended(self.tok.eos_token_id)]
        if ended:
            alive = [b for b, row in enumerate(batch.rows) if not row.has_ended(self.tok.eos_token_id)]
            batch.keep(alive)
            next_B = next_B[alive]
        if batch.rows:
            batch.mask_BT = torch.cat([batch.mask_BT, batch.mask_BT.new_ones(len(batch.rows), 1)], 1)
            batch.logits_BV = self._forward(next_B[:, None], batch.mask_BT, batch.cache, 1)[:, -1].float()
        return ended

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


def _rows(groups: list[Group]) -> list[int]:
    return [i for g in groups for i in g.rows]
