"""Answers of mathematics against math-verify: where the two differ, `math_verify.csv` says who is right, by hand.

Its columns are what a program answered, gold, our verdict, math-verify's (1: equal), and why ours stands.
"""

import csv
import functools
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from symbol_llm.families.python import same_answer
from symbol_llm.ground.params import Limits

math_verify = pytest.importorskip("math_verify")
pytestmark = pytest.mark.filterwarnings("ignore")

TABLE = Path(__file__).with_name("math_verify.csv")
FORMS = {
    r"2^{10}": ("1024", "1025"),
    r"\frac{3^4-1}{2}": ("40", "39"),
    r"\pi": ("3.141592653589793", "3.14", "22/7"),
    "e^2": ("7.38905609893065", "7.4"),
    r"3\frac{3}{4}": ("3.75", "2.25", "15/4"),
    r"\frac{\sqrt{3}}{2}": (r"\sqrt{3}/2", "0.5", "0.8660254037844386"),
    r"\sqrt[3]{2}": ("2^(1/3)", "1.26"),
    r"90^\circ": ("90", "45"),
    r"50\%": ("50", "0.5", "1/2", "5"),
    r"\$32,348": ("32348", "32,348", "32"),
    r"5\text{ cm}": ("5", "5 m", "15"),
    r"12\text{ square units}": ("12", "144"),
    "3+4i": ("4i+3", "3-4i", "7"),
    "x=3": ("3", "y=3", "x=4"),
    "2x+3y=5": ("4x+6y=10", "2x+3y-5=0", "2x+3y=6"),
    "x<3": ("x>3", r"(-\infty,3)", r"(-\infty,3]"),
    "[0,1)": ("(0,1)", "[0,1]", "(0,1]"),
    "(0,1)": ("[0,1]", "0,1", "(1,0)"),
    "[0,1]": ("[0,1)", "(0,1)"),
    r"x\in[0,1]": ("[0,1]", "[0,2]"),
    r"(-\infty,1)\cup(2,\infty)": (r"(2,\infty)\cup(-\infty,1)", r"(-\infty,1)", r"(-\infty,1]\cup(2,\infty)"),
    "(1,2,3)": ("{1,2,3}", "(3,2,1)", "1,2,3"),
    r"\{1,2\}": ("{2,1}", "2,1", "(2,1)", "(1,2)", r"\{1\}"),
    "1,2": ("2,1", "(1,2)", "1", "1,2,3"),
    r"1\pm\sqrt{2}": (r"1-\sqrt{2},1+\sqrt{2}", r"1+\sqrt{2}"),
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}": (
        r"\begin{bmatrix}1&2\\3&4\end{bmatrix}",
        "[[1,2],[3,4]]",
        "[[1,3],[2,4]]",
    ),
    r"\sum_{k=1}^{5}k": ("15", "14"),
    "5!": ("120", "60"),
    r"\log_2 8": ("3", "2"),
    r"\frac{1}{3}": ("1/3", "0.333333", "0.3333333333333333"),
    "0.33333": ("1/3", "0.333333", "0.3334"),
    r"0.\overline{3}": ("1/3", "0.3", "0"),
    r"\frac12": ("0.5", "1/2", "2"),
    "10,000": ("10000", "10", "1000"),
    "-7": ("-7", "7"),
    "x^2-1": ("(x+1)(x-1)", "x^2+1"),
    r"\frac{2}{x+1}": ("2/(1+x)", "2/x+1"),
    "2ab": ("2ba", "2ac"),
    r"\text{Evelyn}": ("Evelyn", "Briana"),
    "2516_8": ("2516", "2516_8"),
    "1:2": ("1:2", "0.5", "1/2"),
    "3 3/4": ("3.75", "2.25"),
    "x=1,y=2": ("{2,1}", "2,1", "(2,1)", "(1,2)"),
}


def table() -> dict[tuple[str, str], tuple[bool, bool]]:
    with TABLE.open(newline="") as file:
        return {(r["found"], r["gold"]): (r["ours"] == "1", r["theirs"] == "1") for r in csv.DictReader(file)}


def verdicts(found: str, gold: str) -> tuple[bool, bool]:
    """Return ours and math-verify's, each text in the dollar signs that it asks for."""
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    theirs = math_verify.verify(parsed(gold), parsed(found), raise_on_error=False)
    return same_answer(found, gold, Limits(timeout_s=20)), bool(theirs)


@functools.cache
def parsed(text: str) -> list[Any]:
    return list(math_verify.parse(f"${text}$", raise_on_error=False))


def real_golds(folder: Path) -> Iterator[str]:
    """Yield the right options of AQuA-RAT and the answers of ASDiv and TheoremQA as they are written."""
    for name in ("aqua_rat/test", "aqua_rat/train", "asdiv/test", "theoremqa/test"):
        for line in (folder / "math" / f"{name}.jsonl").read_text().splitlines():
            row = json.loads(line)
            right = [option[2:] for option in row.get("options", ()) if option.startswith(f"{row['correct']})")]
            answer = right[0] if right else row.get("Answer")
            if not isinstance(answer, bool) and answer not in (None, ""):
                yield str(answer).strip()


def near(golds: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each gold after itself, its number, another number in its place, and the gold before it."""
    for before, gold in zip(golds, golds[1:], strict=False):
        number = re.search(r"\d+(?:\.\d+)?", gold)
        yield from ((gold, gold), (before, gold))
        if number:
            yield number[0], gold
            yield gold.replace(number[0], str(int(float(number[0])) + 1), 1), gold


def test_the_table_is_what_both_say() -> None:
    rows = table()
    assert len(rows) > 30
    assert {pair: verdicts(*pair) for pair in rows} == rows
    assert all(ours != theirs for ours, theirs in rows.values())


def test_every_disagreement_on_the_forms_of_math_is_in_the_table() -> None:
    found = {(text, gold): verdicts(text, gold) for gold, texts in FORMS.items() for text in (gold, *texts)}
    assert {pair for pair, (ours, theirs) in found.items() if ours != theirs} <= table().keys()
    assert sum(ours and theirs for ours, theirs in found.values()) > 80


def test_every_disagreement_on_real_golds_is_in_the_table(real: Path) -> None:
    golds = list(dict.fromkeys(real_golds(real)))[::6]
    found = {pair: verdicts(*pair) for pair in near(golds)}
    assert {pair for pair, (ours, theirs) in found.items() if ours != theirs} <= table().keys()
    assert sum(ours and theirs for ours, theirs in found.values()) > 100
