"""The stages, one after the other, on a small generated collection with made-up checkpoints: numbers, files, the page.

Problems are 3 + 4 of `scan` and 3 + 4 of `word_problems`. A checkpoint is a table of replies. The learner first writes a
wrong and a right program, repairs the wrong one in other words and spoils the right one.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from symbol_llm import engines, stages
from symbol_llm.collection.write import write
from symbol_llm.engines import prompts
from symbol_llm.evaluation import page
from symbol_llm.evaluation.evaluate import read_report
from symbol_llm.evaluation.representations import measure_representations
from symbol_llm.evaluation.suites import evaluate_on_suites
from symbol_llm.ground import files, outputs, provenance
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Collect, Evaluate, Explore, Promote, Replay, Select, Tune, Write
from symbol_llm.ground.problems import read_problems
from symbol_llm.ground.records import (
    Candidate,
    General,
    GeneralItem,
    Interval,
    PoolEntry,
    Problem,
    Report,
    Sample,
    Summary,
    TrainingRow,
    Verdict,
)
from symbol_llm.ground.stats import wilson
from symbol_llm.tracking import registry, runs, signing
from tests.checkpoints import whole_checkpoint
from tests.keys import key_pair

EXPLORE = Explore(engine="fake", k=2)
EVALUATE = Evaluate(engine="fake", n_general=5)
Numbers = dict[str, float]


class Chain(NamedTuple):
    """Where each stage wrote, and the numbers it returned."""

    folder: Path
    numbers: dict[str, Numbers]

    def report(self, name: str) -> Report:
        return read_report(self.folder / name)


def checkpoint(folder: Path, replies: dict[str, list[str]]) -> Path:
    """Write a checkpoint; the longest key that is found in a prompt answers it, so that no question hides another."""
    folder.mkdir()
    ordered = {key: replies[key] for key in sorted(replies, key=len, reverse=True)}
    (folder / "replies.json").write_text(json.dumps(ordered))
    return folder


def learner(problems: list[Problem]) -> dict[str, list[str]]:
    replies = {}
    for p in problems:
        gold = str(p.program)
        wrong, other_words = {
            "scan": (f"{gold} I_LOOK", gold),
            "word_problems": ("answer = -1", f"{gold}\nanswer = answer + 0"),
        }[p.task]
        asked = f"{p.question}\n\n{prompts.REPAIR}\n"
        replies |= {p.question: [wrong, gold], f"{asked}{wrong}": [other_words], f"{asked}{gold}": [wrong]}
    return replies


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """Run collect, evaluate, explore, select, evaluate and promote once, with state of their own."""
    folder = tmp_path_factory.mktemp("chain")
    ready = tmp_path_factory.getbasetemp() / "mlflow-ready.db"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "SYMBOL_LLM_PROGRESS", "SYMBOL_LLM_STAGE_RUN", "SYMBOL_LLM_DATA_REPO"):
            patch.delenv(name, raising=False)
        patch.setenv("SYMBOL_LLM_HOME", str(folder / "home"))
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'home' / 'mlflow.db'}")
        (folder / "home").mkdir()
        if ready.exists():
            shutil.copyfile(ready, folder / "home" / "mlflow.db")
        yield Chain(folder, run(folder))


def run(folder: Path) -> dict[str, Numbers]:
    done = {
        "collect": stages.collect(
            folder / "collection",
            Collect(
                tasks=("scan", "word_problems"), n_train=3, n_dev=2, n_test=4, n_general=5, levels=(1,), evolved_share=0
            ),
        )
    }
    train, dev, test = (read_problems(folder / "collection", split) for split in ("train", "dev", "test"))
    weak = checkpoint(folder / "weak", learner(train))
    strong = checkpoint(folder / "strong", {p.question: [str(p.program)] for p in (*dev, *test)})
    paths = {"collection": folder / "collection", "params": EVALUATE}
    done["original"] = stages.evaluate(**paths, checkpoint=weak, out=folder / "original", stage="original")
    done["explore"] = stages.explore(folder / "collection", weak, folder / "explored", EXPLORE)
    done["select"] = stages.select(folder / "collection", folder / "explored", folder / "selected", Select(), round_=1)
    before = {"previous": folder / "original", "selected": folder / "selected"}
    done["evaluate"] = stages.evaluate(**paths, checkpoint=strong, out=folder / "report", stage="round 1", **before)
    done["promote"] = promote(folder, "strong", "report", "promotion")
    return done


def promote(folder: Path, weights: str, report: str, out: str, **earlier: Path) -> Numbers:
    named = {
        "checkpoint": folder / weights,
        "report": folder / report,
        "original": folder / "original",
        "out": folder / out,
    }
    return runs.tracked(stages.promote, label="promote", params=Promote(name="m"), **named, **earlier)


def test_collection_has_what_was_asked_for(chain: Chain) -> None:
    numbers = chain.numbers["collect"]
    assert (numbers["n_train"], numbers["n_test"], numbers["n_injection"], numbers["n_gold_rejected"]) == (6, 8, 6, 0)
    assert {p.task for p in read_problems(chain.folder / "collection", "train")} == {"scan", "word_problems"}


def test_exploring_gives_two_candidates_and_two_repairs_a_problem(chain: Chain) -> None:
    """Of each problem one candidate is right, and the repair of the wrong one."""
    numbers = chain.numbers["explore"]
    assert (numbers["n_problems"], numbers["n_candidates"], numbers["n_accepted"], numbers["n_unscored"]) == (
        6,
        24,
        12,
        0,
    )
    assert (numbers["n_resumed"], numbers["n_bad_lines"]) == (0, 0)
    candidates = list(files.read_records(chain.folder / "explored" / "candidates.jsonl", Candidate))
    verdicts = list(files.read_records(chain.folder / "explored" / "verdicts.jsonl", Verdict))
    assert [c.id for c in candidates] == [v.candidate for v in verdicts]
    assert [(c.problem, c.origin, c.index) for c in candidates] == sorted(
        (c.problem, c.origin, c.index) for c in candidates
    )
    assert {v.seconds for v in verdicts} == {0.0}


def test_exploring_again_gives_the_same_bytes_and_its_ledger_goes_when_the_next_stage_reads_them(
    chain: Chain, tmp_path: Path
) -> None:
    """Whoever started the stage may not know yet that it has ended: until its output is read the samples are kept."""
    ledgers = chain.folder / "home" / "ledgers"
    assert list(ledgers.iterdir()) == []
    for name, n_resumed in (("again", 0), ("and again", 24)):
        numbers = stages.explore(chain.folder / "collection", chain.folder / "weak", tmp_path / name, EXPLORE)
        assert numbers["n_resumed"] == n_resumed
        assert {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} == {
            p.name: p.read_bytes() for p in (chain.folder / "explored").iterdir()
        }
    assert [p.name for p in ledgers.iterdir()] == [files.read_json(tmp_path / "again" / files.MANIFEST)["ledger"]]
    stages.select(chain.folder / "collection", tmp_path / "again", tmp_path / "selected", Select(), round_=1)
    assert list(ledgers.iterdir()) == []


def test_exploring_makes_again_what_a_damaged_ledger_lost_and_ends_with_the_same_bytes(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A line at a time, of each kind, and a few at once."""
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "home"))
    inputs = chain.folder / "collection", chain.folder / "weak"
    stages.explore(*inputs, tmp_path / "out", EXPLORE)
    (ledger,) = (tmp_path / "home" / "ledgers").iterdir()
    lines = ledger.read_bytes().splitlines(keepends=True)
    kinds = {re.match(rb".{8} ..(\w+)", line)[1]: n for n, line in enumerate(lines)}  # type: ignore[index]
    assert kinds.keys() == {b"candidate", b"verdict", b"rescored"}
    for lost in (*({n} for n in kinds.values()), {0, 1, 5, len(lines) // 2, len(lines) - 1}):
        damaged = (line.replace(b":", b";", 1) if n in lost else line for n, line in enumerate(lines))
        ledger.write_bytes(b"".join(damaged))
        caplog.clear()
        numbers = stages.explore(*inputs, tmp_path / "out", EXPLORE)
        assert (numbers["n_bad_lines"], "damaged lines left out" in caplog.text) == (len(lost), True)
        assert files.digests(tmp_path / "out") == files.digests(chain.folder / "explored")


def test_problems_whose_gold_was_learnt_can_be_left_to_injection(chain: Chain, tmp_path: Path) -> None:
    collection, without = tmp_path / "half", EXPLORE.model_copy(update={"problems": "without_gold"})
    shutil.copytree(chain.folder / "collection", collection)
    rows = list(files.read_records(collection / "training_set.jsonl", TrainingRow))
    with pytest.raises(InvalidInput, match="lower `collect.gold_share`"):
        stages.explore(collection, chain.folder / "weak", tmp_path / "none", without)
    files.write_records(collection / "training_set.jsonl", rows[:4])
    (collection / files.MANIFEST).unlink()  # it is ours now
    assert stages.explore(collection, chain.folder / "weak", tmp_path / "out", without)["n_problems"] == 2
    explored = {c.problem for c in files.read_records(tmp_path / "out" / "candidates.jsonl", Candidate)}
    assert explored == {row.problem for row in rows[4:]}


def test_selection_by_hand(chain: Chain) -> None:
    """A word problem has two right programs in different words, a command one; both have the wrong one that was repaired."""
    numbers = chain.numbers["select"]
    assert (numbers["n_solved"], numbers["n_newly_solved"], numbers["n_repaired"], numbers["n_spoiled"]) == (6, 6, 6, 6)
    assert (numbers["pass_1"], numbers["pass_k"]) == (0.5, 1.0)
    assert (numbers["n_positives"], numbers["n_negatives"]) == (3 * 2 + 3, 6)
    assert (numbers["n_L1"], numbers["n_L2"]) == (6, 3)
    assert {e.round for e in files.read_records(chain.folder / "selected" / "pool.jsonl", PoolEntry)} == {1}


def test_advantages_make_a_row_of_each_sample_and_the_pool_is_the_same(chain: Chain, tmp_path: Path) -> None:
    """Of two samples of a problem one is right: half a standard deviation, 1 / sqrt 2, lies at either side of the mean."""
    numbers = stages.select(
        chain.folder / "collection", chain.folder / "explored", tmp_path / "out", Select(pairs="advantages"), round_=1
    )
    rows = list(files.read_records(tmp_path / "out" / "training_set.jsonl", TrainingRow))
    assert (numbers["n_samples"], numbers["n_even"], numbers["n_L1"], numbers["n_L2"]) == (12, 0, 0, 0)
    assert sorted(r.advantage for r in rows if r.advantage) == pytest.approx([-(0.5**0.5)] * 6 + [0.5**0.5] * 6)
    sampled = files.read_records(chain.folder / "explored" / "candidates.jsonl", Candidate)
    assert sorted(r.completion for r in rows) == sorted(c.reply for c in sampled if c.origin == "explore")
    assert not any(r.is_cut for r in rows)
    pools = [(folder / "pool.jsonl").read_bytes() for folder in (tmp_path / "out", chain.folder / "selected")]
    assert pools[0] == pools[1]


def test_samples_of_unknown_greatest_length_get_no_advantage(chain: Chain, tmp_path: Path) -> None:
    explored = shutil.copytree(chain.folder / "explored", tmp_path / "explored")
    (explored / files.MANIFEST).unlink()
    with pytest.raises(InvalidInput, match="no manifest.json of ours; expected a folder that a stage wrote"):
        stages.select(chain.folder / "collection", explored, tmp_path / "out", Select(pairs="advantages"), round_=1)


def test_pool_of_a_round_goes_on_from_the_one_before(chain: Chain, tmp_path: Path) -> None:
    paths = (chain.folder / "collection", chain.folder / "explored", tmp_path / "selected")
    numbers = stages.select(*paths, Select(), round_=2, pool=chain.folder / "selected")
    assert (numbers["n_positives"], numbers["n_negatives"], numbers["n_newly_solved"], numbers["n_forgotten"]) == (
        9,
        6,
        0,
        0,
    )
    assert (tmp_path / "selected" / "pool.jsonl").read_bytes() == (
        chain.folder / "selected" / "pool.jsonl"
    ).read_bytes()


def test_learner_knows_no_test_problem_and_the_later_checkpoint_all(chain: Chain) -> None:
    first, last = chain.numbers["original"], chain.numbers["evaluate"]
    assert (first["accuracy"], last["accuracy"], last["n"], last["improved"]) == (0.0, 1.0, 8.0, 1.0)
    assert (first["accuracy_dev"], last["accuracy_dev"]) == (0.0, 1.0)
    assert [s.stage for s in (*chain.report("report").history, chain.report("report").summary)] == [
        "original",
        "round 1",
    ]
    assert set(chain.report("report").outcomes.values()) == {1.0}
    assert chain.report("report").summary.round["n_L2"] == 3.0


def test_general_ability_is_measured_on_what_the_collection_ships(chain: Chain) -> None:
    summary = chain.report("report").summary
    items = list(files.read_records(chain.folder / "collection" / "general_test.jsonl", GeneralItem))
    assert len(items) == 5
    assert summary.general.choice is not None
    assert summary.general.choice.n == sum(bool(i.choices) for i in items)
    assert (summary.general.perplexity is not None) == any(i.reply for i in items)


@pytest.mark.parametrize(
    ("folder", "stage", "inputs"),
    [
        ("explored", "explore", {"collection": "collection", "checkpoint": "weak"}),
        ("selected", "select", {"collection": "collection", "explored": "explored"}),
        ("original", "evaluate", {"collection": "collection", "checkpoint": "weak"}),
        (
            "report",
            "evaluate",
            {"collection": "collection", "checkpoint": "strong", "previous": "original", "selected": "selected"},
        ),
    ],
)
def test_manifest_says_what_an_output_was_made_from(
    chain: Chain, folder: str, stage: str, inputs: dict[str, str]
) -> None:
    manifest = files.read_json(chain.folder / folder / files.MANIFEST)
    assert (manifest["stage"], manifest["version"]) == (stage, "0.1.0")
    assert manifest["inputs"] == {name: files.hash_path(chain.folder / place) for name, place in inputs.items()}
    assert manifest["output"] == files.hash_path(chain.folder / folder)
    returned = chain.numbers.get(folder) or chain.numbers["evaluate" if folder == "report" else stage]
    assert manifest["metrics"].items() <= returned.items()


def test_manifest_says_with_which_code_and_packages_and_on_what_it_was_made(chain: Chain) -> None:
    made = {
        name: files.read_json(chain.folder / name / files.MANIFEST) for name in ("explored", "original", "selected")
    }
    for manifest in made.values():
        assert manifest["made_with"] == provenance.provenance()
        assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", manifest["made_with"]["revision"] or "0" * 40)
        assert "sympy" in manifest["made_with"]["packages"]
    assert {name: manifest["ran"] for name, manifest in made.items()} == {
        "explored": {"engine": "fake", "device": "none", "split": "train"},
        "original": {"engine": "fake", "device": "none", "split": "dev, test"},
        "selected": {},
    }


def test_an_engine_chosen_by_itself_is_named_by_what_it_was(chain: Chain, tmp_path: Path, monkeypatch) -> None:
    start = engines.start
    monkeypatch.setattr(engines, "start", lambda name, *rest, **more: start("fake", *rest, **more))
    stages.explore(chain.folder / "collection", chain.folder / "weak", tmp_path / "out", Explore(engine="auto", k=1))
    assert outputs.ran(tmp_path / "out")["engine"] == "fake"


def test_what_another_version_of_a_library_found_is_not_gone_on_with(chain: Chain, tmp_path: Path, monkeypatch) -> None:
    inputs = chain.folder / "collection", chain.folder / "weak"

    def stopped(out: str) -> list[str]:
        """Explore, and stop before the output is written; return the ledgers that are left."""
        monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "home"))
        with monkeypatch.context() as breaking, pytest.raises(KeyboardInterrupt):
            breaking.setattr(files, "write_records", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            stages.explore(*inputs, tmp_path / out, EXPLORE)
        return sorted(p.name for p in (tmp_path / "home" / "ledgers").iterdir())

    first = stopped("out")
    assert stopped("out") == first
    monkeypatch.setattr(provenance, "packages", lambda: {"sympy": "0.1"})
    assert len(stopped("out")) == 2
    assert stages.explore(*inputs, tmp_path / "out", EXPLORE)["n_resumed"] == 24
    monkeypatch.setattr(provenance, "packages", lambda: {"sympy": "0.2"})
    assert stages.explore(*inputs, tmp_path / "again", EXPLORE)["n_resumed"] == 0


def test_manifest_of_the_collection_holds_its_parameters(chain: Chain) -> None:
    manifest = files.read_json(chain.folder / "collection" / files.MANIFEST)
    assert (manifest["stage"], manifest["params"]["n_train"], manifest["metrics"]["n_test"]) == ("collect", 3, 8)
    assert manifest["output"] == files.hash_path(chain.folder / "collection")


# --- promotion and the page ----------------------------------------------------------------------------------------


def test_better_checkpoint_becomes_champion(chain: Chain) -> None:
    assert chain.numbers["promote"] == {"promoted": 1.0, "version": 1.0, "accuracy": 1.0}
    champion = registry.by_alias("m", registry.CHAMPION)
    assert champion is not None
    assert (champion.number, champion.source, champion.digest) == (
        "1",
        str(chain.folder / "strong"),
        files.hash_path(chain.folder / "strong"),
    )
    assert registry.report(champion) == chain.report("report")
    decision = files.read_json(chain.folder / "promotion" / "promotion.json")
    assert decision["reason"] == "better than the 'original' checkpoint: +100.0% [+100.0%, +100.0%] on 8 test problems"


def test_champion_is_not_put_to_the_gate_against_itself(chain: Chain) -> None:
    n_before = len(registry.history())
    assert promote(chain.folder, "strong", "report", "again")["promoted"] == 0.0
    assert files.read_json(chain.folder / "again" / "promotion.json")["reason"] == "version 1 is the champion already"
    assert len(registry.history()) == n_before


def test_earlier_checkpoint_goes_if_it_is_better(chain: Chain) -> None:
    """A round that made things worse is put forward with the checkpoint of the round before."""
    earlier = {"earlier_checkpoint": chain.folder / "strong", "earlier_report": chain.folder / "report"}
    numbers = promote(chain.folder, "weak", "original", "worse", **earlier)
    assert (numbers["version"], numbers["accuracy"]) == (1.0, 1.0)
    assert chain.report("worse") == chain.report("original")  # the page and the curve still show the last round


def test_what_is_promoted_is_signed_first_and_what_is_refused_is_not(chain: Chain, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path)
    params = Promote(name="signed", signing_key=str(private))
    named = {"original": chain.folder / "original", "params": params}
    strong = {"checkpoint": chain.folder / "strong", "report": chain.folder / "report"}
    weak = {"checkpoint": chain.folder / "weak", "report": chain.folder / "original"}
    best = {f"earlier_{key}": place for key, place in strong.items()}
    assert runs.tracked(stages.promote, label="p", **weak, **best, **named, out=tmp_path / "a")["promoted"] == 1.0
    signing.verify(chain.folder / "strong", registry.signature("signed", "1"), public)
    assert runs.tracked(stages.promote, label="p", **weak, **named, out=tmp_path / "b")["promoted"] == 0.0
    assert registry.signature("signed", "2") == ""


def test_key_that_cannot_sign_is_noticed_before_anything_is_registered(chain: Chain, tmp_path: Path) -> None:
    params = Promote(name="keyless", signing_key=str(tmp_path / "none.pem"))
    given = {"checkpoint": chain.folder / "strong", "report": chain.folder / "report"}
    with pytest.raises(InvalidInput, match=r"none\.pem: expected a private key"):
        stages.promote(**given, original=chain.folder / "original", out=tmp_path / "out", params=params)
    assert registry.by_alias("keyless", "challenger") is None


def test_page_has_every_figure_the_decision_and_ten_problems_at_most(chain: Chain) -> None:
    text = (chain.folder / "promotion" / "report.html").read_text()
    titles = re.findall(r"<section><h2>(.*?)</h2><svg", text)
    assert titles == [
        "Accuracy on test problems, with 95 % intervals",
        "Verdicts on what each round sampled",
        "Pool: distinct programs kept",
        "Training problems solved",
        "General ability",
        "Accuracy on test problems by family",
    ]
    assert "went from <b>0.0 %</b> (original)\n to <b>100.0 %</b> (round 1) on 8 problems" in text
    assert "Round 1 was promoted: better than the &#39;original&#39; checkpoint" in text
    assert text.count('<span class="status"') == 8


def test_page_needs_nothing_from_elsewhere(chain: Chain) -> None:
    text = (chain.folder / "promotion" / "report.html").read_text()
    assert not re.search(r"<script|<link|<img|<iframe|\bsrc\s*=|@import|url\(\s*['\"]?(?!#)", text)
    assert {address[0] for address in re.findall(r"href=['\"]([^'\"]*)", text)} <= {
        "#",
        "d",
    }  # within the page, or data:


def small_report(**fields: object) -> Report:
    overall = Interval(n=4, mean=0.5, low=0.15, high=0.85)
    summary = Summary(
        stage="original", checkpoint="d", overall=overall, tasks={}, families={}, domains={}, general=General()
    )
    return Report(summary=summary.model_copy(update=fields), outcomes={})


def test_page_of_a_single_point_leaves_out_what_was_not_measured() -> None:
    titles = re.findall(r"<section><h2>(.*?)</h2><svg", page.render(small_report()))
    assert titles == ["Accuracy on test problems, with 95 % intervals", "Accuracy on test problems by family"]


def test_page_where_only_one_point_has_general_ability() -> None:
    later = small_report(stage="round 1", general=General(choice=wilson(0.5, 4), perplexity=3.0))
    text = page.render(later.model_copy(update={"history": (small_report().summary,)}))
    assert "General ability" in text
    assert '<td class="n">50</td>\n <td class="n">3.0</td>' in text


def test_text_of_a_model_is_escaped_on_the_page() -> None:
    hostile = "<script>alert(1)</script>"
    sample = Sample(task="t", question=hostile, program=hostile, value=hostile, status="rejected", detail=hostile)
    text = page.render(
        small_report(stage=f"round 1 {hostile}").model_copy(update={"samples": (sample,)}), decision=hostile
    )
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)") >= 5


