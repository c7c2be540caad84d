"""Theories: readers, generator."""

import itertools
import random
import re
from collections import Counter

import pytest

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.tasks import get
from symbol_llm.tasks.logic import generate, generate_order

THREE = ["A) True", "B) False", "C) Unknown"]


def options_row(**changes):
    asked = "Based on the above information, is the following statement true, false, or unknown? Kai is sad."
    return {"id": "p-0", "context": "Kai is glad.", "question": asked, "options": THREE, "answer": "C"} | changes


def folio_row(**changes):
    row = {"id": "f-0", "premises": ["All elms are trees. ", "Rio is an elm."], "conclusion": "Rio is a tree."}
    return row | {"premises-FOL": ["∀x (Elm(x) → Tree(x))", "Elm(rio)"], "label": "True"} | changes


@pytest.mark.parametrize(("letter", "label"), [("A", "True"), ("B", "False"), ("C", "Unknown")])
def test_proofwriter_letter_becomes_a_label(data_set, letter, label):
    (problem,) = get("proofwriter").read(data_set([options_row(answer=letter)], []))
    assert (problem.context, problem.question) == ("Kai is glad.", "Is this true? Kai is sad.")
    assert (problem.answer, problem.program, problem.source) == (label, None, "proofwriter p-0")


def test_prontoqa_statement_follows_its_question(data_set):
    row = options_row(question="Is the following statement true or false? Kai is sad.", options=THREE[:2], answer="B")
    (problem,) = get("prontoqa").read(data_set([], [row]))
    assert (problem.question, problem.answer, problem.split) == ("Is this true? Kai is sad.", "False", "test")


def test_unknown_letter_names_file_line_and_field(data_set):
    with pytest.raises(InvalidInput, match=r"train\.jsonl:2: answer: input should be .*, got 'D'"):
        list(get("proofwriter").read(data_set([options_row(), options_row(answer="D")], [])))


def test_folio_without_a_formula_of_the_conclusion_has_no_program(data_set):
    (problem,) = get("folio_stories").read(data_set([folio_row(label="Uncertain")], []))
    assert (problem.answer, problem.program) == ("Unknown", None)
    assert problem.context == "All elms are trees.\nRio is an elm."


def test_folio_formulas_become_a_program(data_set):
    (problem,) = get("folio_stories").read(data_set([folio_row(**{"conclusion-FOL": "Tree(rio)"})], []))
    assert problem.program == "∀x (Elm(x) → Tree(x))\nElm(rio)\nquery: Tree(rio)"


def test_a_program_needs_as_many_premises_as_the_text_has_sentences(data_set):
    row = options_row(context="Kai is glad. Glad people sing. If Kai sings then Kai is heard.")
    assert next(get("proofwriter").read(data_set([row], []))).environment == {"n_premises": 3}
    assert next(get("folio_stories").read(data_set([folio_row()], []))).environment == {"n_premises": 2}


def test_folio_label_is_checked(data_set):
    with pytest.raises(InvalidInput, match=r"test\.jsonl:1: label: .*got 'Maybe'"):
        list(get("folio_stories").read(data_set([], [folio_row(label="Maybe")])))


def as_python(formula: str) -> str:
    """Turn one formula of the generator into a Python expression over `has(word, name)`."""
    rule = re.fullmatch(r"forall x \((.*) -> (.*)\)", formula)
    if rule:
        return f"all(({as_python(rule[2])}) if ({as_python(rule[1])}) else True for x in names)"
    text = re.sub(r"(\w+)\((\w+)\)", lambda m: f"has({m[1]!r}, {'x' if m[2] == 'x' else repr(m[2])})", formula)
    return text.replace("~", "not ").replace("|", "or").replace("^", "!=")


def label_of(program: str) -> str:
    """Decide a generated program by truth table, from its text alone."""
    *premises, query = program.splitlines()
    names = sorted(set(re.findall(r"\((\w+)\)", program)) - {"x"})
    words = sorted(set(re.findall(r"(\w+)\(", program)) - {"x"})
    atoms = list(itertools.product(words, names))
    found = set()
    for bits in itertools.product((False, True), repeat=len(atoms)):
        world = dict(zip(atoms, bits, strict=True))
        scope = {"has": lambda word, name, world=world: world[word, name], "names": names}
        if all(eval(as_python(premise), scope) for premise in premises):  # our own templates
            found.add(bool(eval(as_python(query.removeprefix("query: ")), scope)))
    return {(True,): "True", (False,): "False", (False, True): "Unknown"}[tuple(sorted(found))]


