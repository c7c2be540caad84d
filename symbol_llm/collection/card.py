"""The data card of a collection: what is in it, from where, under which licence, what was dropped and why.

`card.md` opens with the header that the Hugging Face hub reads; `card.html` shows the same with pictures, in one file.
Both are made from the collection's own files.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import yaml

from symbol_llm.collection.near_duplicates import MIN_WORDS, NGRAM
from symbol_llm.engines import tokens
from symbol_llm.engines.prompts import messages
from symbol_llm.ground.errors import MissingDependency
from symbol_llm.ground.figures import BLUE, GREEN, GREY, ORANGE, svg
from symbol_llm.ground.files import read_records, write_text
from symbol_llm.ground.params import Collect
from symbol_llm.ground.records import GeneralItem, Problem, Split
from symbol_llm.tasks import SPLITS, Chosen, domain_of, general

logger = logging.getLogger(__name__)

OURS = "written for this project"
HUB_LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0", "BSD": "bsd", "CC BY 4.0": "cc-by-4.0"}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
VARIETY_ROWS = 1000
"""First training rows of a task, on which its variety is measured."""
TOKEN_ROWS = 100
"""First training rows of a task (or else test rows) whose tokens are counted; a second suffices for some thousand."""
BINS = [2**n for n in range(1, 12)]
"""Upper bounds of the length histogram's bins, in words."""


class Stats:
    """Counts over one task's rows, updated while they are read."""

    def __init__(self) -> None:
        """Start with nothing counted."""
        self.n: Counter[str] = Counter()
        self.n_gold = self.n_evolved = 0
        self.levels: Counter[int] = Counter()
        self.prompt_words: Counter[int] = Counter()
        self.program_words: Counter[int] = Counter()
        self.programs: set[int] = set()
        self.grams: set[int] = set()
        self.first: list[tuple[str, str | None]] = []
        self.prompt_tokens: list[int] = []
        self.program_tokens: list[int] = []

    def add(self, row: Problem) -> None:
        """Count `row`."""
        self.n[row.split] += 1
        self.n_gold += row.split == "train" and row.program is not None
        self.n_evolved += bool(row.renamed)
        if row.level:
            self.levels[row.level] += 1
        prompt = f"{row.context} {row.question}".split()
        self.prompt_words[_bin(len(prompt))] += 1
        self.program_words[_bin(len((row.program or "").split()))] += row.program is not None
        if self.n[row.split] <= TOKEN_ROWS and (row.split == "train" or not self.n["train"]):
            self.first.append((" ".join(message["content"] for message in messages(row)), row.program))
        if row.split == "train" and self.n["train"] <= VARIETY_ROWS and not row.renamed:
            self.programs.update([hash(row.program)] if row.program is not None else [])
            question = row.question.lower().split()
            self.grams.update(hash(tuple(question[i : i + 3])) for i in range(len(question) - 2))

    def count_tokens(self, count: Callable[[Sequence[str]], list[int]]) -> None:
        """Count the tokens of the first rows, and discard their texts."""
        self.prompt_tokens = sorted(count([prompt for prompt, _ in self.first]))
        self.program_tokens = sorted(count([program for _, program in self.first if program is not None]))
        self.first = []


class Card(NamedTuple):
    """The content that both forms of the card show."""

    chosen: Sequence[Chosen]
    stats: Mapping[str, Stats]
    general: Mapping[str, Counter[str]]
    dropped: Counter[tuple[str, Split, str]]
    numbers: Mapping[str, float]
    tokens: str
    """How tokens were counted, or why they were not."""
    source: str
    """The source's reference on the hub; empty if it is not from a hub."""