def test_equal_reports_give_equal_pages() -> None:
    assert page.render(small_report()) == page.render(small_report())
    assert page.figure(small_report()).startswith("<svg")


# --- the smaller stages --------------------------------------------------------------------------------------------


def test_replay_keeps_replies_that_end_and_whole_sentences_of_those_that_do_not(tmp_path: Path) -> None:
    """At five tokens the sun's reply is cut off in its second sentence, the star's in its first; the sea gets none."""
    items = [
        GeneralItem.of(split="train", prompt=name, source="t", licence="t") for name in ("sky", "sea", "sun", "star")
    ]
    files.write_records(tmp_path / "collection" / "general_train.jsonl", items)
    replies = {"sky": "It is blue.", "sun": "Far away. It shines on us.", "star": "It is far, far away."}
    base = checkpoint(tmp_path / "base", {key: [reply] for key, reply in replies.items()})
    numbers = stages.replay(tmp_path / "collection", base, tmp_path / "out", Replay(engine="fake", n=4, max_tokens=5))
    rows = list(files.read_records(tmp_path / "out" / "training_set.jsonl", TrainingRow))
    assert {r.messages[0]["content"]: r.completion for r in rows} == {"sky": "It is blue.", "sun": "Far away."}
    assert ({r.kind for r in rows}, numbers) == ({"general"}, {"n_rows": 2.0, "n_left_out": 2.0})


