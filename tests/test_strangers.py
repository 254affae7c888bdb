"""What comes from strangers: texts of any kind and length are answered, folders run no code, names reach no page as markup."""

import csv
import json
import pickle
import time
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import datasets
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import sentences, study, tiny_bert, trained_models
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mtkd.artifacts import read
from mtkd.config.training import Pretrain
from mtkd.data import custom as files
from mtkd.errors import UserError
from mtkd.inference import load as trained
from mtkd.inference import predict as answers
from mtkd.inference import widget as ask
from mtkd.inference.reader import source
from mtkd.models import load_encoder
from mtkd.report import html as pages
from mtkd.report import notebook as views
from mtkd.report.figures import show
from mtkd.report.sections import mkd as mkd_report
from mtkd.report.tables import provenance, table1
from mtkd.stages.inputs import encoder, tokens
from mtkd.training.mlm import pretrain

LONG = " ".join(sentences(8_000, shortest=12, longest=13))  # more than 100,000 words
STRANGE = [
    LONG,
    "",
    " ",
    "\0",
    "a\0b",
    "x" * 500_000,
    "كتاب 日本語 ελληνικά ไทย",
    "😀👩‍👩‍👧 🏳️‍🌈",
    'he said "well',
    '""',
    "'",
    "\ufeff",
    "a\u2028b",
    "e\u0301" * 500,
    "\u202eright to left",
    "\ud800 half",
    "[MASK] [SEP] [PAD]",
    "<script>alert(1)</script>",
    "NA",
    "null",
    "-1",
    "\x1b[31m",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folders of a Transformer and an LSTM."""
    return dict(
        zip(("transformer", "lstm"), trained_models(tmp_path_factory.mktemp("made")), strict=True)
    )


@pytest.fixture(autouse=True)
def places(monkeypatch, tmp_path):
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def written(path: Path, texts: list[str]) -> Path:
    """A file of texts in the column `sentence`, with a byte order mark and CRLF where its kind has them."""
    if path.suffix == ".parquet":
        pd.DataFrame({"sentence": texts}).to_parquet(path)
    elif path.suffix == ".jsonl":
        path.write_bytes(
            b"\xef\xbb\xbf"
            + "".join(json.dumps({"sentence": text}) + "\r\n" for text in texts).encode()
        )
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(
                [["sentence"], *([text] for text in texts)]
            )
    else:
        head = ["sentence\tother"] if path.suffix == ".tsv" else []
        rows = [f"{text}\tx" for text in texts] if path.suffix == ".tsv" else texts
        path.write_text("\r\n".join([*head, *rows, ""]), encoding="utf-8-sig", newline="")
    return path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("transformer", kind) for kind in ("csv", "tsv", "jsonl", "parquet", "txt")),
        ("lstm", "jsonl"),
    ],
)
def test_strange_texts_of_every_kind_of_file_are_answered(made, tmp_path, name, kind):
    found = trained.open_model(str(made[name]), "sst2")
    texts = (
        STRANGE if kind == "jsonl" else [text for text in STRANGE if not text.startswith("\ud800")]
    )
    path = written(tmp_path / f"t.{kind}", texts)
    assert answers.write(found, source([str(path)], found.task), tmp_path / "out.jsonl") == len(
        texts
    )
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    values = np.array([list(row["probabilities"].values()) for row in rows])
    assert [row["row"] for row in rows] == list(range(len(texts))) and np.isfinite(values).all()
    assert np.abs(values.sum(1) - 1).max() < 1e-4
    directly = answers.answers(
        found, [(text.encode("utf-8", "replace").decode(),) for text in texts]
    )
    assert np.abs(values - [list(row["probabilities"].values()) for row in directly]).max() < 1e-4


@pytest.mark.parametrize("name", ["transformer", "lstm"])
def test_pairs_of_strange_texts_have_scores(made, name):
    found = trained.open_model(str(made[name]), "stsb")
    pairs = [
        (one.encode("utf-8", "replace").decode(), other)
        for one in STRANGE
        for other in ("", "a cat")
    ]
    pairs.append((LONG, LONG))
    scores = [row["score"] for row in answers.answers(found, pairs)]
    assert len(scores) == len(pairs) and np.isfinite(scores).all()


def _status(field: str) -> int:
    """Bytes of this process by Linux's own count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def test_a_text_of_100_000_words_is_cut_at_a_cost_like_its_length(made):
    found = trained.open_model(str(made["transformer"]), "mrpc")
    assert len(LONG.split()) > 100_000
    seconds = []
    for times in (1, 4):
        started = time.process_time()
        batch = answers.examples(found, [(LONG * times, LONG)])
        seconds.append(time.process_time() - started)
        assert batch.lengths.tolist() == [found.max_length]
    assert seconds[1] < 10 * max(seconds[0], 0.2), "four times the text must not cost its square"
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    except OSError:
        pytest.skip("this machine does not count the peak of a process")
    before = _status("VmRSS")
    answers.answers(found, [(LONG, LONG)])
    assert _status("VmHWM") - before < 400 * 2**20


def test_examples_end_at_the_encoders_positions(tmp_path):
    texts = [f"{'long ' * 300}{number}" for number in range(8)]
    (tmp_path / "t.csv").write_text(
        "a,label\n"
        + "".join(f"{text},{('no', 'yes')[number % 2]}\n" for number, text in enumerate(texts))
    )
    own = {
        "type": "single",
        "train": str(tmp_path / "t.csv"),
        "dev": 0.25,
        "columns": ["a"],
        "labels": ["no", "yes"],
    }
    found = study(
        own_tasks={"mine": own},
        encoders={"uncased": {"checkpoint": str(tiny_bert(tmp_path / "bert"))}},
        candidates={"ensemble_size": 1},
    )
    split = datasets.Dataset.from_file(str(tokens(found, "uncased").file("mine/train.arrow")))
    assert {len(pieces) for pieces in split["input_ids"]} == {64}


CODE = "from pathlib import Path\nPath({sentinel!r}).write_text('ran')\n"


class Touch:
    """Writes the sentinel as it is unpickled."""

    def __init__(self, sentinel: Path):
        self.sentinel = sentinel

    def __reduce__(self):
        return Path.write_text, (self.sentinel, "ran")


def stranger(folder: Path, sentinel: Path, how: str) -> Path:
    """A BERT's folder with something in it that would write the sentinel, were it run."""
    tiny_bert(folder)
    config = json.loads((folder / "config.json").read_text())
    if how.startswith("code"):
        for name in ("modeling_own", "configuration_own", "tokenization_own"):
            (folder / f"{name}.py").write_text(CODE.format(sentinel=str(sentinel)))
        config["auto_map"] = {
            "AutoConfig": "configuration_own.C",
            **{
                kind: "modeling_own.M"
                for kind in (
                    "AutoModel",
                    "AutoModelForMaskedLM",
                    "AutoModelForSequenceClassification",
                )
            },
        }
        config["model_type"] = "own" if how == "code of an unknown model" else "bert"
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings |= {"auto_map": {"AutoTokenizer": ["tokenization_own.T", "tokenization_own.T"]}}
        settings |= {"tokenizer_class": "T"} if how == "code of an unknown model" else {}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        (folder / "config.json").write_text(json.dumps(config))
    else:
        (folder / "model.safetensors").unlink()
        if how == "a pickle":
            (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(sentinel)))
        else:
            torch.save({"weights": Touch(sentinel)}, folder / "pytorch_model.bin")
    return folder


