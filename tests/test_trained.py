"""What one does with a study's models: predict, export, submit; and every way to ask for it wrongly."""

import io
import json
import shutil
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, TINY, mtkd
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from mtkd import cli, tasks
from mtkd.artifacts import read
from mtkd.config import study as studies
from mtkd.data import glue as data_files
from mtkd.errors import UserError
from mtkd.inference import glue_submission as submission
from mtkd.inference import load as trained
from mtkd.inference import predict as answers
from mtkd.inference.reader import source
from mtkd.paths import folder
from mtkd.training.predict import predict, probabilities


@pytest.fixture
def tiny(tiny_run, monkeypatch):
    """The tiny study's settings, with its finished outputs in place."""
    for key, value in tiny_run[1].items():
        monkeypatch.setenv(key, value)
    return studies.load(TINY)


@pytest.fixture
def run(tiny, monkeypatch, capsys):
    """The command line in this process: (status, printed, told)."""

    def run(*arguments, stdin: bytes | None = None):
        monkeypatch.setattr(sys, "argv", ["mtkd", *map(str, arguments)])
        monkeypatch.setattr(
            sys,
            "stdin",
            SimpleNamespace(buffer=io.BytesIO(stdin or b""), isatty=lambda: stdin is None),
        )
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    return run


def model(name: str) -> str:
    return f"{TINY}:{name}"


def rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def dev(tiny, task: str, split: str = "validation"):
    """(texts, labels) of a dev set."""
    about = tasks.get(task)
    found = dict(data_files.splits(read(folder(tiny, "data")), about))[split]
    return [list(found[column]) for column in about.columns], found["label"]


@pytest.mark.parametrize(
    "name", ["mt-dnn-kd", "mt-dnn-s1", "mkd-lstm", "mt-transformer", "mkd-lstm:hard-0.5"]
)
def test_answers_are_those_that_the_study_scored(tiny, name):
    found = trained.open_model(model(name), "mrpc")
    stored = found.artifact.frame("predictions.parquet").query(
        "task == 'mrpc' and split == 'validation'"
    )
    texts, labels = dev(tiny, "mrpc")
    given = answers.answers(found, list(zip(*texts, strict=True)))
    assert stored.label.tolist() == list(labels)
    values = np.array([list(row["probabilities"].values()) for row in given])
    assert np.abs(values - np.stack(stored.outputs)).max() < 0.01  # the study predicts in bf16
    assert values.std() > 1e-5 and all(
        row["label"] == max(row["probabilities"], key=row["probabilities"].get) for row in given
    )
    ((split, examples),) = found.dev_sets()
    assert split == "validation"
    assert np.abs(probabilities(found.task, predict(found.model, examples)) - values).max() < 1e-5


def test_a_member_has_one_task_and_needs_no_name_for_it(tiny):
    kept = sorted(folder(tiny, "members").glob("*/mnli"))[0]
    found = trained.open_model(str(kept))
    assert found.task.name == "mnli" and found.inputs["system"] == "member"
    assert trained.open_model(model(f"{kept.parent.name}/mnli")).artifact.path == kept


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "txt", "stdin"])
def test_every_kind_of_file_gives_the_same_answers_in_order(tiny, run, tmp_path, kind):
    texts, _ = dev(tiny, "mrpc")
    frame = pd.DataFrame(
        {"other": range(len(texts[0])), "sentence1": texts[0], "sentence2": texts[1]}
    )
    path = tmp_path / f"pairs.{kind}"
    lines = "".join(f"{first}\t{second}\r\n" for first, second in zip(*texts, strict=True))
    {
        "csv": lambda: frame.to_csv(path, index=False),
        "tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        "parquet": lambda: frame.to_parquet(path),
        "txt": lambda: path.write_bytes(lines.encode()),
        "stdin": lambda: None,
    }[kind]()
    if kind == "stdin":
        code, out, _ = run("predict", model("mt-dnn-kd"), "--task", "mrpc", stdin=lines.encode())
    else:
        out_path = tmp_path / "out.jsonl"
        code, printed, _ = run(
            "predict", model("mt-dnn-kd"), path, "--task", "mrpc", "--out", out_path
        )
        out = out_path.read_text()
        assert not printed and not list(tmp_path.glob("*.tmp")) and not list(tmp_path.glob(".*"))
    found = trained.open_model(model("mt-dnn-kd"), "mrpc")
    expected = answers.answers(found, list(zip(*texts, strict=True)))
    assert code == 0
    given = rows(out)
    assert [row["row"] for row in given] == list(range(len(expected)))
    assert [row["label"] for row in given] == [row["label"] for row in expected]
    shares = [[row["probabilities"]["equivalent"] for row in part] for part in (given, expected)]
    assert np.allclose(*shares, atol=2e-6)