def test_reply_that_an_item_brings_is_kept_as_it_is(tmp_path: Path) -> None:
    items = [GeneralItem.of(split="train", prompt="sky", reply="Blue.", source="t", licence="t")]
    files.write_records(tmp_path / "collection" / "general_train.jsonl", items)
    base = checkpoint(tmp_path / "base", {"sky": ["Green."]})
    numbers = stages.replay(tmp_path / "collection", base, tmp_path / "out", Replay(engine="fake", n=3))
    (row,) = files.read_records(tmp_path / "out" / "training_set.jsonl", TrainingRow)
    assert (row.completion, numbers) == ("Blue.", {"n_rows": 1.0, "n_left_out": 0.0})


def test_fetch_copies_the_files_of_a_checkpoint(tmp_path: Path) -> None:
    source = whole_checkpoint(tmp_path / "source")
    n_bytes = sum(p.stat().st_size for p in source.iterdir())
    assert stages.fetch(tmp_path / "out", str(source)) == {"size_mib": n_bytes / 2**20}
    assert files.hash_path(tmp_path / "out") == files.hash_path(source)
    assert stages.fetch(tmp_path / "again", str(tmp_path / "out"))  # what fetch wrote is a checkpoint too
    assert outputs.stage_of(tmp_path / "again") == "fetch"


