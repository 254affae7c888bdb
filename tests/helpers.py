"""Small fixtures that several test files share: a tiny BERT, rows in GLUE's columns, examples."""

import os
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from transformers import BertConfig, BertModel

from mtkd import stages
from mtkd.config.study import Study, check, load
from mtkd.data import synthetic
from mtkd.data.dataset import Examples
from mtkd.tasks import Task
from mtkd.training.wordpiece import train_tokenizer

ROOT = Path(__file__).resolve().parent.parent
STUDIES = ROOT / "tests" / "studies"
TINY = STUDIES / "tiny.yaml"
EXAMPLE = ROOT / "examples" / "own.yaml"
# An own task of two texts, but for its file t.csv.
PAIR = {
    "type": "pair",
    "train": "t.csv",
    "dev": 0.25,
    "columns": ["a", "b"],
    "labels": ["no", "yes"],
}
ENGLISH = "a the cat dog bird sees hears likes small old red house river never often quickly"
WORDS = ENGLISH.split()


def has_string_views() -> bool:
    """Return whether this pyarrow casts to string views and writes them as Parquet."""
    try:
        views = pa.array(["a"]).cast("string_view")
        parquet.write_table(pa.table({"a": views}), pa.BufferOutputStream())
    except pa.ArrowNotImplementedError:
        return False
    return True


# Overrides that leave the tiny study three tasks and one candidate.
SMALL = [
    "tasks=[rte, stsb, mrpc]",
    "exclude_from_multitask=[]",
    "data={source: synthetic, scale: 0.2, max_length: 48, max_train: 40}",
    "mkd=null",
    "candidates={dropouts: [0.1], ensemble_size: 2, select_on: [rte]}",
    "distil.teachers=[rte, stsb]",
    "train.epochs=1",
    "seeds=[0, 1]",
    "train.score_every_epoch=false",
]


