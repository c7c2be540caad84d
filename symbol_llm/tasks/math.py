"""Word problems to small Python programs that set `answer`.

Seven public sets are read; `generate` writes one- and two-step problems from templates. Programs made from a source's
own formula are kept only if `run`, which knows arithmetic and nothing else, finds the source's answer.
"""

from __future__ import annotations

import ast
import operator
import random
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator

from symbol_llm.errors import InvalidInput
from symbol_llm.records import Problem
from symbol_llm.tasks import Row, Task, read_rows

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


class Gsm8kRow(Row):
    """A row of GSM8K; its steps are not kept."""

    id: str
    question: str
    answer: Annotated[int | float, BeforeValidator(_after_hashes)]

    def parts(self) -> tuple[str, Number | None, str | None]:
        """Return question, answer and formula."""
        return self.question, self.answer, None


class SvampRow(Row):
    """A row of SVAMP."""

    id: str
    Body: str
    Question: str
    Equation: str
    Answer: Annotated[int | float, BeforeValidator(_as_number)]

    def parts(self) -> tuple[str, Number | None, str | None]:
        """Return question, answer and formula."""
        body = self.Body.strip()
        joint = " " if body.endswith((".", "?", "!", ",")) else ", " if self.Question[:1].islower() else ". "
        return f"{body}{joint}{self.Question.strip()}", self.Answer, self.Equation


class AsdivRow(Row):
    """A row of ASDiv."""

    id: str
    Body: str
    Question: str
    Answer: str
    Formula: str

    def parts(self) -> tuple[str, Number | None, str | None]:
        """Return question, answer (None where it is not one number: a name, a time, a ratio, several) and formula."""
        found = re.fullmatch(r"(-?[\d,]*\.?\d+)(?:/(\d+))?(?: ?\([^()]*\))?", self.Answer.strip())
        answer = _tidy(float(found[1].replace(",", "")) / float(found[2] or 1)) if found else None
        without_units = re.sub(r"\([^()]*[a-z][^()]*\)", "", self.Formula)
        return f"{self.Body.strip()} {self.Question.strip()}", answer, without_units.partition("=")[0]


class MawpsRow(Row):
    """A row of the four MAWPS parts."""

    id: str
    input: str
    target: Annotated[int | float, BeforeValidator(_as_number)]

    def parts(self) -> tuple[str, Number | None, str | None]:
        """Return question, answer and formula."""
        return self.input, self.target, None


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
    name: str, kind: type[Gsm8kRow] | type[SvampRow] | type[AsdivRow] | type[MawpsRow], licence: str, citation: str
) -> Task:
    def read(folder: Path) -> Iterator[Problem]:
        for split, row in read_rows(folder, kind):
            question, answer, formula = row.parts()
            yield Problem.of(
                task=name,
                family=FAMILY,
                split=split,
                instruction=INSTRUCTION,
                question=question,
                answer=answer,
                program=program_of(formula, answer) if formula and answer is not None else None,
                source=f"{name} {row.id}",
                licence=licence,
            )

    return Task(name, FAMILY, INSTRUCTION, SHOTS, licence, citation, folder=f"math/{name}", read=read)


# --- generated problems --------------------------------------------------------------------------------------------


class Template(NamedTuple):
    """One kind of word problem."""

    draw: str
    """Quantities in order: `name=low..high`, or `name=arithmetic over earlier ones`."""
    solution: str
    """Lines split by `;` over the quantities; the last sets `answer`."""
    texts: tuple[str, ...]
    """Wordings; `{quantity}`, `{name}`, `{other}`, `{things}`, `{place}` are filled in."""


NAMES = (
    "Ada Ben Cora Dan Ella Finn Gina Hugo Iris Jack Kim Leo Mia Nora Omar Pia Quinn Rosa Sam Tara Uma Vera Will".split()
)
THINGS = "apples marbles stickers books pencils coins shells cards stamps buttons cookies flowers eggs beads".split()
PLACES = "school shop garden library market farm station museum".split()
ASIDES = (
    "It is {aside} degrees outside.",
    "The next bus has the number {aside}.",
    "There are {aside} houses in the street.",
    "It has been raining for {aside} minutes.",
)
ASIDE_SHARE = 0.15