def test_version_is_tagged_on_the_run_of_the_stage(chain: Chain) -> None:
    numbers = runs.tracked(stages.version, label="version selected", name="selected", folder=chain.folder / "selected")
    mlflow = runs.client()
    (run,) = mlflow.search_runs([runs.experiment(mlflow)], "attributes.run_name = 'version selected'")
    pointer = (chain.folder / "home" / "data-repo" / "data" / "selected.dvc").read_text()
    assert numbers == {"n_files": 3.0}
    assert run.data.tags["dvc.dvc_md5"] in pointer
    assert run.data.tags["dvc.tag"].startswith("selected-")


# --- what stages never believe -------------------------------------------------------------------------------------

READ = {
    "train": ("collection", "train.jsonl", ("explore", "select")),
    "training_set": ("collection", "training_set.jsonl", ("tune", "explore")),
    "general_train": ("collection", "general_train.jsonl", ("replay",)),
    "general_test": ("collection", "general_test.jsonl", ("evaluate",)),
    "test": ("collection", "test.jsonl", ("evaluate", "suite", "spread")),
    "dev": ("collection", "dev.jsonl", ("evaluate", "write")),
    "candidates": ("explored", "candidates.jsonl", ("select",)),
    "verdicts": ("explored", "verdicts.jsonl", ("select",)),
    "pool": ("selected", "pool.jsonl", ("select", "tune on it", "evaluate", "version")),
    "report": ("report", "report.json", ("promote", "evaluate")),
    "original": ("original", "report.json", ("promote",)),
}
"""What is read by which stages: folder, file, stages."""


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


