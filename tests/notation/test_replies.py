"""Where the program of a reply begins and ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import problems


def program(reply: str, family: str) -> str:
    return problems.family(family).program_of(reply)


@pytest.mark.parametrize(
    ("reply", "family", "expected"),
    [
        ("SELECT 1", "sql", "SELECT 1"),
        ("  answer = 1\n", "python", "answer = 1"),
        ("Sure:\n```python\nanswer = 1\n```\nDone.", "python", "answer = 1"),
        ("```\nanswer = 1\n```\n```\nanswer = 2\n```", "python", "answer = 1"),
        ("```sql\nSELECT 1", "sql", "SELECT 1"),
        ("```sql\nSELECT 1<|im_end|>\nmore", "sql", "SELECT 1"),
        ("```python\r\nanswer = 1\r\n```", "python", "answer = 1"),
        ("~~~\nI_WALK\n~~~", "commands", "I_WALK"),
        ("`I_WALK I_WALK`", "commands", "I_WALK I_WALK"),
        ("Answer: I_WALK", "commands", "I_WALK"),
        ("Query: query(area(x),qtype(count))", "mrl", "query(area(x),qtype(count))"),
        ("MRL:\ndist(x)", "mrl", "dist(x)"),
        ("Parse: [IN:A ]", "top", "[IN:A ]"),
        ("Here is the parse tree:\n[IN:A ]", "top", "[IN:A ]"),
        ("Lispress: (f x)", "lispress", "(f x)"),
        ("AMR graph: (b / boy)", "amr", "(b / boy)"),
        ("Logic forms:\nFind(x)", "geometry", "Find(x)"),
        ("Query: which one?", "commands", "Query: which one?"),
        ("Final answer:\nI_WALK", "commands", "I_WALK"),
        ("SQL: SELECT 1", "sql", "SELECT 1"),
        ("SQL query:\nSELECT 1", "sql", "SELECT 1"),
        ("Query: SELECT 1", "sql", "SELECT 1"),
        ("The SPARQL query is: SELECT ?a WHERE { ?a ?b ?c }", "sparql", "SELECT ?a WHERE { ?a ?b ?c }"),
        ("Cypher query: MATCH (a) RETURN a", "cypher", "MATCH (a) RETURN a"),
        ("Plan:\n(walk)", "plan", "(walk)"),
        ("The final plan is:\n1. (walk)", "plan", "1. (walk)"),
        ("FOL: P(a)", "fol", "P(a)"),
        ("First-order logic formula: P(a)", "fol", "P(a)"),
        ("Regex: a+", "regex", "a+"),
        ("SMILES: CCO", "smiles", "CCO"),
        ("Command: ls -l", "bash", "ls -l"),
        ("query: P(a)\nP(a)", "rules", "query: P(a)\nP(a)"),
        ("Answer:\nanswer = 1", "python", "answer = 1"),
        ("Here is the program:\nanswer = 1", "python", "answer = 1"),
        ("I_WALK\nQuestion: jump\nI_JUMP", "commands", "I_WALK"),
        ("I_WALK<|im_end|>\nI_JUMP", "commands", "I_WALK"),
        ("I_WALK</s>", "commands", "I_WALK"),
        ("<think>maybe ```I_JUMP```</think>\nI_WALK", "commands", "I_WALK"),
        ("P(a)\nquery: P(a)", "rules", "P(a)\nquery: P(a)"),
        ("Sure! ```sql\nSELECT 1\n```\nIt counts.", "sql", "SELECT 1"),
        ("The query: ```\nSELECT 1\n```", "sql", "SELECT 1"),
        ("sql\nSELECT 1\n```", "sql", "SELECT 1"),
        ("SELECT 1\n\n```\nIt counts.", "sql", "SELECT 1"),
        ("SELECT 1\n```\nIt counts.", "sql", "SELECT 1"),
        ("It counts:\n```\nSELECT 1", "sql", "SELECT 1"),
        ("It counts.\n\n```\nSELECT 1", "sql", "SELECT 1"),
        ("Here is the SQL query: SELECT 1", "sql", "SELECT 1"),
        ("<sql>SELECT 1</sql>", "sql", "SELECT 1"),
        ("<SMILES> CCO </SMILES>", "smiles", "CCO"),
        ("<plan>\n(walk)\n</plan>\nIt works.", "plan", "(walk)"),
        ("<b>[a-z]*</b>", "regex", "<b>[a-z]*</b>"),
        ("", "sql", ""),
        ("```\n```", "sql", ""),
    ],
)
def test_program_is_found(reply: str, family: str, expected: str) -> None:
    assert program(reply, family) == expected


@pytest.mark.parametrize(
    ("family", "text"),
    [
        ("python", "answer = None\n\nfor n in range(9):\n    answer = n"),
        ("python", "answer = 5\nanswer = 7"),
        ("python", "def solution():\n    a = 1\n\n    return a"),
        ("python", "answer = max(\n\n    1,\n    2,\n)"),
        ("csp", "Domain: 1..3\n\nVariables: a, b\n\nConstraints:\na < b\n\nQuery:\nA) a == 1\nB) b == 1"),
        ("mrl", "query(area(keyval('name','Bonn')),\n\nnwr(keyval('amenity','cafe')),qtype(count))"),
        ("scene", "scene -> unique\n\n-> query color"),
        ("geometry", "Square(A, B, C, D)\n\nFind(AreaOf(Square(A, B, C, D)))"),
        ("cogs", "cat ( x _ 1 )\n\nAND see . agent ( x _ 2 , x _ 1 )"),
        ("rules", "P(a)\n\nquery: P(a)"),
        ("sparql", "PREFIX e: <http://e/>\n\nSELECT ?a WHERE { ?a e:b e:c }"),
        ("cypher", "MATCH (a)\n\nWHERE a.x > 1\n\nRETURN a"),
        ("amr", "(a / and\n\n  :op1 (b / boy))"),
        ("lispress", "(Yield\n\n  :output (f))"),
        ("sexpr", "(AND\n\n  Person\n  Place)"),
        ("top", "[IN:GET_WEATHER what is it like\n\n[SL:LOCATION here ] ]"),
        ("calls", "[f(x=1),\n\n g(y=2)]"),
        ("commands", "I_WALK\n\nI_JUMP"),
        ("plan", "(a b)\n\n(c d)"),
        ("triples", "a(b, c)\n\nd(e, f)"),
        ("pddl", "(define (problem p)\n\n (:domain d)\n (:objects a) (:init (on a))\n (:goal (on a)))"),
    ],
)
def test_a_program_is_all_of_a_text_that_parses_and_what_comes_behind_is_cut(family: str, text: str) -> None:
    assert program(text, family) == text
    for prose in ("That is (all.", "\nWhich is (right.\n\nIs it not?", "- One point", "[Note: it is (right]"):
        assert program(f"{text}\n{prose}", family) == text


@pytest.mark.parametrize(
    ("reply", "family", "expected"),
    [
        ("answer = (5\nanswer = 7", "python", "answer = (5\nanswer = 7"),
        ("answer = (5\n\nThat is (wrong", "python", "answer = (5"),
        ("answer = 5\nIt is right.\nanswer = 7", "python", "answer = 5"),
        ("I_WALK\nI, walk", "commands", "I_WALK"),
        ("(walk\n\nThis is my plan.", "plan", "(walk"),
    ],
)
def test_the_longest_beginning_that_parses_is_the_program_else_all_up_to_a_blank_line(
    reply: str, family: str, expected: str
) -> None:
    assert program(reply, family) == expected


@pytest.mark.parametrize(("family", "text"), [("amr", "(b / boy)"), ("sexpr", "(AND Person Place)"), ("fol", "P(a)")])
def test_a_sentence_in_brackets_is_prose(family: str, text: str) -> None:
    assert program(f"{text}\n\n(This is an aside.)", family) == text


@pytest.mark.parametrize(
    ("family", "start", "more"),
    [
        ("amr", "(w / want-01 :ARG0 (b / boy))", ":ARG1 (g / go-02)"),
        ("amr", "(w / want-01)", ")"),
        ("plan", "(a b)\n(c d)", "(e f"),
        ("plan", "(a b)\n(c d)", "c b d"),
        ("plan", "(a b)\n(c d)", "3. a d"),
        ("rules", "all x. (P(x) -> Q(x))\nP(a)\nquery: Q(a)", "~P(a)"),
        ("rules", "all x. (P(x) -> Q(x))\nP(a)\nquery: Q(a)", "all x. (R(x)"),
        ("fol", "all x. (P(x) -> Q(x))", "~P(a"),
        ("fol", "all x. (P(x) -> Q(x))", "∃x (R(x)"),
        ("triples", "a(b, c)", "d(e, f"),
        ("geometry", "Find(x)", "Equals(x, "),
        ("sexpr", "(AND Person Place)", "(JOIN r"),
        ("lispress", "(Yield (f))", "(Yield (g)"),
        ("top", "[IN:GET_WEATHER ]", "[SL:LOCATION here"),
        ("cogs", "cat ( x _ 1 )", "; dog ( x _ 2 )"),
        ("scene", "scene -> filter_shape: cube -> count", "-> exist"),
        ("scene", "scene -> filter_shape: cube -> count", "scene -> count"),
        ("sql", "SELECT a FROM t", ")"),
        ("csp", "Domain: 1..2\nVariables: a, b\nConstraints:\na < b\nQuery:\nA) a == 1\nB) b == 1", "C) a = ("),
        ("bash", "ls -l", "rm -rf x"),
        ("bash", "ls -l", "./run.sh | wc"),
        (
            "pddl",
            "(define (problem p) (:domain d) (:objects a) (:init (on a)) (:goal (on a)))",
            "(:metric minimize (c))",
        ),
    ],
)
def test_what_goes_on_in_the_notation_is_no_prose_to_be_cut(family: str, start: str, more: str) -> None:
    for blank in ("\n", "\n\n"):
        assert program(f"{start}{blank}{more}", family) != start


@pytest.mark.parametrize("family", ["go", "java"])
def test_prose_behind_a_block_is_no_part_of_it(family: str) -> None:
    text = {"go": "func F(a int) int {\n\n\treturn a + 1\n}", "java": "int f(int a) {\n\n  return a + 1;\n}"}[family]
    for prose in ("This adds.", "Explanation: it adds (one.", "The function f adds.\n\nIt is pure."):
        assert program(f"{text}\n\n{prose}", family) == text
        assert program(f"{text}\n \n\n{prose}", family) == text
    assert program(f"{text}\n\nThing g() {{ return 1; }}", family) != text


def test_a_long_text_ends_before_a_blank_line() -> None:
    text = "\n".join(f"x{n} = {n}" for n in range(200))
    assert program(f"{text}\n\nanswer = x1\n\nSo it (is.", "python") == f"{text}\n\nanswer = x1"


def test_an_annotated_answer_is_no_label() -> None:
    assert program("answer: int = 3", "python") == "answer: int = 3"


def test_a_question_quoted_in_a_closed_block_does_not_end_it() -> None:
    text = 'x = """\nQuestion: how many?\n"""\nanswer = 3'
    assert program(f"```python\n{text}\n```", "python") == text


def test_an_indented_block_keeps_its_inner_indentation() -> None:
    assert program("  def f():\n      return 1\n  answer = f()", "python") == "def f():\n    return 1\nanswer = f()"


@given(st.text(alphabet="`~ \nabc:<|>_#", max_size=60))
def test_no_reply_breaks_it_and_twice_is_once_without_fences(reply: str) -> None:
    found = program(reply, "commands")
    assert found == found.strip()
    assert set(found) <= set(reply)
