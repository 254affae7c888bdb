"""Settings of data, encoders, model and training."""

from typing import Literal

from pydantic import Field, model_validator

from mtkd.config.base import Dropout, Seed, Settings, Share, TaskName


class Data(Settings):
    """Where the examples come from and how many are used."""

    source: Literal["synthetic", "glue"] = Field(
        "glue", description="the generated suite, or real GLUE"
    )
    hub: str = Field(
        "nyu-mll/glue",
        description="hub id, or a directory in the hub's layout; MTKD_GLUE overrides it",
    )
    seed: Seed = Field(
        0, description="of the generated suite, and of the choice of examples under max_train"
    )
    scale: float = Field(1.0, gt=0, description="size of the generated suite")
    max_train: int | None = Field(
        None, ge=16, description="at most so many train examples a task (None: all)"
    )
    max_dev: int | None = Field(
        None, ge=16, description="at most so many dev examples a split (None: all)"
    )
    holdout_fraction: float | None = Field(
        None,
        gt=0,
        lt=1,
        exclude_if=lambda share: share is None,
        description="share of each GLUE train set that takes the dev sets' place: to choose settings by",
    )
    max_length: int = Field(
        512, ge=8, description="word pieces of an example; longer ones lose their end (4.1)"
    )


class Pretrain(Settings):
    """Masked-LM pre-training of a small BERT, where no checkpoint is to be had."""

    cased: bool = False
    vocab_size: int = Field(12000, ge=50)
    layers: int = Field(4, ge=1)
    hidden: int = Field(256, ge=8)
    heads: int = Field(4, ge=1)
    intermediate: int | None = Field(None, ge=8, description="None: four times hidden")
    max_positions: int = Field(512, ge=8)
    packing: Literal["packed", "lines"] = Field(
        "packed", description="running text cut into windows, or a line of text a window"
    )
    seq_length: int = Field(64, ge=8, description="word pieces a window")
    long_seq_length: int | None = Field(
        128, description="window of the last part of the training (None: the same)"
    )
    long_fraction: Share = 0.1
    train_tokens: int = Field(
        10_000_000, ge=1, description="word pieces trained on, all windows counted"
    )
    sentences: int = Field(
        60_000, ge=100, description="sentences of generated text (synthetic suite only)"
    )
    batch_size: int = Field(64, ge=1)
    learning_rate: float = Field(6e-4, gt=0)
    warmup_ratio: Share = 0.05
    weight_decay: float = Field(0.01, ge=0)
    mask_probability: float = Field(0.15, gt=0, lt=1)
    attention_guidance_steps: int = Field(
        1200, ge=0, description="steps with guided attention (Deshpande & Narasimhan 2020)"
    )
    attention_guidance_weight: float = Field(0.5, ge=0)
    initializer_range: float = Field(0.02, gt=0)
    precision: Literal["bf16", "fp32"] = "bf16"
    start_from: str | None = Field(
        None, description="another encoder of the study, or a directory, to start from"
    )
    checkpoint_seconds: float = Field(60, gt=0)


class Encoder(Settings):
    """A pre-trained BERT: a checkpoint (hub id or directory), or the recipe to pre-train one."""

    checkpoint: str | None = Field(
        None, description="hub id or directory; MTKD_ENCODER_<NAME> overrides it"
    )
    pretrain: Pretrain | None = Field(
        None, description="used where there is no checkpoint or it cannot be reached"
    )

    @model_validator(mode="after")
    def _one_source(self):
        if self.checkpoint is None and self.pretrain is None:
            raise ValueError("give a checkpoint, a pretrain recipe, or both")
        return self


class Model(Settings):
    """Shared encoder and task heads (section 2)."""

    pooling: Literal["cls", "pooler", "mean"] = Field(
        "cls",
        description="what a head sees: [CLS] as it is (Eq. 1), after BERT's pooler, or the mean over the word pieces",
    )
    head_dropout: Dropout = 0.1
    head_dropout_of: dict[TaskName, Dropout] = Field(
        {"mnli": 0.3, "cola": 0.05, "sst2": 0.05}, description="section 4.1"
    )
    encoder_dropout: Dropout = Field(0.1, description="of every run but the candidates")


class Train(Settings):
    """One training run; the defaults are section 4.1's."""

    optimizer: Literal["adamax", "adamw"] = "adamax"
    learning_rate: float = Field(5e-5, gt=0)
    batch_size: int = Field(32, ge=1)
    epochs: int = Field(5, ge=1)
    warmup_ratio: Share = 0.1
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    sampling: Literal["proportional", "sqrt", "temperature"] = Field(
        "proportional", description="share of a task's batches"
    )
    sampling_temperature: float = Field(
        2.0, ge=1, description="of sampling: temperature; size ** (1 / temperature)"
    )
    length_bucket: int = Field(
        8,
        ge=1,
        description="batches sorted by length together: more pad less, but re-shuffle small tasks less",
    )
    precision: Literal["bf16", "fp32"] = "bf16"
    score_every_epoch: bool = Field(
        True, description="dev scores after every epoch, not only after the last"
    )
    # Dropout and rounding depend on it: more than one make another output, and one makes what it always made.
    num_processes: int = Field(
        1,
        ge=1,
        exclude_if=lambda count: count == 1,
        description="that share each mini-batch, one a GPU",
    )
    checkpoint_seconds: float = Field(60, gt=0)


class FineTune(Settings):
    """Where per-task fine-tuning differs from multi-task training."""

    learning_rate: float | None = Field(None, gt=0, description="None: as in training")
    epochs: int | None = Field(None, ge=1, description="None: as in training")
    new_head: bool = Field(
        False,
        description="MT-DNN and MT-DNN_KD start from a new head (for teachers: candidates.new_head)",
    )


class Candidates(Settings):
    """The single MT-DNNs from which the teachers' members are chosen (section 4.1)."""

    dropouts: list[Dropout] = Field([0.1, 0.2, 0.3], min_length=1)
    ensemble_size: int = Field(3, ge=1)
    select_on: list[TaskName] = Field(["mnli", "rte"], min_length=1)
    epochs: int | None = Field(
        None,
        ge=1,
        exclude_if=lambda given: given is None,
        description="of a member's fine-tuning; None: finetune.epochs",
    )
    new_head: bool = Field(
        True,
        exclude_if=lambda fresh: fresh,
        description="a member's fine-tuning starts from a new head (section 3), or from its multi-task head",
    )
    seed: Seed = 0
