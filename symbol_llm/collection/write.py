"""Symbols written by a stronger model, kept only if the verifier accepts them (Symbol-LLM, the second route).

Training problems that have an answer but no program are sent to an OpenAI-compatible endpoint; the first accepted of K
replies becomes the row's program, and the row names the model that wrote it. The self-training loop needs none of this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from symbol_llm import engines, tasks
from symbol_llm.engines import Engine, Request, Sampling, prompts
from symbol_llm.engines.openai import connect
from symbol_llm.engines.rollout import Asked, Reply, rollout
from symbol_llm.ground import files, outputs
from symbol_llm.ground.params import Write
from symbol_llm.ground.problems import read_problems
from symbol_llm.ground.progress import track
from symbol_llm.ground.records import Problem, Verdict
from symbol_llm.judging import verify


def write(collection: Path, out: Path, params: Write) -> dict[str, float]:
    """Have the endpoint of OPENAI_BASE_URL write missing programs of training problems; keep accepted ones in `out`."""
    with outputs.building(out, "write", params, {"collection": collection}) as draft:
        problems = read_problems(collection, "train")
        engine = connect(batch=params.batch)
        draft.ran = engines.ran(engine, "train")
        n = files.write_records(draft.folder / "written.jsonl", written(problems, engine, engine.model, params))
        draft.metrics = {"n_problems": float(sum(p.program is None for p in problems)), "n_written": float(n)}
    return draft.metrics


def written(problems: Sequence[Problem], engine: Engine, model: str, params: Write) -> Iterator[Problem]:
    """Yield the problems without a program for which `engine` writes an accepted one, with the first such program."""
    wanting = [p for p in problems if p.program is None and p.answer is not None]
    prompt = {p.id: prompts.messages(p, tasks.get(p.task).shots[: params.shots]) for p in wanting}
    sampling = Sampling(params.k, params.temperature, params.top_p, params.max_tokens)
    request = Request([prompt[p.id] for p in wanting], sampling, params.seed)
    right: dict[str, Reply[Verdict]] = {}
    replies = rollout([Asked(request, wanting)], engine, partial(verify.judge, limits=params.limits))
    for reply in track(replies, "writing", params.k * len(wanting)):
        held = right.get(reply.problem.id)
        if reply.verdict.status == "accepted" and (held is None or reply.index < held.index):
            right[reply.problem.id] = reply
    for problem in wanting:
        if reply_ := right.get(problem.id):
            source = f"{problem.source}, written by {model}"
            yield problem.model_copy(update={"program": reply_.verdict.program, "source": source})
