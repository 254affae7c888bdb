"""A study's folder with a BERT, an LSTM and a BERT under SANs, drawn at random, as the stages leave
them."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import rows, tiny_bert

from mtkd import tasks
from mtkd.artifacts import Artifact, make, read, write_json
from mtkd.config.mkd import LstmStudent
from mtkd.data.dataset import tokenize
from mtkd.data.glue import write_arrow
from mtkd.models.multitask import MultiTaskModel, load_encoder
from mtkd.models.student import student_encoder
from mtkd.stages.inputs import tokenizer_of

DESCRIPTION = {
    "system": "mt-dnn-kd:mtl",
    "tasks": [{"name": name, "custom": None} for name in ("sst2", "mrpc", "stsb", "mnli")],
    "encoder": "uncased",
    "pooling": "cls",
    "max_length": 64,
    "student": None,
}
TASKS = [tasks.get(task["name"]) for task in DESCRIPTION["tasks"]]
FINGERPRINTS = {task.name: dict.fromkeys(task.dev, "") for task in TASKS}
LSTM = LstmStudent(kind="lstm", embedding_dim=8, hidden=8, output_dim=16)
SIZE = 12  # of every dev set


class MadeStudy:
    """The folders of a study's artifacts, and ways to change them."""

    def __init__(self, work: Path):
        self.work, self.root = work, work / "tiny"
        self.data, self.tokens = self.root / "00_data", self.root / "01_pretrain" / "uncased"
        self.encoder = self.root / "01_pretrain" / "uncased.parts" / "encoder"
        self.transformer = self.root / "04_student" / "s0"
        self.lstm = self.root / "09_mkd" / "lstm-s0.parts" / "mtl-kd" / "all"
        self.san = self.root / "04_student" / "san"

    def change_record(self, folder: Path, **changes) -> None:
        record = json.loads((folder / "record.json").read_text())
        write_json(folder / "record.json", record | changes)

    def change_description(self, folder: Path, **changes) -> None:
        description = json.loads((folder / "model.json").read_text())
        self.replace(folder, "model.json", json.dumps(description | changes).encode())

    def replace(self, folder: Path, name: str, content: bytes | None) -> None:
        """Replace or remove a file, and make the record fit, as somebody else would."""
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {
            path.relative_to(folder).as_posix(): [
                path.stat().st_size,
                hashlib.sha256(path.read_bytes()).hexdigest(),
            ]
            for path in paths
            if path.name != "record.json"
        }
        self.change_record(folder, files=files, contents=files)

    def connect(self) -> None:
        """Record that the models come from the encoder as it is now."""
        encoder = read(self.encoder).fingerprint
        self.change_record(self.tokens, inputs={"parts": {"encoder": encoder}})
        for model in (self.transformer, self.lstm):
            self.change_record(model, inputs=_model_inputs(read(self.tokens)))


def _model_inputs(tokens: Artifact) -> dict:
    parents = {"01_pretrain.uncased": tokens.fingerprint}
    return {"depends": {"train": {"epochs": 5}}, "parents": parents}


def _make_data(folder: Path) -> None:
    def build(out: Path, checkpoint: Path) -> None:
        splits = [(task, split) for task in TASKS for split in task.dev]
        for task, split in splits:
            write_arrow(rows(task, SIZE), out / task.name / f"{split}.arrow")
        write_json(out / "fingerprints.json", FINGERPRINTS)
        sizes = [{"task": task.name, "split": split, "examples": SIZE} for task, split in splits]
        pd.DataFrame(sizes).to_csv(out / "sizes.csv", index=False)

    make(folder, {"depends": {"data": {"source": "synthetic"}}}, build)


def _make_encoder(study: MadeStudy) -> Artifact:
    """Make an encoder, and the dev sets as its word pieces."""

    def build_weights(out: Path, checkpoint: Path) -> None:
        tiny_bert(out / "encoder")
        write_json(out / "origin.json", {"from": "pretrain"})

    weights = make(study.encoder, {"depends": {}}, build_weights)
    tokenizer = tokenizer_of(weights)

    def build(out: Path, checkpoint: Path) -> None:
        for task in TASKS:
            (out / task.name).mkdir(parents=True)
            for split in task.dev:
                path = out / task.name / f"{split}.arrow"
                tokenize(rows(task, SIZE), task, tokenizer, 64, path)
        write_json(out / "fingerprints.json", FINGERPRINTS)
        write_json(out / "pad.json", tokenizer.pad_token_id)

    return make(study.tokens, {"parts": {"encoder": weights.fingerprint}}, build)


def _make_model(folder: Path, encoder: torch.nn.Module, tokens: Artifact, **changes) -> None:
    dropout = {task.name: 0.0 for task in TASKS}
    model = MultiTaskModel(encoder, TASKS, dropout, changes.get("heads"))
    random = np.random.default_rng(0)

    def predictions(task: tasks.Task, split: str) -> pd.DataFrame:
        outputs = list(random.random((SIZE, task.num_outputs)))
        columns = {"label": rows(task, SIZE)["label"], "idx": range(SIZE), "outputs": outputs}
        return pd.DataFrame(columns).assign(task=task.name, split=split)

    def build(out: Path, checkpoint: Path) -> None:
        model.save(out / "model.safetensors")
        write_json(out / "model.json", DESCRIPTION | changes)
        frames = [predictions(task, split) for task in TASKS for split in task.dev]
        pd.concat(frames).to_parquet(out / "predictions.parquet")

    make(folder, _model_inputs(tokens), build)


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> MadeStudy:
    """A study for all tests; not to be changed."""
    study = MadeStudy(tmp_path_factory.mktemp("made"))
    _make_data(study.data)
    tokens = _make_encoder(study)
    folder = study.encoder / "encoder"
    _make_model(study.transformer, load_encoder(folder, dropout=0.0), tokens)
    torch.manual_seed(0)
    lstm = student_encoder(LSTM, folder, "cls", lambda: torch.randn(300, 8), 64)
    student = LSTM.model_dump(exclude={"train"})
    san = {"heads": {"mnli": "san", "stsb": "san"}}
    _make_model(study.san, load_encoder(folder, dropout=0.0), tokens, **san)
    _make_model(study.lstm, lstm, tokens, system="mkd-lstm:mtl", student=student)
    return study


@pytest.fixture
def copied(made, tmp_path) -> MadeStudy:
    """A copy of it to be changed."""
    shutil.copytree(made.work, tmp_path / "work")
    return MadeStudy(tmp_path / "work")


@pytest.fixture(params=["transformer", "lstm"])
def folder(made, request) -> Path:
    """The folder of each model in turn."""
    return getattr(made, request.param)
