"""OpenAI's protocol field by field, by its own client: each is heeded, refused by name, or ignored because it changes no reply."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serving.chat import IGNORED, NOT_HEEDED, NOT_SAID, Chat, Said, Text
from tests.serving.scripted import APPLES, HOW, Server

openai = pytest.importorskip("openai")
CHAT, TEXT = "/openai/v1/chat/completions", "/openai/v1/completions"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": HOW}]},
    TEXT: {"prompt": HOW},
}
MEANT: dict[str, Any] = {
    "audio": {"voice": "alloy", "format": "wav"},
    "best_of": 3,
    "echo": True,
    "frequency_penalty": 0.5,
    "function_call": {"name": "f"},
    "functions": [{"name": "f"}],
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "modalities": ["text", "audio"],
    "moderation": {"model": "omni-moderation-latest"},
    "presence_penalty": 1,
    "reasoning_effort": "high",
    "response_format": {"type": "json_object"},
    "suffix": "the end",
    "tool_choice": "required",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "top_logprobs": 5,
    "verbosity": "low",
    "web_search_options": {},
}
"""Of each field that is not heeded, a value that asks for something."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server(n_waiting=16)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def client(server: Server) -> Any:
    return openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key="none", max_retries=0)


def post(server: Server, path: str, **more: Any) -> httpx.Response:
    return httpx.post(server.url + path, json=BODIES[path] | more, timeout=60)


def drawn(reply: httpx.Response) -> str:
    """Return how the reply was drawn, as it says itself."""
    assert reply.status_code == 200, reply.text
    choice = reply.json()["choices"][0]
    return str(choice.get("text") or choice["message"]["content"])


# --- fields ------------------------------------------------------------------------------------------------------------


def test_every_field_that_openais_client_knows_is_decided_on_and_by_one_rule() -> None:
    from openai.types import completion_create_params as text
    from openai.types.chat import completion_create_params as chat

    for kind, known in ((Chat, chat.CompletionCreateParamsBase), (Text, text.CompletionCreateParamsBase)):
        rules = (set(kind.model_fields), set(NOT_HEEDED), set(IGNORED))
        fields = {*known.__annotations__, "stream"}
        assert {name: sum(name in rule for rule in rules) for name in fields} == dict.fromkeys(fields, 1)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", NOT_HEEDED)
def test_what_is_not_heeded_is_refused_by_name_unless_it_asks_for_nothing(server: Server, path: str, name: str) -> None:
    reply = post(server, path, **{name: MEANT[name]})
    error = {
        "message": f"{name}: not supported; leave it out",
        "type": "invalid_request_error",
        "param": name,
        "code": None,
    }
    assert (reply.status_code, reply.json()) == (400, {"error": error})
    for value in (None, *NOT_HEEDED[name]):
        assert post(server, path, **{name: value}).status_code == 200, value


@pytest.mark.parametrize("path", BODIES)
def test_what_is_ignored_changes_no_reply(server: Server, path: str) -> None:
    plain = drawn(post(server, path, seed=1))
    assert drawn(post(server, path, seed=1, **dict.fromkeys(IGNORED, {"anything": [True]}))) == plain


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("name", "param"), [("top_k", "top_k"), ("guided_json", "guided_json"), ("a: b\nc", None), ("x" * 65, None)]
)
def test_field_that_is_not_known_here_may_mean_something_and_is_refused(
    server: Server, path: str, name: str, param: str | None
) -> None:
    error = post(server, path, **{name: 5}).json()["error"]
    assert (error["message"], error["param"]) == (f"{param or 'a field'}: not known here; leave it out", param)


@pytest.mark.parametrize("path", BODIES)
def test_what_is_heeded_is_drawn_by(server: Server, path: str) -> None:
    asked = {"n": 2, "temperature": 0.25, "top_p": 0.5, "max_tokens": 7, "seed": -3}
    assert drawn(post(server, path, **asked)) == "Sampling(n=2, temperature=0.25, top_p=0.5, max_tokens=7) -3"
    given = {"max_tokens": 96 if path == CHAT else 16}  # the server's own bound; OpenAI's for texts
    said = drawn(post(server, path, temperature=None))
    assert said.startswith(f"Sampling(n=1, temperature=1.0, top_p=1.0, max_tokens={given['max_tokens']}) ")


@pytest.mark.parametrize("path", BODIES)
def test_without_a_seed_each_request_has_another(server: Server, path: str) -> None:
    assert len({drawn(post(server, path)) for _ in range(4)}) == 4
    assert len({drawn(post(server, path, seed=5)) for _ in range(4)}) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"max_tokens": 5, "max_completion_tokens": 6},
            "max_tokens: leave it out where max_completion_tokens is given",
        ),
        ({"stream_options": {"include_usage": True}}, "stream_options: only where `stream` is true"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation: "),
        ({"stream": True, "stream_options": {"chunks": 1}}, "stream_options.chunks: extra inputs are not permitted"),
        ({"seed": 2**63}, "seed: "),
        ({"seed": "lucky"}, "seed: "),
    ],
)
def test_fields_that_do_not_go_together_are_refused(server: Server, more: dict[str, Any], message: str) -> None:
    error = post(server, CHAT, **more).json()["error"]
    assert error["message"].startswith(message)
    assert error["param"] == message.partition(":")[0]


