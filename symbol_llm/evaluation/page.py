"""The report as one self-contained HTML page: learning curve, verdicts by round, pool, solved and forgotten, samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2

from symbol_llm import __version__
from symbol_llm.evaluation.health import alarms
from symbol_llm.ground.figures import BLUE, GREEN, GREY, ORANGE, RED, svg
from symbol_llm.ground.records import STATUSES, Report, Summary

STATUS_COLOURS = dict(zip(STATUSES, (GREEN, ORANGE, RED, "#805ad5", "#d69e2e", GREY), strict=True))
SHORT = {"original": "original\n(few-shot)"}


def render(report: Report, decision: str = "", n_tested: int = 0) -> str:
    """Return the page for the curve that ends in `report`; `decision` is the gate's decision and on which point.

    `n_tested` is the number of checkpoints ever evaluated on the test problems.
    """
    curve = (*report.history, report.summary)
    rounds = [s for s in curve if s.round]
    figures = [("Accuracy on test problems, with 95 % intervals", svg(lambda ax: _curve(ax, curve), 8.6, 3.4))]
    if rounds:
        figures += [
            ("Verdicts on what each round sampled", svg(lambda ax: _verdicts(ax, rounds))),
            ("Pool: distinct programs kept", svg(lambda ax: _pool(ax, rounds))),
            ("Training problems solved", svg(lambda ax: _solved(ax, rounds))),
        ]
    if any(s.general.choice for s in curve):
        figures.append(("General ability", svg(lambda ax: _general(ax, curve))))
    high = max(2.9, 0.8 + 0.28 * len(report.summary.families))
    figures.append(("Accuracy on test problems by family", svg(lambda ax: _families(ax, curve), height=high)))
    template = jinja2.Environment(autoescape=True).from_string(TEMPLATE)
    return template.render(
        n_tested=n_tested,
        alarms=alarms(curve),
        figures=figures,
        curve=curve,
        report=report,
        decision=decision,
        version=__version__,
        colours=STATUS_COLOURS,
    )


def figure(report: Report) -> str:
    """Return the learning curve alone, as SVG."""
    return svg(lambda ax: _curve(ax, (*report.history, report.summary)), 8.6, 3.4)


def _names(curve: Sequence[Summary]) -> list[str]:
    return [SHORT.get(s.stage, s.stage) for s in curve]


def _curve(ax: Any, curve: Sequence[Summary]) -> None:
    means = [100 * s.overall.mean for s in curve]
    low = [m - 100 * s.overall.low for m, s in zip(means, curve, strict=True)]
    high = [100 * s.overall.high - m for m, s in zip(means, curve, strict=True)]
    ax.errorbar(_names(curve), means, yerr=[low, high], color=BLUE, marker="o", capsize=4, linewidth=2, label="test")
    if all(s.dev for s in curve):
        on_dev = [100 * s.dev.mean for s in curve if s.dev]
        ax.plot(_names(curve), on_dev, color=GREY, marker="s", markersize=4, linestyle="--", label="dev")
        ax.legend(fontsize=8, frameon=False, loc="upper left")
    for i, mean in enumerate(means):
        falls = i + 1 == len(means) or means[i + 1] <= mean
        place = {"xytext": (8, 6 if falls else -12), "textcoords": "offset points"}  # beside the line, not on it
        ax.annotate(f"{mean:.1f}", (i, mean), fontsize=9, color=BLUE, **place)
    ax.set_ylim(0, 100)
    ax.margins(x=0.08)
    ax.set_ylabel("accuracy, %", fontsize=9)
    ax.grid(axis="y", alpha=0.3)


def _verdicts(ax: Any, rounds: Sequence[Summary]) -> None:
    names, bottom = [s.stage for s in rounds], [0.0] * len(rounds)
    totals = [sum(s.round.get(f"n_{status}", 0.0) for status in STATUSES) or 1.0 for s in rounds]
    for status in STATUSES:
        shares = [100 * s.round.get(f"n_{status}", 0.0) / t for s, t in zip(rounds, totals, strict=True)]
        if any(shares):
            ax.bar(names, shares, bottom=bottom, label=status, color=STATUS_COLOURS[status], width=0.6)
            bottom = [b + s for b, s in zip(bottom, shares, strict=True)]
    ax.set_ylabel("share, %", fontsize=9)
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)


def _pool(ax: Any, rounds: Sequence[Summary]) -> None:
    names = [s.stage for s in rounds]
    ax.plot(names, [s.round["n_positives"] for s in rounds], color=GREEN, marker="o", label="right")
    ax.plot(names, [s.round["n_negatives"] for s in rounds], color=ORANGE, marker="o", label="wrong")
    ax.set_ylim(bottom=0)
    ax.margins(x=0.2)
    ax.legend(fontsize=8, frameon=False)


def _solved(ax: Any, rounds: Sequence[Summary]) -> None:
    names, width = [s.stage for s in rounds], 0.2
    shown = (
        ("n_solved", "solved", BLUE),
        ("n_newly_solved", "newly", GREEN),
        ("n_forgotten", "forgotten", RED),
        ("n_repaired", "repairs", GREY),
    )
    for i, (key, label, colour) in enumerate(shown):
        ax.bar(
            [x + (i - 1.5) * width for x in range(len(names))],
            [s.round[key] for s in rounds],
            width,
            label=label,
            color=colour,
        )
    ax.set_xticks(range(len(names)), names)
    ax.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _families(ax: Any, curve: Sequence[Summary]) -> None:
    families = sorted(curve[-1].families)
    width = 0.8 / len(curve)
    for i, summary in enumerate(curve):
        shade = 0.25 + 0.75 * (i + 1) / len(curve)
        lengths = [100 * summary.families[f].accuracy.mean if f in summary.families else 0.0 for f in families]
        ax.barh(
            [y + i * width for y in range(len(families))], lengths, width, color=BLUE, alpha=shade, label=summary.stage
        )
    ax.set_yticks([y + 0.4 - width / 2 for y in range(len(families))], families)
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    ax.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _general(ax: Any, curve: Sequence[Summary]) -> None:
    ax.plot(
        _names(curve),
        [100 * s.general.choice.mean if s.general.choice else None for s in curve],
        color=BLUE,
        marker="o",
    )
    ax.set_ylabel("multiple choice, %", fontsize=9, color=BLUE)
    ax.set_ylim(0, 100)
    ax.tick_params(axis="x", labelrotation=30)
    other = ax.twinx()
    other.plot(_names(curve), [s.general.perplexity for s in curve], color=ORANGE, marker="s")
    other.set_ylabel("perplexity", fontsize=9, color=ORANGE)
    other.set_ylim(0, 1.15 * max((s.general.perplexity or 0.0 for s in curve), default=1.0) or 1.0)
    other.tick_params(labelsize=8)


TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Symbol-LLM report</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
 body { font: 15px/1.5 system-ui, sans-serif; color: #1a202c; max-width: 1020px; margin: 2rem auto; padding: 0 1rem }
 h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1rem; margin: 0 0 .3rem }
 .lead { font-size: 1.1rem } .muted { color: #718096 }
 .figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.2rem 0 }
 .figures section { border: 1px solid #e2e8f0; border-radius: 8px; padding: .8rem; flex: 1 1 440px }
 .figures section:first-child { flex-basis: 100% } .figures section:not(:first-child) { max-width: 490px }
 svg { width: 100%; height: auto }
 table { border-collapse: collapse; width: 100%; font-size: .85rem } th { text-align: left }
 td, th { border-bottom: 1px solid #e2e8f0; padding: .35rem .5rem; vertical-align: top }
 td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
 pre { margin: 0; white-space: pre-wrap; font-size: .8rem; max-width: 26rem }
 .alarms { border-left: 4px solid #dd8452; padding: .3rem 0 .3rem 1.6rem }
 .status { color: #fff; border-radius: 4px; padding: 0 .4rem; white-space: nowrap }
</style></head><body>
{% set first, last = curve[0], report.summary %}
<h1>Self-training report</h1>
<p class="lead">Accuracy on the test problems went from <b>{{ "%.1f"|format(100 * first.overall.mean) }} %</b> ({{ first.stage }})
 to <b>{{ "%.1f"|format(100 * last.overall.mean) }} %</b> ({{ last.stage }}) on {{ last.overall.n }} problems.</p>
{% if decision %}<p>{{ decision[0]|upper }}{{ decision[1:] }}.</p>{% endif %}
{% if alarms %}<ul class="alarms">{% for alarm in alarms %}<li>
{%- for part in alarm.split("`") %}{% if loop.index is odd %}{{ part }}{% else %}<code>{{ part }}</code>{% endif %}{% endfor -%}
</li>{% endfor %}</ul>{% endif %}
{% if n_tested %}<p class="muted">Rounds end and checkpoints are chosen by the dev problems; the test problems were read for the gate
 {{ n_tested }} time{{ "" if n_tested == 1 else "s" }} so far, each for another checkpoint.</p>{% endif %}
<div class="figures">{% for title, svg in figures %}<section><h2>{{ title }}</h2>{{ svg|safe }}</section>{% endfor %}</div>
<h2>The curve in numbers</h2>
<table><tr><th>stage</th><th class="n">dev, %</th><th class="n">n</th><th class="n">test, %</th><th class="n">95 % interval</th>
 <th class="n">multiple choice, %</th><th class="n">perplexity</th><th>checkpoint</th></tr>
{% for s in curve %}<tr><td>{{ s.stage }}</td>
 <td class="n">{% if s.dev %}{{ "%.1f"|format(100 * s.dev.mean) }}{% endif %}</td><td class="n">{{ s.overall.n }}</td>
 <td class="n">{{ "%.1f"|format(100 * s.overall.mean) }}</td>
 <td class="n">{{ "%.1f"|format(100 * s.overall.low) }}–{{ "%.1f"|format(100 * s.overall.high) }}</td>
 <td class="n">{% if s.general.choice %}{{ "%.0f"|format(100 * s.general.choice.mean) }}{% endif %}</td>
 <td class="n">{% if s.general.perplexity %}{{ "%.1f"|format(s.general.perplexity) }}{% endif %}</td>
 <td class="muted">{{ s.checkpoint[:10] }}</td></tr>{% endfor %}</table>
<h2 style="margin-top:1.5rem">Families, accuracy in %</h2>
<table><tr><th>family</th><th class="n">n</th>{% for s in curve %}<th class="n">{{ s.stage }}</th>{% endfor %}</tr>
{% for family, scores in last.families.items() %}<tr><td>{{ family }}</td><td class="n">{{ scores.accuracy.n }}</td>
 {% for s in curve %}<td class="n">{% if family in s.families %}{{ "%.0f"|format(100 * s.families[family].accuracy.mean) }}{% endif %}</td>{% endfor %}
</tr>{% endfor %}</table>
<h2 style="margin-top:1.5rem">Tasks, at the end</h2>
<table><tr><th>task</th><th class="n">n</th><th class="n">accuracy, %</th><th class="n">95 % interval</th><th class="n">as in the paper</th>
 {% for status in colours %}<th class="n">{{ status }}</th>{% endfor %}</tr>
{% for name, s in last.tasks.items() %}<tr><td>{{ name }}</td><td class="n">{{ s.accuracy.n }}</td>
 <td class="n">{{ "%.1f"|format(100 * s.accuracy.mean) }}</td>
 <td class="n">{{ "%.1f"|format(100 * s.accuracy.low) }}–{{ "%.1f"|format(100 * s.accuracy.high) }}</td>
 <td class="n">{% if s.paper %}{{ s.metric }} {{ "%.1f"|format(100 * s.paper.mean) }}{% endif %}</td>
 {% for status in colours %}<td class="n">{{ s[status] }}</td>{% endfor %}</tr>{% endfor %}</table>
<h2 style="margin-top:1.5rem">Ten test problems</h2>
<table><tr><th>task</th><th>question</th><th>program</th><th>gave</th><th>verdict</th></tr>
{% for s in report.samples %}<tr><td>{{ s.task }}</td><td>{{ s.question }}</td><td><pre>{{ s.program or "" }}</pre></td>
 <td>{{ s.value or "" }}</td><td><span class="status" style="background:{{ colours[s.status] }}">{{ s.status }}</span>
 <div class="muted">{{ s.detail }}</div></td></tr>{% endfor %}</table>
<p class="muted">symbol-llm {{ version }}. Accuracy is what the verifier proved, greedy, unscored left out; intervals are Wilson's.
 {% if report.summary.isolation %}Programs ran under {{ report.summary.isolation | join(", ") }}.{% endif %}
 Multiple choice is by length-normalised log-probability.</p>
</body></html>
"""
