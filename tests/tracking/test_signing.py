"""Signatures with real keys, made by openssl as the guide says; a file changed, added, taken away; other keys, other files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from symbol_llm.cli import main
from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput, MissingDependency
from symbol_llm.tracking import registry, signing
from tests.checkpoints import whole_checkpoint
from tests.keys import key_pair
from tests.services import free_port, running
from tests.serving.promoted import NAME, promote

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return key_pair(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return whole_checkpoint(tmp_path / "tuned", "vocab.txt", "README.md", ".lock", files.MANIFEST)


def flip(folder: Path) -> None:
    place = folder / "model.safetensors"
    whole = bytearray(place.read_bytes())
    whole[-1] ^= 1
    place.write_bytes(whole)


def test_signed_checkpoint_is_accepted_with_the_public_key_wherever_it_lies(
    weights: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    signature = signing.signer(keys[0])(weights)
    signing.verify(weights, signature, keys[1])
    weights.rename(tmp_path / "moved")
    signing.verify(tmp_path / "moved", signature, keys[1])


@pytest.mark.parametrize("name", [".later", "DATA_CARD.md", "README.md", signing.SIGNATURE, files.MANIFEST])
def test_what_nothing_loads_is_not_signed(weights: Path, keys: tuple[Path, Path], name: str) -> None:
    signature = signing.signer(keys[0])(weights)
    (weights / name).write_text("other")
    signing.verify(weights, signature, keys[1])


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one flipped bit": (flip, "model.safetensors was altered"),
    "a file added": (lambda f: (f / "adapter_config.json").write_text("{}"), "adapter_config.json was not signed"),
    "a file added below": (
        lambda f: ((f / "more").mkdir(), (f / "more" / "README.md").touch()),
        "more/README.md was not signed",
    ),
    "a file taken away": (lambda f: (f / "vocab.txt").unlink(), "vocab.txt is missing"),
    "a file renamed": (
        lambda f: (f / "vocab.txt").rename(f / "words.txt"),
        "words.txt was not signed, vocab.txt is missing",
    ),
    "a link in place of a file": (
        lambda f: ((f / "config.json").rename(f.parent / "c"), (f / "config.json").symlink_to(f.parent / "c")),
        "config.json' because it is a symlink",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_checkpoint_is_refused_and_the_file_is_named(
    weights: Path, keys: tuple[Path, Path], change: str
) -> None:
    signature = signing.signer(keys[0])(weights)
    made, message = CHANGES[change]
    made(weights)
    with pytest.raises(InvalidInput, match=message) as found:
        signing.verify(weights, signature, keys[1])
    assert "\n" not in str(found.value)


def test_signature_of_another_key_is_refused(weights: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    other = key_pair(tmp_path)
    with pytest.raises(InvalidInput, match="was made with another key"):
        signing.verify(weights, signing.signer(other[0])(weights), keys[1])


def test_signature_whose_words_were_changed_is_refused(weights: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """The name of the key in it says whose it is, and is changed with the rest."""
    other = key_pair(tmp_path)
    mine, theirs = (signing.signer(pair[0])(weights) for pair in (keys, other))
    name = mine.partition('"hint":"')[2][:64]
    forged = theirs.replace(theirs.partition('"hint":"')[2][:64], name)
    assert forged != theirs
    with pytest.raises(InvalidInput, match="was made with another key, or altered"):
        signing.verify(weights, forged, keys[1])


@pytest.mark.parametrize("text", ["no JSON", "{}", "[]", '{"verificationMaterial": {}, "mediaType": "x"}'])
def test_text_that_is_no_signature_is_refused(weights: Path, keys: tuple[Path, Path], text: str) -> None:
    with pytest.raises(InvalidInput, match="its signature cannot be checked"):
        signing.verify(weights, text, keys[1])


def test_unsigned_checkpoint_is_refused(weights: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(InvalidInput, match="is not signed; `symbol-llm sign`"):
        signing.verify(weights, "", keys[1])


def test_link_is_not_signed(weights: Path, keys: tuple[Path, Path]) -> None:
    (weights / "more.json").symlink_to(weights / "config.json")
    with pytest.raises(InvalidInput, match="cannot be signed: .* is a symlink"):
        signing.signer(keys[0])(weights)


BAD_KEYS = {
    "of RSA": ("genpkey", "-algorithm", "RSA"),
    "of another curve": ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"),
    "encrypted": ("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass", "pass:x"),
}


@pytest.mark.parametrize("kind", [*BAD_KEYS, "public", "none"])
def test_key_that_cannot_sign_is_named(keys: tuple[Path, Path], tmp_path: Path, kind: str) -> None:
    key = {"public": keys[1]}.get(kind, tmp_path / "key.pem")
    if kind in BAD_KEYS:
        subprocess.run(["openssl", *BAD_KEYS[kind], "-out", key], check=True, capture_output=True)
    with pytest.raises(InvalidInput, match=f"{key.name}: expected a private key on P-256") as found:
        signing.signer(key)
    assert "\n" not in str(found.value)


def test_key_that_cannot_verify_is_named(weights: Path, keys: tuple[Path, Path]) -> None:
    signature = signing.signer(keys[0])(weights)
    with pytest.raises(InvalidInput, match="expected a public key on P-256"):
        signing.verify(weights, signature, keys[0])


def test_signature_is_read_by_the_tool_of_the_format(weights: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "sig").write_text(signing.signer(keys[0])(weights))
    tool = [
        sys.executable,
        "-m",
        "model_signing",
        "verify",
        "key",
        "--signature",
        tmp_path / "sig",
        "--public_key",
        keys[1],
    ]
    done = subprocess.run([*tool, weights], capture_output=True, text=True, check=False)
    assert (done.returncode, "succeeded" in done.stdout) == (0, True), done
    flip(weights)
    assert subprocess.run([*tool, weights], capture_output=True, check=False).returncode == 1


def test_signature_stays_with_the_version_whose_files_went_to_a_server(
    tracked_home: Path, tmp_path: Path, weights: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint is uploaded to the artifacts of the run, and a reader has no folder of this machine."""
    address = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={address.rpartition(':')[2]}"]
    command += [f"--backend-store-uri=sqlite:///{tracked_home / 'mlflow.db'}", "--workers=1"]
    command += [f"--artifacts-destination={tmp_path / 'artifacts'}"]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with running(command, tmp_path / "log", f"{address}/health", env=os.environ | settings, wait_s=120):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        promote(weights, 15, keys[0])
        weights.rename(tmp_path / "gone")
        name, version = registry.named(f"models:/{NAME}@champion")
        folder = registry.fetch(version.source, version.digest)
        assert folder.is_relative_to(tracked_home / "weights")
        signing.verify(folder, registry.signature(name, version.number), keys[1])


def test_champion_of_before_is_signed_from_the_command_line(
    tracked_home: Path, tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    promote(whole_checkpoint(tmp_path / "tuned"), 15)
    run = CliRunner().invoke
    shared = ["--set", f"promote.name={NAME}"]
    wanted = ["export", "champion", str(tmp_path / "out"), "--verify-key", str(keys[1])]
    refused = run(main, [*shared, *wanted])
    assert (refused.exit_code, "is not signed" in refused.stderr) == (2, True)
    assert run(main, [*shared, "sign", "champion", str(keys[0])]).exit_code == 0
    assert run(main, [*shared, *wanted]).exit_code == 0
    assert signing.read(tmp_path / "out") == registry.signature(NAME, "1")


def test_what_is_not_installed_is_named_with_its_extra(
    weights: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing.hashing", None)
    with pytest.raises(MissingDependency, match=r"pip install 'symbol-llm\[signing\]'"):
        signing.verify(weights, "{}", keys[1])
