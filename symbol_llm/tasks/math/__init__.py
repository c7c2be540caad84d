"""Word problems to small Python programs that set `answer`.

Fourteen public sets are read. Programs made from a source's own formulas are kept only if `arithmetic.run`, which knows
only numbers, gives the source's answer. The options of a multiple-choice question are shown only if the question
mentions them: a program that picks one of five numbers has computed nothing.

Problems are generated from the templates of `math.yaml` (with answers from `run` or ANSWERS, not from the program) and
as the stories of `stories.py`.
"""

from __future__ import annotations

import itertools
import math
import random
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import BeforeValidator

from symbol_llm.ground.files import read_records
from symbol_llm.ground.records import Problem
from symbol_llm.tasks import SPLITS, Generator, Published, Row, Task, read_rows
from symbol_llm.tasks.math.arithmetic import Number, program_of, program_of_steps, run, tidy
from symbol_llm.tasks.math.stories import chain, tell, words

INSTRUCTION = "Write Python that computes the answer. End with: answer = ..."
FAMILY = "python"


# --- public sets ---------------------------------------------------------------------------------------------------


def _after_hashes(text: object) -> Number:
    found = re.search(r"#### (-?[\d,]*\.?\d+)\s*$", text) if isinstance(text, str) else None
    if not found:
        raise ValueError("expected a text that ends with '#### number'")
    return tidy(float(found[1].replace(",", "")))


def _as_number(value: object) -> Number:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number")
    return tidy(value)


class Parts(NamedTuple):
    """The parts of a problem that a row has."""

    question: str
    answer: Any
    program: str | None = None
    context: str = ""


class MathRow(Row):
    """The shared fields of the rows of all sets here."""

    id: str = ""

    def parts(self) -> Parts:
        """Return the parts of a problem that the row has."""
        raise NotImplementedError


class Gsm8kRow(MathRow):
    """A row of GSM8K; its calculations, written between << and >>, make the program."""

    question: str
    answer: Annotated[tuple[str, int | float], BeforeValidator(lambda text: (text, _after_hashes(text)))]

    def parts(self) -> Parts:
        """Return the parts of a problem that the row has."""
        text, answer = self.answer
        return Parts(self.question, answer, program_of_steps(text, answer))


class GsmHardRow(MathRow):
    """A row of GSM-Hard."""

    input: str
    code: str
    target: Annotated[int | float, BeforeValidator(_as_number)]

    def parts(self) -> Parts:
        """Return the parts of a problem that the row has."""
        return Parts(self.input, self.target, self.code.strip())


class SvampRow(MathRow):
    """A row of SVAMP."""

    Body: str
    Question: str
    Equation: str
    Answer: Annotated[int | float, BeforeValidator(_as_number)]

    def parts(self) -> Parts:
        """Return the parts of a problem that the row has."""
        body = self.Body.strip()
        joint = " " if body.endswith((".", "?", "!", ",")) else ", " if self.Question[:1].islower() else ". "
        return _computed(f"{body}{joint}{self.Question.strip()}", self.Answer, self.Equation)


class AsdivRow(MathRow):
    """A row of ASDiv."""

    Body: str
    Question: str
    Answer: str
    Formula: str

    def parts(self) -> Parts:
        """Return the parts; without an answer if it is not one number but a name, a time, a ratio or several."""
        found = re.fullmatch(r"(-?[\d,]*\.?\d+)(?:/(\d+))?(?: ?\([^()]*\))?", self.Answer.strip())
        answer = tidy(float(found[1].replace(",", "")) / float(found[2] or 1)) if found else None
        without_units = re.sub(r"\([^()]*[a-z][^()]*\)", "", self.Formula)
        return _computed(f"{self.Body.strip()} {self.Question.strip()}", answer, without_units.partition("=")[0])


class MawpsRow(MathRow):
    """A row of the four MAWPS parts."""

    input: str
    target: Annotated[int | float, BeforeValidator(_as_number)]

    def parts(self) -> Parts:
        """Return the parts of a problem that the row has."""
        return Parts(self.input, self.target)


class AquaRow(MathRow):
    """A row of AQuA-RAT: options such as `C)15 km`, one of which `correct` names."""

    question: str
    options: list[str]
    correct: str

    def parts(self) -> Parts:
        """Return the parts; the answer is the right option if that is a number."""
        return _of_options(self.question, self.options, self.correct)


