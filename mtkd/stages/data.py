"""Stage 00: the tasks' examples, checked and limited (Table 1 of MT-DNN_KD, Liu et al. 2019)."""

import shutil
from collections.abc import Iterator

import datasets

from mtkd.artifacts import Artifact, file_hash, write_json
from mtkd.config.study import Study
from mtkd.data.custom import custom_fingerprint, read_custom_task
from mtkd.data.examples import Hashes, list_path, read_list
from mtkd.data.glue import (
    Splits,
    examples_fingerprint,
    left_out_train,
    load_tasks,
    source_fingerprint,
    table1,
    write_arrow,
)
from mtkd.errors import UserError
from mtkd.stages.common import Run
from mtkd.stages.inputs import Inputs, Output
from mtkd.tasks import SELECTION, Task

NAME = "00_data"


def runs(study: Study) -> list[Run]:
    """Return the one run."""
    return [Run(NAME)]


def parents(study: Study, run: Run) -> list[Run]:
    """Return nothing: the data come first."""
    return []


def depends(study: Study, run: Run) -> dict:
    """Return which examples are used, and what identifies their sources."""
    custom = custom_tasks(study)
    glue, listed = len(custom) < len(study.tasks), list_path(study)
    selected = study.candidates.selection_examples
    return {
        "data": study.data.model_dump(exclude={"hub", "max_length", "examples"}),
        "examples": listed and file_hash(listed),
        "tasks": study.tasks,
        "selection": [selected, study.candidates.select_on] if selected else None,
        "source": source_fingerprint(study.data) if glue else None,
        "custom": {name: custom_fingerprint(study, name) for name in custom},
    }


def run(study: Study) -> Artifact:
    """Read the tasks' examples.

    The artifact holds `<task>/<split>.arrow`, `sizes.csv` (Table 1 from the data) and
    `fingerprints.json` (task -> split -> fingerprint of its examples). Where candidates are not
    compared on dev sets, the split `SELECTION` of a task has the examples for it.
    """

    def build(output: Output) -> None:
        scratch, tasks = output.folder / ".read", [study.task(name) for name in study.tasks]
        names = custom_tasks(study)
        custom = {name: read_custom_task(study, name, scratch / name) for name in names}
        listed = read_list(study)
        splits, fingerprints = load_tasks(study.data, tasks, custom, listed), {}
        if study.candidates.selection_examples:
            for name in study.candidates.select_on:
                splits[name][SELECTION] = _selection(study, name, custom.get(name), listed)
        for task in tasks:
            parts = splits[task.name].items()
            for name, split in parts:
                write_arrow(split, output.folder / task.name / f"{name}.arrow")
            fingerprints[task.name] = {name: examples_fingerprint(one, task) for name, one in parts}
        write_json(output.folder / "fingerprints.json", fingerprints)
        table1(tasks, splits).to_csv(output.folder / "sizes.csv", index=False)
        shutil.rmtree(scratch, ignore_errors=True)

    return Inputs(study, Run(NAME)).build(build)


def _selection(
    study: Study, name: str, custom: Splits | None, listed: dict[str, Hashes]
) -> datasets.Dataset:
    """Return the train examples on which candidates are compared, the first ones left out."""
    wanted, task = study.candidates.selection_examples, study.task(name)
    examples = left_out_train(study.data, task, wanted, custom, listed)
    there = 0 if examples is None else len(examples)
    if there < wanted:
        raise UserError(
            f"{task.title} has {there} train examples beyond data.max_train, and "
            f"candidates.selection_examples asks for {wanted}: lower one of the two."
        )
    return examples


def custom_tasks(study: Study) -> list[str]:
    """Return the study's tasks that are no tasks of GLUE."""
    return [name for name in study.tasks if name in study.own_tasks]


def read_splits(data: Artifact, task: Task) -> dict[str, datasets.Dataset]:
    """Return a task's splits from this stage's artifact, memory-mapped."""
    return {
        name: datasets.Dataset.from_file(str(data.file(f"{task.name}/{name}.arrow")))
        for name in data.json("fingerprints.json")[task.name]
    }


def train_texts(data: Artifact, tasks: list[Task]) -> Iterator[str]:
    """Yield every text of the tasks' train sets, those to write, too."""
    for task in tasks:
        columns = [*task.columns, *["label"] * task.generates]
        split = read_splits(data, task)[task.train].select_columns(columns)
        for batch in split.iter(batch_size=10_000):
            for column in columns:
                yield from batch[column]
