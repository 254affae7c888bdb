"""`mtkd new`: looks at files of examples, proposes what their columns are, and writes a commented study of one's own tasks."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from mtkd.config import study as studies
from mtkd.config.custom_task import METRICS
from mtkd.data import custom as files
from mtkd.errors import UserError

MOST = 50  # classes that are proposed; a column of more values is none of labels


@dataclass(frozen=True)
class Look:
    """What a file seems to hold."""

    names: list[str]
    columns: list[str]
    label: str
    values: list[str]  # of the label's column; empty where they are too many for classes
    numbers: (
        tuple[float, float] | None
    )  # least and greatest value of the label's column, where they are all numbers
    rows: pd.DataFrame  # the first few

    @property
    def type(self) -> str:
        return "single" if len(self.columns) == 1 else "pair" if self.values else "similarity"


def look(path: Path, label: str | None = None) -> Look:
    """Reads a file's first rows, and its label's column whole. `UserError` where nothing in it can be a label or a text."""
    first = next(files.rows(files.checked(path, "mtkd new"), str(path)), None)
    if first is None or not len(first):
        raise UserError(f"{path}: it has no examples; give it some.")
    head = first.slice(0, 1000).to_pandas().astype(str)
    words = {name: head[name].str.split().str.len().mean() for name in head}
    names = list(head.columns)
    if label is None:
        plain = [name for name in names if words[name] <= 3]
        named = [
            name
            for name in plain
            if name.lower() in ("label", "labels", "class", "category", "target", "score", "gold")
        ]
        few = sorted(plain, key=lambda name: head[name].nunique())
        label = next(iter([*named, *(name for name in few if head[name].nunique() > 1)]), names[-1])
    texts = [
        name for name in names if name != label and words[name] > 1 and head[name].nunique() > 1
    ]
    if label not in names:
        raise UserError(
            f"{path}: there is no column '{label}' (there are {', '.join(names)}): name the label's by --label."
        )
    if not texts:
        raise UserError(
            f"{path}: no column beside '{label}' looks like text (there are {', '.join(names)}): give a file that has one."
        )
    values, numbers = _values(path, label)
    longest = sorted(texts, key=lambda name: -words[name])[:2]
    alike = len(longest) == 2 and words[longest[1]] > words[longest[0]] / 4
    return Look(
        names,
        sorted(longest, key=names.index) if alike else longest[:1],
        label,
        values,
        numbers,
        head.head(3),
    )


def _values(path: Path, label: str) -> tuple[list[str], tuple[float, float] | None]:
    found: set[str] = set()
    low, high, numeric = float("inf"), float("-inf"), True
    for batch in files.rows(path, str(path), columns=[label]):
        values = pc.utf8_trim_whitespace(batch.column(label).cast(pa.string())).drop_null()
        if len(found) <= MOST:
            found |= set(values.unique().to_pylist())
        numbers = pd.to_numeric(values.to_pandas(), errors="coerce")
        numeric = numeric and not numbers.isna().any()
        low, high = min(low, numbers.min()), max(high, numbers.max())
    whole = numeric and all(value.lstrip("-").isdigit() for value in found)
    classes = len(found) <= MOST and (whole or not numeric)
    order = sorted(found, key=(lambda value: (int(value),)) if whole else None)
    return order if classes else [], (low, high) if numeric else None


def free(study: Path) -> None:
    """`UserError` where no study can be written."""
    if study.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"{study}: a study is a .yaml file: name it so, such as {study.stem or 'mine'}.yaml."
        )
    if study.exists():
        raise UserError(f"{study} is there already: name another file, or remove it.")


def interview(
    study: Path, train: Path, given: dict[str, str | None], ask: Callable[[str, str], str]
) -> tuple[str, dict]:
    """A task's name and its entry under own_tasks: from `given` answers, and for the others from `ask`(question, proposal)."""

    def answer(key: str, question: str, proposal: str) -> str:
        return given[key] if given.get(key) is not None else ask(question, proposal)

    def listed(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    def place(source: str) -> str:
        checked = files.checked(Path(source), "mtkd new")
        return Path(os.path.relpath(checked, study.parent)).as_posix()

    seen = look(train, given.get("label"))
    name = answer(
        "name",
        f"Name of the task in {train.name}",
        re.sub(r"[^a-z0-9]+", "_", train.stem.lower()).strip("_"),
    )
    label = answer("label", f"Column of its label, of {', '.join(seen.names)}", seen.label)
    if label != seen.label:
        seen = look(train, label)
    columns = listed(
        answer("columns", "Its text column, or two (parted by a comma)", ", ".join(seen.columns))
    )
    if missing := [column for column in columns if column not in seen.names]:
        raise UserError(
            f"{train}: there is no column '{missing[0]}' (there are {', '.join(seen.names)}): name the text's by --columns."
        )
    kind = answer(
        "type",
        "Its type: single, pair, similarity or ranking",
        seen.type if len(columns) > 1 else "single",
    )
    dev = answer("dev", "Its dev file, or the share of train to hold out", "0.1")
    task = {
        "type": kind,
        "train": place(str(train)),
        "dev": float(dev) if dev.replace(".", "", 1).isdigit() else place(dev),
    }
    task |= {"test": place(given["test"])} if given.get("test") else {}
    task |= {"columns": columns, "label": label}
    if kind == "similarity":
        low, high = seen.numbers or (0.0, 5.0)
        task["range"] = [min(0.0, float(low)), float(high)]
    else:
        task["labels"] = listed(answer("labels", "Its classes in order", ", ".join(seen.values)))
    task["metrics"] = listed(answer("metrics", "Its metrics", ", ".join(METRICS.get(kind, ()))))
    return name, task


TEMPLATE = """\
# A study of your own tasks: mtkd run {place}
# Every field and what it allows: mtkd/study.py and mtkd/own.py. Files are seen from this folder.
name: {name}
about: {about}

own_tasks:
{tasks}
# All tasks are trained together, and each has a teacher, unless you choose (candidates.select_on, distil.teachers).
data:
  max_length: 128      # word pieces of an example; longer ones lose their end
  # max_train: 20000   # at most so many train examples a task, for a first try

encoders:
  uncased:
    # A hub id, or a folder with a BERT (MTKD_ENCODER_UNCASED goes before it); google-bert/bert-base-uncased is better and slower.
    checkpoint: google/bert_uncased_L-4_H-256_A-4
    # Where the checkpoint cannot be had: a small BERT from the text in MTKD_PRETRAIN_TEXT, or from the tasks' own sentences.
    pretrain: {{train_tokens: 5_000_000, vocab_size: 8000, layers: 2, hidden: 128, packing: lines, long_seq_length: null, long_fraction: 0, max_positions: 128}}

# What a head sees: the mean over the word pieces; compared, for pairs read by a small encoder (exports to ONNX alone); cls for a large one.
model: {{pooling: mean, encoder_dropout: 0.05}}
candidates:
  dropouts: [0.0, 0.05, 0.1]   # a model each, of every encoder; the best of them make the teachers
  ensemble_size: 2
train: {{optimizer: adamw, learning_rate: 3.0e-4, epochs: 3}}
finetune: {{epochs: 1}}
seeds: [0, 1, 2]       # three or more, for an interval
"""

NOTES = {
    "type": "single: a text and a class; pair: two texts and a class; similarity: two texts and a score; ranking: a query and a candidate",
    "dev": "a file, or the share of train that is held out",
    "label": "the column of the class or score",
    "labels": "numbers in the file count in this order",
    "range": "least and greatest score",
}


def write(study: Path, tasks: dict[str, dict]) -> None:
    """Writes the study; `UserError` where the file is there already, or an answer does not fit."""
    free(study)
    studies.check(
        {"name": study.stem, "own_tasks": tasks, "encoders": {"uncased": {"checkpoint": "any"}}},
        "mtkd new",
    )
    blocks = []
    for name, task in tasks.items():
        lines = [f"  {name}:"]
        for key, value in task.items():
            text = (
                yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
                .removesuffix("...\n")
                .strip()
            )
            lines.append(f"    {key}: {text}" + (f"  # {NOTES[key]}" if key in NOTES else ""))
        blocks.append("\n".join(lines))
    text = TEMPLATE.format(
        place=study, name=study.stem, about=f"Tasks {', '.join(tasks)}", tasks="\n".join(blocks)
    )
    study.parent.mkdir(parents=True, exist_ok=True)
    study.write_text(text, encoding="utf-8")