def test_an_argument_is_a_text_and_a_score_is_a_number(run):
    code, out, _ = run("predict", model("mt-dnn-kd"), "a sentence", "another", "--task", "stsb")
    assert (
        code == 0
        and set(rows(out)[0]) == {"row", "score"}
        and isinstance(rows(out)[0]["score"], float)
    )
    code, out, _ = run("predict", model("mkd-lstm"), "the film was good", "--task", "sst2")
    assert code == 0 and sum(rows(out)[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["mt-dnn-kd", "mkd-lstm"])
def test_odd_texts_are_answered(run, tmp_path, name):
    texts = [
        "word " * 100_000,
        "",
        "\0",
        "كتاب 日本語 ελληνικά",
        "😀👩‍👩‍👧",
        'he said "well',
        "\ufeff",
        "a\u2028b",
        "\ud800 half",
    ]
    path = tmp_path / "texts.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf"
        + "\r\n".join(json.dumps({"sentence": text}) for text in texts).encode()
        + b"\r\n\r\n"
    )
    code, out, err = run("predict", model(name), path, "--task", "sst2")
    assert code == 0, err
    assert len(rows(out)) == len(texts) and all(
        np.isfinite(list(row["probabilities"].values())).all() for row in rows(out)
    )


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", b'sentence1,sentence2\r\n"a, ""b""\r\nc",\r\n', [('a, "b"\r\nc', "")]),
        ("a.tsv", b'sentence1\tsentence2\r\n"a\tb"\r\n', [('"a', 'b"')]),
        ("a.txt", b"a\tb\r\nc\td", [("a", "b"), ("c", "d")]),
        ("a.csv", b"", []),
        (
            "a.csv",
            b"sentence1,sentence2\n" + b"long " * 400_000 + b",b\n",
            [("long " * 400_000, "b")],
        ),
    ],
    ids=["csv", "tsv", "text", "empty", "long"],
)
def test_quotes_enclose_in_csv_and_stand_in_tsv_and_a_mark_and_line_ends_go(
    tmp_path, name, content, expected
):
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
    assert list(source([str(tmp_path / name)], tasks.get("mrpc"))) == expected


def test_rows_are_read_as_they_are_answered(tiny, tmp_path):
    found, taken = trained.open_model(model("mt-dnn-kd"), "sst2"), []

    class Endless(list):
        total, unit, done = None, "rows", 0

        def __iter__(self):
            for number in range(3 * answers.ROWS):
                taken.append(number)
                yield ("a film",)

    with (tmp_path / "out").open("w") as file, pytest.MonkeyPatch.context() as patch:
        seen = []
        patch.setattr(
            sys,
            "stdout",
            SimpleNamespace(
                write=lambda text: seen.append(len(taken)) or file.write(text), flush=file.flush
            ),
        )
        assert answers.write(found, Endless(), None) == 3 * answers.ROWS
    assert seen[0] == answers.ROWS and len(seen) == 3 * answers.ROWS


