"""Numbers: what equals what, and what does not."""

from fractions import Fraction

import pytest

from symbol_llm.notation.numbers import Number, equal, unit_of


@pytest.mark.parametrize(
    ("found", "gold"),
    [
        (3, 3),
        (3.0, 3),
        (0.1 * 30, 3),
        (10**30, 10**30),
        (1e30, 10**30),
        (Fraction(1, 3), Fraction(2, 6)),
        (1 / 3, Fraction(1, 3)),
        (Fraction(1, 3), 0.33333),
        (2 / 3, 0.66666),
        (1.04719755, 1.0471976),
        (3.02e-36, 3e-36),
        (0.1 + 0.2 - 0.3, 0),
        (-0.0, 0),
        (1e300, 1e300),
        (51.00005, 51.0),
        (1e12 + 0.2, 10**12),
        (1e12 + 0.2, 1e12),
        (10**22, 1e22),
        (2.99995, 3.0),
    ],
)
def test_equal_numbers(found: Number, gold: Number) -> None:
    assert equal(found, gold)


@pytest.mark.parametrize(
    ("found", "gold"),
    [
        (0, 3e-36),
        (0.0, 3e-36),
        (0.0, Fraction(1, 10**400)),
        (3.1e-36, 3e-36),
        (0, 0.00005),
        (1e-8, 0),
        (1500000.5, 1500000),
        (2.99995, 3),
        (1e12 + 0.5, 10**12),
        (1e12 + 1, 10**12),
        (10**12 + 1, 1e12),
        (1e10 + 1, 1e10),
        (10**30 + 1, 10**30),
        (1.001e30, 10**30),
        (0.33333, Fraction(1, 3)),
        (Fraction(333333, 10**6), Fraction(1, 3)),
        (0.331, 0.33),
        (0.52, 0.5),
        (float("nan"), float("nan")),
        (float("inf"), float("inf")),
        (float("inf"), 10**400),
        (10**400, 1e308),
        (1.0, 10**400),
    ],
)
def test_numbers_that_differ(found: Number, gold: Number) -> None:
    assert not equal(found, gold)


def test_the_digits_that_gold_was_printed_with_decide() -> None:
    assert [unit_of(text) for text in ("3.50", "7", "2.5e-6", "-1E3")] == [0.01, 1.0, 1e-7, 1000.0]
    assert equal(3.50004, 3.5, unit=0.1) and not equal(3.50004, 3.5, unit=1e-6)
