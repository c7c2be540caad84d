"""How busy the machine is while a stage works: what MLflow's pages show as system metrics, sampled by a thread.

MLflow's own collectors do the measuring: processor and memory, GPUs where `nvidia-ml-py` is installed. Its monitor is not used,
since it asks the server at each sample and would hold a stage up where that is slow.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

SAMPLE_S = 10.0
SEND_AFTER = 6
"""Samples in one call."""
OFF = ("false", "0")


class Load:
    """Samples between `begin` and `end`; what `send` does not take, for a server that is away, is lost."""

    def __init__(self, send: Callable[[list[Any]], object]) -> None:
        """Have metrics of MLflow, of several samples, sent by `send`."""
        self._send = send
        self._due: list[list[Any]] = []
        self._n = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="system metrics", daemon=True)
        self._collectors: list[Any] = []

    def begin(self) -> Load:
        """Begin to sample, unless `MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING` is false or psutil is missing."""
        if os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() in OFF:
            return self
        with contextlib.suppress(ImportError):
            import psutil
            from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

            psutil.cpu_percent()  # the first call has nothing to compare with
            self._collectors.append(CPUMonitor())
        with contextlib.suppress(ImportError, RuntimeError):  # no library, or no GPU
            from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

            self._collectors.append(GPUMonitor())
        if self._collectors:
            self._thread.start()
        return self

    def end(self) -> list[Any]:
        """Stop, and return the metrics that were not sent, those of this moment among them."""
        self._done.set()
        if not self._thread.is_alive():
            return []
        self._thread.join(SAMPLE_S)
        self._sample()
        return [metric for sample in self._due for metric in sample]

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self._sample()
            if len(self._due) >= SEND_AFTER:
                due, self._due = self._due, []
                with contextlib.suppress(Exception):  # the work goes on without
                    self._send([metric for sample in due for metric in sample])

    def _sample(self) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        found: dict[str, float] = {}
        for collector in self._collectors:
            collector.collect_metrics()
            found |= collector.aggregate_metrics()
            collector.clear_metrics()
        self._due.append([Metric(f"system/{key}", float(value), now, self._n) for key, value in found.items()])
        self._n += 1
