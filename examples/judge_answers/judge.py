"""Judge the replies of a JSON Lines file and print how they came out, by task: `python judge.py replies.jsonl`."""

import sys
from collections import Counter, defaultdict
from pathlib import Path

from symbol_llm.ground.params import Limits
from symbol_llm.ground.records import Status
from symbol_llm.judging.rows import judge_rows

counts: dict[str, Counter[Status]] = defaultdict(Counter)
for task, verdict in judge_rows(Path(sys.argv[1]), Limits(timeout_s=5)):
    counts[task][verdict.status] += 1
    if verdict.status != "accepted":
        print(f"{verdict.candidate:<14}{verdict.status:<12}{verdict.detail or verdict.value}", file=sys.stderr)

print(f"{'task':<18}{'n':>3}{'accepted':>10}")
for task, found in counts.items():
    print(f"{task:<18}{found.total():>3}{found['accepted']:>10}")
