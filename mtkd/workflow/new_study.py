"""Write a commented study of the user's own tasks after a look at their files (`mtkd new`)."""

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd

from mtkd.config.custom_task import METRICS
from mtkd.config.study import check
from mtkd.config.yaml import parse
from mtkd.data.files import check_file, read_rows
from mtkd.errors import UserError

MAX_CLASSES = 50  # a column of more values holds no class
LABEL_NAMES = ("label", "labels", "class", "category", "target", "score", "gold")

TEMPLATE = Template(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))

NOTES = {
    "type": "single, pair, similarity (two texts, a score) or ranking (query, candidate)",
    "columns": "of the text, or of the two texts",
    "label": "the column of the class or score",
    "labels": "the classes; a number in the file is an index into this list",
    "range": "lowest and highest score",
    "dev": "a file, or the fraction of train that is held out",
    "metrics": "accuracy, f1, matthews; pearson, spearman of a similarity",
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


def write_study(
    study: Path,
    train: Iterable[str | Path],
    settings: Iterable[str] = (),
    ask: Callable[[str, str], str] | None = None,
) -> str:
    """Write a study of the tasks in these files, and return what it says of them.

    Args:
        study: The file to write.
        train: A file of training examples per task, as PATH or NAME=PATH.
        settings: Fields of the tasks, as TASK.FIELD=VALUE, or FIELD=VALUE of a single task.
        ask: Is given a question and a proposal for every other field, and returns the value; None:
            the proposals are taken. Values are YAML, such as `[no, yes]`.

    Raises:
        UserError: The study exists, or these settings make no valid study.
    """
    if study.suffix not in (".yaml", ".yml"):
        raise UserError(f"{study}: a study is a .yaml file, such as {study.stem or 'mine'}.yaml.")
    if study.exists():
        raise UserError(f"{study} exists: choose another name, or remove it.")
    files = dict(_named_file(str(text)) for text in train)
    given = _parse_settings(settings, list(files))
    tasks = {}
    for name, path in files.items():
        fields = _complete(name, check_file(path, "mtkd new"), given[name], ask)
        tasks[name] = _with_relative_paths(fields, study.parent)
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


def _parse_settings(settings: Iterable[str], tasks: list[str]) -> dict[str, dict[str, Any]]:
    given: dict[str, dict[str, Any]] = {name: {} for name in tasks}
    for text in settings:
        field, _, value = text.partition("=")
        task, dot, field = field.rpartition(".")
        task = task if dot or len(tasks) > 1 else tasks[0]
        if task not in given or not (field and value):
            known = ", ".join(tasks)
            raise UserError(f"{text}: write TASK.FIELD=VALUE; the tasks are {known}.")
        given[task][field] = _parse(value)
    return given


def _parse(text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise UserError(f"'{text}' is not readable YAML ({error}).") from None


def _complete(
    name: str, path: Path, given: dict[str, Any], ask: Callable[[str, str], str] | None
) -> dict[str, Any]:
    """Return a task's fields: those given, and for the others the answers or proposals."""
    task: dict[str, Any] = {"train": str(path)} | given

    def settle(field: str, proposal: Any) -> Any:
        if field not in given:
            question = f"{name}: {field} ({NOTES[field]})"
            shown = json.dumps(proposal, ensure_ascii=False)
            task[field] = _parse(ask(question, shown)) if ask else proposal
        if field in ("columns", "labels", "metrics") and not isinstance(task[field], list):
            task[field] = [task[field]]
        return task[field]

    label = settle("label", inspect_file(path, given.get("label")).label)
    summary = inspect_file(path, label)
    columns = settle("columns", summary.columns)
    kind = settle("type", summary.type if len(columns) > 1 else "single")
    if kind == "similarity":
        low, high = summary.range or (0.0, 5.0)
        settle("range", [min(0.0, low), high])
    else:
        settle("labels", summary.classes)
    settle("dev", 0.1)
    settle("metrics", list(METRICS.get(kind, ())))
    return task


def _with_relative_paths(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    sources = {split: task.get(split) for split in ("train", "dev", "test")}
    files = {split: source for split, source in sources.items() if isinstance(source, str)}
    for split, file in files.items():
        path = os.path.relpath(check_file(Path(file), "mtkd new"), folder)
        files[split] = Path(path).as_posix()
    return task | files


def _lines(task: dict[str, Any]) -> str:
    lines = []
    for key, value in task.items():
        note = f"  # {NOTES[key]}" if key in NOTES else ""
        lines.append(f"    {key}: {json.dumps(value, ensure_ascii=False)}{note}")
    return "\n".join(lines)
