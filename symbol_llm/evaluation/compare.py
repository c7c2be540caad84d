"""Finished runs side by side: their curves, their last points, and what each gains over the first, problem by problem.

Two accuracies with overlapping intervals may still differ for certain, since both runs answered the same problems: so the
differences are paired, with the percentile bootstrap's 95 % interval of `ground/stats.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from symbol_llm import __version__
from symbol_llm.evaluation.evaluate import read_report
from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.figures import BLUE, GREEN, GREY, ORANGE, RED, svg
from symbol_llm.ground.records import STATUSES, Interval, Record, Report, Summary
from symbol_llm.ground.stats import bootstrap

COLOURS = (BLUE, ORANGE, GREEN, RED, "#805ad5", GREY)


class Run(NamedTuple):
    """A run and the report on its last point."""

    name: str
    report: Report

    @property
    def curve(self) -> tuple[Summary, ...]:
        """Return the points of its curve, first to last."""
        return (*self.report.history, self.report.summary)


class Compared(Record):
    """A run, and the first one beside it on the problems that both have a score for."""

    run: str
    stage: str
    """The last point of its curve."""
    dev: Interval | None
    test: Interval
    n_samples: int
    """Programs verified in all its rounds."""
    perplexity: float | None
    gain: Interval | None
    """Mean difference to the first run, in accuracy; None for the first."""
    families: dict[str, float]
    """Accuracy by notation."""


def read(place: Path) -> Report:
    """Return the report at `place`: a file, what `evaluate` or `promote` wrote, or the state of a run with its promotion.

    InvalidInput if there is none.
    """
    if place.is_file():
        return files.read_record(place, Report)
    if any((place / name).is_file() for name in ("curve.json", "report.json")):
        return read_report(place)
    ended = sorted(place.glob("**/curve.json"), key=lambda path: path.stat().st_mtime)
    if not ended:
        raise InvalidInput(
            f"{place}: no report there; give a report.json, a folder that has one, or the folder of a finished run"
        )
    return files.read_record(ended[-1], Report)


def compare(runs: Sequence[Run]) -> list[Compared]:
    """Return each of `runs`, in order, beside the first; InvalidInput if one has no test problem in common with it."""
    return [_beside(run, runs[0] if at else None) for at, run in enumerate(runs)]


def _beside(run: Run, first: Run | None) -> Compared:
    gain = None
    if first is not None:
        both = sorted(first.report.outcomes.keys() & run.report.outcomes.keys())
        if not both:
            raise InvalidInput(
                f"{run.name} and {first.name} have no test problem in common, so nothing can be compared"
            )
        gain = bootstrap([run.report.outcomes[p] - first.report.outcomes[p] for p in both])
    last = run.report.summary
    return Compared(
        run=run.name,
        stage=last.stage,
        dev=last.dev,
        test=last.overall,
        n_samples=samples(run)[-1],
        perplexity=last.general.perplexity,
        gain=gain,
        families={name: scores.accuracy.mean for name, scores in last.families.items()},
    )


def samples(run: Run) -> list[int]:
    """Return how many programs had been verified up to each point of the curve."""
    out, total = [], 0
    for summary in run.curve:
        total += int(sum(summary.round.get(f"n_{status}", 0.0) for status in STATUSES))
        out.append(total)
    return out


def in_words(gain: Interval | None) -> str:
    """Return a difference in points, with its interval, and whether chance alone could make it.

    >>> in_words(Interval(n=200, mean=0.05, low=0.01, high=0.09))
    '+5.0 (+1.0 to +9.0): better'
    """
    if gain is None:
        return ""
    said = "better" if gain.low > 0 else "worse" if gain.high < 0 else "within chance"
    return f"{100 * gain.mean:+.1f} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f}): {said}"


def page(runs: Sequence[Run]) -> str:
    """Return a page that needs nothing from elsewhere: curves by stage and by samples, last points, differences, notations."""
    rows = compare(runs)
    figures = [
        (
            "Accuracy on test problems, point by point, with 95 % intervals",
            svg(lambda ax: _by_point(ax, runs), 8.6, 3.6),
        ),
        ("Accuracy against verified samples", svg(lambda ax: _by_samples(ax, runs), 8.6, 3.6)),
    ]
    families = sorted({family for row in rows for family in row.families})
    template = jinja2.Environment(autoescape=True).from_string(TEMPLATE)
    return template.render(rows=rows, figures=figures, families=families, words=in_words, version=__version__)


def _by_point(ax: Any, runs: Sequence[Run]) -> None:
    for at, run in enumerate(runs):
        shift = 0.06 * (at - (len(runs) - 1) / 2)  # so that intervals do not cover each other
        _line(ax, [x + shift for x in range(len(run.curve))], run, at)
    longest = max(runs, key=lambda run: len(run.curve))
    ax.set_xticks(range(len(longest.curve)), [summary.stage for summary in longest.curve])
    _finish(ax)


def _by_samples(ax: Any, runs: Sequence[Run]) -> None:
    for at, run in enumerate(runs):
        _line(ax, samples(run), run, at)
    ax.set_xlabel("programs verified", fontsize=9)
    _finish(ax)


def _line(ax: Any, xs: Sequence[float], run: Run, at: int) -> None:
    means = [100 * s.overall.mean for s in run.curve]
    low = [100 * (s.overall.mean - s.overall.low) for s in run.curve]
    high = [100 * (s.overall.high - s.overall.mean) for s in run.curve]
    style = {"color": COLOURS[at % len(COLOURS)], "linestyle": "-" if at < len(COLOURS) else "--"}
    ax.errorbar(
        xs, means, yerr=[low, high], marker="o", markersize=4, capsize=3, linewidth=1.6, label=run.name, **style
    )


def _finish(ax: Any) -> None:
    ax.set_ylim(0, 100)
    ax.set_ylabel("accuracy, %", fontsize=9)
    ax.grid(axis="y", alpha=0.3)
    ax.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Runs compared</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
 body { font: 15px/1.5 system-ui, sans-serif; color: #1a202c; background: #fff; max-width: 1020px; margin: 2rem auto; padding: 0 1rem }
 h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1rem; margin: 1.2rem 0 .3rem } .muted { color: #718096 }
 section { border: 1px solid #e2e8f0; border-radius: 8px; padding: .8rem; margin: 1rem 0 } svg { width: 100%; height: auto }
 .wide { overflow-x: auto } table { border-collapse: collapse; width: 100%; font-size: .85rem } th { text-align: left }
 td, th { border-bottom: 1px solid #e2e8f0; padding: .35rem .5rem; vertical-align: top }
 td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
</style></head><body>
<h1>Runs compared</h1>
<div class="wide"><table><tr><th>run</th><th>last point</th><th class="n">dev, %</th><th class="n">test, %</th><th class="n">95 % interval</th><th class="n">n</th>
 <th>difference to {{ rows[0].run }}, points</th><th class="n">programs verified</th><th class="n">perplexity</th></tr>
{% for row in rows %}<tr><td>{{ row.run }}</td><td>{{ row.stage }}</td>
 <td class="n">{% if row.dev %}{{ "%.1f"|format(100 * row.dev.mean) }}{% endif %}</td>
 <td class="n">{{ "%.1f"|format(100 * row.test.mean) }}</td>
 <td class="n">{{ "%.1f"|format(100 * row.test.low) }}–{{ "%.1f"|format(100 * row.test.high) }}</td><td class="n">{{ row.test.n }}</td>
 <td>{{ words(row.gain) }}</td><td class="n">{{ row.n_samples }}</td>
 <td class="n">{% if row.perplexity %}{{ "%.1f"|format(row.perplexity) }}{% endif %}</td></tr>{% endfor %}</table></div>
{% for title, svg in figures %}<section><h2>{{ title }}</h2>{{ svg|safe }}</section>{% endfor %}
<h2>Notations, accuracy in %</h2>
<div class="wide"><table><tr><th>notation</th>{% for row in rows %}<th class="n">{{ row.run }}</th>{% endfor %}</tr>
{% for family in families %}<tr><td>{{ family }}</td>
 {% for row in rows %}<td class="n">{% if family in row.families %}{{ "%.0f"|format(100 * row.families[family]) }}{% endif %}</td>{% endfor %}</tr>{% endfor %}
</table></div>
<p class="muted">symbol-llm {{ version }}. Intervals of accuracies are Wilson's. Differences are paired on the test problems that both runs have a score for,
 with bootstrap intervals; they are not corrected for the number of runs compared.</p>
</body></html>
"""
