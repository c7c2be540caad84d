"""What a model is computed on here, and in which floats: bf16 where the hardware multiplies it, else float32.

Processors without AMX or AVX-512 BF16 emulate bf16 several times slower than they compute float32. Checkpoints are
written in bf16 either way.
"""

from __future__ import annotations

from typing import Any


def device() -> str:
    """Return the name of the GPU, or `cpu` where there is none."""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"


def has_bf16() -> bool:
    """Say whether matrix products in bf16 are no slower than in float32 on this machine's device."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def dtype() -> Any:
    """Return the torch dtype to compute in."""
    import torch

    return torch.bfloat16 if has_bf16() else torch.float32
