"""How a model represents symbols: alignment and uniformity (Wang and Isola 2020), which Symbol-LLM's analysis looks at.

A program is represented by the mean of the last layer's hidden states over its tokens, scaled to length 1. Of two programs x
and y, d(x, y) is the squared distance, from 0 to 4:

- alignment of a notation: the mean of d over all pairs of its programs. Lower: programs of one notation lie closer together;
- uniformity: the log of the mean of exp(-2 d) over pairs, from -8 to 0. Lower: programs are spread more evenly. Given for each
  notation, and over the pairs of all programs.

Programs are gold programs of test problems. They are read as they are, without a prompt, so nothing but the notation speaks.
Which pairs are taken is our choice; the paper's figures are not compared with.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from symbol_llm.engines import precision
from symbol_llm.engines.chat import tokenizer
from symbol_llm.engines.memory import advising
from symbol_llm.evaluation.evaluate import choose
from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Evaluate
from symbol_llm.ground.problems import read_problems
from symbol_llm.ground.progress import track
from symbol_llm.ground.records import Record

MAX_TOKENS = 512
"""What follows in a longer program is not read."""
ALL = "all"
"""The line over the programs of all notations; its alignment is the mean of theirs."""


class Spread(Record):
    """Figures of one notation under one checkpoint, from its `n` programs."""

    n: int
    alignment: float
    uniformity: float


def measure_representations(
    collection: Path, checkpoints: Sequence[Path], out: Path, params: Evaluate
) -> dict[str, float]:
    """Write alignment and uniformity of each notation under each of `checkpoints` to `out`; return those over all.

    At most `params.n` programs a task are read. InvalidInput if no notation has two test problems with different programs.
    """
    inputs = {f"checkpoint_{n}": folder for n, folder in enumerate(checkpoints, 1)}
    with outputs.building(out, "spread", params, {"collection": collection, **inputs}) as draft:
        names, (families, texts) = _names(checkpoints), _programs(collection, params)
        found = {
            name: spreads(families, embed(checkpoint, texts, params.batch))
            for name, checkpoint in zip(names, checkpoints, strict=True)
        }
        for n, spread in enumerate(found.values(), 1):
            draft.metrics |= {f"alignment_{n}": spread[ALL].alignment, f"uniformity_{n}": spread[ALL].uniformity}
        figures = {name: {family: one.model_dump() for family, one in spread.items()} for name, spread in found.items()}
        files.write_json(draft.folder / "spread.json", figures)
        files.write_text(draft.folder / "spread.md", markdown(found))
    return draft.metrics


def _names(checkpoints: Sequence[Path]) -> list[str]:
    """Return what to call `checkpoints`: the last part of their paths, or the whole paths where two share that."""
    for short in ([path.name or path.resolve().name for path in checkpoints], [str(path) for path in checkpoints]):
        if len(set(short)) == len(short):
            return short
    raise InvalidInput(f"checkpoints {', '.join(map(str, checkpoints))}: one is given twice")


def _programs(collection: Path, params: Evaluate) -> tuple[list[str], list[str]]:
    """Return the notation and the text of each gold program of the chosen test problems, without repeats."""
    chosen = choose(read_problems(collection, "test"), params.n)
    programs = sorted({(p.family, p.program) for p in chosen if p.program})
    n_of = Counter(family for family, _ in programs)
    kept = [one for one in programs if n_of[one[0]] > 1]
    if not kept:
        raise InvalidInput(f"{collection}: no notation has two test problems with different gold programs")
    return [family for family, _ in kept], [text for _, text in kept]


def embed(checkpoint: Path, texts: Sequence[str], batch: int) -> torch.Tensor:
    """Return what `checkpoint` makes of `texts`, each of length 1: [text, hidden], float32."""
    from transformers import AutoModel

    tok = tokenizer(checkpoint)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any = AutoModel.from_pretrained(
        checkpoint, dtype=precision.dtype(), use_safetensors=True, trust_remote_code=False
    )
    model.to(device).eval()
    shape = {"return_tensors": "pt", "padding": True, "padding_side": "right", "add_special_tokens": False}
    limits = {"truncation": True, "max_length": MAX_TOKENS}
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    points: dict[int, torch.Tensor] = {}
    with torch.inference_mode(), advising(f"a batch of {batch} programs", "lower `evaluate.batch`"):
        for first in track(range(0, len(order), batch), "batches"):
            some = order[first : first + batch]
            read = tok([texts[i] for i in some], **shape, **limits).to(device)
            hidden_BTH = model(**read).last_hidden_state.float()
            real_BT1 = read.attention_mask[..., None].float()
            mean_BH = (hidden_BTH * real_BT1).sum(1) / real_BT1.sum(1)
            points |= dict(zip(some, torch.nn.functional.normalize(mean_BH, dim=1).cpu(), strict=True))
    return torch.stack([points[i] for i in range(len(texts))])


def spreads(families: Sequence[str], points: torch.Tensor) -> dict[str, Spread]:
    """Return the figures of each notation, and over `all`; row i of `points` is a program of `families[i]`."""
    found = {}
    for family in dict.fromkeys(families):
        found[family] = _spread(points[[one == family for one in families]])
    over_all = _spread(points)
    found[ALL] = over_all.model_copy(update={"alignment": fmean(one.alignment for one in found.values())})
    return found


def _spread(points: torch.Tensor) -> Spread:
    squared = torch.pdist(points.double()).square()
    uniformity = torch.logsumexp(-2 * squared, 0) - math.log(len(squared))
    return Spread(n=len(points), alignment=float(squared.mean()), uniformity=float(uniformity))


def markdown(found: dict[str, dict[str, Spread]]) -> str:
    """Return a table of the figures: a row per notation, two columns per checkpoint."""
    heads = ["notation", "n", *(f"{key}, {name}" for key in ("alignment", "uniformity") for name in found)]
    lines = ["# Alignment and uniformity", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for family, first in next(iter(found.values())).items():
        cells = [f"{spread[family].alignment:.3f}" for spread in found.values()]
        cells += [f"{spread[family].uniformity:.3f}" for spread in found.values()]
        lines.append(f"| {' | '.join([family, str(first.n), *cells])} |")
    return "\n".join(lines) + "\n"
