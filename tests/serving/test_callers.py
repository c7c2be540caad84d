"""Who may ask: keys, how often, how much at once; what every answer carries and what the log says. TLS with a real certificate."""

from __future__ import annotations

import datetime
import ipaddress
import json
import ssl
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from serving.callers import Callers, Refused, main, read
from symbol_llm.ground.errors import InvalidInput
from tests.serving.scripted import APPLES, WAIT, Server, until

ASK = json.dumps({"question": APPLES, "k": 5, "whole": True}).encode()


def made(file: Path, name: str, *options: str) -> str:
    """Return a new key of `name`, known in `file` from now on."""
    done = CliRunner().invoke(main, [name, "--file", str(file), *options])
    assert done.exit_code == 0, done.output
    return done.output.strip()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "callers.txt"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


# --- keys --------------------------------------------------------------------------------------------------------------


def test_key_lets_its_owner_in_and_the_file_does_not_hold_it(file: Path) -> None:
    alice, bob = made(file, "alice"), made(file, "bob")
    callers = Callers(file, 4)
    assert callers.name_of(f"Bearer {alice}", "10.0.0.1") == "alice"
    assert callers.name_of(f"bearer  {bob} ", "10.0.0.1") == "bob"
    assert alice not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer ", "Bearer nobody", "Basic {key}", "{key}", "Bearer {digest}"])
def test_anything_else_is_refused(file: Path, shown: str) -> None:
    key = made(file, "alice")
    (digest,) = read(file)
    with pytest.raises(Refused, match="a key is needed") as refused:
        Callers(file, 4).name_of(shown.format(key=key, digest=digest), "10.0.0.1")
    assert refused.value.status == 401


def test_without_a_file_a_caller_is_an_address() -> None:
    assert Callers(None, 4).name_of("Bearer whatever", "10.0.0.1") == "10.0.0.1"


def test_key_with_a_bound_comes_back_evenly(file: Path) -> None:
    clock, key = Clock(), made(file, "alice", "--per-minute", "3")
    callers = Callers(file, 4, clock)
    for _ in range(3):
        callers.name_of(f"Bearer {key}", "")
    with pytest.raises(Refused, match="3 requests a minute") as refused:
        callers.name_of(f"Bearer {key}", "")
    assert (refused.value.status, refused.value.after_s) == (429, 21)
    clock.now = 19.9
    with pytest.raises(Refused):
        callers.name_of(f"Bearer {key}", "")
    clock.now = 20.1
    callers.name_of(f"Bearer {key}", "")
    clock.now = 10_000
    for _ in range(3):
        callers.name_of(f"Bearer {key}", "")
    with pytest.raises(Refused):
        callers.name_of(f"Bearer {key}", "")


def test_caller_holds_so_many_requests_and_leaves_the_others_their_places() -> None:
    callers = Callers(None, 2)
    callers.enter("a")
    callers.enter("a")
    with pytest.raises(Refused, match="2 requests here already") as refused:
        callers.enter("a")
    assert (refused.value.status, refused.value.after_s) == (429, 1)
    callers.enter("b")
    callers.leave("a")
    callers.enter("a")


def test_changed_file_is_read_again_and_a_broken_one_changes_nothing(file: Path, caplog: Any) -> None:
    old = made(file, "alice")
    callers = Callers(file, 4)
    new = made(file, "alice")
    assert callers.name_of(f"Bearer {new}", "") == "alice"
    whole = file.read_text()
    file.write_text("alice\n")
    assert callers.name_of(f"Bearer {old}", "") == "alice"
    assert "the keys of before stay in force" in caplog.text
    file.write_text("# revoked\n" + "\n".join(whole.splitlines()[1:]))
    assert callers.name_of(f"Bearer {new}", "") == "alice"
    with pytest.raises(Refused):
        callers.name_of(f"Bearer {old}", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alice\n", "callers.txt:1: expected a name"),
        ("# fine\n\nalice " + "0" * 63, "callers.txt:3: expected"),
        ("alice " + "0" * 64 + " 0", "callers.txt:1: expected"),
        ("al ice " + "0" * 64, "callers.txt:1: expected"),
    ],
)
def test_file_that_says_nothing_is_refused_at_start(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        Callers(file, 4)


def test_file_that_is_missing_or_no_text_is_refused(file: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        Callers(file, 4)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="cannot be read"):
        Callers(file, 4)


def test_new_key_goes_to_a_line_of_its_own_and_a_name_is_a_word(file: Path) -> None:
    file.write_text("# no end of line")
    made(file, "alice")
    assert len(read(file)) == 1
    refused = CliRunner().invoke(main, ["al ice", "--file", str(file)])
    assert refused.exit_code == 2
    assert "a name has at most 64 letters" in refused.output


# --- over HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """Give a server that wants keys, and one of them, which may hold two requests."""
    file = tmp_path_factory.mktemp("keys") / "callers.txt"
    key = made(file, "alice")
    server = Server(n_waiting=8, keys=file, n_each=2)
    yield server, key
    server.stop()


def test_strangers_see_the_page_and_probes_alone(keyed: tuple[Server, str]) -> None:
    server, key = keyed
    assert server.get("/v1/solve", ASK)[0] == 401
    assert server.get("/v1/tasks")[0] == 401
    assert server.get("/openai/v1/models")[0] == 401
    assert server.get("/openapi.json")[0] == 401
    assert server.get("/v1/models/symbol-llm:predict", b"{}")[0] == 401
    for path in ("/", "/health", "/metrics", "/v2/health/live", "/v2/health/ready", "/v1/models/symbol-llm"):
        assert server.get(path)[0] == 200
    status, text = server.get("/v1/solve", ASK, Authorization=f"Bearer {key}")
    assert (status, json.loads(text)["answer"]) == (200, "7")
    assert server.get("/v2/repository/models/symbol-llm/unload", b"{}", Authorization=f"Bearer {key}")[0] == 403


def test_openai_client_shows_its_key(keyed: tuple[Server, str]) -> None:
    import openai

    server, key = keyed
    chat = {"model": "symbol-llm", "messages": [{"role": "user", "content": APPLES}]}
    known = openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key=key)
    assert known.chat.completions.create(**chat).choices[0].message.content
    with pytest.raises(openai.AuthenticationError, match="a key is needed"):
        known.with_options(api_key="wrong").chat.completions.create(**chat)


