"""Accuracy of a checkpoint on dev and test problems, and its general ability. Greedy; also pass@k on request.

Dev decides whether a round improved and which checkpoint is proposed. Test is for the gate and the report.

Accuracy counts what the verifier proved. Our own failures (`unscored`) are counted and never averaged.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean

from symbol_llm import engines, tasks
from symbol_llm.engines import Engine, Request, Sampling, prompts
from symbol_llm.engines.rollout import Asked, rollout
from symbol_llm.evaluation import metrics
from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Evaluate
from symbol_llm.ground.problems import read_problems
from symbol_llm.ground.progress import track
from symbol_llm.ground.records import (
    STATUSES,
    General,
    GeneralItem,
    Interval,
    Messages,
    Problem,
    Report,
    Sample,
    Scores,
    Summary,
    Verdict,
)
from symbol_llm.ground.stats import bootstrap, pass_at, wilson
from symbol_llm.judging import verify

N_SAMPLES = 10


def evaluate(
    collection: Path,
    checkpoint: Path,
    out: Path,
    params: Evaluate,
    stage: str,
    previous: Path | None = None,
    selected: Path | None = None,
) -> dict[str, float]:
    """Write `out/report.json` on `checkpoint`, extending the curve of the report in `previous`; return its figures.

    `improved` is 1.0 if dev accuracy is above that of every earlier point of the curve.
    """
    inputs = {"collection": collection, "checkpoint": checkpoint, "previous": previous, "selected": selected}
    with outputs.building(out, "evaluate", params, inputs) as draft:
        engine = engines.start(params.engine, checkpoint, batch=params.batch)
        draft.ran = engines.ran(engine, "dev, test")
        report = _measured(collection, engine, checkpoint, params, stage, previous, selected)
        draft.metrics = _numbers(report)
        files.write_json(draft.folder / "report.json", report.model_dump(mode="json"))
    return draft.metrics


def _measured(
    collection: Path,
    engine: Engine,
    checkpoint: Path,
    params: Evaluate,
    stage: str,
    previous: Path | None,
    selected: Path | None,
) -> Report:
    problems = choose(read_problems(collection, "test"), params.n)
    decisive = choose(dev, params.n) if (dev := read_problems(collection, "dev")) else []
    verdicts = answer(problems, engine, params)
    on_dev = scores(list(answer(decisive, engine, params).values())).accuracy if decisive else None
    samples = sample(problems, engine, params) if params.k else {}
    items = list(files.read_records(collection / "general_test.jsonl", GeneralItem))
    domain = tasks.domain_of()
    whole = scores(list(verdicts.values()))
    summary = Summary(
        stage=stage,
        checkpoint=files.hash_path(checkpoint),
        overall=whole.accuracy,
        dev=on_dev,
        tasks=by_task(problems, verdicts, samples),
        families=grouped(problems, verdicts, samples, lambda p: p.family),
        domains=grouped(problems, verdicts, samples, lambda p: domain[p.task]),
        general=general(items, engine, params.n_general),
        isolation=tuple(sorted({v.isolation for v in verdicts.values()} - {"none"})),
        round=files.read_json(selected / files.MANIFEST)["metrics"] if selected else {},
    )
    earlier = read_report(previous) if previous else None
    return Report(
        summary=summary,
        history=(*earlier.history, earlier.summary) if earlier else (),
        outcomes={p: float(v.status == "accepted") for p, v in sorted(verdicts.items()) if v.status != "unscored"},
        samples=show(problems, verdicts, params.seed),
    )


def _numbers(report: Report) -> dict[str, float]:
    summary = report.summary
    best = max((s.dev.mean for s in report.history if s.dev), default=0.0)
    on_dev = summary.dev.mean if summary.dev else 0.0
    out = {"accuracy": summary.overall.mean, "accuracy_low": summary.overall.low, "accuracy_high": summary.overall.high}
    out |= {"n": float(summary.overall.n), "improved": float(on_dev > best)}
    out |= {"accuracy_dev": on_dev} if summary.dev else {}
    out |= {f"accuracy_{name}": s.accuracy.mean for name, s in (*summary.tasks.items(), *summary.families.items())}
    if summary.general.choice:
        out["general_choice"] = summary.general.choice.mean
    if summary.general.perplexity:
        out["general_perplexity"] = summary.general.perplexity
    return out


def read_report(folder: Path) -> Report:
    """Return the report that `evaluate` wrote to `folder`, or the last of the curve that `promote` wrote there."""
    name = "curve.json" if (folder / "curve.json").is_file() else "report.json"
    return files.read_record(folder / name, Report)


def choose(problems: Iterable[Problem], n: int | None) -> list[Problem]:
    """Return at most `n` problems per task, those with the smallest ids; InvalidInput if there are none."""
    by_task: dict[str, list[Problem]] = defaultdict(list)
    for p in sorted(problems, key=lambda p: p.id):
        by_task[p.task].append(p)
    chosen = [p for name in sorted(by_task) for p in by_task[name][:n]]
    if not chosen:
        raise InvalidInput("no test problems: the collection's test split is empty")
    return chosen


def answer(problems: Sequence[Problem], engine: Engine, params: Evaluate) -> dict[str, Verdict]:
    """Return the verdict on the greedy reply to each problem, by problem id; Unavailable if too many are unscored."""
    verdicts = {name: verdict for name, (verdict,) in _judged(problems, engine, 1, 0.0, params, "answering").items()}
    verify.check_unscored(verdicts.values(), params.max_unscored)
    return verdicts


def sample(problems: Sequence[Problem], engine: Engine, params: Evaluate) -> dict[str, list[Verdict]]:
    """Return the verdicts on `params.k` samples per problem, by problem id."""
    return _judged(problems, engine, params.k, params.temperature, params, f"sampling {params.k} each")


def _judged(
    problems: Sequence[Problem], engine: Engine, n: int, temperature: float, params: Evaluate, label: str
) -> dict[str, list[Verdict]]:
    """Return the verdicts on `n` replies per problem, by problem id, in order of index."""
    size = max(1, params.batch // n)
    groups = [problems[at : at + size] for at in range(0, len(problems), size)]
    sampling = Sampling(n, temperature, 1.0, params.max_tokens)
    asked = [
        Asked(Request([_asked(p, params.shots) for p in group], sampling, params.seed + number), group)
        for number, group in enumerate(groups)
    ]
    replies = rollout(asked, engine, partial(verify.judge, limits=params.limits))
    by_problem: dict[str, list[Verdict]] = {p.id: [] for p in problems}
    for reply in sorted(track(replies, label, n * len(problems)), key=lambda r: r.index):
        by_problem[reply.problem.id].append(reply.verdict)
    return by_problem


def _asked(problem: Problem, shots: int) -> Messages:
    return prompts.messages(problem, tasks.get(problem.task).shots[:shots] if shots else ())


def scores(verdicts: Sequence[Verdict], samples: Sequence[Sequence[Verdict]] = ()) -> Scores:
    """Return counts by status, accuracy with its interval, and pass@k for k = 1 and the number of samples."""
    scored = [float(v.status == "accepted") for v in verdicts if v.status != "unscored"]
    by_status = Counter(v.status for v in verdicts)
    found: dict[str, list[float]] = defaultdict(list)
    for row in samples:
        known = [v.status == "accepted" for v in row if v.status != "unscored"]
        for k in sorted({1, len(row)}):
            if len(known) >= k:
                found[str(k)].append(pass_at(k, len(known), sum(known)))
    return Scores(
        accuracy=wilson(fmean(scored) if scored else 0.0, len(scored)),
        pass_at={k: fmean(values) for k, values in found.items()},
        **{s: by_status[s] for s in STATUSES},
    )


def grouped(
    problems: Sequence[Problem],
    verdicts: dict[str, Verdict],
    samples: dict[str, list[Verdict]],
    key: Callable[[Problem], str],
) -> dict[str, Scores]:
    """Return the scores of each group that `key` makes, by name."""
    groups: dict[str, list[str]] = defaultdict(list)
    for p in problems:
        groups[key(p)].append(p.id)
    return {
        name: scores([verdicts[i] for i in ids], [samples[i] for i in ids if i in samples])
        for name, ids in sorted(groups.items())
    }


def by_task(
    problems: Sequence[Problem], verdicts: dict[str, Verdict], samples: dict[str, list[Verdict]]
) -> dict[str, Scores]:
    """Return the scores of each task, with the paper's metric if it is one of Symbol-LLM's 34."""
    out = grouped(problems, verdicts, samples, lambda p: p.task)
    for name in out:
        published = tasks.get(name).published
        if published:
            values = [metrics.paper(published.metric, p, verdicts[p.id]) for p in problems if p.task == name]
            mean = bootstrap([v for v in values if v is not None])
            out[name] = out[name].model_copy(update={"metric": published.metric, "paper": mean})
    return out


def general(items: Sequence[GeneralItem], engine: Engine, n: int) -> General:
    """Return multiple-choice accuracy and perplexity on at most `n` items each, those with the smallest ids."""
    ordered = sorted(items, key=lambda i: i.id)
    choices = [i for i in ordered if i.choices and i.correct is not None][:n]
    texts = [i for i in ordered if not i.choices and i.reply][:n]
    return General(choice=_choice(choices, engine), **_perplexity(texts, engine))


def _choice(items: Sequence[GeneralItem], engine: Engine) -> Interval | None:
    if not items:
        return None
    asked = [(prompts.general_messages(i.prompt), choice) for i in items for choice in i.choices]
    logprobs = iter(engine.score([m for m, _ in asked], [c for _, c in asked]))
    right = 0
    for item in items:
        row = [next(logprobs).logprob for _ in item.choices]
        right += row.index(max(row)) == item.correct
    return wilson(right / len(items), len(items))


def _perplexity(items: Sequence[GeneralItem], engine: Engine) -> dict[str, float | int]:
    if not items:
        return {}
    scored = engine.score([prompts.general_messages(i.prompt) for i in items], [i.reply or "" for i in items])
    n = sum(s.n_tokens for s in scored)
    return {"perplexity": math.exp(-sum(s.logprob * s.n_tokens for s in scored) / n), "n_text_tokens": n}


def show(problems: Sequence[Problem], verdicts: dict[str, Verdict], seed: int) -> tuple[Sample, ...]:
    """Return ten problems with their verdicts, drawn by seed, the same for every checkpoint on one collection."""
    drawn = random.Random(f"{seed}:show").sample(list(problems), min(N_SAMPLES, len(problems)))
    return tuple(
        Sample(task=p.task, question=p.question, program=v.program, value=v.value, status=v.status, detail=v.detail)
        for p, v in ((p, verdicts[p.id]) for p in drawn)
    )