TEMPLATES = (
    Template(
        "left=3..40 eaten=2..25 total=left+eaten",
        "answer = total - eaten",
        (
            "{name} has {total} cookies and eats {eaten} of them. How many cookies are left?",
            "There were {total} plums in a bowl. {name} ate {eaten}. How many plums are still in the bowl?",
        ),
    ),
    Template(
        "first=3..60 second=3..60",
        "answer = first + second",
        (
            "{name} has {first} {things} and {other} has {second}. How many {things} do they have together?",
            "On Monday {name} found {first} {things}, and on Tuesday {second} more. How many {things} is that in all?",
            "A box holds {first} red {things} and {second} blue ones. How many {things} are in the box?",
        ),
    ),
    Template(
        "groups=2..12 each=2..15",
        "answer = groups * each",
        (
            "{name} fills {groups} bags with {each} {things} each. How many {things} is that?",
            "There are {groups} boxes. Every box holds {each} {things}. How many {things} are there?",
            "{name} buys {groups} packs of {things}. A pack has {each} {things}. How many {things} does {name} buy?",
        ),
    ),
    Template(
        "groups=2..9 share=2..15 total=groups*share",
        "answer = total / groups",
        (
            "{groups} friends share {total} {things} equally. How many {things} does each friend get?",
            "{name} puts {total} {things} into {groups} equal piles. How many {things} are in a pile?",
        ),
    ),
    Template(
        "small=3..40 more=2..30",
        "answer = small + more",
        (
            "{name} has {small} {things}. {other} has {more} more than {name}. How many {things} does {other} have?",
            "{other} owns {more} {things} more than {name}, who owns {small}. How many {things} does {other} own?",
        ),
    ),
    Template(
        "fewer=2..20 rest=2..40 large=fewer+rest",
        "answer = large - fewer",
        (
            "{name} has {large} {things}. {other} has {fewer} fewer. How many {things} does {other} have?",
            "{name} read {large} pages and {other} read {fewer} pages less. How many pages did {other} read?",
        ),
    ),
    Template(
        "low=5..60 gap=2..40 high=low+gap",
        "answer = high - low",
        (
            "{name} has {high} {things} and {other} has {low}. How many more {things} does {name} have?",
            "A red rope is {high} m long, a blue rope {low} m. How much longer is the red rope?",
        ),
    ),
    Template(
        "amount=2..40",
        "answer = 2 * amount",
        (
            "{name} has {amount} {things}. {other} has twice as many. How many {things} does {other} have?",
            "Yesterday {name} sold {amount} {things}, today twice that number. How many {things} were sold today?",
        ),
    ),
    Template(
        "half=2..40 total=half*2",
        "answer = total / 2",
        (
            "{name} gives half of {total} {things} to {other}. How many {things} does {other} get?",
            "Half of the {total} children at the {place} are girls. How many girls are there?",
        ),
    ),
    Template(
        "start=10..50 lost=2..9 found=2..20",
        "answer = start - lost + found",
        (
            "{name} had {start} {things}, lost {lost} and then found {found}. How many {things} does {name} have now?",
            "A bus leaves with {start} people. {lost} get off and {found} get on. How many people are on the bus?",
        ),
    ),
    Template(
        "price=2..20 count=2..12",
        "answer = price * count",
        (
            "One ticket costs {price} dollars. How much do {count} tickets cost?",
            "{name} buys {count} hats for {price} dollars each. How many dollars does {name} pay?",
        ),
    ),
    Template(
        "price=2..9 count=2..9 change=1..20 paid=price*count+change",
        "cost = price * count; answer = paid - cost",
        (
            "{name} buys {count} pens for {price} dollars each and pays {paid} dollars. How much change is due?",
            "A cake costs {price} dollars. {name} has {paid} dollars and buys {count}. How many dollars are left?",
        ),
    ),
    Template(
        "speed=20..90 hours=2..9",
        "answer = speed * hours",
        (
            "A train goes {speed} km an hour. How many km does it go in {hours} hours?",
            "{name} drives for {hours} hours at {speed} km per hour. How far does {name} drive?",
        ),
    ),
    Template(
        "speed=10..80 hours=2..8 distance=speed*hours",
        "answer = distance / speed",
        (
            "The {place} is {distance} km away. How many hours does it take at {speed} km an hour?",
            "A boat covers {speed} km an hour. How many hours does it need for {distance} km?",
        ),
    ),
    Template(
        "weeks=2..12 extra=2..6",
        "answer = weeks * 7 + extra",
        (
            "A trip lasts {weeks} weeks and {extra} days. How many days is that?",
            "{name} waits for {weeks} weeks and {extra} more days. How many days does {name} wait?",
        ),
    ),
    Template(
        "hours=2..9 minutes=5..55",
        "answer = hours * 60 + minutes",
        (
            "A film lasts {hours} hours and {minutes} minutes. How many minutes is that?",
            "{name} works for {hours} hours and {minutes} minutes. How many minutes does {name} work?",
        ),
    ),
    Template(
        "dozens=2..12 broken=2..11",
        "answer = dozens * 12 - broken",
        (
            "{name} buys {dozens} dozen eggs, but {broken} are broken. How many good eggs are there?",
            "A baker makes {dozens} dozen rolls and burns {broken} of them. How many rolls are fine?",
        ),
    ),
    Template(
        "width=2..20 length=2..30",
        "answer = length * width",
        (
            "A garden is {width} m wide and {length} m long. What is its area in square metres?",
            "What is the area of a room of {length} m by {width} m in square metres?",
        ),
    ),
    Template(
        "width=2..20 length=2..30",
        "answer = 2 * width + 2 * length",
        (
            "A field is {width} m wide and {length} m long. How long is a fence all around it?",
            "{name} walks once around a square block {length} m by {width} m. How many metres is that?",
        ),
    ),
    Template(
        "groups=2..9 each=3..12 taken=2..5",
        "total = groups * each; answer = total - taken",
        (
            "{name} packs {groups} boxes of {each} {things} and sells {taken} {things}. How many {things} are left?",
            "There are {groups} shelves with {each} {things} each. {taken} {things} are taken away. How many remain?",
        ),
    ),
    Template(
        "groups=2..9 each=2..9 single=2..20",
        "grouped = groups * each; answer = grouped + single",
        (
            "{name} has {groups} bags with {each} {things} in each, and {single} loose {things}. How many in all?",
            "There are {groups} tables for {each} people and {single} single chairs. How many people can sit?",
        ),
    ),
    Template(
        "groups=2..8 share=2..9 kept=2..9 total=groups*share+kept",
        "rest = total - kept; answer = rest / groups",
        (
            "{name} has {total} {things}, keeps {kept} and shares the rest among {groups} friends. How many each?",
            "Of {total} {things}, {kept} are broken. The others go into {groups} equal boxes. How many per box?",
        ),
    ),
    Template(
        "first=2..20 second=2..20 groups=2..6",
        "each = first + second; answer = each * groups",
        (
            "Each of {groups} teams has {first} girls and {second} boys. How many players are there?",
            "There are {groups} jars with {first} green and {second} red beads each. How many beads is that?",
        ),
    ),
    Template(
        "first=2..40 second=2..40 third=2..40",
        "answer = first + second + third",
        (
            "{name} picks {first} pears, {second} plums and {third} figs. How many fruits is that?",
            "A {place} had {first} visitors on Friday, {second} on Saturday and {third} on Sunday. How many in all?",
        ),
    ),
    Template(
        "used=2..15 spilled=2..15 left=2..30 total=used+spilled+left",
        "answer = total - used - spilled",
        (
            "A tank has {total} litres. {used} litres are used and {spilled} are lost. How many litres are left?",
            "{name} has {total} {things}, gives {used} to {other} and loses {spilled}. How many are left?",
        ),
    ),
    Template(
        "small=2..20 times=2..6",
        "large = small * times; answer = small + large",
        (
            "{name} has {small} {things}. {other} has {times} times as many. How many do they have together?",
            "A hen house has {small} cocks and {times} times as many hens. How many birds are there?",
        ),
    ),
    Template(
        "small=2..20 times=2..6",
        "large = small * times; answer = large - small",
        (
            "{name} has {small} {things} and {other} has {times} times as many. How many more does {other} have?",
            "A rope of {small} m and one {times} times as long are compared. How much longer is the second?",
        ),
    ),
    Template(
        "now=8..60 years=2..20",
        "answer = now + years",
        (
            "{name} is {now} years old. How old will {name} be in {years} years?",
            "A tree is {now} years old. What is its age {years} years from now?",
        ),
    ),
    Template(
        "young=4..30 gap=2..20 years=2..12",
        "older = young + gap; answer = older + years",
        (
            "{name} is {young} and {other} is {gap} years older. How old will {other} be in {years} years?",
            "{other} is {gap} years older than {name}, who is {young}. What is the age of {other} in {years} years?",
        ),
    ),
    Template(
        "quarters=5..38 price=quarters/4 count=2..9",
        "answer = price * count",
        (
            "One pear costs {price} dollars. How much do {count} pears cost?",
            "{name} buys {count} rolls at {price} dollars each. How many dollars is that?",
        ),
    ),
    Template(
        "tenths=12..95 first=tenths/10 more=12..80 second=more/10",
        "answer = first + second",
        (
            "{name} runs {first} km and then {second} km. How many km does {name} run?",
            "A bag of rice weighs {first} kg and a bag of salt {second} kg. What do they weigh together?",
        ),
    ),
    Template(
        "tenths=11..60 cut=tenths/10 more=12..60 left=more/10 total=cut+left",
        "answer = total - cut",
        (
            "A rope is {total} m long. {name} cuts off {cut} m. How many metres are left?",
            "A jug holds {total} litres of milk. {name} pours out {cut} litres. How much milk is left?",
        ),
    ),
    Template(
        "rate=5..25 hours=3..9 bonus=5..40",
        "wage = rate * hours; answer = wage + bonus",
        (
            "{name} earns {rate} dollars an hour, works {hours} hours and gets {bonus} dollars extra. How much is it?",
            "A worker gets {rate} dollars per hour for {hours} hours and a gift of {bonus} dollars. How much in all?",
        ),
    ),
    Template(
        "daily=2..20 days=3..14 done=2..9 left=daily*days total=left+done",
        "rest = total - done; answer = rest / daily",
        (
            "A book has {total} pages. {name} has read {done} and now reads {daily} a day. How many days remain?",
            "{name} needs {total} {things}, has {done} and gets {daily} every day. How many days does it take?",
        ),
    ),
    Template(
        "cars=2..15 bikes=2..15",
        "answer = cars * 4 + bikes * 2",
        (
            "There are {cars} cars and {bikes} bicycles at the {place}. How many wheels is that?",
            "{name} washes {cars} cars and {bikes} bicycles. How many wheels do they have?",
        ),
    ),
    Template(
        "cows=2..15 hens=2..15",
        "answer = cows * 4 + hens * 2",
        (
            "{name} counts {cows} cows and {hens} hens on a farm. How many legs do they have?",
            "A farm has {hens} hens and {cows} cows. How many legs is that?",
        ),
    ),
    Template(
        "rate=1..9 price=1..9 percent=rate*10 full=price*10",
        "answer = full * percent / 100",
        (
            "How much is {percent} percent of {full} dollars?",
            "{name} saves {percent} percent of {full} dollars. How many dollars does {name} save?",
        ),
    ),
)


