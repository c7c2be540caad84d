"""Symbols written by a stronger model, kept only where the verifier accepts them (Symbol-LLM, the second route).

Training problems that have an answer but no program are put to an OpenAI-compatible endpoint; of K replies the first
accepted one becomes the row's program, and the row says which model wrote it. The self-training loop needs none of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from symbol_llm import tasks
from symbol_llm.engines import Engine, prompts
from symbol_llm.engines.openai import connect
from symbol_llm.ground import files, outputs
from symbol_llm.ground.params import Write
from symbol_llm.ground.problems import read_problems
from symbol_llm.ground.progress import track
from symbol_llm.ground.records import Candidate, Problem, content_id
from symbol_llm.judging import verify

GROUP = 64
"""Problems asked and judged together."""


def write(collection: Path, out: Path, params: Write) -> dict[str, float]:
    """Have the endpoint of OPENAI_BASE_URL write programs for training problems without one; keep the accepted in `out`."""
    with outputs.building(out, "write", params, {"collection": collection}) as draft:
        problems = read_problems(collection, "train")
        engine = connect(batch=params.batch)
        n = files.write_records(draft.folder / "written.jsonl", written(problems, engine, engine.model, params))
        draft.metrics = {"n_problems": float(sum(p.program is None for p in problems)), "n_written": float(n)}
    return draft.metrics


def written(problems: Sequence[Problem], engine: Engine, model: str, params: Write) -> Iterator[Problem]:
    """Yield the problems without a program for which `engine` writes an accepted one, with it."""
    wanting = [p for p in problems if p.program is None and p.answer is not None]
    groups = [wanting[at : at + GROUP] for at in range(0, len(wanting), GROUP)]
    for number, group in enumerate(track(groups, "writing")):
        asked = [prompts.messages(p, tasks.get(p.task).shots[: params.shots]) for p in group]
        sampling = {"temperature": params.temperature, "top_p": params.top_p, "max_tokens": params.max_tokens}
        replies = engine.generate(asked, n=params.k, seed=params.seed + number * GROUP, **sampling)  # type: ignore[arg-type]
        items = [
            (p, _candidate(p, i, c.text)) for p, row in zip(group, replies, strict=True) for i, c in enumerate(row)
        ]
        verdicts = list(verify.judge_all(items, params.limits))
        for n, problem in enumerate(group):
            right = (v for v in verdicts[n * params.k : (n + 1) * params.k] if v.status == "accepted")
            if verdict := next(right, None):
                source = f"{problem.source}, written by {model}"
                yield problem.model_copy(update={"program": verdict.program, "source": source})


def _candidate(problem: Problem, index: int, reply: str) -> Candidate:
    name = content_id(problem.id, index, reply)
    return Candidate(id=name, problem=problem.id, origin="explore", index=index, reply=reply, n_tokens=0, logprob=0.0)
