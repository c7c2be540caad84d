"""The loss of one step, against numbers worked out by hand: it falls on completions, and on nothing of the prompt.

Models of sixteen words and one layer stand in for a real one, so that every logit is known.
"""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Tune
from symbol_llm.ground.records import TrainingRow
from symbol_llm.training import losses
from symbol_llm.training import tune as tuning
from symbol_llm.training.tune import Tuned

WORDS = "<pad> <eos> user bot say it now one two red green blue cat dog sun sea".split()
TEMPLATE = "{% for m in messages %}user {{ m['content'] }} {% endfor %}{% if add_generation_prompt %}bot {% endif %}"
ONE_STEP = Tune(epochs=1, batch=2, max_length=16)


def tune(rows: Sequence[TrainingRow], base: Path, out: Path | None, params: Tune) -> Tuned:
    """Tune from the beginning."""
    with tempfile.TemporaryDirectory() as state:
        return tuning.tune(rows, base, out, params, Path(state))


def checkpoint(model: LlamaForCausalLM, folder: Path) -> Path:
    words = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tok = PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", chat_template=TEMPLATE)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def tiny(**config: float) -> LlamaForCausalLM:
    """Return a random model whose hidden state has a place for each of the sixteen words."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 32}
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, bos_token_id=None, eos_token_id=1, pad_token_id=0, **config))


def knowing(follower: dict[str, str]) -> LlamaForCausalLM:
    """Return a model that gives `follower` of a word the logit 2 and all else the logit 0.

    Attention and MLP add nothing, so that the last state is the word's unit vector, which the norm makes four long.
    """
    model = tiny()
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(16))
        model.lm_head.weight.zero_()
        for word, after in follower.items():
            model.lm_head.weight[WORDS.index(after), WORDS.index(word)] = 0.5
    return model


def row(prompt: str, completion: str) -> TrainingRow:
    messages = [{"role": "user", "content": prompt}]
    return TrainingRow.of(kind="injection", problem=prompt, messages=messages, completion=completion)


@pytest.mark.parametrize("device_batch", [2, 1])
def test_first_loss_is_the_mean_over_the_tokens_of_completions(tmp_path: Path, device_batch: int) -> None:
    """Of five tokens to learn, ends of turn included, four are known and one is not (that `two` follows `bot`).

    A known one costs ln(e^2 + 15) - 2, that one ln(e^2 + 15), and a word of the prompt, after which all are equally
    likely, would cost ln 16.
    """
    base = checkpoint(knowing({"bot": "one", "one": "two", "two": "<eos>"}), tmp_path / "base")
    rows = [row("say it now", "one two"), row("say", "two")]
    done = tune(rows, base, None, ONE_STEP.model_copy(update={"device_batch": device_batch}))
    assert (done.n_rows, done.n_steps, done.n_tokens) == (2, 1, 8 + 5)
    assert done.loss == pytest.approx(math.log(math.exp(2) + 15) - 4 * 2 / 5, abs=1e-3)


def test_first_loss_is_that_of_a_random_models_logits_row_by_row(tmp_path: Path) -> None:
    """Padding, positions and the logits left out change nothing; the Trainer works in bfloat16, hence the tolerance."""
    model = tiny(initializer_range=1.0)
    base = checkpoint(model, tmp_path / "base")
    asked = ["user say it now bot", "user red bot"]
    told = ["one two cat <eos>", "sea <eos>"]
    on_completions, on_all = [], []
    for prompt, reply in zip(asked, told, strict=True):
        ids_T = torch.tensor([WORDS.index(word) for word in f"{prompt} {reply}".split()])
        losses = cross_entropy(model(ids_T[None]).logits[0, :-1], ids_T[1:], reduction="none").tolist()
        on_completions += losses[-len(reply.split()) :]
        on_all += losses
    expected = sum(on_completions) / 6
    rows = [row("say it now", "one two cat"), row("red", "sea")]
    assert tune(rows, base, None, ONE_STEP).loss == pytest.approx(expected, abs=0.2)
    assert abs(sum(on_all) / len(on_all) - expected) > 2


# --- other losses -----------------------------------------------------------------------------------------------------


def pair(prompt: str, completion: str, rejected: str) -> TrainingRow:
    messages = [{"role": "user", "content": prompt}]
    return TrainingRow.of(kind="pair", problem=prompt, messages=messages, completion=completion, rejected=rejected)


@pytest.mark.parametrize("device_batch", [2, 1])
def test_loss_by_rows_weighs_a_short_completion_like_a_long_one(tmp_path: Path, device_batch: int) -> None:
    """The first row knows all of its three tokens, the second one of two."""
    base = checkpoint(knowing({"bot": "one", "one": "two", "two": "<eos>"}), tmp_path / "base")
    how = ONE_STEP.model_copy(update={"device_batch": device_batch, "loss": "rows"})
    done = tune([row("say it now", "one two"), row("say", "two")], base, None, how)
    assert done.loss == pytest.approx(math.log(math.exp(2) + 15) - (2 + 1) / 2, abs=1e-3)


def test_preference_costs_ln_2_where_nothing_has_moved_yet(tmp_path: Path) -> None:
    base = checkpoint(knowing({"bot": "one", "one": "two", "two": "<eos>"}), tmp_path / "base")
    done = tune([pair("say it now", "one two", "two"), row("say", "two")], base, None, ONE_STEP)
    supervised = math.log(math.exp(2) + 15) - 4 * 2 / 5
    assert done.loss == pytest.approx(supervised + math.log(2) / 2, abs=1e-3)
    assert done.n_tokens == 8 + 7 + 5


def test_preference_loss_is_the_formula() -> None:
    """Against log-probabilities taken one sequence at a time, with a reference that is not the model's own."""
    model = tiny(initializer_range=1.0)
    asked, right, wrong = "user say bot", "one two <eos>", "sea <eos>"
    sums = []
    for reply in (right, wrong):
        ids_T = torch.tensor([WORDS.index(word) for word in f"{asked} {reply}".split()])
        each = cross_entropy(model(ids_T[None]).logits[0, :-1], ids_T[1:], reduction="none")
        sums.append(-each[-len(reply.split()) :].sum().item())
    sequences = [[WORDS.index(w) for w in f"{asked} {reply}".split()] for reply in (right, wrong)]
    made = {"input_ids": sequences[0], "labels": [losses.IGNORED] * 3 + sequences[0][3:], "reference": (-1.0, -2.0)}
    made["rejected"] = {"input_ids": sequences[1], "labels": [losses.IGNORED] * 3 + sequences[1][3:]}
    loss = losses.batch_loss(model, losses.Collator(0)([made]), Tune(beta=0.5, loss="rows"))
    moved = (sums[0] + 1.0) - (sums[1] + 2.0)
    assert loss.item() == pytest.approx(-sums[0] / 3 + math.log1p(math.exp(-0.5 * moved)), abs=1e-4)


