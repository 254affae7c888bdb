"""Bad models, given to the command line: damaged, made by a stranger, or asked what they cannot tell; each ends with one line."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from helpers import trained_models
from refusals import damaged, put, refused

pytest_plugins = "refusals"
pytestmark = pytest.mark.usefixtures("places")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Outputs of a study with a Transformer and an LSTM, made once."""
    work = tmp_path_factory.mktemp("made")
    trained_models(work)
    return work


@pytest.fixture
def model(made, tmp_path):
    """A copy of them to break: the Transformer's folder."""
    shutil.copytree(made, tmp_path / "work")
    return tmp_path / "work" / "made" / "student" / "s0"


def record(folder: Path, change) -> None:
    found = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps(change(found)))


def weights(folder: Path, content: bytes, name: str = "model.safetensors") -> None:
    """Other weights with a record that fits them, as a stranger would make it."""
    (folder / name).write_bytes(content)
    record(
        folder,
        lambda found: (
            found
            | {
                "files": found["files"]
                | {name: [len(content), hashlib.sha256(content).hexdigest()]}
            }
        ),
    )


def inputs(**changes):
    return lambda found: found | {"inputs": found["inputs"] | changes}


# What is done to a model's folder, words of the message.
MODELS = {
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        ["damaged", "run the stage again"],
    ),
    "no record": (
        lambda folder: (folder / "record.json").unlink(),
        ["record.json", "run the stage"],
    ),
    "a record that is no JSON": (
        lambda folder: (folder / "record.json").write_text("{"),
        ["damaged"],
    ),
    "a record that is a list": (
        lambda folder: (folder / "record.json").write_text("[]"),
        ["damaged"],
    ),
    "a record that is not text": (
        lambda folder: (folder / "record.json").write_bytes(b"\xff\xfe"),
        ["damaged"],
    ),
    "a record nested without end": (
        lambda folder: (folder / "record.json").write_text("[" * 100_000),
        ["damaged"],
    ),
    "a record without inputs": (
        lambda folder: record(folder, lambda found: {"files": found["files"]}),
        ["not the record"],
    ),
    "cut weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(
            (folder / "model.safetensors").read_bytes()[:500]
        ),
        ["damaged"],
    ),
    "cut weights that the record fits": (
        lambda folder: weights(folder, (folder / "model.safetensors").read_bytes()[:500]),
        ["not a readable model file"],
    ),
    "weights that are a pickle": (
        lambda folder: weights(folder, b"\x80\x04cos\nsystem\n."),
        ["not a readable model file"],
    ),
    "a pickle alone": (
        lambda folder: [
            weights(folder, b"\x80\x04", "pytorch_model.bin"),
            (folder / "model.safetensors").unlink(),
            record(
                folder,
                lambda found: (
                    found | {"files": {"pytorch_model.bin": found["files"]["pytorch_model.bin"]}}
                ),
            ),
        ],
        ["no weights", "pytorch_model.bin"],
    ),
    "a head that is not there": (
        lambda folder: record(folder, inputs(tasks=["sst2", "mrpc", "rte"])),
        ["no head for 'rte'", "2"],
    ),
    "a head of another size": (lambda folder: record(folder, inputs(tasks=["mnli"])), ["mnli"]),
    "a task that there is not": (
        lambda folder: record(folder, inputs(tasks=["snli"])),
        ["made/data", "run the stage"],
    ),
    "another encoder": (
        lambda folder: record(folder, inputs(encoder="0" * 16)),
        ["another encoder", "run it again"],
    ),
    "a file outside of the folder": (
        lambda folder: record(
            folder,
            lambda found: found | {"files": {"model.safetensors": [0, ""], "../../x": [0, ""]}},
        ),
        ["damaged"],
    ),
    "words for the model's settings": (
        lambda folder: record(folder, inputs(model="cls")),
        ["not the record"],
    ),
    "an unknown pooling": (
        lambda folder: record(folder, inputs(model={"pooling": "sum"})),
        ["not the record"],
    ),
    "an unknown stage": (
        lambda folder: record(folder, inputs(stage="mkd", student={"kind": "tree"})),
        ["not the record"],
    ),
    "no length": (lambda folder: record(folder, inputs(max_length="long")), ["not the record"]),
    "a folder for the weights": (
        lambda folder: [
            (folder / "model.safetensors").unlink(),
            (folder / "model.safetensors").mkdir(),
        ],
        ["damaged"],
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_bad_model_is_refused(run, tmp_path, model, case):
    change, words = MODELS[case]
    change(model)
    refused(run, tmp_path, ["predict", str(model), "a text", "--task", "sst2"], words)


# What is done to the encoder that a model was trained from; its record is made to fit.
ENCODER = {
    "no configuration": ({"config.json": None}, ["encoder"]),
    "a configuration that is no JSON": ({"config.json": b"{"}, ["encoder"]),
    "a configuration of an unknown model": (
        {"config.json": b'{"model_type": "nothing"}'},
        ["encoder"],
    ),
    "no tokenizer": ({"tokenizer.json": None, "tokenizer_config.json": None}, ["tokenizer"]),
    "a tokenizer that is no JSON": ({"tokenizer.json": b"{"}, ["tokenizer"]),
    "a tokenizer of other things": ({"tokenizer.json": b"[]"}, ["tokenizer"]),
    "no weights": ({"model.safetensors": None}, ["encoder"]),
    "cut weights": ({"model.safetensors": b"\x10\0\0\0\0\0\0\0{"}, ["encoder"]),
    "a pickle for weights": (
        {"model.safetensors": None, "pytorch_model.bin": b"\x80\x04cos\nsystem\n."},
        ["encoder"],
    ),
}


def _other_encoder(model: Path, changes: dict) -> None:
    place = model.parent.parent / "encoder" / "uncased"
    for name, content in changes.items():
        (place / "encoder" / name).unlink(missing_ok=True)
        record(
            place,
            lambda found, name=name: (
                found
                | {
                    "files": {
                        key: value
                        for key, value in found["files"].items()
                        if key != f"encoder/{name}"
                    }
                }
            ),
        )
        if content is not None:
            weights(place, content, f"encoder/{name}")
    from mtkd.artifacts import read

    record(model, inputs(encoder=read(place).fingerprint))


@pytest.mark.parametrize("case", ENCODER)
def test_a_bad_encoder_is_refused(run, tmp_path, model, case):
    changes, words = ENCODER[case]
    _other_encoder(model, changes)
    refused(run, tmp_path, ["predict", str(model), "a text", "--task", "sst2"], [*words, "uncased"])


# What is asked of a good model: arguments behind its folder, the standard input, words of the message.
ASKED = {
    "no task": ("predict @ text", None, ["No task is named", "sst2, mrpc, stsb", "--task"]),
    "an unknown task": ("predict @ text --task colla", None, ["no task 'colla'", "sst2"]),
    "a task that it was not trained for": (
        "predict @ text --task wnli",
        None,
        ["no task 'wnli'", "sst2"],
    ),
    "no text": ("predict @ --task sst2", None, ["nothing to answer", "give a text"]),
    "half a pair": ("predict @ text --task mrpc", None, ["two texts", "1 is given"]),
    "no such file": ("predict @ none.csv --task sst2", None, ["no file none.csv"]),
    "a file of an unknown kind": ("predict @ a.xls --task sst2", None, ["a.xls", "--format"]),
    "an unknown format": (
        "predict @ a.csv --task sst2 --format xls",
        None,
        ["--format xls", "csv, tsv"],
    ),
    "a folder for a file": ("predict @ full.csv --task sst2", None, ["full.csv"]),
    "columns too many": (
        "predict @ a.csv --task sst2 --columns a,b",
        None,
        ["--columns", "1 text column"],
    ),
    "an unknown column": (
        "predict @ a.csv --task sst2 --columns words",
        None,
        ["no column 'words'", "--columns"],
    ),
    "no column": ("predict @ a.csv --task mrpc", None, ["no column 'sentence2'", "--columns"]),
    "a bad line of JSON": ("predict @ a.jsonl --task sst2", None, ["a.jsonl, line 2", "no JSON"]),
    "JSON nested without end": (
        "predict @ deep.jsonl --task sst2",
        None,
        ["deep.jsonl, line 1", "JSON"],
    ),
    "JSON of a number with thousands of digits": (
        "predict @ digits.jsonl --task sst2",
        None,
        ["digits.jsonl, line 1", "JSON"],
    ),
    "a number for a text": (
        "predict @ number.jsonl --task sst2",
        None,
        ["line 1", "holds 3", "not text"],
    ),
    "no UTF-8": ("predict @ latin.txt --task sst2", None, ["latin.txt", "UTF-8", "convert"]),
    "no UTF-8 in the standard input": (
        "predict @ - --task sst2",
        b"\xff\xfe",
        ["standard input", "UTF-8"],
    ),
    "a CSV row too short": (
        "predict @ short.csv --task mrpc",
        None,
        ["short.csv, line 3", "1 fields"],
    ),
    "a quote that stays open": ("predict @ open.csv --task sst2", None, ["open.csv", "CSV"]),
    "no Parquet": ("predict @ a.parquet --task sst2", None, ["a.parquet", "Parquet"]),
    "damaged Parquet": (
        "predict @ middle.parquet --task sst2 --columns a",
        None,
        ["middle.parquet", "Parquet"],
    ),
    "Parquet from the standard input": (
        "predict @ - --task sst2 --format parquet",
        b"",
        ["Parquet", "path"],
    ),
    "half a pair in the standard input": (
        "predict @ - --task mrpc",
        b"a\tb\nc\n",
        ["line 2", "tab"],
    ),
    "answers into no folder": (
        "predict @ text --task sst2 --out none/a.jsonl",
        None,
        ["none", "make it first"],
    ),
    "answers over a folder": (
        "predict @ text --task sst2 --out full",
        None,
        ["--out full", "name a file"],
    ),
    "answers under a file": ("predict @ text --task sst2 --out a.csv/b", None, ["a.csv"]),
    "an export's unknown format": (
        "export @ out --task sst2 --format tf",
        None,
        ["--format tf", "transformers and onnx"],
    ),
    "an export into a folder that holds something": (
        "export @ full --task sst2",
        None,
        ["full", "not empty"],
    ),
    "an export over a file": ("export @ a.csv --task sst2", None, ["a.csv", "new folder"]),
    "an export under a file": ("export @ a.csv/out --task sst2", None, ["a.csv"]),
    "an export of no task": ("export @ out", None, ["No task is named", "--task"]),
    "an LSTM in transformers' format": (
        "export LSTM out --task sst2",
        None,
        ["BiAttentiveEncoder", "--format onnx"],
    ),
}


@pytest.mark.parametrize("case", ASKED)
def test_a_bad_question_to_a_model_is_refused(run, tmp_path, made, case):
    line, stdin, words = ASKED[case]
    put(
        tmp_path,
        {
            "a.csv": "sentence,sentence1\na,b\n",
            "a.xls": "a",
            "full/a": "a",
            "full.csv": None,
            "latin.txt": b"\xe4\n",
            "a.jsonl": '{"sentence": "a"}\n{"sentence": \n',
            "number.jsonl": '{"sentence": 3}\n',
            "a.parquet": "PAR1 nothing",
            "deep.jsonl": "[" * 100_000,
            "digits.jsonl": f'{{"sentence": {"9" * 5000}}}\n',
            "open.csv": 'sentence\n"a\n',
            "short.csv": "sentence1,sentence2\na,b\nc\n",
            "middle.parquet": lambda path: damaged(path, middle=True),
        },
    )
    folders = {
        "@": made / "made" / "student" / "s0",
        "LSTM": made / "made" / "mkd" / "lstm" / "multi-s0" / "all",
    }
    refused(run, tmp_path, [str(folders.get(part, part)) for part in line.split()], words, stdin)
