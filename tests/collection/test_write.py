"""Programs that a stronger model writes: only accepted ones are kept, and the collection says who wrote them."""

import json

from symbol_llm import stages
from symbol_llm.collection.write import write
from symbol_llm.ground.files import read_records
from symbol_llm.ground.params import Collect, Write
from symbol_llm.ground.problems import read_problems
from symbol_llm.ground.records import TrainingRow
from tests.endpoint import choice


def put(folder):
    rows = [
        {"id": f"r{i}", "input": f"Kai has {i} nuts and finds one more. How many?", "target": i + 1} for i in range(4)
    ]
    (folder / "math" / "addsub").mkdir(parents=True)
    for split, some in (("train", rows[:3]), ("test", rows[3:])):
        (folder / "math" / "addsub" / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in some))
    return folder


def test_accepted_programs_become_gold_with_their_writer(tmp_path, home, endpoint, monkeypatch):
    source = put(tmp_path / "in")
    collection = tmp_path / "collection"
    params = Collect(source=source, tasks=("addsub",), evolved_share=0)
    stages.collect(collection, params)
    assert not list(read_records(collection / "training_set.jsonl", TrainingRow))

    def route(path, body):
        if path.endswith("/models"):
            return 200, {"data": [{"id": "big"}]}
        number = int(body["messages"][-1]["content"].split()[2])
        right = "```python\nanswer = 1 + 1\n```"
        return 200, {"choices": [choice("answer = 0", -1.0), choice(right if number == 1 else "no idea", -1.0)]}

    endpoint.route = route
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    numbers = write(collection, tmp_path / "written", Write(k=2))
    assert numbers == {"n_problems": 3.0, "n_written": 1.0}

    stages.collect(collection, params.model_copy(update={"written": tmp_path / "written"}))
    golds = {row.source: row.program for row in read_problems(collection, "train") if row.program}
    assert golds == {"addsub r1, written by big": "answer = 1 + 1"}
    (learnt,) = read_records(collection / "training_set.jsonl", TrainingRow)
    assert learnt.completion == "answer = 1 + 1"
