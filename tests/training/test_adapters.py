"""Low-rank adapters: they alone move, what is merged is what was tuned, and what cannot be is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Tune
from symbol_llm.ground.records import TrainingRow
from symbol_llm.training import adapters, losses, tune

FEW = Tune(epochs=6, learning_rate=5e-2, batch=4, device_batch=4, max_length=64, lora_rank=4)
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def rows(n: int = 16) -> list[TrainingRow]:
    asked = [[{"role": "user", "content": f"Say the word for {i}."}] for i in range(n)]
    return [
        TrainingRow.of(kind="injection", problem=str(i), messages=m, completion="zebra") for i, m in enumerate(asked)
    ]


def loaded(checkpoint: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)


def batch() -> dict[str, Any]:
    made = losses.Collator(0)([{"input_ids": list(range(100, 120)), "labels": list(range(100, 120))}])
    return {"input_ids": made["input_ids"]}


@pytest.mark.model
def test_stage_moves_adapters_alone_and_merges_them_into_a_whole_checkpoint(tiny: Path, tmp_path: Path) -> None:
    """The embeddings, which also give the logits, stay as small as they were drawn: no logit can pass 0.7."""
    curve = tune.tune(rows(), tiny, tmp_path / "out", FEW, tmp_path / "state").curve
    assert curve[-1]["loss"] < curve[0]["loss"] - 0.2
    before, after = load_file(tiny / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert {n: (w.shape, w.dtype) for n, w in after.items()} == {n: (w.shape, w.dtype) for n, w in before.items()}
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.split(".")[-2] in LINEAR}
    assert not list((tmp_path / "out").glob("adapter*"))


@pytest.mark.model
@pytest.mark.parametrize("rejected", [None, "lion"])
def test_first_step_costs_what_it_costs_without_adapters(tiny: Path, tmp_path: Path, rejected: str | None) -> None:
    """What adapters add is nothing yet, so that the model before tuning, which pairs are held against, is the same too."""
    given = [row.model_copy(update={"rejected": rejected}) for row in rows(8)]
    curves = []
    for n, more in enumerate(({"lora_rank": 0}, {}, {"gradient_checkpointing": True})):
        how = FEW.model_copy(update={"epochs": 2.0, "shuffle": False} | more)
        curves.append([step["loss"] for step in tune.tune(given, tiny, tmp_path / str(n), how, tmp_path / "s").curve])
    assert curves[1][0] == pytest.approx(curves[0][0], rel=1e-4)
    assert curves[1] == pytest.approx(curves[2], rel=1e-4)
    assert curves[1][-1] != pytest.approx(curves[0][-1], rel=1e-4)


@pytest.mark.model
def test_optimizer_holds_adapters_alone_and_the_frozen_weights_stay_to_the_bit(tiny: Path) -> None:
    model = adapters.attach(loaded(tiny), FEW)
    tuned = {name for name, w in model.named_parameters() if w.requires_grad}
    assert {name.split(".")[-3] for name in tuned} == {"lora_A", "lora_B"}
    assert len(tuned) == 2 * len(LINEAR) * 2  # two matrices for each linear layer of two blocks
    frozen = {name: w.clone() for name, w in model.named_parameters() if name not in tuned}
    optimizer = torch.optim.AdamW((w for w in model.parameters() if w.requires_grad), lr=1e-2)
    for _ in range(3):
        model(**batch(), labels=batch()["input_ids"]).loss.backward()
        optimizer.step()
    assert all(torch.equal(w, frozen[name]) for name, w in model.named_parameters() if name in frozen)


@pytest.mark.model
def test_merged_model_gives_the_logits_of_the_adapted_one_and_not_of_the_base(tiny: Path) -> None:
    base = loaded(tiny)
    with torch.no_grad():
        plain = base(**batch()).logits
        model = adapters.attach(base, FEW)
        torch.testing.assert_close(model(**batch()).logits, plain)  # B is zero
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.1)
        adapted = model(**batch()).logits
        merged = adapters.merged(model, tiny, FEW)
        assert not [name for name, _ in merged.named_parameters() if "lora" in name]
        torch.testing.assert_close(merged(**batch()).logits, adapted, rtol=1e-4, atol=1e-5)
    assert float((adapted - plain).abs().max()) > 0.1


@pytest.mark.model
def test_rank_scale_and_layers_are_those_asked_for(tiny: Path) -> None:
    """What is added to W is B A alpha / rank, and alpha is twice the rank unless given."""
    asked = FEW.model_copy(update={"lora_targets": ("q_proj", "v_proj"), "lora_rank": 2})
    for alpha, scale in ((None, 2.0), (1.0, 0.5)):
        model = adapters.attach(loaded(tiny), asked.model_copy(update={"lora_alpha": alpha}))
        weights = {name: w for name, w in model.named_parameters() if w.requires_grad}
        assert {name.split(".")[-4] for name in weights} == {"q_proj", "v_proj"}
        assert {w.shape[0] for name, w in weights.items() if "lora_A" in name} == {2}
        at = "base_model.model.model.layers.0.self_attn.q_proj"
        before = dict(model.named_parameters())[f"{at}.base_layer.weight"].detach().clone()
        a, b = weights[f"{at}.lora_A.default.weight"], weights[f"{at}.lora_B.default.weight"]
        b.data.fill_(0.5)
        expected = before + scale * (b @ a).detach()
        merged = dict(adapters.merged(model, tiny, asked).named_parameters())["model.layers.0.self_attn.q_proj.weight"]
        torch.testing.assert_close(merged.detach(), expected)


@pytest.mark.model
def test_unknown_layers_are_refused_by_name(tiny: Path) -> None:
    with pytest.raises(InvalidInput, match=r"lora_targets=\['qproj'\] name no layers of this model"):
        adapters.attach(loaded(tiny), FEW.model_copy(update={"lora_targets": ("qproj",)}))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_quantized_weights_are_refused_without_a_gpu(tmp_path: Path) -> None:
    how = Tune(lora_rank=4, quantize="nf4")
    with pytest.raises(InvalidInput, match="quantize=nf4 needs a CUDA GPU, and this machine has none"):
        tune.tune(rows(), tmp_path, tmp_path / "out", how, tmp_path / "state")


def test_quantized_weights_are_refused_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidInput, match="quantize=nf4 works in one process, not in 2"):
        adapters.check(Tune(lora_rank=4, quantize="nf4"))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"lora_rank": 8, "zero": 3}, "adapters cannot be merged into weights that are sharded; give zero=2"),
        ({"quantize": "nf4"}, "weights in nf4 cannot be tuned themselves; give a lora_rank"),
        ({"lora_rank": -1}, "greater than or equal to 0"),
        ({"lora_alpha": 0}, "greater than 0"),
    ],
)
def test_what_does_not_fit_together_is_refused(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Tune(**asked)