def level_of(template: Template) -> int:
    """Return 1, 2 or 3: how many operators the solution has."""
    return min(len(re.findall(r" [-+*/] ", template.solution)), 3)


def generate(rng: random.Random, level: int) -> Problem:
    """Return one word problem; some open with a number that does not matter."""
    template = rng.choice([template for template in TEMPLATES if level_of(template) == level])
    quantities = _draw(template.draw, rng)
    name, other = rng.sample(NAMES, 2)
    words = {"name": name, "other": other, "things": rng.choice(THINGS), "place": rng.choice(PLACES)}
    text = rng.choice(template.texts)
    if rng.random() < ASIDE_SHARE:
        text = f"{rng.choice(ASIDES)} {text}"
    solution = template.solution.replace("; ", "\n")
    program = re.sub(r"[a-z]\w*", lambda found: str(quantities.get(found[0], found[0])), solution)
    return Problem.of(
        task="word_problems",
        family=FAMILY,
        split="train",
        instruction=INSTRUCTION,
        question=text.format(**quantities, **words, aside=rng.randint(5, 30)),
        answer=run(program)["answer"],
        program=program,
        source="generated",
        licence="Apache-2.0",
    )


def _draw(text: str, rng: random.Random) -> dict[str, Number]:
    values: dict[str, Number] = {}
    for item in text.split():
        name, _, how = item.partition("=")
        low, is_range, high = how.partition("..")
        values[name] = rng.randint(int(low), int(high)) if is_range else run(item, values)[name]
    return values


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
    _public("gsm8k", Gsm8kRow, "MIT", "Cobbe et al. 2021, Training Verifiers to Solve Math Word Problems"),
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