def test_preference_moves_the_model_away_from_what_is_rejected(tmp_path: Path) -> None:
    base = checkpoint(tiny(initializer_range=1.0), tmp_path / "base")
    rows = [pair("say it now", "one", "two"), pair("red", "cat", "dog")]

    def margins(folder: Path) -> list[float]:
        model, tok = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32), losses.chat.tokenizer(folder)
        with torch.no_grad():
            total, _ = losses.logprobs(model, losses.Collator(0)([losses.example(tok, r) for r in rows]))
        return (total[:2] - total[2:]).tolist()

    before = margins(base)
    tune(rows, base, tmp_path / "tuned", Tune(epochs=8, batch=2, learning_rate=1e-2, max_length=16))
    assert all(now > then + 1 for now, then in zip(margins(tmp_path / "tuned"), before, strict=True))


# --- by advantage -----------------------------------------------------------------------------------------------------

CLIPPED = Tune(epochs=1, batch=2, max_length=16, loss="clipped", kl=0)
ASKED, GOOD, BAD = "user say bot", "one two <eos>", "sea <eos>"


def sample(prompt: str, completion: str, advantage: float, **more: bool) -> TrainingRow:
    messages = [{"role": "user", "content": prompt}]
    how = {"kind": "sample", "problem": prompt, "messages": messages, "completion": completion}
    return TrainingRow.of(**how, advantage=advantage, **more)


