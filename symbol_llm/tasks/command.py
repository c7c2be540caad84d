"""Commands to action sequences, SCAN, and sentences to logical forms, COGS.

`meaning` is the whole of SCAN's semantics (Lake and Baroni 2018, arXiv 1711.00350). The generator draws from its
grammar: commands of at most 6, 12 or 32 actions by level. `generate_cogs` writes sentence and logical form from one
tree, as Kim and Linzen 2020 do (arXiv 2010.05465), with words of its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Problem
from symbol_llm.tasks import Published, Reader, Row, Task, read_rows

ACTIONS = {"walk": "I_WALK", "look": "I_LOOK", "run": "I_RUN", "jump": "I_JUMP"}
TURNS = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}
TIMES = {"twice": 2, "thrice": 3}
VOCABULARY = [*ACTIONS.values(), *TURNS.values()]
LENGTHS = {1: (3, 4, 6), 2: (8, 12), 3: (16, 24, 32)}
"""Most actions of a generated command, by level; a length is drawn first, so that short commands are as frequent."""

SHOWN = ("jump left", "walk twice after run", "look opposite right", "turn around left and jump")
"""The worked examples, which are never generated."""

INSTRUCTION = f"Translate the command into actions, from: {' '.join(VOCABULARY)}."
LICENCE = "BSD"


class ScanRow(Row):
    """A line of SCAN."""

    id: str
    IN: str
    OUT: str


def scan_reader(name: str, *, all_test: bool = False) -> Reader:
    """Return a reader of a split of SCAN; with `all_test`, every row is a test row, whatever its file."""

    def read(folder: Path) -> Iterator[Problem]:
        for split, row in read_rows(folder, ScanRow):
            fields = {"split": "test" if all_test else split, "source": f"{name} {row.id}", "licence": LICENCE}
            yield _problem(name, row.IN, row.OUT, **fields)

    return read


def generate(rng: random.Random, level: int) -> Problem:
    """Return one command, short ones as often as long ones; half join two parts."""
    longest = rng.choice(LENGTHS[level])
    shortest = 1 if level == 1 else max(LENGTHS[level - 1])
    while True:
        command = _part(rng)
        if rng.random() < 0.5:
            command = f"{command} {rng.choice(('and', 'after'))} {_part(rng)}"
        actions = meaning(command)
        if shortest <= len(actions.split()) <= longest and command not in SHOWN:
            return _problem("scan", command, actions, split="train", source="generated", licence="Apache-2.0")


def meaning(command: str) -> str:
    """Return the actions that `command` stands for; InvalidInput if it is not in SCAN's grammar."""
    for word, order in ((" and ", 1), (" after ", -1)):
        first, found, second = command.partition(word)
        if found:
            return " ".join((_repeated(first), _repeated(second))[::order])
    return _repeated(command)


def _repeated(phrase: str) -> str:
    head, _, last = phrase.rpartition(" ")
    return " ".join([_turned(head.split())] * TIMES[last]) if last in TIMES else _turned(phrase.split())


def _turned(words: list[str]) -> str:
    match words:
        case [verb] if verb in ACTIONS:
            return ACTIONS[verb]
        case [verb, way] if way in TURNS and (verb in ACTIONS or verb == "turn"):
            return " ".join([TURNS[way], *_act(verb)])
        case [verb, "opposite", way] if way in TURNS and (verb in ACTIONS or verb == "turn"):
            return " ".join([TURNS[way], TURNS[way], *_act(verb)])
        case [verb, "around", way] if way in TURNS and (verb in ACTIONS or verb == "turn"):
            return " ".join([TURNS[way], *_act(verb)] * 4)
    raise InvalidInput(f"command {' '.join(words)!r}: not made by SCAN's grammar")


def _act(verb: str) -> list[str]:
    return [] if verb == "turn" else [ACTIONS[verb]]


def _part(rng: random.Random) -> str:
    verb = rng.choice([*ACTIONS, "turn"])
    manner = rng.choice(("", "", "opposite ", "around "))
    words = [verb, manner + rng.choice(list(TURNS))] if verb == "turn" or rng.random() < 0.6 else [verb]
    return " ".join([*words, *rng.choice(([], [], ["twice"], ["thrice"]))])