WRONG = {
    "no such model": (["predict", "nowhere", "a"], ["no folder 'nowhere'", "quick:mt-dnn-kd"]),
    "no such study": (["predict", "quik:mt-dnn", "a"], ["no study 'quik'", "quick"]),
    "no such system": (
        ["predict", model("mt-dn"), "a"],
        ["keeps no weights of 'mt-dn'", "mt-dnn-kd-s0"],
    ),
    "a fine-tuned one": (
        ["predict", model("bert"), "a"],
        ["keeps no weights of 'bert'", "only scores"],
    ),
    "no task": (["predict", model("mt-dnn"), "a"], ["No task is named", "cola, sst2", "--task"]),
    "another task": (
        ["predict", model("mt-dnn"), "a", "--task", "wnli"],
        ["no task 'wnli'", "cola, sst2"],
    ),
    "an unknown task": (
        ["predict", model("mt-dnn"), "a", "--task", "colla"],
        ["no task 'colla'", "cola"],
    ),
    "half a pair": (
        ["predict", model("mt-dnn"), "a", "--task", "mrpc"],
        ["MRPC", "two texts (sentence1 and sentence2)", "1 is given"],
    ),
    "too many": (
        ["predict", model("mt-dnn"), "a", "b", "--task", "sst2"],
        ["SST-2", "one text", "2 are given"],
    ),
    "no such file": (
        ["predict", model("mt-dnn"), "films.csv", "--task", "sst2"],
        ["no file films.csv"],
    ),
    "an unknown format": (
        ["predict", model("mt-dnn"), "a", "--task", "sst2", "--format", "xls"],
        ["--format xls", "csv, tsv"],
    ),
    "a file of no known kind": (
        ["predict", model("mt-dnn"), ROOT / "Makefile", "--task", "sst2"],
        ["Makefile", "--format"],
    ),
    "too many columns": (
        ["predict", model("mt-dnn"), "-", "--task", "sst2", "--columns", "a,b"],
        ["--columns a,b", "1 text column "],
    ),
    "nothing": (["predict", model("mt-dnn"), "--task", "sst2"], ["nothing to answer"]),
    "out in no folder": (
        ["predict", model("mt-dnn"), "a", "--task", "sst2", "--out", "/nowhere/o"],
        ["no folder /nowhere"],
    ),
    "export's format": (
        ["export", model("mt-dnn"), "@/out", "--task", "sst2", "--format", "tf"],
        ["--format tf", "transformers and onnx"],
    ),
    "export over a folder": (
        ["export", model("mt-dnn"), ROOT / "tests", "--task", "sst2"],
        ["tests", "not empty"],
    ),
    "an LSTM to transformers": (
        ["export", model("mkd-lstm"), "@/out", "--task", "sst2"],
        ["BiAttentiveEncoder", "--format onnx"],
    ),
    "submit's system": (
        ["submit", TINY, "mkd-lstm", "@/a.zip"],
        ["no test predictions of 'mkd-lstm'", "bert, mt-dnn, mt-dnn-kd"],
    ),
    "submit's file": (["submit", TINY, "bert", "@/a.tar"], ["a.tar", ".zip"]),
    "submit before the run": (
        ["submit", TINY, "bert", "@/a.zip", "--set", "name=other"],
        ["other/finetune/bert/s0/mnli", "run the stage"],
    ),
}


@pytest.mark.parametrize("arguments, words", WRONG.values(), ids=WRONG)
def test_bad_input_ends_with_one_line_and_status_2_and_writes_nothing(
    run, tmp_path, arguments, words
):
    code, out, err = run(*(str(part).replace("@", str(tmp_path)) for part in arguments))
    lines = err.strip().splitlines()
    assert code == 2 and not out and not list(tmp_path.iterdir())
    assert (
        len(lines) == 1
        and lines[0].startswith("mtkd: ")
        and all(word in lines[0] for word in words)
    ), err


FILES = {
    "a missing column": (
        "a.csv",
        b"sentence1,text\na,b\n",
        ["no column 'sentence2'", "sentence1, text", "--columns"],
    ),
    "a short row": ("a.csv", b"sentence1,sentence2\na,b\nc\n", ["line 3", "1 fields", "2"]),
    "an open quote": ("a.csv", b'sentence1,sentence2\n"a,b\n', ["after line", "CSV"]),
    "a short line of TSV": ("a.tsv", b"sentence1\tsentence2\na\tb\tc\n", ["line 2", "3 fields"]),
    "half a pair": ("a.txt", b"a\tb\nc\n", ["line 2", "pair", "'c'"]),
    "no JSON": (
        "a.jsonl",
        b'{"sentence1": "a", "sentence2": "b"}\n{"sentence1": \n',
        ["line 2", "no JSON"],
    ),
    "no object": ("a.jsonl", b'["a", "b"]\n', ["line 1", "no JSON object"]),
    "a number": (
        "a.jsonl",
        b'{"sentence1": "a", "sentence2": 3}\n',
        ["line 1", "'sentence2' holds 3"],
    ),
    "nothing there": (
        "a.jsonl",
        b'{"sentence1": "a", "sentence2": null}\n',
        ["holds null, not text"],
    ),
    "not UTF-8": ("a.csv", b"sentence1,sentence2\na,b\n\xff\xfe,b\n", ["not UTF-8"]),
    "no Parquet": ("a.parquet", b"PAR1 nothing", ["cannot be read as Parquet"]),
}


