"""What the generators draw from, and the worked examples: `api.yaml`, written for this project."""

from importlib import resources

import yaml

DATA = yaml.safe_load(resources.files("symbol_llm.tasks.api").joinpath("api.yaml").read_text(encoding="utf-8"))
OWN = {"split": "train", "source": "generated", "licence": "Apache-2.0"}


def shots(name: str) -> tuple[tuple[str, str, str], ...]:
    """Return the worked examples of `name`: context, question, program."""
    return tuple((context, question, program) for context, question, program in DATA["shots"][name])