def write_card(
    folder: Path, chosen: Sequence[Chosen], numbers: Mapping[str, float], params: Collect
) -> dict[str, float]:
    """Write `card.md` and `card.html` next to the files of the collection `folder`; return the number of tokens.

    These are the tokens of prompts and gold programs in the training problems, estimated from each task's first rows;
    none if there is no tokenizer.
    """
    from symbol_llm.collection.cleaning import Dropped

    stats = {one.task.name: Stats() for one in chosen}
    for split in SPLITS:
        for row in read_records(folder / f"{split}.jsonl", Problem):
            stats[row.task].add(row)
    items: dict[str, Counter[str]] = {}
    for split in ("train", "test"):
        for item in read_records(folder / f"general_{split}.jsonl", GeneralItem):
            items.setdefault(item.source.split()[0], Counter())[split] += 1
    dropped = Counter((row.task, row.split, row.reason) for row in read_records(folder / "dropped.jsonl", Dropped))
    how = _count_tokens(stats.values(), params.tokenizer)
    estimated = _estimated(stats.values())
    source = params.source if isinstance(params.source, str) else ""
    card = Card(chosen, stats, items, dropped, {**numbers, **estimated}, how, source)
    write_text(folder / "card.md", markdown(card))
    write_text(folder / "card.html", page(card))
    return estimated


def _count_tokens(stats: Iterable[Stats], tokenizer: str) -> str:
    """Count tokens if possible; return how they were counted, or why they were not."""
    if not tokenizer:
        return "Tokens were not counted."
    try:
        count = tokens.counter(tokenizer)
    except MissingDependency as e:
        logger.warning("tokens are not counted: %s", e)
        return f"Tokens were not counted: {e}."
    for one in stats:
        one.count_tokens(count)
    return f"Tokens are those of {tokenizer} without its chat template, in a task's first {TOKEN_ROWS} training rows (test rows where it has none)."


def _estimated(stats: Iterable[Stats]) -> dict[str, float]:
    prompts = programs = 0.0
    for one in stats:
        prompts += one.n["train"] * _mean(one.prompt_tokens)
        programs += one.n_gold * _mean(one.program_tokens)
    return {"n_prompt_tokens": round(prompts), "n_program_tokens": round(programs)} if prompts else {}


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0


def _bin(n: int) -> int:
    return next((i for i, end in enumerate(BINS) if n <= end), len(BINS))


# --- Markdown ------------------------------------------------------------------------------------------------------


TASK_HEADS = (
    "task", "domain", "family", "from", "train", "dev", "test", "train with gold", "dropped", "licence", "citation"
)  # fmt: skip


def markdown(card: Card) -> str:
    """Return the card as Markdown with the hub's YAML header."""
    lines = [
        "---",
        yaml.safe_dump(_header(card), sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        "",
        "# Data card",
        "",
        f"{card.numbers['n_train']:g} training, {card.numbers['n_dev']:g} dev and {card.numbers['n_test']:g} test problems of "
        f"{len(card.chosen)} tasks; {card.numbers['n_evolved']:g} training problems are renamed copies (symbol-evol)."
        f"{_tokens(card)}{f' Read from {card.source}.' if card.source else ''}",
        "",
        *_table(*TASK_HEADS),
        *(_row(*_task_cells(one, card)) for one in card.chosen),
        "",
        f"Variety: distinct gold programs, and distinct word 3-grams of questions, in the first {VARIETY_ROWS} training rows. "
        f"{_about_lengths(card)}",
        "",
        *_variety(card),
        "",
        "Dropped rows, by task and split; each is listed in `dropped.jsonl`:",
        "",
        *([f"- {task}, {split}: {n} {why}" for (task, split, why), n in sorted(card.dropped.items())] or ["- none"]),
        "",
        *_table("general", "train", "test", "licence", "citation"),
        *(_row(*cells) for cells in _general_cells(card.general)),
        "",
        f"Injection learns {card.numbers['n_injection']:g} of the {_n_gold(card)} gold programs.",
        f"Training rows that equal a test row once numbers are masked: {card.numbers['n_numbers_only']:g} (kept).",
        f"Training rows with the context and the canonical program of a test row: {card.numbers['n_same_program']:g} "
        "(see `collect.same_program`).",
        "No training row asks the same of the same as a test row of any task: equal words, or, from "
        f"{MIN_WORDS} words on, equal numbers and the share of word {NGRAM}-grams set by `overlap`.",
    ]
    return "\n".join(lines) + "\n"


def _tokens(card: Card) -> str:
    """Return a sentence on all training problems together; empty if tokens were not counted."""
    if not _has_tokens(card):
        return ""
    prompts, programs = (float(f"{card.numbers[f'n_{what}_tokens']:.3g}") for what in ("prompt", "program"))
    return f" Training problems have about {prompts:,.0f} tokens of prompts and {programs:,.0f} of gold programs."


def _header(card: Card) -> dict[str, Any]:
    n = card.numbers["n_train"] + card.numbers["n_test"]
    licences = sorted({_hub_licence(_origin(one)[0]) for one in card.chosen})
    return {
        "pretty_name": "Symbol-LLM collection",
        "license": licences[0] if len(licences) == 1 else "other",
        **({} if len(licences) == 1 else {"license_name": "per source, see the table"}),
        "language": sorted({one.task.language for one in card.chosen}),
        "task_categories": ["text-generation"],
        "tags": ["code", "symbolic", *sorted({one.task.family for one in card.chosen})],
        "size_categories": [next((name for end, name in SIZES if n < end), "1M<n<10M")],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}.jsonl"} for split in SPLITS],
            }
        ],
    }