@pytest.mark.parametrize("name, content, words", FILES.values(), ids=FILES)
def test_a_bad_file_is_told_by_line_and_leaves_no_answers(run, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    code, out, err = run(
        "predict",
        model("mt-dnn"),
        tmp_path / name,
        "--task",
        "mrpc",
        "--out",
        tmp_path / "out.jsonl",
    )
    assert code == 2 and not out and [path.name for path in tmp_path.iterdir()] == [name]
    assert (
        len(err.strip().splitlines()) == 1 and name in err and all(word in err for word in words)
    ), err


def test_a_folder_elsewhere_of_another_encoder_or_from_a_stranger_is_refused(tiny, tmp_path):
    own = folder(tiny, "student", "s0")
    shutil.copytree(own, tmp_path / "away")
    with pytest.raises(UserError, match=r"outside of its study's outputs.*mtkd export"):
        trained.open_model(str(tmp_path / "away"), "cola")
    with pytest.raises(UserError, match=r"no finished|not a finished"):
        trained.open_model(str(tmp_path), "cola")
    with pytest.raises(UserError, match="holds no weights"):
        trained.open_model(str(folder(tiny, "finetune", "bert", "s0", "cola")), "cola")
    shutil.copytree(folder(tiny, "encoder", "cased"), tmp_path / "encoder" / "cased")
    with pytest.raises(UserError, match="another encoder"):
        trained.open_model(str(tmp_path / "away"), "cola")
    shutil.copytree(folder(tiny, "encoder", "uncased"), tmp_path / "encoder" / "uncased")
    assert trained.open_model(str(tmp_path / "away"), "cola").task.name == "cola"
    record = json.loads((own / "record.json").read_text())
    for inputs in (
        {},
        None,
        {"encoder": record["inputs"]["encoder"], "other_tasks": 3},
        record["inputs"] | {"model": {}},
        record["inputs"] | {"stage": "mkd", "student": {"kind": "lstm", "__class__": "os.system"}},
    ):
        (tmp_path / "away" / "record.json").write_text(json.dumps(record | {"inputs": inputs}))
        with pytest.raises(
            UserError, match=r"not the record of a trained model|holds another encoder"
        ):
            trained.open_model(str(tmp_path / "away"), "cola")
    weights = tmp_path / "away" / "model.safetensors"
    (tmp_path / "away" / "record.json").write_text(json.dumps(record))
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match="changed since it was written"):
        trained.open_model(str(tmp_path / "away"), "cola")


def test_an_export_to_transformers_stands_alone_and_its_card_tells_what_it_is(run, tmp_path):
    code, printed, err = run("export", model("mt-dnn-kd"), tmp_path / "out", "--task", "mnli")
    assert code == 0 and "transformers" in printed, err
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
    }
    own = trained.open_model(model("mt-dnn-kd"), "mnli")
    tokenizer, theirs = (
        kind.from_pretrained(tmp_path / "out")
        for kind in (AutoTokenizer, AutoModelForSequenceClassification)
    )
    pairs = [("a cat", "a dog sees it"), ("", ""), ("word " * 200, "more " * 100)]
    given = tokenizer(
        *map(list, zip(*pairs, strict=True)), truncation=True, padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        assert (
            np.abs(theirs.eval()(**given).logits.numpy() - answers.logits(own, pairs)).max() < 1e-5
        )
    card = (tmp_path / "out" / "README.md").read_text()
    scored = (
        own.artifact.frame("scores.csv")
        .query("task == 'mnli' and split == 'validation_matched'")
        .value.iloc[0]
    )
    assert f"| validation_matched | accuracy | {scored:.1f} (" in card and ", 2 seeds)" in card
    for word in (
        "0 `entailment`, 1 `neutral`",
        "in train",
        "generated by mtkd",
        "## Limits",
        "## Licence",
    ):
        assert word in card


def test_an_export_to_onnx_has_quality_and_speed_beside_it(run, tmp_path):
    pytest.importorskip("onnxruntime")
    code, _, err = run(
        "export", model("mkd-lstm"), tmp_path / "out", "--task", "cola", "--format", "onnx"
    )
    assert code == 0, err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"model.onnx", "model.int8.onnx", "labels.json", "tokenizer.json", "README.md"}
    table = (tmp_path / "out" / "README.md").read_text().split("## This export")[1]
    for variant in ("study", "onnx", "onnx int8"):
        cells = next(
            line for line in table.splitlines() if line.startswith(f"| {variant} |")
        ).split("|")
        gap, matthews, one, many = map(float, cells[2:6])
        assert (
            -100 <= matthews <= 100
            and one > 0
            and many > 0
            and gap < (1e-4 if variant != "onnx int8" else 0.5)
        )
    assert json.loads((tmp_path / "out" / "labels.json").read_text())["labels"] == [
        "unacceptable",
        "acceptable",
    ]


