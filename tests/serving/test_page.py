"""The page in a real browser: a question is asked, programs appear and turn green or red, and nothing hostile is run.

Pictures are kept in the folder that SCREENSHOTS names.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.scripted import APPLES, BREAK, HOSTILE, Server
from tests.serving.test_callers import made

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (apt-get install chromium)")
PHONE, DESK = {"width": 360, "height": 800}, {"width": 1200, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server(n_waiting=16)
    yield started
    started.stop()


def chosen(page: Any) -> None:
    """Wait until the page has its tasks; it forbids `eval`, so a function to be polled could not be."""
    from playwright.sync_api import expect

    expect(page.locator("#task")).to_have_value("word_problems", timeout=30_000)


@pytest.fixture
def page(browser: Any, server: Server, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Give the page, opened as the test's parameters say; no message may go to the console, and a picture is kept."""
    how = getattr(request, "param", {})
    opened = browser.new_page(viewport=how.get("viewport", DESK), color_scheme=how.get("scheme", "light"))
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: said.append(dialog.message))
    opened.goto(server.url)
    chosen(opened)
    yield opened
    opened.screenshot(path=Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"{request.node.name}.png")
    opened.close()
    assert [text for text in said if "503" not in text and "500" not in text] == []


def programs(page: Any) -> list[tuple[str, str]]:
    """Return the class and the text of each program shown."""
    shown = page.query_selector_all("#programs li")
    return [(item.get_attribute("class") or "", item.inner_text()) for item in shown]


VIEWS = [{"viewport": DESK}, {"viewport": PHONE}, {"viewport": PHONE, "scheme": "dark"}]


@pytest.mark.parametrize("page", VIEWS, indirect=True, ids=["desk", "phone", "dark"])
def test_a_question_is_answered_with_the_programs_that_voted(page: Any) -> None:
    page.fill("#question", APPLES)
    page.click("#go")
    page.wait_for_selector("#answer b")
    assert page.inner_text("#answer").startswith("7\n3 of 4 that ran agree, 5 sampled")
    shown = programs(page)
    assert len(shown) == 5
    assert sorted(kind for kind, _ in shown) == ["", "ran", "ran voted", "ran voted", "ran voted"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_example_of_a_task_is_loaded_and_the_keyboard_asks(page: Any) -> None:
    page.select_option("#task", "table_questions")
    page.click("#example")
    assert "CREATE TABLE" in page.input_value("#context")
    assert page.input_value("#question")
    page.select_option("#task", "word_problems")
    page.fill("#context", "")
    page.fill("#question", APPLES)
    page.fill("#k", "2")
    page.press("#question", "Control+Enter")
    page.wait_for_selector("#answer b")
    assert len(programs(page)) == 2


def test_what_a_model_writes_is_shown_and_not_run(page: Any) -> None:
    page.fill("#question", HOSTILE)
    page.click("#go")
    page.wait_for_selector("#answer b")
    assert "<img src=x onerror=alert(1)>" in page.inner_text("#programs")
    assert page.query_selector("#programs img, #answer img") is None


def test_a_refusal_is_said_on_the_page(browser: Any) -> None:
    from playwright.sync_api import expect

    server = Server()
    opened = browser.new_page()
    try:
        opened.goto(server.url)
        chosen(opened)
        for question, said in ((BREAK, "gone"), (APPLES, "the engine is broken")):
            opened.fill("#question", question)
            opened.click("#go")
            expect(opened.locator("#answer")).to_contain_text(said)
            assert opened.is_enabled("#go")
    finally:
        opened.close()
        server.stop()


def test_page_asks_for_a_key_where_the_server_wants_one(browser: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    key = made(tmp_path / "callers.txt", "alice")
    server = Server(keys=tmp_path / "callers.txt")
    opened = browser.new_page()
    try:
        opened.goto(server.url)
        expect(opened.locator("#answer")).to_contain_text("a key is needed")
        opened.fill("#key", key)
        opened.press("#key", "Tab")
        chosen(opened)
        opened.fill("#question", APPLES)
        opened.click("#go")
        expect(opened.locator("#answer b")).to_have_text("7")
        assert key not in opened.url
    finally:
        opened.close()
        server.stop()


def test_page_of_an_open_server_asks_for_no_key(page: Any) -> None:
    assert not page.is_visible("#key")
