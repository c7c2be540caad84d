"""Names made of words: what is surely the same name, and what only looks like it."""

import pytest

from symbol_llm.notation.names import same_constant, same_predicate, words


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("PlaysWith", ["plays", "with"]),
        ("has_HTTPServer2", ["has", "http", "server", "2"]),
        ("José-Luis", ["jose", "luis"]),
        ("x", ["x"]),
    ],
)
def test_a_name_is_parted_at_signs_capitals_and_digits(name: str, expected: list[str]) -> None:
    assert words(name) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [("Anna", "anna"), ("new_york", "NewYork"), ("josé", "Jose"), ("a-1", "a1"), ("route_66_west", "Route66West")],
)
def test_constants_may_differ_in_case_accents_and_separators(one: str, other: str) -> None:
    assert same_constant(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("anna", "hanna"), ("year2018", "year2019"), ("y1_10", "y110"), ("dog", "dogs"), ("ann", "anne"), ("_", "__"),
        ("mary", "marry"), ("marie", "mario"), ("lake1_2", "lake_12"),
    ],
)  # fmt: skip
def test_constants_that_only_look_alike_are_others(one: str, other: str) -> None:
    assert not same_constant(one, other)


@pytest.mark.parametrize(
    ("one", "other", "n_terms"),
    [
        ("Bird", "Birds", 1), ("Flies", "Fly", 1), ("Box", "Boxes", 1), ("Wolf", "Wolves", 1), ("PlaysWith", "PlayWith", 2),
        ("IsPenguin", "Penguin", 1), ("is_a_penguin", "Penguins", 1), ("Swim", "Swimming", 1), ("Bakes", "baking", 1),
        ("Visits", "Visiting", 2), ("Visited", "Visits", 2), ("Carries", "carried", 2), ("IsEating", "Eats", 2),
        ("MemberOf", "Member", 2), ("IsLocatedIn", "LocatedIn", 2), ("COLOUR", "Color", 1), ("Organise", "organizes", 2),
        ("Traveller", "Traveler", 1), ("Travelled", "Traveled", 1), ("Theatre", "Theater", 1), ("Recieved", "Received", 1), ("Odour", "Odor", 1),
        ("Succesful", "Successful", 1), ("SmartStudent", "StudentSmart", 1), ("TallerThan", "taller_than", 2),
    ],
)  # fmt: skip
def test_forms_and_spellings_of_the_same_words_are_the_same_predicate(one: str, other: str, n_terms: int) -> None:
    assert same_predicate(one, other, n_terms)
    assert same_predicate(other, one, n_terms)


@pytest.mark.parametrize(
    ("one", "other", "n_terms"),
    [
        # opposites
        ("Happy", "Unhappy", 1), ("Happy", "NotHappy", 1), ("Happy", "IsNotHappy", 1), ("Legal", "Illegal", 1),
        ("Possible", "Impossible", 1), ("Regular", "Irregular", 1), ("Smoker", "NonSmoker", 1), ("Like", "Dislike", 2),
        ("Social", "Antisocial", 1), ("Careful", "Careless", 1), ("Employer", "Employee", 1), ("Macroscopic", "Microscopic", 1),
        ("Sugar", "NoSugar", 1), ("Include", "Exclude", 2), ("WithSalt", "WithoutSalt", 1), ("Internal", "External", 1),
        # turned round
        ("Loves", "LovedBy", 2), ("Loves", "IsLoved", 2), ("HasParent", "ParentOf", 2), ("Teaches", "TaughtBy", 2),
        ("Sells", "SellsTo", 2), ("Found", "FoundIn", 2), ("Made", "MadeOf", 2), ("Employs", "Employed", 1),
        ("EatsMan", "ManEats", 2), ("Boring", "Bored", 1),
        # other words
        ("House", "Horse", 1), ("Country", "County", 1), ("Contract", "Contrast", 1), ("Adoption", "Adaption", 1),
        ("Plan", "Plane", 1), ("Hoping", "Hop", 1), ("Striped", "Stripped", 1), ("Staring", "Starring", 1),
        ("Mourning", "Morning", 1), ("Fourth", "Forth", 1), ("Filling", "Filing", 1), ("Taller", "Tall", 1),
        ("Goods", "Good", 1), ("Mother", "HasMother", 1), ("Swims", "CanSwim", 1), ("Married", "Marries", 1),
        ("Causal", "Casual", 1), ("Glass", "Glas", 1), ("Spring", "Spr", 1), ("Marital", "Martial", 1), ("Singing", "Signing", 2),
        ("Compliant", "Complaint", 1), ("Perform", "Preform", 2), ("Dairies", "Diaries", 1), ("Silvers", "Slivers", 1),
        ("Trailing", "Trialing", 2), ("Causally", "Casually", 1), ("Deserts", "Desserts", 1), ("Canvases", "Canvasses", 1),
        ("Pouring", "Poring", 2),
        # figures
        ("Top10", "Top100", 1), ("Born20180101", "Born20181001", 1), ("Year2018", "Year2019", 1), ("Size1_5", "Size15", 1),
    ],
)  # fmt: skip
def test_what_may_be_an_opposite_the_converse_or_another_word_is_another_predicate(
    one: str, other: str, n_terms: int
) -> None:
    assert not same_predicate(one, other, n_terms)
    assert not same_predicate(other, one, n_terms)
