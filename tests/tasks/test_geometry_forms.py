"""Logic forms, read, written and put into English."""

import random
import re

import pytest

from symbol_llm.tasks.visual.geometry_forms import parsed, verbalised, written


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ("Find(x)", r"(Find|Determine|Compute) x\.|What is x\?|How large is x\?"),
        ("Parallel(Line(A, B), Line(m))", "(AB is parallel to line m|AB and line m are parallel)."),
        (
            "PointLiesOnCircle(P, Circle(O, radius_0_0))",
            "(P lies on circle O radius_0_0|Circle O radius_0_0 passes through P).",
        ),
        ("IsMidpointOf(Point(M), Line(A, B))", "M is a midpoint of AB."),
        (
            "Equals(MeasureOf(Angle(1)), HalfOf(MeasureOf(Angle(2))))",
            "The measure of angle 1 (is|equals|=) half of the measure of angle 2.",
        ),
        ("Rhombus(A, B, C, D)", "ABCD is a rhombus."),
        ("Parallelogram($)", "There is a parallelogram."),
        ("IntersectAt(Line(A, B), Line(C, D), Point(E))", "AB and CD intersect at E."),
        ("Find(AreaOf(Shaded(Shape($))))", r".* the area of the shaded shape[.?]"),
        ("Equals(LengthOf(Line(A, B)), 2(x+1))", r".*2\(x\+1\).*"),
        ("Isosceles(Triangle(A, B, C))", "Triangle ABC is isosceles."),
        ("Equals(RatioOf(LengthOf(Line(A, B)), 3), 1/2)", "The ratio of the length of AB to 3 (is|equals|=) 1/2."),
    ],
)
def test_form_in_english(form, said):
    for seed in range(10):
        assert re.fullmatch(said, verbalised(random.Random(seed), [parsed(form)])), verbalised(
            random.Random(seed), [parsed(form)]
        )
    assert written(parsed(form)) == form