def _hub_licence(text: str) -> str:
    return next((key for name, key in HUB_LICENCES.items() if text == name), "other")


def _n_gold(card: Card) -> int:
    return sum(one.n_gold for one in card.stats.values())


def _origin(one: Chosen) -> tuple[str, str]:
    return (one.task.licence, one.task.citation) if one.folder else (general.SHIPPED_LICENCE, OURS)


def _task_cells(one: Chosen, card: Card) -> tuple[object, ...]:
    task, stats = one.task, card.stats[one.task.name]
    n_dropped = sum(n for (name, _, _), n in card.dropped.items() if name == task.name)
    where = task.folder if one.folder else "generated"
    counts = (stats.n["train"], stats.n["dev"], stats.n["test"], stats.n_gold, n_dropped)
    return (task.name, domain_of()[task.name], task.family, where, *counts, *_origin(one))


def _variety(card: Card) -> list[str]:
    """Return the lines of the table: lengths in tokens, or in words if tokens were not counted; levels if any."""
    heads = ["task", "rows", "programs", "3-grams"]
    unit = "tokens" if _has_tokens(card) else "words"
    heads += [f"{unit} of a prompt", f"{unit} of a program"]
    levels = any(one.levels for one in card.stats.values())
    rows = [_variety_cells(one.task.name, card)[: None if levels else -1] for one in card.chosen]
    return [*_table(*heads, *(["levels 1 / 2 / 3"] if levels else [])), *(_row(*row) for row in rows)]


def _variety_cells(name: str, card: Card) -> tuple[object, ...]:
    stats = card.stats[name]
    n = min(VARIETY_ROWS, stats.n["train"])
    levels = " / ".join(str(stats.levels[level]) for level in (1, 2, 3)) if stats.levels else ""
    return (name, n, len(stats.programs), len(stats.grams), *_lengths_of(stats, card), levels)


def _lengths_of(stats: Stats, card: Card) -> tuple[str, str]:
    """Return the lengths of prompts and programs: median and maximum in tokens, or the word range of the median."""
    if _has_tokens(card):
        return _spread(stats.prompt_tokens), _spread(stats.program_tokens)
    return _middle(stats.prompt_words), _middle(stats.program_words)


def _about_lengths(card: Card) -> str:
    """Return an explanation of the figures of `_lengths_of`."""
    told = "the middle one / the longest" if _has_tokens(card) else "where the middle one lies"
    return f"Lengths: {told}. {card.tokens}"


