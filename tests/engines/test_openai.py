"""The engine behind an endpoint, against a small real server that speaks chat completions."""

import gc
import itertools
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from symbol_llm import engines
from symbol_llm.engines import Completion, Request, Sampling, Written
from symbol_llm.engines.openai import OpenAIEngine
from symbol_llm.ground.errors import InvalidInput, Unavailable
from symbol_llm.ground.records import Messages
from tests.endpoint import Endpoint, choice, chunk
from tests.engines.intake import Script

SAMPLING = {"n": 1, "temperature": 0.5, "top_p": 0.9, "max_tokens": 7, "seed": 40}
ASKED = [{"role": "user", "content": "What is 2 + 2?"}]


def test_request_holds_all_that_sampling_needs(endpoint: Endpoint) -> None:
    assert endpoint.engine().generate([ASKED], **SAMPLING) == [[Completion("answer = 4", 1, -1.0)]]
    body = {
        "model": "m",
        "messages": ASKED,
        "n": 1,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "seed": 40,
        "logprobs": True,
    }
    assert endpoint.seen == [("/v1/chat/completions", body)]
    assert endpoint.keys == {"Bearer secret"}


def test_logprobs_are_averaged_over_tokens(endpoint: Endpoint) -> None:
    endpoint.route = lambda path, body: (200, {"choices": [choice("a", -1.0, -2.0, -6.0), choice("b", -0.5)]})
    found = endpoint.engine().generate([ASKED], **SAMPLING | {"n": 2})
    assert found == [[Completion("a", 3, -3.0), Completion("b", 1, -0.5)]]


def test_endpoint_that_gives_no_logprobs_is_asked_without_from_then_on(endpoint: Endpoint) -> None:
    def route(path: str, body: Any) -> tuple[int, Any]:
        if "logprobs" in body:
            return 400, {"error": {"message": "logprobs: not supported; leave it out"}}
        return 200, {"choices": [{"message": {"content": "answer = 4"}}]}

    endpoint.route = route
    engine = endpoint.engine(batch=1)
    prompts: Any = [[{"role": "user", "content": str(n)}] for n in range(3)]
    found = engine.generate(prompts, n=1, temperature=0.0, top_p=1.0, max_tokens=8, seed=0)
    assert [one.text for (one,) in found] == ["answer = 4"] * 3
    assert ["logprobs" in body for _, body in endpoint.seen] == [True, False, False, False]


def test_replies_keep_the_order_of_the_prompts_and_each_prompt_has_its_seed(endpoint: Endpoint) -> None:
    endpoint.route = lambda path, body: (
        200,
        {"choices": [choice(f"{body['messages'][0]['content']} {body['seed']}", -1.0)]},
    )
    prompts = [[{"role": "user", "content": name}] for name in "abcde"]
    found = endpoint.engine(batch=3).generate(prompts, **SAMPLING)
    assert [row[0].text for row in found] == ["a 40", "b 41", "c 42", "d 43", "e 44"]


def test_no_text_is_an_empty_reply(endpoint: Endpoint) -> None:
    endpoint.route = lambda path, body: (200, {"choices": [choice(None, -2.0)]})
    assert endpoint.engine().generate([ASKED], **SAMPLING) == [[Completion("", 1, -2.0)]]


def test_half_a_character_is_text_that_can_be_kept(endpoint: Endpoint) -> None:
    """JSON can hold half of a surrogate pair, which is no Unicode text: it can be neither hashed nor written."""
    endpoint.route = lambda path, body: (200, {"choices": [choice("answer = '\ud83d'", -2.0)]})
    ((found,),) = endpoint.engine().generate([ASKED], **SAMPLING)
    assert found.text.encode().startswith(b"answer = '")


def test_first_model_served_is_taken_unless_one_is_named(endpoint: Endpoint) -> None:
    endpoint.route = lambda path, body: (200, {"data": [{"id": "first"}, {"id": "second"}]})
    assert OpenAIEngine(endpoint.url + "/").model == "first"
    assert endpoint.seen == [("/v1/models", None)]
    assert endpoint.engine().model == "m"


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [503, 500, 429])
def test_passing_trouble_is_tried_again(endpoint: Endpoint, status: int) -> None:
    left = [(status, {}), (status, {}), (200, {"choices": [choice("at last", -1.0)]})]
    endpoint.route = lambda path, body: left.pop(0)
    assert endpoint.engine().generate([ASKED], **SAMPLING)[0][0].text == "at last"
    assert len(endpoint.seen) == 3


