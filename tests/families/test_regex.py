r"""Regular expressions: equal languages in both dialects, and texts of either side of `re`."""

import random
import re
import warnings

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from symbol_llm.families.regex import canonical, compare, mutants, program_of, run, score
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unavailable, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging.verify import judge
from tests.problems import problem as make

LIMITS = Limits(timeout_s=10)


def problem(gold: str, **environment: str) -> Problem:
    return make("regex", program=gold, environment=environment)


def same(one: str, two: str, dialect: str = "python", match: str = "full") -> bool:
    return bool(compare({"program": one, "gold": two, "dialect": dialect, "match": match})["same"])


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a+", "aa*"),
        ("(a|b)*", "(a*b*)*"),
        ("[0-9]{2,3}", r"\d\d\d?"),
        ("(?i)ab", "[aA][bB]"),
        ("(?s).", r"[\x00-\x7f]"),
        ("(?P<year>a)b??", "a|ab"),
        ("(?#why)a", "a"),
        ("a$|^b", "a|b"),
        (r"\bcat\b", "cat"),
        (r"a\bb", "[^\\x00-\\x7f]"),
        ("(?m:a$\n^b)", "a\nb"),
        ("(?-i:a)", "a"),
        (r"(\b|a){3}", r"(\b|a){3}|aaa"),
    ],
)
def test_equal_languages_are_the_same(one: str, two: str) -> None:
    assert same(one, two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("a*", "a+"),
        ("a.b", r"a\.b"),
        (".", r"[\x00-\x7f]"),
        (r"\w+", "[a-z0-9]+"),
        ("(?i)a", "a"),
        ("(?i:a)b", "[aA][bB]"),
        (r"\b", "(?:)"),
        (r"a\Bb", "a b"),
        ("a{2,4}", "a{2,5}"),
        ("ab|c", "a(b|c)"),
    ],
)
def test_other_languages_are_not(one: str, two: str) -> None:
    assert not same(one, two)


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        ("r'^a+$'", "^a+$"),
        ('r"a\\d"', r"a\d"),
        ("/^a+$/", "^a+$"),
        ("/a+$/", "a+$"),
        ("/^a+/", "^a+"),
        ("/a+/", "/a+/"),
        (r"/a\$/", r"/a\$/"),
        ("r'a", "r'a"),
        ("'a'", "'a'"),
        ("/^a/b", "/^a/b"),
    ],
)
def test_marks_around_an_expression_go_where_they_cannot_belong_to_it(reply: str, program: str) -> None:
    assert program_of(reply) == program


def test_searching_needs_no_more_than_the_text_that_is_sought() -> None:
    assert same("ca+t?", "ca", match="search")
    assert not same("ca+t?", "ca", match="full")
    assert not same("^ca", "ca", match="search")
    assert same("^ca", "ca", match="full")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("~(a|b)", "~(a)&~(b)"),
        ("a|b&c|d", "a|(b&c)|d"),
        ("~a*", "(~(a))*"),
        ("(.*cat.*)&(.*dog.*)", "(.*(cat).*(dog).*)|(.*(dog).*(cat).*)"),
        ("~(~(x{2}))", "xx"),
        ("<VOW>|<NUM>", "[aeiouAEIOU0-9]"),
        ("[A-Za-z]&<LOW>", "[a-z]"),
        ("(a+)+?", "a*"),
        (r"(\b([A-Za-z])&([0-9])\b)", "[A-Z]&[0-9]"),
        (r".*\bcat\b.*", "(()|.*[^A-Za-z0-9_])cat(()|[^A-Za-z0-9_].*)"),
    ],
)
def test_nl_rx_knows_intersection_and_complement(one: str, two: str) -> None:
    assert same(one, two, "nl-rx")


def test_the_dialect_says_what_an_ampersand_is() -> None:
    assert same("[a-c]&[b-d]", "[bc]", "nl-rx")
    assert same("[a-c]&[b-d]", r"[a-c]\&[b-d]")
    assert same("~(a)", r"\~a")


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("a(b", r"column 4: expected '\)', got 'the end'"),
        ("ab)", r"column 3: expected the end, got '\)'"),
        ("*a", r"column 1: expected something to repeat before, got '\*'"),
        ("a[b-", r"column 2: the class has no end"),
        ("[z-a]", r"column 1: bad range 'z-a'"),
        (r"(a)\1", r"column 4: .* is not regular"),
        ("a(?=b)", r"column 2: .* is not regular"),
        ("(?<!a)b", r"column 1: .* is not regular"),
        ("(?P=x)", r"column 1: .* is not regular"),
        (r"a\q", r"column 2: unknown escape"),
        ("[[:digit:]]+", r"column 2: '\[:digit:\]' is a class to POSIX"),
        ("x[^_[:alpha:]]", r"column 5: '\[:alpha:\]' is a class to POSIX"),
        ("a{3,2}", r"column 2: .* the least is more than the most"),
        ("{a}", r"column 1: expected \{m\}"),
        ("é", r"column 1: character 'é'; only ASCII"),
        ("a(?x)b", r"column 2: .* verbose"),
        ("(?>a)", r"column 1: unknown or unsupported group"),
        (",-,", "punctuation alone"),
        ("  ", "no regular expression"),
        ("(" * 5000, "at most 50 levels"),
    ],
)
def test_what_is_refused_is_refused_with_its_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        canonical(program)


