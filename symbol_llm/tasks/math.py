"""Mathematics in words to small Python programs that set `answer`.

Fourteen public sets are read. Programs made from a source's own formulas are kept only if `run`, which knows arithmetic
and nothing else, finds the source's answer. The options of a multiple choice are not shown unless the question speaks
of them: a program that names one of five numbers has computed nothing.

Problems are generated from the templates of `math.yaml` (their answers by `run` or by ANSWERS, not by the program) and
as stories, told sentence by sentence beside the program.
"""

from __future__ import annotations

import ast
import itertools
import math
import operator
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

from symbol_llm.errors import InvalidInput
from symbol_llm.files import read_records
from symbol_llm.records import Problem
from symbol_llm.tasks import Generator, Published, Row, Task, read_rows

Number = int | float

INSTRUCTION = "Write Python that computes the answer. End with: answer = ..."
FAMILY = "python"
TOLERANCE = 1e-4
OPERATORS: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def run(program: str, names: Mapping[str, Number] | None = None) -> dict[str, Number]:
    """Return what every name holds after the assignments of `program`; InvalidInput if it is more than arithmetic."""
    values = dict(names or {})
    try:
        lines = ast.parse(program).body
    except SyntaxError as e:
        raise InvalidInput(f"program {program!r}: {e.msg}") from e
    for line in lines:
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                values[name] = _value(value, values)
            case _:
                raise InvalidInput(f"program {program!r}: expected lines of the form name = arithmetic")
    return values


def _value(node: ast.expr, values: Mapping[str, Number]) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            try:
                return _tidy(OPERATORS[type(op)](_value(left, values), _value(right, values)))
            except ZeroDivisionError as e:
                raise InvalidInput(f"{ast.unparse(node)!r}: divides by zero") from e
    raise InvalidInput(f"{ast.unparse(node)!r}: expected numbers, known names and + - * / // %")


def _tidy(number: Number) -> Number:
    """Return `number` as an int if it is whole, else without the noise of binary fractions."""
    return int(number) if number == int(number) else round(number, 10)


# --- public sets ---------------------------------------------------------------------------------------------------


def _after_hashes(text: object) -> Number:
    found = re.search(r"#### (-?[\d,]*\.?\d+)\s*$", text) if isinstance(text, str) else None
    if not found:
        raise ValueError("expected a text that ends with '#### number'")
    return _tidy(float(found[1].replace(",", "")))


def _as_number(value: object) -> Number:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number")
    return _tidy(value)


class Parts(NamedTuple):
    """What a row gives of a problem."""

    question: str
    answer: Any
    program: str | None = None
    context: str = ""


class MathRow(Row):
    """What the rows of all sets here share."""

    id: str = ""

    def parts(self) -> Parts:
        """Return what the row gives of a problem."""
        raise NotImplementedError


class Gsm8kRow(MathRow):
    """A row of GSM8K; its calculations, which stand between << and >>, make the program."""

    question: str
    answer: Annotated[tuple[str, int | float], BeforeValidator(lambda text: (text, _after_hashes(text)))]

    def parts(self) -> Parts:
        """Return what the row gives of a problem."""
        text, answer = self.answer
        return Parts(self.question, answer, program_of_steps(text, answer))


class GsmHardRow(MathRow):
    """A row of GSM-Hard."""

    input: str
    code: str
    target: Annotated[int | float, BeforeValidator(_as_number)]

    def parts(self) -> Parts:
        """Return what the row gives of a problem."""
        return Parts(self.input, self.target, self.code.strip())


