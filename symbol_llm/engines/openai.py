"""Any OpenAI-compatible chat endpoint: vLLM's server, KServe, a hosted model. It samples; it cannot score a given reply.

The address is OPENAI_BASE_URL (`http://host/v1`), the key OPENAI_API_KEY, the model OPENAI_MODEL (default: the first one
served), OPENAI_TIMEOUT_S the seconds to wait for an answer (default: 600). A vLLM server started with VLLM_SERVER_DEV_MODE=1
also takes new weights in place. One that starts beside this process, on weights that this process finds, reads their folder in
the file OPENAI_WEIGHTS, and may take OPENAI_START_S seconds to answer (default: 0).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import queue
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import httpx
import tenacity

from symbol_llm.engines import Completion, Ended, Engine, Intake, Request, Written
from symbol_llm.engines.chat import tokenizer
from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput, Unavailable
from symbol_llm.ground.records import Messages

T = TypeVar("T")
TRIES = 3
MAX_WAIT_S = 60.0
OF_A_REQUEST = (400, 413, 422)
"""Statuses that speak of the body of a request, and not of the endpoint."""
LOOK_S = 0.05
"""Seconds between two looks at what is not wanted any more, while replies are written."""
_BACK_OFF = tenacity.wait_exponential_jitter(initial=0.1, max=5.0, jitter=0.1)
"""Seconds before another try, where the endpoint does not say how long (Retry-After)."""


def start(checkpoint: Path, *, batch: int, n_engines: int = 1) -> OpenAIEngine:
    """Return the engine of OPENAI_BASE_URL after it took `checkpoint`, which a server beside may be waiting for."""
    if n_engines > 1:
        raise InvalidInput(f"{n_engines} models at once: the endpoint of engine 'openai' has one")
    _show(checkpoint)
    engine = connect(batch=batch)
    engine.load(checkpoint)
    return engine


def connect(*, batch: int) -> OpenAIEngine:
    """Return the engine of OPENAI_BASE_URL with the model it serves."""
    url = os.environ.get("OPENAI_BASE_URL")
    if not url:
        raise InvalidInput("engine 'openai' needs OPENAI_BASE_URL, for example http://localhost:8000/v1")
    return OpenAIEngine(url, os.environ.get("OPENAI_API_KEY", ""), os.environ.get("OPENAI_MODEL"), batch=batch)


class OpenAIEngine(Engine):
    """One model behind an endpoint; `batch` requests are in flight at once. It is asked from a thread of its own."""

    name = "openai"

    def __init__(self, url: str, key: str = "", model: str | None = None, *, batch: int = 16) -> None:
        """Ask `url` which model it serves, unless `model` says so."""
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"OPENAI_BASE_URL {url!r}: expected http://host/v1 or https://host/v1")
        self.url, self.batch = url.rstrip("/"), batch
        self.runs_on = self.url
        self._gives_logprobs = True
        self._weights: Path | None = None
        self._tok: Any = None
        self.timeout_s, start_s = _seconds("OPENAI_TIMEOUT_S", 600, least=1e-3), _seconds("OPENAI_START_S", 0)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(
            headers=headers, timeout=self.timeout_s, limits=httpx.Limits(max_keepalive_connections=batch)
        )
        self._free = asyncio.Semaphore(batch)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=_turn, args=(self._loop,), name="ask", daemon=True).start()
        weakref.finalize(self, _stop, self._loop, self._client)
        self.model = model or self._first_model(start_s)

    def _first_model(self, start_s: float) -> str:
        """Return the first model that is served, once the endpoint answers; vLLM says how many tokens it reads, too."""
        url = f"{self.url}/models"
        served = self._call("GET", url, wait_s=start_s)
        try:
            first = served["data"][0]
            self.reads = int(first.get("max_model_len") or 0)
            return str(first["id"])
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as e:
            raise Unavailable(f"{url}: no list of models: {str(served)[:200]!r}; name one by OPENAI_MODEL") from e

    def stream(self, requests: Sequence[Request]) -> Iterator[Ended]:
        """See `Engine.stream`. Equal seeds give equal replies only where the endpoint keeps its word on `seed`."""
        places: dict[Future[list[Completion]], tuple[int, int]] = {}
        answered: queue.SimpleQueue[Future[list[Completion]]] = queue.SimpleQueue()
        try:
            for number, request in enumerate(requests):
                for place, prompt in enumerate(request.prompts):
                    asked = self._body(request, prompt, request.sampling.n, request.seed + place)
                    places[self._begin(self._ask(asked), answered.put)] = (number, place)
            for _ in range(len(places)):
                call = answered.get()
                yield Ended(*places.pop(call), call.result())
        finally:
            for call in places:
                call.cancel()

    def serve(self, intake: Intake) -> Iterator[Written]:
        """See `Engine.serve`. Each reply is asked for by itself, so that it is told as it ends; giving it up is hanging up."""
        waiting: dict[Future[None], tuple[int, int]] = {}
        told: queue.SimpleQueue[Written | Future[None] | None] = queue.SimpleQueue()
        n_asked = 0
        intake.ring(lambda: told.put(None))
        try:
            while True:
                for request in intake.take():
                    for place, nth in itertools.product(range(len(request.prompts)), range(request.n_drawn)):
                        spot = _Spot(n_asked, place, nth, request.sampling.n // request.n_drawn)
                        body = self._body(request, request.prompts[place], 1, request.seed_of(place, nth))
                        write = self._write(spot, body, told.put, watched=intake.watches(n_asked))
                        waiting[self._begin(write, told.put)] = (n_asked, place)
                    n_asked += 1
                for call in [call for call, prompt in waiting.items() if not intake.wants(*prompt)]:
                    del waiting[call]
                    call.cancel()
                if not waiting:
                    return
                for one in _next(told):
                    if isinstance(one, Written):
                        yield one
                    elif one and one in waiting:
                        _tell(one, waiting.pop(one)[0], intake)
        finally:
            for call in waiting:
                call.cancel()

    def score(self, prompts: Sequence[Messages], replies: Sequence[str]) -> list[Completion]:
        """Raise InvalidInput: chat endpoints do not score a given reply."""
        raise InvalidInput(
            "engine 'openai' cannot score replies; set explore.rescore=published, or take vllm or transformers"
        )

    def load(self, checkpoint: Path) -> None:
        """Have a vLLM server in development mode take the weights of `checkpoint`.

        Unavailable if the server cannot: it would go on sampling the weights it was started with.
        """
        _show(checkpoint)
        root = self.url.removesuffix("/v1")
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(checkpoint.absolute())}}
        try:
            self._call("POST", f"{root}/collective_rpc", body)
        except _RefusedError as e:
            if e.status in (404, 405):
                raise Unavailable(
                    f"{self.url} cannot take the weights of {str(checkpoint)!r} ({e.status} at /collective_rpc), and would go "
                    "on with its own: start vLLM with VLLM_SERVER_DEV_MODE=1, or choose the engine vllm or transformers"
                ) from e
            raise
        self._call("POST", f"{root}/reset_prefix_cache")
        self._weights, self._tok = checkpoint, None

    @property
    def tok(self) -> Any:
        """The tokenizer of the weights that it took; None where it took none, and the endpoint alone knows."""
        if self._tok is None and self._weights:
            self._tok = tokenizer(self._weights)
        return self._tok

    def _begin(self, work: Coroutine[Any, Any, T], told: Callable[[Future[T]], None]) -> Future[T]:
        """Begin `work` in the thread that asks; `told` is called with what came of it, unless it was cancelled."""
        call = asyncio.run_coroutine_threadsafe(work, self._loop)
        call.add_done_callback(lambda done: None if done.cancelled() else told(done))
        return call

    def _body(self, request: Request, prompt: Messages, n: int, seed: int) -> dict[str, Any]:
        _, temperature, top_p, max_tokens = request.sampling
        body = {"model": self.model, "messages": prompt, "n": n, "temperature": temperature}
        return body | {"top_p": top_p, "max_tokens": max_tokens, "seed": seed}

    async def _ask(self, body: dict[str, Any]) -> list[Completion]:
        """Return the replies to `body` with log-probabilities, unless the endpoint has refused to give any."""
        url = f"{self.url}/chat/completions"
        async with self._free:
            if self._gives_logprobs:
                try:
                    return _completions(url, await self._answered("POST", url, body | {"logprobs": True}), body["n"])
                except _RefusedError as e:
                    if "logprobs" not in str(e):
                        raise
                    self._gives_logprobs = False
            return _completions(url, await self._answered("POST", url, body), body["n"])

    async def _write(
        self, spot: _Spot, body: dict[str, Any], tell: Callable[[Written], None], *, watched: bool
    ) -> None:
        """Have one reply written, and `tell` of it: as it grows if it is `watched`, and once it has ended.

        Log-probabilities are 0: an endpoint takes longer to give them.
        """
        url, grown = f"{self.url}/chat/completions", _Grown()

        def grow(chunk: Any) -> None:
            if grown.add(chunk):
                spot.tell(grown.completion, tell, has_ended=False)

        async with self._free:
            if watched:
                await self._read(url, body | {"stream": True, "stream_options": {"include_usage": True}}, grow)
                completion = grown.completion
            else:
                (completion,) = _completions(url, await self._answered("POST", url, body), 1)
        spot.tell(completion, tell)

    def _call(self, method: str, url: str, body: Any = None, wait_s: float = 0.0) -> Any:
        """Return the JSON value at `url`, None for an empty answer; passing trouble is waited out, TRIES times and `wait_s`."""
        return asyncio.run_coroutine_threadsafe(self._answered(method, url, body, wait_s), self._loop).result()

    async def _answered(self, method: str, url: str, body: Any = None, wait_s: float = 0.0) -> Any:
        async def once() -> httpx.Response:
            response = await self._client.request(method, url, json=body)
            _check(response)
            return response

        response = await self._retried(url, once, wait_s)
        return _parsed(url, response.text) if response.content.strip() else None

    async def _read(self, url: str, body: dict[str, Any], hear: Callable[[Any], None]) -> None:
        """Let `hear` have each chunk of the answer, a stream, to `body`; it is asked for again only if none has come."""
        n_heard = 0

        async def once() -> None:
            nonlocal n_heard
            try:
                async with self._client.stream("POST", url, json=body) as response:
                    if not response.is_success:
                        await response.aread()
                    _check(response)
                    async for line in response.aiter_lines():
                        if line.startswith("data:") and (data := line.removeprefix("data:").strip()) != "[DONE]":
                            hear(_parsed(url, data))
                            n_heard += 1
            except httpx.TransportError as e:
                if n_heard:
                    raise Unavailable(f"{url}: the answer broke off: {_reason(e)}") from e
                raise

        await self._retried(url, once)

    async def _retried(self, url: str, once: Callable[[], Coroutine[Any, Any, T]], wait_s: float = 0.0) -> T:
        async def named() -> T:
            try:
                return await once()
            except httpx.TimeoutException as e:  # another wait as long as this one would not be a passing trouble
                raise Unavailable(f"{url}: no answer within {self.timeout_s:g} s (OPENAI_TIMEOUT_S)") from e
            except (httpx.TransportError, httpx.DecodingError) as e:
                raise _PassingError(_reason(e)) from e

        tries = tenacity.AsyncRetrying(
            stop=tenacity.stop_all(tenacity.stop_after_attempt(TRIES), tenacity.stop_after_delay(wait_s)),
            wait=_wait,
            retry=tenacity.retry_if_exception_type(_PassingError),
            sleep=_sleep,
            reraise=True,
        )
        try:
            return await tries(named)
        except _PassingError as e:
            n = tries.statistics["attempt_number"]
            raise Unavailable(f"{url}: no answer after {n} tries: {e}") from e


class _Spot(NamedTuple):
    """Which reply is meant, and for how many, from number `nth` on, it stands."""

    number: int
    place: int
    nth: int
    n_copies: int

    def tell(self, completion: Completion, tell: Callable[[Written], None], *, has_ended: bool = True) -> None:
        for nth in range(self.nth, self.nth + self.n_copies):
            tell(Written(self.number, self.place, nth, completion, has_ended))


class _Grown:
    """A reply as it comes in chunks."""

    def __init__(self) -> None:
        self._text = ""
        self.completion = Completion("", 0, 0.0)
        """What there is of it. Its tokens are counted by chunks until the endpoint says how many there are."""

    def add(self, chunk: Any) -> bool:
        """Take in `chunk`; return whether it says more of the reply."""
        try:
            grown = "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
            said = (chunk.get("usage") or {}).get("completion_tokens")
        except (KeyError, TypeError, AttributeError) as e:
            raise Unavailable(f"not a chunk of a chat completion: {str(chunk)[:200]!r}") from e
        self._text += grown
        self.completion = Completion(_whole(self._text), said or self.completion.n_tokens + bool(grown), 0.0)
        return bool(grown)


def _next(told: queue.SimpleQueue[T]) -> Iterator[T]:
    """Yield what has come by now, or, where nothing has, what comes in the next moment."""
    try:
        yield told.get(timeout=LOOK_S)
    except queue.Empty:
        return
    for _ in range(told.qsize()):
        yield told.get()


def _tell(ended: Future[None], request: int, intake: Intake) -> None:
    """Raise Unavailable for what went wrong, unless it is wrong with `request` alone."""
    try:
        ended.result()
    except _RefusedError as e:
        if e.status not in OF_A_REQUEST:
            raise Unavailable(str(e)) from e
        intake.refuse(request, e)


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> None:
    async def stop() -> None:
        await client.aclose()
        loop.stop()

    loop.call_soon_threadsafe(lambda: loop.create_task(stop()))


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _show(checkpoint: Path) -> None:
    """Write where `checkpoint` lies for a server that starts beside this process, if there is one."""
    if named := os.environ.get("OPENAI_WEIGHTS"):
        files.write_text(Path(named), f"{checkpoint.absolute()}\n")


def _seconds(name: str, default: float, least: float = 0.0) -> float:
    said = os.environ.get(name, str(default))
    if not said.replace(".", "", 1).isdecimal() or float(said) < least:
        raise InvalidInput(f"{name} {said!r}: expected seconds, as in 600")
    return float(said)


class _PassingError(Exception):
    """The endpoint may answer later, not before `wait_s` if it said so."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class _RefusedError(InvalidInput):
    """The endpoint answered, and said no."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def _check(response: httpx.Response) -> None:
    """Raise what a status says that is none of success; the body has to be read."""
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS or response.is_server_error:
        said = response.headers.get("Retry-After", "")
        wait_s = float(said) if said.isdecimal() else 0.0
        raise _PassingError(f"{response.status_code} {response.reason_phrase}", wait_s)
    if not response.is_success:
        raise _RefusedError(f"{response.url}: {response.status_code} {response.text[:200]}", response.status_code)


def _parsed(url: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as e:
        raise Unavailable(f"{url}: not JSON: {text[:200]!r}") from e


def _reason(error: BaseException) -> str:
    """Return what the system says that is behind `error`, such as that a connection is refused; else what it says itself."""
    deepest = error
    while inner := deepest.__cause__ or deepest.__context__:
        deepest = inner
    number = deepest.errno if isinstance(deepest, OSError) else None
    return os.strerror(number) if number else str(error) or type(error).__name__


def _wait(state: tenacity.RetryCallState) -> float:
    """Return the seconds before the next try: what the endpoint asked for, at least a back-off with jitter, at most MAX_WAIT_S."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.wait_s if isinstance(error, _PassingError) else 0.0
    return min(MAX_WAIT_S, max(asked, _BACK_OFF(state)))


def _completions(url: str, answer: Any, n: int) -> list[Completion]:
    """Return the `n` replies of `answer`; Unavailable if it has others."""
    try:
        found = [
            _completion(choice, (answer.get("usage") or {}).get("completion_tokens", 0)) for choice in answer["choices"]
        ]
    except (KeyError, TypeError, AttributeError) as e:
        raise Unavailable(f"{url}: not a chat completion: {str(answer)[:200]!r}") from e
    if len(found) != n:
        raise Unavailable(f"{url}: {len(found)} replies, asked for n={n}")
    return found


def _completion(choice: Any, n_tokens: int) -> Completion:
    """Return a reply, whose tokens are those that log-probabilities were given of, or else all `n_tokens` of the answer."""
    tokens = ((choice.get("logprobs") or {}).get("content")) or []
    total = sum(t["logprob"] for t in tokens)
    return Completion(_whole(choice["message"]["content"] or ""), len(tokens) or n_tokens, total / max(1, len(tokens)))


def _whole(text: str) -> str:
    """Return `text` without halves of surrogate pairs, which JSON can hold and no file can."""
    return text.encode(errors="replace").decode()