class AquaCotRow(MathRow):
    """A row of AQuA-RAT in FLAN's format, with the options in the question after a backslash and an n."""

    question: str
    answer: str

    def parts(self) -> Parts:
        """Return the parts; the answer is the right option if that is a number."""
        question, _, options = self.question.partition("\\nOptions:")
        shown = [option.lstrip("( ") for option in options.split("\\n") if option.strip()]
        return _of_options(question, shown, self.answer.strip("()"))


class MathqaRow(MathRow):
    """A row of MathQA in Python; the answer is in its test."""

    description: str
    canonical_solution: str
    test: str

    def parts(self) -> Parts:
        """Return the parts; the body of the source's function becomes the program."""
        found = re.search(r"compare\(candidate\(\), (.+)\)", self.test)
        program = re.sub(r"\n?return answer\s*$", "", textwrap.dedent(self.canonical_solution)).strip()
        if re.search(r"scipy\.(gcd|lcm)\b", program):  # removed from SciPy; math has the same functions
            program = re.sub(r"\bscipy\b", "math", program)
        return Parts(self.description, tidy(float(found[1])) if found else None, program)


class TheoremqaRow(MathRow):
    """A row of TheoremQA: the answer is a number, a bool, a list of numbers, or the letter of an option."""

    Question: str
    Answer: int | float | bool | str | list[int | float]

    def parts(self) -> Parts:
        """Return the parts of a problem that the row has."""
        return Parts(self.Question, self.Answer)


class CompetitionRow(MathRow):
    """A row of MATH; the answer is in the last box of its solution."""

    problem: str
    solution: str

    def parts(self) -> Parts:
        """Return the parts; without an answer if no program could return the box's content."""
        return Parts(self.problem, value_of_latex(_boxed(self.solution)))


def _computed(question: str, answer: Number | None, formula: str) -> Parts:
    return Parts(question, answer, program_of(formula, answer) if formula and answer is not None else None)


NEEDS_OPTIONS = re.compile(r"\b(following|options?|choices?|which one|which among|except|cannot be|could be)\b", re.I)


def _of_options(question: str, options: list[str], correct: str) -> Parts:
    right = next((option for option in options if option.lstrip().startswith(correct)), "")
    context = f"Options: {'; '.join(options)}" if NEEDS_OPTIONS.search(question) else ""
    return Parts(question.strip(), number_of(re.sub(r"^\s*[A-E]\s*\)\s*", "", right)), context=context)


AMOUNT = re.compile(
    r"(?:Rs\.?|\$|€|£|[xn]\s*=)?\s*(?P<sign>[-–]?)\s*(?:(?P<whole>\d+)\s+(?=\d+/\d))?"
    r"(?P<number>\d{1,3}(?:,\d{2,3})+(?:\.\d+)?|\d*\.?\d+)(?:/(?P<under>[1-9]\d*))?\s*(?P<unit>[a-zA-Z%°$./ ]*)"
)
SCALES = re.compile(r"\b(?:thousand|million|billion|lakh|crore|pi|dozen|am|pm|and|or|to|sqrt|roots?)\b|\bsqr?\d*", re.I)


def number_of(text: str) -> Number | None:
    """Return the only number in `text`, without currency and unit; None if `text` is anything else."""
    found = AMOUNT.fullmatch(text.strip().rstrip("."))
    if not found or SCALES.search(found["unit"]) or re.fullmatch(r"/.*|[^mhsg%°$]", found["unit"]):
        return None
    value = float(found["whole"] or 0) + float(found["number"].replace(",", "")) / float(found["under"] or 1)
    return tidy(-value if found["sign"] else value)


def _boxed(solution: str) -> str:
    start = solution.rfind("\\boxed")
    if start < 0:
        return ""
    text, depth = solution[start + len("\\boxed") :], 0
    for n, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if depth == 0 and sign == "}":
            return text[1:n]
    return text.split()[0].strip("$.{") if text.split() else ""


LATEX = (
    (r"\\(?:left|right|displaystyle|!|,|;|:| )|\\?\$|\\?%|\^\{?\\circ\}?", ""),
    (r"\\(?:text|mbox|mathrm|textbf)\{\s*(?:and|or)\s*\}", ","),
    (r"(?<=[\d})])\s*\\(?:text|mbox|mathrm)\{[^{}]*\}(?:\^\d)?$", ""),
    (r"\\(?:text|mbox|mathrm|textbf)\{([^{}]*)\}", r"\1"),
    (r"\\[dt]frac", r"\\frac"),
    (r"\\frac(\d)(\d)", r"((\1)/(\2))"),
    (r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))"),
    (r"\\sqrt\s*(\d|[a-z])", r"sqrt(\1)"),
    (r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)"),
    (r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))"),
    (r"\\cdot|\\times", "*"),
    (r"\\pi", " pi "),
    (r"^[a-zA-Z]\s*(?:=|\\in)", ""),
)
"""Patterns with their replacements in an expression; a text that still has a backslash after these is not one."""


