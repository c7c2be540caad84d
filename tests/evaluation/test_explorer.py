"""The page of what was explored: what is on it, and in a real browser that it is searched and nothing hostile runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from symbol_llm import cli
from symbol_llm.evaluation import explorer
from symbol_llm.evaluation.why import outputs_in
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import Problem
from tests.evaluation.test_why import tried, wrote

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = "answer = '</script><img src=x onerror=alert(1)>'"


@pytest.fixture
def run(tmp_path: Path, problem: Callable[..., Problem]) -> Path:
    """Give a run on three problems: solved always, never, and by chance."""
    easy, hard, lucky = (problem(f"A question that is {kind}?", 4) for kind in ("easy", "hard", "lucky"))
    collection = wrote(tmp_path / "collection", "collect", {"train.jsonl": [easy, hard, lucky]})
    tries = [
        tried(easy, 0, "accepted", "answer = 2 + 2", value="4"),
        tried(hard, 1, "rejected", HOSTILE, value="7"),
        tried(hard, 2, "timeout", "while True: pass", detail="ran past 5 s"),
        tried(lucky, 3, "accepted", "answer = 8 / 2", value="4", agrees=False),
    ]
    found = {"candidates.jsonl": [c for c, _ in tries], "verdicts.jsonl": [v for _, v in tries]}
    wrote(tmp_path / "explored", "explore", found, collection=collection)
    return tmp_path


def test_page_of_a_run_that_explored_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nothing was explored there"):
        explorer.page(outputs_in([tmp_path]))


def test_command_writes_the_page_and_takes_the_place_of_no_other_file(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    for _ in range(2):
        assert CliRunner().invoke(cli.main, ["explorer", str(out), str(run)]).exit_code == 0
    assert HOSTILE not in out.read_text()
    out.write_text("mine")
    done = CliRunner().invoke(cli.main, ["explorer", str(out), str(run)])
    assert (done.exit_code, out.read_text()) == (2, "mine")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (apt-get install chromium)")
def test_problems_are_sorted_searched_and_opened_in_a_browser(run: Path, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    (tmp_path / "page.html").write_text(explorer.page(outputs_in([run])))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page, said = browser.new_page(), list[str]()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.goto((tmp_path / "page.html").as_uri())

        def listed() -> list[str]:
            return [text.partition("is ")[2] for text in page.locator("summary").all_inner_texts()]

        assert listed()[0] == "hard?"
        page.select_option("#order", "easy")
        assert listed()[-1] == "hard?"
        page.select_option("#kind", "chance")
        assert listed() == ["lucky?"]
        page.select_option("#kind", "never")
        page.click("summary")
        page.wait_for_selector(".try")
        assert HOSTILE in page.inner_text("#list")
        assert "timeout: ran past 5 s" in page.inner_text("#list")
        page.select_option("#kind", "")
        page.fill("#text", "2 + 2")
        assert listed() == ["easy?"]
        assert said == []
        browser.close()