def _has_tokens(card: Card) -> bool:
    return any(one.prompt_tokens for one in card.stats.values())


def _spread(ordered: Sequence[int]) -> str:
    return f"{ordered[len(ordered) // 2]} / {ordered[-1]}" if ordered else ""


def _middle(bins: Counter[int]) -> str:
    """Return the bin that holds the median, as a range of words."""
    total, so_far = sum(bins.values()), 0
    for i in range(len(BINS) + 1):
        so_far += bins[i]
        if total and so_far >= total / 2:
            return f"{BINS[i - 1] + 1 if i else 0}-{BINS[i]}" if i < len(BINS) else f"over {BINS[-1]}"
    return ""


def _general_cells(items: Mapping[str, Counter[str]]) -> Iterator[tuple[object, ...]]:
    about = {source.name: (source.licence, source.citation) for source in general.SOURCES}
    about[general.SHIPPED] = (general.SHIPPED_LICENCE, OURS)
    for name in sorted(items):
        yield name, items[name]["train"], items[name]["test"], *about[name]


def _table(*heads: str) -> list[str]:
    return [_row(*heads), "|---" * len(heads) + "|"]


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


# --- page ----------------------------------------------------------------------------------------------------------


def page(card: Card) -> str:
    """Return the card as one HTML page with embedded figures."""
    told = {
        "figures": [(title, svg(draw, 5.4, inches)) for title, draw, inches in _figures(card)],
        "rows": [_page_cells(one, card) for one in card.chosen],
        "general": list(_general_cells(card.general)),
        "dropped": sorted((*place, n) for place, n in card.dropped.items()),
        "tokens": _tokens(card),
        "lengths": _about_lengths(card),
        "unit": "tokens" if _has_tokens(card) else "words",
        "n_gold": _n_gold(card),
    }
    return jinja2.Environment(autoescape=True).from_string(TEMPLATE).render(card=card, **told)


def _figures(card: Card) -> Iterator[tuple[str, Callable[[Any], None], float]]:
    """Yield the title of each figure, the function that draws it, and its height in inches."""
    tasks = {one.task.name: n for one in card.chosen if (n := card.stats[one.task.name].n["train"])}
    families: Counter[str] = Counter()
    for one in card.chosen:
        families.update({one.task.family: tasks[one.task.name]} if one.task.name in tasks else {})
    reasons: Counter[str] = Counter()
    for (_, _, why), n in card.dropped.items():
        reasons[why] += n
    if tasks:
        yield "Training problems by task", lambda ax: _bars(ax, tasks, BLUE), 0.22 * max(len(tasks), 4) + 0.8
        by_family = dict(families.most_common())
        yield "Training problems by family", lambda ax: _bars(ax, by_family, GREEN), 0.22 * len(families) + 1
    yield "Words of context and question", lambda ax: _lengths(ax, card, "prompt_words", BLUE), 3
    yield "Words of a gold program", lambda ax: _lengths(ax, card, "program_words", GREEN), 3
    if reasons:
        by_reason = dict(reasons.most_common())
        yield "Dropped, by reason", lambda ax: _bars(ax, by_reason, ORANGE), 0.3 * len(reasons) + 0.8


def _page_cells(one: Chosen, card: Card) -> tuple[object, ...]:
    *cells, licence, citation = _task_cells(one, card)
    return (*cells, *_lengths_of(card.stats[one.task.name], card), licence, citation)


def _bars(ax: Any, counts: Mapping[str, int], colour: str) -> None:
    names = list(counts)[::-1]
    ax.barh(names, [counts[name] for name in names], color=colour, height=0.7)
    for i, name in enumerate(names):
        ax.annotate(f"{counts[name]:,}", (counts[name], i), xytext=(3, -3), textcoords="offset points", fontsize=7)
    ax.tick_params(labelsize=7)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.margins(x=0.12, y=0.01)