def value_of_latex(text: str) -> int | float | str | list[Any] | None:
    """Return a LaTeX answer as a number, an expression, a word or a list of these; None if it is none of them."""
    for pattern, replacement in LATEX:
        text = re.sub(pattern, replacement, text)
    text = text.replace("{", "(").replace("}", ")").strip().rstrip(".")
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?|-?\d*\.?\d+", text):
        return tidy(float(text.replace(",", "")))
    if found := re.fullmatch(r"(-?)\(\((-?\d+)\)/\((\d+)\)\)", text):
        return f"{found[1]}{found[2]}/{found[3]}"
    if "," in text and re.fullmatch(r"\(.*\)|[^()]*", text):
        items = [value_of_latex(item) for item in text.removeprefix("(").removesuffix(")").split(",")]
        return None if None in items else items
    if re.fullmatch(r"\(?[A-Za-z][A-Za-z ]*\)?", text):
        return text.strip("() ")
    text = re.sub(r"(?<=[\d)])\s*(?=[a-z(])|(?<=[a-z])\s+(?=[a-z(\d])|(?<=\bpi)(?=[(\d])", "*", text)
    return text if text and re.fullmatch(r"[\w\s+\-*/^().]{1,200}", text) else None


def _public(
    name: str,
    kind: type[MathRow],
    licence: str,
    citation: str,
    *,
    folder: str | None = None,
    generate: Generator | None = None,
    published: Published | None = None,
    evaluation_only: bool = False,
) -> Task:
    def read(folder: Path) -> Iterator[Problem]:
        files = [folder / f"{split}.jsonl" for split in SPLITS]
        tests = ((None, row) for file in files if file.is_file() for row in read_records(file, kind))
        for n, (split, row) in enumerate(tests if evaluation_only else read_rows(folder, kind)):
            parts = row.parts()
            yield Problem.of(
                task=name,
                family=FAMILY,
                split=split or "test",
                instruction=INSTRUCTION,
                context=parts.context,
                question=parts.question,
                answer=parts.answer,
                program=parts.program,
                source=f"{name} {row.id or n}",
                licence=licence,
            )

    return Task(
        name,
        FAMILY,
        INSTRUCTION,
        SHOTS,
        licence,
        citation,
        folder=folder or f"math/{name}",
        read=read,
        generate=generate,
        published=published,
        evaluation_only=evaluation_only,
    )


# --- generated problems --------------------------------------------------------------------------------------------


class Template(NamedTuple):
    """One kind of word problem."""

    draw: str
    """Quantities in order: `name=low..high`, or `name=arithmetic over earlier ones`."""
    solution: str
    """Lines over the quantities, separated by `;`; the last sets `answer`."""
    texts: tuple[str, ...]
    """Wordings; `{quantity}`, `{name}`, `{other}`, `{things}`, `{place}` are filled in."""
    level: int


def _template(row: Mapping[str, Any]) -> Template:
    level = row.get("level") or min(len(re.findall(r" [-+*/] ", row["solution"])), 3)
    return Template(row["draw"], row["solution"], tuple(row["texts"]), level)


_DATA = yaml.safe_load(resources.files("symbol_llm.tasks.math").joinpath("math.yaml").read_text(encoding="utf-8"))
TEMPLATES = tuple(_template(row) for row in _DATA["word_problems"])
"""Their level is the number of operators in the solution, at most 3."""
AQUA = tuple(_template(row) for row in _DATA["aqua"])
ASIDE_SHARE = 0.15


def generate(rng: random.Random, level: int) -> Problem:
    """Return one word problem, at level 3 mostly a chain of events; some begin with an irrelevant number."""
    if level == 3 and rng.random() < 0.7:
        return _generated("word_problems", *chain(rng))
    question, program, result = _fill([template for template in TEMPLATES if template.level == level], rng)
    if rng.random() < ASIDE_SHARE:
        question = f"{rng.choice(_DATA['asides']).format(aside=rng.randint(5, 30))} {question}"
    return _generated("word_problems", question, program, result)


def generate_gsm8k(rng: random.Random, level: int) -> Problem:
    """Return a story of one or two steps at level 1, three or four at 2, five or more at 3."""
    return _generated("gsm8k", *tell(rng, level))


def generate_aqua(rng: random.Random, level: int) -> Problem:
    """Return a problem on percentages, ratios, speed, work, interest, mixtures or averages."""
    return _generated("aqua", *_fill([template for template in AQUA if template.level == level], rng))


