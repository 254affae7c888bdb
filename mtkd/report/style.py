"""How figures look and are saved: a colour-blind-safe palette, alt texts and repeatable files."""

import base64
import functools
import html
import io
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's palette. Each system also has its own marker, so colour is never the only cue.
COLOURS = {
    "bert": "#7a7a7a",
    "mt-dnn": "#0072b2",
    "mt-dnn-kd": "#d55e00",
    "mt-dnn-ensemble": "#009e73",
    "candidate": "#cc79a7",
}
MARKERS = {"bert": "s", "mt-dnn": "o", "mt-dnn-kd": "D", "mt-dnn-ensemble": "^", "candidate": "v"}
MKD_COLOURS = {"mkd-": "#d55e00", "task-kd-": "#cc79a7", "mt-": "#0072b2"}
MUTED = "#5f5f5f"
DPI = 130

_STYLE = {
    **sns.axes_style("whitegrid"),
    "font.family": ["DejaVu Sans"],  # ships with matplotlib, so figures are alike everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.edgecolor": "#888888",
    "grid.color": "#e3e3e3",
    "figure.facecolor": "white",
    "svg.hashsalt": "mtkd",
    "text.parse_math": False,  # a dollar sign in a task's name is a dollar sign
}


def colour(system: str) -> str:
    """Return a system's colour; the same before and after fine-tuning."""
    base = system.partition(":")[0]
    by_way = [tint for prefix, tint in MKD_COLOURS.items() if base.startswith(prefix)]
    return COLOURS.get(base) or (by_way or ["#56b4e9"])[0]


def marker(system: str) -> str:
    """Return a system's marker."""
    return MARKERS.get(system.partition(":")[0], "P")


def by_system(names: dict[str, str]) -> dict:
    """Return seaborn's arguments that draw a column `system` of these names, by system."""
    labels = list(names.values())
    return {
        **{"hue": "system", "hue_order": labels, "palette": [colour(one) for one in names]},
        **{"style": "system", "style_order": labels, "markers": [marker(one) for one in names]},
        "dashes": [(2, 1) if ":" in one else "" for one in names],
    }


def styled(function):
    """Draw the figure that `function` returns in this style, and keep it out of pyplot's state."""

    @functools.wraps(function)
    def draw(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(_STYLE):
            figure = function(*args, **kwargs)
        plt.close(figure)
        return figure

    return draw


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of that size in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


@styled
def empty_figure(text: str) -> Figure:
    """Return a figure that says why there is nothing to show."""
    figure = new_figure(9, 1.2)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED)
    figure.set_label(text)
    return figure


def legend_below(figure: Figure, axes: Axes, **options) -> None:
    """Put the legend of `axes` below the figure."""
    handles = axes.get_legend_handles_labels()
    if axes.get_legend():
        axes.get_legend().remove()
    figure.legend(*handles, loc="outside lower center", **options)


def image(figure: Figure, kind: str = "png") -> bytes:
    """Return the figure as PNG or SVG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata, bbox_inches="tight")
    if kind != "png":
        return buffer.getvalue()
    small = io.BytesIO()  # 128 colours make a third of the size
    picture = Image.open(buffer).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


def save(figure: Figure, stem: Path) -> None:
    """Write `<stem>.png` and `<stem>.svg`."""
    for kind in ("png", "svg"):
        stem.with_name(f"{stem.name}.{kind}").write_bytes(image(figure, kind))


class Shown:
    """A figure for a notebook and its page: a PNG with the figure's label as its alt text."""

    def __init__(self, figure: Figure, alt: str | None = None):
        """Wrap `figure`; `alt` replaces its label."""
        self.figure, self.alt = figure, alt or figure.get_label() or "figure"

    def _repr_html_(self) -> str:
        png = image(self.figure)
        width = round(Image.open(io.BytesIO(png)).width * 100 / DPI)
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        size = f"width:{width}px;max-width:100%"
        return f'<figure><img style="{size}" alt="{html.escape(self.alt)}" src="{source}"></figure>'

    def __repr__(self) -> str:
        return f"[figure: {self.alt}]"
