"""Checkpoints for tests: small ones that are whole by what their files say of themselves, and a real one that is altered."""

import json
import shutil
import struct
from collections.abc import Collection
from pathlib import Path


def tensors(n: int = 4) -> bytes:
    """Return a safetensors file of one tensor of `n` bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [n], "data_offsets": [0, n]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(n)


def whole_checkpoint(folder: Path, *more: str) -> Path:
    """Write a checkpoint to `folder`, with further empty files named `more`; no model can be loaded from it."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(tensors())
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    for name in more:
        (folder / name).touch()
    return folder


def muted(source: Path, folder: Path, layers: Collection[int]) -> Path:
    """Make a copy of the checkpoint `source` with the output of some layers silenced: of the last, it says other things."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    for layer in layers:
        weights[f"model.layers.{layer}.mlp.down_proj.weight"].zero_()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
