"""An exploration in shards that are merged has the bytes of one in a piece, whatever the number of shards; mixtures are refused."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from symbol_llm import stages
from symbol_llm.engines import Ended, Request
from symbol_llm.engines.fake import FakeEngine
from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.files import Ledger
from symbol_llm.ground.params import Collect, Explore, Select
from symbol_llm.ground.problems import read_problems
from symbol_llm.ground.records import Messages, Problem
from symbol_llm.ground.shards import WHOLE, Shard
from symbol_llm.training.explore import Explored, explore
from tests.test_stages import checkpoint, learner

EXPLORE = Explore(engine="fake", k=2, batch=2, redraws=2, copies=2, hint=True)
"""Two problems a group."""
QUICK = Explore(engine="fake", k=1, batch=1, refine=False)
OTHER = Explore(engine="fake", k=1, batch=1, refine=False, seed=1)
FILES = ("candidates.jsonl", "verdicts.jsonl", stages.COPIES)
N = 9

Make = Callable[..., Problem]
Inputs = tuple[Path, Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder with nine problems, five groups, a checkpoint that writes wrong and right programs, and an exploration."""
    folder = tmp_path_factory.mktemp("merge")
    counts = {"n_train": N // 3, "n_dev": 1, "n_test": 2, "n_general": 2}
    tasks = ("scan", "word_problems", "gqa")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYMBOL_LLM_HOME", str(folder / "home"))
        stages.collect(folder / "collection", Collect(tasks=tasks, levels=(1,), evolved_share=0, **counts))
        problems = read_problems(folder / "collection", "train")
        assert len(problems) == N
        checkpoint(folder / "weights", learner([p for p in problems if p.task != "gqa"]))
        stages.explore(folder / "collection", folder / "weights", folder / "whole", EXPLORE)
    yield folder


@pytest.fixture
def inputs(made: Path, home: Path) -> Inputs:
    """Give the collection and the checkpoint, with state of the test's own."""
    return made / "collection", made / "weights"


def shards(inputs: Inputs, folder: Path, n: int, params: Explore = EXPLORE) -> tuple[Path, ...]:
    made = [Shard(number, n) for number in range(1, n + 1)]
    for shard in made:
        stages.explore(*inputs, folder / f"{shard.number}-{n}", params, shard)
    return tuple(folder / f"{shard.number}-{n}" for shard in made)


def bytes_of(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_merged_shards_have_the_bytes_of_one_exploration(inputs: Inputs, tmp_path: Path, n: int) -> None:
    whole = inputs[0].parent / "whole"
    numbers = files.read_json(whole / files.MANIFEST)["metrics"]
    assert numbers["n_copies"] > 2
    folders = shards(inputs, tmp_path, n)
    merged = stages.merge(folders[::-1], tmp_path / "merged")
    assert bytes_of(tmp_path / "merged") == bytes_of(whole)
    assert merged == numbers
    assert merged["n_problems"] == N
    found = [files.read_json(folder / files.MANIFEST)["metrics"]["n_problems"] for folder in folders]
    assert found == {1: [9], 2: [5, 4], 3: [4, 3, 2], 7: [2, 2, 2, 2, 1, 0, 0]}[n]


def test_what_follows_takes_merged_shards_as_it_takes_one_exploration(inputs: Inputs, tmp_path: Path) -> None:
    stages.merge(shards(inputs, tmp_path, 2), tmp_path / "merged")
    made = []
    for n, explored in enumerate((inputs[0].parent / "whole", tmp_path / "merged")):
        stages.select(inputs[0], explored, out := tmp_path / f"selected {n}", Select(), round_=1)
        made.append([(out / name).read_bytes() for name in ("pool.jsonl", "training_set.jsonl")])
    assert made[0] == made[1]
    assert all(made[0])


def test_each_shard_has_a_ledger_of_its_own_which_goes_when_it_is_merged(inputs: Inputs, tmp_path: Path) -> None:
    folders = shards(inputs, tmp_path, 3, QUICK)
    ledgers = outputs.state_dir() / outputs.LEDGERS
    assert len(list(ledgers.iterdir())) == 3
    stages.merge(folders, tmp_path / "merged")
    assert list(ledgers.iterdir()) == []


class Moody(FakeEngine):
    """An engine whose replies depend on all of a request, as those of a real one do: its seed, and who else is in it."""

    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        for number, request in enumerate(requests):
            self.write = self.mood(random.Random(f"{request.seed}:{request.prompts}"))
            for ended in super().stream([request]):
                yield ended._replace(request=number)

    @staticmethod
    def mood(rng: random.Random) -> Callable[[Messages, int], str]:
        return lambda messages, index: rng.choice(["I_WALK", "I_JUMP", "I_WALK I_JUMP", "hop"])


@pytest.mark.parametrize("n", [2, 3])
def test_a_shard_takes_whole_requests(tmp_path: Path, problem: Make, n: int) -> None:
    """An engine draws for a request as a whole, so that dividing one would change its replies."""
    problems = [
        problem(f"walk and jump {i}", "I_WALK I_JUMP", task="scan", family="commands", instruction="Write.")
        for i in range(11)
    ]

    def found(shard: Shard) -> Explored:
        with Ledger(tmp_path / str(shard).replace("/", "-")) as ledger:
            return explore(problems, Moody(lambda messages, index: ""), ledger, Explore(k=2, batch=3), shard)

    def rows(explored: Explored) -> set[str]:
        return {row.model_dump_json() for kind in explored.ordered() for row in kind}

    parts = [found(Shard(number, n)) for number in range(1, n + 1)]
    assert sum(len(part.problems) for part in parts) == len(problems)
    assert set().union(*map(rows, parts)) == rows(found(WHOLE))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ((), "no shards"),
        (("1-3", "3-3"), "shards 1/3, 3/3: expected each of 1/3 to 3/3 once"),
        (("1-3", "2-3", "2-3", "3-3"), "shards 1/3, 2/3, 2/3, 3/3: expected each of 1/3 to 3/3 once"),
        (("1-2", "2-2", "3-3"), "shards 1/2, 2/2, 3/3: expected each of 1/2 to 2/2 once"),
        (("1-2", "other/2-2"), "of another exploration"),
        (("1-2", "collection"), "holds the output of the stage 'collect', not of 'explore'"),
        (("1-2", "weights"), "expected a folder that a stage wrote"),
    ],
)
def test_what_is_not_all_of_one_exploration_is_refused(
    inputs: Inputs, tmp_path: Path, chosen: tuple[str, ...], message: str
) -> None:
    for n, where, params in ((3, tmp_path, QUICK), (2, tmp_path, QUICK), (2, tmp_path / "other", OTHER)):
        shards(inputs, where, n, params)
    own = {path.name: path for path in inputs}
    with pytest.raises(InvalidInput) as e:
        stages.merge(tuple(own.get(name, tmp_path / name) for name in chosen), tmp_path / "merged")
    assert message in str(e.value)
    assert not (tmp_path / "merged").exists()


