"""Figures as SVG text, for pages that need nothing from elsewhere: equal data give equal bytes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

BLUE, ORANGE, GREEN, RED, GREY = "#2b6cb0", "#dd8452", "#2f855a", "#c53030", "#718096"


def svg(draw: Callable[[Any], None], width: float = 4.2, height: float = 2.9) -> str:
    """Return what `draw` puts on an axes, as SVG text; equal data give equal bytes."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "symbol-llm"  # equal data, equal bytes
    from matplotlib.figure import Figure

    picture = Figure(figsize=(width, height), layout="constrained")
    axes = picture.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    draw(axes)
    out = io.StringIO()
    picture.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
