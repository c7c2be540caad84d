"""Signatures of checkpoints: what is served is what was promoted, whoever may write to the registry and the store.

A signature is OpenSSF Model Signing's (model-signing 1): a Sigstore bundle around an in-toto statement that has the SHA-256 of
every file, made with an elliptic-curve key. The registry keeps it as a tag of the version; `model_signing verify key` and other
tools of that format read it. It says that the owner of the key promoted these files at some time, and not that they are the
newest: who may write to the registry can still have an older signed version served.

Signed are the files that count for a checkpoint's digest, but for the texts in `LOOSE`, which nothing loads. Symbolic links are
refused, since what they lead to may change. A file that is changed between the verification and the loading is not noticed.
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from symbol_llm.ground import files
from symbol_llm.ground.errors import InvalidInput, MissingDependency

SIGNATURE = "model.sig"
"""What the signature of an exported checkpoint is called, in its folder."""
LOOSE = frozenset({SIGNATURE, "README.md", "DATA_CARD.md"})
CURVES = "P-256, P-384 or P-521"
UNUSABLE = (ValueError, TypeError, AttributeError, OSError)
"""What the library raises for a file that is no key, for an encrypted key, for one of another kind, for no file."""


def signer(key: Path) -> Callable[[Path], str]:
    """Return what signs a folder with the private `key` and returns the signature; InvalidInput for a key that cannot be used."""
    config = _library("signing").Config()
    try:
        config.use_elliptic_key_signer(private_key=key)
    except UNUSABLE as e:
        raise InvalidInput(f"{key}: expected a private key on {CURVES}, as PEM and not encrypted: {_first(e)}") from e

    def sign(folder: Path) -> str:
        config.set_hashing_config(_hashed(folder))
        with tempfile.NamedTemporaryFile(suffix=".sig") as signature:
            try:
                config.sign(folder, signature.name)
            except ValueError as e:
                raise InvalidInput(f"{folder}: cannot be signed: {_first(e)}") from e
            return Path(signature.name).read_text()

    return sign


def verify(folder: Path, signature: str, key: Path) -> None:
    """Raise InvalidInput unless `signature` is one of the files in `folder` by the owner of the public `key`; empty for none."""
    if not signature:
        raise InvalidInput(f"{folder}: is not signed; `symbol-llm sign` or `promote.signing_key` signs a version")
    config = _library("verifying").Config().set_hashing_config(_hashed(folder))
    try:
        config.use_elliptic_key_verifier(public_key=key)
    except UNUSABLE as e:
        raise InvalidInput(f"{key}: expected a public key on {CURVES}, as PEM: {_first(e)}") from e
    with tempfile.NamedTemporaryFile("w", suffix=".sig") as file:
        file.write(signature)
        file.flush()
        why = _fault(lambda: config.verify(folder, Path(file.name)), folder, signature)
    if why:
        raise InvalidInput(f"{folder}: {why} (checked with the key {key})")


def read(folder: Path) -> str:
    """Return the signature that lies in `folder`, as in one that was exported; empty where there is none."""
    return files.read_text(folder / SIGNATURE) if (folder / SIGNATURE).is_file() else ""


def _fault(check: Callable[[], None], folder: Path, signature: str) -> str:
    """Return why `check` does not accept the signature; empty if it does."""
    from cryptography.exceptions import InvalidSignature

    try:
        check()
    except InvalidSignature:
        return "its signature was made with another key, or altered"
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as e:
        said = _first(e)
        if said.startswith("Key mismatch"):
            return "its signature was made with another key"
        if said.startswith("Signature mismatch"):  # so the signature itself is good
            return _difference(folder, signature) or said
        return f"its signature cannot be checked: {said}"
    return ""


def _difference(folder: Path, signature: str) -> str:
    """Return in what the files of `folder` differ from those that were signed, the first of each kind by name."""
    statement = json.loads(base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"]))
    signed = {one["name"]: one["digest"] for one in statement["predicate"]["resources"]}
    found = {name: digest for name, digest in files.digests(folder).items() if _is_signed(name)}
    kinds = {
        "was altered": [name for name in signed if found.get(name, signed[name]) != signed[name]],
        "was not signed": [name for name in found if name not in signed],
        "is missing": [name for name in signed if name not in found],
    }
    told = [f"{min(names)} {what}" for what, names in kinds.items() if names]
    return ", ".join(told)


def _hashed(folder: Path) -> Any:
    """Return how the files of `folder` are hashed: those that are not signed are named, since the library knows no patterns."""
    loose = [path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()]
    return _library("hashing").Config().set_ignored_paths(paths=[p for p in loose if not _is_signed(p.as_posix())])


def _is_signed(name: str) -> bool:
    return files.counts(name) and name not in LOOSE


def _library(module: str) -> Any:
    """Return a module of model-signing; MissingDependency without it."""
    try:
        import model_signing.hashing
        import model_signing.signing
        import model_signing.verifying
    except ModuleNotFoundError as e:
        raise MissingDependency(f"signatures need {e.name}: pip install 'symbol-llm[signing]'") from e
    return getattr(model_signing, module)


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip()
