"""Self-training of symbol-writing language models: collect, tune, explore, select, evaluate, promote."""

__version__ = "0.1.0"