def ids_of(text: str) -> list[int]:
    return [WORDS.index(word) for word in text.split()]


def one_by_one(model: LlamaForCausalLM, reply: str) -> torch.Tensor:
    """Return the log-probability of each word of `reply`."""
    ids_T = torch.tensor(ids_of(f"{ASKED} {reply}"))
    each_T = -cross_entropy(model(ids_T[None]).logits[0, :-1], ids_T[1:], reduction="none")
    return each_T[-len(reply.split()) :]


def moved(model: LlamaForCausalLM, reply: str, advantage: float, ratios: Sequence[float]) -> losses.Example:
    """Return a sample whose words are `ratios` times as likely as they were before."""
    ids = ids_of(f"{ASKED} {reply}")
    before = (one_by_one(model, reply) - torch.tensor(ratios).log()).tolist()
    return {"input_ids": ids, "labels": [losses.IGNORED] * 3 + ids[3:], "advantage": advantage, "reference": before}


def moved_batch(model: LlamaForCausalLM) -> list[losses.Example]:
    return [moved(model, GOOD, 1.5, (1.5, 1.1, 1.0)), moved(model, BAD, -0.5, (1.5, 0.5))]


@pytest.mark.parametrize("kl", [0.0, 0.1])
def test_clipped_loss_of_a_batch_by_hand(kl: float) -> None:
    """Clipped at 0.2, the words of the good sample gain 1.5 A (1.2 A counts), 1.1 A and A, of A = 1.5: 1.65 on average.

    Those of the bad one gain 1.5 A, which no bound holds back, and 0.5 A (0.8 A counts), of A = -0.5: -0.575 on average.
    They diverge by 1/q - 1 + ln q, which is 0.0721, 0.0044 and 0 of the good one, and 0.0721 and 0.3069 of the bad one.
    """
    model = tiny(initializer_range=1.0)
    loss = losses.batch_loss(model, losses.Collator(0)(moved_batch(model)), CLIPPED.model_copy(update={"kl": kl}))
    divergence = ((0.0721 + 0.0044 + 0) / 3 + (0.0721 + 0.3069) / 2) / 2
    assert loss.item() == pytest.approx(-(1.65 - 0.575) / 2 + kl * divergence, abs=1e-4)


def test_token_past_its_bound_has_no_gradient_and_others_have_that_of_their_advantage() -> None:
    """A good sample of one word at twice its likelihood, then at half of it, where only the advantage holds it back."""
    model = tiny(initializer_range=1.0)

    def slope(ratio: float, advantage: float) -> float:
        before = (one_by_one(model, BAD) - torch.tensor([ratio, ratio]).log()).tolist()
        made = moved(model, BAD, advantage, (1, 1)) | {"reference": before}
        each, n_tokens = losses.token_logprobs(model, batch := losses.Collator(0)([made]))
        loss = losses.batch_loss(model, batch, CLIPPED)
        of_loss = torch.autograd.grad(loss, model.lm_head.weight)[0]
        of_logprob = torch.autograd.grad(each.sum() / n_tokens[0], model.lm_head.weight)[0]
        return float((of_loss * of_logprob).sum() / (of_logprob * of_logprob).sum())

    assert slope(2.0, 1.0) == slope(0.5, -1.0) == 0
    assert slope(0.5, 1.0) == pytest.approx(-0.5, abs=1e-4)
    assert slope(2.0, -1.0) == pytest.approx(2.0, abs=1e-3)
    assert slope(1.0, 1.5) == pytest.approx(-1.5, abs=1e-4)


def test_first_step_costs_the_mean_advantage_and_tuning_tells_good_from_bad(tmp_path: Path) -> None:
    """At first no token has moved, so that each row costs its negative advantage: of 1.5, -0.5 twice, -0.5."""
    base = checkpoint(tiny(initializer_range=1.0), tmp_path / "base")
    rows = [sample("say it", "one two", 1.5), *(sample("say it", word, -0.5) for word in ("sea", "cat dog", "sun"))]

    def likelihoods(folder: Path) -> list[float]:
        model, tok = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32), losses.chat.tokenizer(folder)
        with torch.no_grad():
            return losses.logprobs(model, losses.Collator(0)([losses.example(tok, r) for r in rows]))[0].tolist()

    how = CLIPPED.model_copy(
        update={"epochs": 2, "batch": 3, "device_batch": 3, "learning_rate": 1e-2, "shuffle": False}
    )
    done = tune(rows, base, tmp_path / "tuned", how)
    assert done.curve[0]["loss"] == pytest.approx(-(1.5 - 0.5 - 0.5) / 3, abs=0.02)
    before, after = likelihoods(base), likelihoods(tmp_path / "tuned")
    assert after[0] > before[0] + 0.1
    assert all(now < then - 0.1 for now, then in zip(after[1:], before[1:], strict=True))