def mtkd(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess:
    """Run the command line in a process of its own, from the checkout."""
    command = [sys.executable, "-c", "from mtkd.cli import main; main()", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, cwd=ROOT, text=True, capture_output=True, env=environment)


def compute(path: Path, folder: Path, patch: pytest.MonkeyPatch, overrides=()) -> None:
    """Run every stage of a study in this process, into `artifacts` and `reports` of a folder."""
    patch.setenv("MTKD_WORK", str(folder / "artifacts"))
    patch.setenv("MTKD_REPORTS", str(folder / "reports"))
    settings = load(path, overrides)
    stages.load_all(settings, stages.all_runs(settings))


def study(**settings) -> Study:
    """Return a small valid study with these settings."""
    encoders = {name: {"checkpoint": f"somewhere/{name}"} for name in ("uncased", "cased")}
    return check({"name": "small", "encoders": encoders} | settings)


def ablation_study(**variants: dict) -> Study:
    """Return a study of three tasks that compares these variants (`_` in a name stands for `-`)."""
    settings = load(TINY, SMALL).model_dump()
    named = {name.replace("_", "-"): variant for name, variant in variants.items()}
    return check({**settings, "ablation": {"variants": named}})


def tiny_bert(folder: Path, *, hidden: int = 32, layers: int = 2, seed: int = 0) -> Path:
    """Write a BERT with random weights and its WordPiece tokenizer in transformers' format."""
    tokenizer = train_tokenizer(synthetic.text(sentences=1500), cased=False, vocab_size=300)
    tokenizer.model_max_length = 64
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sentences(count: int, *, seed: int = 0, shortest: int = 3, longest: int = 12) -> list[str]:
    """Return random texts, no two alike."""
    random = np.random.default_rng(seed)
    lengths = (random.integers(shortest, longest + 1) for _ in range(count))
    return [" ".join([*random.choice(WORDS, n), str(row)]) for row, n in enumerate(lengths)]


def rows(task: Task, count: int = 20, *, seed: int = 0, **columns: list) -> datasets.Dataset:
    """Return a split with the hub's columns and features; `columns` replace the random values."""
    texts = {
        name: sentences(count, seed=100 * seed + index) for index, name in enumerate(task.columns)
    }
    labels = [row % 11 / 2 if task.regression else row % task.num_outputs for row in range(count)]
    values = texts | {"label": labels, "idx": list(range(count))} | columns
    label = datasets.Value("float32")
    if not task.regression:
        label = datasets.ClassLabel(names=list(task.labels))
    features = {name: datasets.Value("string") for name in task.columns}
    features |= {"label": label, "idx": datasets.Value("int32")}
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def mirror(folder: Path, task: Task, splits: dict[str, datasets.Dataset]) -> Path:
    """Write splits in the layout of nyu-mll/glue: `<task>/<split>-00000-of-00001.parquet`."""
    (folder / task.name).mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        split.to_parquet(folder / task.name / f"{name}-00000-of-00001.parquet")
    return folder


def full_mirror(folder: Path, task: Task, train: int = 40, dev: int = 20, test: int = 10) -> Path:
    """Write every split of a task, with test labels -1."""
    sizes = [(task.train, train), *((name, dev) for name in task.dev)]
    splits = {name: rows(task, size, seed=seed) for seed, (name, size) in enumerate(sizes)}
    splits |= {name: rows(task, test, seed=9, label=[-1] * test) for name in task.test}
    return mirror(folder, task, splits)


def examples(
    task: Task,
    pieces: list[list[int]],
    labels: list,
    *,
    idx: list[int] | None = None,
    segment_start: list[int] | None = None,
    fingerprint: str = "made",
    soft_targets: np.ndarray | None = None,
    pad_id: int = 0,
) -> Examples:
    """Return examples of these word pieces; without `segment_start`, single texts."""
    values = {
        "label": labels,
        "idx": list(range(len(labels))) if idx is None else idx,
        "input_ids": pieces,
        "segment_start": segment_start or [len(ids) for ids in pieces],
    }
    features = {
        "label": datasets.Value("float32" if task.regression else "int64"),
        "idx": datasets.Value("int64"),
        "input_ids": datasets.List(datasets.Value("int32")),
        "segment_start": datasets.Value("int32"),
    }
    split = datasets.Dataset.from_dict(values, features=datasets.Features(features))
    return Examples(task, split, fingerprint, pad_id, soft_targets=soft_targets)


def some_examples(task: Task, count: int = 8, *, seed: int = 0, vocabulary: int = 60) -> Examples:
    """Return examples of random word pieces of several lengths, in two segments."""
    random = np.random.default_rng(seed)
    pieces = [
        [2, *random.integers(5, vocabulary, random.integers(3, 15)).tolist(), 3]
        for _ in range(count)
    ]
    labels = [row % task.num_outputs for row in range(count)]
    if task.regression:
        labels = random.uniform(0, 5, count).tolist()
    return examples(task, pieces, labels, segment_start=[len(ids) // 2 for ids in pieces])


def compared(results: pd.DataFrame, pairs: list[tuple[str, str]], reach: float):
    """Return comparisons whose intervals reach so many points to either side of the gains."""
    from mtkd.report.scores import gains
    from mtkd.report.significance import COLUMNS, Compared, Kept

    rows = []
    for a, b in pairs:
        frame = gains(results, student=a, base=b)
        for task, row in frame[frame["gain"].notna()].iterrows():
            limits = {"low": row.gain - reach, "high": row.gain + reach}
            p = 0.0001 if abs(row.gain) > reach else 0.5
            about = {"a": a, "b": b, "task": task, "seeds": row.seeds, "examples": 100}
            rows.append(about | limits | {"difference": row.gain, "p": p, "p_holm": p})
    return Compared(pd.DataFrame(rows, columns=COLUMNS), Kept(0.5, 0.3, 0.7, 3))