ALTERATIONS = {
    "flipped": flipped,
    "cut at the end of a line": lambda data: data[: data.rindex(b"\n", 0, -1) + 1] if data.count(b"\n") > 1 else b"",
    "emptied": lambda data: b"",
}


@pytest.mark.parametrize("how", ALTERATIONS)
@pytest.mark.parametrize("what", READ)
def test_no_stage_goes_on_with_a_file_that_was_altered(chain: Chain, tmp_path: Path, what: str, how: str) -> None:
    folder, file, stages_ = READ[what]
    shutil.copytree(chain.folder / folder, tmp_path / folder)
    whole = (tmp_path / folder / file).read_bytes()
    (tmp_path / folder / file).write_bytes(ALTERATIONS[how](whole))
    place = {name: chain.folder / name for name in ("collection", "weak", "strong", "explored", "report", "original")}
    place |= {"selected": chain.folder / "selected", folder: tmp_path / folder}
    calls = reading(place, tmp_path / "out", whole_checkpoint(tmp_path / "model"))
    told = rf"{tmp_path / folder}: {file} was altered since the stage '\w+' wrote it; run the stage '\w+' again"
    for name in stages_:
        with pytest.raises(InvalidInput, match=told):
            calls[name]()
        assert not (tmp_path / "out").exists()


