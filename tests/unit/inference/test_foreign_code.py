"""Folders from elsewhere with a BERT in them: no code and no pickle of theirs is run."""

import json
import pickle
from pathlib import Path

import datasets
import pytest
import torch
from helpers import study, tiny_bert

from mtkd.errors import UserError
from mtkd.inference.load import load_model
from mtkd.models.multitask import load_encoder
from mtkd.stages import pretrain

CODE = "from pathlib import Path\nPath({!r}).write_text('ran')\n"


class Touch:
    """Writes a file as it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "ran")


def add_code(folder: Path, sentinel: Path, model_type: str) -> None:
    for name in ("modeling_own", "configuration_own", "tokenization_own"):
        (folder / f"{name}.py").write_text(CODE.format(str(sentinel)))
    models = ("AutoModel", "AutoModelForMaskedLM", "AutoModelForSequenceClassification")
    auto = {"AutoConfig": "configuration_own.C", **dict.fromkeys(models, "modeling_own.M")}
    change(folder / "config.json", auto_map=auto, model_type=model_type)
    auto = {"AutoTokenizer": ["tokenization_own.T", "tokenization_own.T"]}
    own = {"tokenizer_class": "T"} if model_type == "own" else {}
    change(folder / "tokenizer_config.json", auto_map=auto, **own)


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def add_pickle(folder: Path, sentinel: Path, save) -> None:
    (folder / "model.safetensors").unlink()
    save({"weights": Touch(sentinel)}, folder / "pytorch_model.bin")


KINDS = {
    "code": lambda folder, sentinel: add_code(folder, sentinel, "bert"),
    "code of an unknown model": lambda folder, sentinel: add_code(folder, sentinel, "own"),
    "a pickle": lambda folder, sentinel: add_pickle(
        folder, sentinel, lambda value, path: path.write_bytes(pickle.dumps(value))
    ),
    "weights by torch": lambda folder, sentinel: add_pickle(folder, sentinel, torch.save),
}


def study_of(checkpoint: Path):
    train = checkpoint.parent / "t.csv"
    texts = [f"{'long ' * 300}{number},{('no', 'yes')[number % 2]}\n" for number in range(8)]
    train.write_text("a,label\n" + "".join(texts))
    task = {"type": "single", "train": str(train), "dev": 0.25, "columns": ["a"]}
    encoders = {"uncased": {"checkpoint": str(checkpoint)}}
    own = {"own_tasks": {"mine": task | {"labels": ["no", "yes"]}}}
    return study(**own, encoders=encoders, candidates={"ensemble_size": 1})


WAYS = {
    "an encoder": lambda folder: load_encoder(folder, dropout=0.0),
    "a study's checkpoint": lambda folder: pretrain.run(study_of(folder), "uncased"),
}


@pytest.fixture(autouse=True)
def folders(monkeypatch, tmp_path):
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "artifacts"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # transformers may ask whether to run it


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_from_elsewhere_runs_no_code(tmp_path, way, kind):
    sentinel, folder = tmp_path / "ran", tiny_bert(tmp_path / "elsewhere")
    KINDS[kind](folder, sentinel)
    if kind == "code":  # a BERT that brings code beside is read without it
        WAYS[way](folder)
    else:
        with pytest.raises(UserError, match=r"elsewhere.*give"):
            WAYS[way](folder)
    assert not sentinel.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_from_elsewhere_runs_no_code(copied, tmp_path, kind):
    sentinel, folder = tmp_path / "ran", copied.encoder / "encoder"
    KINDS[kind](folder, sentinel)
    copied.replace(copied.encoder, "note.txt", b"")
    copied.connect()
    if kind == "code of an unknown model":
        with pytest.raises(UserError):
            load_model(str(copied.transformer), "sst2")
    else:  # the encoder's own weights are not read: the model's replace them
        assert load_model(str(copied.transformer), "sst2")
    assert not sentinel.exists()


def test_examples_end_at_the_positions_of_the_checkpoint(tmp_path):
    tokens = pretrain.run(study_of(tiny_bert(tmp_path / "bert")), "uncased")
    split = datasets.Dataset.from_file(str(tokens.file("mine/train.arrow")))
    assert {len(pieces) for pieces in split["input_ids"]} == {64}
