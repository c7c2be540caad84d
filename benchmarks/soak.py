"""What survives: a small run of the real pipeline is killed at random moments, and its files are altered and cut.

    python -m benchmarks.soak [--kills 20] [--flips 50] [--first-starts 20] [--pairs 20] [--seed 0]

Entry, runner, cache, tracking, registry and data repository are the real ones; the stages are, too, but for tuning, in
whose place two made-up checkpoints are written: a beginner's and an expert's. Everything lies in one temporary folder.
"""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from symbol_llm import stages
from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import Busy
from symbol_llm.ground.params import Collect, Evaluate, Explore, Promote, Select

WHOM = ("tree", "run", "stage")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LATEST_S = 12.0
"""A kill comes at a random moment before this after the start; a whole run takes about three times as long."""
PATIENCE_S = 600
COLLECT = Collect(tasks=("scan", "word_problems"), n_train=6, n_dev=3, n_test=8, n_general=5, levels=(1,))
EXPLORE = Explore(engine="fake", k=2)
EVALUATE = Evaluate(engine="fake", n_general=5)
DRIVE = "from benchmarks.soak import drive; drive()"


# --- the run, in processes of its own ----------------------------------------------------------------------------------


@dsl.component(base_image="python", install_kfp_package=False)
def teach(collection: Input[Dataset], weak: Output[Model], strong: Output[Model]) -> None:
    """Write a checkpoint that is right at every other try, and one that knows every answer."""
    from pathlib import Path

    from symbol_llm.ground import files, outputs
    from symbol_llm.ground.problems import read_problems

    folder = Path(collection.path)
    problems = [p for split in ("train", "dev", "test") for p in read_problems(folder, split)]
    problems.sort(key=lambda p: -len(p.question))  # so that no question hides another
    for made, first in ((weak, ["answer = -1"]), (strong, [])):
        with outputs.building(Path(made.path), "soak", {}, {"collection": folder}) as draft:
            files.write_json(draft.folder / "replies.json", {p.question: [*first, str(p.program)] for p in problems})


def build(*_: Any) -> Any:
    """Return the small pipeline, in the place of the whole one."""
    from components.collect.component import collect
    from components.evaluate.component import evaluate
    from components.explore.component import explore
    from components.promote.component import promote
    from components.select.component import select
    from components.version.component import version
    from pipelines.loop import dump

    @dsl.pipeline(name="soak")
    def soak() -> None:
        collection = collect(params=dump(COLLECT)).outputs["collection"]
        version(dataset=collection, name="collection")
        taught = teach(collection=collection).outputs
        shared = {"collection": collection, "params": dump(EVALUATE)}
        original = evaluate(checkpoint=taught["weak"], stage="original", **shared).outputs["report"]
        found = explore(
            collection=collection, checkpoint=taught["weak"], params=dump(EXPLORE), number=1, label="explore"
        )
        explored = found.outputs["explored"]
        chosen = select(collection=collection, explored=explored, params=dump(Select()), number=1, label="select")
        selected = chosen.outputs["selected"]
        judged = evaluate(checkpoint=taught["strong"], stage="round 1", previous=original, selected=selected, **shared)
        report = judged.outputs["report"]
        how = dump(Promote(name="soak"))
        last = promote(checkpoint=taught["strong"], report=report, original=original, params=how)
        last.set_caching_options(False)

    return soak


def drive() -> None:
    """Run `pipelines.local` on the small pipeline."""
    from pipelines import local, self_training

    self_training.build = build  # type: ignore[assignment]
    local.main(["--question", "", "--name", "soak"])


