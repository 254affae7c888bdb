"""Little makers that several test files share: a tiny BERT, rows in GLUE's columns, tokenised examples."""

from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import torch
from transformers import BertConfig, BertModel

from mtkd import tasks
from mtkd.artifacts import make
from mtkd.config.mkd import LstmStudent
from mtkd.config.study import Study, check, load
from mtkd.data import synthetic as synthetic
from mtkd.data.dataset import Examples
from mtkd.models import MultiTaskModel, load_encoder
from mtkd.report import scores
from mtkd.report import significance as comparisons
from mtkd.stages.mkd import student_encoder
from mtkd.tasks import Task
from mtkd.training.mlm import train_tokenizer

ROOT = Path(__file__).resolve().parent.parent
WORDS = [
    "a",
    "the",
    "cat",
    "dog",
    "bird",
    "sees",
    "hears",
    "likes",
    "small",
    "old",
    "red",
    "house",
    "river",
    "never",
    "often",
    "quickly",
]


def tiny_bert(folder: Path, *, hidden: int = 32, layers: int = 2, seed: int = 0) -> Path:
    """A BERT drawn at random with its WordPiece tokenizer, in transformers' format."""
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


def trained_models(
    work: Path, names: tuple[str, ...] = ("sst2", "mrpc", "stsb")
) -> tuple[Path, Path]:
    """The folders of a Transformer and an LSTM as a study's stages leave them under `work`, drawn at random, with their encoder."""
    start = make(
        work / "made" / "encoder" / "uncased",
        {"stage": "encoder"},
        lambda out: tiny_bert(out / "encoder"),
    )
    place, of = start.file("encoder"), [tasks.get(name) for name in names]
    lstm = LstmStudent(kind="lstm", embedding_dim=8, hidden=8, output_dim=16)
    inputs = {
        "encoder": start.fingerprint,
        "data": "none",
        "max_length": 64,
        "tasks": list(names),
        "model": {"pooling": "cls"},
    }
    kinds = {
        ("student", "s0"): (load_encoder(place, dropout=0.0), {"stage": "student"}),
        ("mkd", "lstm", "multi-s0", "all"): (
            student_encoder(lstm, place, "cls", lambda: torch.randn(300, 8)),
            {"stage": "mkd", "student": lstm.model_dump(exclude={"train"})},
        ),
    }
    found = []
    for folder, (encoder, more) in kinds.items():
        model = MultiTaskModel(encoder, of, dict.fromkeys(names, 0.0))
        found.append(
            make(
                work.joinpath("made", *folder),
                inputs | more,
                lambda out, of=model: of.save(out / "model.safetensors"),
            ).path
        )
    return tuple(found)


def sentences(count: int, *, seed: int = 0, shortest: int = 3, longest: int = 12) -> list[str]:
    """Texts of made-up words, no two alike."""
    random = np.random.default_rng(seed)
    return [
        " ".join([*random.choice(WORDS, random.integers(shortest, longest + 1)), str(number)])
        for number in range(count)
    ]


def rows(task: Task, count: int = 20, *, seed: int = 0, **columns: list) -> datasets.Dataset:
    """A split with the hub's columns and features, its texts and labels made up; `columns` take the place of its own."""
    made = {
        column: sentences(count, seed=100 * seed + place)
        for place, column in enumerate(task.columns)
    }
    made["label"] = (
        [number % 11 / 2 for number in range(count)]
        if task.regression
        else [number % task.num_outputs for number in range(count)]
    )
    made |= {"idx": list(range(count)), **columns}
    label = (
        datasets.Value("float32")
        if task.regression
        else datasets.ClassLabel(names=list(task.labels))
    )
    text = {column: datasets.Value("string") for column in task.columns}
    return datasets.Dataset.from_dict(
        made, features=datasets.Features({**text, "label": label, "idx": datasets.Value("int32")})
    )


