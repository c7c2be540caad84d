"""Low-rank adapters: the only weights that a stage tunes, merged into the others when it ends.

A matrix W stays as it is and B A alpha / rank is added to what it gives, where B begins at zero (Hu et al. 2021, LoRA). So
the optimizer holds states of a hundredth of the weights, and the result is a whole checkpoint like any other. W can be held
in 4-bit NormalFloat meanwhile (Dettmers et al. 2023, QLoRA); the adapters are then merged into the weights that W was
made from.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.params import Tune


def check(params: Tune) -> None:
    """Raise InvalidInput if weights are to be quantized where that cannot be done."""
    import torch

    if params.quantize == "none":
        return
    if not torch.cuda.is_available():
        raise InvalidInput(f"quantize={params.quantize} needs a CUDA GPU, and this machine has none; set quantize=none")
    if (n := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise InvalidInput(f"quantize={params.quantize} works in one process, not in {n}; set quantize=none")


def quantized(params: Tune, device: Any) -> dict[str, Any]:
    """Return what `from_pretrained` must be told so that a model is read as `params.quantize` says, onto `device`."""
    if params.quantize == "none":
        return {}
    import bitsandbytes  # noqa: F401 - so that its absence is told by its name
    import torch
    from transformers import BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=params.quantize,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": how, "device_map": {"": device}}


def attach(model: Any, params: Tune) -> Any:
    """Return `model` with adapters of `params.lora_rank` and all else frozen."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if params.quantize != "none":
        model = prepare_model_for_kbit_training(
            model, params.gradient_checkpointing, gradient_checkpointing_kwargs={"use_reentrant": False}
        )
    how = LoraConfig(
        r=params.lora_rank,
        lora_alpha=params.lora_alpha or 2 * params.lora_rank,
        target_modules=list(params.lora_targets) or "all-linear",
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, how)
    except ValueError as e:
        raise InvalidInput(f"lora_targets={list(params.lora_targets)} name no layers of this model: {e}") from e


def merged(model: Any, base: Path, params: Tune) -> Any:
    """Return the model that `attach` was given, or, if it was quantized, `base` read anew, with the adapters merged into it."""
    if params.quantize == "none":
        return model.merge_and_unload()
    import torch
    from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from transformers import AutoModelForCausalLM

    read = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.bfloat16, use_safetensors=True, trust_remote_code=False
    )
    whole = get_peft_model(read, model.peft_config["default"])
    set_peft_model_state_dict(whole, get_peft_model_state_dict(model))
    return whole.merge_and_unload()
