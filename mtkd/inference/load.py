"""A trained model from its folder: weights, the encoder that they belong to, tokenizer and tasks.

What a stage wrote is enough as it lies in a study's outputs (`artifacts/<study>/…`): the record beside the weights holds
shape and tasks and the fingerprint of the encoder, which lies in the same study's folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import safe_open
from transformers import PreTrainedTokenizerBase

from mtkd import tasks
from mtkd.artifacts import RECORD, Artifact, read
from mtkd.config import study as studies
from mtkd.config.custom_task import OwnTask
from mtkd.config.mkd import LstmStudent, TransformerStudent
from mtkd.config.study import Study
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.models import MultiTaskModel, load_encoder
from mtkd.paths import folder
from mtkd.stages.inputs import tokenised, tokenizer_of
from mtkd.stages.mkd import student_encoder
from mtkd.tasks import Task
from mtkd.workflow.jobs import (
    TOGETHER,
    ablation_seeds,
    candidate_name,
    candidates,
    mkd_controls,
    mkd_seeds,
    mkd_system,
    mtdnn_runs,
    variants,
)

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Trained:
    """A model ready for one of its tasks, on the processor, in fp32."""

    artifact: Artifact
    start: Artifact
    model: MultiTaskModel
    tokenizer: PreTrainedTokenizerBase
    task: Task

    @property
    def study(self) -> str:
        """Name of the study whose outputs it lies in."""
        return self.start.path.parent.parent.name

    @property
    def inputs(self) -> dict[str, Any]:
        """The settings that made it, and its parents' fingerprints."""
        return self.artifact.record["inputs"]

    @property
    def max_length(self) -> int:
        """Word pieces of a text that are read: as in training, and no more than the model has positions for."""
        inner = getattr(self.model.encoder, "model", None)
        return min(
            [
                self.inputs["max_length"],
                *([inner.config.max_position_embeddings] if inner is not None else []),
            ]
        )

    def data(self) -> Artifact:
        """The study's examples that it was trained on; `UserError` where they are no longer there."""
        found = read(self.start.path.parent.parent / "data")
        if found.fingerprint != self.inputs["data"]:
            raise UserError(
                f"{found.path} holds other examples than {self.artifact.path} was trained on: run the study again."
            )
        return found

    def dev_sets(self) -> list[tuple[str, Examples]]:
        """(split, examples) of the task's dev sets, as the study tokenised them; none where these are no longer there."""
        parents = {key: self.inputs[key] for key in ("data", "max_length")} | {
            "encoder": self.start.fingerprint
        }
        for found in _artifacts(self.start.path.parent.parent / "tokens"):
            if found.record["inputs"].items() >= parents.items():
                splits = [
                    split
                    for split in self.task.dev
                    if f"{self.task.name}/{split}.arrow" in found.record["files"]
                ]
                return [(split, tokenised(found, self.task, split)) for split in splits]
        return []


def paths(study: Study) -> dict[str, Path]:
    """The models of a study whose weights are kept, by name, with the folder that each lies in once it is made.

    These are models of several tasks, before any fine-tuning (`mt-dnn-kd-s0`, `mkd-lstm-s0`), candidates
    (`cased-0.1-s0`), and the candidates fine-tuned as teachers (`cased-0.1/mnli`). The first of a system's seeds comes first.
    """
    named = {}
    for seed in study.seeds:
        own = candidate_name(study.student_encoder, study.model.encoder_dropout)
        named |= {
            f"mt-dnn-kd-s{seed}": folder(study, "student", f"s{seed}"),
            f"mt-dnn-s{seed}": folder(study, "mtdnn", f"{own}-s{seed}"),
        }
    for name, dropout, seed in mtdnn_runs(study):
        run = f"{candidate_name(name, dropout)}-s{seed}"
        named[run] = folder(study, "mtdnn", run)
    for seed in ablation_seeds(study):
        named |= {
            f"mt-dnn-kd:{name}-s{seed}": folder(study, "ablation", name, f"s{seed}")
            for name in variants(study)
        }
    for name in study.mkd.students if study.mkd else ():
        for seed in mkd_seeds(study):
            for control in (found for found in mkd_controls(study) if found in TOGETHER):
                system = mkd_system(study, name, control).removesuffix(":mtl")
                named[f"{system}-s{seed}"] = folder(study, "mkd", name, f"{control}-s{seed}", "all")
    for name, dropout in candidates(study):
        run = candidate_name(name, dropout)
        named |= {f"{run}/{task}": folder(study, "members", run, task) for task in study.multitask}
    return named