def _lengths(ax: Any, card: Card, field: str, colour: str) -> None:
    total: Counter[int] = Counter()
    for stats in card.stats.values():
        total.update(getattr(stats, field))
    labels = [f"≤{end}" for end in BINS] + [f">{BINS[-1]}"]
    last = max(total, default=0)
    ax.bar(labels[: last + 1], [total[i] for i in range(last + 1)], color=colour)
    ax.tick_params(axis="x", labelrotation=45, labelsize=7, colors=GREY)


TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Symbol-LLM collection</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
 body { font: 15px/1.5 system-ui, sans-serif; color: #1a202c; max-width: 1180px; margin: 2rem auto; padding: 0 1rem }
 h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1rem; margin: 1rem 0 .3rem }
 .figures { columns: 2; column-gap: 1rem; margin: 1rem 0 }
 .figures section { border: 1px solid #e2e8f0; border-radius: 8px; padding: .8rem; margin-bottom: 1rem; break-inside: avoid }
 .figures h2 { margin-top: 0 } svg { width: 100%; height: auto } .wide { overflow-x: auto }
 table { border-collapse: collapse; width: 100%; font-size: .75rem } th { text-align: left }
 td, th { border-bottom: 1px solid #e2e8f0; padding: .3rem .35rem; vertical-align: top }
 .wide td:first-child, .wide td:nth-child(4) { overflow-wrap: anywhere; min-width: 7.5rem }
 .n { text-align: right; font-variant-numeric: tabular-nums } td.n { white-space: nowrap } .muted { color: #718096 }
</style></head><body>
<h1>Data card</h1>
<p>{{ "{:,.0f}".format(card.numbers.n_train) }} training problems and {{ "{:,.0f}".format(card.numbers.n_test) }} test problems
 of {{ rows|length }} tasks. {{ "{:,.0f}".format(card.numbers.n_evolved) }} training problems are renamed copies (symbol-evol);
 injection learns {{ "{:,.0f}".format(card.numbers.n_injection) }} of the {{ "{:,}".format(n_gold) }} gold programs.{{ tokens }}
 {%- if card.source %} Read from {{ card.source }}.{% endif %}</p>
<div class="figures">{% for title, svg in figures %}<section><h2>{{ title }}</h2>{{ svg|safe }}</section>{% endfor %}</div>
<h2>Tasks</h2>
<p class="muted">{{ lengths }}</p>
<div class="wide"><table><tr><th>task</th><th>domain</th><th>family</th><th>from</th><th class="n">train</th><th class="n">test</th>
 <th class="n">with gold</th><th class="n">dropped</th><th class="n">{{ unit }} of a prompt</th><th class="n">of a program</th>
 <th>licence</th><th>citation</th></tr>
{% for row in rows %}<tr>{% for cell in row %}<td{% if 4 <= loop.index0 <= 9 %} class="n"{% endif %}>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</table></div>
<h2>General rows</h2>
<table><tr><th>source</th><th class="n">train</th><th class="n">test</th><th>licence</th><th>citation</th></tr>
{% for row in general %}<tr>{% for cell in row %}<td{% if loop.index0 in (1, 2) %} class="n"{% endif %}>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</table>
{% if dropped %}<h2>Dropped</h2>
<table><tr><th>task</th><th>split</th><th>reason</th><th class="n">rows</th></tr>
{% for task, split, why, n in dropped %}<tr><td>{{ task }}</td><td>{{ split }}</td><td>{{ why }}</td><td class="n">{{ n }}</td></tr>{% endfor %}
</table>{% endif %}
<p class="muted">Training rows that equal a test row once numbers are masked: {{ "{:g}".format(card.numbers.n_numbers_only) }} (kept);
 with the context and canonical program of a test row: {{ "{:g}".format(card.numbers.n_same_program) }}.</p>
</body></html>
"""
