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
        ("Final answer:\nI_WALK", "commands", "I_WALK"),
        ("SQL: SELECT 1", "sql", "SELECT 1"),
        ("Answer:\nanswer = 1", "python", "answer = 1"),
        ("Here is the program:\nanswer = 1", "python", "answer = 1"),
        ("I_WALK\nQuestion: jump\nI_JUMP", "commands", "I_WALK"),
        ("I_WALK<|im_end|>\nI_JUMP", "commands", "I_WALK"),
        ("I_WALK</s>", "commands", "I_WALK"),
        ("<think>maybe ```I_JUMP```</think>\nI_WALK", "commands", "I_WALK"),
        ("P(a)\nquery: P(a)", "rules", "P(a)\nquery: P(a)"),
        ("", "sql", ""),
        ("```\n```", "sql", ""),
    ],
)
def test_program_is_found(reply: str, family: str, expected: str) -> None:
    assert program(reply, family) == expected


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
