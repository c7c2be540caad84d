"""What papers print: EM, BLEU, the family's own measure; bootstrap intervals."""

import pytest

from symbol_llm.evaluation.metrics import paper
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Verdict
from symbol_llm.ground.stats import bootstrap
from symbol_llm.judging.verify import judge
from tests.problems import problem


def verdict(program, status="rejected", measure=None):
    return Verdict(candidate="c", problem="p", status=status, score=0.0, program=program, measure=measure, seconds=0.0,
        verifier="x", isolation="none")  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "program", "expected"),
    [
        ("EM", "I_RUN  I_JUMP\n", 1.0),
        ("EM", "I_RUN", 0.0),
        ("BLEU", "I_RUN I_JUMP", 1.0),
        ("BLEU", "walk", 0.0),
        ("EM", None, 0.0),
    ],
)
def test_texts_are_compared(metric, program, expected):
    assert paper(metric, problem("commands", program="I_RUN I_JUMP"), verdict(program)) == pytest.approx(expected)


def test_bleu_is_sacrebleus():
    # 4 of 5 words: precisions 4/5, 3/4, 2/3, 1/2 and no brevity penalty
    found = paper("BLEU", problem("commands", program="a b c d e"), verdict("a b c d x"))
    assert found == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25, abs=1e-6)


def test_soft_metrics_are_what_the_family_measured():
    row = problem("fol", program="all x. (P(x) -> Q(x))")
    judged = judge(row, "all x. (P(x) & Q(x))", Limits(timeout_s=20))
    assert judged.status == "rejected"
    # of the four rows of the truth table they differ where P is false
    assert paper("LE", row, judged) == pytest.approx(0.5)


def test_our_failure_has_no_figure_and_an_unknown_metric_is_told():
    row = problem("commands", program="I_RUN")
    assert paper("EM", row, verdict(None, status="unscored")) is None
    with pytest.raises(InvalidInput, match="metric 'ROUGE'; have EM, BLEU, F1, Smatch, LE"):
        paper("ROUGE", row, verdict("I_RUN"))


def test_bootstrap_interval_holds_the_mean_and_shrinks():
    few, many = bootstrap([0.0, 1.0] * 5), bootstrap([0.0, 1.0] * 500)
    assert few.mean == many.mean == 0.5
    assert few.low < many.low < 0.5 < many.high < few.high
    assert bootstrap([]).n == 0