class SvampRow(MathRow):
    """A row of SVAMP."""

    Body: str
    Question: str
    Equation: str
    Answer: Annotated[int | float, BeforeValidator(_as_number)]

    def parts(self) -> Parts:
        """Return what the row gives of a problem."""
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
        """Return the parts; no answer where it is not one number: a name, a time, a ratio, several."""
        found = re.fullmatch(r"(-?[\d,]*\.?\d+)(?:/(\d+))?(?: ?\([^()]*\))?", self.Answer.strip())
        answer = _tidy(float(found[1].replace(",", "")) / float(found[2] or 1)) if found else None
        without_units = re.sub(r"\([^()]*[a-z][^()]*\)", "", self.Formula)
        return _computed(f"{self.Body.strip()} {self.Question.strip()}", answer, without_units.partition("=")[0])


class MawpsRow(MathRow):
    """A row of the four MAWPS parts."""

    input: str
    target: Annotated[int | float, BeforeValidator(_as_number)]

    def parts(self) -> Parts:
        """Return what the row gives of a problem."""
        return Parts(self.input, self.target)


class AquaRow(MathRow):
    """A row of AQuA-RAT: options such as `C)15 km`, of which `correct` names one."""

    question: str
    options: list[str]
    correct: str

    def parts(self) -> Parts:
        """Return the parts; the answer is the right option where that is a number."""
        return _of_options(self.question, self.options, self.correct)


class AquaCotRow(MathRow):
    """A row of AQuA-RAT as FLAN has it, the options in the question after a backslash and an n."""

    question: str
    answer: str

    def parts(self) -> Parts:
        """Return the parts; the answer is the right option where that is a number."""
        question, _, options = self.question.partition("\\nOptions:")
        shown = [option.lstrip("( ") for option in options.split("\\n") if option.strip()]
        return _of_options(question, shown, self.answer.strip("()"))


class MathqaRow(MathRow):
    """A row of MathQA in Python; the answer stands in its test."""

    description: str
    canonical_solution: str
    test: str

    def parts(self) -> Parts:
        """Return the parts; the body of the source's function becomes the program."""
        found = re.search(r"compare\(candidate\(\), (.+)\)", self.test)
        program = re.sub(r"\n?return answer\s*$", "", textwrap.dedent(self.canonical_solution)).strip()
        if re.search(r"scipy\.(gcd|lcm)\b", program):  # gone from SciPy, and the same in math
            program = re.sub(r"\bscipy\b", "math", program)
        return Parts(self.description, _tidy(float(found[1])) if found else None, program)


class TheoremqaRow(MathRow):
    """A row of TheoremQA: the answer is a number, a bool, a list of numbers, or the letter of an option."""

    Question: str
    Answer: int | float | bool | str | list[int | float]

    def parts(self) -> Parts:
        """Return what the row gives of a problem."""
        return Parts(self.Question, self.Answer)


class CompetitionRow(MathRow):
    """A row of MATH; the answer stands in the last box of its solution."""

    problem: str
    solution: str

    def parts(self) -> Parts:
        """Return the parts; no answer where the box holds what no program could return."""
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
    """Return the one number in `text`, without currency and unit; None where it is more or less than that."""
    found = AMOUNT.fullmatch(text.strip().rstrip("."))
    if not found or SCALES.search(found["unit"]) or re.fullmatch(r"/.*|[^mhsg%°$]", found["unit"]):
        return None
    value = float(found["whole"] or 0) + float(found["number"].replace(",", "")) / float(found["under"] or 1)
    return _tidy(-value if found["sign"] else value)


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
"""Patterns with what stands for them in an expression; whatever keeps a backslash after these is none."""


