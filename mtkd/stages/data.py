"""Stage 00: the tasks' examples, checked and limited (Table 1 of MT-DNN_KD, Liu et al. 2019)."""

import shutil
from collections.abc import Iterator

import datasets

from mtkd.artifacts import Artifact, file_hash, write_json
from mtkd.config.study import Study
from mtkd.data.custom import custom_fingerprint, read_custom_task
from mtkd.data.examples import list_path, read_list
from mtkd.data.glue import (
    examples_fingerprint,
    load_tasks,
    source_fingerprint,
    table1,
    write_arrow,
)
from mtkd.stages.common import Run
from mtkd.stages.inputs import Inputs, Output
from mtkd.tasks import Task

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
    return {
        "data": study.data.model_dump(exclude={"hub", "max_length", "examples"}),
        "examples": listed and file_hash(listed),
        "tasks": study.tasks,
        "source": source_fingerprint(study.data) if glue else None,
        "custom": {name: custom_fingerprint(study, name) for name in custom},
    }


def run(study: Study) -> Artifact:
    """Read the tasks' examples.

    The artifact holds `<task>/<split>.arrow`, `sizes.csv` (Table 1 from the data) and
    `fingerprints.json` (task -> split -> fingerprint of its examples).
    """

    def build(output: Output) -> None:
        scratch, tasks = output.folder / ".read", [study.task(name) for name in study.tasks]
        names = custom_tasks(study)
        custom = {name: read_custom_task(study, name, scratch / name) for name in names}
        splits, fingerprints = load_tasks(study.data, tasks, custom, read_list(study)), {}
        for task in tasks:
            parts = splits[task.name].items()
            for name, split in parts:
                write_arrow(split, output.folder / task.name / f"{name}.arrow")
            fingerprints[task.name] = {name: examples_fingerprint(one, task) for name, one in parts}
        write_json(output.folder / "fingerprints.json", fingerprints)
        table1(tasks, splits).to_csv(output.folder / "sizes.csv", index=False)
        shutil.rmtree(scratch, ignore_errors=True)

    return Inputs(study, Run(NAME)).build(build)


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
    """Yield every text of the tasks' train sets."""
    for task in tasks:
        split = read_splits(data, task)[task.train].select_columns(list(task.columns))
        for batch in split.iter(batch_size=10_000):
            for column in task.columns:
                yield from batch[column]
