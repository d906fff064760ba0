"""Figures of a report: SVG text whose colours are CSS variables, so they follow the page.

matplotlib, the extra ``plots``, is imported when a figure is drawn. It knows no CSS variables:
figures are drawn in colours that stand for them, which are replaced in the text.
"""

import importlib.util
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from recae.errors import ConfigError
from recae.evaluation.report import Summary

N_COLOURS = 9

_INK, _AXIS, _GRID = "#000001", "#000002", "#000003"
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
    series: Mapping[str, Points], *, colours: Sequence[str], x: str, y: str, log_x: bool, alt: str
) -> Markup:
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

    return _svg(draw, alt)


def dots(groups: Sequence[str], bars: Sequence[Bar], *, y: str, alt: str) -> Markup:
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

    return _svg(draw, alt)


def _reach(s: Summary) -> tuple[float, float]:
    """How far the interval reaches down, not below 0, where no metric goes, and up."""
    half = _NORMAL_95 * (s.se or 0.0)
    return min(half, s.mean), half


def _style(i: int) -> dict[str, Any]:
    """Colour, marker and dashes together tell models apart, so colour alone never has to."""
    return {
        "color": _series(i),
        "marker": _MARKERS[i % len(_MARKERS)],
        "linestyle": _DASHES[i % len(_DASHES)],
        "linewidth": 1.8,
        "markersize": 6,
    }


def _marked(style: dict[str, Any], n_points: int) -> dict[str, Any]:
    return style | {"markevery": max(1, n_points // 12)}


def _series(i: int) -> str:
    return f"#0000{0x10 + i % N_COLOURS:02x}"


def _svg(draw: Callable[[Any], None], alt: str) -> Markup:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",  # text stays text: small, searchable, in the page's font
        "svg.hashsalt": alt,  # names inside the file come from its content, not from chance
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
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
        figure.patch.set_alpha(0)
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0)
        draw(axes)
        handles, labels = axes.get_legend_handles_labels()
        if len(labels) > 1:
            columns = len(labels) if len(labels) <= 4 else 3
            figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), alt)


def _inline(text: str, alt: str) -> Markup:
    """Return the picture without what only a file needs, its colours as CSS variables."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    label = f'<svg xmlns="http://www.w3.org/2000/svg" {box.group()} role="img" aria-label="'
    text = re.sub(r"<svg[^>]*>", lambda _: f'{label}{escape(alt)}">', text, count=1)
    text = text.replace("xlink:href", "href")
    used = set(re.findall(r"#([A-Za-z][\w-]*)", text))
    text = re.sub(r' id="([^"]*)"', lambda m: m.group() if m.group(1) in used else "", text)
    for i in range(N_COLOURS):
        text = text.replace(_series(i), f"var(--series-{i + 1})")
    for colour, variable in ((_INK, "ink"), (_AXIS, "rule"), (_GRID, "line")):
        text = text.replace(colour, f"var(--{variable})")
    return Markup(text)  # noqa: S704  # made here; names in it are escaped by matplotlib
