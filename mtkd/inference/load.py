"""Load a trained model from the folder in which a study left it.

The folder holds `model.safetensors` and `model.json`, which describes tasks and shape. The
encoder's configuration and tokenizer come from `01_pretrain` of the same study.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field, ValidationError
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.initialization import no_init_weights

from mtkd import tasks
from mtkd.artifacts import Artifact, read
from mtkd.config.base import Settings, ShortName, field
from mtkd.config.custom_task import CustomTask
from mtkd.config.mkd import Student
from mtkd.config.study import Study, load
from mtkd.config.training import HeadKind
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.inference.predict import predict_frame
from mtkd.models.encoders import max_positions
from mtkd.models.multitask import MultiTaskModel, load_encoder
from mtkd.models.student import trained_encoder
from mtkd.stages import all_runs, mtdnn, pretrain
from mtkd.stages.common import Run
from mtkd.stages.inputs import read_examples, tokenizer_of
from mtkd.tasks import Task

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


class DescribedTask(Settings):
    """A task in `model.json`: one of GLUE, or a custom one with its settings; or its ranking."""

    name: str
    custom: CustomTask | None
    ranked: bool = False

    @property
    def task(self) -> Task:
        """The task, as it was trained."""
        task = self.custom.task(self.name) if self.custom else tasks.get(self.name)
        return tasks.as_ranking(task) if self.ranked else task


class Description(Settings):
    """What `model.json` holds."""

    tasks: list[DescribedTask]
    encoder: ShortName
    pooling: Literal["cls", "pooler", "mean"]
    max_length: Annotated[int, Field(ge=8)]
    student: Student | None
    system: str
    heads: dict[str, HeadKind] = field({}, "Those that are not linear.")

    @property
    def known(self) -> list[Task]:
        """The tasks, as they were trained."""
        return [described.task for described in self.tasks]


@dataclass(frozen=True)
class TrainedModel:
    """A model in fp32 on the CPU, with the one of its tasks that it is used for."""

    artifact: Artifact
    description: Description
    encoder: Artifact
    model: MultiTaskModel
    tokenizer: PreTrainedTokenizerBase
    task: Task

    @property
    def study_folder(self) -> Path:
        """The folder with all artifacts of the model's study."""
        return self.encoder.path.parents[2]

    @property
    def max_length(self) -> int:
        """Word pieces of an example that the model reads; the rest is cut off."""
        inner = getattr(self.model.encoder, "model", None)
        longest = self.description.max_length
        return min(longest, (inner and max_positions(inner)) or longest)

    @property
    def input_names(self) -> list[str]:
        """The model's inputs; an LSTM's and a SAN's `token_type_ids` are 1 on the second text."""
        segments = getattr(self.model.encoder, "segments", True) or self.head != "linear"
        return ["input_ids", *["token_type_ids"] * segments, "attention_mask"]

    @property
    def head(self) -> HeadKind:
        """The kind of the task's output layer."""
        return self.model.kinds[self.task.name]

    @property
    def lacks_segments(self) -> bool:
        """Whether the model reads segments that its tokenizer does not give."""
        types = self.tokenizer("a", "a", return_token_type_ids=True)["token_type_ids"]
        return "token_type_ids" in self.input_names and not any(types)

    @property
    def quotes(self) -> bool | None:
        """Whether `"` encloses a field in the files of the task; None: in CSV."""
        name = self.task.ranks or self.task.name
        custom = {one.name: one.custom for one in self.description.tasks}.get(name)
        return custom and custom.quotes

    def for_task(self, name: str | None) -> "TrainedModel":
        """Return the model for a task (None: its only one); `UserError` where it has no such."""
        by_name = {task.name: task for task in self.description.known}
        if name is None and len(by_name) == 1:
            return self
        if name in tasks.GLUE and name not in by_name:
            name = tasks.get(name).predicted_by or name
        if name not in by_name:
            problem = f"{self.artifact.path} has "
            problem += f"no task '{name}'" if name else "several tasks"
            raise UserError(f"{problem}: choose one of {', '.join(by_name)} (task, --task).")
        return replace(self, task=by_name[name])

    def predict(
        self, texts: Iterable[str | Sequence[str]] | pd.DataFrame, task: str | None = None
    ) -> pd.DataFrame:
        """Predict texts, or pairs of texts for a task of two.

        They are read in parts, and computed in batches of similar length.

        Args:
            texts: A text or several; pairs, or a frame of two columns. A frame's index is kept.
            task: Its name; None: the model's only task.

        Returns:
            A row for each: `label` and a column of probabilities for each class; or `score`. The
            best of a question's candidates has the highest score in a ranking.

        Raises:
            UserError: There is no such task, or a row is no text or pair.
        """
        return predict_frame(self.for_task(task), texts)

    def dev_sets(self) -> list[tuple[str, Examples]]:
        """Return (split, examples) of each of the task's dev sets in the study."""
        tokens = read(self.study_folder / pretrain.NAME / self.description.encoder)
        splits = tokens.json("fingerprints.json")[self.task.ranks or self.task.name]
        dev = [split for split in self.task.dev if split in splits]
        return [(split, read_examples(tokens, self.task, split)) for split in dev]


