"""Figures of a report: SVG on white paper, as data URIs, so that the report is one file.

matplotlib, the extra ``plots``, is imported when a figure is drawn.
"""

import base64
import importlib.util
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from recae.errors import ConfigError
from recae.evaluation.report import Summary

_COLOURS = (
    *("#0b62a4", "#b84a00", "#00735a", "#8a3d8f", "#7a5c00"),
    *("#b0123e", "#006d85", "#555b61", "#4a44b8"),
)
_INK, _AXIS, _GRID = "#1b1f24", "#8c959f", "#d5dbe1"
_MARKERS = "osD^vPX*<"
_DASHES = ("-", "--", "-.", ":")
_SIZE_INCHES = (5.8, 3.9)  # narrow, so that on a telephone its text is still 10 px high
_NORMAL_95 = 1.96

Points = Sequence[tuple[float, float]]
Bar = tuple[str, Sequence[Summary | None]]


def require_plots() -> None:
    """Refuse before any work where figures cannot be drawn.

    Raises
    ------
    ConfigError
        If matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError(
            "matplotlib, which draws the report, is missing: pip install recae[plots]"
        )


def lines(
    series: Mapping[str, Points], *, colours: Sequence[str], x: str, y: str, log_x: bool
) -> str:
    """Return a line a model; `colours` lists all models of the report, so each keeps its colour."""

    def draw(axes: Any) -> None:
        ticks = sorted({point[0] for points in series.values() for point in points})
        if log_x:
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
        else:
            axes.xaxis.get_major_locator().set_params(integer=True)
        for name, points in series.items():
            style = _style(colours.index(name))
            axes.plot(*zip(*points, strict=True), label=name, **_marked(style, len(points)))
        axes.set_xlabel(x)
        axes.set_ylabel(y)

    return _drawn(draw)


def dots(groups: Sequence[str], bars: Sequence[Bar], *, y: str) -> str:
    """Return a dot with a 95 % normal interval for each model in each group of users or items.

    Parameters
    ----------
    groups
        Labels under the axis.
    bars
        For each model its name and a summary a group, None where there is none.
    """

    def draw(axes: Any) -> None:
        step = 0.7 / max(1, len(bars))
        for i, (name, summaries) in enumerate(bars):
            offset = (i - (len(bars) - 1) / 2) * step
            found = [(g + offset, s) for g, s in enumerate(summaries) if s is not None and s.n]
            axes.errorbar(
                [place for place, _ in found],
                [s.mean for _, s in found],
                yerr=np.array([_reach(s) for _, s in found]).reshape(-1, 2).T,
                label=name,
                clip_on=False,  # a dot on the axis is a whole dot
                **_style(i) | {"linestyle": "none"},
            )
        axes.set_xticks(range(len(groups)), groups)
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.set_ylim(bottom=0)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel(y)

    return _drawn(draw)


def _reach(s: Summary) -> tuple[float, float]:
    """How far the interval reaches down, not below 0, where no metric goes, and up."""
    half = _NORMAL_95 * (s.se or 0.0)
    return min(half, s.mean), half


def _style(i: int) -> dict[str, Any]:
    """Colour, marker and dashes together tell models apart, so colour alone never has to."""
    return {
        "color": _COLOURS[i % len(_COLOURS)],
        "marker": _MARKERS[i % len(_MARKERS)],
        "linestyle": _DASHES[i % len(_DASHES)],
        "linewidth": 1.8,
        "markersize": 6,
    }


def _marked(style: dict[str, Any], n_points: int) -> dict[str, Any]:
    return style | {"markevery": max(1, n_points // 12)}


def _drawn(draw: Callable[[Any], None]) -> str:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",  # text stays text: small
        "svg.hashsalt": "recae",  # the same file each time
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 12.5,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _AXIS,
        "xtick.color": _AXIS,
        "ytick.color": _AXIS,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
        "grid.color": _GRID,
        "grid.linewidth": 0.8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes)
        handles, labels = axes.get_legend_handles_labels()
        if len(labels) > 1:
            columns = len(labels) if len(labels) <= 4 else 3
            figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(out.getvalue()).decode()}"
