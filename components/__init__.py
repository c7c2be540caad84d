"""Kubeflow Pipelines components: one folder a stage, a doorway of a few lines each. The work is in `symbol_llm.stages`."""

import os

from symbol_llm import __version__

REGISTRY = os.environ.get("SYMBOL_LLM_REGISTRY", "localhost")
"""Where nodes pull our images from, read when a pipeline is compiled. Nothing is pulled from `localhost`."""
LIGHT_IMAGE = f"{REGISTRY}/symbol-llm/light:{__version__}"
"""Without torch: whatever needs no model."""
CPU_IMAGE = f"{REGISTRY}/symbol-llm/cpu:{__version__}"
GPU_IMAGE = f"{REGISTRY}/symbol-llm/gpu:{__version__}"
