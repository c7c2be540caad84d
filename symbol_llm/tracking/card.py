"""The model card of a registered version, as the hub reads it: what it is, what it was measured to do, what it is for."""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

from symbol_llm import __version__
from symbol_llm.ground.records import Report, Scores
from symbol_llm.tracking.lineage import Facts, header

DATA_CARD = "DATA_CARD.md"
"""File beside the model card."""


class About(NamedTuple):
    """What a card is written from, beside the report."""

    name: str
    version: str
    digest: str
    """SHA-256 of the checkpoint."""
    base: str
    """What tuning began with; empty if not known."""
    gate: str
    """What the gate said of it."""
    facts: Facts
    data_card: str
    """Of the collection, as Markdown; empty if not known."""


def render(report: Report, about: About) -> str:
    """Return the card as Markdown with the hub's YAML header."""
    head = yaml.safe_dump(_header(report, about), sort_keys=False, allow_unicode=True).rstrip()
    parts = ("---", head, "---", "", f"# {about.name}, version {about.version}", "", *_body(report, about), "")
    return "\n".join(parts)


def _header(report: Report, about: About) -> dict[str, Any]:
    data = header(about.data_card)
    results = [
        {
            "task": {"type": "text-generation"},
            "dataset": {"type": name, "name": f"{name}, test split"},
            "metrics": [{"type": "accuracy", "value": round(scores.accuracy.mean, 4), "verified": False}],
        }
        for name, scores in report.summary.tasks.items()
    ]
    return {
        "license": data.get("license", "other"),
        **({"license_name": data["license_name"]} if "license_name" in data else {}),
        "language": data.get("language", ["en"]),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["symbolic", "self-training", *sorted(report.summary.families)],
        "model-index": [{"name": about.name, "results": results}],
    }


def _body(report: Report, about: About) -> list[str]:
    summary, facts = report.summary, about.facts
    licence = facts.licence or "not known"
    source = f"It was tuned from {about.base}, whose licence applies as well. " if about.base else ""
    return [
        f"A language model that writes programs in symbolic notations. {source}The programs it learned from are its own, kept "
        f"where a verifier proved them right, and the gold programs of its collection.",
        "",
        "## Results",
        "",
        f"Greedy, on test problems that it was not trained on; with 95 % intervals (Wilson). Stage of training: {summary.stage}.",
        "",
        *_table("task", summary.tasks),
        "",
        *_table("notation", summary.families),
        "",
        f"All together: {_share(Scores(accuracy=summary.overall))}. {_general(report)}",
        "",
        f"The promotion gate: {about.gate or 'this version was not put to it'}.",
        "",
        "## What a verdict means",
        "",
        "An answer counts as right if the verifier of its notation proved it: the program was run, or compared with the gold "
        "program in canonical form. A right program in another form than the verifier can prove counts as wrong. "
        f"{_unscored(summary.tasks)} Programs ran under {', '.join(summary.isolation) or 'nothing, since none had to run'}.",
        "",
        "## Data and licence",
        "",
        f"Licence of the data: {licence}{f'; [the data card]({DATA_CARD}) has the sources' if about.data_card else ''}. "
        f"Collection: {facts.data or 'not known'}. Code: {facts.code or 'not known'}.",
        "",
        "## Intended use",
        "",
        "To write programs in the notations above, which are then run in a sandbox or checked; several samples and a vote do "
        "better than one. Do not run its programs outside a sandbox, and do not rely on an answer that nothing has checked. "
        "It was not measured on anything but the tasks above.",
        "",
        f"SHA-256 of the checkpoint: `{about.digest}`. Written by symbol-llm {__version__}.",
    ]


def _table(name: str, rows: dict[str, Scores]) -> list[str]:
    body = [f"| {one} | {s.accuracy.n} | {_share(s)} | {s.unscored} |" for one, s in rows.items()]
    return [f"| {name} | n | accuracy, % | unscored |", "|---|---|---|---|", *body]


def _share(scores: Scores) -> str:
    a = scores.accuracy
    return f"{100 * a.mean:.1f} ({100 * a.low:.1f}–{100 * a.high:.1f})"


def _general(report: Report) -> str:
    """Return what is known of its general ability, beside that of the first model of its curve."""
    now, then = report.summary.general, (*report.history, report.summary)[0].general
    said = []
    if now.choice:
        before = f", {100 * then.choice.mean:.1f} before tuning" if report.history and then.choice else ""
        said.append(f"multiple choice {_share(Scores(accuracy=now.choice))} of {now.choice.n}{before}")
    if now.perplexity:
        before = f", {then.perplexity:.1f} before tuning" if report.history and then.perplexity else ""
        said.append(f"perplexity on held-out text {now.perplexity:.1f}{before}")
    return f"General ability: {'; '.join(said)}." if said else "General ability was not measured."


def _unscored(tasks: dict[str, Scores]) -> str:
    n = sum(s.unscored for s in tasks.values())
    return f"{n} test problems have no verdict, since our side failed, and are in no mean." if n else ""
