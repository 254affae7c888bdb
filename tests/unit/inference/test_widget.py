"""The box of notebook 04: predictions of the student beside its teachers."""

import html
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers import TINY

from mtkd.artifacts import make
from mtkd.config.study import load
from mtkd.inference import widget
from mtkd.inference.load import load_model
from mtkd.inference.predict import predict_rows
from mtkd.stages import Run, student, teacher

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>$\\frac{1}{"


@pytest.fixture
def study(copied, monkeypatch):
    """The tiny study with a student of four tasks, and MNLI's teacher of two members."""
    monkeypatch.setenv("MTKD_WORK", str(copied.work))
    settings = ["tasks=[sst2, mrpc, stsb, mnli]", "distil.teachers=[mnli]"]
    settings += ["candidates.select_on=[mnli]", "exclude_from_multitask=[]", "mkd=null"]
    study = load(TINY, settings)
    run = Run(teacher.NAME, task="mnli")
    frame = pd.DataFrame({"encoder": "uncased", "dropout": 0.1, "seed": [0, 1]})
    make(run.folder(study), {}, lambda out, _: frame.to_csv(out / "selection.csv"))
    for seed in frame.seed:
        member = run.part_folder(study, f"uncased-0.1-s{seed}")
        shutil.copytree(copied.transformer, member)
        shutil.copy(copied.transformer / "model.safetensors", member)
        copied.change_description(member, system="member")
    return study


def test_student_and_teachers_are_asked_about_every_task(study, copied):
    frame = widget.ask(study, 0, "a cat sees", "the dog")
    assert list(frame.groupby("task", sort=False).size()) == [2, 2, 1, 3]
    folder = str(Run(student.NAME, seed=0).folder(study))
    groups = frame.groupby("task", sort=False)
    for name, rows in zip(study.multitask, groups, strict=True):
        texts = ("a cat sees",) if name == "sst2" else ("a cat sees", "the dog")
        (expected,) = predict_rows(load_model(folder, name), [texts])
        values = expected.get("probabilities", {"score": expected.get("score")})
        assert rows[1].prediction.tolist() == list(values)
        assert np.allclose(rows[1].student, list(values.values()), atol=1e-6)
    # Both members are copies of the student here, so their average is the student.
    mnli = frame[frame.task == "MNLI"]
    assert np.allclose(mnli.teacher, mnli.student)
    assert frame[frame.task != "MNLI"].teacher.isna().all()


@pytest.fixture
def pages(monkeypatch) -> list:
    """Return the HTML that is displayed from here on."""
    pages = []
    monkeypatch.setattr(widget, "display", lambda shown: pages.append(shown.data))
    return pages


def test_a_batch_shows_an_example_of_the_synthetic_data(study, pages, monkeypatch):
    monkeypatch.setenv("MTKD_LOG", "log")
    widget.show_box(study, 0)
    assert html.escape(widget.example_texts(study)[0]) in pages[0]
    assert pages[0].count("<td>") == 2 * (2 + 2 + 1 + 3)


def test_a_notebook_shows_boxes_that_predict_anew(study, pages, monkeypatch):
    monkeypatch.delenv("MTKD_LOG", raising=False)
    shown = []
    monkeypatch.setattr("ipywidgets.widgets.interaction.display", shown.append)
    widget.show_box(study, 0)
    first, second, button, _ = shown[0].children
    assert (first.value, second.value) == widget.example_texts(study)
    first.value, second.value = "A bird sings .", HOSTILE
    button.click()
    assert "A bird sings ." in pages[0] and "<script>" not in pages[0]


def test_rows_of_real_data_are_not_shown(study):
    real = study.model_copy(update={"data": study.data.model_copy(update={"source": "glue"})})
    assert widget.example_texts(real) == widget.EXAMPLE


def test_texts_labels_and_names_are_escaped():
    row = {"task": HOSTILE, "prediction": HOSTILE, "student": 0.5, "teacher": np.nan}
    page = widget.predictions_table((HOSTILE, HOSTILE), pd.DataFrame([row]))
    assert "<script" not in page and "<img" not in page and page.count("&lt;script&gt;") == 4
