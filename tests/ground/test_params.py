"""Parameters: the file mirrors the models, and what is unknown or out of range is refused by name."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from symbol_llm.ground import params
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Collect, Explore, Parameters

ROOT = Path(__file__).parents[2]


def test_shipped_file_and_every_profile_are_valid() -> None:
    assert params.profiles() == ["math", "published-13b", "published-7b", "symbolic-34"]
    for overlay in ([], *([params.profile(name)] for name in params.profiles())):
        params.load(ROOT / "params.yaml", overlays=overlay)


def test_no_rounds_from_the_original_model_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"rounds: no rounds from the original model leave nothing to do"):
        params.load(ROOT / "params.yaml", overrides=["rounds.n=0", "rounds.start=original"])


def test_without_a_file_the_one_of_the_working_folder_is_taken_or_else_the_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert params.load() == params.load(ROOT / "params.yaml")
    (tmp_path / "params.yaml").write_text("explore: {k: 3}")
    assert params.load() == Parameters(explore=Explore(k=3))


def test_file_in_another_encoding_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes("model: modèle".encode("latin-1"))
    with pytest.raises(InvalidInput, match="p.yaml: not UTF-8 at byte 10; save it as UTF-8"):
        params.load(tmp_path / "p.yaml")


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "true", "false", "[true]"])
@pytest.mark.parametrize(
    "key", ["tune.learning_rate", "tune.epochs", "explore.k", "explore.limits.timeout_s", "collect.n_train", "model"]
)
def test_number_that_is_not_finite_and_truth_for_a_number_are_refused(key: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=key):
        params.load(ROOT / "params.yaml", overrides=[f"{key}={value}"])


def test_truth_in_a_list_of_numbers_is_refused() -> None:
    with pytest.raises(InvalidInput, match="collect.levels"):
        params.load(ROOT / "params.yaml", overrides=["collect.levels=[true]"])


def test_shipped_file_has_a_section_for_every_stage() -> None:
    text = (ROOT / "params.yaml").read_text()
    assert [name for name in Parameters.model_fields if f"\n{name}:" not in text] == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("explore.kk=5", "explore.kk: extra inputs are not permitted"),
        ("explore.k=0", "explore.k: input should be greater than or equal to 1, got '0'"),
        ("explore.k=2.5", "explore.k: input should be a valid integer"),
        ("rounds.start=sideways", "rounds.start: input should be 'infused' or 'original'"),
        ("explore", "expected section.key=value"),
        ("collect.licence=commercial", "collect.licence: input should be 'any' or 'permissive'"),
        ("collect.general_shares={flan: 0}", "collect.general_shares.flan: input should be greater than 0"),
    ],
)
def test_bad_override_names_the_key(override: str, message: str) -> None:
    with pytest.raises(InvalidInput) as e:
        params.load(ROOT / "params.yaml", overrides=[override])
    assert message in str(e.value)


def test_whole_float_from_kubeflow_becomes_an_int_and_a_part_is_refused() -> None:
    assert Explore.model_validate({"k": 4.0}).k == 4
    with pytest.raises(ValidationError):
        Explore.model_validate({"k": 4.5})


@pytest.mark.parametrize("source", ["hf://datasets/org/name", "hf://datasets/org/name@main"])
def test_source_on_the_hub_stays_as_it_is_written_and_another_is_a_path(source: str, tmp_path: Path) -> None:
    loaded = params.load(ROOT / "params.yaml", overrides=[f"collect.source={source}"]).collect
    assert loaded.source == source
    assert Collect.model_validate(loaded.model_dump(mode="json")) == loaded
    assert params.load(ROOT / "params.yaml", overrides=["collect.source=a/b"]).collect.source == Path("a/b")
    assert Collect(source=tmp_path).source == tmp_path


def test_original_model_is_shown_examples_and_refines_nothing_in_round_one() -> None:
    p = Parameters.model_validate({"rounds": {"start": "original"}, "bootstrap_shots": 3})
    assert (p.explore_in(1).shots, p.explore_in(1).refine) == (3, False)
    assert (p.explore_in(2).shots, p.explore_in(2).refine) == (0, True)
    assert Parameters().explore_in(1) == Explore()


def test_rounds_draw_apart_and_shards_of_a_round_alike() -> None:
    p = Parameters.model_validate({"explore": {"seed": 7}})
    assert [p.explore_in(n).seed - 7 for n in (1, 2, 3)] == [0, params.SEEDS_APART, 2 * params.SEEDS_APART]
    assert p.explore_in(2) == p.explore.in_round(2)
    assert p.explore_in(2).model_copy(update={"seed": 7}) == p.explore


def test_missing_or_broken_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such parameter file"):
        params.load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(InvalidInput, match="not YAML"):
        params.load(tmp_path / "bad.yaml")