def _generated(task: str, question: str, program: str, answer: Any) -> Problem:
    return Problem.of(
        task=task,
        family=FAMILY,
        split="train",
        instruction=INSTRUCTION,
        question=question,
        answer=answer,
        program=program,
        source="generated",
        licence="Apache-2.0",
    )


def _fill(templates: list[Template], rng: random.Random) -> tuple[str, str, Number]:
    """Return question, program and answer of one of `templates`."""
    template = rng.choice(templates)
    quantities = draw(template.draw, rng)
    solution = template.solution.replace("; ", "\n")
    program = re.sub(r"[a-z]\w*", lambda found: str(quantities.get(found[0], found[0])), solution)
    return rng.choice(template.texts).format(**quantities, **words(rng)), program, run(program)["answer"]


def draw(text: str, rng: random.Random) -> dict[str, Number]:
    """Return a value for each quantity of a template's `draw`."""
    values: dict[str, Number] = {}
    for item in text.split():
        name, _, how = item.partition("=")
        low, is_range, high = how.partition("..")
        values[name] = rng.randint(int(low), int(high)) if is_range else run(item, values)[name]
    return values


# --- mathematics, as in MATH -----------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """One kind of mathematical problem: like a template, but with a whole program; `kind` is its key in ANSWERS."""

    kind: str
    level: int
    draw: str
    program: str
    texts: list[str]


MATH = tuple(Kind(**row) for row in _DATA["math"])


def generate_math(rng: random.Random, level: int) -> Problem:
    """Return a problem of algebra, number theory, counting or geometry; programs of level 3 mostly loop."""
    kind = rng.choice([kind for kind in MATH if kind.level == level])
    v = draw(kind.draw, rng)
    return _generated("math", rng.choice(kind.texts).format(**v), kind.program.format(**v), ANSWERS[kind.kind](**v))


def _choices(n: int, k: int) -> int:
    return math.prod(range(n - k + 1, n + 1)) // math.factorial(k)