def mirror(folder: Path, task: Task, splits: dict[str, datasets.Dataset]) -> Path:
    """Writes splits in the layout of the hub's nyu-mll/glue: `<task>/<split>-00000-of-00001.parquet`."""
    (folder / task.name).mkdir(parents=True, exist_ok=True)
    for name, split in splits.items():
        split.to_parquet(folder / task.name / f"{name}-00000-of-00001.parquet")
    return folder


def full_mirror(folder: Path, task: Task, train: int = 40, dev: int = 20, test: int = 10) -> Path:
    """Every split of the task, test labels -1."""
    splits = {
        name: rows(task, size, seed=place)
        for place, (name, size) in enumerate(
            [(task.train, train), *((name, dev) for name in task.dev)]
        )
    }
    splits |= {name: rows(task, test, seed=9, label=[-1] * test) for name in task.test}
    return mirror(folder, task, splits)


def examples(
    task: Task,
    pieces: list[list[int]],
    labels: list,
    *,
    idx: list[int] | None = None,
    second: list[int] | None = None,
    fingerprint: str = "made",
    soft: np.ndarray | None = None,
    pad_id: int = 0,
) -> Examples:
    """Examples of these word pieces; without `second`, single texts."""
    split = datasets.Dataset.from_dict(
        {
            "label": labels,
            "idx": list(range(len(labels))) if idx is None else idx,
            "input_ids": pieces,
            "segment_start": [len(found) for found in pieces] if second is None else second,
        },
        features=datasets.Features(
            {
                "label": datasets.Value("float32" if task.regression else "int64"),
                "idx": datasets.Value("int64"),
                "input_ids": datasets.List(datasets.Value("int32")),
                "segment_start": datasets.Value("int32"),
            }
        ),
    )
    return Examples(task, split, fingerprint, pad_id, soft)


def some_examples(task: Task, count: int = 8, *, seed: int = 0, vocabulary: int = 60) -> Examples:
    """Examples of random word pieces of several lengths, in two segments."""
    random = np.random.default_rng(seed)
    pieces = [
        [2, *random.integers(5, vocabulary, random.integers(3, 15)).tolist(), 3]
        for _ in range(count)
    ]
    labels = (
        random.uniform(0, 5, count).tolist()
        if task.regression
        else [number % task.num_outputs for number in range(count)]
    )
    return examples(task, pieces, labels, second=[len(found) // 2 for found in pieces])


def study(**settings) -> Study:
    """A small valid study with these settings."""
    given = {
        "name": "small",
        "encoders": {
            "uncased": {"checkpoint": "somewhere/bert"},
            "cased": {"checkpoint": "somewhere/bert-cased"},
        },
    }
    return check(given | settings)


def compared(
    results: pd.DataFrame, pairs: list[tuple[str, str]], reach: float
) -> comparisons.Compared:
    """Comparisons whose intervals reach so many points to either side of the differences of these results."""
    rows = []
    for a, b in pairs:
        frame = scores.gains(results, student=a, base=b)
        rows += [
            dict(
                a=a,
                b=b,
                task=task,
                difference=row.gain,
                low=row.gain - reach,
                high=row.gain + reach,
                seeds=row.seeds,
                examples=100,
                p=0.001 if abs(row.gain) > reach else 0.5,
            )
            for task, row in frame[frame["gain"].notna()].iterrows()
        ]
    return comparisons.Compared(
        pd.DataFrame(rows, columns=comparisons.COLUMNS), comparisons.Kept(0.5, 0.3, 0.7)
    )


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


def levers_of(**variants: dict) -> Study:
    """A study of three tasks and two candidates that compares these variants."""
    settings = load(ROOT / "tests" / "studies" / "tiny.yaml", SMALL).model_dump()
    return check(
        {
            **settings,
            "ablation": {
                "variants": {name.replace("_", "-"): found for name, found in variants.items()}
            },
        }
    )
