"""06_serving: the systems of a study side by side, with what they cost to run."""

import platform
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from mtkd.artifacts import Artifact, make, write_json
from mtkd.config.study import Study
from mtkd.data.dataset import Batch, Examples
from mtkd.models import MultiTaskModel
from mtkd.paths import folder
from mtkd.stages.common import data, dev_splits, selection
from mtkd.stages.inputs import encoder, new_model
from mtkd.stages.mkd import new_student
from mtkd.training.cost import Served, costs
from mtkd.training.loop import seed_everything
from mtkd.workflow.jobs import TOGETHER, mkd_controls, mkd_system, mkd_tasks, teacher_encoder


def serving(study: Study) -> Artifact:
    """costs.csv: size and speed of single BERT, MT-DNN, MT-DNN_KD, the ensemble and MKD's students, measured in one run.

    Each is measured on the dev sets of `mkd.tasks` at their real lengths, on the processor and on a GPU where there is
    one, in fp32. machine.json says on what.
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    kept = selection(study)
    kept = [[row.encoder, row.dropout] for row in kept[kept.kept].itertuples()]
    names = [study.student_encoder, teacher_encoder(study), *(name for name, _ in kept)]
    inputs = {
        "stage": "serving",
        "tasks": mkd_tasks(study),
        "data": data(study).fingerprint,
        "max_length": study.data.max_length,
        "encoders": {name: encoder(study, name).fingerprint for name in names},
        "ensemble": kept,
        "student": study.student_encoder,
        "students": {
            name: student.model_dump(exclude={"train"})
            for name, student in study.mkd.students.items()
        },
        "systems": [
            *(mkd_system(study, "", control) for control in mkd_controls(study)),
            study.mkd.finetune is not None,
        ],
        "model": study.model.model_dump(),
        "serving": study.mkd.serving.model_dump(),
        "threads": study.threads,
        "machine": [platform.machine(), *devices],
    }
    if teacher_encoder(study) != study.student_encoder:
        inputs["teacher_encoder"] = teacher_encoder(study)

    def build(out: Path) -> None:
        torch.set_num_threads(study.threads)
        seed_everything(0)
        found = costs(
            _shapes(study, kept), study.mkd.serving.rounds, out, list(map(torch.device, devices))
        )
        found.to_csv(out / "costs.csv", index=False)
        gpu = torch.cuda.get_device_name() if "cuda" in devices else None
        write_json(
            out / "machine.json",
            {"cpu": _processor(), "gpu": gpu, "threads": study.threads, "precision": "fp32"},
        )

    return make(folder(study, "serving"), inputs, build)


def _shapes(study: Study, kept: list) -> list[Served]:
    """Every shape that the study serves. A fine-tuned system has a model a task; its cost an example is that of one of them."""
    names, own = mkd_tasks(study), study.student_encoder
    every, many = list(map(study.task, names)), len(names)
    sizes = study.mkd.serving.batch_sizes

    @lru_cache
    def given(encoder_name: str, size: int) -> list[Batch]:
        sets = [found[0][1] for task in every if (found := dev_splits(study, encoder_name, task))]
        return _batches(sets, size, study.mkd.serving.examples)

    def shape(models: list[MultiTaskModel], read: list[str], systems: dict[str, int]) -> Served:
        return Served(
            models, {size: [given(name, size) for name in read] for size in sizes}, systems
        )

    bert = new_model(study, encoder(study, own), every, 0.0)
    members = [new_model(study, encoder(study, name), every, dropout) for name, dropout in kept]
    found = [
        shape(
            [bert],
            [own],
            {"bert": many, "mt-dnn:mtl": 1, "mt-dnn": many, "mt-dnn-kd:mtl": 1, "mt-dnn-kd": many},
        ),
        shape(members, [name for name, _ in kept], {"mt-dnn-ensemble": many}),
    ]
    for name in study.mkd.students:
        systems = {
            mkd_system(study, name, control): 1 if control in TOGETHER else many
            for control in mkd_controls(study)
        }
        if study.mkd.finetune:
            systems |= {
                mkd_system(study, name, control, tuned=True): many
                for control in ("mtl-hard", "mtl-kd")
            }
        found.append(shape([new_student(study, name, every)], [teacher_encoder(study)], systems))
    return found


def _batches(sets: list[Examples], size: int, examples: int) -> list[Batch]:
    """About so many dev examples in batches of a size, shared by the tasks in turn; a task's order is drawn from a fixed seed.

    The rows are the same for every tokenizer.
    """
    each = max(1, round(examples / size / len(sets)))
    found = []
    for split in sets:
        order = np.random.default_rng(0).permutation(len(split))
        rows = np.resize(order, each * size)  # a small dev set comes round again
        found += [split.batch(part) for part in rows.reshape(each, size)]
    return found


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.partition(":")[2].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
