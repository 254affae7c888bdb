"""How figures look and are saved: a colour-blind-safe palette, alt texts and repeatable files."""

import base64
import functools
import html
import io
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure
from PIL import Image

_PALETTE = sns.color_palette("colorblind").as_hex()
COLOURS = dict(zip(("mt-dnn", "candidate", "mt-dnn-ensemble", "mt-dnn-kd"), _PALETTE, strict=False))
COLOURS["bert"] = MUTED = "#5f5f5f"
MARKERS = {"bert": "s", "mt-dnn": "o", "mt-dnn-kd": "D", "mt-dnn-ensemble": "^"}
DPI = 130
_STYLE = {
    **sns.axes_style("whitegrid"),
    "font.family": ["DejaVu Sans"],  # ships with matplotlib, so figures are alike everywhere
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.hashsalt": "mtkd",
    "text.parse_math": False,  # a dollar sign in a task's name is a dollar sign
}


def colour(system: str) -> str:
    """Return a system's colour; the same before and after fine-tuning."""
    return COLOURS.get(system.partition(":")[0], _PALETTE[4])


def by_system(names: dict[str, str]) -> dict:
    """Return seaborn's arguments that draw a column `system` of these names, by system."""
    labels = list(names.values())
    hue = {"hue": "system", "hue_order": labels, "palette": list(map(colour, names))}
    return hue | {"style": "system", "style_order": labels, "markers": True, "dashes": False}


def styled(function):
    """Draw the figure that `function` returns in this style, and keep it out of pyplot's state."""

    @functools.wraps(function)
    def draw(*args, **kwargs) -> Figure:
        with matplotlib.rc_context(_STYLE):
            figure = function(*args, **kwargs)
        plt.close(figure)
        return figure

    return draw


@styled
def empty_figure(text: str) -> Figure:
    """Return a figure that says why there is nothing to show."""
    figure = plt.figure(figsize=(9, 1.2))
    figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED)
    figure.set_label(text)
    return figure


def image(figure: Figure, kind: str = "png") -> bytes:
    """Return the figure as PNG or SVG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata, bbox_inches="tight")
    return _palette(buffer) if kind == "png" else buffer.getvalue()


def _palette(png: io.BytesIO) -> bytes:
    """Return a PNG with 256 colours, of which a drawing needs no more: less than half the size."""
    smaller = io.BytesIO()
    Image.open(png).convert("RGB").quantize(256).save(smaller, "png", optimize=True)
    return smaller.getvalue()


def save(figure: Figure, stem: Path) -> None:
    """Write `<stem>.png` and `<stem>.svg`."""
    for kind in ("png", "svg"):
        stem.with_name(f"{stem.name}.{kind}").write_bytes(image(figure, kind))


@dataclass
class Shown:
    """A figure for a notebook and its page: a PNG with the figure's label as its alt text.

    On a phone, `narrow` takes its place.
    """

    figure: Figure
    narrow: Figure | None = None

    def _repr_html_(self) -> str:
        png, alt = image(self.figure), html.escape(self.figure.get_label())
        width = round(Image.open(io.BytesIO(png)).width * 100 / DPI)
        style = f"width:{width}px;max-width:100%"
        shown = f'<img style="{style}" alt="{alt}" src="{_data(png)}">'
        if self.narrow:
            phone = f'<source media="(max-width: 600px)" srcset="{_data(image(self.narrow))}">'
            shown = f"<picture>{phone}{shown}</picture>"
        return f"<figure>{shown}</figure>"


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
