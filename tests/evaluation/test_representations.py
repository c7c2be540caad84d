"""Alignment and uniformity: figures worked out by hand, programs that padding does not change, what the table says."""

import json
import math
import shutil

import pytest
import torch

from symbol_llm.evaluation.representations import embed, markdown, measure_representations, spreads
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Collect, Evaluate
from symbol_llm.stages import collect

EVALUATE = Evaluate(batch=2)


def test_figures_of_points_on_a_circle_are_those_worked_out_by_hand():
    right, up, left = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)
    found = spreads(["sql", "sql", "fol", "fol"], torch.tensor([right, up, right, left]))
    assert found["sql"].alignment == pytest.approx(2)
    assert found["sql"].uniformity == pytest.approx(-4)  # log exp(-2 * 2)
    assert found["fol"].alignment == pytest.approx(4)
    assert found["fol"].uniformity == pytest.approx(-8)
    squared = [2, 0, 4, 2, 2, 4]
    assert found["all"].n == 4
    assert found["all"].alignment == pytest.approx(3)  # of the two notations
    assert found["all"].uniformity == pytest.approx(math.log(sum(math.exp(-2 * d) for d in squared) / 6))


def test_equal_programs_lie_at_one_point():
    found = spreads(["sql"] * 3, torch.tensor([[0.6, 0.8]] * 3))
    assert (found["sql"].alignment, found["sql"].uniformity) == (pytest.approx(0), pytest.approx(0))


def test_representation_is_the_mean_over_the_programs_own_tokens(tiny):
    texts = ["SELECT name FROM city WHERE size > 3", "x = 1", "(∀x)(P(x) → Q(x))"]
    together, alone = embed(tiny, texts, 3), torch.cat([embed(tiny, [text], 1) for text in texts])
    assert torch.allclose(together.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(together, alone, atol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=1e-3)


def test_checkpoints_are_compared_by_notation(tiny, tmp_path):
    collect(tmp_path / "collection", Collect(tasks=("scan", "spider"), n_train=2, n_dev=1, n_test=4))
    shutil.copytree(tiny, tmp_path / "tuned")
    numbers = measure_representations(tmp_path / "collection", [tiny, tmp_path / "tuned"], tmp_path / "out", EVALUATE)
    written = json.loads((tmp_path / "out" / "spread.json").read_text())
    assert list(written) == ["tiny", "tuned"]
    assert set(written["tiny"]) == {"commands", "sql", "all"}
    assert written["tiny"] == written["tuned"]
    assert numbers == {f"{key}_{n}": written["tiny"]["all"][key] for n in (1, 2) for key in ("alignment", "uniformity")}
    assert "| sql |" in (tmp_path / "out" / "spread.md").read_text()


def test_checkpoint_given_twice_is_refused(tiny, tmp_path):
    collect(tmp_path / "collection", Collect(tasks=("scan",), n_train=2, n_dev=1, n_test=4))
    with pytest.raises(InvalidInput, match="one is given twice"):
        measure_representations(tmp_path / "collection", [tiny, tiny], tmp_path / "out", EVALUATE)


def test_table_has_a_row_for_each_notation_and_a_column_for_each_checkpoint():
    points = torch.tensor([(1.0, 0.0), (0.0, 1.0)])
    text = markdown({"original": spreads(["sql"] * 2, points), "tuned": spreads(["sql"] * 2, -points)})
    assert (
        "| notation | n | alignment, original | alignment, tuned | uniformity, original | uniformity, tuned |" in text
    )
    assert "| sql | 2 | 2.000 | 2.000 | -4.000 | -4.000 |" in text


def test_collection_without_two_programs_of_a_notation_is_refused(tiny, tmp_path):
    collect(tmp_path / "collection", Collect(tasks=("scan",), n_train=2, n_dev=1, n_test=1))
    with pytest.raises(InvalidInput, match="no notation has two test problems with different gold programs"):
        measure_representations(tmp_path / "collection", [tiny], tmp_path / "out", EVALUATE)
    assert not (tmp_path / "out").exists()
