"""The page in a real browser: a question is asked, programs appear and turn green or red, and nothing hostile is run.

Pictures are kept in the folder that SCREENSHOTS names.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serving.scripted import APPLES, BREAK, BROKEN, HOSTILE, LONG, SLEEP, WHO, Server, until
from tests.serving.test_callers import made

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (apt-get install chromium)")
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


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


VIEWS = [{"viewport": view, "scheme": scheme} for view in (DESK, PHONE) for scheme in ("light", "dark")]
SEEN = ("desk", "desk-dark", "phone", "phone-dark")
viewed = pytest.mark.parametrize("page", VIEWS, indirect=True, ids=SEEN)


def ask(page: Any, question: str, answered: bool = True) -> None:
    page.fill("#question", question)
    page.click("#go")
    if answered:
        page.wait_for_selector("#answer b")


@viewed
def test_a_question_is_answered_with_the_programs_that_voted(page: Any) -> None:
    ask(page, APPLES)
    assert page.inner_text("#answer").startswith("7\n3 of 4 that ran agree, 5 asked for")
    shown = programs(page)
    assert len(shown) == 5
    assert sorted(kind for kind, _ in shown) == ["", "ran", "ran voted", "ran voted", "ran voted"]
    assert page.inner_text("#serves") == "Model: first"
    assert page.evaluate(FITS)


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
    ask(page, HOSTILE)
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


def test_both_weights_of_a_trial_are_shown_one_beside_the_other(browser: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    weights = tmp_path / "weights"
    weights.write_text("first")
    server = Server(weights, canary=0.5)
    opened = browser.new_page(viewport=PHONE)
    try:
        opened.goto(server.url)
        chosen(opened)
        ask(opened, WHO)
        expect(opened.locator("#beside")).to_be_hidden()
        weights.write_text("second")
        until(lambda: "canary" in server.get("/health")[1])
        for _ in range(2):
            ask(opened, WHO)
            expect(opened.locator("#beside")).to_be_visible()
            mine, other = opened.inner_text("#answer b"), opened.inner_text("#otherwise b")
            assert {mine, other} == {"first", "second"}
            assert opened.inner_text("#serves") == f"Model: {mine}"
            assert opened.inner_text("#other") == f"The other version, {other}"
            assert opened.locator("#others li.voted").count() == 5
        assert opened.evaluate(FITS)
        opened.screenshot(path=Path(os.environ.get("SCREENSHOTS", tmp_path)) / "beside.png", full_page=True)
    finally:
        opened.close()
        server.stop()


def test_answer_stays_where_what_is_beside_it_fails(page: Any) -> None:
    from playwright.sync_api import expect

    votes = {"k": 1, "ran": 1, "agreed": 1, "spared": 0}
    answer = {"status": "answered", "answer": "7", "votes": votes, "seconds": 1.0, "model": "first", "programs": []}
    told = f'event: answer\ndata: {json.dumps(answer)}\n\nevent: error\ndata: {{"error": "gone"}}\n\n'
    page.route("**/v1/solve", lambda route: route.fulfill(body=told, content_type="text/event-stream"))
    page.fill("#k", "1")
    ask(page, APPLES)
    expect(page.locator("#stop")).to_be_hidden()
    assert page.inner_text("#answer b") == "7"


# --- how it looks ------------------------------------------------------------------------------------------------------

FITS = "document.documentElement.scrollWidth <= innerWidth"
CONTRASTS = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
  const over = ([r, g, b, a = 1], under) => [r, g, b].map((c, i) => c * a + under[i] * (1 - a));
  const behind = e => e ? over(rgb(getComputedStyle(e).backgroundColor), behind(e.parentElement)) : [255, 255, 255];
  const seen = (colour, e, opacity = 1) => { const [r, g, b, a = 1] = rgb(colour); return over([r, g, b, a * opacity], behind(e)); };
  const found = {};
  for (const e of document.querySelectorAll("main *")) {
    const style = getComputedStyle(e), name = e.tagName + (e.id && "#" + e.id) + (e.className && "." + e.className);
    if (!e.checkVisibility() || e.tagName === "OPTION" || e.tagName === "OPTGROUP") continue;
    if ([...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.value)
      found[name + " text"] = ratio(seen(style.color, e, style.opacity), behind(e)) / 4.5;
    if (e.matches("select, input, textarea, button"))
      found[name + " edge"] = ratio(seen(style.borderTopColor, e.parentElement), behind(e.parentElement)) / 3;
    if (e.matches("li"))
      found[name + " edge"] = ratio(seen(style.borderLeftColor, e.parentElement), behind(e.parentElement)) / 3;
  }
  return found;
}"""
"""How many times the contrast that WCAG 2.2 AA asks for there is: 4.5 of a text (1.4.3), 3 of an edge that tells something (1.4.11)."""
SHIFTS = """() => new Promise(done => new PerformanceObserver(list =>
  done(list.getEntries().map(e => e.value).reduce((a, b) => a + b, 0))).observe({ type: "layout-shift", buffered: true })
  || setTimeout(() => done(0), 500))"""