def load_model(name: str, task: str | None = None) -> TrainedModel:
    """Load a model for one of its tasks.

    Args:
        name: a model's folder, or `STUDY:SYSTEM`, see `find_model`.
        task: its name; None: the model's only task. AX is predicted by MNLI's head.

    Raises:
        UserError: There is no such model or task, or one of its files is damaged.
    """
    return open_model(name).for_task(task)


def open_model(name: str) -> TrainedModel:
    """Load a model, as `mtkd.load`: by its folder, or as `STUDY:SYSTEM`, see `find_model`.

    It is ready for the first of its tasks.

    Raises:
        UserError: There is no such model, or one of its files is damaged.
    """
    artifact = read(find_model(name))
    if missing := {WEIGHTS, DESCRIPTION} - set(artifact.record["files"]):
        raise UserError(f"{artifact.path} holds no model (no {min(missing)}): give another folder.")
    description = read_description(artifact)
    encoder, known = _find_encoder(artifact, description.encoder), description.known
    tokenizer = tokenizer_of(encoder)
    with no_init_weights():  # random ones, which take seconds
        shared = _new_encoder(artifact, description, encoder)
        dropout = dict.fromkeys((task.name for task in known), 0.0)
        model = MultiTaskModel(shared, known, dropout, description.heads)
    model.load(artifact.file(WEIGHTS))
    return TrainedModel(artifact, description, encoder, model.eval(), tokenizer, known[0])


def find_model(name: str) -> Path:
    """Return the folder of a model, given as a path or as `STUDY:SYSTEM`.

    SYSTEM is one of `trained_models`, such as `mt-dnn-kd-s1`; without the seed, the first.
    """
    if name and Path(name).is_dir():
        return Path(name)
    study_name, colon, system = name.partition(":")
    if not colon:
        raise UserError(f"There is no folder '{name}': give one, or STUDY:SYSTEM (quick:mt-dnn).")
    models = trained_models(load(study_name))
    pattern = re.escape(system.removesuffix(":mtl")) + r"(-s\d+)?"
    for known, folder in models.items():
        if re.fullmatch(pattern, known):
            return folder
    raise UserError(
        f"Study {study_name} has no model '{system}': it has {', '.join(models) or 'none so far'} "
        f"('mtkd run {study_name}' trains its models; of fine-tuned ones, scores alone are kept)."
    )


def trained_models(study: Study) -> dict[str, Path]:
    """Return the folders of a study's trained models by name.

    Names are those of systems with a seed (`mt-dnn-s0`, `mt-dnn-kd:annealing-s0`, `mkd-lstm-s0`),
    candidates (`cased-0.1-s0`) and ensembles' members (`cased-0.1-s0/mnli`).
    """
    models = {
        f"mt-dnn-s{seed}": mtdnn.baseline_run(study, seed).folder(study) for seed in study.seeds
    }
    for run in all_runs(study):
        parts = run.part_folder(study, "any").parent.rglob(DESCRIPTION)
        for path in [run.folder(study) / DESCRIPTION, *sorted(parts)]:
            if path.is_file():
                models.setdefault(_model_name(run, path), path.parent)
    return {name: folder for name, folder in models.items() if (folder / DESCRIPTION).is_file()}


def _model_name(run: Run, path: Path) -> str:
    if run.stage == mtdnn.NAME:
        return run.label
    system = read_description(read(path.parent)).system
    if system == "member":
        return f"{path.parent.name}/{run.task}"
    return f"{system.removesuffix(':mtl')}-s{run.seed}"


def read_description(artifact: Artifact) -> Description:
    """Read `model.json`; raise `UserError` if it describes no model."""
    path = artifact.file(DESCRIPTION)
    try:
        return Description.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise UserError(f"{path} describes no model ({problem}): run its stage again.") from None


def _find_encoder(artifact: Artifact, name: str) -> Artifact:
    """Return the encoder that a model started from, in the folder of its study.

    A model cannot be moved out of there; one by `mtkd export` can.
    """
    above = artifact.path.resolve().parents
    root = next((folder for folder in above if (folder / pretrain.NAME).is_dir()), above[0])
    tokens = read(root / pretrain.NAME / name)
    encoder = read(root / pretrain.NAME / f"{name}.parts" / "encoder")
    parents, parts = artifact.record["inputs"]["parents"], tokens.record["inputs"]["parts"]
    recorded = parents.get(f"{pretrain.NAME}.{name}"), parts["encoder"]
    if recorded != (tokens.fingerprint, encoder.fingerprint):
        raise UserError(
            f"{artifact.path} was trained with another encoder than {encoder.path}: the study has "
            "changed since; run it again."
        )
    return encoder


def _new_encoder(artifact: Artifact, description: Description, encoder: Artifact) -> nn.Module:
    """Return an encoder of the model's shape; its weights are still to be loaded."""
    folder, student, pooling = encoder.file("encoder"), description.student, description.pooling
    if student is None:
        return load_encoder(folder, dropout=0.0, pooling=pooling, weights=False)
    weights = artifact.file(WEIGHTS)
    return trained_encoder(student, folder, pooling, weights, description.max_length)