def test_lasting_trouble_is_unavailable_after_three_tries(endpoint: Endpoint) -> None:
    endpoint.route = lambda path, body: (503, {})
    with pytest.raises(Unavailable, match=r"/v1/chat/completions: no answer after 3 tries: 503 Service Unavailable$"):
        endpoint.engine().generate([ASKED], **SAMPLING)
    assert len(endpoint.seen) == 3


def test_refused_request_is_invalid_input_with_the_reason_and_is_not_tried_again(endpoint: Endpoint) -> None:
    endpoint.route = lambda path, body: (400, {"error": "max_tokens is too large"})
    with pytest.raises(InvalidInput, match=r"/v1/chat/completions: 400 .*max_tokens is too large"):
        endpoint.engine().generate([ASKED], **SAMPLING)
    assert len(endpoint.seen) == 1


def test_nobody_there_is_unavailable() -> None:
    with socket.socket() as taken:  # bound and not listening: connections are refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(Unavailable, match=f"^{url}/models: no answer after 3 tries: .*refused"):
            OpenAIEngine(url)


def test_answer_that_breaks_off_is_unavailable(endpoint: Endpoint) -> None:
    endpoint.missing = 100
    with pytest.raises(Unavailable, match="no answer after 3 tries"):
        endpoint.engine().generate([ASKED], **SAMPLING)


@pytest.mark.parametrize(
    "value",
    [b"<html>Sign in</html>", {"result": "ok"}, {"choices": [{"text": "old form"}]}],
    ids=["html", "no choices", "no message"],
)
def test_endpoint_that_speaks_something_else_is_told(endpoint: Endpoint, value: Any) -> None:
    endpoint.route = lambda path, body: (200, value)
    with pytest.raises((InvalidInput, Unavailable), match="/v1/chat/completions"):
        endpoint.engine().generate([ASKED], **SAMPLING)


def test_fewer_replies_than_asked_for_are_refused(endpoint: Endpoint) -> None:
    """Some endpoints ignore `n`; taken as they are, replies would be put to the wrong problems."""
    with pytest.raises((InvalidInput, Unavailable), match="/v1/chat/completions"):
        endpoint.engine().generate([ASKED], **SAMPLING | {"n": 2})


def test_scoring_is_refused_with_what_would_be_right(endpoint: Endpoint) -> None:
    with pytest.raises(InvalidInput, match="cannot score replies; set explore.rescore=published"):
        endpoint.engine().score([ASKED], ["answer = 4"])
    assert endpoint.seen == []


def test_address_must_be_http() -> None:
    with pytest.raises(InvalidInput, match="'file:///etc/passwd': expected http://host/v1"):
        OpenAIEngine("file:///etc/passwd")


# --- requests that join --------------------------------------------------------------------------------------------


