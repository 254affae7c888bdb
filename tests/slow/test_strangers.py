"""Texts and data sets from strangers: any text is predicted, no code runs, no markup on pages."""

import csv
import json
import pickle
import time
from html.parser import HTMLParser
from pathlib import Path

import datasets
import nbformat
import numpy as np
import pandas as pd
import pytest
from helpers import TINY, sentences, study
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mtkd.data.custom import read_custom_task
from mtkd.errors import UserError
from mtkd.inference import predict, reader, widget
from mtkd.inference.load import load_model
from mtkd.report import html, notebook, tables
from mtkd.training.predict import probabilities

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LONG = " ".join(sentences(8_000, shortest=12, longest=13))  # more than 100,000 words
STRANGE = [
    *(LONG, "", " ", "\0", "a\0b", "x" * 500_000, "كتاب 日本語 ελληνικά ไทย", "😀👩‍👩‍👧 🏳️‍🌈"),
    *('he said "well', '""', "'", "\ufeff", "a\u2028b", "e\u0301" * 500, "\u202eright to left"),
    *("\ud800 half", "[MASK] [SEP] [PAD]", "<script>alert(1)</script>", "NA", "null", "-1"),
    "\x1b[31m",
]
WHOLE = [text for text in STRANGE if not text.startswith("\ud800")]  # what UTF-8 can encode
HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>$\\frac{1}{"


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path, tiny_run):
    for key, value in tiny_run.environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write_texts(path: Path, texts: list[str]) -> Path:
    """Write texts in a column `sentence`, with a byte order mark and CRLF where the format may."""
    if path.suffix == ".parquet":
        pd.DataFrame({"sentence": texts}).to_parquet(path)
    elif path.suffix == ".jsonl":
        lines = [json.dumps({"sentence": text}) + "\r\n" for text in texts]
        path.write_bytes(b"\xef\xbb\xbf" + "".join(lines).encode())
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
            writer.writerows([["sentence"], *([text] for text in texts)])
    else:
        tsv = path.suffix == ".tsv"
        rows = ["sentence\tother", *(f"{text}\tx" for text in texts)] if tsv else texts
        path.write_text("\r\n".join([*rows, ""]), encoding="utf-8-sig", newline="")
    return path


@pytest.mark.parametrize(
    ("system", "kind"),
    [
        *(("mt-dnn-kd", kind) for kind in ("csv", "tsv", "jsonl", "parquet", "txt")),
        ("mkd-lstm", "jsonl"),
    ],
)
def test_strange_texts_are_predicted_from_every_kind_of_file(tmp_path, system, kind):
    trained = load_model(f"{TINY}:{system}", "sst2")
    path, out = write_texts(tmp_path / f"t.{kind}", WHOLE), tmp_path / "out.jsonl"
    source = reader.source([str(path)], trained.task)
    assert predict.write_predictions(trained, source, out) == len(WHOLE)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    values = np.array([list(row["probabilities"].values()) for row in rows])
    assert [row["row"] for row in rows] == list(range(len(WHOLE))) and np.isfinite(values).all()
    assert np.abs(values.sum(1) - 1).max() < 1e-4
    directly = predict.predict_logits(trained, [(text,) for text in WHOLE])
    assert np.abs(values - probabilities(trained.task, directly)).max() < 1e-4


@pytest.mark.parametrize("system", ["mt-dnn-kd", "mkd-lstm"])
def test_pairs_of_strange_texts_have_scores(system):
    trained = load_model(f"{TINY}:{system}", "stsb")
    clean = [text.encode("utf-8", "replace").decode() for text in STRANGE]
    pairs = [(first, second) for first in clean for second in ("", "a cat")] + [(LONG, LONG)]
    scores = predict.predict_logits(trained, pairs)
    assert len(scores) == len(pairs) and np.isfinite(scores).all()


def status(field: str) -> int:
    """Return bytes of this process as Linux counts them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def test_a_text_of_100_000_words_costs_time_and_memory_in_proportion_to_its_length():
    trained = load_model(f"{TINY}:mt-dnn-kd", "mrpc")
    assert len(LONG.split()) > 100_000
    seconds = []
    for times in (1, 4):
        started = time.process_time()
        predict.predict_logits(trained, [(LONG * times, LONG)])
        seconds.append(time.process_time() - started)
    assert seconds[1] < 10 * max(seconds[0], 0.2)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = status("VmRSS")
    predict.predict_logits(trained, [(LONG, LONG)])
    assert status("VmHWM") - before < 400 * 2**20


class Touch:
    """Write a file as it is unpickled."""

    def __init__(self, sentinel: Path):
        self.sentinel = sentinel

    def __reduce__(self):
        return Path.write_text, (self.sentinel, "ran")


def test_a_strangers_data_set_runs_no_code(tmp_path):
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
        [["mine", HOSTILE, 0.5, 0.4, 1.0], ["mine", "other", 0.5, np.nan, 1.0]],
        columns=["task", "label", "student", "teacher", "top"],
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
