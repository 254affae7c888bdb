"""Settings of MKD's students."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mtkd.config.base import Dropout, Settings, Share, TaskName
from mtkd.config.experiments import Serving
from mtkd.config.training import FineTune, Train


class LstmStudent(Settings):
    """A bi-attentive LSTM student (`mtkd.models.lstm`)."""

    kind: Literal["lstm"]
    embeddings: Literal["own", "teacher", "vectors"] = Field(
        "own",
        description="drawn anew, the teacher's word-piece table projected down, or word vectors from a file",
    )
    vectors: str | None = Field(
        None, description="file of word vectors in GloVe's text format (embeddings: vectors)"
    )
    embedding_dim: int = Field(
        128, ge=1, description="of the embeddings; that of the file where vectors are read"
    )
    hidden: int = Field(128, ge=1, description="of each direction of both BiLSTMs")
    layers: int = Field(1, ge=1, description="of the shared BiLSTM")
    output_dim: int = Field(256, ge=1, description="of the shared pooling that the task layers see")
    dropout: Dropout = 0.1
    train: Train | None = Field(None, description="None: mkd.train")

    @model_validator(mode="after")
    def _a_file(self):
        if (self.embeddings == "vectors") != (self.vectors is not None):
            raise ValueError(
                "embeddings: vectors and the file vectors go together: give both or neither"
            )
        return self


class TransformerStudent(Settings):
    """A small Transformer student: layers of the teacher or its encoder, a checkpoint, or a shape drawn anew."""

    kind: Literal["transformer"]
    init_from: Literal["teacher", "encoder", "checkpoint", "new"] = Field(
        "encoder",
        description="weights: of the refined teacher, of the encoder before it was refined, of a checkpoint, or drawn anew",
    )
    kept_layers: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, min_length=1, description="layers kept of teacher or encoder, from 0"
    )
    checkpoint: str | None = Field(
        None,
        description="hub id or directory of a BERT with the teacher's word pieces (init_from: checkpoint)",
    )
    layers: int = Field(2, ge=1, description="init_from: new")
    hidden: int = Field(128, ge=8, description="init_from: new")
    heads: int = Field(2, ge=1, description="init_from: new")
    intermediate: int | None = Field(
        None, ge=8, description="init_from: new; None: four times hidden"
    )
    dropout: Dropout = Field(0.1, description="of its layers and attention")
    train: Train | None = Field(None, description="None: mkd.train")

    @model_validator(mode="after")
    def _one_start(self):
        if (self.init_from == "checkpoint") != (self.checkpoint is not None):
            raise ValueError(
                "init_from: checkpoint and the field checkpoint go together: give both or neither"
            )
        if (self.init_from in ("teacher", "encoder")) != (self.kept_layers is not None):
            raise ValueError(
                "kept_layers: name the layers kept where the student starts from teacher or encoder, and only there"
            )
        if self.init_from == "new" and self.hidden % self.heads:
            raise ValueError(f"hidden: {self.hidden} is not a multiple of heads ({self.heads})")
        return self


class Mkd(Settings):
    """MKD (Liu et al. 2020): students distilled from the logits of one multi-task teacher."""

    teacher: Literal["mt-dnn", "ensemble"] = Field(
        "mt-dnn", description="vanilla MT-DNN at candidates.seed, or the tasks' ensembles"
    )
    teacher_encoder: str | None = Field(
        None,
        description="the MT-DNN teacher's; students read its word pieces; None: student_encoder",
    )
    tasks: list[TaskName] | None = Field(
        None, min_length=1, description="None: all tasks of multi-task training"
    )
    hard_weight: Share = Field(
        0.0, description="weight of the hard targets; the teacher's logits have the rest"
    )
    mixed_hard_weight: Share | None = Field(
        None, description="multi-task distillation once more with this weight, reported beside"
    )
    seeds: list[int] | None = Field(None, min_length=1, description="None: the study's")
    train: Train = Field(
        Train(optimizer="adamw", learning_rate=1e-3), description="of all students and controls"
    )
    finetune: FineTune | None = Field(
        None,
        description="per-task fine-tuning on hard targets after multi-task training; None: none",
    )
    students: dict[
        Annotated[str, Field(pattern=r"^[a-z0-9_]+$")],
        Annotated[LstmStudent | TransformerStudent, Field(discriminator="kind")],
    ] = Field(min_length=1)
    serving: Serving = Serving()
