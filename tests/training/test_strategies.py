"""Strategies: every key they set is there, each is its paper's rule, and single keys have the last word."""

import pytest

from symbol_llm.ground import params
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Parameters
from symbol_llm.training import strategies
from symbol_llm.training.strategies import STRATEGIES


def under(strategy: str, *overrides: str, profile: str = "") -> Parameters:
    overlays = [*([params.profile(profile)] if profile else []), strategies.overlay(strategy)]
    return params.load(params.SHIPPED, overlays=overlays, overrides=overrides)


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_says_what_it_is_and_sets_what_there_is(name: str) -> None:
    how = under(name).model_dump()
    assert how["strategy"] == name
    for section, keys in STRATEGIES[name].settings.items():
        assert {key: how[section][key] for key in keys} == keys
    assert STRATEGIES[name].about
    assert bool(STRATEGIES[name].source) is (name != "ours")


def test_ours_leaves_the_parameters_as_they_are() -> None:
    assert under("ours") == params.load(params.SHIPPED)


@pytest.mark.parametrize("name", STRATEGIES)
def test_published_methods_do_not_redraw_though_the_profile_does(name: str) -> None:
    profile = {"explore": {"redraws": 3, "copies": 2}}
    how = params.load(params.SHIPPED, overlays=[profile, strategies.overlay(name)])
    explores = how.rounds.n > 0 and name != "ours"
    assert (how.explore.redraws, how.explore.copies) == ((0, 0) if explores else (3, 2))


def test_single_keys_have_the_last_word() -> None:
    assert under("rest_em", "select.max_positives=4").select.max_positives == 4


def test_unknown_one_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidInput, match="unknown strategy 'starr'; have ours, envisions, symbol_llm, star"):
        strategies.overlay("starr")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tune.loss=tokens"], "select.pairs=advantages and tune.loss=clipped need each other"),
        (["select.pairs=repair"], "select.pairs=advantages and tune.loss=clipped need each other"),
        (["explore.copies=2"], "copies are no samples and have no advantage; give explore.copies=0"),
        (["explore.k=1"], "a sample alone has no advantage; give explore.k of 2 or more"),
        (["rounds.tunes=start"], "advantages are those of the weights that sampled; give rounds.tunes=latest"),
        (["explore.shots=2"], "samples without worked examples; give explore.shots=0"),
        (["rounds.start=original"], "samples without worked examples; .* bootstrap_shots=0 or rounds.start=infused"),
    ],
)
def test_advantages_with_what_they_cannot_go_with_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        under("grpo", *overrides)


def test_advantages_from_the_original_model_need_a_prompt_without_examples() -> None:
    assert under("grpo", "rounds.start=original", "bootstrap_shots=0").explore_in(1).shots == 0
    assert under("grpo", "rounds.tunes=start", "rounds.n=1").rounds.tunes == "start"


@pytest.mark.parametrize("profile", ["math", "symbolic-34", "published-7b"])
def test_grpo_goes_over_every_profile(profile: str) -> None:
    how = under("grpo", profile=profile)
    assert (how.rounds.start, how.explore.refine, how.select.pairs) == ("infused", False, "advantages")
    assert (how.tune.loss, how.tune.clip, how.tune.kl, how.tune.epochs) == ("clipped", 0.2, 0.04, 1)


@pytest.mark.parametrize("size", ["7b", "13b"])
def test_published_sizes_under_the_published_rule_to_the_last_constant(size: str) -> None:
    """Section B of the released code: driver, sampler, filter, trainer."""
    how = under("envisions", profile=f"published-{size}")
    assert (how.rounds.n, how.rounds.start, how.rounds.tunes, how.rounds.stop_early) == (10, "original", "start", False)
    for round_ in (1, 2):
        sampled = how.explore_in(round_)
        assert (sampled.k, sampled.temperature, sampled.top_p, sampled.max_tokens) == (5, 1.0, 1.0, 2200)
        assert (sampled.refine, sampled.shots) == ((False, 3) if round_ == 1 else (True, 0))
    assert (how.explore.refine_max_tokens, how.explore.feedback, how.explore.rescore) == (4096, "none", "published")
    kept = how.select
    assert (kept.max_positives, kept.max_pairs, kept.pairs) == (10, 2, "repair")
    assert (kept.scope, kept.order, kept.duplicates, kept.keep_repaired) == ("all", "likeliest", "published", False)
    tuned = how.tune
    assert (tuned.learning_rate, tuned.batch, tuned.epochs, tuned.max_length) == (2e-5, 128, 1, 2048)
    assert (tuned.warmup, tuned.weight_decay, tuned.loss, tuned.max_grad_norm) == (0.03, 0, "rows", 0)
