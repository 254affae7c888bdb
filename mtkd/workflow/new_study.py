"""Write a commented study of the user's own tasks after a look at their files (`mtkd new`)."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd
import yaml

from mtkd.config.custom_task import METRICS
from mtkd.config.study import check
from mtkd.config.yaml import parse
from mtkd.data.custom import check_file, read_rows
from mtkd.errors import UserError

MAX_CLASSES = 50  # a column of more values holds no class
LABEL_NAMES = ("label", "labels", "class", "category", "target", "score", "gold")

TEMPLATE = Template(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))

NOTES = {
    "type": "single, pair, similarity (two texts, a score) or ranking (query, candidate)",
    "dev": "a file, or the fraction of train that is held out",
    "label": "the column of the class or score",
    "labels": "numbers in the file are indices into this list",
    "range": "lowest and highest score",
}


@dataclass(frozen=True)
class FileSummary:
    """What the columns of a file seem to be."""

    columns: list[str]  # one or two columns of text
    label: str
    classes: list[str]  # values of the label, in order; empty if there are too many
    range: tuple[float, float] | None  # of the labels, if all are numbers

    @property
    def type(self) -> str:
        """The type of task that fits."""
        return "single" if len(self.columns) == 1 else "pair" if self.classes else "similarity"


def inspect_file(path: Path, label: str | None = None) -> FileSummary:
    """Read a file's first rows and its label column.

    Raises:
        UserError: The file is unreadable or empty, has no such label, or no column of text.
    """
    first = next(read_rows(path, str(path)), None)
    if not first:
        raise UserError(f"{path} has no examples: add some.")
    head = first.slice(0, 1000).to_pandas().astype(str)
    names, distinct = list(head.columns), head.nunique()
    length = head.apply(lambda column: column.str.split().str.len().mean())
    if label is None:
        short = [name for name in names if length[name] <= 3]
        named = [name for name in short if name.lower() in LABEL_NAMES]
        varied = [name for name in sorted(short, key=distinct.get) if distinct[name] > 1]
        label = [*named, *varied, names[-1]][0]
    if label not in names:
        raise UserError(f"{path} has no column '{label}' (it has {', '.join(names)}).")
    texts = [name for name in names if name != label and length[name] > 1 and distinct[name] > 1]
    if not texts:
        there = ", ".join(names)
        raise UserError(f"{path}: no column but '{label}' looks like text (it has {there}).")
    longest = sorted(texts, key=length.get)[-2:]
    pair = len(longest) == 2 and length[longest[0]] > length[longest[1]] / 4
    columns = sorted(longest if pair else longest[-1:], key=names.index)
    batches = read_rows(path, str(path), columns=[label])
    labels = pd.concat([batch.column(label).to_pandas() for batch in batches]).dropna()
    values = labels.astype(str).str.strip()
    numbers = pd.to_numeric(values, errors="coerce")
    numeric = bool(numbers.notna().all())
    classes = sorted(values.unique())
    if numeric:
        integers = values.str.fullmatch(r"-?\d+").all()
        classes = sorted(classes, key=int) if integers else []
    limits = (float(numbers.min()), float(numbers.max())) if numeric else None
    return FileSummary(columns, label, classes if len(classes) <= MAX_CLASSES else [], limits)


def write_study(study: Path, train: Iterable[str], settings: Iterable[str] = ()) -> str:
    """Write a study of the tasks in these files, and return what it says of them.

    Args:
        study: The file to write.
        train: A file of training examples per task, as PATH or NAME=PATH.
        settings: What the files do not show, as TASK.FIELD=VALUE; the value is YAML.

    Raises:
        UserError: The study exists, or these settings make no valid study.
    """
    if study.suffix not in (".yaml", ".yml"):
        raise UserError(f"{study}: a study is a .yaml file, such as {study.stem or 'mine'}.yaml.")
    if study.exists():
        raise UserError(f"{study} exists: choose another name, or remove it.")
    files = dict(map(_named_file, train))
    given = _parse_settings(settings, files)
    tasks = {name: _task(path, given[name], study.parent) for name, path in files.items()}
    encoders = {"uncased": {"checkpoint": "any"}}
    check({"name": study.stem, "own_tasks": tasks, "encoders": encoders}, "mtkd new")
    blocks = "\n".join(f"  {name}:\n{_lines(task)}" for name, task in tasks.items())
    about = f"Tasks {', '.join(tasks)}"
    text = TEMPLATE.substitute(path=study, name=study.stem, about=about, tasks=blocks)
    study.parent.mkdir(parents=True, exist_ok=True)
    study.write_text(text, encoding="utf-8")
    return blocks


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or Path(text).is_file():
        name, path = re.sub(r"[^a-z0-9]+", "_", Path(text).stem.lower()).strip("_"), text
    return name, Path(path)


def _parse_settings(settings: Iterable[str], tasks: Iterable[str]) -> dict[str, dict[str, Any]]:
    given: dict[str, dict[str, Any]] = {name: {} for name in tasks}
    for text in settings:
        field, _, value = text.partition("=")
        task, dot, field = field.partition(".")
        if task not in given or not (dot and field and value):
            known = ", ".join(given)
            raise UserError(f"--set {text}: write TASK.FIELD=VALUE; the tasks are {known}.")
        try:
            given[task][field] = parse(value)
        except ValueError as error:
            raise UserError(f"--set {text}: the value is not readable YAML ({error}).") from None
    return given


def _task(path: Path, given: dict[str, Any], folder: Path) -> dict[str, Any]:
    summary = inspect_file(path, given.get("label"))
    columns = given.get("columns", summary.columns)
    kind = given.get("type", summary.type if len(columns) > 1 else "single")
    task = {"type": kind, "train": str(path), "dev": 0.1, "columns": columns}
    task["label"] = summary.label
    if kind == "similarity":
        low, high = summary.range or (0.0, 5.0)
        task["range"] = [min(0.0, low), high]
    else:
        task["labels"] = summary.classes
    task = task | {"metrics": list(METRICS.get(kind, ()))} | given
    for split in ("train", "dev", "test"):
        if isinstance(file := task.get(split), str):
            relative = os.path.relpath(check_file(Path(file), "mtkd new"), folder)
            task[split] = Path(relative).as_posix()
    return task


def _lines(task: dict[str, Any]) -> str:
    lines = []
    for key, value in task.items():
        text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
        note = f"  # {NOTES[key]}" if key in NOTES else ""
        lines.append(f"    {key}: {text.splitlines()[0]}{note}")
    return "\n".join(lines)