def the_encoder(folder: Path) -> None:
    encoder(
        study(encoders={"uncased": {"checkpoint": str(folder)}}, candidates={"ensemble_size": 1}),
        "uncased",
    )


def a_start(folder: Path) -> None:
    recipe = Pretrain(
        vocab_size=60,
        layers=2,
        hidden=32,
        heads=2,
        intermediate=64,
        positions=64,
        window=16,
        long_seq_length=None,
        long_fraction=0,
        tokens=200,
        batch_size=4,
        attention_guidance_steps=0,
        start_from=str(folder),
    )
    pretrain(
        lambda: iter(sentences(200)),
        recipe,
        folder.parent / "out",
        seed=0,
        checkpoint=folder.parent / "checkpoint",
    )


WAYS = {
    "a student's checkpoint": lambda folder: load_encoder(folder, dropout=0.0),
    "an encoder": the_encoder,
    "a start": a_start,
}


@pytest.mark.parametrize(
    "how", ["code", "code of an unknown model", "a pickle", "weights by torch"]
)
@pytest.mark.parametrize("way", WAYS)
def test_a_strangers_encoder_runs_no_code(tmp_path, monkeypatch, way, how):
    monkeypatch.setattr(
        "builtins.input", lambda *_: "y"
    )  # transformers may ask whether it shall run the code
    sentinel = tmp_path / "ran"
    folder = stranger(tmp_path / "stranger", sentinel, how)
    try:
        WAYS[way](folder)
        assert how == "code", "only a BERT that brings code beside can be read without it"
    except UserError as error:
        assert "stranger" in str(error) and "give" in str(error)
    assert not sentinel.exists()


def test_a_strangers_model_runs_no_code(made, tmp_path, monkeypatch):
    import hashlib
    import shutil

    monkeypatch.setattr("builtins.input", lambda *_: "y")
    sentinel = tmp_path / "ran"
    for how in ("code", "code of an unknown model", "a pickle"):
        work = tmp_path / how
        shutil.copytree(made["transformer"].parents[1], work)
        place = work / "encoder" / "uncased"
        shutil.rmtree(place / "encoder")
        stranger(place / "encoder", sentinel, how)
        record = json.loads((place / "record.json").read_text())
        record["files"] = {
            str(path.relative_to(place)): [
                path.stat().st_size,
                hashlib.sha256(path.read_bytes()).hexdigest(),
            ]
            for path in sorted((place / "encoder").iterdir())
        }
        (place / "record.json").write_text(json.dumps(record))
        model = work / "student" / "s0"
        record = json.loads((model / "record.json").read_text())
        record["inputs"]["encoder"] = read(place).fingerprint
        (model / "record.json").write_text(json.dumps(record))
        if how == "code":
            assert answers.answers(trained.open_model(str(model), "sst2"), [("a text",)])
        else:
            with pytest.raises(UserError):
                trained.open_model(str(model), "sst2")
        assert not sentinel.exists()


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