def locate(name: str) -> Path:
    """The folder of a model: a path, or `STUDY:SYSTEM` or `STUDY:SYSTEM-sSEED` (without a seed, the study's first)."""
    if name and Path(name).is_dir():
        return Path(name)
    study_name, colon, system = name.partition(":")
    if not colon:
        raise UserError(
            f"There is no folder '{name}': give a model's folder, such as artifacts/quick/student/s0, or STUDY:SYSTEM, such as "
            "quick:mt-dnn-kd."
        )
    study, system = studies.load(study_name), system.removesuffix(":mtl")
    found = paths(study)
    named = [known for known in found if known == system or known.rpartition("-s")[0] == system]
    if not named:
        together, members = (
            [run for run in found if ("/" in run) == alone] for alone in (False, True)
        )
        raise UserError(
            f"Study {study.name} keeps no weights of '{system}': it keeps those of {', '.join(together)}, and of teachers' "
            f"members such as {members[0]}; of other models fine-tuned on a task only scores and predictions are kept."
        )
    if not found[named[0]].is_dir():
        raise UserError(
            f"{name} is not made yet ({found[named[0]]} is missing): run 'mtkd run {study_name}'."
        )
    return found[named[0]]


def open_model(name: str, task: str | None = None) -> Trained:
    """The model of that name or folder for one of its tasks (which may be left out where it has only one).

    AX is answered by MNLI's head, as in the study. Raises `UserError` where the folder holds no weights, its encoder is not
    in the same study's outputs, a file is damaged, or the model has no such task.
    """
    artifact = read(locate(name))
    if WEIGHTS not in artifact.record["files"]:
        raise UserError(
            f"{artifact.path} holds no weights of a model (there are {', '.join(artifact.record['files'])}): name a model of "
            "several tasks, such as quick:mt-dnn-kd, or a teacher's member, such as quick:cased-0.1/mnli."
        )
    try:
        inputs, start = artifact.record["inputs"], _encoder(artifact)
        every = [_task(known, start) for known in inputs.get("tasks") or [inputs["task"]]]
        wanted = _chosen(artifact, every, task)
        model = MultiTaskModel(_shape(artifact, start), every, {known.name: 0.0 for known in every})
        if not isinstance(inputs["max_length"], int) or inputs["max_length"] < 8:
            raise ValueError("max_length")
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(
            f"{artifact.path / RECORD} is not the record of a trained model: run the stage that makes it again."
        ) from None
    model.load(artifact.file(WEIGHTS))
    return Trained(artifact, start, model.eval(), tokenizer_of(start), wanted)


def _chosen(artifact: Artifact, every: list[Task], name: str | None) -> Task:
    known = {task.name: task for task in every}
    if name is None and len(every) == 1:
        return every[0]
    if name in tasks.GLUE and name not in known:
        name = tasks.get(name).predicted_by or name
    if name not in known:
        said = "No task is named" if name is None else f"The model has no task '{name}'"
        raise UserError(
            f"{said} ({artifact.path}): its tasks are {', '.join(known)}; give one with --task."
        )
    return known[name]


def _task(name: str, start: Artifact) -> Task:
    """A task of GLUE, or one of the study's own as the record of its data describes it."""
    if name in tasks.GLUE:
        return tasks.get(name)
    described = read(start.path.parent.parent / "data").record["inputs"]["own"][name]["task"]
    return OwnTask.model_validate(described).task(name)


def _artifacts(place: Path) -> Iterator[Artifact]:
    """The finished artifacts in a folder."""
    for path in sorted(path for path in place.glob("[!.]*") if path.is_dir()):
        try:
            yield read(path)
        except UserError:
            continue


def _encoder(artifact: Artifact) -> Artifact:
    """The encoder that a model was trained from, in the outputs of its study."""
    wanted = artifact.record["inputs"]["encoder"]
    for parent in artifact.path.resolve().parents:
        if (parent / "encoder").is_dir():
            for found in _artifacts(parent / "encoder"):
                if found.fingerprint == wanted:
                    return found
            raise UserError(
                f"{artifact.path} was trained from another encoder than those in {parent / 'encoder'}: the study has changed "
                "since; run it again."
            )
    raise UserError(
        f"{artifact.path} lies outside of its study's outputs, which hold the encoder and the tokenizer: name it where it was "
        "made (artifacts/<study>/…), or take it elsewhere with 'mtkd export'."
    )


def _shape(artifact: Artifact, start: Artifact) -> torch.nn.Module:
    """The encoder in the model's shape; its weights are still those that training began with."""
    inputs, place = artifact.record["inputs"], start.file("encoder")
    pooling = inputs["model"]["pooling"]
    if inputs["stage"] != "mkd":
        return load_encoder(place, dropout=0.0, pooling=pooling)
    settings = TypeAdapter(LstmStudent | TransformerStudent).validate_python(inputs["student"])

    def table() -> torch.Tensor:
        with safe_open(artifact.file(WEIGHTS), "pt") as weights:
            return torch.zeros(weights.get_slice("encoder.embeddings.weight").get_shape())

    return student_encoder(settings, place, pooling, table)
