"""What comes from strangers: data sets run no code, and names reach no page as markup."""

import pickle
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import datasets
import nbformat
import numpy as np
import pandas as pd
import pytest
from helpers import study
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mtkd.data import custom as files
from mtkd.errors import UserError
from mtkd.inference import widget as ask
from mtkd.report import html as pages
from mtkd.report import notebook as views
from mtkd.report.figures import show
from mtkd.report.sections import mkd as mkd_report
from mtkd.report.tables import provenance, table1


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


CODE = "from pathlib import Path\nPath({sentinel!r}).write_text('ran')\n"


class Touch:
    """Writes the sentinel as it is unpickled."""

    def __init__(self, sentinel: Path):
        self.sentinel = sentinel

    def __reduce__(self):
        return Path.write_text, (self.sentinel, "ran")


def test_a_strangers_data_set_runs_no_code(tmp_path):
    sentinel = tmp_path / "ran"
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "mail.py").write_text(CODE.format(sentinel=str(sentinel)))
    (tmp_path / "mail" / "train.pkl").write_bytes(pickle.dumps(Touch(sentinel)))
    own = {
        "type": "single",
        "hub": str(tmp_path / "mail"),
        "train": "train",
        "dev": 0.25,
        "columns": ["a"],
        "labels": ["no", "yes"],
    }
    with pytest.raises(UserError, match="cannot be had"):
        files.read(study(own_tasks={"mine": own}), "mine", tmp_path / "scratch")
    assert not sentinel.exists()


HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>$\\frac{1}{"


class Markup(HTMLParser):
    """Elements that a browser makes of a page, and attributes that would run something or ask for something."""

    def __init__(self):
        super().__init__()
        self.scripts, self.bad = 0, []

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        self.bad += [
            (tag, key, value)
            for key, value in attributes
            if key.startswith("on") or (key == "src" and not (value or "").startswith("data:"))
        ]


def test_names_texts_and_labels_from_data_are_text_on_every_page(tmp_path, monkeypatch):
    asked = pd.DataFrame(
        [
            {"task": "mine", "answer": HOSTILE, "student": 0.5, "teacher": 0.4},
            {"task": "mine", "answer": "other", "student": 0.5, "teacher": np.nan},
        ]
    )
    monkeypatch.setattr(ask, "ask", lambda *_: asked)
    monkeypatch.setattr(ask, "_example", lambda *_: (HOSTILE, HOSTILE))
    sizes = pd.DataFrame(
        [["mine", HOSTILE, "pair", "train", "train", 10, 2, 50.0, 3.0, 4.0, None, False]],
        columns=[
            "task",
            "title",
            "kind",
            "split",
            "role",
            "examples",
            "labels",
            "majority",
            "words",
            "pieces",
            "overlap",
            "missing",
        ],
    )
    scored = pd.DataFrame(
        [["mine", HOSTILE, HOSTILE, 50.0, 10]], columns=["task", "split", "metric", "value", "n"]
    )
    chosen = pd.DataFrame(
        [[HOSTILE, "uncased", 0.1, 50.0, 50.0, True]],
        columns=["candidate", "encoder", "dropout", "mine", "mean", "kept"],
    )
    curve = pd.DataFrame(
        [[HOSTILE, HOSTILE, 0, 1, "mine", 0.5, "accuracy", 50.0]],
        columns=["run", "system", "seed", "epoch", "task", "loss", "metric", "value"],
    )
    monkeypatch.setattr(
        views.datasets.Dataset, "from_file", lambda *_: [{"sentence": HOSTILE, "label": 0}]
    )
    generated = study(tasks=["cola", "mnli", "rte", "qqp", "qnli"], data={"source": "synthetic"})
    shown = [
        ask.Box(study(), 0),
        table1(sizes),
        provenance({"machine": HOSTILE, "study": {"about": HOSTILE}, "notes": [HOSTILE]}),
        views.scores(scored, scored.assign(candidate=HOSTILE)),
        views.selection(chosen),
        show(views.learning_curves(curve)),
        views.origin({"from": "checkpoint", "checkpoint": HOSTILE, "recipe": {HOSTILE: HOSTILE}}),
        views.examples(
            generated.model_copy(update={"tasks": ["cola"]}),
            SimpleNamespace(file=lambda name: name, json=lambda _: {"cola": {"train": ""}}),
        ),
        mkd_report._missing(HOSTILE),
    ]
    monkeypatch.setenv("MTKD_LOG", "a batch")
    outputs = [new_output("stream", name=name, text=HOSTILE) for name in ("stdout", "stderr")]
    outputs += [new_output("error", ename="UserError", evalue=HOSTILE, traceback=[HOSTILE])]
    for one in shown:
        bundle = (
            one._repr_mimebundle_()
            if hasattr(one, "_repr_mimebundle_")
            else {"text/html": one._repr_html_(), "text/plain": repr(one)}
        )
        outputs += [
            new_output("display_data", data=bundle),
            new_output("display_data", data={"text/plain": bundle["text/plain"]}),
        ]
    (tmp_path / "notebooks").mkdir()
    cells = [new_markdown_cell("# A stage"), new_code_cell(f"study = {HOSTILE!r}", outputs=outputs)]
    for name in ("04_student.s0", "07_report"):
        nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / f"{name}.ipynb")
    for page in pages.all_pages(tmp_path):
        text = page.read_text(encoding="utf-8")
        markup = Markup()
        markup.feed(text)
        assert markup.scripts == 1 and not markup.bad, markup.bad
        assert text.count("&lt;script&gt;alert(1)") >= len(shown)
