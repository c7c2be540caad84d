"""The loss of one step, against numbers worked out by hand: it falls on completions, and on nothing of the prompt.

Models of sixteen words and one layer stand in for a real one, so that every logit is known.
"""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

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
