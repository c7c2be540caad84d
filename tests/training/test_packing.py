"""Packed rows: by hand what a batch holds, and against padded ones that losses, gradients and log-probabilities are equal."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Tune
from symbol_llm.ground.records import TrainingRow
from symbol_llm.training import losses, packing, tune

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
MODELS: dict[str, Any] = {
    "grouped heads": lambda: LlamaForCausalLM(LlamaConfig(**SMALL)),
    "sliding window": lambda: MistralForCausalLM(MistralConfig(**SMALL, sliding_window=4)),
    "parallel blocks": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4)
    ),
}


def row(first: int, n: int, n_prompt: int) -> losses.Example:
    ids = list(range(first, first + n))
    return {"input_ids": ids, "labels": [-100] * n_prompt + ids[n_prompt:]}


def three() -> list[losses.Example]:
    return [row(1, 5, 2), row(11, 12, 9), row(31, 7, 1)]


def with_pairs() -> list[losses.Example]:
    rows = three()
    rows[1] |= {"rejected": row(3, 6, 4), "reference": (-3.0, -4.0)}
    return rows


def weighed() -> list[losses.Example]:
    """Return samples, likelier than before or less, of models that find all fifty words alike."""
    rows = three()
    for made, advantage, before in zip(rows, (1.5, -0.5, -1.0), (-4.4, -3.6, -3.9), strict=True):
        n = sum(label != losses.IGNORED for label in made["labels"])
        made |= {"advantage": advantage, "reference": [before + 0.05 * place for place in range(n)]}
    return rows


def test_rows_lie_end_to_end_and_logits_are_asked_of_the_places_before_completions() -> None:
    """A prompt of two tokens and one of one: the first token of a row is nobody's target."""
    batch = losses.Packer()([row(1, 4, 2), row(5, 2, 1)])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 6]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1]]
    assert batch["row_lengths"] == [4, 2]
    assert batch["logits_to_keep"].tolist() == [1, 2, 4]
    assert batch["labels"].tolist() == batch["shift_labels"].tolist() == [[3, 4, 6]]


def test_row_without_a_prompt_is_not_predicted_from_the_row_before_it() -> None:
    batch = losses.Packer()([row(1, 2, 1), row(5, 3, 0)])
    assert batch["labels"].tolist() == [[2, 6, 7]]
    assert batch["logits_to_keep"].tolist() == [0, 2, 3]


def test_rejected_completions_follow_the_rows() -> None:
    batch = losses.Packer()(with_pairs())
    assert batch["row_lengths"] == [5, 12, 7, 6]
    assert batch["pairs"].tolist() == [1]
    assert batch["reference"].tolist() == [[-3.0, -4.0]]


def test_attention_within_rows_is_the_mean_of_equal_keys_of_the_row_so_far() -> None:
    """All keys alike: each token gets the mean of the values from the start of its row to itself."""
    query, key = torch.ones(1, 2, 5, 1), torch.ones(1, 1, 5, 1)
    value = torch.tensor([1.0, 3.0, 5.0, 10.0, 20.0]).view(1, 1, 5, 1)
    out, _ = packing.attention(None, query, key, value, None, row_lengths=[3, 2])
    assert out.shape == (1, 5, 2, 1)
    assert out[0, :, 0, 0].tolist() == pytest.approx([1, 2, 3, 10, 15])
    near, _ = packing.attention(None, query, key, value, None, row_lengths=[3, 2], sliding_window=2)
    assert near[0, :, 1, 0].tolist() == pytest.approx([1, 2, 4, 10, 15])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("loss", ["tokens", "rows"])
def test_losses_and_gradients_equal_those_of_padded_rows(name: str, loss: str) -> None:
    torch.manual_seed(0)
    model, params = MODELS[name]().eval(), Tune(loss=loss)
    found = []
    for way, collate in (("sdpa", losses.Collator(0)), (packing.ATTENTION, losses.Packer())):
        model.set_attn_implementation(way)
        model.zero_grad()
        total, counts = losses.logprobs(model, collate(with_pairs()))
        loss_of_pairs = losses.batch_loss(model, collate(with_pairs()), params)
        plain = model(**collate(three())).loss
        (loss_of_pairs + plain).backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append([total, counts, loss_of_pairs, plain, gradient])
    assert found[0][1].tolist() == [3, 3, 6, 2]
    for padded, packed in zip(*found, strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_clipped_loss_and_gradient_equal_those_of_padded_rows(name: str) -> None:
    torch.manual_seed(0)
    model, params = MODELS[name]().eval(), Tune(loss="clipped", kl=0.1)
    found = []
    for way, collate in (("sdpa", losses.Collator(0)), (packing.ATTENTION, losses.Packer())):
        model.set_attn_implementation(way)
        model.zero_grad()
        loss = losses.batch_loss(model, collate(weighed()), params)
        loss.backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append([loss, gradient, *losses.token_logprobs(model, collate(weighed()))])
    assert found[0][3].tolist() == [3, 3, 6]
    for padded, packed in zip(*found, strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-6)


def test_other_rows_of_the_batch_change_nothing() -> None:
    torch.manual_seed(0)
    model = MODELS["grouped heads"]().eval()
    model.set_attn_implementation(packing.ATTENTION)
    alone, together = (losses.logprobs(model, losses.Packer()(rows))[0] for rows in ([row(31, 7, 1)], three()))
    torch.testing.assert_close(together[2], alone[0])


def test_model_with_a_state_is_refused() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, state_size=2))
    with pytest.raises(InvalidInput, match="rows of a 'mamba' model cannot be packed: set `batching=padded`"):
        packing.check(model)
    packing.check(MODELS["grouped heads"]())


def test_attention_that_is_more_than_packed_rows_have_is_refused() -> None:
    heads = torch.ones(1, 1, 2, 1)
    with pytest.raises(InvalidInput, match="this model has softcap, which packed rows do not: set `batching=padded`"):
        packing.attention(None, heads, heads, heads, None, row_lengths=[2], softcap=50.0)


@pytest.mark.model
def test_stage_that_packs_takes_the_steps_of_one_that_pads(tiny: Path, tmp_path: Path) -> None:
    """In the rows' own order both take the same rows a step, so that their curves are one."""
    rows = [
        TrainingRow.of(
            kind="injection",
            problem=str(i),
            messages=[{"role": "user", "content": f"Say the word for {i}."}],
            completion="zebra " * (1 + i % 5),
        )
        for i in range(10)
    ]
    curves, configs = [], []
    for batching in ("padded", "packed"):
        how = Tune(epochs=2, learning_rate=1e-2, batch=4, device_batch=2, max_length=64, shuffle=False)
        how = how.model_copy(update={"batching": batching})
        curves.append(tune.tune(rows, tiny, tmp_path / batching, how, tmp_path / "state").curve)
        configs.append((tmp_path / batching / "config.json").read_text())
    assert [step["step"] for step in curves[1]] == [1, 2, 3, 4, 5, 6]
    for key in ("loss", "grad_norm"):
        assert [s[key] for s in curves[1]] == pytest.approx([s[key] for s in curves[0]], rel=1e-3)
    assert configs[0] == configs[1]
    assert packing.ATTENTION not in configs[1]