def test_the_zip_holds_the_studys_test_predictions(tiny, run, tmp_path):
    code, printed, err = run("submit", TINY, "mt-dnn-kd", tmp_path / "glue.zip")
    assert code == 0 and "generated" in printed and "eleven files" in printed, err
    with zipfile.ZipFile(tmp_path / "glue.zip") as packed:
        names = (
            "AX",
            "CoLA",
            "MNLI-m",
            "MNLI-mm",
            "MRPC",
            "QNLI",
            "QQP",
            "RTE",
            "SST-2",
            "STS-B",
            "WNLI",
        )
        assert packed.namelist() == [f"{name}.tsv" for name in names]
        found = {name: pd.read_csv(packed.open(name), sep="\t") for name in packed.namelist()}
    stored = {
        name: read(folder(tiny, "finetune", "mt-dnn-kd", "s0", name)).frame("predictions.parquet")
        for name in ("mnli", "stsb")
    }
    for name, split in (("AX.tsv", "test"), ("MNLI-mm.tsv", "test_mismatched")):
        rows = stored["mnli"][stored["mnli"].split == split].sort_values("idx")
        words = [tasks.get("mnli").labels[number] for number in np.stack(rows.outputs).argmax(1)]
        assert found[name].prediction.tolist() == words and found[name]["index"].tolist() == list(
            range(len(words))
        )
    scores = np.stack(stored["stsb"].query("split == 'test'").sort_values("idx").outputs)[
        :, 0
    ].clip(0, 5)
    assert np.abs(found["STS-B.tsv"].prediction - scores).max() < 6e-4
    assert set(found["SST-2.tsv"].prediction) <= {0, 1}


def test_a_missing_test_set_is_a_file_of_placeholders_that_is_named_and_a_gap_is_an_error(
    tiny, tmp_path
):
    fewer = tiny.model_copy(update={"tasks": [name for name in tiny.tasks if name != "qqp"]})
    notes = submission.submit(fewer, "bert", tmp_path / "a.zip")
    placed = [note for note in notes if "placeholders" in note]
    assert placed == [
        "QQP.tsv holds placeholders: the study has no predictions of QQP's test split."
    ]
    with zipfile.ZipFile(tmp_path / "a.zip") as packed:
        lines = packed.read("QQP.tsv").decode().splitlines()
    assert len(lines) == 390_965 + 1 and lines[-1] == "390964\t0"
    frame = (
        read(folder(tiny, "finetune", "bert", "s0", "rte"))
        .frame("predictions.parquet")
        .query("split == 'test'")
    )
    file = next(file for file in submission.FILES if file.name == "RTE.tsv")
    for bad in (frame.iloc[1:], pd.concat([frame, frame.iloc[:1]])):
        with pytest.raises(UserError, match=r"RTE.tsv: the test set's idx"):
            submission._answers(tasks.get("rte"), bad, file)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("RTE.tsv", "1\tentailment", "1\tentailed"),
        ("RTE.tsv", "1\t", "2\t"),
        ("STS-B.tsv", "\t0.000", "\t5.001"),
        ("STS-B.tsv", "\t0.000", "\t0.00"),
        ("STS-B.tsv", "\t0.000", "\tnan"),
        ("CoLA.tsv", "index\tprediction", "idx\tprediction"),
        ("AX.tsv", "0\tentailment", "0\t1"),
    ],
)
def test_a_zip_that_the_server_would_not_take_is_found_by_file_and_row(tmp_path, name, old, new):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        for file in submission.FILES:
            word = submission._word(tasks.get(file.task), 0)
            text = f"{submission.HEADER}\n" + "".join(f"{row}\t{word}\n" for row in range(3))
            packed.writestr(file.name, text.replace(old, new, 1) if file.name == name else text)
    with pytest.raises(UserError, match=f"{name}.*(row [012]|header)"):
        submission.check(tmp_path / "a.zip")


def test_the_command_itself_streams_from_a_pipe(tiny_run):
    done = mtkd("predict", model("mt-dnn-kd"), "the film was good", "--task", "sst2", **tiny_run[1])
    assert (
        done.returncode == 0
        and rows(done.stdout)[0]["label"] in ("negative", "positive")
        and not done.stderr
    )
