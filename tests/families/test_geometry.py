"""Geometry's logic forms: what is symmetric, what is not, algebra, the sets' F1."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbol_llm.families.geometry import canonical, mutants, score
from symbol_llm.ground.errors import InvalidInput, Unparsable
from symbol_llm.ground.params import Limits
from tests.cpu import at_most
from tests.problems import problem as make

LIMITS = Limits()


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Line(A,B)", "Line( B , A )"),
        ("Equals(LengthOf(Line(A,B)),7)", "Equals(7.0, LengthOf(Line(B,A)))"),
        ("Parallel(Line(A,B),Line(C,D))", "Parallel(Line(D,C),Line(A,B))"),
        ("RightAngle(Angle(A,B,C))", "RightAngle(Angle(C,B,A))"),
        ("Find(MeasureOf(Arc(A,B)))", "Find(MeasureOf(Arc(B,A)))"),
        ("Find(MeasureOf(Arc(A,B,C)))", "Find(MeasureOf(Arc(C,B,A)))"),
        ("Right(Triangle(A,B,C))", "Right(Triangle(B,A,C))"),
        ("Square(A,B,C,D)", "Square(C,B,A,D)"),
        ("Square(A,B,C,D)", "Square(D,A,B,C)"),
        ("Regular(Pentagon(A,B,C,D,E))", "Regular(Pentagon(C,B,A,E,D))"),
        ("Congruent(Triangle(A,B,C),Triangle(D,E,F))", "Congruent(Triangle(F,D,E),Triangle(C,A,B))"),
        ("Congruent(Triangle(A,B,C),Triangle(D,E,F))", "Congruent(Triangle(B,A,C),Triangle(E,D,F))"),
        ("Similar(Kite(A,B,C,D),Kite(E,F,G,H))", "Similar(Kite(B,A,D,C),Kite(F,E,H,G))"),
        ("IntersectAt(Line(A,B),Line(C,D),Point(E))", "IntersectAt(Line(D,C),Line(A,B),E)"),
        ("Find(Add(x,SumOf(y,z)))", "Find(Add(SumOf(z,y),x))"),
        ("Find(2x+3)", "Find(3 + 2*x)"),
        (r"Find(2·x + 3\cdot y)", "Find(2x+3y)"),
        ("1. Parallel(Line(A,B),Line(C,D)).\n2) Find(x)", "Parallel(Line(A,B),Line(C,D))\nFind(x)"),
        ("- Find(x)\n• Find(y).", "Find(x)\nFind(y)"),
        ("Find(2xy)", "Find(y*x*2)"),
        ("Find(x+y-3)", "Find(-3+(y+x))"),
        ("Find(66--y)", "Find(y+66)"),
        (r"Find(3\sqrt{2})", r"Find(\sqrt{2}*3)"),
        (r"Find(\frac{1}{2}y+20)", "Find(20+(1/2)y)"),
        ("Find(y^2-1)", "Find(y^{2}-1)"),
        ("Find(2√3+√x)", r"Find(2\sqrt{3}+\sqrt{x})"),
        ("Find(sqrt(x+1))", r"Find(\sqrt{x+1})"),
        (r"Find(\dfrac{x}{2})", "Find(x/2)"),
        ("Equals(MeasureOf(Angle(A,B,C)), 45°)", "Equals(45, MeasureOf(Angle(ABC)))"),
        (r"Equals(MeasureOf(Angle(A,B,C)), 45^\circ)", r"Equals(MeasureOf(Angle(C,B,A)), 45^{\circ})"),
        (r"Equals(LengthOf(Line(AB)), $4y − 1$)", r"Equals(LengthOf(Line(B,A)), \(4y-1\))"),
        ("`Find(AreaOf(Triangle(ABC)))`", "Find(AreaOf(Triangle(C,A,B)))"),
        ("Find(MeasureOf(angle 4))", "Find(MeasureOf(angle   4))"),
        ("Find(x)\nFind(y)", "Find(y); Find(x),\n\nFind(x)"),
        ("Point(A)\nIsMidpointOf(Point(A),Line(B,C))", "IsMidpointOf(A,Line(C,B))\nPoint(A)"),
    ],
)
def test_what_is_symmetric_does_not_count(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)
    assert score(one, make("geometry", program=two), LIMITS).score == 1.0


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("RightAngle(Angle(A,B,C))", "RightAngle(Angle(B,A,C))"),
        ("PointLiesOnLine(A,Line(B,C))", "PointLiesOnLine(B,Line(A,C))"),
        ("Square(A,B,C,D)", "Square(A,C,B,D)"),
        ("Find(RatioOf(x,y))", "Find(RatioOf(y,x))"),
        ("Congruent(Triangle(A,B,C),Triangle(D,E,F))", "Congruent(Triangle(A,B,C),Triangle(E,D,F))"),
        ("Similar(Kite(A,B,C,D),Kite(E,F,G,H))", "Similar(Kite(A,B,C,D),Kite(F,G,H,E))"),
        ("IntersectAt(Line(A,B),Line(C,D),Point(E))", "IntersectAt(Line(A,B),Line(C,E),Point(D))"),
        ("Find(MeasureOf(Arc(A,B,C)))", "Find(MeasureOf(Arc(A,C,B)))"),
        ("Find(2x+3)", "Find(2(x+3))"),
        ("Find(x-y)", "Find(y-x)"),
        ("Find(x/y)", "Find(y/x)"),
        ("Find(x^2)", "Find(2^x)"),
        (r"Find(\sqrt{2}x)", r"Find(\sqrt{2x})"),
        ("Find(√2x)", r"Find(\sqrt{2x})"),
        ("Find(√(2)x)", r"Find(\sqrt{2x})"),
        ("Find(4y − 1)", "Find(4y + 1)"),
        ("Find(4y° )", "Find(4y0)"),
        ("Line(AB)", "Line(AC)"),
        ("Angle(ABC)", "Angle(B,A,C)"),
        ("Equals(x, $)", "Equals(x, y$)"),
        ("Find(2x+x)", "Find(3x)"),
        ("Circle(O)", "Circle(O, radius_0_0)"),
        ("Parallel(Line(A,B),Line(C,D))", "Perpendicular(Line(A,B),Line(C,D))"),
    ],
)
def test_forms_that_differ_stay_apart(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)
    assert score(one, make("geometry", program=two), LIMITS).score == 0.0


@pytest.mark.parametrize(
    ("program", "f1"),
    [
        ("Find(x)\nFind(y)", 1.0),
        ("Find(y)\nFind(x)\nFind(x)", 1.0),
        ("Find(x)", 2 / 3),
        ("Find(x)\nFind(y)\nFind(z)", 0.8),
        ("Find(z)", 0.0),
    ],
)
def test_a_part_of_the_forms_has_the_f1_of_the_sets(program: str, f1: float) -> None:
    assert score(program, make("geometry", program="Find(x)\nFind(y)"), LIMITS).score == pytest.approx(f1)


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("Find(x)\nFinds(y)", r"line 2, column 1: expected a predicate such as Equals or Line, got 'Finds\(y\)'"),
        ("Find(LengthOf(Lines(A,B)))", r"line 1, column 15: expected a predicate such as Equals or Line"),
        ("Equals(x)", r"line 1, column 1: expected Equals with 2 arguments, got 'Equals\(x\)'"),
        ("Find(Triangle(A,B))", "line 1, column 6: expected Triangle with 1 or 3 arguments"),
        ("Find(x", r"line 1, column 7: expected '\)', got 'the end'"),
        ("Find(x))", r"line 1, column 8: expected the end of the line, got '\)'"),
        ("x", "line 1, column 1: expected a form such as"),
        ("(x)", "line 1, column 1: expected a form such as"),
        ("Find(x) Find(y)", "line 1, column 9: expected the end of the line"),
        ("- Find(x)\n- Finds(y)", r"line 2, column 3: expected a predicate such as Equals or Line, got 'Finds\(y\)'"),
        ("-Find(x)", "line 1, column 1: expected a form"),
        ("Find(3 4)", r"line 1, column 8: expected '\)', got '4\)'"),
        ("Find(x+)", r"line 1, column 8: expected a term, got '\)'"),
        ("Find(x=3)", "line 1, column 7: expected a form, got '=3"),
        ("Find(√)", "line 1, column 6: expected a term, got '√"),
        ("Find(" + "√" * 5000 + "2)", "line 1, column 6: expected a term"),
        ("Find(45° 3)", r"expected '\)', got '3"),
        (r"Find(\sqrt2)", r"line 1, column 11: expected '{', got '2\)'"),
        ("Find(" + "9" * 60 + ")", "line 1, column 6: expected a form"),
        ("Find(" * 200, "at most 60 brackets open at once"),
        ("Find(" * 25 + "x" + ")" * 25, "a form of more than 20 levels"),
        ("Find(" + "x/" * 100 + "x)", "at most 20 divisions"),
        ("Find(" + "x^" * 100 + "x)", r"expected '\)'"),
        ("\n ; \n", "no form"),
    ],
)
def test_ill_formed_programs_are_refused_with_the_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)


def test_long_sums_and_many_signs_are_no_burden() -> None:
    assert canonical("Find(" + "-" * 5001 + "x)") == "Find(-x)"
    assert canonical("Find(" + "+".join("x" * 9000) + ")").count("x") == 9000


def test_gold_that_is_wrong_is_our_fault() -> None:
    with pytest.raises(InvalidInput, match="has no gold program"):
        score("Find(x)", make("geometry"), LIMITS)
    with pytest.raises(InvalidInput, match="gold program: line 1") as caught:
        score("Find(x)", make("geometry", program="Finds(x)"), LIMITS)
    assert not isinstance(caught.value, Unparsable)


POINTS = st.sampled_from("ABCD")
ALGEBRA = st.recursive(
    st.sampled_from(["x", "y", "2", "0.50", "$1", "angle 3", r"\pi", "radius_0"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/^"), inner).map(lambda p: f"({p[0]}){p[1]}({p[2]})"),
        st.tuples(inner, inner).map(lambda p: rf"\frac{{{p[0]}}}{{{p[1]}}}"),
        inner.map(lambda a: f"-({a})"),
        inner.map(lambda a: rf"\sqrt{{{a}}}"),
        inner.map(lambda a: f"3({a})x"),
    ),
    max_leaves=5,
)
FORMS = st.one_of(
    ALGEBRA.map(lambda a: f"Find({a})"),
    st.tuples(POINTS, POINTS, ALGEBRA).map(lambda p: f"Equals(LengthOf(Line({p[0]},{p[1]})),{p[2]})"),
    st.lists(POINTS, min_size=6, max_size=6).map(
        lambda p: f"Similar(Triangle({p[0]},{p[1]},{p[2]}),Triangle({p[3]},{p[4]},{p[5]}))"
    ),
    st.lists(POINTS, min_size=4, max_size=4).map(lambda p: f"Kite({','.join(p)})"),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(FORMS, min_size=1, max_size=4), st.integers())
def test_canonical_is_idempotent_and_no_mutant_has_it(forms: list[str], seed: int) -> None:
    form = canonical("\n".join(forms))
    assert canonical(form) == form
    assert canonical("\n".join(reversed(forms))) == form
    for mutant in mutants(form, random.Random(seed)):
        assert canonical(mutant) != form


@given(st.text(alphabet="FindLe(A,B)x2+-*/^\\{} \n;", max_size=40))
def test_any_text_is_read_or_refused(garbage: str) -> None:
    try:
        canonical(garbage)
    except Unparsable as e:
        assert str(e)


def test_many_cornered_shapes_of_long_terms_take_no_time() -> None:
    corner = "+".join(f"{n}x" for n in range(300))
    shape = f"Polygon({', '.join([corner] * 20)})"
    with at_most(1):
        canonical(f"Similar({shape}, {shape})")


def test_corresponding_corners_are_turned_and_mirrored_together() -> None:
    forms = ("Quadrilateral(A,B,C,D),Quadrilateral(P,Q,R,S)", "Quadrilateral(S,R,Q,P),Quadrilateral(D,C,B,A)")
    assert canonical(f"Similar({forms[0]})") == canonical(f"Similar({forms[1]})")
    assert canonical(f"Similar({forms[0]})") != canonical("Similar(Quadrilateral(A,B,C,D),Quadrilateral(P,R,Q,S))")
