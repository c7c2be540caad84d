"""Kubeflow's cache of finished tasks on this machine, that is trusted only while what it names is what was put into it.

Kubeflow's own (kfp 2.17) names an artifact by where it lies and asks of a result no more than that it exists. Here an
artifact is named by its content, so that a stage which is done again and gives the same bytes leaves those after it
their results, and a result whose artifacts are missing or altered is none: it is made again, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kfp.dsl import Artifact
from kfp.local.cache import LocalCache

from symbol_llm.ground import files, outputs
from symbol_llm.ground.errors import InvalidInput
from symbol_llm.ground.records import content_id


class CheckedCache(LocalCache):  # type: ignore[misc]
    """A cache in the folder `cache_root`; `doubted` is told why a result is not taken."""

    def __init__(self, cache_root: Path, doubted: Callable[[str], None]) -> None:
        """Take up what is in `cache_root`, made if absent."""
        super().__init__(str(cache_root))
        self._doubted = doubted

    def compute_key(
        self, component_name: str, image: str, full_command: Any, arguments: Any, *rest: Any, **more: Any
    ) -> str:
        """Return the key of a task: its code, environment and arguments, artifacts among them by content."""
        named = {name: _named(value) for name, value in arguments.items()}
        return str(super().compute_key(component_name, image, full_command, named, *rest, **more))

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the outputs kept under `key`, or None where there are none that can be believed."""
        path = Path(self._entry_path(key))
        if not path.exists():
            return None
        if why := self._fault(path):
            self._doubted(why)
            return None
        return dict(self._deserialize_outputs(files.read_json(path)["outputs"]))

    def put(self, key: str, made: dict[str, Any]) -> None:
        """Keep the outputs `made` under `key` with the hashes of their artifacts."""
        content = {artifact.uri: _content(artifact.uri) for artifact in _artifacts(made.values())}
        entry = {"outputs": self._serialize_outputs(made), "content": content}
        files.write_json(Path(self._entry_path(key)), entry | {"seal": content_id(entry)})

    def _fault(self, path: Path) -> str:
        """Return why the result at `path` cannot be believed, in words; empty if it can."""
        try:
            entry = files.read_json(path)
        except InvalidInput:
            entry = None
        if not isinstance(entry, dict) or content_id({k: v for k, v in entry.items() if k != "seal"}) != entry.get(
            "seal"
        ):
            return "its entry in the cache was altered"
        for uri, content in entry["content"].items():
            place = Path(uri)
            if not place.exists():
                return f"{place.name} is missing"
            if why := outputs.fault(place):
                return f"{place.name}: {why}"
            if outputs.digest(place) != content:
                return f"{place.name} was altered"
        return ""


def _artifacts(values: Any) -> Iterator[Artifact]:
    for value in values:
        if isinstance(value, Artifact):
            yield value
        elif isinstance(value, list):
            yield from _artifacts(value)


def _named(value: Any) -> Any:
    if isinstance(value, Artifact):
        return {"artifact": type(value).schema_title, "content": _content(value.uri)}
    return [_named(one) for one in value] if isinstance(value, list) else value


def _content(uri: str) -> str:
    """Return the hash of what lies at `uri`; the address itself where that is nothing."""
    place = Path(uri)
    return outputs.digest(place) if place.exists() else uri