def reading(place: dict[str, Path], out: Path, model: Path) -> dict[str, Callable[[], object]]:
    """Return a call of each stage that reads what lies at `place`."""
    inputs = {"collection": place["collection"], "checkpoint": place["weak"]}
    reports = {"report": place["report"], "original": place["original"]}
    found = place["collection"], place["explored"], out, Select()
    before = {"previous": place["report"], "selected": place["selected"]}
    return {
        "replay": lambda: stages.replay(**inputs, out=out, params=Replay(engine="fake")),
        "tune": lambda: stages.tune(place["collection"], model, out, Tune()),
        "tune on it": lambda: stages.tune(place["selected"], model, out, Tune()),
        "explore": lambda: stages.explore(**inputs, out=out, params=EXPLORE),
        "select": lambda: stages.select(*found, round_=2, pool=place["selected"]),
        "evaluate": lambda: stages.evaluate(**inputs, out=out, params=EVALUATE, stage="s", **before),
        "promote": lambda: stages.promote(place["strong"], **reports, out=out, params=Promote(name="n")),
        "suite": lambda: evaluate_on_suites(**inputs, out=out, params=EVALUATE),
        "spread": lambda: measure_representations(place["collection"], [place["weak"]], out, EVALUATE),
        "write": lambda: write(place["collection"], out, Write()),
        "version": lambda: stages.version("altered", place["selected"]),
    }


