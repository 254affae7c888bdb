"""Figures repeat byte for byte, carry an alt text, and leave no state behind."""

import io

import matplotlib
import matplotlib.pyplot as plt
import pytest
from PIL import Image

from mtkd.report.style import (
    COLOURS,
    Shown,
    by_system,
    colour,
    empty_figure,
    image,
    save,
    styled,
)


@styled
def drawn(text: str = "costs $5 and $6"):
    """Draw a line under a title."""
    figure, axes = plt.subplots(figsize=(4, 2), layout="constrained")
    axes.plot([0, 1], [0, 1])
    axes.set_title(text)
    figure.set_label(text)
    return figure


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_figure_gives_the_same_bytes(kind):
    first, second = image(drawn(), kind), image(drawn(), kind)
    assert first == second
    assert b"<dc:date>" not in first
    assert b"matplotlib version" not in first.lower()


def test_save_writes_both_kinds(tmp_path):
    save(drawn(), tmp_path / "line")
    assert (tmp_path / "line.png").read_bytes() == image(drawn())
    assert (tmp_path / "line.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_the_style_is_the_callers_no_longer():
    before = dict(matplotlib.rcParams)
    drawn()
    assert dict(matplotlib.rcParams) == before
    assert plt.get_fignums() == []


def test_text_outside_the_axes_is_not_cut():
    width, height = Image.open(
        io.BytesIO(image(drawn("a title much wider than its axes " * 3)))
    ).size
    assert width > 4.2 * 130
    assert height < width


def test_alt_text_is_escaped():
    shown = Shown(drawn('"><script>'))
    assert '"><script' not in shown._repr_html_()
    assert "&lt;script&gt;" in shown._repr_html_()
    assert "max-width:100%" in shown._repr_html_()


def test_an_empty_figure_says_why():
    assert empty_figure("No scores.").get_label() == "No scores."


def test_systems_differ_by_colour_and_by_marker():
    assert len(set(COLOURS.values())) == len(COLOURS)
    assert colour("mt-dnn-kd:mtl") == colour("mt-dnn-kd") != colour("mt-dnn")
    look = by_system({"mt-dnn": "MT-DNN", "mt-dnn:mtl": "before"})
    assert look["hue_order"] == look["style_order"] == ["MT-DNN", "before"] and look["markers"]


def test_a_phone_is_shown_the_narrow_figure():
    page = Shown(drawn(), narrow=drawn("narrow"))._repr_html_()
    assert page.startswith('<figure><picture><source media="(max-width: 600px)" srcset="data:')
    assert page.count("data:image/png;base64,") == 2 and page.count("<img") == 1
