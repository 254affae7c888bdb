"""Settings of MKD (Liu et al. 2020, arXiv:1911.03588)."""

from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mtkd.config.base import (
    Count,
    Dropout,
    Fraction,
    NonNegative,
    Seeds,
    Settings,
    ShortName,
    Size,
    TaskNames,
    field,
)
from mtkd.config.checks import require, require_distinct, require_known
from mtkd.config.experiments import Serving
from mtkd.config.training import FineTune, Train, Width

Embeddings = Literal["own", "teacher"]
Start = Literal["teacher", "encoder", "checkpoint", "new"]
Layers = Annotated[list[Size], Field(min_length=1)]
ASSISTANT = "Another of the students to learn from (TAKD); null: the teacher."


class _Student(Settings):
    @model_serializer(mode="wrap")
    def _without_default(self, dump: SerializerFunctionWrapHandler) -> dict:
        """Leave out an assistant that is not set: results from before there were any stay valid."""
        return {name: one for name, one in dump(self).items() if (name, one) != ("assistant", None)}


class LstmStudent(_Student):
    """A bi-attentive LSTM student (`mtkd.models.lstm`)."""

    kind: Literal["lstm"] = field(..., "The architecture.")
    embeddings: Embeddings = field("own", "New ones, or those of the teacher, projected.")
    embedding_dim: Count = field(128, "Width of the embeddings.")
    hidden: Count = field(128, "Width of each direction of both BiLSTMs.")
    layers: Count = field(1, "Layers of the shared BiLSTM.")
    output_dim: Count = field(256, "Width of the shared layer below the task heads.")
    dropout: Dropout = field(0.1, "Dropout of embeddings and hidden states.")
    train: Train | None = field(None, "Settings of its training; null: `mkd.train`.")
    assistant: ShortName | None = field(None, ASSISTANT)


class TransformerStudent(_Student):
    """A small Transformer student (`mtkd.models.small_transformer`)."""

    kind: Literal["transformer"] = field(..., "The architecture.")
    init_from: Start = field(
        "encoder",
        "Weights of the teacher, of its encoder before that was trained, of a checkpoint, or new.",
    )
    kept_layers: Layers | None = field(None, "Layers to keep of teacher or encoder, from 0.")
    checkpoint: str | None = field(None, "An encoder, as in encoders, of the teacher's vocabulary.")
    layers: Count = field(2, "Transformer layers (init_from: new).")
    hidden: Width = field(128, "Width of the hidden states (init_from: new).")
    heads: Count = field(2, "Attention heads per layer (init_from: new).")
    intermediate: Width | None = field(None, "Width of the feed-forward layers; null: 4 * hidden.")
    dropout: Dropout = field(0.1, "Dropout of layers and attention.")
    train: Train | None = field(None, "Settings of its training; null: `mkd.train`.")
    assistant: ShortName | None = field(None, ASSISTANT)

    @model_validator(mode="after")
    def _consistent(self):
        together = (self.init_from == "checkpoint") == (self.checkpoint is not None)
        require(together, "init_from: checkpoint and the field checkpoint go together")
        together = (self.init_from in ("teacher", "encoder")) == (self.kept_layers is not None)
        require(together, "kept_layers: give it with init_from teacher or encoder, and only there")
        fits = self.init_from != "new" or self.hidden % self.heads == 0
        require(fits, f"hidden: {self.hidden} is not a multiple of heads ({self.heads})")
        return self


Student = Annotated[LstmStudent | TransformerStudent, Field(discriminator="kind")]


class Mkd(Settings):
    """Students distilled from the logits of one multi-task teacher."""

    teacher: Literal["mt-dnn", "ensemble"] = field("mt-dnn", "Vanilla MT-DNN, or the ensembles.")
    teacher_encoder: str | None = field(None, "Encoder of that MT-DNN; null: student_encoder.")
    tasks: TaskNames | None = field(None, "Tasks of the students; null: multi-task training's.")
    hard_weight: Fraction = field(0.0, "Weight of labels; the teacher's logits have the rest.")
    mixed_hard_weight: Fraction | None = field(None, "Weight of labels of one more student.")
    layerwise: list[Literal["pkd", "minilm"]] = field(
        [], "Baselines of students with kept_layers and without an assistant: PKD, MiniLM."
    )
    patient_weight: NonNegative = field(
        100.0, "Weight of PKD's patient loss; of the paper's 10 to 1000, 100 is this project's."
    )
    seeds: Seeds | None = field(None, "Seeds of the students; null: the study's.")
    train: Train = field(Train(optimizer="adamw", learning_rate=1e-3), "Training of the students.")
    finetune: FineTune | None = field(None, "Per-task fine-tuning after training; null: none.")
    students: dict[ShortName, Student] = field(..., "The students by name.", min_length=1)
    serving: Serving = field(Serving(), "How the cost of inference is measured.")

    @model_validator(mode="after")
    def _has_teachers(self):
        for name in self.students:
            self.assistants(name)
        return self

    @model_validator(mode="after")
    def _has_layers(self):
        require_distinct("layerwise", self.layerwise)
        if self.layerwise:
            require(
                self.teacher == "mt-dnn", "layerwise: set teacher to mt-dnn, whose layers it reads"
            )
            known = [name for name in self.students if self.layerwise_of(name)]
            require(
                known, "layerwise: no student without an assistant has kept_layers; give one some"
            )
            for name in known if "pkd" in self.layerwise else ():
                why = f"pkd leaves out the last layer of {name}; give it two kept_layers or more"
                require(len(self.students[name].kept_layers) > 1, f"layerwise: {why}")
        return self

    def resolved(self, resolve: Callable[[str], str]) -> dict[str, Student]:
        """Return the students with the checkpoints that `resolve` makes of theirs."""
        return {
            name: student.model_copy(update={"checkpoint": resolve(student.checkpoint)})
            if getattr(student, "checkpoint", None)
            else student
            for name, student in self.students.items()
        }

    def layerwise_of(self, name: str) -> list[str]:
        """Return the layer-wise baselines of a student.

        There are none if it has not the teacher's layers, or learns from an assistant.
        """
        student = self.students[name]
        has_layers = getattr(student, "kept_layers", None) and not student.assistant
        return self.layerwise if has_layers else []

    def assistants(self, name: str) -> list[str]:
        """Return a student's assistant, that one's and so on: the last learns from the teacher.

        Raises `ValueError` where one of them is no student, or none learns from the teacher.
        """
        chain = [name]
        while assistant := self.students[chain[-1]].assistant:
            field = f"students.{chain[-1]}.assistant"
            require_known(field, [assistant], self.students, "is no student")
            again, chain = assistant in chain, [*chain, assistant]
            text = ", ".join(f"{one} from {other}" for one, other in pairwise(chain))
            require(
                not again, f"{field}: none learns from the teacher ({text}); remove one assistant"
            )
        return chain[1:]

    def direct(self, name: str) -> str | None:
        """Return the student that differs from an assisted one in having no assistant; or None."""
        same = self.students[name].model_copy(update={"assistant": None})
        others = (one for one, student in self.students.items() if student == same)
        return next(others, None) if self.students[name].assistant else None
