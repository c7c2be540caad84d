"""All training problems of a run on one page: each try of each round, what it gave, why it was refused, what was learnt.

One file, no server and nothing loaded from elsewhere; what a model wrote is shown as text. Problems can be searched, filtered
and sorted, and are shown a hundred at a time.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from symbol_llm.evaluation.why import Attempt, Output, attempts, checkpoints, problems
from symbol_llm.ground.errors import InvalidInput

LONGEST = 600
"""Characters of a program or a value that the page keeps."""


def page(outputs: Sequence[Output]) -> str:
    """Return the page over what `outputs` hold; InvalidInput if nothing was explored."""
    names = checkpoints(outputs)
    explored = [o for o in outputs if o.manifest["stage"] == "explore"]
    if not explored:
        raise InvalidInput("nothing was explored there; name the folder of a run, such as runs/default")
    known = {p.id: p for o in outputs for p in problems(o)}
    tried: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for output in explored:
        for problem, attempt in attempts(output, names):
            tried[problem].append(_shown(attempt))
    rows = [
        {"id": name, "task": p.task, "question": p.question[:LONGEST], "answer": json.dumps(p.answer)[:LONGEST]}
        | {"level": p.level, "tries": tried[name]}
        for name, p in sorted(known.items())
        if name in tried
    ]
    # In a script element, the one thing that must not occur is its end tag.
    return TEMPLATE.replace("[/*rows*/]", json.dumps(rows, ensure_ascii=False).replace("</", "<\\/"))


def _shown(attempt: Attempt) -> dict[str, Any]:
    gave = attempt.detail or attempt.value or ""
    return {
        "by": attempt.by,
        "origin": attempt.origin,
        "index": attempt.index,
        "status": attempt.status,
        "chance": attempt.agrees is False,
        "program": (attempt.program or "")[:LONGEST],
        "gave": gave[:LONGEST],
    }


TEMPLATE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'">
<title>Explored</title>
<style>
  :root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #b42318; }
  @media (prefers-color-scheme: dark) { :root { --good: #4ac26b; --bad: #ff7b72; } }
  body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem; }
  .bar { display: flex; gap: .6rem; flex-wrap: wrap; margin-bottom: .6rem; }
  input, select, button { font: inherit; padding: .3rem .5rem; border: 1px solid var(--line); border-radius: .3rem;
    background: Canvas; color: CanvasText; }
  input { flex: 1 1 16rem; }
  details { border-top: 1px solid var(--line); padding: .4rem 0; }
  summary { cursor: pointer; overflow-wrap: anywhere; }
  summary b { display: inline-block; min-width: 4.5rem; font-variant-numeric: tabular-nums; }
  .task { opacity: .7; }
  .tries { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: .5rem; margin: .5rem 0; }
  .try { border-left: .3rem solid var(--bad); padding-left: .5rem; min-width: 0; } .accepted { border-left-color: var(--good); }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .1rem 0; font-size: .85rem; }
  .note { font-size: .85rem; opacity: .8; overflow-wrap: anywhere; }
  h3 { font-size: .9rem; margin: .6rem 0 .1rem; }
</style>
<div class="bar">
  <input id="text" type="search" placeholder="Words of a question, a program, a message, or an id" aria-label="Search">
  <select id="task" aria-label="Task"><option value="">all tasks</option></select>
  <select id="kind" aria-label="Solved"><option value="">all</option><option value="never">never solved</option>
    <option value="lost">solved once, not in the last round</option><option value="chance">right by chance</option></select>
  <select id="order" aria-label="Order"><option value="hard">hardest first</option><option value="easy">easiest first</option>
    <option value="id">by id</option></select>
</div>
<div id="count" class="note" role="status"></div>
<div id="list"></div>
<p><button id="more">Show more</button></p>
<script>
"use strict";
const rows = [/*rows*/];
const at = id => document.getElementById(id), STEP = 100;
const make = (tag, text, kind) => { const e = document.createElement(tag); e.textContent = text; if (kind) e.className = kind; return e; };
const right = t => t.status === "accepted";
for (const row of rows) {
  row.share = row.tries.filter(right).length / row.tries.length;
  const last = row.tries.at(-1).by;
  row.never = row.share === 0;
  row.lost = !row.never && !row.tries.some(t => t.by === last && right(t));
  row.chance = row.tries.some(t => t.chance);
  row.text = [row.id, row.question, ...row.tries.flatMap(t => [t.program, t.gave])].join("\\n").toLowerCase();
}
for (const task of [...new Set(rows.map(r => r.task))].sort()) at("task").append(new Option(task, task));
let found = [], shown = 0;

function opened(row) {
  const box = make("div", "");
  box.append(make("div", `id ${row.id}, answer ${row.answer}`, "note"));
  for (const by of [...new Set(row.tries.map(t => t.by))]) {
    box.append(make("h3", by));
    const tries = make("div", "", "tries");
    for (const t of row.tries.filter(t => t.by === by)) {
      const one = make("div", "", "try " + t.status);
      one.append(make("pre", t.program || "(no program)"));
      one.append(make("div", `${t.origin} ${t.index}: ${t.status}${t.chance ? ", right by chance" : ""}${t.gave ? ": " + t.gave : ""}`, "note"));
      tries.append(one);
    }
    box.append(tries);
  }
  return box;
}

function more() {
  for (const row of found.slice(shown, shown + STEP)) {
    const item = document.createElement("details"), head = document.createElement("summary");
    head.append(make("b", `${row.tries.filter(right).length} of ${row.tries.length}`), make("span", row.task + " ", "task"), row.question);
    item.append(head);
    item.addEventListener("toggle", () => { if (item.open && item.children.length === 1) item.append(opened(row)); });
    at("list").append(item);
  }
  shown = Math.min(found.length, shown + STEP);
  at("count").textContent = `${found.length} problems, ${shown} shown; the figures are right tries of all`;
  at("more").hidden = shown === found.length;
}

function look() {
  const text = at("text").value.toLowerCase(), task = at("task").value, kind = at("kind").value;
  found = rows.filter(r => (!text || r.text.includes(text)) && (!task || r.task === task) && (!kind || r[kind]));
  const order = at("order").value;
  if (order !== "id") found.sort((a, b) => (order === "hard" ? 1 : -1) * (a.share - b.share));
  at("list").replaceChildren();
  shown = 0;
  more();
}

for (const id of ["text", "task", "kind", "order"]) at(id).addEventListener("input", look);
at("more").addEventListener("click", more);
look();
</script>
</html>
"""