def _problem(name: str, command: str, actions: str, **fields: str) -> Problem:
    return Problem.of(
        task=name,
        family="commands",
        instruction=INSTRUCTION,
        question=command,
        answer=actions,
        program=actions,
        environment={"vocabulary": VOCABULARY},
        symbols=tuple(VOCABULARY),
        **fields,
    )


# --- COGS -------------------------------------------------------------------------------------------------------------

COGS_INSTRUCTION = (
    "Write the logical form. x _ n is word n of the sentence, from 0; verbs and nouns stand in their base form; names are"
    " written as they are; `* noun ( x _ n ) ;` in front stands for `the`. Roles: agent, theme, recipient, ccomp, xcomp,"
    " nmod . PREPOSITION."
)
NAMES = tuple(
    "Ada Bruno Carla Dmitri Edda Farid Greta Hugo Ingrid Jorge Katya Luis Mara Nadia Otto Petra Quentin Rosa Sven Tilda"
    " Ulf Vera Wanda Xenia Yusuf Zelda Amir Birte Celso Dorit".split()
)
PEOPLE = tuple(
    "baker farmer nurse pilot painter tailor miner sailor singer clerk waiter judge monk poet scout goose hamster donkey"
    " rooster badger raven piglet lizard tortoise beetle spider weasel ferret heron rabbit".split()
)
THINGS = tuple(
    "lantern kettle ribbon basket pillow hammer bottle blanket candle mirror ladder saddle coin brush drum flute kite"
    " marble needle parcel pear plum radish turnip waffle pretzel walnut muffin spoon bucket".split()
)
PLACES = tuple(
    "shelf bench carpet stool crate drawer cabin barn tent wagon garden cellar porch bridge desk sofa counter stove raft"
    " chest".split()
)
TRANSITIVE = {
    "carry": "carried", "clean": "cleaned", "paint": "painted", "find": "found", "hold": "held", "wash": "washed",
    "repair": "repaired", "hide": "hidden hid", "draw": "drawn drew", "study": "studied", "push": "pushed",
    "notice": "noticed", "touch": "touched", "throw": "thrown threw", "steal": "stolen stole", "break": "broken broke",
    "admire": "admired", "drop": "dropped", "buy": "bought", "collect": "collected",
}  # fmt: skip
"""Past participle, then past tense if that is another word."""
GIVING = {"give": "given gave", "send": "sent", "lend": "lent", "hand": "handed", "offer": "offered", "show": "shown showed",
          "sell": "sold", "mail": "mailed", "pass": "passed", "bring": "brought"}  # fmt: skip
ACTING = {"sing": "sang", "dance": "danced", "laugh": "laughed", "walk": "walked", "sneeze": "sneezed", "run": "ran",
          "smile": "smiled", "jog": "jogged", "whistle": "whistled", "swim": "swam"}  # fmt: skip
"""Verbs whose subject is the agent."""
CHANGING = {"shatter": "shattered", "burn": "burned", "roll": "rolled", "freeze": "froze", "grow": "grew", "float": "floated",
            "crumble": "crumbled", "fall": "fell", "bounce": "bounced", "melt": "melted"}  # fmt: skip
"""Verbs whose subject is the theme."""
SAYING = {"say": "said", "believe": "believed", "know": "knew", "hope": "hoped", "think": "thought", "claim": "claimed",
          "dream": "dreamed", "prove": "proved", "declare": "declared", "imagine": "imagined"}  # fmt: skip
WISHING = {
    "want": "wanted",
    "plan": "planned",
    "try": "tried",
    "need": "needed",
    "hope": "hoped",
    "prefer": "preferred",
}
PREPOSITIONS = ("on", "in", "beside")


class CogsRow(Row):
    """A line of COGS."""

    id: str
    sentence: str
    logical_form: str


def read_cogs(folder: Path) -> Iterator[Problem]:
    """Yield the rows of COGS in `folder`."""
    for split, row in read_rows(folder, CogsRow):
        yield _cogs_problem(row.sentence, row.logical_form, split=split, source=f"cogs {row.id}", licence="MIT")


