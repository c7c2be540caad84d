"""When two numbers are equal. One policy for every notation that compares values; the caller knows which one is gold.

- Whole numbers and ratios are exact: two of them are equal only if they are the same number.
- If one of the two is a float, they may differ by RELATIVE of gold; if gold is a whole number, even as a float, by no
  more than a quarter (or the spacing of floats, if that is wider), so that the other rounds to it.
- Gold that is a decimal of few digits has been rounded: one unit of its last digit is allowed, up to PRINTED and up to
  a hundredth of gold.
- Gold 0 equals floats up to NOISE; any other gold, however small, does not equal 0.
- NaN and infinity equal nothing.

>>> equal(Fraction(1, 3), 0.33333), equal(0.33333, Fraction(1, 3)), equal(0, 3e-36), equal(1500000.5, 1500000)
(True, False, False, False)
"""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

RELATIVE = 1e-9
PRINTED = 1e-4
NOISE = 1e-9

Number = int | float | Fraction


def equal(found: Number, gold: Number, unit: float | None = None) -> bool:
    """Return whether `found` equals `gold`; `unit` is one unit of gold's last digit (None: of its shortest form)."""
    if not isinstance(found, float) and not isinstance(gold, float):
        return found == gold
    try:
        value, wanted = float(found), float(gold)
    except OverflowError:
        return False
    if not (math.isfinite(value) and math.isfinite(wanted)) or (wanted == 0) != (gold == 0):
        return False
    return abs(value - wanted) <= _allowance(gold, wanted, unit)


def unit_of(text: str) -> float:
    """Return one unit of the last digit of a decimal number: 0.01 for "3.50", 1e-7 for "2.5e-6"."""
    exponent = Decimal(text).as_tuple().exponent
    return 10.0**exponent if isinstance(exponent, int) and abs(exponent) < 300 else 0.0


def _allowance(gold: Number, wanted: float, unit: float | None) -> float:
    size = abs(wanted)
    if not size:
        return NOISE
    if isinstance(gold, float):
        printed = unit_of(repr(gold)) if unit is None else unit
        return max(_computed(gold, size), min(printed, PRINTED, size / 100))
    return _computed(gold, size)


def _computed(gold: Number, size: float) -> float:
    """Return how far a result may be from gold because it was computed in floats."""
    if Fraction(gold).denominator == 1:
        return min(RELATIVE * size, max(0.25, 8 * math.ulp(size)))
    return RELATIVE * size
