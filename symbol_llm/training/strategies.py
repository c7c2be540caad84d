"""Published methods of self-training, and ours, as settings of the same rounds. A strategy is an entry here and no code.

Each is laid over the parameters and their profile, and under single keys: `make run STRATEGY=rest_em`. It says which
choices the method makes, not how large the model is: learning rates, batches and numbers of problems are a profile's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from symbol_llm.ground.errors import InvalidInput


class Strategy(NamedTuple):
    """A method of self-training."""

    about: str
    source: str
    """The paper; empty for ours."""
    settings: Mapping[str, Mapping[str, Any]]
    """Keys of `Parameters` and what the method makes of them; what is not named is left as it is."""


FROM_ORIGINAL = {"start": "original", "tunes": "start", "stop_early": False}
AS_PUBLISHED = {"budget": "even", "redraws": 0, "copies": 0}
"""What is ours alone is off, whatever the profile says."""
SAMPLE_ALONE = AS_PUBLISHED | {"refine": False, "hint": False}
"""Neither repairs nor hints."""
ALL_RIGHT = {"max_positives": "all", "max_pairs": 0}

STRATEGIES: Mapping[str, Strategy] = {
    "ours": Strategy("What the parameters and their profile say.", "", {}),
    "envisions": Strategy(
        "K samples, a repair of each without feedback; the likeliest right programs of all rounds; wrong ones shown in "
        "repair rows; each round tunes the original model.",
        "Xu et al. 2024, arXiv 2406.11736",
        {
            "rounds": FROM_ORIGINAL,
            "explore": {"k": 5, "temperature": 1.0, "top_p": 1.0, "refine": True, "feedback": "none", "hint": False}
            | {"rescore": "published", "problems": "all"}
            | AS_PUBLISHED,
            "select": {"max_positives": 10, "max_pairs": 2, "pairs": "repair", "scope": "all", "order": "likeliest"}
            | {"duplicates": "published", "keep_repaired": False},
            "tune": {"epochs": 1, "loss": "rows", "max_grad_norm": 0},
        },
    ),
    "symbol_llm": Strategy(
        "Supervised tuning in two stages, injection and infusion; no rounds.",
        "Xu et al. 2023, arXiv 2311.09278",
        {"collect": {"gold_share": 1.0}, "rounds": {"n": 0, "start": "infused"}},
    ),
    "star": Strategy(
        "Samples, and for problems that none solved one more with the answer in sight; up to ten right programs of all "
        "rounds, drawn at random; each round tunes the original model.",
        "Zelikman et al. 2022, arXiv 2203.14465",
        {
            "rounds": FROM_ORIGINAL,
            "explore": SAMPLE_ALONE | {"hint": True, "problems": "all"},
            "select": {"max_positives": 10, "max_pairs": 0, "scope": "all", "order": "random", "duplicates": "kept"},
        },
    ),
    "rest_em": Strategy(
        "Samples; up to ten right programs of the latest round, drawn at random; each round tunes the original model.",
        "Singh et al. 2023, arXiv 2312.06585",
        {
            "rounds": FROM_ORIGINAL,
            "explore": SAMPLE_ALONE | {"problems": "all"},
            "select": {"max_positives": 10, "max_pairs": 0, "scope": "latest", "order": "random", "duplicates": "kept"},
        },
    ),
    "rft": Strategy(
        "One round from the tuned model: all right programs that differ.",
        "Yuan et al. 2023, arXiv 2308.01825",
        {
            "rounds": {"n": 1, "start": "infused", "tunes": "start"},
            "explore": SAMPLE_ALONE | {"problems": "all"},
            "select": ALL_RIGHT | {"scope": "latest", "duplicates": "canonical"},
        },
    ),
    "raft": Strategy(
        "Samples; the best program of each problem in the latest round; each round tunes the model of the round before.",
        "Dong et al. 2023, arXiv 2304.06767",
        {
            "rounds": {"start": "original", "tunes": "latest", "stop_early": False},
            "explore": SAMPLE_ALONE | {"problems": "all"},
            "select": {"max_positives": 1, "max_pairs": 0, "scope": "latest", "order": "likeliest"},
        },
    ),
    "iter_sft": Strategy(
        "Samples; all right programs of the latest round, equal ones too; each round tunes the original model.",
        "the baseline of Xu et al. 2024, arXiv 2406.11736",
        {
            "rounds": FROM_ORIGINAL,
            "explore": SAMPLE_ALONE | {"problems": "all"},
            "select": ALL_RIGHT | {"scope": "latest", "duplicates": "kept"},
        },
    ),
    "iter_dpo": Strategy(
        "Samples; pairs of a right and a wrong program of the latest round, by preference and likelihood; each round tunes "
        "the model of the round before, from the infused one.",
        "Pang et al. 2024, arXiv 2404.19733",
        {
            "rounds": {"start": "infused", "tunes": "latest", "stop_early": False},
            "explore": SAMPLE_ALONE,
            "select": {
                "max_positives": 0,
                "max_pairs": 10,
                "pairs": "preference",
                "scope": "latest",
                "order": "random",
            },
            "tune": {"loss": "rows", "beta": 0.1},
        },
    ),
    "grpo": Strategy(
        "Samples, right and wrong ones, weighed by their reward against those of the same problem (group relative policy "
        "optimization); one pass a round over its samples; each round tunes the model of the round before, from the "
        "infused one.",
        "Shao et al. 2024, arXiv 2402.03300",
        {
            "rounds": {"start": "infused", "tunes": "latest", "stop_early": False},
            "explore": SAMPLE_ALONE | {"temperature": 1.0, "top_p": 1.0, "shots": 0},
            "select": {"pairs": "advantages"},
            "tune": {"epochs": 1, "loss": "clipped", "clip": 0.2, "kl": 0.04},
        },
    ),
}


def get(name: str) -> Strategy:
    """Return the strategy `name`; InvalidInput if there is none."""
    if name not in STRATEGIES:
        raise InvalidInput(f"unknown strategy {name!r}; have {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def overlay(name: str) -> dict[str, Any]:
    """Return what the strategy `name` lays over the parameters; its name is one of them."""
    return {"strategy": name, **get(name).settings}
