"""First-order formulas: what is printed is read back, with few brackets; small models are found where there are any."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbol_llm.ground.errors import Unparsable
from symbol_llm.notation.logic import Names, _holds_for, normal, parse, predicates, printed, satisfiable, to_z3

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


# --- small models -----------------------------------------------------------------------------------------------------


def quantified(kind, variable, part):
    """Close `part`: constants that are called like the variable become it."""

    def bound(node):
        if node == ["constant", variable]:
            return ["variable", variable]
        return [bound(one) if isinstance(one, list) else one for one in node]

    return [kind, variable, bound(part)]


NAMES = st.sampled_from("abxy").map(lambda name: ["constant", name])
RELATIONS = st.one_of(
    st.builds(lambda one, two: ["atom", "R", one, two], NAMES, NAMES),
    st.builds(lambda one, two: ["=", one, two], NAMES, NAMES),
)
CLOSED = st.recursive(
    RELATIONS,
    lambda parts: st.one_of(
        st.builds(lambda part: ["not", part], parts),
        st.builds(quantified, st.sampled_from(("all", "exists")), st.sampled_from("xy"), parts),
        st.builds(
            lambda name, one, two: [name, one, two], st.sampled_from(("and", "xor", "implies", "iff")), parts, parts
        ),
    ),
    max_leaves=6,
).map(lambda part: quantified("all", "x", quantified("exists", "y", part)))


def holds(formula, things, relation, values):
    """Return whether `formula` is true by its definition."""
    match formula:
        case ["atom", _, *terms]:
            return tuple(values[name] for _, name in terms) in relation
        case ["=", left, right]:
            return values[left[1]] == values[right[1]]
        case ["all" | "exists" as kind, variable, part]:
            each = (holds(part, things, relation, {**values, variable: thing}) for thing in things)
            return all(each) if kind == "all" else any(each)
        case ["not", part]:
            return not holds(part, things, relation, values)
        case [operator, *parts]:
            left, right = (holds(part, things, relation, values) for part in parts)
            return {"and": left and right, "xor": left != right, "implies": right or not left, "iff": left == right}[
                operator
            ]
    raise AssertionError(formula)


def has_model(formula, n):
    pairs = list(itertools.product(range(n), repeat=2))
    return any(
        holds(formula, range(n), set(itertools.compress(pairs, row)), {"a": a, "b": b})
        for row in itertools.product((False, True), repeat=len(pairs))
        for a, b in pairs
    )


@settings(max_examples=60)
@given(CLOSED)
def test_a_model_of_two_things_is_found_where_there_is_one(formula):
    pytest.importorskip("z3")
    assert _holds_for([to_z3(formula)], 2) == (has_model(formula, 1) or has_model(formula, 2))


def test_what_only_many_things_make_true_is_not_found_among_few():
    three = to_z3(read("exists x exists y exists z (~(x = y) & ~(y = z) & ~(x = z))"))
    assert [_holds_for([three], n) for n in (1, 2, 3)] == [False, False, True]
    deep = to_z3(read("".join(f"all {name} " for name in "abcdefghijklmnopqrst") + "P(a)"))
    assert not _holds_for([deep], 2)  # a million instances are not made
    assert satisfiable([deep, three])