def test_sample_that_was_cut_off_does_not_teach_to_end_there(tmp_path: Path) -> None:
    tok = losses.chat.tokenizer(checkpoint(tiny(), tmp_path / "base"))
    whole, cut = (losses.example(tok, sample("say", "one two", 1.0, is_cut=cut)) for cut in (False, True))
    assert whole["labels"] == [*cut["labels"], WORDS.index("<eos>")] == [losses.IGNORED] * 3 + ids_of("one two <eos>")
    assert whole["input_ids"] == [*cut["input_ids"], WORDS.index("<eos>")]


@pytest.mark.parametrize(
    ("rows", "loss", "message"),
    [
        ([sample("say", "one", 1.0), row("say", "two")], "clipped", "1 of 2 rows have none, such as injection row '"),
        ([sample("say", "one", 1.0), row("say", "two")], "rows", "1 of 2 rows have an advantage, .* give loss=clipped"),
        ([sample("say", "one", 1.0)], "tokens", "1 of 1 rows have an advantage, which loss=tokens does not know"),
        ([pair("say", "one", "two").model_copy(update={"advantage": 1.0})], "clipped", "expected one of them"),
    ],
)
def test_rows_that_the_loss_cannot_weigh_are_refused(
    tmp_path: Path, rows: Sequence[TrainingRow], loss: str, message: str
) -> None:
    base = checkpoint(tiny(), tmp_path / "base")
    with pytest.raises(InvalidInput, match=message):
        tune(rows, base, None, ONE_STEP.model_copy(update={"loss": loss}))


@pytest.mark.parametrize("kl", [0.0, 0.04])
def test_clipped_loss_and_its_gradient_are_those_of_trl(tmp_path: Path, kl: float) -> None:
    """With the divergence as published: by default TRL weighs it by the ratio, as later models do."""
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    model = tiny(initializer_range=1.0)
    rows = moved_batch(model)
    loss = losses.batch_loss(model, losses.Collator(0)(rows), CLIPPED.model_copy(update={"kl": kl}))
    gradient = torch.autograd.grad(loss, model.lm_head.weight)[0]
    tok = losses.chat.tokenizer(checkpoint(model, tmp_path / "base"))
    how: dict[str, Any] = {"per_device_train_batch_size": 2, "num_generations": 2, "use_cpu": True, "bf16": False}
    how |= {"epsilon": 0.2, "loss_type": "grpo", "use_bias_correction_kl": False, "report_to": "none"}
    theirs = trl.GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=trl.GRPOConfig(str(tmp_path / "trl"), **how),
        train_dataset=datasets.Dataset.from_dict({"prompt": ["say"]}),
        processing_class=tok,
    )
    before = [torch.tensor(r["reference"]) for r in rows]
    padded = torch.nn.utils.rnn.pad_sequence(before, batch_first=True)
    inputs = {
        "prompt_ids": torch.tensor([ids_of(ASKED)] * 2),
        "prompt_mask": torch.ones(2, 3, dtype=torch.long),
        "completion_ids": torch.tensor([ids_of(GOOD), ids_of(f"{BAD} <pad>")]),
        "completion_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "advantages": torch.tensor([r["advantage"] for r in rows]),
        "old_per_token_logps": padded,
        "ref_per_token_logps": padded,
    }
    theirs.beta, theirs.current_gradient_accumulation_steps = kl, 1  # a beta in GRPOConfig would load a second model
    expected = theirs._compute_loss(theirs.model, inputs)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, model.lm_head.weight)[0], rtol=1e-4, atol=1e-6)
