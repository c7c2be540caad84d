"""The engine behind an endpoint, against a small real server that speaks chat completions."""

import socket
from pathlib import Path
from typing import Any

import pytest

from symbol_llm import engines
from symbol_llm.engines import Completion
from symbol_llm.engines.openai import OpenAIEngine
from symbol_llm.ground.errors import InvalidInput, Unavailable
from tests.endpoint import Endpoint, choice

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


def test_next_try_waits_as_long_as_the_endpoint_asks(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
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
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", waited.append)
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
