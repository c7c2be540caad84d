"""An exported version: loaded by transformers, with a card that the hub reads, and refused if it was altered."""

from pathlib import Path

import pytest
import yaml

from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Parameters, Promote
from symbol_llm.ground.records import General, Report, Scores, Summary
from symbol_llm.ground.stats import wilson
from symbol_llm.tracking import registry, runs, signing
from symbol_llm.tracking.export import export
from symbol_llm.tracking.registry import Contender
from tests.checkpoints import whole_checkpoint
from tests.keys import key_pair

CARD = "---\nlicense: other\nlicense_name: per source\nlanguage: [en]\n---\n\n# Data card\n"


def summary(stage: str, n_right: int, digest: str, general: General) -> Summary:
    tasks = {"scan": Scores(accuracy=wilson(n_right / 20, 20), unscored=1)}
    families = {"commands": Scores(accuracy=wilson(n_right / 20, 20))}
    overall = wilson(n_right / 20, 20)
    fields = {"tasks": tasks, "families": families, "domains": {}, "isolation": ("landlock6+seccomp+rlimits",)}
    return Summary(stage=stage, checkpoint=digest, overall=overall, general=general, **fields)


def collect(out: Path) -> dict[str, float]:
    """Stand in for the stage."""
    out.mkdir()
    (out / "train.jsonl").write_text("{}\n")
    (out / "card.md").write_text(CARD)
    return {}


def evaluate(collection: Path, checkpoint: Path) -> dict[str, float]:
    """Stand in for the stage."""
    return {}


def champion(tracked_home: Path, weights: Path) -> None:
    """Register what lies in `weights` and make it champion, as a run of the pipeline does."""
    first = summary("original", 1, "base", General(perplexity=20.0, choice=wilson(0.5, 40)))
    last = summary("round 2", 15, files.hash_path(weights), General(perplexity=18.5, choice=wilson(0.55, 40)))
    outcomes = [{f"{i:04x}": float(i < n) for i in range(20)} for n in (1, 15)]
    params = Promote(name="m", max_unscored=0.05)

    def promote() -> dict[str, float]:
        report = Report(summary=last, history=(first,), outcomes=outcomes[1])
        original = Report(summary=first, outcomes=outcomes[0])
        registry.contend([Contender(report, str(weights))], original, params, runs.stage_run() or "").conclude()
        return {}

    with runs.parent("p", Parameters(model="hf://org/small@abc")):
        runs.tracked(collect, label="collect", out=tracked_home / "collection")
        runs.tracked(evaluate, label="e", collection=tracked_home / "collection", checkpoint=weights)
        runs.tracked(promote, label="promote")


def test_card_has_what_the_hub_reads_and_what_a_user_must_know(tracked_home: Path, tmp_path: Path) -> None:
    weights = whole_checkpoint(tmp_path / "tuned", "chat_template.jinja", ".lock")
    champion(tracked_home, weights)
    assert export("m", "champion", tmp_path / "out")["version"] == 1.0
    names = {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == names | {"README.md", "DATA_CARD.md", "manifest.json"}
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (weights / "model.safetensors").read_bytes()
    assert (tmp_path / "out" / "DATA_CARD.md").read_text() == CARD
    text = (tmp_path / "out" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    header = yaml.safe_load(head)
    assert (header["license"], header["license_name"], header["library_name"]) == (
        "other",
        "per source",
        "transformers",
    )
    result = header["model-index"][0]["results"][0]
    assert (result["dataset"]["type"], result["metrics"][0]["value"]) == ("scan", 0.75)
    assert "| scan | 20 | 75.0 (53.1–88.8) | 1 |" in body
    assert "better than the 'original' checkpoint: +70.0% " in body
    assert (
        "multiple choice 55.0 (39.8–69.3) of 40, 50.0 before tuning; perplexity on held-out text 18.5, 20.0 before"
        in body
    )
    assert "tuned from hf://org/small@abc, whose licence applies as well" in body
    assert "1 test problems have no verdict" in body
    assert "landlock6+seccomp+rlimits" in body
    assert files.hash_path(weights) in body


def test_hub_accepts_the_header(tracked_home: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    champion(tracked_home, whole_checkpoint(tmp_path / "tuned"))
    export("m", "1", tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    (result,) = card.data.eval_results
    assert (result.dataset_type, result.metric_type, result.metric_value) == ("scan", "accuracy", 0.75)


def test_altered_checkpoint_is_not_exported(tracked_home: Path, tmp_path: Path) -> None:
    weights = whole_checkpoint(tmp_path / "tuned")
    champion(tracked_home, weights)
    with (weights / "model.safetensors").open("ab") as file:
        file.write(b"1")
    with pytest.raises(InvalidInput, match="it was altered"):
        export("m", "1", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_signature_goes_along_and_what_the_key_did_not_sign_is_not_exported(tracked_home: Path, tmp_path: Path) -> None:
    weights, (private, public) = whole_checkpoint(tmp_path / "tuned"), key_pair(tmp_path)
    champion(tracked_home, weights)
    with pytest.raises(InvalidInput, match="is not signed"):
        export("m", "champion", tmp_path / "out", public)
    registry.keep_signature("m", "1", signing.signer(key_pair(tmp_path, "other")[0])(weights))
    with pytest.raises(InvalidInput, match="made with another key"):
        export("m", "champion", tmp_path / "out", public)
    assert not (tmp_path / "out").exists()
    registry.keep_signature("m", "1", signing.signer(private)(weights))
    export("m", "champion", tmp_path / "out", public)
    signing.verify(tmp_path / "out", (tmp_path / "out" / "model.sig").read_text(), public)


@pytest.mark.parametrize(
    ("version", "message"), [("7", "no version '7'"), ("best", "no version 'best'; expected a number")]
)
def test_version_that_is_not_there_is_named(tracked_home: Path, tmp_path: Path, version: str, message: str) -> None:
    champion(tracked_home, whole_checkpoint(tmp_path / "tuned"))
    with pytest.raises(InvalidInput, match=message):
        export("m", version, tmp_path / "out")


def test_transformers_loads_what_is_exported(tracked_home: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_attention_heads=2, num_hidden_layers=1, vocab_size=64
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "tuned")
    champion(tracked_home, tmp_path / "tuned")
    export("m", "champion", tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(loaded(tokens).logits, model.eval()(tokens).logits)