def _in_base(n: int, base: int) -> str:
    return _in_base(n // base, base) + str(n % base) if n else ""


def _halvings(n: int) -> int:
    return 0 if n == 1 else 1 + _halvings(3 * n + 1 if n % 2 else n // 2)


def _walks(w: int, h: int, x: int, y: int) -> int:
    ways = {(0, 0): 1}
    for i, j in itertools.product(range(w + 1), range(h + 1)):
        ways[i, j] = 0 if (i, j) == (x, y) else ways.get((i - 1, j), 0) + ways.get((i, j - 1), 0) + (i == j == 0)
    return ways[w, h]


ANSWERS: Mapping[str, Callable[..., Any]] = {
    "value": lambda a, x, b: sum([x] * a, b),
    "x": lambda x, **_: x,
    "s": lambda s, **_: s,
    "remainder": lambda n, d: n - d * (n // d),
    "factorial": lambda n: math.prod(range(1, n + 1)),
    "choose": _choices,
    "gcd": lambda a, b, **_: max(d for d in range(1, a + 1) if a % d == b % d == 0),
    "lcm": lambda a, b: next(m for m in range(a, a * b + 1, a) if m % b == 0),
    "sum_to": lambda n: n * (n + 1) // 2,
    "root": lambda r, **_: r,
    "triangle": lambda a, b: 180 - (a + b),
    "polygon": lambda n: n * 180 - 360,
    "product": lambda a, b, c: len(list(itertools.product(range(a), range(b), range(c)))),
    "power": lambda a, n: math.prod([a] * n),
    "nth": lambda a, d, n: list(itertools.islice(itertools.count(a, d), n))[-1],
    "series": lambda a, d, n: sum(itertools.islice(itertools.count(a, d), n)),
    "committee": lambda a, b, m, n: _choices(a, m) * _choices(b, n),
    "repeats": lambda n, k, **_: math.prod(range(k + 1, n + 1)),
    "power_mod": lambda a, n, m: a**n % m,
    "geometric": lambda a, r, n: a * (r**n - 1) // (r - 1),
    "distance": lambda dx, dy, **_: tidy(math.hypot(dx, dy)),
    "both_red": lambda r, t, **_: str(Fraction(_choices(r, 2), _choices(t, 2))),
    "coefficient": lambda n, k, a: _choices(n, k) * a**k,
    "nested": lambda a, b, c, x: a * (x * x + c) - b,
    "multiples": lambda n, a, b: n // a + n // b - n // math.lcm(a, b),
    "primes": lambda n: sum(set(range(2, n)) - {i * j for i in range(2, n) for j in range(2, n // i + 1)}),
    "divisors": lambda n, **_: sum(1 + (d * d < n) for d in range(1, math.isqrt(n) + 1) if n % d == 0),
    "congruent": lambda a, b, n, **_: n % math.lcm(a, b) or math.lcm(a, b),
    "digit_sum": lambda a, n: sum(map(int, str(a**n))),
    "solutions": lambda a, b, n: sum((n - a * x) % b == 0 for x in range(1, (n - 1) // a + 1)),
    "recurrence": lambda x, a, b, n: a ** (n - 1) * x + b * (a ** (n - 1) - 1) // (a - 1),
    "digits": lambda s: sum(1 <= s - i - j <= 9 for i in range(10) for j in range(10)),
    "dice": lambda n, s: max(0, min(s - 1, 2 * n + 1 - s)),
    "zeros": lambda n: sum(n // 5**k for k in range(1, 6)),
    "base": lambda n, b: sum(map(int, _in_base(n, b))),
    "paths": lambda w, h, x, y, **_: _walks(w, h, x, y),
    "coprime": lambda n, m: sum(not any(i % d == m % d == 0 for d in range(2, m + 1)) for i in range(1, n + 1)),
    "halving": _halvings,
    "subsets": lambda n, s: sum(
        sum(some) == s for k in range(n + 1) for some in itertools.combinations(range(1, n + 1), k)
    ),
}
"""The answer of each kind from its quantities, computed in another way than by its program."""

SHOTS = (
    ("", "Paul has 14 pens. He buys 9 more. How many pens does he have?", "answer = 14 + 9"),
    ("", "Tom had 31 apples. He gave 12 apples to Sam. How many apples does Tom have left?", "answer = 31 - 12"),
    ("", "4 girls share 36 sweets equally. How many sweets does each girl get?", "answer = 36 / 4"),
    ("", "A box holds 8 cups. How many cups are in 6 boxes?", "answer = 8 * 6"),
    (
        "",
        "Mia has 5 bags with 7 shells each. She loses 3 shells. How many shells are left?",
        "answer = 5 * 7 - 3",
    ),
)
"""One expression each: if programs name every quantity, the 135M model gets only a third as many right."""
PAL = "Gao et al. 2023, PAL; Koncel-Kedziorski et al. 2016, MAWPS"
MAWPS_LICENCE = "Apache-2.0 (repository); problems of MAWPS"

TASKS = (
    Task("word_problems", FAMILY, INSTRUCTION, SHOTS, "Apache-2.0", "written for this project", generate=generate),
    _public(
        "gsm8k",
        Gsm8kRow,
        "MIT",
        "Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems",
        generate=generate_gsm8k,
        published=Published(31, "BLEU", 8453, 100),
    ),
    _public(
        "aqua",
        AquaRow,
        "Apache-2.0",
        "Ling et al. 2017, Program Induction by Rationale Generation",
        folder="math/aqua_rat",
        generate=generate_aqua,
        published=Published(32, "BLEU", 31144, 100),
    ),
    _public(
        "math",
        CompetitionRow,
        "MIT (code; the problems' rights are disputed)",
        "Hendrycks et al. 2021, Measuring Mathematical Problem Solving With the MATH Dataset",
        generate=generate_math,
        published=Published(33, "BLEU", 4426, 100),
    ),
    _public("aqua_cot", AquaCotRow, "Apache-2.0", "Ling et al. 2017; in the form of FLAN, Longpre et al. 2023"),
    _public("gsm_hard", GsmHardRow, "Apache-2.0; questions of GSM8K, MIT", PAL, evaluation_only=True),
    _public("mathqa_python", MathqaRow, "CC BY 4.0", "Amini et al. 2019, MathQA; Athiwaratkun et al. 2023, MXEval"),
    _public("theoremqa", TheoremqaRow, "MIT", "Chen et al. 2023, TheoremQA", evaluation_only=True),
    _public(
        "svamp", SvampRow, "MIT", "Patel et al. 2021, Are NLP Models really able to Solve Simple Math Word Problems?"
    ),
    _public(
        "asdiv", AsdivRow, "CC BY-NC 4.0", "Miao et al. 2020, A Diverse Corpus for Evaluating Math Word Problem Solvers"
    ),
    _public("singleop", MawpsRow, MAWPS_LICENCE, PAL),
    _public("addsub", MawpsRow, MAWPS_LICENCE, PAL),
    _public("singleeq", MawpsRow, MAWPS_LICENCE, PAL),
    _public("multiarith", MawpsRow, MAWPS_LICENCE, PAL),
)
