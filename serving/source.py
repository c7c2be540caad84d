"""Where the served weights come from, and whether there are others by now."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from symbol_llm.engines import weights
from symbol_llm.tracking import registry


class Source(Protocol):
    """Weights that may change while they are served."""

    def now(self) -> str | None:
        """Return what names the weights to serve now, for comparison alone; None while there are none."""

    def fetch(self) -> Path:
        """Return the folder of those weights."""


def of(model: str) -> Source:
    """Return what `model` names: an alias in the registry, which may move, or weights that stay."""
    name, at, alias = model.removeprefix("models:/").partition("@")
    return Alias(name, alias) if model.startswith("models:/") and at else Fixed(model)


class Fixed:
    """Weights that stay: a folder, a package, a revision, a version."""

    def __init__(self, model: str) -> None:
        """Name them as `weights.resolve` takes it."""
        self.model = model

    def now(self) -> str:
        """See `Source`."""
        return self.model

    def fetch(self) -> Path:
        """See `Source`."""
        return weights.resolve(self.model)


class Alias:
    """The version that an alias of the registry names, such as the champion."""

    def __init__(self, name: str, alias: str) -> None:
        """Follow `alias` of the registered model `name`."""
        self.name, self.alias = name, alias

    def now(self) -> str | None:
        """See `Source`."""
        version = registry.by_alias(self.name, self.alias)
        return version and f"version {version.number}, {version.digest}"

    def fetch(self) -> Path:
        """See `Source`."""
        return weights.resolve(f"models:/{self.name}@{self.alias}")
