"""Stage 10: what inference costs, for all systems of a study side by side."""

import platform
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from mtkd.artifacts import Artifact, write_json
from mtkd.config.study import Study
from mtkd.data.dataset import Batch, Examples
from mtkd.models.multitask import MultiTaskModel
from mtkd.stages import mkd
from mtkd.stages.common import Run
from mtkd.stages.ensemble import best_candidates, rank_candidates
from mtkd.stages.inputs import Inputs, Output
from mtkd.training.cost import CostCase, measure_costs
from mtkd.training.loop import seed_everything

NAME = "10_serving"


def runs(study: Study) -> list[Run]:
    """Return the one run, if the study has students of MKD."""
    return [Run(NAME)] if study.mkd else []


def parents(study: Study, run: Run) -> list[Run]:
    """Return every run before this stage, so that none disturbs what is measured."""
    from mtkd.stages import all_runs

    return [other for other in all_runs(study) if other.stage < NAME]


def depends(study: Study, run: Run) -> dict:
    """Return the shapes of all systems, what is measured, and on what machine."""
    section = study.require("mkd")
    students = section.students.items()
    return {
        "tasks": section.tasks,
        "student_encoder": study.student_encoder,
        "teacher_encoder": section.teacher_encoder,
        "ensemble_size": study.candidates.ensemble_size,
        "students": {name: student.model_dump(exclude={"train"}) for name, student in students},
        "systems": [one.system for name in section.students for one in mkd.trainings(study, name)],
        "model": study.model.model_dump(),
        "serving": section.serving.model_dump(),
        "threads": study.threads,
        "machine": [platform.machine(), *_devices()],
    }


def run(study: Study) -> Artifact:
    """Measure size and speed of BERT, MT-DNN, MT-DNN_KD, the ensemble and MKD's students.

    Each is measured in fp32 on the dev sets of `mkd.tasks` at their real lengths, on the processor
    and on a GPU if there is one. The artifact holds `costs.csv` and `machine.json`.
    """
    study.require("mkd")
    inputs = Inputs(study, Run(NAME))

    def build(output: Output) -> None:
        seed_everything(0)
        devices, rounds = list(map(torch.device, _devices())), study.mkd.serving.rounds
        costs = measure_costs(_cases(inputs), rounds, output.folder, devices)
        costs.to_csv(output.folder / "costs.csv", index=False)
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        machine = {"cpu": _processor(), "gpu": gpu, "threads": study.threads, "precision": "fp32"}
        write_json(output.folder / "machine.json", machine)

    return inputs.build(build)


def _devices() -> list[str]:
    return ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def _cases(inputs: Inputs) -> list[CostCase]:
    """Return every shape of model in the study.

    A fine-tuned system has a model per task, and costs as much per example as one of them.
    """
    study = inputs.study
    section, encoder = study.mkd, study.student_encoder
    tasks, many = [study.task(name) for name in section.tasks], len(section.tasks)

    @lru_cache
    def batches(name: str, size: int) -> list[Batch]:
        dev_sets = [inputs.dev_sets(name, task) for task in tasks]
        examples = [sets[0][1] for sets in dev_sets if sets]
        return _batches(examples, size, section.serving.examples)

    def case(models: list[MultiTaskModel], names: list[str], systems: dict[str, int]) -> CostCase:
        sizes = section.serving.batch_sizes
        by_size = {size: [batches(one, size) for one in names] for size in sizes}
        return CostCase(models, by_size, systems)

    bert = inputs.new_model(encoder, tasks, 0.0)
    one_each = {"bert": many, "mt-dnn:mtl": 1, "mt-dnn": many, "mt-dnn-kd:mtl": 1}
    chosen = best_candidates(rank_candidates(inputs), study.candidates.ensemble_size)
    members = [inputs.new_model(one.encoder, tasks, one.dropout) for one in chosen]
    cases = [
        case([bert], [encoder], one_each | {"mt-dnn-kd": many}),
        case(members, [one.encoder for one in chosen], {"mt-dnn-ensemble": many}),
    ]
    for name in section.students:
        if section.direct(name):  # measured with the student without an assistant
            continue
        same = [name, *(one for one in section.students if section.direct(one) == name)]
        planned = [one for student in same for one in mkd.trainings(study, student)]
        systems = {one.system: 1 if one.joint else many for one in planned}
        model = mkd.new_student(inputs, name, tasks)
        cases.append(case([model], [section.teacher_encoder], systems))
    return cases


def _batches(sets: list[Examples], size: int, examples: int) -> list[Batch]:
    """Return about so many dev examples in batches of a size, an equal part of each set.

    The rows are drawn by a fixed seed, and are the same for every tokenizer.
    """
    per_set = max(1, round(examples / size / len(sets)))
    batches = []
    for split in sets:
        order = np.random.default_rng(0).permutation(len(split))
        rows = np.resize(order, per_set * size)  # repeats the rows of a small set
        batches += [split.batch(part) for part in rows.reshape(per_set, size)]
    return batches


def _processor() -> str:
    """Return the processor's name, or its architecture where the system has no name for it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
