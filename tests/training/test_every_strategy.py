"""Every strategy from the original model to its last report, with real sampling, running and tuning of a model of sixteen words.

The model finds what comes next by the last word alone: `answer = 2` or `answer = 2 + 1`, with digits drawn alike. So of some
problems it writes right programs and wrong ones. `tests/pipelines/test_compile.py` lays out the same as pipelines.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from symbol_llm import stages
from symbol_llm.evaluation.evaluate import read_report
from symbol_llm.ground import files, params
from symbol_llm.ground.params import Parameters
from symbol_llm.ground.records import Candidate, PoolEntry, Problem, TrainingRow, Verdict
from symbol_llm.training import strategies
from symbol_llm.training.strategies import STRATEGIES

WORDS = "<pad> <eos> <unk> user bot answer = + 1 2 3 4 5 6 7 8".split()
TEMPLATE = "{% for m in messages %}user {{ m['content'] }} {% endfor %}{% if add_generation_prompt %}bot {% endif %}"
FOLLOWERS = {"bot": "answer", "answer": "=", "=": "1 2 3 4", "+": "1 2 3 4"} | {d: "<eos> +" for d in "1234"}
TUNE = {"epochs": 1, "learning_rate": 1e-4, "batch": 8, "device_batch": 8, "max_length": 256}
K = 8
SMALL = {
    "injection": TUNE,
    "infusion": TUNE,
    "tune": TUNE,
    "explore": {"engine": "transformers", "max_tokens": 6, "problems": "all"},
    "evaluate": {"engine": "transformers", "max_tokens": 6, "n_general": 0},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    sizes = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    model = LlamaForCausalLM(
        LlamaConfig(**sizes, num_attention_heads=1, bos_token_id=None, eos_token_id=1, pad_token_id=0)
    )
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(16))
        model.lm_head.weight.zero_()
        for word, after in FOLLOWERS.items():
            for follower in after.split():
                model.lm_head.weight[WORDS.index(follower), WORDS.index(word)] = 2.0  # four times as much is its logit
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words, chat_template=TEMPLATE, **special).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give eight training problems, two of each answer from 2 to 5, the first half with gold, and two to measure on."""
    folder = tmp_path_factory.mktemp("collection")
    how = {
        "task": "word_problems",
        "family": "python",
        "instruction": "Write Python.",
        "source": "test",
        "licence": "MIT",
    }

    def asked(split: str, n: int) -> list[Problem]:
        numbers = [(i, 2 + i % 4) for i in range(n)]
        return [Problem.of(split=split, question=f"{split} {i} : {x} ?", answer=x, **how) for i, x in numbers]

    for split, n in (("train", 8), ("dev", 2), ("test", 2)):
        files.write_records(folder / f"{split}.jsonl", asked(split, n))
    gold = [
        TrainingRow.of(
            kind="injection",
            problem=p.id,
            messages=[{"role": "user", "content": p.question}],
            completion=f"answer = 1 + {p.answer - 1}",
        )
        for p in asked("train", 4)
    ]
    files.write_records(folder / "training_set.jsonl", gold)
    files.write_records(folder / "general_test.jsonl", [])
    return folder


class Round(NamedTuple):
    """What a round found and what it teaches."""

    explored: list[tuple[Candidate, Verdict]]
    pool: list[PoolEntry]
    rows: list[TrainingRow]

    def samples(self, *origins: str) -> dict[str, list[tuple[Candidate, Verdict]]]:
        """Return what was tried of each problem with programs in it."""
        found = defaultdict(list)
        for candidate, verdict in self.explored:
            if candidate.origin in origins and verdict.program:
                found[candidate.problem].append((candidate, verdict))
        return found

    def right(self, *origins: str) -> dict[str, list[Verdict]]:
        tried = self.samples(*(origins or ("explore",)))
        return {p: right for p, found in tried.items() if (right := [v for _, v in found if v.status == "accepted"])}


