"""The transformers engine on the real 135M model."""

from pathlib import Path

import pytest

from symbol_llm import engines
from symbol_llm.engines import Engine
from symbol_llm.engines.chat import encode, prompt_ids, tokenizer
from symbol_llm.ground.records import Messages

pytestmark = pytest.mark.model
FRANCE: Messages = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
COUNT: Messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Count from one to five."}]


@pytest.fixture(scope="module")
def engine(smollm: Path) -> Engine:
    return engines.start("transformers", smollm, batch=8)


def test_greedy_reply_knows_the_capital_of_france(engine: Engine) -> None:
    ((reply,),) = engine.generate([FRANCE], n=1, temperature=0, top_p=1, max_tokens=12, seed=0)
    assert "Paris" in reply.text
    assert reply.n_tokens <= 12
    assert -3 < reply.logprob < 0


def test_equal_seeds_give_equal_samples_and_other_seeds_others(engine: Engine) -> None:
    def draw(seed: int) -> list[str]:
        return [
            c.text
            for row in engine.generate([COUNT], n=4, temperature=1, top_p=1, max_tokens=12, seed=seed)
            for c in row
        ]

    assert draw(1) == draw(1) != draw(2)
    assert len(set(draw(1))) > 1


def test_results_keep_the_order_of_prompts_whatever_their_length(engine: Engine) -> None:
    prompts = [COUNT, FRANCE]
    both = engine.generate(prompts, n=1, temperature=0, top_p=1, max_tokens=12, seed=0)
    assert "Paris" in both[1][0].text
    assert "Paris" not in both[0][0].text


def test_scored_logprob_is_the_sampled_one(engine: Engine) -> None:
    ((reply,),) = engine.generate([FRANCE], n=1, temperature=0, top_p=1, max_tokens=30, seed=0)
    (scored,) = engine.score([FRANCE], [reply.text])
    assert scored.n_tokens == reply.n_tokens
    assert scored.logprob == pytest.approx(reply.logprob, abs=0.1)  # bf16, other kernels


def test_likelier_reply_scores_higher(engine: Engine) -> None:
    good, bad = engine.score([FRANCE, FRANCE], ["The capital of France is Paris.", "The capital of France is Oslo."])
    assert good.logprob > bad.logprob + 0.5


def test_nucleus_of_almost_nothing_is_greedy(engine: Engine) -> None:
    greedy = engine.generate([COUNT], n=1, temperature=0, top_p=1, max_tokens=8, seed=0)[0][0].text
    assert engine.generate([COUNT], n=1, temperature=1, top_p=1e-6, max_tokens=8, seed=5)[0][0].text == greedy


def test_training_and_sampling_see_the_same_prompt(smollm: Path) -> None:
    tok = tokenizer(smollm)
    row = encode(tok, COUNT, "1 2 3 4 5")
    assert row.ids[: row.n_prompt] == prompt_ids(tok, COUNT)
    assert tok.decode(row.ids[row.n_prompt :]) == "1 2 3 4 5<|im_end|>"
    assert tok.decode(row.ids[: row.n_prompt]).endswith("<|im_start|>assistant\n")


def test_converted_weights_are_safetensors_and_nothing_that_can_run(smollm: Path) -> None:
    kinds = {p.suffix for p in smollm.iterdir()}
    assert ".safetensors" in kinds
    assert kinds <= {".safetensors", ".json", ".jinja", ".txt"}


def test_what_prompts_share_does_not_change_their_replies(smollm: Path) -> None:
    engine = engines.start("transformers", smollm, batch=8)
    engine.model.float()  # type: ignore[attr-defined] # in bf16, rounding hides what this is about
    prompts: list[Messages] = [
        [COUNT[0], {"role": "user", "content": f"{COUNT[1]['content']} Then name the capital of {country}."}]
        for country in ("France", "Italy", "Spain")
    ]
    prompts.append(FRANCE)
    replies = ["1, 2, 3, 4, 5. Paris.", "One two three four five, and Rome is the capital.", "Madrid.", "Paris"]
    together = engine.score(prompts, replies)
    alone = [engine.score([p], [r])[0] for p, r in zip(prompts, replies, strict=True)]
    assert [c.logprob for c in together] == pytest.approx([c.logprob for c in alone], abs=1e-3)
    assert [c.n_tokens for c in together] == [c.n_tokens for c in alone]
    how = {"n": 1, "temperature": 0, "top_p": 1, "max_tokens": 6, "seed": 0}
    assert [row[0].text for row in engine.generate(prompts, **how)] == [
        engine.generate([p], **how)[0][0].text for p in prompts
    ]
