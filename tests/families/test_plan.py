"""Plans: what runs, what fails and where, and what the domain does not know."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbol_llm.families.plan import canonical, mutants, program_of, run, score
from symbol_llm.ground.errors import InvalidInput, LimitExceeded, Unparsable
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from tests.cpu import at_most
from tests.problems import problem as make

LIMITS = Limits()
DOMAIN = """(define (domain kitchen)
  (:requirements :adl)
  (:types cup pot - vessel vessel cook)
  (:constants sink - vessel)
  (:predicates (full ?v - vessel) (holds ?k - cook ?v - vessel) (free ?k - cook) (dirty ?v - vessel) (closed))
  (:functions (total-cost))
  (:action take :parameters (?k - cook ?v - vessel)
    :precondition (and (free ?k) (forall (?o - cook) (not (holds ?o ?v))))
    :effect (and (not (free ?k)) (holds ?k ?v) (increase (total-cost) 1)))
  (:action pour :parameters (?k - cook ?from - vessel ?to - vessel)
    :precondition (and (holds ?k ?from) (full ?from) (not (= ?from ?to)) (or (not (full ?to)) (= ?to sink)))
    :effect (and (not (full ?from)) (when (not (= ?to sink)) (full ?to)) (dirty ?from)))
  (:action shake :parameters (?k - cook) :effect (and (not (free ?k)) (free ?k)))
  (:action wash :parameters () :precondition (imply (closed) (exists (?v - vessel) (full ?v)))
    :effect (forall (?v - cup) (when (and (dirty ?v) (forall (?k - cook) (not (holds ?k ?v)))) (not (dirty ?v)))))
  (:action close :parameters () :precondition () :effect (closed)))"""
PROBLEM = """(define (problem tea) (:domain kitchen)
  (:objects c1 c2 - cup p - pot ann bob - cook)
  (:init (full c1) (dirty c2) (free ann) (free bob) (= (total-cost) 0))
  (:goal {goal}))"""


def problem(goal: str = "(full c2)", **fields: Any) -> Problem:
    environment = {"domain": DOMAIN, "problem": PROBLEM.format(goal=goal)} | fields.pop("environment", {})
    return make("plan", **({"answer": True, "environment": environment} | fields))


def fault(program: str, goal: str = "(full c2)", **environment: Any) -> str:
    ran = run(program, problem(goal, environment=environment), LIMITS)
    return "" if ran.value == "the goal is reached" else ran.detail


@pytest.mark.parametrize(
    ("program", "goal"),
    [
        ("(take ann c1)\n(pour ann c1 c2)", "(full c2)"),
        ("1. (TAKE bob C1) ; first\n2. (pour bob c1 c2)", "(and (full c2) (not (full c1)))"),
        ("0.000: (take ann c1) [1.0]\nstep 2: (pour ann c1 sink) [0.5]", "(forall (?v - vessel) (not (full ?v)))"),
        ("1 (take ann c1)\n2) (pour ann c1 p)", "(exists (?p - pot) (full ?p))"),
        ("(shake ann) (take ann c2)", "(holds ann c2)"),
        ("(wash)", "(not (dirty c2))"),
        ("(close) (wash)", "(closed)"),
        ("(close)", "(or (full p) (closed))"),
        ("(close)", "(forall (?k - cook ?v - vessel) (not (holds ?k ?v)))"),
    ],
)
def test_plans_that_reach_the_goal(program: str, goal: str) -> None:
    assert fault(program, goal) == ""
    assert score(program, problem(goal), LIMITS).score == 1.0


@pytest.mark.parametrize(
    ("program", "goal", "detail"),
    [
        ("(take ann c1)", "(full c2)", "after the last step: (full c2) does not hold"),
        ("(pour ann c1 c2)", "(full c2)", "step 1 (pour ann c1 c2): (holds ann c1) does not hold"),
        ("(take ann c1)\n(take ann c2)", "(full c2)", "step 2 (take ann c2): (free ann) does not hold"),
        (
            "(take ann c1)\n(take bob c1)",
            "(full c2)",
            "step 2 (take bob c1): (forall (?o - cook) (not (holds ?o c1))) does not hold",
        ),
        ("(take ann c1) (pour ann c1 c1)", "(full c2)", "step 2 (pour ann c1 c1): (not (= c1 c1)) does not hold"),
        ("(take ann c1)\n(pour ann c1 sink)", "(full sink)", "after the last step: (full sink) does not hold"),
        ("(take ann c2)\n(wash)", "(not (dirty c2))", "after the last step: (not (dirty c2)) does not hold"),
        ("(take ann c1) (pour ann c1 sink) (close) (wash)", "(closed)", "step 4 (wash): (imply (closed) (exists"),
    ],
)
def test_the_first_step_that_fails_is_told_with_what_is_missing(program: str, goal: str, detail: str) -> None:
    assert fault(program, goal).startswith(detail)
    result = score(program, problem(goal), LIMITS)
    assert result.score == 0.0
    assert (result.value or "").startswith(detail)


@pytest.mark.parametrize(
    "program",
    [
        "take ann c1\npour ann c1 c2",
        "1. take ann c1\n2. pour ann c1 c2",
        "Step 1: Take ann c1\nStep 2: Pour ann c1 c2",
        "- take ann c1\n- pour ann c1 c2",
        "  take ann c1  # her cup\n\n  pour ann c1 c2 ; done",
        "take(ann, c1)\npour(ann, c1, c2)",
        "1) take(ann,c1)\n2) pour(ann,c1,c2)",
        "take(ann, c1), pour(ann, c1, c2)",
        "wash\ntake ann c1\npour ann c1 c2",
        "wash()\ntake(ann, c1)\npour(ann, c1, c2)",
        "* (take ann c1)\n* (pour ann c1 c2)",
        "• (take ann, c1)\n• (pour ann, c1, c2)",
        "**1.** `(take ann c1)`\n**2.** `(pour ann c1 c2)`",
        "Action 1: (take ann c1).\nAction 2: (pour ann c1 c2).",
        "(take ann c1), # her cup\n(pour ann c1 c2)",
        "((take ann c1)\n (pour ann c1 c2))",
        "[PLAN]\n(take ann c1)\n(pour ann c1 c2)\n[PLAN END]",
        "; first\n(take ann c1) ; takes it\n; then\n(pour ann c1 c2) ; pours it",
        "(take ann c1) - takes it\n(pour ann c1 c2) – pours it, all of it.",
        "1. (take ann c1): takes it\n2. (pour ann c1 c2) -> c2 is full",
        "1. **(take ann c1)** — takes it\n2. `(pour ann c1 c2)` // done",
        "take(ann, c1) -- takes it\npour(ann, c1, c2) : pours it",
        "1. (take ann c1)\n   - Ann holds the cup.\n2. (pour ann c1 c2)",
        "(take ann c1)\nState: Ann holds it\n(pour ann c1 c2)",
        "First she takes it, then she pours.\nThe steps are:\n\n(take ann c1)\n(pour ann c1 c2)",
    ],
)
def test_ways_to_write_a_step(program: str) -> None:
    assert fault(program) == ""
    assert canonical(program).removeprefix("(wash)\n") == "(take ann c1)\n(pour ann c1 c2)"


@pytest.mark.parametrize(
    ("reply", "program"),
    [
        ("take ann c1\npour ann c1 c2\n\nThis plan works.", "take ann c1\npour ann c1 c2"),
        ("1. take ann c1\n2. wash\n\nThe goal is reached.", "1. take ann c1\n2. wash"),
        ("take ann c1\n\nwash", "take ann c1\n\nwash"),
        ("take ann c1\npour ann c1 c2\npour ann c2 c1.", "take ann c1\npour ann c1 c2\npour ann c2 c1."),
        ("TAKE ANN C1\nPOUR ANN C1 C2\nPOUR ANN C2 C1.", "TAKE ANN C1\nPOUR ANN C1 C2\nPOUR ANN C2 C1."),
        ("(take ann c1)\n(pour ann c1 c2)\npour ann c2 c1", "(take ann c1)\n(pour ann c1 c2)\npour ann c2 c1"),
        ("(take ann c1) - so\n(pour ann c1 c2)\n\nIt works.", "(take ann c1) - so\n(pour ann c1 c2)"),
        ("(take ann c1)\n(wash)\nWhy:\n- (take ann c1): it is full.", "(take ann c1)\n(wash)"),
        ("(take ann c1)\n(wash)\n\nIt works.\n- (take ann c1): it is full.", "(take ann c1)\n(wash)"),
        ("(take ann c1)\n(wash)\n[STATEMENT]\nAs initial conditions", "(take ann c1)\n(wash)"),
    ],
)
def test_a_plan_without_brackets_is_not_cut_before_a_bad_step(reply: str, program: str) -> None:
    assert program_of(reply) == program


@pytest.mark.parametrize(
    "line",
    [
        "pour ann c1 c2.",
        "Pour ann c1 p.",
        "2. pour ann c1.",
        "- Pour: ann c1 c2",
        "pour ann c1 p and c2:",
        "(pour ann c1",
        "pour ann c1 c2)",
        "(pour ann) - all of it.",
        "(pour ann c1 p c2) - all of it.",
        "(spill ann c1 p) - all of it.",
        "then (pour ann c1 p).",
        "(wash) - (pour ann c1 p",
        "pour ann c1 p",
    ],
)
def test_a_line_that_reads_like_a_step_is_no_remark(line: str) -> None:
    with pytest.raises(Unparsable):
        fault(f"(take ann c1)\n{line}\n(pour ann c1 c2)")


def test_a_step_behind_a_semicolon_is_a_comment() -> None:
    assert fault("(take ann c1)\n; (pour ann c1 p)\n(pour ann c1 c2)") == ""
    assert fault("(take ann c1) ; (pour ann c1 c2)") != ""


@pytest.mark.parametrize("text", ["a b.\n" * 4000, "(a b) - " * 3000, "- " * 8000, "a: b\n" * 4000 + "(a b)"])
def test_remarks_are_found_soon(text: str) -> None:
    with at_most(1.0):
        program_of(text)


def test_a_step_takes_away_before_it_adds() -> None:
    assert fault("(shake ann)", "(free ann)") == ""


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("(boil p)", r"line 1, column 2: expected one of the actions take, pour, shake, wash, close, got 'boil'"),
        ("(wash)\n2. (take ann)", r"line 2, column 4: expected take with 2 objects, got '\(take ann\)'"),
        ("(take ann c9)", "line 1, column 11: expected an object of the problem, got 'c9'"),
        ("(take c1 ann)", "line 1, column 7: expected an object of type cook, got 'c1'"),
        ("(wash)\ntake ann c1", r"line 2, column 1: expected an action such as \(unstack a b\), got 'take'"),
        (
            "take ann c1\nboil p",
            "line 2, column 2: expected one of the actions take, pour, shake, wash, close, got 'boil'",
        ),
        ("take ann c1 pour ann c1 c2", "expected take with 2 objects"),
        ("take ann from c1", "expected take with 2 objects"),
        ("I take c1 for ann", "expected one of the actions"),
        ("take(ann, c1", r"'\(' is never closed"),
        ("take(ann (c1))", "expected an action such as"),
        ("(take (ann) c1)", r"column 7: expected an action such as \(unstack a b\), got '\(ann\)'"),
        ("()", "expected an action such as"),
        ("(take ann c1", r"line 1, column 1: '\(' is never closed"),
        ("; (wash)", "no action"),
        ("(" * 5000, "more than 60 levels"),
    ],
)
def test_what_the_domain_does_not_know_is_refused_with_its_place(program: str, detail: str) -> None:
    with pytest.raises(Unparsable, match=detail):
        score(program, problem(), LIMITS)


def test_objects_may_have_the_names_of_the_question() -> None:
    called = {"Mug": "c1", "bowl": "c2"}
    assert fault("(take ann mug)\n(pour ann mug bowl)", names=called) == ""
    assert fault("(take ann bowl)\n(pour ann bowl mug)", names=called).startswith(
        "step 2 (pour ann bowl mug): (full c2)"
    )


def test_a_gold_plan_must_be_valid_itself() -> None:
    good = "(take ann c1)\n(pour ann c1 c2)"
    assert score(good, problem(program=good, answer=None), LIMITS).score == 1.0
    for bad in ("(pour ann c1 c2)", "(boil p)"):
        with pytest.raises(InvalidInput, match="gold plan: ") as caught:
            score(good, problem(program=bad), LIMITS)
        assert not isinstance(caught.value, Unparsable)
    with pytest.raises(InvalidInput, match="neither a gold plan nor the answer true"):
        score(good, problem(answer=1), LIMITS)


@pytest.mark.parametrize(
    "domain",
    [
        "(define (domain kitchen",
        DOMAIN.replace("(closed)))", "(probabilistic 0.5 (closed))))"),
        DOMAIN.replace(":parameters () :precondition () :effect (closed)", ":parameters () :duration 3"),
        DOMAIN.replace(":effect (closed)", ":effect"),
        f"{DOMAIN[:-1]} (:derived (closed) (open)))",
        f"{DOMAIN[:-1]} (:durative-action wait :parameters () :duration (= ?duration 1) :condition () :effect ()))",
    ],
)
def test_a_domain_that_cannot_be_simulated_is_our_fault(domain: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        fault("(wash)", domain=domain)
    assert not isinstance(caught.value, Unparsable)


def test_a_plan_without_texts_to_run_it_on_is_our_fault() -> None:
    with pytest.raises(InvalidInput, match="domain: field required"):
        run("(wash)", make("plan", answer=True), LIMITS)


def test_a_plan_that_takes_too_long_hits_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symbol_llm.families.plan.MAX_CHECKS", 1000)
    with pytest.raises(LimitExceeded, match="more than 1000 look-ups"):
        fault("(wash)" * 600)


def test_numbers_comments_case_and_layout_do_not_count() -> None:
    assert canonical(" 1: (Take ANN c1) ; first\n\n(wash) (wash)") == "(take ann c1)\n(wash)\n(wash)"


STEPS = st.lists(
    st.lists(st.sampled_from(["take", "pour", "ann", "c1", "c2"]), min_size=1, max_size=4).map(
        lambda s: f"({' '.join(s)})"
    ),
    min_size=1,
    max_size=5,
)


@given(STEPS, st.integers())
def test_canonical_is_idempotent_and_no_mutant_has_it(steps: list[str], seed: int) -> None:
    form = canonical("\n".join(f"{n}. {step}" for n, step in enumerate(steps)))
    assert canonical(form) == form
    assert form not in map(canonical, mutants(form, random.Random(seed)))
