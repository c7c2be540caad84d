"""AMR: readers, printing, generators checked word by word."""

import random
import re

import pytest

from tests.problems import EXTRA

pytest.importorskip("penman", reason=EXTRA)

import penman

from symbol_llm.families import amr as family
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Limits
from symbol_llm.tasks import amr
from symbol_llm.tasks.amr import AGENTS, GRAMMARS, TASKS, WORDS, Node, named, printed

BY_NAME = {task.name: task for task in TASKS}
GENERATED = [task.name for task in TASKS if task.generate]
VERBS = [verb for key in ("INTRANSITIVE", "TRANSITIVE", "BETWEEN", "GIVING", "WANTING", "ASKING", "SAYING", "BIO", "FINDINGS", "EFFECTS")
         for verb in getattr(amr, key)]  # fmt: skip
FORMS = {
    frame: {form for verb in VERBS if verb.frame == frame for form in verb[1:] if form}
    for frame in {v.frame for v in VERBS}
}
SAID_OTHERWISE = {
    "possible-01": {"can", "cannot", "may"}, "obligate-01": {"must"}, "recommend-01": {"should"}, "cause-01": {"because", "why"},
    "contrast-01": {"but", "whereas"}, "mutate-01": {"mutant"}, "treat-04": {"treatment"}, "bind-01": {"bound"},
    "interact-01": {"interacted"}, "amr-unknown": {"who", "did"}, "happy": {"happy", "happily"}, "angry": {"angry", "angrily"},
    "polite": {"polite", "politely"},
}  # fmt: skip
UNSAID = {"person", "protein", "city", "country", "small-molecule", "cell-line", "amino-acid", "name", "date-entity",
          "temporal-quantity", "multi-sentence", "have-degree-91", "you"}  # fmt: skip


def draw(name, n=240):
    return [BY_NAME[name].generate(random.Random(i), 1 + i % 3) for i in range(n)]


def words(sentence):
    """Return the words of a sentence, plurals and adverbs also without their endings."""
    found = re.findall(r"[\w]+", sentence.lower())
    return {
        *found,
        *(word.removesuffix("s") for word in found),
        *(word.removesuffix("es") for word in found),
        *(word.removesuffix("ly") for word in found),
    }


def test_row_is_read_on_one_line_without_comments(data_set):
    row = {"id": "r-0", "snt": "The boy slept. ", "amr": "# ::id r-0\n(s / sleep-01\n      :ARG0 (b / boy))\n"}
    for name in ("amr2", "amr3", "bioamr", "qald9_amr"):
        (problem,) = BY_NAME[name].read(data_set([], [row]))
        assert (problem.question, problem.program) == ("The boy slept.", "(s / sleep-01 :ARG0 (b / boy))")
        assert (problem.split, problem.source, problem.answer) == ("test", f"{name} r-0", None)


def test_row_without_a_graph_has_no_gold_and_one_without_the_field_is_named(data_set):
    (problem,) = BY_NAME["amr2"].read(data_set([{"id": "r", "snt": "Hm.", "amr": ""}], []))
    assert problem.program is None
    with pytest.raises(InvalidInput, match=r"train\.jsonl:1: amr: field required"):
        list(BY_NAME["amr2"].read(data_set([{"id": "r", "snt": "Hm."}], [])))


def test_a_node_that_stands_twice_is_one_variable_and_letters_are_numbered():
    boy = Node("boy")
    graph = Node(
        "believe-01", ("ARG0", boy), ("ARG1", Node("beat-03", ("ARG0", boy), ("ARG1", named("person", "Bo", "Li"))))
    )
    assert printed(graph) == (
        '(b / believe-01 :ARG0 (b2 / boy) :ARG1 (b3 / beat-03 :ARG0 b2 :ARG1 (p / person :name (n / name :op1 "Bo" :op2 "Li"))))'
    )


