"""Stories with numbers in them, told sentence by sentence along with the program that answers them.

The value of each name in the program is tracked by plain arithmetic; no program is run here.
"""

from __future__ import annotations

import itertools
import math
import random
from importlib import resources
from typing import NamedTuple

import yaml

_DATA = yaml.safe_load(resources.files("symbol_llm.tasks.math").joinpath("stories.yaml").read_text(encoding="utf-8"))

NAMES, THINGS, PLACES = (_DATA[key].split() for key in ("names", "things", "places"))


def words(rng: random.Random) -> dict[str, str]:
    """Return two names, things and a place, by their placeholders in templates."""
    name, other = rng.sample(NAMES, 2)
    return {"name": name, "other": other, "things": rng.choice(THINGS), "place": rng.choice(PLACES)}


class Told(NamedTuple):
    """A story with its question."""

    text: str
    program: str
    answer: int


def chain(rng: random.Random) -> Told:
    """Return a story of four to six events that change how many things somebody has."""
    filled, amount = words(rng), rng.randint(10, 60)
    texts, formula = [rng.choice(_DATA["starts"]).format(x=amount, **filled)], str(amount)
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
        texts.append(rng.choice(event["texts"]).format(x=x, **filled))
    question = " ".join([*texts, rng.choice(_DATA["ends"]).format(**filled)])
    return Told(question, f"answer = {formula}", amount) if len(texts) > 4 else chain(rng)


class Story:
    """Sentences, and the lines of a program with the value of each name, tracked by plain arithmetic."""

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

    def told(self) -> Told:
        """Return the story so far; the name on the last line becomes `answer`."""
        last = self.lines[-1].partition(" = ")[2]
        return Told(" ".join(self.texts), "\n".join([*self.lines[:-1], f"answer = {last}"]), self.value)


def tell(rng: random.Random, level: int) -> Told:
    """Return a story of one or two steps at level 1, three or four at 2, five or more at 3.

    Every quantity has a name, as in GSM8K.
    """
    story = Story(rng)
    rng.choice((_compare, _shop, _farm, _wages, _trip, _parts))(story, level)
    return story.told()


def _compare(story: Story, level: int) -> None:
    """Tell how many things each of several people has, compared with the person before."""
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
