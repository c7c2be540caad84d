"""Evaluation suites: one table each, in the paper's order, with Symbol-LLM's published figures next to ours.

- `symbolic-34`: the paper's metric and the share that the verifier accepted, side by side;
- `delegation`: the model writes symbols, the solver runs them, and the answer is graded;
- `general`: MMLU and BBH by EleutherAI's evaluation harness (lm-eval), on local files.

The first two are two views of one `evaluate` report; only the third asks the model again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml

from symbol_llm.evaluation.evaluate import evaluate, read_report
from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import InvalidInput, MissingDependency
from symbol_llm.ground.params import Evaluate
from symbol_llm.ground.records import Interval, Record, Scores, Summary
from symbol_llm.ground.stats import wilson

Suite = Literal["symbolic-34", "delegation", "general"]
SUITES: tuple[Suite, ...] = ("symbolic-34", "delegation", "general")
_PUBLISHED = yaml.safe_load(
    resources.files("symbol_llm.evaluation").joinpath("published.yaml").read_text(encoding="utf-8")
)
LETTERS = "ABCD"


class Line(Record):
    """One task of a suite: our figures in [0, 1], published ones in percent."""

    task: str
    n: int
    accepted: Interval
    """Share that the verifier accepted; in `general`, share of right answers."""
    metric: str | None = None
    paper: Interval | None = None
    published: tuple[float, ...] = ()


class Table(Record):
    """One suite. `absent` names its tasks without a test problem in the collection."""

    suite: Suite
    systems: tuple[str, ...]
    lines: tuple[Line, ...]
    absent: tuple[str, ...]


def evaluate_on_suites(
    collection: Path, checkpoint: Path, out: Path, params: Evaluate, source: Path | None = None
) -> dict[str, float]:
    """Evaluate `checkpoint` on `collection` and write each suite's table to `out`; `general` needs the folder `source`."""
    inputs = {"collection": collection, "checkpoint": checkpoint, "source": source and source / "general"}
    with outputs.building(out, "suite", params, inputs) as draft:
        numbers = evaluate(collection, checkpoint, draft.folder / "report", params, stage="suite")
        summary = read_report(draft.folder / "report").summary
        tables = [table("symbolic-34", summary), table("delegation", summary)]
        if source:
            tables.append(general(checkpoint, source, params.n))
        for found in tables:
            files.write_text(draft.folder / f"{found.suite}.md", markdown(found))
            numbers |= {f"{found.suite}_{line.task}": line.accepted.mean for line in found.lines}
        files.write_json(draft.folder / "suites.json", [found.model_dump(mode="json") for found in tables])
        draft.metrics = numbers
    return numbers


def table(suite: Literal["symbolic-34", "delegation"], summary: Summary) -> Table:
    """Return the suite's view of a report."""
    rows: Mapping[str, list[float]] = _PUBLISHED[suite]["rows"]
    here = [name for name in rows if name in summary.tasks]
    lines = tuple(_line(name, summary.tasks[name], rows[name], with_metric=suite == "symbolic-34") for name in here)
    absent = tuple(name for name in rows if name not in summary.tasks)
    return Table(suite=suite, systems=tuple(_PUBLISHED[suite]["systems"]), lines=lines, absent=absent)


def _line(name: str, scores: Scores, published: list[float], *, with_metric: bool) -> Line:
    metric, paper = (scores.metric, scores.paper) if with_metric else (None, None)
    return Line(
        task=name,
        n=scores.accuracy.n,
        accepted=scores.accuracy,
        metric=metric,
        paper=paper,
        published=tuple(published),
    )


def general(checkpoint: Path, source: Path, n: int | None) -> Table:
    """Return accuracy on at most `n` rows each of MMLU (5-shot, its first training rows) and BBH (0-shot) in `source`.

    MissingDependency without lm-eval; InvalidInput if neither set is there.
    """
    try:
        import lm_eval
        import torch
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError as e:
        raise MissingDependency(
            f"the suite `general` needs the module {e.name!r}: pip install -c constraints.txt 'symbol-llm[evaluation]'"
        ) from e
    device = "cuda" if torch.cuda.is_available() else "cpu"
    configs = list(_configs(source / "general"))
    if not configs:
        raise InvalidInput(f"{source}: expected general/mmlu/test.jsonl or general/bbh/test.jsonl in it")
    found = lm_eval.simple_evaluate(
        model=HFLM(
            pretrained=str(checkpoint), device=device, dtype="auto" if device == "cuda" else "float32", batch_size=8
        ),
        tasks=configs,
        limit=n,
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
        log_samples=False,
        cache_requests=False,
    )
    rows = _PUBLISHED["general"]["rows"]
    lines = tuple(_of_harness(config["task"], found, rows[config["task"]]) for config in configs)
    absent = tuple(name for name in rows if name not in {line.task for line in lines})
    return Table(suite="general", systems=tuple(_PUBLISHED["general"]["systems"]), lines=lines, absent=absent)