def test_caller_with_too_many_requests_is_told_when_to_come_back(keyed: tuple[Server, str]) -> None:
    server, key = keyed
    body, shown = json.dumps({"question": WAIT, "k": 1}).encode(), {"Authorization": f"Bearer {key}"}
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(server.get, "/v1/solve", body, **shown) for _ in range(2)]
        until(lambda: "symbol_llm_waiting 2.0" in server.get("/metrics")[1])
        request = urllib.request.Request(f"{server.url}/v1/solve", data=ASK, headers=shown)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert (refused.value.code, refused.value.headers["Retry-After"]) == (429, "1")
        refused.value.close()
        server.gate.set()
        assert [one.result()[0] for one in held] == [200, 200]
    assert server.get("/v1/solve", ASK, **shown)[0] == 200


def test_answers_carry_the_id_of_their_request(keyed: tuple[Server, str]) -> None:
    server, key = keyed
    for given, kept in (("from-the-gateway.1", True), ("no word!", False)):
        headers = {"Authorization": f"Bearer {key}", "X-Request-ID": given}
        with urllib.request.urlopen(urllib.request.Request(f"{server.url}/v1/tasks", headers=headers)) as reply:
            assert (reply.headers["X-Request-ID"] == given) is kept
            assert len(reply.headers["X-Request-ID"]) in (18, 32)
            assert reply.headers["X-Content-Type-Options"] == "nosniff"


def test_log_says_who_was_answered_how_and_metrics_where_the_seconds_went(
    file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = made(file, "alice")
    server = Server(keys=file)
    server.get("/v1/solve", ASK, Authorization=f"Bearer {key}", **{"X-Request-ID": "r1"})
    server.get("/v1/solve", ASK, **{"X-Request-ID": "r2"})
    metrics = server.get("/metrics")[1]
    server.stop()
    told = capfd.readouterr()
    lines = [json.loads(line[line.index("{") :]) for line in (told.out + told.err).splitlines() if '"request"' in line]
    assert [(x["request"], x["caller"], x["path"], x["status"]) for x in lines] == [
        ("r1", "alice", "/v1/solve", 200),
        ("r2", "", "/v1/solve", 401),
    ]
    assert key not in told.out + told.err
    assert APPLES not in told.out + told.err
    for line in (
        'symbol_llm_seconds_count{part="queue"} 1.0',
        'symbol_llm_seconds_count{part="generate"} 1.0',
        'symbol_llm_seconds_count{part="run"} 5.0',
        "symbol_llm_tokens_total 5.0",
        'symbol_llm_verdicts_total{family="python",status="ran"} 4.0',
    ):
        assert line in metrics


# --- TLS ---------------------------------------------------------------------------------------------------------------


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate of this machine's loopback address, signed by itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).add_extension(address, critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    made = made.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(hours=1))
    paths = folder / "tls.crt", folder / "tls.key"
    paths[0].write_bytes(made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return paths


def test_server_with_a_certificate_speaks_tls_alone(tmp_path: Path) -> None:
    server = Server(tls=certificate(tmp_path))
    try:
        status, text = server.get("/v1/solve", ASK)
        assert (status, json.loads(text)["answer"]) == (200, "7")
        with httpx.Client() as stranger, pytest.raises(httpx.TransportError):
            stranger.get(server.url.replace("https", "http"))
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(server.url, context=ssl.create_default_context())
    finally:
        server.stop()
