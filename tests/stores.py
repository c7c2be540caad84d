"""A remote store in place of those that MLflow knows, as far as fetching goes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from requests.exceptions import ConnectionError as NoConnection


class Store:
    """What every remote address leads to: the files of a folder. Counts how often they are fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.n, self.is_away = folder, 0, False

    def take_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have MLflow ask this store, whatever the address."""
        name = "mlflow.store.artifact.artifact_repository_registry.get_artifact_repository"
        monkeypatch.setattr(name, lambda uri, **_: self)

    def download_artifacts(self, artifact_path: str, dst_path: str) -> str:
        self.n += 1
        try:
            if self.is_away:
                raise NoConnection
        except NoConnection:
            raise MlflowException("no connection")  # noqa: B904 - as MLflow's own client raises it
        shutil.copytree(self.folder / artifact_path, dst_path, dirs_exist_ok=True)
        return dst_path
