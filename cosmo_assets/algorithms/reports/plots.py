"""Pictures for the metadata of partitions: PNG in Markdown, nothing fetched."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

INK, FAINT = "#2b4c7e", "#c8ccd4"
LABELLED = 24  # more names than this would cover each other


def scatter(plane: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> str:
    """Draw points (rows, 2) by cluster, noise in grey, the larger clusters named."""
    figure, axes = _figure(8.0, 6.0)
    noise = labels < 0
    axes.scatter(*plane[noise].T, s=3, color=FAINT, linewidths=0)
    axes.scatter(*plane[~noise].T, s=5, c=labels[~noise] % 20, cmap="tab20", linewidths=0)
    for cluster, name in list(enumerate(names))[:LABELLED]:
        x, y = plane[labels == cluster].mean(axis=0)
        axes.annotate(name.replace("_", " "), (x, y), fontsize=7, ha="center")
    axes.set_axis_off()  # distances across the plane mean nothing, so no scale is shown
    return _markdown(figure)


def line_chart(x: Sequence[float], y: Sequence[float], *, across: str, up: str) -> str:
    """Draw one line."""
    figure, axes = _figure(6.0, 3.2)
    axes.plot(x, y, color=INK)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return _markdown(figure)


def bar_chart(values: Mapping[str, float], *, unit: str) -> str:
    """Draw one horizontal bar a name."""
    figure, axes = _figure(5.0, 0.6 + 0.35 * len(values))
    axes.barh(list(values)[::-1], list(values.values())[::-1], color=INK)
    axes.set_xlabel(unit)
    return _markdown(figure)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # noqa: PLC0415  # half a second, for pictures only

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _markdown(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return f"![plot](data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()})"