def walked(how: Parameters, base: Path, collection: Path, folder: Path) -> list[Round]:
    """Do what a pipeline of `how` does, stage by stage, and leave a report after each checkpoint."""
    start = base
    if how.rounds.start == "infused":
        for name, tuning in (("injection", how.injection), ("infusion", how.infusion)):
            stages.tune(collection, start, folder / name, tuning)
            start = folder / name
    stages.evaluate(collection, start, folder / "report", how.evaluate, "start")
    rounds, latest, report, pool = [], start, folder / "report", None
    for n in range(1, how.rounds.n + 1):
        here = folder / f"round-{n}"
        stages.explore(collection, latest, here / "explored", how.explore_in(n))
        stages.select(collection, here / "explored", here / "selected", how.select, n, pool)
        stages.tune(here / "selected", latest if how.rounds.tunes == "latest" else start, here / "tuned", how.tune)
        stages.evaluate(
            collection, here / "tuned", here / "report", how.evaluate, f"round {n}", report, here / "selected"
        )
        latest, report, pool = here / "tuned", here / "report", here / "selected"
        verdicts = {v.candidate: v for v in files.read_records(here / "explored" / "verdicts.jsonl", Verdict)}
        candidates = files.read_records(here / "explored" / "candidates.jsonl", Candidate)
        kept = (
            files.read_records(pool / "pool.jsonl", PoolEntry),
            files.read_records(pool / "training_set.jsonl", TrainingRow),
        )
        rounds.append(Round([(c, verdicts[c.id]) for c in candidates], *map(list, kept)))
    stages_seen = [s.stage for s in (*read_report(report).history, read_report(report).summary)]
    assert stages_seen == ["start", *(f"round {n}" for n in range(1, how.rounds.n + 1))]
    return rounds


def distinct(verdicts: Sequence[Verdict]) -> int:
    return len({v.canonical for v in verdicts})


def from_the_pool(last: Round) -> int:
    """Rows of ENVISIONS: of P right programs and N wrong ones, P - 1 alone and one beside the likeliest wrong one."""
    entries = Counter((e.problem, e.accepted) for e in last.pool)
    ps = {problem: n for (problem, accepted), n in entries.items() if accepted}
    return sum(
        min(10, max(1, n - 1)) + max(0, min(2, n - min(10, max(1, n - 1)), entries[p, False])) for p, n in ps.items()
    )


def of_pairs(last: Round) -> int:
    tried = last.samples("explore")
    wrong = {p: [v for _, v in found if v.status != "accepted"] for p, found in tried.items()}
    return sum(min(10, distinct(right), distinct(wrong[p])) for p, right in last.right().items())


def of_groups(last: Round) -> int:
    tried = last.samples("explore")
    return sum(len(found) for found in tried.values() if len({v.status == "accepted" for _, v in found}) == 2)


class Expected(NamedTuple):
    """What a strategy does in its last round."""

    kinds: set[str]
    origins: set[str]
    n_rows: Callable[[Round], int]


ALONE = {"explore"}
EXPECTED: Mapping[str, Expected] = {
    "ours": Expected({"L1", "L2"}, {"explore", "refine"}, from_the_pool),
    "envisions": Expected({"L1", "L2"}, {"explore", "refine"}, from_the_pool),
    "star": Expected(
        {"L1"},
        {"explore", "hint"},
        lambda r: sum(min(10, n) for n in Counter(e.problem for e in r.pool if e.accepted).values()),
    ),
    "rest_em": Expected({"L1"}, ALONE, lambda r: sum(min(10, len(right)) for right in r.right().values())),
    "rft": Expected({"L1"}, ALONE, lambda r: sum(map(distinct, r.right().values()))),
    "raft": Expected({"L1"}, ALONE, lambda r: len(r.right())),
    "iter_sft": Expected({"L1"}, ALONE, lambda r: sum(map(len, r.right().values()))),
    "iter_dpo": Expected({"pair"}, ALONE, of_pairs),
    "grpo": Expected({"sample"}, ALONE, of_groups),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_goes_from_exploring_to_its_last_report(
    name: str, base: Path, collection: Path, tmp_path: Path, home: Path
) -> None:
    how = params.load(params.SHIPPED, overlays=[SMALL, strategies.overlay(name), {"explore": {"k": K}}])
    rounds = walked(how, base, collection, tmp_path)
    assert len(rounds) == {"symbol_llm": 0, "rft": 1}.get(name, 2)
    if not rounds:
        return
    expected, last = EXPECTED[name], rounds[-1]
    assert {c.origin for c, _ in last.explored} == expected.origins
    assert Counter(c.origin for c, _ in last.explored)["explore"] == 8 * K
    assert last.right()
    assert {r.kind for r in last.rows} <= expected.kinds
    assert len(last.rows) == expected.n_rows(last) > 0