def value_of_latex(text: str) -> int | float | str | list[Any] | None:
    """Return a LaTeX answer as a number, an expression, a word or a list of such; None where it is none of these."""
    for pattern, replacement in LATEX:
        text = re.sub(pattern, replacement, text)
    text = text.replace("{", "(").replace("}", ")").strip().rstrip(".")
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?|-?\d*\.?\d+", text):
        return _tidy(float(text.replace(",", "")))
    if found := re.fullmatch(r"(-?)\(\((-?\d+)\)/\((\d+)\)\)", text):
        return f"{found[1]}{found[2]}/{found[3]}"
    if "," in text and re.fullmatch(r"\(.*\)|[^()]*", text):
        items = [value_of_latex(item) for item in text.removeprefix("(").removesuffix(")").split(",")]
        return None if None in items else items
    if re.fullmatch(r"\(?[A-Za-z][A-Za-z ]*\)?", text):
        return text.strip("() ")
    text = re.sub(r"(?<=[\d)])\s*(?=[a-z(])|(?<=[a-z])\s+(?=[a-z(\d])|(?<=\bpi)(?=[(\d])", "*", text)
    return text if text and re.fullmatch(r"[\w\s+\-*/^().]{1,200}", text) else None


def program_of_steps(text: str, answer: Number) -> str | None:
    """Return a line for each calculation `<<formula=result>>`, earlier results by name; None unless they give `answer`."""
    steps = re.findall(r"<<([^=<>]+)=([^<>]+)>>", text)
    lines: list[str] = []
    names: dict[str, str] = {}
    for n, (formula, result) in enumerate(steps):
        named = re.sub(r"(?<![\w.])[\d.]+(?![\w.])", lambda found: names.get(found[0], found[0]), formula)
        names[result.strip()] = f"step{n + 1}"
        try:
            right = ast.unparse(ast.parse(named.strip(), mode="eval"))
        except SyntaxError:
            return None
        lines.append(f"{'answer' if n + 1 == len(steps) else f'step{n + 1}'} = {right}")
    try:
        found = run("\n".join(lines))["answer"] if lines else None
    except (InvalidInput, KeyError):
        return None
    return "\n".join(lines) if found is not None and abs(found - answer) <= TOLERANCE else None


def program_of(formula: str, answer: Number) -> str | None:
    """Return `answer = formula` if that is arithmetic and gives `answer`, else None."""
    try:
        tree = ast.parse(re.sub(r"\b(\d+)\.0\b", r"\1", formula.strip()), mode="eval")
        program = f"answer = {ast.unparse(tree)}"
        value = run(program)["answer"]
    except (SyntaxError, InvalidInput):
        return None
    return program if abs(value - answer) <= TOLERANCE else None


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
        files = [folder / f"{split}.jsonl" for split in ("train", "test")]
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
    """Lines split by `;` over the quantities; the last sets `answer`."""
    texts: tuple[str, ...]
    """Wordings; `{quantity}`, `{name}`, `{other}`, `{things}`, `{place}` are filled in."""
    level: int


def _template(row: Mapping[str, Any]) -> Template:
    level = row.get("level") or min(len(re.findall(r" [-+*/] ", row["solution"])), 3)
    return Template(row["draw"], row["solution"], tuple(row["texts"]), level)


_DATA = yaml.safe_load(resources.files("symbol_llm.tasks").joinpath("math.yaml").read_text(encoding="utf-8"))
NAMES, THINGS, PLACES = (_DATA[key].split() for key in ("names", "things", "places"))
TEMPLATES = tuple(_template(row) for row in _DATA["word_problems"])
"""Their level is how many operators the solution has, 3 if it has more."""
AQUA = tuple(_template(row) for row in _DATA["aqua"])
ASIDE_SHARE = 0.15


def generate(rng: random.Random, level: int) -> Problem:
    """Return one word problem, at level 3 mostly a chain of events; some open with a number that does not matter."""
    if level == 3 and rng.random() < 0.7:
        question, program, answer = _chain(rng)
        return _generated("word_problems", question, program, answer)
    question, program, result = _fill([template for template in TEMPLATES if template.level == level], rng)
    if rng.random() < ASIDE_SHARE:
        question = f"{rng.choice(_DATA['asides']).format(aside=rng.randint(5, 30))} {question}"
    return _generated("word_problems", question, program, result)


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


