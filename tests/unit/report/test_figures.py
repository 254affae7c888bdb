"""What the report's figures show, of full, partial and empty results."""

import io

import numpy as np
import pandas as pd
import pytest
from helpers import compared
from PIL import Image

from mtkd import tasks
from mtkd.report import figures
from mtkd.report.figures import forest, learning_curves, soft_targets
from mtkd.report.significance import PAIRS, Compared
from mtkd.report.style import DPI, image

TASKS = ("mnli", "rte", "cola", "wnli")
SHIFTS = {"bert": -2.0, "mt-dnn": 0.0, "mt-dnn-kd": 1.0, "mt-dnn-ensemble": 2.0}


def results(seeds: int = 3, names=TASKS, systems=tuple(SHIFTS)) -> pd.DataFrame:
    """MT-DNN at 60 percent plus the seed on every task, the others some points from it."""
    rows = [
        ("t", system, name, tasks.get(name).dev[0], metric, 60 + SHIFTS[system] + seed, seed)
        for name in names
        for metric in tasks.get(name).metrics
        for system in systems
        for seed in ([1] if system == "mt-dnn-ensemble" else range(seeds))
    ]
    columns = ["study", "system", "task", "split", "metric", "value", "seed"]
    frame = pd.DataFrame(rows, columns=columns)
    frame.loc[frame["system"] == "mt-dnn-ensemble", "seed"] = np.nan
    return frame


def sizes(**train: int) -> pd.DataFrame:
    """Return Table 1's frame of training sets."""
    frame = pd.DataFrame({"task": train.keys(), "examples": train.values()})
    return frame.assign(role="train", missing=False)


def curves() -> pd.DataFrame:
    """Return two runs of MT-DNN and one of MT-DNN_KD on two tasks."""
    columns = ["system", "run", "task", "epoch", "loss", "split", "value"]
    runs = (("mt-dnn", "a", 0.0), ("mt-dnn", "b", 2.0), ("mt-dnn-kd:mtl", "c", 5.0))
    rows = [
        (system, run, task, epoch, 1 / epoch, split, value + add + epoch)
        for system, run, add in runs
        for task in ("rte", "cola")
        for epoch in (1, 2, 3)
        for split, value in (("validation", 50), ("selection", 90))  # which are not shown
    ]
    return pd.DataFrame(rows, columns=columns)


def soft(examples: int = 100, names=("rte", "mnli", "cola")) -> pd.DataFrame:
    """Return soft targets of confidence 0.95 that are right on all training examples alone."""
    columns = ["task", "split", "source", "entropy", "confidence", "correct"]
    rows = [
        (task, split, "teacher", 0.2, 0.95, split == "train" or number % 2 == 0)
        for task in names
        for split in ("train", "validation")
        for number in range(examples)
    ]
    return pd.DataFrame(rows, columns=columns)


def points(axes, label: str) -> dict[str, float]:
    """Return the x values of a series of a forest plot by row name."""
    (line,) = [one.lines[0] for one in axes.containers if one.get_label() == label]
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    return {names[round(y)]: x for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)}


def test_a_forest_shows_gains_and_intervals():
    rows = pd.DataFrame({"gain": [1.0, -2.0], "low": [0.5, np.nan], "high": [2.0, np.nan]})
    rows.index = ["CoLA", "RTE"]
    figure = forest(["RTE", "CoLA"], [figures.Series("a", rows, "black")], "A title", "points")
    (axes,) = figure.axes
    assert points(axes, "a") == {"CoLA": 1.0, "RTE": -2.0}
    (bars,) = axes.containers[0].lines[2]
    (start, end), without = bars.get_segments()
    assert (start[0], end[0]) == (0.5, 2.0)
    assert not len(without)
    assert figure.get_label() == "A title. a: CoLA +1.00, RTE −2.00."


def test_a_forest_cuts_intervals_far_longer_than_the_gains():
    rows = pd.DataFrame({"gain": [2.0], "low": [-90.0], "high": [90.0]}, index=["RTE"])
    figure = forest(["RTE"], [figures.Series("a", rows, "black")], "", "")
    assert figure.axes[0].get_xlim() == (-6, 6)
    assert "nothing to compare" in forest(["RTE"], [], "A title", "").get_label()