def test_merging_replaces_neither_what_is_not_its_own_nor_what_it_reads(inputs: Inputs, tmp_path: Path) -> None:
    folders = shards(inputs, tmp_path, 2, QUICK)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.tex").write_text("mine")
    before = [files.hash_path(folder) for folder in folders]
    for out, message in (
        (tmp_path / "docs", "did not write"),
        (folders[1], "is the input shard_2"),
        (inputs[0], "'collect'"),
    ):
        with pytest.raises(InvalidInput, match=message):
            stages.merge(folders, out)
    assert (tmp_path / "docs" / "thesis.tex").read_text() == "mine"
    assert [files.hash_path(folder) for folder in folders] == before


def test_an_altered_shard_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    folders = shards(inputs, tmp_path, 2, QUICK)
    (folders[0] / "verdicts.jsonl").write_text("")
    with pytest.raises(InvalidInput, match="verdicts.jsonl was altered"):
        stages.merge(folders, tmp_path / "merged")


@pytest.mark.parametrize(
    "text", ["", "1", "0/2", "3/2", "1/2/3", "-1/2", "a/b", "1/2 ", "1/0", "\N{ARABIC-INDIC DIGIT ONE}/2"]
)
def test_what_names_no_shard_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected NUMBER/COUNT"):
        Shard.parse(text)
    assert Shard.parse("2/3") == Shard(2, 3)