def _words(rng: random.Random) -> dict[str, str]:
    name, other = rng.sample(NAMES, 2)
    return {"name": name, "other": other, "things": rng.choice(THINGS), "place": rng.choice(PLACES)}


def _fill(templates: list[Template], rng: random.Random) -> tuple[str, str, Number]:
    """Return question, program and answer of one of `templates`."""
    template = rng.choice(templates)
    quantities = draw(template.draw, rng)
    solution = template.solution.replace("; ", "\n")
    program = re.sub(r"[a-z]\w*", lambda found: str(quantities.get(found[0], found[0])), solution)
    return rng.choice(template.texts).format(**quantities, **_words(rng)), program, run(program)["answer"]


def draw(text: str, rng: random.Random) -> dict[str, Number]:
    """Return a value for each quantity of a template's `draw`."""
    values: dict[str, Number] = {}
    for item in text.split():
        name, _, how = item.partition("=")
        low, is_range, high = how.partition("..")
        values[name] = rng.randint(int(low), int(high)) if is_range else run(item, values)[name]
    return values


def _chain(rng: random.Random) -> tuple[str, str, int]:
    """Return a story of four to six events that change how many things somebody has."""
    words, amount = _words(rng), rng.randint(10, 60)
    texts, formula = [rng.choice(_DATA["starts"]).format(x=amount, **words)], str(amount)
    loose = False
    for _ in range(rng.randint(4, 6)):
        event = rng.choice(_DATA["events"])
        sign = event["sign"]
        sizes = [x for x in range(2, min(40, amount)) if sign in "+-" or (x <= 6 and (sign == "*" or amount % x == 0))]
        if not sizes or (sign == "*" and amount > 200):
            continue
        x = rng.choice(sizes)
        formula = f"({formula}) {sign} {x}" if loose and sign in "*/" else f"{formula} {sign} {x}"
        loose = sign in "+-"
        amount = {"+": amount + x, "-": amount - x, "*": amount * x, "/": amount // x}[sign]
        texts.append(rng.choice(event["texts"]).format(x=x, **words))
    question = " ".join([*texts, rng.choice(_DATA["ends"]).format(**words)])
    return (question, f"answer = {formula}", amount) if len(texts) > 4 else _chain(rng)


# --- stories with a name for every quantity, as in GSM8K ------------------------------------------------------------


class Story:
    """Sentences, and beside them the lines of a program with the value of each name, kept by plain arithmetic."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.texts: list[str] = []
        self.lines: list[str] = []
        self.value = 0

    def say(self, *wordings: str) -> None:
        """Add one of the wordings."""
        self.texts.append(self.rng.choice(wordings))

    def let(self, name: str, formula: str, value: int) -> int:
        """Add a line to the program; the last one added is the answer."""
        self.lines.append(f"{name} = {formula}")
        self.value = value
        return value

    def problem(self) -> Problem:
        """Return the problem; the name on the last line becomes `answer`."""
        last = self.lines[-1].partition(" = ")[2]
        return _generated("gsm8k", " ".join(self.texts), "\n".join([*self.lines[:-1], f"answer = {last}"]), self.value)


def generate_gsm8k(rng: random.Random, level: int) -> Problem:
    """Return a story of one or two steps at level 1, three or four at 2, five or more at 3."""
    story = Story(rng)
    rng.choice((_compare, _shop, _farm, _wages, _trip, _parts))(story, level)
    return story.problem()


def _compare(story: Story, level: int) -> None:
    """Tell how many things each of some people has, each compared with the one before."""
    rng = story.rng
    people, things = rng.sample(NAMES, level + 1), rng.choice(THINGS)
    amounts = [story.let(people[0].lower(), str(n := 2 * rng.randint(3, 20)), n)]
    story.say(f"{people[0]} has {n} {things}.", f"{people[0]} collects {things} and owns {n}.")
    for before, person in itertools.pairwise(people):
        k, have = rng.randint(2, 4), amounts[-1]
        x = rng.randint(1, have - 1) if have > 1 else 1
        text, formula, value = rng.choice(
            (
                (f"{x} more {things} than {before}", f"{{}} + {x}", have + x),
                (f"{k} times as many {things} as {before}", f"{k} * {{}}", k * have),
                *[(f"half as many {things} as {before}", "{} / 2", have // 2)] * (have % 2 == 0),
                *[(f"{x} fewer {things} than {before}", f"{{}} - {x}", have - x)] * (have > 1),
            )
        )
        story.say(f"{person} has {text}.", f"{person} owns {text}.")
        amounts.append(story.let(person.lower(), formula.format(before.lower()), value))
    if level == 1:
        story.say(f"How many {things} does {people[-1]} have?")
        return
    total = story.let("total", " + ".join(person.lower() for person in people), sum(amounts))
    if level == 2:
        story.say(f"How many {things} do they have in all?", f"How many {things} is that together?")
        return
    price = rng.randint(2, 9)
    story.say(f"They sell all their {things} for {price} dollars each. How many dollars do they get?")
    story.let("money", f"total * {price}", total * price)


def _shop(story: Story, level: int) -> None:
    """Buy things; from level 2 pay with a note, at level 3 with a discount."""
    rng = story.rng
    name, bought, total = rng.choice(NAMES), [], 0
    things = rng.sample(THINGS, level)
    for thing in things:
        n, price = rng.randint(2, 12), rng.randint(2, 15)
        bought.append(f"{n} {thing} at {price} dollars each")
        total += story.let(thing, f"{n} * {price}", n * price)
    story.say(f"{name} buys {' and '.join(bought)}.", f"In a shop, {name} takes {' and '.join(bought)}.")
    if level == 1:
        story.say("How many dollars is that?", f"How much does {name} pay?")
        return
    story.let("total", " + ".join(things), total)
    if level == 3:
        off = rng.randint(2, total // 2)
        story.say(f"A coupon takes {off} dollars off the bill.", f"The seller lowers the bill by {off} dollars.")
        total = story.let("bill", f"total - {off}", total - off)
    paid = (total // 50 + 1) * 50
    story.say(f"{name} pays with {paid} dollars. How much change is due?", f"How much is left of {paid} dollars?")
    story.let("change", f"{paid} - {'bill' if level == 3 else 'total'}", paid - total)


def _farm(story: Story, level: int) -> None:
    """Make things every day, use some, sell the rest."""
    rng = story.rng
    name, goods = rng.choice(NAMES), rng.choice("loaves pies cakes baskets vases lamps chairs scarves".split())
    workers, each = rng.randint(2, 9), rng.randint(3, 15)
    story.say(f"{name} has {workers} workers who make {each} {goods} each a day.")
    made = story.let("made", f"{workers} * {each}", workers * each)
    if level == 1:
        story.say(f"How many {goods} are made in a day?", f"How many {goods} a day is that?")
        return
    kept, price = rng.randint(1, made - 1), rng.randint(2, 12)
    story.say(f"{kept} of them are given away and the others sold for {price} dollars each.")
    sold = story.let("sold", f"made - {kept}", made - kept)
    money = story.let("money", f"sold * {price}", sold * price)
    if level == 2:
        story.say("How many dollars come in a day?", f"How many dollars does {name} take in every day?")
        return
    days = rng.randint(3, 30)
    rent = rng.randint(5, money * days)
    story.say(f"The workshop costs {rent} dollars of rent. How many dollars remain after {days} days?")
    gained = story.let("income", f"money * {days}", money * days)
    story.let("left", f"income - {rent}", gained - rent)


def _wages(story: Story, level: int) -> None:
    """Earn by the hour, spend, save."""
    rng = story.rng
    name, hours, rate = rng.choice(NAMES), rng.randint(3, 9), rng.randint(8, 30)
    work = rng.choice(("paints fences", "drives a taxi", "teaches piano", "washes cars", "mends shoes", "cuts hair"))
    story.say(f"{name} {work} for {hours} hours a day at {rate} dollars an hour.")
    daily = story.let("daily", f"{hours} * {rate}", hours * rate)
    days = rng.randint(2, 6)
    weekly = story.let("weekly", f"daily * {days}", daily * days)
    if level == 1:
        story.say(f"How many dollars is that in {days} days?", f"What does {name} earn in {days} days?")
        return
    food = rng.randint(5, weekly // 2)
    story.say(f"{name} works {days} days a week and spends {food} dollars a week on food.")
    saved = story.let("saved", f"weekly - {food}", weekly - food)
    weeks = rng.randint(2, 12)
    total = story.let("total", f"saved * {weeks}", saved * weeks)
    if level == 2:
        story.say(f"How many dollars are left after {weeks} weeks?")
        return
    gift, missing = rng.randint(1, 9), rng.randint(10, 500)
    given = story.let("given", f"{gift} * {weeks}", gift * weeks)
    price = total + given + missing
    story.let("missing", f"{price} - total - given", missing)
    story.say(
        f"An uncle adds {gift} dollars a week. A boat costs {price} dollars. How many are missing after {weeks} weeks?"
    )


def _trip(story: Story, level: int) -> None:
    """Travel in stages, each at its own speed."""
    rng = story.rng
    name, ways = rng.choice(NAMES), rng.sample(("cycles", "drives", "sails", "rides a bus", "takes a train"), level)
    legs = []
    for n, way in enumerate(ways):
        hours, speed = rng.randint(2, 6), rng.randint(12, 90)
        story.say(f"{f'Then {name}' if n else name} {way} for {hours} hours at {speed} km an hour.")
        legs.append(story.let(f"leg{n + 1}", f"{hours} * {speed}", hours * speed))
    if level > 1:
        story.let("way", " + ".join(f"leg{n + 1}" for n in range(level)), sum(legs))
    if level < 3:
        story.say("How many km is that in all?", f"How far does {name} travel?")
        return
    pause, back = rng.randint(1, min(legs)), rng.randint(2, 5)
    story.say(f"The way home is {pause} km shorter, and {name} makes the whole round trip {back} times.")
    home = story.let("home", f"way - {pause}", sum(legs) - pause)
    story.say("How many km does that add up to?")
    story.let("all_trips", f"(way + home) * {back}", (sum(legs) + home) * back)


def _parts(story: Story, level: int) -> None:
    """Take a part of something, then a part of the rest."""
    rng = story.rng
    place, people = rng.choice(PLACES), rng.choice("children guests visitors workers runners singers".split())
    parts = [rng.randint(2, 5) for _ in range(level)]
    rest = total = math.prod(parts) * rng.randint(2, 15)
    story.say(f"There are {total} {people} at the {place}.", f"{total} {people} come to the {place}.")
    before, acts = str(total), rng.sample(("leaves by bus", "goes home", "walks away", "is picked up by car"), level)
    for n, (part, act) in enumerate(zip(parts, acts, strict=True)):
        story.say(f"One in {part} of {'the rest' if n else 'them'} {act}.")
        gone = story.let(f"gone{n + 1}", f"{before} / {part}", rest // part)
        rest, before = story.let(f"rest{n + 1}", f"{before} - gone{n + 1}", rest - gone), f"rest{n + 1}"
    story.say(f"How many {people} are left?", f"How many {people} remain?")


# --- mathematics, as in MATH -----------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """One kind of mathematical problem: as a template, but with a whole program, which `kind` answers in ANSWERS."""

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
    "distance": lambda dx, dy, **_: _tidy(math.hypot(dx, dy)),
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
"""The answer of each kind from its quantities, by another way than its program goes."""

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
"""One expression each: of programs with a name for every quantity the 135M model gets a third as many right."""
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
