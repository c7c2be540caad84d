"""Kubeflow Pipelines components: one folder a stage, a doorway of a few lines each. The work is in `symbol_llm.stages`."""

from symbol_llm import __version__

CPU_IMAGE = f"symbol-llm/cpu:{__version__}"
GPU_IMAGE = f"symbol-llm/gpu:{__version__}"
