"""First-order formulas: what is printed is read back, with few brackets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbol_llm.ground.errors import Unparsable
from symbol_llm.notation.logic import Names, normal, parse, predicates, printed

TERMS = st.sampled_from((["constant", "ann"], ["constant", "bob"]))
ATOMS = st.one_of(
    st.builds(lambda name, term: ["atom", name, term], st.sampled_from("PQ"), TERMS),
    st.builds(lambda left, right: ["=", left, right], TERMS, TERMS),
)
FORMULAS = st.recursive(
    ATOMS,
    lambda parts: st.one_of(
        st.builds(lambda part: ["not", part], parts),
        st.builds(lambda kind, part: [kind, "x", part], st.sampled_from(("all", "exists")), parts),
        st.builds(
            lambda operator, left, right: [operator, left, right],
            st.sampled_from(("and", "or", "xor", "implies", "iff")),
            parts,
            parts,
        ),
    ),
    max_leaves=8,
)


def read(text):
    return parse(text, Names({}, set()))


@given(FORMULAS)
def test_what_is_printed_is_read_back(formula):
    assert read(printed(formula)) == formula


@pytest.mark.parametrize(
    "text",
    [
        "forall x (Bird(x) & ~Penguin(x) -> Flies(x))",
        "P(a) -> Q(a) -> R(a)",
        "(P(a) -> Q(a)) -> R(a)",
        "P(a) | Q(a) & R(a)",
        "(P(a) ^ Q(a)) | R(a)",
        "~(P(a) & Q(a)) <-> a = b",
        "exists x forall y (Likes(x, y) | ~Likes(y, x))",
        "~forall x P(x)",
    ],
)
def test_brackets_are_few(text):
    assert printed(read(text)) == text


def test_normal_form_forgets_names_of_variables_and_order_of_operands():
    assert normal(read("forall x (P(x) & Q(x))")) == normal(read("all z. (Q(z) and P(z))"))
    assert normal(read("forall x (P(x) -> Q(x))")) != normal(read("forall x (Q(x) -> P(x))"))


def test_names_are_gathered_and_held_to_what_is_declared():
    names = Names({}, set())
    formula = parse("Likes(ann, bob) & P(ann)", names)
    assert (names.arities, names.constants, predicates(formula)) == (
        {"Likes": 2, "P": 1},
        {"ann", "bob"},
        {"Likes", "P"},
    )
    with pytest.raises(Unparsable, match="'P' is not declared; have Likes, ann, bob"):
        names.check(["Likes", "ann", "bob"])


def test_quantifiers_that_open_a_line_reach_as_far_as_their_variables():
    text = "∀x∃y (Dog(x) ∧ Cat(y)) → Sees(x, y)"
    assert read(text) == read("forall x exists y ((Dog(x) & Cat(y)) -> Sees(x, y))")
    with pytest.raises(Unparsable, match=r"line 1, column 21: .*y is not bound"):
        read("forall x (P(x) -> Q(y))")


def test_names_may_hold_digits_hyphens_and_apostrophes():
    names = Names({}, set())
    parse("Long-lived(o'hara) & In(y1984)", names)
    assert names == Names({"Long-lived": 1, "In": 1}, {"o'hara", "y1984"})


def test_a_name_has_one_number_of_terms_over_all_lines():
    names = Names({}, set())
    parse("P(a)", names)
    with pytest.raises(Unparsable, match="line 2: P has 2 terms here and 1 before"):
        parse("P(a, b)", names, 2)