def generate_cogs(rng: random.Random, level: int) -> Problem:
    """Return one sentence: level 1 has at most two things, 2 three or a prepositional phrase, 3 clauses in clauses."""
    writer = _Sentence(rng, phrases=(0, 1, 2)[level - 1])
    writer.clause(depth=(0, 0, rng.choice((1, 2)))[level - 1], giving=level > 1)
    sentence, form = writer.finish()
    return _cogs_problem(sentence, form, split="train", source="generated", licence="Apache-2.0")


def _cogs_problem(sentence: str, form: str, **fields: str) -> Problem:
    text = {"instruction": COGS_INSTRUCTION, "question": sentence, "program": form}
    return Problem.of(task="cogs", family="cogs", **text, **fields)


class _Fact(NamedTuple):
    place: int
    text: str


class _Sentence:
    """Words and facts, written side by side; the position of a word is its variable."""

    def __init__(self, rng: random.Random, phrases: int) -> None:
        self._rng, self._phrases = rng, phrases
        self._words: list[str] = []
        self._definite: list[str] = []
        self._facts: list[_Fact] = []

    def finish(self) -> tuple[str, str]:
        """Return the sentence and its logical form, facts in the order of the words they are about."""
        words = [self._words[0][:1].upper() + self._words[0][1:], *self._words[1:], "."]
        facts = [fact.text for fact in sorted(self._facts, key=lambda fact: fact.place)]
        return " ".join(words), "".join(f"* {text} ; " for text in self._definite) + " AND ".join(facts)

    def clause(self, depth: int, *, giving: bool) -> int:
        """Write a sentence with `depth` clauses inside; return the position of its verb."""
        if depth:
            return self._says(depth, giving=giving)
        kinds = [self._does, self._does, self._acts, self._changes, self._is_done]
        return self._rng.choice([*kinds, self._gives, self._gives, self._wishes] if giving else kinds)()

    def _says(self, depth: int, *, giving: bool) -> int:
        verb, place = self._person_and_verb(SAYING)
        self._words.append("that")
        self._role(verb, place, "ccomp", f"x _ {self.clause(depth - 1, giving=giving)}")
        return place

    def _does(self) -> int:
        verb, place = self._person_and_verb(TRANSITIVE)
        self._role(verb, place, "theme", self._thing(THINGS, with_phrase=True))
        return place

    def _is_done(self) -> int:
        patient = self._thing(THINGS, with_phrase=True)
        self._words.append("was")
        verb, forms = self._rng.choice(list(TRANSITIVE.items()))
        place = self._verb(verb, forms.split()[0], theme=patient)
        if self._rng.random() < 0.5:
            self._words.append("by")
            self._role(verb, place, "agent", self._thing(PEOPLE, may_be_name=True))
        return place

    def _acts(self) -> int:
        return self._person_and_verb(ACTING)[1]

    def _changes(self) -> int:
        verb, past = self._rng.choice(list(CHANGING.items()))
        return self._verb(verb, past, theme=self._thing(THINGS, with_phrase=True))

    def _gives(self) -> int:
        verb, place = self._person_and_verb(GIVING)
        if self._rng.random() < 0.5:
            self._role(verb, place, "recipient", self._thing(PEOPLE, may_be_name=True))
            self._role(verb, place, "theme", self._thing(THINGS, with_phrase=True))
        else:
            self._role(verb, place, "theme", self._thing(THINGS, with_phrase=True))
            self._words.append("to")
            self._role(verb, place, "recipient", self._thing(PEOPLE, may_be_name=True))
        return place

    def _wishes(self) -> int:
        subject = self._thing(PEOPLE, may_be_name=True)
        verb, past = self._rng.choice(list(WISHING.items()))
        place = self._verb(verb, past, agent=subject)
        self._words.append("to")
        self._role(verb, place, "xcomp", f"x _ {len(self._words)}")
        deed = self._rng.choice(list(TRANSITIVE))
        self._role(deed, self._verb(deed, deed, agent=subject), "theme", self._thing(THINGS, with_phrase=True))
        return place

    def _person_and_verb(self, verbs: Mapping[str, str]) -> tuple[str, int]:
        """Write a subject that is the agent and a verb in the past tense; return the verb and its position."""
        subject = self._thing(PEOPLE, may_be_name=True)
        verb, forms = self._rng.choice(list(verbs.items()))
        return verb, self._verb(verb, forms.split()[-1], agent=subject)

    def _verb(self, verb: str, form: str, **roles: str) -> int:
        place = len(self._words)
        self._words.append(form)
        for role, who in roles.items():
            self._role(verb, place, role, who)
        return place

    def _role(self, verb: str, place: int, role: str, who: str) -> None:
        self._facts.append(_Fact(place, f"{verb} . {role} ( x _ {place} , {who} )"))

    def _thing(self, nouns: tuple[str, ...], *, may_be_name: bool = False, with_phrase: bool = False) -> str:
        """Write a noun phrase and return its name or variable."""
        if may_be_name and self._rng.random() < 0.5:
            self._words.append(self._rng.choice(NAMES))
            return self._words[-1]
        noun = self._rng.choice(nouns)
        definite = self._rng.random() < 0.5
        self._words += ["the" if definite else "a", noun]
        place = len(self._words) - 1
        fact = f"{noun} ( x _ {place} )"
        if definite:
            self._definite.append(fact)
        else:
            self._facts.append(_Fact(place, fact))
        if with_phrase and self._phrases and self._rng.random() < 0.7:
            self._phrases -= 1
            preposition = self._rng.choice(PREPOSITIONS)
            self._words.append(preposition)
            where = self._thing(PLACES, with_phrase=True)
            self._facts.append(_Fact(place, f"{noun} . nmod . {preposition} ( x _ {place} , {where} )"))
        return f"x _ {place}"