def test_overview_orders_tasks_by_size_and_the_average_last():
    frame = results()
    train = sizes(mnli=9000, rte=2500, cola=500)
    figure = figures.overview(frame, train, ("rte",), compared(frame, PAIRS, 0.5))
    left, right = figure.axes
    names = ["CoLA (500)", "RTE* (2,500)", "MNLI (9,000)", "WNLI", "Average"]
    assert [tick.get_text() for tick in right.get_yticklabels()] == names
    assert points(right, "MT-DNN_KD") == dict.fromkeys(names, pytest.approx(1))
    assert points(right, "MT-DNN-ensemble") == dict.fromkeys(names, pytest.approx(2))
    published = points(right, "MT-DNN_KD, published")
    assert published == {
        "CoLA (500)": pytest.approx(64.5 - 63.5),
        "RTE* (2,500)": pytest.approx(88.6 - 83.4),
        "MNLI (9,000)": pytest.approx(87.3 - 86.9),
    }
    assert [tick.get_text() for tick in left.get_yticklabels()] == [
        "BERT  59.0",
        "MT-DNN  61.0",
        "MT-DNN_KD  62.0",
        "MT-DNN-ensemble  63.0",
    ]
    (bars,) = left.containers[1].lines[2]
    assert bars.get_segments()[0][:, 0] == pytest.approx([60, 62])  # of 60, 61 and 62
    assert "95 % interval over 3 seeds" in right.get_xlabel()
    assert "Average +1.00" in figure.get_label()
    assert "no predictions, so no interval" in figures.overview(frame).axes[1].get_xlabel()


def test_a_phone_s_overview_has_its_panels_below_each_other():
    figure = figures.overview(results(), sizes(rte=5), compared=Compared(), stacked=True)
    top, bottom = (axes.get_position() for axes in figure.axes)
    assert top.y0 > bottom.y1 and abs(top.x0 - bottom.x0) < 0.1 and figure.get_figwidth() < 4.5
    width, height = Image.open(io.BytesIO(image(figure))).size
    assert width < 5.5 * DPI and width < height


@pytest.mark.parametrize("systems", [(), ("bert",), ("bert", "mt-dnn"), ("mt-dnn", "mt-dnn-kd")])
@pytest.mark.parametrize("names", [("wnli",), ("rte",), ("cola", "stsb")])
def test_partial_studies_have_a_figure(systems, names):
    figure = figures.overview(results(1, names, systems), sizes(rte=5), compared=Compared())
    assert figure.get_label()
    assert image(figure)


@pytest.mark.parametrize("of", ["score", "loss"])
def test_learning_curves_are_means_over_runs(of):
    figure = learning_curves(curves(), of)
    assert [axes.get_title("left") for axes in figure.axes] == ["RTE", "CoLA"]
    mean = {"score": [52.0, 53.0, 54.0], "loss": [1, 1 / 2, 1 / 3]}[of]
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx(mean)
    assert "before fine-tuning" in figure.get_label()
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["MT-DNN", "MT-DNN_KD (before fine-tuning)"]


def test_soft_targets_show_overconfidence():
    figure = soft_targets(soft())
    assert "RTE dev: entropy 0.20, confidence 95%, correct 50%" in figure.get_label()
    assert "RTE training (soft targets): entropy 0.20" in figure.get_label()
    shown = [axes.get_title("left") for axes in figure.axes]
    assert shown == [f"{task}: 0.20 / 0.20 nats" for task in ("MNLI", "RTE", "CoLA")]
    train, dev = figure.axes[1].lines[:2]
    assert (train.get_ydata()[0], dev.get_ydata()[0]) == (1.0, 0.5)


def test_figures_of_nothing_say_so():
    assert learning_curves(curves()[:0]).get_label() == "There are no learning curves."
    for rows in (soft()[:0], soft(examples=9, names=("rte",))):
        assert "too few class probabilities" in soft_targets(rows).get_label()


def test_the_loss_of_pre_training():
    assert (
        "falls from 6.00 to 4.50"
        in figures.pretraining({"loss": [[1, 6.0], [10, 4.5]]}).get_label()
    )
    assert "not pre-trained here" in figures.pretraining({"from": "checkpoint"}).get_label()