class Run:
    """A run in a folder of its own, started as often as need be."""

    def __init__(self, folder: Path) -> None:
        """Keep its state in `folder`, which does not exist yet."""
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)

    def start(self, code: str = DRIVE, *arguments: str) -> "subprocess.Popen[str]":
        """Start a process of ours in a session of its own."""
        ours = ("SYMBOL_LLM_", "MLFLOW_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
            "SYMBOL_LLM_HOME": str(self.folder / "home"),
            "SYMBOL_LLM_SAID_ROOT": "1",
            "TMPDIR": str(self.temporary),
            "DVC_SITE_CACHE_DIR": str(self.folder / "dvc"),
        }
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.Popen(command, env=environment, text=True, start_new_session=True, **pipes)  # noqa: S603 - ours

    def finish(self) -> tuple[bool, str]:
        """Start it and wait; return whether it finished, and what it said."""
        with self.start() as process:
            said = process.communicate(timeout=PATIENCE_S)[0]
        return process.returncode == 0, said

    def killed(self, whom: str, number: int, after_s: float) -> None:
        """Start it, send `whom` the signal `number` after that many seconds, and wait until all its processes are gone."""
        with self.start() as process:
            time.sleep(after_s)
            with contextlib.suppress(ProcessLookupError):
                if whom == "tree":
                    os.killpg(process.pid, number)
                else:
                    os.kill(process.pid if whom == "run" else self._stage(process), number)
            process.communicate(timeout=PATIENCE_S)

    def _stage(self, process: "subprocess.Popen[str]") -> int:
        """Return the process of the stage under way, waiting for one; the run itself where it ends first."""
        while process.poll() is None:
            for place in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if (
                        os.getsid(int(place.name)) == process.pid
                        and b"executor_main" in (place / "cmdline").read_bytes()
                    ):
                        return int(place.name)
            time.sleep(0.05)
        return process.pid

    def made(self) -> dict[str, dict[str, str]]:
        """Return the hashes of the files that each stage left last, but for the word of the gate."""
        newest: dict[str, Path] = {}
        for manifest in (self.folder / "home" / "soak").glob("kfp/*/*/*/manifest.json"):
            name = "/".join(manifest.parts[-3:-1])
            if name not in newest or newest[name].stat().st_mtime_ns < manifest.parent.stat().st_mtime_ns:
                newest[name] = manifest.parent
        return {name: _without_code(folder) for name, folder in newest.items() if "promote" not in name}

    def place(self, name: str) -> Path:
        """Return the newest file or folder that ends with `name`."""
        return max((self.folder / "home" / "soak").glob(f"kfp/*/{name}"), key=lambda p: p.stat().st_mtime_ns)

    def runs(self) -> Counter[str]:
        """Return how many runs in MLflow ended how; those that each start has anew, its own and the gate's, left out."""
        return Counter(
            status for name, status, _ in self._rows() if status == "RUNNING" or name not in ("soak", "promote")
        )

    def share_redone(self) -> float:
        """Return the time of stages that ended more than once, all but the first, as a share of the firsts; no gate."""
        ended = [
            (name, s) for name, status, s in self._rows() if status == "FINISHED" and name not in ("soak", "promote")
        ]
        first = dict(reversed(ended))
        return sum(s for _, s in ended) / sum(first.values()) - 1

    def _rows(self) -> list[tuple[str, str, float]]:
        with sqlite3.connect(self.folder / "home" / "mlflow.db") as database:
            return list(
                database.execute("SELECT name, status, (end_time - start_time) / 1000.0 FROM runs ORDER BY start_time")
            )

    def left_over(self) -> list[str]:
        """Return what lies about that nobody needs: temporary files, drafts, ledgers, locks with a name in them."""
        home, known = self.folder / "home", {outputs.MARK, outputs.LOCK, outputs.STAGES, ".checked_cache"}
        ours = [p for p in home.rglob("*") if "data-repo" not in p.parts and "data-repo-remote" not in p.parts]
        hidden = [p for p in ours if p.name.startswith(".") and p.name not in known]
        named = [p for p in ours if p.name.endswith(".lock") and p.is_file() and p.stat().st_size]
        return [str(p) for p in (*self.temporary.iterdir(), *(home / "ledgers").glob("*"), *hidden, *named)]


def _without_code(folder: Path) -> dict[str, str]:
    """Return the hashes of the files of an output; its manifest counts but for the code, which may be worked on meanwhile."""
    manifest = files.read_json(folder / files.MANIFEST)
    said = {key: value for key, value in manifest.items() if key not in ("made_with", "ledger", "seal")}
    return files.digests(folder) | {files.MANIFEST: json.dumps(said, sort_keys=True)}


# --- what is done to it ------------------------------------------------------------------------------------------------


def kills(undisturbed: Run, folder: Path, n: int, seed: int) -> Iterator[dict[str, Any]]:
    """Kill a run `n` times in each way, in turn and over as many runs, each of which is then finished and compared."""
    n_finished = undisturbed.runs()["FINISHED"]
    draw = random.Random(f"{seed} kills")
    for life in range(n):
        run = Run(folder / f"life-{life}")
        ways = [(whom, number) for whom in WHOM for number in SIGNALS]
        draw.shuffle(ways)
        for whom, number in ways:
            run.killed(whom, number, draw.uniform(0.2, LATEST_S))
        finished, said = run.finish()
        ended = run.runs()
        yield {
            "what": f"{len(ways)} kills",
            "finished": int(finished),
            "equal": int(finished and run.made() == undisturbed.made()),
            "redone": max(0, ended["FINISHED"] - n_finished),
            "share redone": run.share_redone(),
            "bricked": int(not finished),
            "running": ended["RUNNING"],
            "left over": len(left := run.left_over()),
            "left": left,
            "said": "" if finished else said[-2000:],
        }


