"""Settings of data, encoders, model and training.

The defaults are those of MT-DNN_KD, section 4.1 (Liu et al. 2019, arXiv:1904.09482).
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mtkd.config.base import (
    Count,
    Dropout,
    Fraction,
    Limit,
    NonNegative,
    Positive,
    Seed,
    Seeds,
    Settings,
    TaskNames,
    field,
)
from mtkd.config.checks import require

Width = Annotated[int, Field(ge=8, lt=2**63)]
Pooling = Literal["cls", "pooler", "mean"]
NumberFormat = Literal["bf16", "fp32"]
FORMAT = "Number format of the matrix products; without bf16, fp16 on a GPU and fp32 on a CPU."
HeadKind = Literal["linear", "san"]
Sampling = Literal["proportional", "sqrt", "temperature"]
Exclusive = Annotated[float, Field(gt=0, lt=1)]
PackageFolder = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(/\w[\w.-]*)*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Data(Settings):
    """The examples, and how many of them are used."""

    source: Literal["synthetic", "glue"] = field("glue", "Generated GLUE-shaped tasks, or GLUE.")
    hub: str = field("nyu-mll/glue", "Hub id, or directory in its layout; MTKD_GLUE overrides it.")
    seed: Seed = field(0, "Seed of the synthetic tasks, and of the examples drawn under limits.")
    scale: Positive = field(1.0, "Size of the synthetic tasks, as a multiple of the default.")
    examples: str | None = field(
        None,
        "Parquet list of the examples used, relative to the study's file: task, split and content "
        "hash; of its tasks, no other train and dev examples are read.",
    )
    max_train: Limit | None = field(
        None, "Most training examples per task, of a listed task the first; null: all."
    )
    max_train_of: dict[str, Limit] = field({}, "Most training examples of these tasks.")
    max_dev: Limit | None = field(None, "Most examples per dev split; null: all.")
    holdout_fraction: Exclusive | None = field(
        None, "Fraction of GLUE's training sets that is the dev set, to tune settings."
    )
    max_length: Width = field(512, "Word pieces of an example, above which it is truncated.")

    def most_train(self, task: str) -> int | None:
        """Return the most training examples of a task; None: all."""
        return self.max_train_of.get(task, self.max_train)

    @property
    def limited(self) -> bool:
        """Tell whether a training set has a limit, beyond which there may be examples."""
        return bool(self.max_train or self.max_train_of)


class Pretrain(Settings):
    """Masked-language-model pre-training of a small BERT."""

    cased: bool = field(False, "Whether the vocabulary distinguishes case.")
    vocab_size: Width = field(12000, "Word pieces in the vocabulary.")
    layers: Count = field(4, "Transformer layers.")
    hidden: Width = field(256, "Width of the hidden states.")
    heads: Count = field(4, "Attention heads per layer.")
    intermediate: Width | None = field(None, "Width of the feed-forward layers; null: 4 * hidden.")
    max_positions: Width = field(512, "Longest input in word pieces.")
    seq_length: Width = field(64, "Word pieces per window: a line of the text, cut to it.")
    train_tokens: Count = field(10_000_000, "Word pieces trained on, repeated ones counted.")
    sentences: Width = field(60_000, "Generated sentences to train on, for data.source: synthetic.")
    batch_size: Count = field(64, "Windows per update.")
    learning_rate: Positive = field(6e-4, "Peak learning rate.")
    warmup_ratio: Fraction = field(0.05, "Fraction of the updates with a rising learning rate.")
    weight_decay: NonNegative = field(0.01, "Weight decay of AdamW.")
    mask_probability: Exclusive = field(0.15, "Fraction of the word pieces to predict.")
    initializer_range: Positive = field(0.02, "Standard deviation of the initial weights.")
    precision: NumberFormat = field("bf16", FORMAT)
    checkpoint_seconds: Positive = field(60, "Seconds between checkpoints.")

    @model_validator(mode="after")
    def _consistent(self):
        above = f"{self.seq_length} is above max_positions ({self.max_positions})"
        require(self.seq_length <= self.max_positions, f"seq_length: {above}")
        return self


class Encoder(Settings):
    """A pre-trained encoder: a checkpoint, a recipe to pre-train a BERT, or both."""

    checkpoint: str | None = field(
        None,
        "Hub id, or directory seen from the study's file; MTKD_ENCODER_<NAME> overrides it.",
    )
    package: PackageFolder | None = field(
        None,
        "Installed package that carries the checkpoint, as package/folder; it goes before the hub.",
    )
    sha256: Sha256 | None = field(
        None, "SHA-256 of model.safetensors, wherever the checkpoint comes from; null: any."
    )
    pretrain: Pretrain | None = field(None, "Recipe for where the checkpoint is unavailable.")

    @model_validator(mode="after")
    def _has_a_source(self):
        require(self.checkpoint or self.pretrain, "give a checkpoint, a pretrain recipe, or both")
        return self


class Model(Settings):
    """Shared encoder and task heads (MT-DNN_KD, section 2)."""

    pooling: Pooling = field("cls", "Input of a head: [CLS] (Eq. 1), its pooler, or the mean.")
    head_dropout: Dropout = field(0.1, "Dropout before each head.")
    head_dropout_of: dict[str, Dropout] = field(
        {"mnli": 0.3, "cola": 0.05, "sst2": 0.05}, "Dropout before the heads of these tasks."
    )
    encoder_dropout: Dropout = field(0.1, "Dropout in all encoders but the candidates'.")
    heads: dict[str, HeadKind] = field(
        {},
        "Output layers of these tasks: Eq. 1, the default, or for two texts the stochastic answer "
        "network (arXiv:1804.07888).",
        exclude_if=lambda heads: set(heads.values()) <= {"linear"},  # as if they were not given
    )


class Combine(Settings):
    """How multi-task training combines its tasks (`mtkd.training.combine`); default: Algorithm 1.

    In a training on one task, such as per-task fine-tuning, all of this is left out.
    """

    task_weights: Literal["equal", "uncertainty"] = field(
        "equal", "Weights of the tasks' losses: 1, or learned by uncertainty (arXiv:1705.07115)."
    )
    variance_learning_rate: Positive = field(
        0.01, "Peak learning rate of uncertainty's log variances; an encoder's would not move them."
    )
    regression_weight: Positive = field(1.0, "Factor on the losses of regressions.")
    batches_per_update: Count = field(
        1, "Consecutive mini-batches that make one update; updates are fewer by this factor."
    )
    gradients: Literal["mean", "pcgrad"] = field(
        "mean", "Their mean, or PCGrad's: without conflicts between tasks (arXiv:2001.06782)."
    )

    @model_validator(mode="after")
    def _consistent(self):
        several = self.gradients == "mean" or self.batches_per_update > 1
        needs = "pcgrad needs the gradients of several mini-batches: set batches_per_update above 1"
        require(several, f"gradients: {needs}")
        return self


class Train(Settings):
    """One training run."""

    optimizer: Literal["adamax", "adamw"] = field("adamax", "The optimizer.")
    learning_rate: Positive = field(5e-5, "Peak learning rate; it decays linearly to 0.")
    batch_size: Count = field(32, "Examples per mini-batch.")
    epochs: Count = field(5, "Passes over the training examples.")
    warmup_ratio: Fraction = field(0.1, "Fraction of the updates with a rising learning rate.")
    weight_decay: NonNegative = field(0.0, "Weight decay.")
    max_grad_norm: Positive = field(1.0, "Norm above which gradients are clipped.")
    sampling: Sampling = field(
        "proportional", "A task's batches go by size, size ** (1/2) or size ** (1/temperature)."
    )
    sampling_temperature: float = field(2.0, "Temperature of sampling: temperature.", ge=1)
    length_bucket: Count = field(8, "Batches sorted by length together: more means less padding.")
    precision: NumberFormat = field("bf16", FORMAT)
    score_every_epoch: bool = field(True, "Whether to score after every epoch, or the last.")
    num_processes: Count = field(1, "Processes (GPUs) per batch; results depend on it.")
    checkpoint_seconds: Positive = field(60, "Seconds between checkpoints.")
    combine: Combine = field(
        Combine(),
        "How multi-task training combines its tasks.",
        exclude_if=lambda combine: combine == Combine(),  # fingerprints are those without the field
    )

    @property
    def for_one_task(self) -> Self:
        """Return the settings without what only several tasks have."""
        return self.model_copy(update={"combine": Combine()})


class FineTune(Settings):
    """How per-task fine-tuning differs from multi-task training."""

    learning_rate: Positive | None = field(None, "Peak learning rate; null: train.learning_rate.")
    epochs: Count | None = field(None, "Passes over the training examples; null: train.epochs.")
    new_head: bool = field(False, "Whether MT-DNN and MT-DNN_KD start from a new head.")


@dataclass(frozen=True)
class Candidate:
    """A single MT-DNN that may become a member of the ensembles."""

    encoder: str
    dropout: float
    seed: int

    @property
    def name(self) -> str:
        """Return the name in results and paths, such as `uncased-0.1-s0`."""
        return f"{self.encoder}-{self.dropout:g}-s{self.seed}"


class Candidates(Settings):
    """The single MT-DNNs from which the ensembles are chosen: encoders x dropouts x seeds."""

    dropouts: list[Dropout] = field([0.1, 0.2, 0.3], "Dropouts in the encoder.", min_length=1)
    seeds: Seeds = field([0], "Seeds; a member is fine-tuned with that of its candidate.")
    ensemble_size: Count = field(3, "Members of each ensemble.")
    select_on: TaskNames = field(["mnli", "rte"], "Tasks whose scores choose the members.")
    selection_examples: Count | None = field(
        None,
        "Train examples beyond data.max_train on which candidates are compared; null: the dev "
        "sets, as in the paper.",
    )
    epochs: Count | None = field(None, "Passes of a member's fine-tuning; null: finetune.epochs.")
    new_head: bool = field(True, "Whether members are fine-tuned from a new head (section 3).")
