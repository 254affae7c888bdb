"""Write a commented study of the user's own tasks after a look at their files (`mtkd new`)."""

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd

from mtkd.config.custom_task import METRICS
from mtkd.config.study import check, set_field
from mtkd.data.files import check_file, read_head, read_rows
from mtkd.errors import UserError, escape

LISTS = ("columns", "labels", "metrics")
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

    columns: list[str]  # one or two columns of text; none if there are no texts
    label: str
    classes: list[str]  # values of the label, in order; empty if there are too many
    range: tuple[float, float] | None  # of the labels, if all are numbers


def inspect_file(path: Path, label: str | None = None, quotes: bool | None = None) -> FileSummary:
    """Read a file's first rows and its label column.

    Raises:
        UserError: The file is unreadable or empty, or has no such label.
    """
    head, readable = read_head(path, str(path), quotes=quotes)
    if head.empty:
        raise UserError(f"{path} has no examples: add some.")
    names, distinct = list(head.columns), head.nunique()
    length = head.apply(lambda column: column.str.split().str.len().mean())
    if label is None:
        short = [name for name in names if length[name] <= 3]
        named = [name for name in short if name.lower() in LABEL_NAMES]
        varied = [name for name in sorted(short, key=distinct.get) if distinct[name] > 1]
        label = [*named, *varied, names[-1]][0]
    texts = [name for name in readable if name != label and length[name] > 1 and distinct[name] > 1]
    longest = sorted(texts, key=length.get)[-2:]
    pair = len(longest) == 2 and length[longest[0]] > length[longest[1]] / 4
    columns = sorted(longest if pair else longest[-1:], key=names.index)
    values = set()
    for batch in read_rows(path, str(path), (), label, quotes=quotes):
        values |= set(batch.column(label).unique().to_pylist()) - {None, ""}
    classes, limits = sorted(values), None
    numbers = pd.to_numeric(pd.Series(classes, dtype=object), errors="coerce")
    if np.isfinite(numbers).all() and classes:
        limits = float(numbers.min()), float(numbers.max())
        whole = {re.sub(r"\.0*$", "", value) for value in values}  # 1.0 is class 1
        integers = all(re.fullmatch(r"-?\d+", value) for value in whole)
        classes = sorted(whole, key=int) if integers else []
    return FileSummary(columns, label, classes if len(classes) <= MAX_CLASSES else [], limits)


def write_study(
    study: Path,
    train: Iterable[str],
    settings: Iterable[str] = (),
    ask: Callable[[str, str], str] | None = None,
) -> None:
    """Write a study of the tasks in these files.

    Args:
        study: The file to write.
        train: A file of training examples per task, as PATH or NAME=PATH.
        settings: Fields of the tasks, as TASK.FIELD=VALUE; columns, labels and metrics may be given
            one by one.
        ask: Is given a question and a proposal for every other field, and returns the value; None:
            the proposals are taken. Values are YAML, such as `[no, yes]`.

    Raises:
        UserError: The study exists, or these settings make no valid study.
    """
    if study.suffix not in (".yaml", ".yml"):
        raise UserError(f"{study}: a study is a .yaml file, such as {study.stem or 'mine'}.yaml.")
    if study.exists():
        raise UserError(f"{study} exists: choose another name, or remove it.")
    files = dict(map(_named_file, train))
    given: dict[str, Any] = {name: {} for name in files}
    for text in settings:
        name, dot, field = text.partition("=")[0].strip().partition(".")
        before = given.get(name, {}).get(field, [])
        set_field(given, text)
        if given.keys() != files.keys() or not dot:
            raise UserError(f"--set {text}: write TASK.FIELD=VALUE (tasks: {', '.join(files)}).")
        if field in LISTS:
            given[name][field] = before + _as_list(given[name][field])
    tasks = {name: _fields(name, path, given[name], ask) for name, path in files.items()}
    for fields in tasks.values():
        for split in ("train", "dev", "test"):
            if isinstance(fields.get(split), str):
                path = check_file(Path(fields[split]), "mtkd new")
                fields[split] = Path(os.path.relpath(path, study.parent)).as_posix()
    encoders = {"uncased": {"checkpoint": "any"}}
    check({"name": study.stem, "own_tasks": tasks, "encoders": encoders}, "mtkd new")
    blocks = "\n".join(f"  {name}:\n{_lines(fields)}" for name, fields in tasks.items())
    about = f"Tasks {', '.join(tasks)}"
    text = TEMPLATE.substitute(path=study, name=study.stem, about=about, tasks=blocks)
    study.parent.mkdir(parents=True, exist_ok=True)
    study.write_text(text, encoding="utf-8")


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals or Path(text).is_file():
        name, path = re.sub(r"[^a-z0-9]+", "_", Path(text).stem.lower()).strip("_"), text
    return name, check_file(Path(path), "mtkd new")


def _fields(
    name: str, path: Path, given: dict[str, Any], ask: Callable[[str, str], str] | None
) -> dict[str, Any]:
    """Return a task's fields: those given, and for the others the answers or proposals."""
    task: dict[str, Any] = {"train": str(path)} | given

    def settle(field: str, proposal: Any) -> Any:
        if field not in given:
            task[field] = proposal
            if ask:
                answer = ask(f"{name}: {field} ({NOTES[field]})", _yaml(proposal))
                set_field(task, f"{field}={answer}")
                if field in LISTS:
                    task[field] = _as_list(task[field])
        return task[field]

    quotes = given.get("quotes")
    label = settle("label", inspect_file(path, given.get("label"), quotes).label)
    summary = inspect_file(path, label, quotes)
    if not summary.columns and "columns" not in given:
        raise UserError(f"{path} has no column of text: give --set {name}.columns=….")
    one_text = len(settle("columns", summary.columns)) == 1
    kind = settle("type", "single" if one_text else "pair" if summary.classes else "similarity")
    if kind == "similarity":
        low, high = summary.range or (0.0, 5.0)
        settle("range", [min(0.0, low), high])
    else:
        if not (summary.classes or ask or "labels" in given):
            raise UserError(
                f"{path}: column '{label}' holds fractions or more than {MAX_CLASSES} values: give "
                f"--set {name}.label=… for the label's column, or its classes, {name}.labels."
            )
        settle("labels", summary.classes)
    settle("dev", 0.1)
    settle("metrics", list(METRICS.get(kind, ())))
    return task


def _as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _yaml(value: Any) -> str:
    return escape(json.dumps(value, ensure_ascii=False))


def _lines(fields: dict[str, Any]) -> str:
    notes = {key: f"  # {note}" for key, note in NOTES.items()}
    return "\n".join(
        f"    {key}: {_yaml(value)}{notes.get(key, '')}" for key, value in fields.items()
    )