def first_starts(folder: Path, n: int, seed: int) -> Iterator[dict[str, Any]]:
    """Kill the very first start within its first seconds, and the making of the data repository; then go on."""
    draw = random.Random(f"{seed} first")
    code = (
        "import sys; from pathlib import Path; from symbol_llm.tracking import versions; "
        "versions.record('set', Path(sys.argv[1]))"
    )
    with outputs.building(folder / "set", "collect", {}, {}) as draft:
        (draft.folder / "train.jsonl").write_text('{"id": 1}\n')
    for what in ("data repository", "whole run"):
        for number in range(n):
            run = Run(folder / f"{what.split()[0]}-{number}")
            arguments = (code, str(folder / "set")) if what == "data repository" else (DRIVE,)
            with run.start(*arguments) as process:
                time.sleep(draw.uniform(0.2, 6.0))
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            with run.start(*arguments) as process:
                said = process.communicate(timeout=PATIENCE_S)[0]
            good = process.returncode == 0
            over = {"said": "" if good else said[-2000:], "left over": len(list(run.temporary.iterdir()))}
            yield {"what": f"first start, {what}", "finished": int(good), "bricked": int(not good), **over}


ENTRY = "from symbol_llm.cli import main; main()"


def pairs(undisturbed: Run, folder: Path, n: int) -> Iterator[dict[str, Any]]:
    """Start two promotions of one checkpoint at once, `n` times: one is the champion, and each is told what became of it."""
    reports = [str(undisturbed.place(f"{name}/report")) for name in ("evaluate-2", "evaluate")]
    arguments = ("--set", "promote.name=soak", "promote", str(undisturbed.place("teach/strong")), *reports)
    told = "from symbol_llm.tracking import promotions as p; import json; print(json.dumps([p.aliases('soak'), p.entries('soak')]))"
    for number in range(n):
        run = Run(folder / f"pair-{number}")
        both = [run.start(ENTRY, *arguments, str(run.folder / f"promotion-{which}")) for which in "ab"]
        said = [process.communicate(timeout=PATIENCE_S)[0] for process in both]
        codes = sorted(process.returncode for process in both)
        with run.start(told) as process:
            (champion, previous), entries = json.loads(process.communicate(timeout=PATIENCE_S)[0].splitlines()[-1])
        actions = sorted(entry[2] for entry in entries)
        winner = next((entry[3] for entry in entries if entry[2] == "promote"), None)
        right = (champion, previous) == (winner, "") and is_right(actions, codes, said)
        why = "" if right else f"{codes} {actions} {champion!r} {previous!r} {said}"
        yield {"what": "two promotions at once", "finished": int(right), "bricked": int(not right), "said": why[-2000:]}


def is_right(actions: list[str], codes: list[int], said: Sequence[str]) -> bool:
    """Return whether what two promotions of one checkpoint logged, how they ended and what they said go together.

    The second has lost where it had begun to decide before the first was logged, and is refused where it began after. Where it
    began in between, it finds the first one's decision, which it finishes, or its own version as the champion already; then
    there is nothing more to log.
    """
    if actions == ["lost", "promote"]:
        return codes == [0, Busy.exit_code]
    told = sorted("promoted  1" in text for text in said)
    may_be = {("promote",): ([False, True], [True, True]), ("promote", "refuse"): ([False, True],)}
    return codes == [0, 0] and told in may_be.get(tuple(actions), ())


ALTERED = (
    "collect/collection/train.jsonl",
    "collect/collection/training_set.jsonl",
    "collect/collection/general_test.jsonl",
    "teach/strong/replies.json",
    "explore/explored/candidates.jsonl",
    "explore/explored/verdicts.jsonl",
    "select/selected/pool.jsonl",
    "select/selected/manifest.json",
    "evaluate-2/report/report.json",
)


def alterations(run: Run, n: int, seed: int) -> Iterator[dict[str, Any]]:
    """Alter each file of a finished run `n` times and ask whether its stage's readers would take it; once, start again."""
    draw = random.Random(f"{seed} alterations")
    before = run.made()
    for name in ALTERED:
        place = run.place(name)
        whole, folder = place.read_bytes(), place.parent
        noticed = silent = 0
        for _ in range(n):
            change = altered(whole, draw)
            place.write_bytes(change)
            is_noticed = bool(outputs.fault(folder))
            noticed += is_noticed
            silent += not is_noticed and not _same(change, whole)
        place.write_bytes(whole[:-2])
        finished, said = run.finish()
        redone = int("done again" in said)
        equal = int(finished and run.made() == before)
        over = {"bricked": int(not finished), "said": "" if finished and equal else said[-2000:]}
        yield {
            "what": name,
            "noticed": noticed,
            "silent": silent + 1 - redone,
            "redone": redone,
            "equal": equal,
            **over,
        }