def chat(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def asked(*texts: str, n: int = 1, temperature: float = 0.0, seed: int = 0) -> Request:
    return Request([chat(text) for text in texts], Sampling(n, temperature, 1.0, 8), seed)


def said(body: Any) -> str:
    """Return what the prompt of `body` says."""
    return str(body["messages"][0]["content"])


def repeats(path: str, body: Any) -> tuple[int, Any]:
    """Answer with what was said and the seed."""
    return 200, {"choices": [choice(f"{said(body)} {body['seed']}", -1.0)]}


def until(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_each_reply_is_asked_for_by_itself_and_told_once(endpoint: Endpoint) -> None:
    endpoint.route = repeats
    requests = [
        asked("a", "b", n=3, temperature=1.0, seed=1),
        asked("c", n=2),
        asked("a", n=3, temperature=1.0, seed=2),
    ]
    told = list(endpoint.engine().serve(Script(requests)))
    places = {(n, p, i) for n, r in enumerate(requests) for p in range(len(r.prompts)) for i in range(r.sampling.n)}
    assert sorted((w.request, w.place, w.nth) for w in told) == sorted(places)
    assert all(w.has_ended for w in told)
    drawn = [w.completion.text for w in told if w.request != 1]
    assert len(set(drawn)) == len(drawn) == 9, "each has a seed of its own"
    assert len({w.completion.text for w in told if w.request == 1}) == 1
    assert [body["n"] for _, body in endpoint.seen] == [1] * 10, "equal greedy replies are asked for once"
    again = list(endpoint.engine().serve(Script(requests)))
    assert sorted(again, key=lambda w: w[:3]) == sorted(told, key=lambda w: w[:3])


def test_request_joins_while_another_is_answered(endpoint: Endpoint) -> None:
    held = threading.Event()

    def route(path: str, body: Any) -> tuple[int, Any]:
        if said(body) == "slow":
            assert held.wait(30)
        return repeats(path, body)

    endpoint.route = route
    looks: Iterator[list[Request]] = itertools.chain([[asked("slow")], [asked("quick")]], itertools.repeat([]))
    script = Script()
    script.looks = looks
    told: list[Written] = []
    for written in endpoint.engine().serve(script):
        told.append(written)
        held.set()
    assert [w.request for w in told] == [1, 0]


@pytest.mark.parametrize("watched", [[], [0]], ids=["whole", "watched"])
def test_giving_a_reply_up_hangs_up(endpoint: Endpoint, watched: list[int]) -> None:
    endpoint.gate.clear()
    script = Script([asked("a", n=3, temperature=1.0)], watched=watched)
    served = endpoint.engine().serve(script)
    ended = threading.Thread(target=lambda: list(served))
    ended.start()
    until(lambda: len(endpoint.seen) == 3)
    script.unwanted.add((0, 0))
    ended.join(30)
    assert not ended.is_alive()
    until(lambda: len(endpoint.hung_up) == 3)


def test_leaving_in_the_midst_hangs_up(endpoint: Endpoint) -> None:
    def route(path: str, body: Any) -> tuple[int, Any]:
        if said(body) == "first":
            endpoint.gate.clear()
        return repeats(path, body)

    endpoint.route = route
    engine = endpoint.engine(batch=1)  # so that the first is answered before the others are asked
    served = engine.serve(Script([asked("first", *"abc")]))
    assert next(served).completion.text.startswith("first")
    until(lambda: len(endpoint.seen) == 2)
    served.close()  # type: ignore[attr-defined] # it is a generator
    until(lambda: len(endpoint.hung_up) == 1)
    endpoint.gate.set()
    assert len(list(engine.serve(Script([asked("d")])))) == 1
    assert [said(body) for _, body in endpoint.seen] == ["first", "a", "d"]


def test_no_more_than_the_batch_is_asked_at_once(endpoint: Endpoint) -> None:
    endpoint.gate.clear()
    endpoint.route = repeats
    served = endpoint.engine(batch=2).serve(Script([asked(*"abcdef")]))
    told: list[Written] = []
    ended = threading.Thread(target=lambda: told.extend(served))
    ended.start()
    until(lambda: len(endpoint.seen) == 2)
    time.sleep(0.2)
    assert len(endpoint.seen) == 2
    endpoint.gate.set()
    ended.join(30)
    assert len(told) == 6


def test_what_one_request_is_refused_for_is_its_own(endpoint: Endpoint) -> None:
    def route(path: str, body: Any) -> tuple[int, Any]:
        return (400, {"error": "this is too long"}) if said(body) == "long" else repeats(path, body)

    endpoint.route = route
    script = Script([asked("short"), asked("long", "x", n=2, temperature=1.0), asked("other")])
    told = [w.request for w in endpoint.engine().serve(script)]
    assert {0, 2} <= set(told)
    assert list(script.refused) == [1]
    assert "400" in str(script.refused[1])
    assert "this is too long" in str(script.refused[1])


@pytest.mark.parametrize("watched", [[], [0]], ids=["whole", "watched"])
def test_lasting_trouble_is_everybodys(endpoint: Endpoint, watched: list[int]) -> None:
    endpoint.route = lambda path, body: (503, {})
    with pytest.raises(Unavailable, match="no answer after 3 tries: 503"):
        list(endpoint.engine().serve(Script([asked("a")], watched=watched)))
    assert len(endpoint.seen) == 3


def test_watched_reply_is_told_as_it_grows(endpoint: Endpoint) -> None:
    """Its tokens are those that the endpoint counts in the end, and its chunks before."""
    counted: Any = {"choices": [], "usage": {"completion_tokens": 5}}
    parts = [chunk(""), chunk("ans"), chunk("wer"), chunk(None), counted, b"[DONE]"]
    endpoint.route = lambda path, body: (200, iter(parts))
    told = list(endpoint.engine().serve(Script([asked("a", n=2)], watched=[0])))
    assert [(w.nth, w.completion.text, w.completion.n_tokens, w.has_ended) for w in told] == [
        *((nth, "ans", 1, False) for nth in (0, 1)),
        *((nth, "answer", 2, False) for nth in (0, 1)),
        *((nth, "answer", 5, True) for nth in (0, 1)),
    ]
    assert endpoint.seen[0][1]["stream_options"] == {"include_usage": True}


def test_replies_are_served_without_log_probabilities_which_take_time(endpoint: Endpoint) -> None:
    endpoint.route = lambda path, body: (200, {"choices": [choice("a")], "usage": {"completion_tokens": 3}})
    (told,) = endpoint.engine().serve(Script([asked("a")]))
    assert told.completion == Completion("a", 3, 0.0)
    assert "logprobs" not in endpoint.seen[0][1]


def test_what_is_asked_meanwhile_is_taken_at_the_ring_of_the_bell(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("symbol_llm.engines.openai.LOOK_S", 3600)
    endpoint.gate.clear()
    script = Script([asked("slow")])
    told: list[Written] = []
    ended = threading.Thread(target=lambda: told.extend(endpoint.engine().serve(script)))
    ended.start()
    until(lambda: len(endpoint.seen) == 1)
    script.looks = iter([[asked("joined")]])
    script.bell()
    until(lambda: len(endpoint.seen) == 2)
    endpoint.gate.set()
    ended.join(30)
    assert len(told) == 2


@pytest.mark.parametrize(
    ("chunks", "why"),
    [
        ([chunk("a"), b"{"], "not JSON: '{'"),
        ([b"no JSON"], "not JSON: 'no JSON'"),
        ([{"error": {"message": "out of memory"}}], "out of memory"),
        ([{"choices": [1]}], "not a chunk"),
    ],
)
def test_stream_that_is_none_is_told(endpoint: Endpoint, chunks: list[Any], why: str) -> None:
    endpoint.route = lambda path, body: (200, iter(chunks))
    with pytest.raises(Unavailable, match=re.escape(why)):
        list(endpoint.engine().serve(Script([asked("a")], watched=[0])))
    assert len(endpoint.seen) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_no_request_can_help_is_everybodys(endpoint: Endpoint, status: int) -> None:
    endpoint.route = lambda path, body: (status, {"error": "who are you?"})
    script = Script([asked("a")])
    with pytest.raises(Unavailable, match=f"{status} .*who are you"):
        list(endpoint.engine().serve(script))
    assert script.refused == {}


def test_engine_that_nobody_holds_leaves_no_thread(endpoint: Endpoint) -> None:
    before = set(threading.enumerate())
    engine = endpoint.engine()
    engine.generate([ASKED], **SAMPLING)
    (asks,) = [thread for thread in set(threading.enumerate()) - before if thread.name == "ask"]
    del engine
    gc.collect()
    asks.join(30)
    assert not asks.is_alive()


# --- weights -------------------------------------------------------------------------------------------------------


def test_server_in_development_mode_is_given_the_weights_and_forgets_its_cache(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.route = lambda path, body: (200, b"")
    endpoint.engine().load(tmp_path)
    reload = {"method": "reload_weights", "kwargs": {"weights_path": str(tmp_path)}}
    assert endpoint.seen == [("/collective_rpc", reload), ("/reset_prefix_cache", None)]


@pytest.mark.parametrize("status", [404, 405])
def test_server_that_cannot_take_weights_is_not_sampled_with_its_own(
    endpoint: Endpoint, tmp_path: Path, status: int
) -> None:
    endpoint.route = lambda path, body: (status, {"detail": "Not Found"})
    with pytest.raises(Unavailable, match=rf"cannot take the weights of .* \({status} at /collective_rpc\)"):
        endpoint.engine().load(tmp_path)
    assert [path for path, _ in endpoint.seen] == ["/collective_rpc"]


def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return where each wait before another try is noted, in seconds, which does not take place."""
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("symbol_llm.engines.openai._sleep", wait)
    return waited


def test_next_try_waits_as_long_as_the_endpoint_asks(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = waits(monkeypatch)
    endpoint.headers = {"Retry-After": "17"}
    endpoint.route = lambda path, body: (429, {})
    with pytest.raises(Unavailable, match="429 Too Many Requests"):
        endpoint.engine().generate([ASKED], **SAMPLING)
    assert waited == [17.0, 17.0]
    endpoint.headers = {"Retry-After": "86400"}
    with pytest.raises(Unavailable):
        endpoint.engine().generate([ASKED], **SAMPLING)
    assert waited[2:] == [60.0, 60.0]


def test_without_a_word_from_the_endpoint_waits_grow(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = waits(monkeypatch)
    endpoint.route = lambda path, body: (503, {})
    with pytest.raises(Unavailable):
        endpoint.engine().generate([ASKED], **SAMPLING)
    assert 0.1 <= waited[0] <= 0.2 <= waited[1] <= 0.3


def test_engine_is_started_from_the_environment(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(InvalidInput, match="engine 'openai' needs OPENAI_BASE_URL"):
        engines.start("openai", tmp_path)
    for name, value in (("BASE_URL", endpoint.url), ("API_KEY", "k"), ("MODEL", "named")):
        monkeypatch.setenv(f"OPENAI_{name}", value)
    endpoint.route = lambda path, body: (200, {})
    engine = engines.start("openai", tmp_path)
    assert (engine.name, getattr(engine, "model", ""), endpoint.keys) == ("openai", "named", {"Bearer k"})


def test_server_that_starts_beside_is_shown_the_weights_and_waited_for(
    endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = tmp_path / "served"
    for name, value in (("BASE_URL", endpoint.url), ("WEIGHTS", str(shown)), ("START_S", "60")):
        monkeypatch.setenv(f"OPENAI_{name}", value)
    waits(monkeypatch)
    n_down = 7  # more than the tries of a request

    def route(path: str, body: Any) -> tuple[int, Any]:
        assert shown.read_text() == f"{tmp_path / 'first'}\n"
        if len(endpoint.seen) <= n_down:
            return 503, {}
        return 200, {"data": [{"id": "served", "max_model_len": 512}]}

    endpoint.route = route
    engine = engines.start("openai", tmp_path / "first")
    assert (getattr(engine, "model", ""), engine.reads) == ("served", 512)
    assert [path for path, _ in endpoint.seen[n_down:]] == ["/v1/models", "/collective_rpc", "/reset_prefix_cache"]
    endpoint.route = lambda path, body: (200, b"")
    engine.load(tmp_path / "second")
    assert shown.read_text() == f"{tmp_path / 'second'}\n", "which it takes if it has to start again"


def test_two_models_at_once_are_refused(endpoint: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would have the endpoint take its own weights in place of the other's."""
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    with pytest.raises(InvalidInput, match="2 models at once: the endpoint .* has one"):
        engines.start("openai", tmp_path, n_engines=2)
    assert endpoint.seen == []


@pytest.mark.parametrize("value", [b"[]", {"data": []}, {"data": [{}]}, {"object": "error"}])
def test_list_of_models_that_is_none_is_told(endpoint: Endpoint, value: Any) -> None:
    endpoint.route = lambda path, body: (200, value)
    with pytest.raises(Unavailable, match="/v1/models: no list of models: .*OPENAI_MODEL"):
        OpenAIEngine(endpoint.url)