def _of_harness(name: str, found: Mapping[str, Any], published: list[float]) -> Line:
    n = int(found["n-samples"][name]["effective"])
    result = found["results"][name]
    mean = float(result["acc,none"] if "acc,none" in result else result["exact_match,answer"])
    return Line(task=name, n=n, accepted=wilson(mean, n), published=tuple(published))


def _configs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the harness's task configurations for the sets present, in the shape of its YAML files."""
    mmlu, bbh = folder / "mmlu", folder / "bbh"
    if (mmlu / "test.jsonl").is_file():
        yield {
            "task": "mmlu",
            **_files(mmlu),
            "output_type": "multiple_choice",
            "doc_to_text": "{{question.strip()}}\nA. {{A}}\nB. {{B}}\nC. {{C}}\nD. {{D}}\nAnswer:",
            "doc_to_choice": list(LETTERS),
            "doc_to_target": "answer",
            "num_fewshot": 5 if (mmlu / "train.jsonl").is_file() else 0,
            "fewshot_config": {"sampler": "first_n"},
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    if (bbh / "test.jsonl").is_file():
        yield {
            "task": "bbh",
            **_files(bbh),
            "output_type": "generate_until",
            "doc_to_text": "Q: {{input.strip()}}\nA:",
            "doc_to_target": "{{target.strip()}}",
            "generation_kwargs": {"until": ["\n\n", "Q:"], "do_sample": False, "max_gen_toks": 32},
            "filter_list": [
                {
                    "name": "answer",
                    "filter": [
                        {"function": "regex", "regex_pattern": r"(\([A-Z]\)|[^\n.]+)", "group_select": 0},
                        {"function": "take_first"},
                    ],
                }
            ],
            "metric_list": [
                {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "ignore_case": True}
            ],
        }


def _files(folder: Path) -> dict[str, Any]:
    """Return where the harness finds the rows; each file is read once here, so that faults are reported by line."""
    places = {split: folder / f"{split}.jsonl" for split in ("train", "test")}
    there = {split: path for split, path in places.items() if path.is_file()}
    for path in there.values():
        for _ in files.read_json_lines(path):
            pass
    splits = {"test_split": "test"} | ({"fewshot_split": "train"} if "train" in there else {})
    data_files = {split: str(path.absolute()) for split, path in there.items()}
    return {"dataset_path": "json", "dataset_kwargs": {"data_files": data_files}, **splits}


def markdown(found: Table) -> str:
    """Return the table as Markdown, in percent."""
    has_metric = any(line.paper for line in found.lines)
    heads = ["task", "n", "accepted, % [95 %]", *(["paper's metric, % [95 %]"] if has_metric else []), *found.systems]
    lines = [f"# {found.suite}", "", _row(heads), "|---" * len(heads) + "|"]
    for line in found.lines:
        metric = [f"{line.metric} {_percent(line.paper)}" if line.paper else ""] if has_metric else []
        printed = [f"{value:.2f}" for value in line.published] or [""] * len(found.systems)
        lines.append(_row([line.task, str(line.n), _percent(line.accepted), *metric, *printed]))
    if len(found.lines) > 1:
        lines.append(_row(_mean(found, has_metric=has_metric)))
    if found.absent:
        lines += ["", f"No test problems of: {', '.join(found.absent)}."]
    return "\n".join(lines) + "\n"


def _mean(found: Table, *, has_metric: bool) -> list[str]:
    """Return the last row: plain means over tasks, of published figures over the tasks present here."""
    n = len(found.lines)
    metric = [f"{100 * sum(x.paper.mean for x in found.lines if x.paper) / n:.1f}"] if has_metric else []
    ours = f"{100 * sum(x.accepted.mean for x in found.lines) / n:.1f}"
    known = [line.published for line in found.lines if line.published]
    printed = [f"{sum(column) / len(known):.2f}" for column in zip(*known, strict=True)] or [""] * len(found.systems)
    return ["**mean**", str(sum(line.n for line in found.lines)), ours, *metric, *printed]


def _percent(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