@pytest.mark.parametrize("name", GENERATED)
def test_every_concept_of_a_generated_graph_is_said_and_every_name(name):
    for problem in draw(name):
        graph, said = penman.decode(problem.program), words(problem.question)
        trades = {frame: trade for trade, frame in AGENTS.items()}
        for _, _, concept in graph.instances():
            forms = FORMS.get(concept, set()) | SAID_OTHERWISE.get(concept, set()) | {trades.get(concept, concept)}
            forms |= {"where", "when", "why", "who", "did"} if concept == "amr-unknown" else set()
            assert concept in UNSAID or forms & said or concept.removesuffix("-01").removesuffix("-101") in said, (
                problem.question,
                concept,
            )
        for _, role, value in graph.attributes():
            if role.startswith(":op"):
                assert value.strip('"').lower() in problem.question.lower()


@pytest.mark.parametrize("name", GENERATED)
def test_every_not_is_a_polarity_and_every_very_a_degree(name):
    for problem in draw(name):
        asked = " :polarity (a / amr-unknown)"
        n_not = len(re.findall(r"\bnot\b|\bcannot\b", problem.question, re.IGNORECASE))
        assert problem.program.replace(asked, "").count(":polarity -") == n_not
        assert problem.program.count(":degree") == problem.question.count(" very ")
        names = "first_names cities countries proteins small_molecules cell_lines residues".split()
        name_words = "|".join(name for key in names for name in WORDS[key])
        n_named = len(re.findall(rf"\b(?:{name_words})\b", problem.question, re.IGNORECASE))
        assert problem.program.count(":name (") == n_named


@pytest.mark.parametrize("name", GENERATED)
def test_every_numeral_is_a_number_of_the_graph(name):
    for problem in draw(name):
        graph = penman.decode(problem.program)
        numbers = sorted(
            int(value) for _, role, value in graph.attributes() if role in (":quant", ":mod", ":year", ":day")
        )
        said = [int(n) for n in re.findall(r"(?<![\w])\d+(?![\w])", problem.question)]
        said += [
            2 + WORDS["numbers"].index(word)
            for word in re.findall(r"\w+", problem.question.lower())
            if word in WORDS["numbers"]
        ]
        assert numbers == sorted(said), problem.question


def test_who_wants_to_do_something_is_the_one_who_does_it():
    n_found = 0
    for i in range(200):
        phrase = amr.control(random.Random(i), 1)
        graph = penman.decode(printed(phrase.node))
        roles = {role: target for source, role, target in graph.edges() if source == graph.top}
        inner = next(
            role
            for role in roles
            if penman.decode(printed(phrase.node)).edges(source=roles[role], role=":ARG0") and role != ":ARG0"
        )
        actor = graph.edges(source=roles[inner], role=":ARG0")[0].target
        asked = " to " in phrase.text and len([r for r in roles if r.startswith(":ARG")]) == 3
        assert actor == (next(roles[r] for r in (":ARG1", ":ARG2") if r != inner) if asked else roles[":ARG0"])
        n_found += asked
    assert 20 < n_found < 180


@pytest.mark.parametrize(
    ("sentence", "graph"),
    [
        ("The boy slept.", "(s / sleep-01 :ARG0 (b / boy))"),
        ("The boy did not sleep.", "(s / sleep-01 :ARG0 (b / boy) :polarity -)"),
    ],
)
def test_the_verifier_takes_gold_and_no_mutant(data_set, sentence, graph):
    (problem,) = BY_NAME["amr3"].read(data_set([{"id": "r", "snt": sentence, "amr": graph}], []))
    assert family.score(graph, problem, Limits()).score == 1.0
    for mutant in family.mutants(graph, random.Random(0)):
        assert family.score(mutant, problem, Limits()).score < 1.0


@pytest.mark.parametrize("name", GENERATED)
def test_every_rule_of_a_grammar_is_used_and_the_first_level_is_short(name):
    assert all(len(GRAMMARS[name][level]) >= 2 for level in (1, 2, 3))
    lengths = [len(problem.program) for problem in draw(name)[::3]]
    assert sum(lengths) / len(lengths) < (80 if name != "bioamr" else 130)


def test_agents_are_people_and_verbs_have_a_sense():
    assert set(AGENTS) <= set(WORDS["people"])
    assert all(re.fullmatch(r"[a-z]+-\d\d\d?", verb.frame) for verb in VERBS)