@viewed
def test_contrast_of_texts_and_edges_is_what_wcag_asks_for(page: Any) -> None:
    ask(page, APPLES)
    found = page.evaluate(CONTRASTS)
    assert {"BUTTON#go.go text", "LI.ran.voted edge", "SELECT#task edge", "DIV.note text"} <= {
        name.replace(" voted", ".voted") for name in found
    }
    assert {name: ratio for name, ratio in found.items() if ratio < 1} == {}


@viewed
def test_nothing_on_the_page_moves_while_a_question_is_answered(page: Any) -> None:
    ask(page, APPLES)
    assert page.evaluate(SHIFTS) < 0.01
    assert page.evaluate(FITS)


@viewed
def test_long_program_and_answer_keep_to_their_boxes_and_are_read_by_keyboard(page: Any) -> None:
    page.fill("#k", "2")
    ask(page, f"{LONG}\n" + "A question that goes on, with many words. " * 40 + f"\n{LONG}")
    assert page.evaluate(FITS)
    for name, most in (("#programs pre", 260), ("#answer b", 200), ("#question", 260)):
        box = page.locator(name).first
        assert box.bounding_box()["height"] <= most
        assert box.evaluate("e => e.scrollHeight > e.clientHeight && e.tabIndex === 0")


def test_keyboard_goes_through_the_page_in_the_order_in_which_it_is_read(page: Any) -> None:
    order = []
    for _ in range(6):
        page.keyboard.press("Tab")
        at = page.evaluate(
            "() => { const e = document.activeElement, s = getComputedStyle(e); "
            "return [e.id, s.outlineStyle, parseFloat(s.outlineWidth)]; }"
        )
        order.append(at[0])
        assert at[1:] == ["solid", 3]
    assert order == ["task", "k", "context", "question", "go", "example"]


@viewed
def test_slow_answer_says_so_and_can_be_stopped(page: Any, server: Server) -> None:
    from playwright.sync_api import expect

    page.fill("#k", "8")
    ask(page, SLEEP, answered=False)
    expect(page.locator("li.pending")).to_have_count(8)
    expect(page.locator("#answer")).to_contain_text("1 s", timeout=5_000)
    page.keyboard.press("Control+Enter")  # asks nothing while a question is under way
    page.focus("#stop")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_have_text("Not answeredStopped.")
    expect(page.locator("#go")).to_be_focused()
    expect(page.locator("li.pending")).to_have_count(0)
    expect(page.locator("#stop")).to_be_hidden()


@viewed
def test_refusal_stands_out_and_a_database_is_asked_for_before(page: Any) -> None:
    page.select_option("#task", "table_questions")
    ask(page, "Which city has the most people?", answered=False)
    assert page.locator("#context").evaluate("e => e.validity.valueMissing")
    assert page.inner_text("#about") == "Database"
    page.fill("#context", "CREATE")
    ask(page, "Say nothing.")
    assert page.inner_text("#answer").startswith("No answer: no program ran to a value\nnone ran, 5 asked for")
    assert page.get_attribute("#answer", "class") == "bad"


def test_repairs_stand_after_the_programs_that_they_repair(page: Any) -> None:
    page.fill("#k", "2")
    ask(page, BROKEN)
    assert page.inner_text("#answer").startswith("7\n2 of 2 that ran agree, 2 asked for")
    shown = programs(page)
    assert [kind for kind, _ in shown][:2] == ["", ""]
    assert [kind for kind, _ in shown][2:] == ["ran voted"] * 2
    assert "repair of program 1: = 7, the answer" in page.inner_text("#programs")


def test_page_of_an_open_server_asks_for_no_key(page: Any) -> None:
    assert not page.is_visible("#key")