def test_no_stage_goes_on_with_weights_that_were_altered(chain: Chain, tmp_path: Path) -> None:
    stages.fetch(tmp_path / "base", str(whole_checkpoint(tmp_path / "model")))
    weights = tmp_path / "base" / "model.safetensors"
    (tmp_path / "model" / "model.safetensors").unlink()  # it is the same file
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    told = "base: model.safetensors was altered since the stage 'fetch' wrote it"
    collection, out = chain.folder / "collection", tmp_path / "out"
    for call in (
        lambda: stages.tune(collection, tmp_path / "base", out, Tune()),
        lambda: stages.explore(collection, tmp_path / "base", out, EXPLORE),
        lambda: stages.evaluate(collection, tmp_path / "base", out, EVALUATE, "s"),
        lambda: stages.replay(collection, tmp_path / "base", out, Replay(engine="fake")),
        lambda: stages.fetch(out, str(tmp_path / "base")),
    ):
        with pytest.raises(InvalidInput, match=told):
            call()


def test_report_on_other_weights_is_not_put_to_the_gate(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="weak: its report is on a checkpoint with the hash .*; evaluate it again"):
        promote(chain.folder, "weak", "report", "none")
    earlier = {"earlier_checkpoint": chain.folder / "weak", "earlier_report": chain.folder / "report"}
    with pytest.raises(InvalidInput, match="weak: its report is on a checkpoint"):
        promote(chain.folder, "strong", "report", "none", **earlier)
    assert not (chain.folder / "none").exists()


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("train.jsonl", r"in/train.jsonl:2: id: field required"),
        ("candidates.jsonl", r"in/candidates.jsonl:2: problem: field required"),
        ("verdicts.jsonl", r"in/verdicts.jsonl: no verdict on candidate '[0-9a-f]{16}'; explore again"),
        ("pool.jsonl", r"in/pool.jsonl:2: problem 'none' is no training problem of the collection"),
    ],
)
def test_damaged_row_of_a_folder_of_a_users_own_is_named(chain: Chain, tmp_path: Path, file: str, told: str) -> None:
    for folder in ("collection", "explored", "selected"):
        shutil.copytree(chain.folder / folder, tmp_path / "in", dirs_exist_ok=True)
    (tmp_path / "in" / files.MANIFEST).unlink()
    rows = [row for _, row in files.read_json_lines(tmp_path / "in" / file)]
    change = {
        "train.jsonl": lambda row: row.pop("id"),
        "candidates.jsonl": lambda row: row.pop("problem"),
        "verdicts.jsonl": lambda row: row.update(candidate="none"),
        "pool.jsonl": lambda row: row.update(problem="none"),
    }
    change[file](rows[1])
    (tmp_path / "in" / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InvalidInput, match=told):
        stages.select(*[tmp_path / "in"] * 2, tmp_path / "out", Select(), round_=2, pool=tmp_path / "in")


# --- what stages never replace -------------------------------------------------------------------------------------


