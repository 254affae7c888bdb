"""How every figure looks: colours that the colour-blind tell apart, labels that do not overlap, files that repeat."""

import base64
import html
import io
import math
from pathlib import Path

import matplotlib
import seaborn
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from PIL import Image

# Okabe and Ito's palette; a marker of its own besides, so that no system is told by colour alone.
COLOURS = {
    "bert": "#7a7a7a",
    "mt-dnn": "#0072b2",
    "mt-dnn-kd": "#d55e00",
    "mt-dnn-ensemble": "#009e73",
    "candidate": "#cc79a7",
}
MARKERS = {"bert": "s", "mt-dnn": "o", "mt-dnn-kd": "D", "mt-dnn-ensemble": "^", "candidate": "v"}
# Other systems by how they are trained: distilled multi-task, distilled a task at a time, hard targets multi-task.
WAYS = {"mkd-": "#d55e00", "task-kd-": "#cc79a7", "mt-": "#0072b2"}
TRAIN, DEV, MUTED = "#d55e00", "#0072b2", "#5f5f5f"

_STYLE = {
    **seaborn.axes_style("whitegrid"),
    "font.family": ["DejaVu Sans"],  # it comes with matplotlib, so figures are alike everywhere
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.edgecolor": "#888888",
    "grid.color": "#e3e3e3",
    "figure.facecolor": "white",
    "svg.hashsalt": "mtkd",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a dollar in a task's name or label is a dollar
}


def colour(system: str) -> str:
    base = system.partition(":")[0]
    return COLOURS.get(base) or next(
        (tint for way, tint in WAYS.items() if base.startswith(way)), "#56b4e9"
    )


def marker(system: str) -> str:
    return MARKERS.get(system.partition(":")[0], "P")


def styled(function):
    """Draws a figure in the house style, whatever the caller's settings."""

    def draw(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(_STYLE):
            return function(*args, **kwargs)

    draw.__name__, draw.__doc__, draw.__wrapped__ = function.__name__, function.__doc__, function
    return draw


def blank(width: float, height: float) -> Figure:
    """A figure of that size in inches, tied to no window and no pyplot state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def nothing(text: str) -> Figure:
    """What stands in a figure's place where its data are missing."""
    figure = blank(9, 1.2)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED)
    figure.set_label(text)
    return figure


def image(figure: Figure, kind: str = "png", dpi: int = 130) -> bytes:
    """The figure as PNG or SVG: the same bytes for the same figure, without a date or a version."""
    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with matplotlib.rc_context(_STYLE):
        if figure.get_layout_engine() is not None:  # laid out once, not once a file
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata)
    if kind != "png":
        return buffer.getvalue()
    small = io.BytesIO()  # few colours make a third of the size
    Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
        small, format="png", optimize=True
    )
    return small.getvalue()


def save(figure: Figure, stem: Path) -> None:
    """Writes `<stem>.png` and `<stem>.svg`."""
    for kind in ("png", "svg"):
        stem.with_name(f"{stem.name}.{kind}").write_bytes(image(figure, kind))


class Shown:
    """A figure for a notebook and its page: an synthetic PNG with its description for those who do not see it."""

    def __init__(self, figure: Figure, alt: str | None = None):
        self.figure, self.alt = figure, alt or figure.get_label() or "figure"

    def _repr_html_(self) -> str:
        data = base64.b64encode(image(self.figure)).decode()
        width = round(self.figure.get_figwidth() * 100)
        alt = html.escape(self.alt)
        size = f"width:{width}px;max-width:100%"
        return (
            f'<figure><img style="{size}" alt="{alt}" src="data:image/png;base64,{data}"></figure>'
        )

    def __repr__(self) -> str:
        return f"[figure: {self.alt}]"


def place_labels(
    axes, points: list[tuple[float, float, str]], others: list[tuple[float, float]] = ()
) -> None:
    """Writes a label beside each point (x, y, text), where it covers no other label or point nor `others` (x, y)."""
    figure = axes.figure
    figure.draw_without_rendering()
    renderer, frame = figure.canvas.get_renderer(), axes.get_window_extent()
    spots = [axes.transData.transform((x, y)) for x, y, _ in points]
    taken = [Bbox.from_bounds(x - 8, y - 8, 16, 16) for x, y in spots]
    spots = [axes.transData.transform(other) for other in others if math.isfinite(sum(other))]
    taken += [Bbox.from_bounds(x - 8, y - 9, 16, 18) for x, y in spots]
    for x, y, text in points:
        best = None
        for dx, dy, across, up in _PLACES:
            note = axes.annotate(
                text, (x, y), (dx, dy), textcoords="offset points", ha=across, va=up, fontsize=9.5
            )
            note.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
            box = note.get_window_extent(renderer)
            cost = sum(_overlap(box, other) for other in taken) + 50 * (
                box.width * box.height - _overlap(box, frame)
            )
            if best is None or cost < best[0] - 1e-6:
                if best:
                    best[1].remove()
                best = (cost, note, box)
            else:
                note.remove()
            if best[0] <= 0:
                break
        taken.append(best[2])


_PLACES = [
    (dx * reach, dy * reach, across, up)
    for reach in (8, 14, 22)
    for dx, dy, across, up in (
        (1, 0, "left", "center"),
        (-1, 0, "right", "center"),
        (0.6, 0.8, "left", "bottom"),
        (-0.6, 0.8, "right", "bottom"),
        (0.6, -0.8, "left", "top"),
        (-0.6, -0.8, "right", "top"),
        (0, 1, "center", "bottom"),
        (0, -1, "center", "top"),
    )
]


def _overlap(one: Bbox, other: Bbox) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0) * max(height, 0)
