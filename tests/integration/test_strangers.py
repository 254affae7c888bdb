"""Data sets from strangers: no code of theirs runs, and their texts are no markup on pages."""

import pickle
from html.parser import HTMLParser
from pathlib import Path

import datasets
import nbformat
import numpy as np
import pandas as pd
import pytest
from helpers import study
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mtkd.data.custom import read_custom_task
from mtkd.errors import UserError
from mtkd.inference import widget
from mtkd.report import html, notebook, tables

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>$\\frac{1}{"


class Touch:
    """Write a file as it is unpickled."""

    def __init__(self, sentinel: Path):
        self.sentinel = sentinel

    def __reduce__(self):
        return Path.write_text, (self.sentinel, "ran")


def test_a_strangers_data_set_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    sentinel, folder = tmp_path / "ran", tmp_path / "mail"
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(sentinel)!r}).write_text('ran')\n"
    (folder / "mail.py").write_text(code)
    (folder / "train.pkl").write_bytes(pickle.dumps(Touch(sentinel)))
    own = {"type": "single", "hub": str(folder), "train": "train", "dev": 0.25}
    own |= {"columns": ["a"], "labels": ["no", "yes"]}
    with pytest.raises(UserError, match=r"hub|data set"):
        read_custom_task(study(own_tasks={"mine": own}), "mine", tmp_path / "scratch")
    assert not sentinel.exists()


class Markup(HTMLParser):
    """Count scripts, and attributes that would run something or load something."""

    def __init__(self):
        super().__init__()
        self.scripts, self.bad = 0, []

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        for key, value in attributes:
            loads = key == "src" and not (value or "").startswith("data:")
            if key.startswith("on") or loads:
                self.bad.append((tag, key, value))


def test_names_texts_and_labels_from_data_are_text_on_every_page(tmp_path, monkeypatch):
    scores = pd.DataFrame(
        [["mine", HOSTILE, HOSTILE, 50.0, 10]], columns=["task", "split", "metric", "value", "n"]
    )
    about = {"from": "checkpoint", "checkpoint": HOSTILE, "recipe": {HOSTILE: HOSTILE}}
    predicted = pd.DataFrame(
        [["mine", HOSTILE, 0.5, 0.4], ["mine", "other", 0.5, np.nan]],
        columns=["task", "prediction", "student", "teacher"],
    )
    run = {"machine": HOSTILE, "study": {"about": HOSTILE}, "notes": [HOSTILE]}
    fragments = [
        notebook.scores(scores, scores.assign(candidate=HOSTILE))._repr_html_(),
        notebook.origin(about)._repr_html_(),
        tables.provenance(run)._repr_html_(),
        widget.predictions_table((HOSTILE, HOSTILE), predicted),
    ]
    monkeypatch.setenv("MTKD_LOG", "a batch")
    outputs = [new_output("stream", name=name, text=HOSTILE) for name in ("stdout", "stderr")]
    outputs += [new_output("error", ename="UserError", evalue=HOSTILE, traceback=[HOSTILE])]
    for text in fragments:
        outputs.append(new_output("display_data", data={"text/html": text, "text/plain": HOSTILE}))
    cells = [new_markdown_cell("# A stage"), new_code_cell(f"study = {HOSTILE!r}", outputs=outputs)]
    (tmp_path / "notebooks").mkdir()
    for name in ("04_student.s0", "11_report"):
        nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / f"{name}.ipynb")
    for page in html.write_pages(tmp_path):
        text, markup = page.read_text(encoding="utf-8"), Markup()
        markup.feed(text)
        assert markup.scripts == 1 and not markup.bad, markup.bad
        assert text.count("&lt;script&gt;alert(1)") >= len(fragments)
