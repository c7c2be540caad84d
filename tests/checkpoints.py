"""Small checkpoints that are whole by what their files say of themselves; no model can be loaded from them."""

import json
import struct
from pathlib import Path


def tensors(n: int = 4) -> bytes:
    """Return a safetensors file of one tensor of `n` bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [n], "data_offsets": [0, n]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(n)


def whole_checkpoint(folder: Path, *more: str) -> Path:
    """Write a checkpoint to `folder`, with further empty files named `more`."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(tensors())
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    for name in more:
        (folder / name).touch()
    return folder