SCAN_SHOTS = tuple(("", command, meaning(command)) for command in SHOWN)
SCAN_CITATION = "Lake and Baroni 2018, Generalization without Systematicity"

TASKS = (
    Task(
        "scan",
        "commands",
        INSTRUCTION,
        environment={"vocabulary": VOCABULARY},
        shots=SCAN_SHOTS,
        licence=LICENCE,
        citation=SCAN_CITATION,
        folder="command/scan",
        read=scan_reader("scan"),
        generate=generate,
        published=Published(19, "EM", 25990, 4182),
    ),
    Task(
        "scan_length",
        "commands",
        INSTRUCTION,
        shots=SCAN_SHOTS,
        licence=LICENCE,
        citation=SCAN_CITATION,
        folder="command/scan_length",
        read=scan_reader("scan_length", all_test=True),
        evaluation_only=True,
    ),
    Task(
        "cogs",
        "cogs",
        COGS_INSTRUCTION,
        shots=(
            (
                "",
                "Tom kicked the ball .",
                "* ball ( x _ 3 ) ; kick . agent ( x _ 1 , Tom ) AND kick . theme ( x _ 1 , x _ 3 )",
            ),
            (
                "",
                "A vase on the table fell .",
                "* table ( x _ 4 ) ; vase ( x _ 1 ) AND vase . nmod . on ( x _ 1 , x _ 4 )"
                " AND fall . theme ( x _ 5 , x _ 1 )",
            ),
            (
                "",
                "Eva heard that a cup was given to Tom .",
                "hear . agent ( x _ 1 , Eva ) AND hear . ccomp ( x _ 1 , x _ 6 )"
                " AND cup ( x _ 4 ) AND give . theme ( x _ 6 , x _ 4 ) AND give . recipient ( x _ 6 , Tom )",
            ),
            (
                "",
                "The cook wished to leave .",
                "* cook ( x _ 1 ) ; wish . agent ( x _ 2 , x _ 1 ) AND wish . xcomp ( x _ 2 , x _ 4 )"
                " AND leave . agent ( x _ 4 , x _ 1 )",
            ),
        ),  # fmt: skip
        licence="MIT",
        citation="Kim and Linzen 2020, COGS",
        folder="command/cogs",
        read=read_cogs,
        generate=generate_cogs,
    ),
)