def altered(whole: bytes, draw: random.Random) -> bytes:
    """Return `whole` with a bit flipped, cut at the end of a line or anywhere, or emptied."""
    kind, at = draw.choice(("flip", "flip", "flip", "line", "cut", "empty")), draw.randrange(len(whole))
    if kind == "flip":
        return whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :]
    if kind == "line":
        return whole[: whole.rfind(b"\n", 0, at) + 1]
    return whole[:at] if kind == "cut" else b""


def _same(one: bytes, other: bytes) -> bool:
    """Return whether a manifest says the same still: blanks were altered, or the name of its own checksum."""
    try:
        a, b = json.loads(one), json.loads(other)
    except ValueError:
        return False
    return bool(a == b) or "seal" not in a and {**a, "seal": 0}.items() >= {**b, "seal": 0}.items()


def ledgers(run: Run, folder: Path, n: int, seed: int) -> dict[str, Any]:
    """Alter the ledger of an exploration `n` times; what it lost is made again, and the bytes are the same."""
    draw = random.Random(f"{seed} ledgers")
    collection, weak = run.place("collect/collection"), run.place("teach/weak")
    os.environ["SYMBOL_LLM_HOME"] = str(folder)
    numbers: Counter[str] = Counter()
    stages.explore(collection, weak, folder / "out", EXPLORE)
    (ledger,) = (folder / "ledgers").iterdir()
    whole, right = ledger.read_bytes(), files.digests(folder / "out")
    for _ in range(n):
        change = altered(whole, draw)
        ledger.write_bytes(change)
        done = stages.explore(collection, weak, folder / "out", EXPLORE)
        numbers["equal"] += files.digests(folder / "out") == right
        is_cut = whole.startswith(change) and change[-1:] in (b"", b"\n")  # as a run that was killed leaves it
        numbers["noticed"] += bool(done["n_bad_lines"]) or is_cut
        numbers["silent"] += not done["n_bad_lines"] and not is_cut
    return {"what": "ledger of explore", **numbers}


COLUMNS = ("n", "finished", "equal", "redone", "noticed", "silent", "bricked", "running", "left over")


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the sums of `rows` by what was done, as lines."""
    sums: dict[str, Counter[str]] = {}
    for row in rows:
        sums.setdefault(row["what"], Counter())["n"] += 1
        sums[row["what"]].update({key: value for key, value in row.items() if isinstance(value, int)})
    width = max(map(len, sums))
    yield "  ".join([" " * width, *COLUMNS])
    for what, counts in sums.items():
        cells = (str(counts[name]) if name in counts else "" for name in COLUMNS)
        yield "  ".join(
            [f"{what:<{width}}", *(f"{cell:>{len(name)}}" for cell, name in zip(cells, COLUMNS, strict=True))]
        )


@click.command()
@click.option("--kills", "n_kills", default=2, show_default=True, help="Kills in each way: 12 ways, about 3 minutes.")
@click.option("--flips", default=50, show_default=True, help="Alterations of each file.")
@click.option("--first-starts", "n_first", default=5, show_default=True, help="Kills of each first start.")
@click.option("--pairs", "n_pairs", default=2, show_default=True, help="Pairs of promotions at once.")
@click.option("--seed", default=0, show_default=True)
def main(n_kills: int, flips: int, n_first: int, n_pairs: int, seed: int) -> None:
    """Kill, flip and cut; print what came of it. Ends with 1 if anything was silent, bricked, RUNNING or left over."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        undisturbed = Run(folder / "undisturbed")
        finished, said = undisturbed.finish()
        if not finished:
            raise SystemExit(said)
        parts: list[Callable[[], Iterator[dict[str, Any]]]] = [
            lambda: kills(undisturbed, folder, n_kills, seed),
            lambda: alterations(undisturbed, flips, seed) if flips else iter(()),
            lambda: first_starts(folder, n_first, seed),
            lambda: pairs(undisturbed, folder, n_pairs),
        ]
        for part in parts:
            for row in part():
                click.echo(json.dumps(row), err=True)
                rows.append(row)
        if flips:
            rows.append(ledgers(undisturbed, folder / "state", flips, seed))
    click.echo("\n".join(table(rows)))
    if shares := [row["share redone"] for row in rows if "share redone" in row]:
        click.echo(f"of a run's time done again, beyond the stage that was cut: {sum(shares) / len(shares):.1%}")
    bad = ("silent", "bricked", "running", "left over")
    sys.exit(any(row.get(name) for row in rows for name in bad))


if __name__ == "__main__":
    main()