@pytest.mark.parametrize(("program", "dialect"), [("a**", "python"), ("a*+", "python"), ("a||b", "nl-rx")])
def test_a_dialect_refuses_what_only_the_other_reads(program: str, dialect: str) -> None:
    assert canonical(program)
    with pytest.raises(Unparsable):
        score(program, problem("a", dialect=dialect), LIMITS)


@pytest.mark.parametrize("program", ["a{1001}", "a{99999999999}", "ab" * 1001])
def test_what_is_too_large_hits_a_limit(program: str) -> None:
    with pytest.raises(LimitExceeded):
        score(program, problem("a"), LIMITS)


def test_an_automaton_that_blows_up_is_a_limit_for_the_program_and_unscored_for_gold() -> None:
    bomb = "(a|b)*a" + "(a|b)" * 40
    small = Limits(timeout_s=1)
    with pytest.raises(LimitExceeded):
        score(f"{bomb}|(a|b)*b(a|b){{40}}|(a|b){{0,40}}", problem("(a|b)*"), small)
    with pytest.raises(Unavailable, match="gold hits a limit"):
        score(bomb + "c?", problem(bomb), small)


@pytest.mark.parametrize(("gold", "other", "word"), [("[a-c]&[0-9]", "x&y", "no"), (".*", "~(a&b)", "every")])
def test_a_language_that_proves_nothing_needs_the_form_of_gold(gold: str, other: str, word: str) -> None:
    trivial = problem(gold, dialect="nl-rx")
    assert score(gold, trivial, LIMITS).score == 1.0
    assert score("cat", trivial, LIMITS).score == 0.0
    with pytest.raises(Unavailable, match=f"gold matches {word} text"):
        score(other, trivial, LIMITS)


def test_equal_languages_run_to_equal_values() -> None:
    given_problem = problem("a")
    values = {run(program, given_problem, LIMITS).value for program in ("(a|b)+", "[ab][ab]*", "a(a|b)*|b(a|b)*")}
    assert len(values) == 1
    assert values != {run("(a|b)*", given_problem, LIMITS).value}


def test_an_unknown_dialect_and_a_broken_gold_are_our_fault() -> None:
    with pytest.raises(InvalidInput, match="dialect: input should be 'python' or 'nl-rx', got 'perl'"):
        score("a", problem("a", dialect="perl"), LIMITS)
    assert judge(problem("a(", dialect="nl-rx"), "a", LIMITS).status == "unscored"
    assert judge(problem(r"(a)\1"), "a", LIMITS).status == "unscored"


@pytest.mark.parametrize(
    ("one", "two"),
    [("((([0-9])))", r"\d"), ("(?:ab){1,}", "(ab)+"), ("[cba]", "[a-c]"), (r"a\-", "a-"), (r"\,", "(,)")],
)
def test_spelling_does_not_count(one: str, two: str) -> None:
    assert canonical(one) == canonical(two)


@pytest.mark.parametrize(
    ("one", "two"), [("(ab)*", "ab*"), ("~(ab)", "~ab"), ("(<)VOW>", "<VOW>"), ("a+?", "a+"), (r"(\b)*", r"\b")]
)
def test_what_a_dialect_may_tell_apart_stays_apart(one: str, two: str) -> None:
    assert canonical(one) != canonical(two)


ATOMS = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\b", r"\B", "^", r"\A", r"\Z", r"\w", "\n", "(?:)"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: "(?:{}|{})".format(*pair)),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "*?"])).map(lambda p: f"({p[0]}){p[1]}"),
        st.tuples(st.sampled_from("ims"), inner).map(lambda p: f"(?{p[0]}:{p[1]})"),
    ),
    max_leaves=8,
)


@given(PATTERNS, st.text("abA \n", max_size=4), st.sampled_from(["full", "search"]))
@settings(max_examples=300, deadline=None)
def test_a_text_is_in_the_language_where_re_says_so(pattern: str, text: str, match: str) -> None:
    assume(text or r"\B" not in pattern)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = re.compile(pattern)
    expected = (compiled.fullmatch if match == "full" else compiled.search)(text) is not None
    alone = rf"\A{re.escape(text)}\Z"
    assert same(f"(?:{pattern}|{alone})", f"(?:{pattern})", match=match) == expected


@given(PATTERNS)
@settings(max_examples=150, deadline=None)
def test_the_canonical_form_is_its_own_and_has_the_same_language(pattern: str) -> None:
    form = canonical(f"x{pattern}")
    assert canonical(form) == form
    assert same(form, f"x{pattern}")
    assert same(form, f"x{pattern}", "nl-rx") or "?" in pattern


def test_a_form_that_would_be_punctuation_alone_is_grouped_as_a_form_is() -> None:
    assert canonical(r"_\@@@") == canonical("(?:_@@@)") == "(_@@@)"


def test_a_comment_alone_is_no_expression() -> None:
    with pytest.raises(Unparsable, match="no regular expression"):
        canonical("(?#`+.)")


@given(PATTERNS, st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_mutants_have_another_language(pattern: str, seed: int) -> None:
    for mutant in list(mutants(f"x{pattern}", random.Random(seed)))[:3]:
        assert not same(mutant, f"x{pattern}")
        assert not same(mutant, f"x{pattern}", match="search")