def write_to(out: Path, chain: Chain, model: Path) -> dict[str, Callable[[], object]]:
    """Return a call of each stage, and of each other command that writes a folder, with `out` as that folder."""
    inputs = {"collection": chain.folder / "collection", "checkpoint": chain.folder / "weak"}
    reports = {"report": chain.folder / "report", "original": chain.folder / "original"}
    return {
        "fetch": lambda: stages.fetch(out, str(model)),
        "collect": lambda: stages.collect(out, Collect(tasks=("scan",), n_train=3, n_test=2)),
        "replay": lambda: stages.replay(**inputs, out=out, params=Replay(engine="fake")),
        "tune": lambda: stages.tune(inputs["collection"], model, out, Tune()),
        "explore": lambda: stages.explore(**inputs, out=out, params=EXPLORE),
        "select": lambda: stages.select(inputs["collection"], chain.folder / "explored", out, Select(), round_=1),
        "evaluate": lambda: stages.evaluate(**inputs, out=out, params=EVALUATE, stage="s"),
        "promote": lambda: stages.promote(inputs["checkpoint"], **reports, out=out, params=Promote(name="n")),
        "suite": lambda: evaluate_on_suites(**inputs, out=out, params=EVALUATE),
        "spread": lambda: measure_representations(inputs["collection"], [inputs["checkpoint"]], out, EVALUATE),
        "write": lambda: write(inputs["collection"], out, Write()),
    }


NAMES = (
    *("fetch", "collect", "replay", "tune", "explore", "select", "evaluate", "promote", "suite", "spread"),
    "write",
)
READS = {name: "collection" for name in NAMES[2:]} | {"promote": "report"}


WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, *rest):
        if name in ("torch", "transformers", "accelerate", "safetensors", "gguf"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from pathlib import Path
from symbol_llm import stages
from symbol_llm.ground.params import Collect, Promote, Select
from symbol_llm.tracking import runs
chain, out = map(Path, sys.argv[1:])
tasks = ("scan", "spider")
runs.tracked(stages.collect, label="c", out=out / "collection", params=Collect(tasks=tasks, n_train=3, n_dev=1, n_test=2))
runs.tracked(stages.version, label="v", folder=out / "collection", name="collection")
runs.tracked(stages.merge, label="m", shards=(chain / "explored",), out=out / "explored")
select = dict(collection=chain / "collection", explored=chain / "explored", out=out / "selected", params=Select(), round_=1)
runs.tracked(stages.select, label="s", **select)
promote = dict(report=chain / "report", original=chain / "original", out=out / "promotion", params=Promote(name="m"))
runs.tracked(stages.promote, label="p", checkpoint=chain / "strong", **promote)
"""


def test_stages_of_the_image_without_torch_do_without(chain: Chain, tmp_path: Path, monkeypatch) -> None:
    shutil.copytree(chain.folder / "home", tmp_path / "home")
    monkeypatch.setenv("SYMBOL_LLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'home' / 'mlflow.db'}")
    command = [sys.executable, "-c", WITHOUT_TORCH, str(chain.folder), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "promotion" / "promotion.json").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_no_stage_replaces_a_folder_that_is_not_its_own(chain: Chain, tmp_path: Path, name: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.tex").write_text("mine")
    with pytest.raises(InvalidInput, match=r"holds files that symbol-llm did not write \(thesis.tex\)"):
        write_to(tmp_path / "docs", chain, whole_checkpoint(tmp_path / "model"))[name]()
    assert [p.name for p in (tmp_path / "docs").iterdir()] == ["thesis.tex"]
    assert not list(tmp_path.glob(".docs*"))


@pytest.mark.parametrize(("name", "read"), READS.items())
def test_no_stage_replaces_what_it_reads(chain: Chain, tmp_path: Path, name: str, read: str) -> None:
    """`tune tune ts CKPT ts` once deleted the training set that it had just read, and returned 0."""
    before = files.hash_path(chain.folder / read)
    with pytest.raises(InvalidInput, match="is the input"):
        write_to(chain.folder / read, chain, whole_checkpoint(tmp_path / "model"))[name]()
    assert files.hash_path(chain.folder / read) == before


def test_checkpoint_is_not_fetched_over_itself(tmp_path: Path) -> None:
    model = whole_checkpoint(tmp_path / "model")
    with pytest.raises(InvalidInput, match="is the input model"):
        stages.fetch(model, str(model))
    assert (model / "model.safetensors").is_file()


def test_tuning_refuses_a_checkpoint_that_is_an_adapter(chain: Chain, tmp_path: Path) -> None:
    adapter = whole_checkpoint(tmp_path / "model", "adapter_config.json")
    with pytest.raises(InvalidInput, match="holds a LoRA adapter"):
        stages.tune(chain.folder / "collection", adapter, tmp_path / "out", Tune())
    assert not (tmp_path / "out").exists()
