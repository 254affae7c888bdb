"""Settings of inference cost, cluster resources, and adaptation to SNLI."""

from typing import Annotated

from pydantic import Field

from mtkd.config.base import Count, Limit, Positive, Seeds, Settings, Size, field
from mtkd.config.checks import require_distinct, require_known

Share = Annotated[float, Field(gt=0, le=1)]


class Serving(Settings):
    """How the cost of inference is measured."""

    examples: Count = field(64, "Dev examples per batch size, shared evenly by the tasks.")
    rounds: Count = field(5, "Times that every system is measured, in turn.")
    batch_sizes: list[Count] = field([1, 32], "Batch sizes to measure.", min_length=1)


class Resources(Settings):
    """What a job requests from a cluster, beside `threads`. No result depends on it."""

    memory_mb: Count = field(8000, "Memory of a job in MB.")
    minutes: Count = field(30, "Minutes of a job, besides its training.")
    steps_per_minute: Positive = field(300, "Slowest rate of updates, to estimate minutes.")
    gpus: Size = field(0, "GPUs of a job that trains.")
    gpu_slots: Count = field(2, "Trainings that share this machine's GPU, without a profile.")


class Tuning(Settings):
    """How one fine-tuning differs from per-task fine-tuning (`finetune`)."""

    learning_rate: Positive | None = field(None, "Peak learning rate; null: as there.")
    batch_size: Count | None = field(None, "Examples per update; null: as there.")
    epochs: Count | None = field(None, "Passes over the examples; null: as there.")


class Adaptation(Settings):
    """Fine-tuning on fractions of SNLI, as in MT-DNN (Liu et al. 2019, arXiv:1901.11504)."""

    hub: str = field("stanfordnlp/snli", "Hub id or directory; MTKD_SNLI overrides it.")
    fractions: list[Share] = field([0.001, 0.01, 0.1, 1.0], "Of the training set.", min_length=1)
    seeds: Seeds | None = field(None, "Seeds whose models are adapted; null: all of the study's.")
    max_train: Limit | None = field(None, "Training examples that make fraction 1; null: all.")
    max_dev: Limit | None = field(None, "Most dev examples; null: all.")
    min_updates: Count = field(200, "Fewest updates: a small fraction is repeated to have as many.")
    train: Tuning = field(Tuning(), "Settings of fine-tuning on SNLI.")

    def check(self, seeds: list[int]) -> None:
        """Raise `ValueError` where these settings do not fit the seeds of the study."""
        own = self.seeds or ()
        require_known("adaptation.seeds", own, seeds, "is not one of the study's seeds")
        require_distinct("adaptation.seeds", own)
        require_distinct("adaptation.fractions", self.fractions)