def test_generated_answer_follows_from_the_formulas_by_truth_table():
    for i in range(150):
        problem = generate(random.Random(i), 1 + i % 3)
        assert label_of(problem.program) == problem.answer, problem


def test_generated_answers_are_balanced_and_theories_vary():
    problems = [generate(random.Random(i), 1 + i % 3) for i in range(300)]
    assert min(Counter(p.answer for p in problems).values()) >= 75
    assert len({p.program for p in problems[:200]}) >= 190


def test_generated_program_has_a_line_for_each_sentence_and_uses_the_names_given():
    for i in range(100):
        problem = generate(random.Random(i), 1 + i % 3)
        text, names = problem.context.split("\nNames: ")
        assert problem.program.count("\n") == text.count(".")
        assert problem.environment == {"symbols": names.split(", "), "n_premises": text.count(".")}
        assert set(re.findall(r"[A-Z]\w*(?=\()|(?<=\()[a-wyz]\w+", problem.program)) <= set(names.split(", "))


def test_generated_statement_is_never_a_premise():
    for i in range(100):
        *premises, query = generate(random.Random(i), 1 + i % 3).program.splitlines()
        assert query.removeprefix("query: ").lstrip("~") not in {premise.lstrip("~") for premise in premises}


def test_worked_examples_show_every_answer():
    assert [label_of(program) for _, _, program in get("rule_theories").shots] == ["True", "False", "Unknown", "False"]


# --- orders --------------------------------------------------------------------------------------------------------


def solutions(program):
    """Return the options that hold in every order which the constraints leave."""
    lines = [line.partition("  #")[0] for line in program.splitlines()]
    names = lines[1].removeprefix("Variables: ").split(", ")
    query = lines.index("Query:")
    places = (dict(zip(names, ranks, strict=True)) for ranks in itertools.permutations(range(1, len(names) + 1)))
    left = [p for p in places if all(eval(line, {}, dict(p)) for line in lines[4:query])]  # our own templates
    return len(left), [line[0] for line in lines[query + 1 :] if all(eval(line[3:], {}, dict(p)) for p in left)]


def test_generated_clues_leave_one_order_and_its_option():
    for i in range(40):
        problem = generate_order(random.Random(i), 1 + i % 2)
        assert solutions(problem.program) == (1, [problem.answer]), problem
        assert problem.environment["n_constraints"] == problem.context.count(".")


def test_things_of_an_order_have_their_articles_and_names_of_people_none():
    for i in range(60):
        text = generate_order(random.Random(i), 1 + i % 3).context
        opening, _, clues = text.partition(". ")
        things = re.split(r", | and ", opening.partition(": ")[2])
        assert {"three": 3, "five": 5, "seven": 7}[re.search(r"(\w+) \w+:", opening)[1]] == len(things)
        for thing in things:
            noun = thing.removeprefix("a ")
            assert thing == noun if noun[0].isupper() or noun.endswith("s") and noun != "bus" else thing == f"a {noun}"
            assert len(re.findall(rf"\b{noun}\b", clues)) == len(re.findall(
                rf"{noun}\b" if noun[0].isupper() else rf"\b[Tt]he {noun}\b", clues))  # fmt: skip


def test_logical_deduction_row_keeps_its_last_paragraph(data_set):
    row = {
        "id": "o",
        "context": "The following holds.\n\nHere are a cup, a pot. The cup is first.",
        "question": "Which?",
    }
    row |= {"options": ["A) The cup is first.", "B) The pot is first."], "answer": "A"}
    (problem,) = get("logical_deduction").read(data_set([row], []))
    assert problem.context == "Here are a cup, a pot. The cup is first."
    assert problem.question == "Which is true? A) The cup is first. B) The pot is first."
    assert (problem.answer, problem.environment) == ("A", {"options": ["A", "B"], "n_constraints": 1})


def test_ruletaker_gives_a_problem_for_each_question_and_only_to_test_on(data_set):
    asked = {"Q1": {"question": "Kai is glad.", "answer": True}, "Q2": {"question": "Kai is sad.", "answer": "Unknown"}}
    row = {"id": "t", "theory": "Kai is glad. Kai is big.", "questions": asked}
    problems = list(get("ruletaker").read(data_set([row], [])))
    assert [(p.question, p.answer, p.split) for p in problems] == [
        ("Is this true? Kai is glad.", "True", "test"),
        ("Is this true? Kai is sad.", "Unknown", "test"),
    ]
    asked["Q1"]["answer"] = "maybe"
    with pytest.raises(InvalidInput, match="row 't': answer 'maybe'; expected true, false or Unknown"):
        list(get("ruletaker").read(data_set([row], [])))
