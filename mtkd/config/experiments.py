"""Parts of a study that stand by themselves: what its jobs ask for, how serving is measured, adaptation with few labels."""

from typing import Annotated

from pydantic import Field

from mtkd.config.base import Seed, Settings


class Serving(Settings):
    """How the cost of running the systems is measured."""

    examples: int = Field(
        64,
        ge=1,
        description="dev examples a batch size, shared evenly by the tasks (batches are whole)",
    )
    rounds: int = Field(5, ge=1, description="times that every system is measured, in turn")
    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field([1, 32], min_length=1)


class Resources(Settings):
    """What a job asks a cluster for beside the study's `threads` (`mtkd.workflow.jobs.asked`). No figure depends on it: nothing runs
    again when it changes, and without a profile only `gpu_slots` matters.
    """

    memory_mb: int = Field(8000, ge=1, description="of a job")
    minutes: int = Field(30, ge=1, description="of a job, before its training")
    steps_per_minute: float = Field(
        300,
        gt=0,
        description="slowest rate of updates of weights; more minutes are asked for by it",
    )
    gpus: int = Field(0, ge=0, description="of a job that trains")
    gpu_slots: int = Field(
        2,
        ge=1,
        description="trainings that share this machine's GPU, where it has one and no profile is given",
    )


class Tuning(Settings):
    """Where the fine-tuning of adaptation differs from per-task fine-tuning; the same for all systems."""

    learning_rate: float | None = Field(None, gt=0, description="None: as in per-task fine-tuning")
    batch_size: int | None = Field(None, ge=1, description="None: as in per-task fine-tuning")
    epochs: int | None = Field(None, ge=1, description="None: as in per-task fine-tuning")


class Adaptation(Settings):
    """Adaptation with few labels: BERT, MT-DNN and MT-DNN_KD fine-tuned on shares of SNLI (Liu et al. 2019, arXiv:1901.11504)."""

    hub: str = Field(
        "stanfordnlp/snli",
        description="hub id, or a directory with snli/train-*.parquet; MTKD_SNLI overrides it",
    )
    fractions: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [0.001, 0.01, 0.1, 1.0], min_length=1, description="of the train examples"
    )
    seeds: list[Seed] | None = Field(
        None, min_length=1, description="some of the study's; None: all of them"
    )
    max_train: int | None = Field(
        None,
        ge=16,
        description="shares are of at most so many train examples, drawn by data.seed (None: all)",
    )
    max_dev: int | None = Field(
        None, ge=16, description="at most so many dev examples, drawn by data.seed (None: all)"
    )
    min_updates: int = Field(
        200,
        ge=1,
        description="a small share is gone through so often that the weights have as many updates",
    )
    train: Tuning = Tuning()

    def check(self, seeds: list[int]) -> None:
        """`ValueError` where these settings do not go with the seeds of the study."""
        if others := [seed for seed in self.seeds or () if seed not in seeds]:
            raise ValueError(
                f"adaptation.seeds: {others[0]} is not one of the study's seeds ({', '.join(map(str, seeds))}), whose models "
                "are adapted"
            )
        for field, values in (("fractions", self.fractions), ("seeds", self.seeds or [])):
            if len(set(values)) != len(values):
                raise ValueError(f"adaptation.{field}: a value stands twice")
