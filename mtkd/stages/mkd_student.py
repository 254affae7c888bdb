"""Models of MKD's students: as they start, and as they were trained."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from mtkd.artifacts import Artifact
from mtkd.config.mkd import LstmStudent, TransformerStudent
from mtkd.config.study import Study
from mtkd.data.dataset import vocabulary_size
from mtkd.models.encoders import read_config, without_weights, word_embeddings
from mtkd.models.lstm import projected_table
from mtkd.models.multitask import MultiTaskModel
from mtkd.models.student import student_encoder, trained_encoder
from mtkd.stages import mtdnn
from mtkd.stages.common import Run, lookup
from mtkd.stages.inputs import Inputs, add_heads, tokenizer_of
from mtkd.tasks import Task


def teacher_run(study: Study) -> Run:
    """Return the run of the multi-task teacher, a vanilla MT-DNN."""
    return mtdnn.baseline_run(study, study.candidates.seeds[0], study.mkd.teacher_encoder)


def find_student(study: Study, name: str) -> LstmStudent | TransformerStudent:
    """Return the settings of a student; raise `UserError` if there is none of that name."""
    students = study.require("mkd").resolved(study.resolve_checkpoint)
    return lookup(study, "student", name, students)


def new_student(inputs: Inputs, name: str, tasks: list[Task]) -> MultiTaskModel:
    """Return an untrained student with a head per task; seed first."""
    study, settings = inputs.study, find_student(inputs.study, name)

    def teacher_weights() -> Path:
        return inputs[teacher_run(study)].file("model.safetensors")

    def table() -> torch.Tensor:
        if settings.embeddings == "teacher":
            name = word_embeddings(without_weights(read_config(folder)))
            weights = load_file(teacher_weights())[f"encoder.model.{name}"]
            return projected_table(weights, settings.embedding_dim)
        pieces = vocabulary_size(tokenizer_of(inputs.encoder(study.mkd.teacher_encoder)))
        return torch.randn(pieces, settings.embedding_dim)  # as nn.Embedding draws it

    folder = inputs.encoder(study.mkd.teacher_encoder).file("encoder")
    how = study.model.pooling, table, study.data.max_length, teacher_weights
    encoder = student_encoder(settings, folder, *how)
    return add_heads(study, encoder, tasks)


def trained_student(
    inputs: Inputs, name: str, tasks: list[Task], trained: Artifact
) -> MultiTaskModel:
    """Return a student with the heads for `tasks`, and with all weights that were trained."""
    study, weights = inputs.study, trained.file("model.safetensors")
    folder = inputs.encoder(study.mkd.teacher_encoder).file("encoder")
    shape = study.model.pooling, weights, study.data.max_length
    encoder = trained_encoder(find_student(study, name), folder, *shape)
    model = add_heads(study, encoder, tasks)
    model.load(weights)
    return model