def test_one_bound_under_two_names_is_one(server: Server) -> None:
    assert "max_tokens=6" in drawn(post(server, CHAT, max_completion_tokens=6))
    assert "max_tokens=6" in drawn(post(server, CHAT, max_completion_tokens=6, max_tokens=6))


@pytest.mark.parametrize("name", NOT_SAID)
def test_what_a_message_says_beside_its_text_is_refused_unless_it_says_nothing(server: Server, name: str) -> None:
    message = BODIES[CHAT]["messages"][0]
    error = post(server, CHAT, messages=[message | {name: [{"id": "c"}]}]).json()["error"]
    assert error["message"].startswith(f"messages.0: {name}: not supported; leave it out")
    assert error["param"] == "messages.0"
    for value in (None, *NOT_SAID[name]):
        assert post(server, CHAT, messages=[message | {name: value}]).status_code == 200


def test_reply_can_be_sent_back_as_the_client_holds_it(client: Any) -> None:
    messages: Any = [{"role": "user", "content": APPLES}]
    first = client.chat.completions.create(model="symbol-llm", messages=messages, temperature=0).choices[0].message
    second = client.chat.completions.create(
        model="symbol-llm", messages=[*messages, first, *messages], temperature=0, max_completion_tokens=5
    )
    assert second.choices[0].message.content == "answer = 5"
    assert set(Said.model_fields) == {"role", "content"}


@pytest.mark.parametrize("path", BODIES)
def test_longest_reply_ends_by_length_and_a_stopped_one_by_its_stop(server: Server, path: str) -> None:
    reasons = [
        post(server, path, **more).json()["choices"][0]["finish_reason"]
        for more in ({"max_tokens": 1}, {"max_tokens": 1, "stop": ["Sampling", "n="]}, {"max_tokens": 2})
    ]
    assert reasons == ["length", "stop", "stop"]


# --- what it took ------------------------------------------------------------------------------------------------------


def told(usage: Any) -> tuple[int, int, int]:
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens


def test_usage_counts_each_prompt_once_and_all_that_was_sampled(client: Any) -> None:
    """The tokenizer is one of words: the system's two and the question's twelve; each scripted reply counts as one."""
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": APPLES}]
    done = client.chat.completions.create(model="symbol-llm", messages=messages, n=4, stop=" +")
    assert told(done.usage) == (14, 4, 18)
    texts = client.completions.create(model="symbol-llm", prompt=["What is 0?", APPLES], n=3)
    assert told(texts.usage) == (15, 6, 21)


def test_usage_is_the_last_chunk_of_a_stream_that_asks_for_it(client: Any) -> None:
    asked: Any = {"model": "symbol-llm", "stream": True, "stream_options": {"include_usage": True}, "n": 2}
    for chunks in (
        list(client.chat.completions.create(messages=[{"role": "user", "content": APPLES}], **asked)),
        list(client.completions.create(prompt=APPLES, **asked)),
    ):
        assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        assert (chunks[-1].choices, told(chunks[-1].usage)) == ([], (12, 2, 14))
        assert len({chunk.id for chunk in chunks}) == 1


def test_stream_that_does_not_ask_has_no_usage(server: Server) -> None:
    for path in BODIES:
        for more in ({}, {"stream_options": {"include_usage": False}}):
            text = post(server, path, stream=True, **more).text
            assert "usage" not in text
            assert text.endswith("data: [DONE]\n\n")


def test_langchain_is_told_the_tokens_of_a_stream_too(server: Server) -> None:
    chat = pytest.importorskip("langchain_openai").ChatOpenAI
    model = chat(base_url=f"{server.url}/openai/v1", api_key="none", model="symbol-llm", stream_usage=True)
    expected = {"input_tokens": 12, "output_tokens": 1, "total_tokens": 13}
    whole = None
    for chunk in model.stream(APPLES):
        whole = chunk if whole is None else whole + chunk
    for found in (whole, model.invoke(APPLES)):
        assert {name: found.usage_metadata[name] for name in expected} == expected


def test_what_is_too_long_for_the_model_is_refused_and_the_rest_served(tmp_path: Any) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 20}')
    named = tmp_path / "weights"
    named.write_text(str(tmp_path))
    server = Server(named)
    try:
        why = "15 tokens and 6 for the reply: the model reads 20 together"
        long = [{"role": "user", "content": "word " * 15}]
        reply = post(server, CHAT, messages=long, max_tokens=6)
        assert (reply.status_code, reply.json()["error"]["message"]) == (400, why)
        assert post(server, CHAT, messages=long, max_tokens=5).status_code == 200
        assert server.predict({"question": "word " * 15})[0] == 400
    finally:
        server.stop()
