"""What all stages share: runs, loading, and settings that several stages depend on."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mtkd import paths
from mtkd.artifacts import Artifact, NotMadeError, reading
from mtkd.config.distillation import Variant
from mtkd.config.study import Study
from mtkd.config.training import Train
from mtkd.data import synthetic
from mtkd.data.custom import count_train_rows
from mtkd.errors import UserError

SCORE_COLUMNS = ["system", "task", "split", "metric", "value", "seed", "n", "params", "seconds"]


@dataclass(frozen=True, init=False)
class Run:
    """One execution of a stage: its name, and its notebook's parameters as attributes."""

    stage: str
    items: tuple[tuple[str, str | int | float], ...]

    def __init__(self, stage: str, /, **parameters: str | int | float):
        object.__setattr__(self, "stage", stage)
        object.__setattr__(self, "items", tuple(parameters.items()))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self.parameters:
            raise AttributeError(name)
        return self.parameters[name]

    @property
    def parameters(self) -> dict[str, str | int | float]:
        """The notebook's parameters."""
        return dict(self.items)

    @property
    def label(self) -> str:
        """The parameters in one word, such as `uncased-0.1-s0`; empty where there are none."""
        words = {name: f"{x:g}" if isinstance(x, float) else str(x) for name, x in self.items}
        return "-".join(f"s{word}" if name == "seed" else word for name, word in words.items())

    @property
    def name(self) -> str:
        """Stage and parameters in one word, such as `02_mtdnn.uncased-0.1-s0`."""
        return f"{self.stage}.{self.label}" if self.items else self.stage

    def folder(self, study: Study) -> Path:
        """Return the folder of this run's artifact."""
        return paths.work_folder(study.name) / self.stage / self.label

    def part_folder(self, study: Study, part: str) -> Path:
        """Return the folder of a part: an artifact that this run builds on its way."""
        parts = f"{self.label}.parts" if self.items else "parts"
        return paths.work_folder(study.name) / self.stage / parts / part


_loaded: ContextVar[dict[Run, Artifact] | None] = ContextVar("loaded", default=None)


def lookup(study: Study, kind: str, name: str, known: Mapping[str, Any]) -> Any:
    """Return what a study has under a name; raise `UserError` where it has nothing."""
    if name not in known:
        names = ", ".join(known)
        raise UserError(f"Study {study.name} has no {kind} '{name}': its {kind}s are {names}.")
    return known[name]


def stage_of(run: Run) -> ModuleType:
    """Return the module of a run's stage."""
    from mtkd.stages import stages  # it imports this module

    return stages()[run.stage]


def load(study: Study, run: Run) -> Artifact:
    """Return a run's artifact; build it, and the parents that it lacks, if it is not there."""
    return load_all(study, [run])[run]


def load_all(study: Study, runs: Iterable[Run]) -> dict[Run, Artifact]:
    """Return the artifacts of several runs, each read once however often it is a parent."""
    known = _loaded.get()
    token = None if known is not None else _loaded.set(known := {})
    try:
        for run in runs:
            if run not in known:
                known[run] = stage_of(run).run(study, **run.parameters)
        return {run: known[run] for run in runs}
    finally:
        if token is not None:
            _loaded.reset(token)


def load_finished(study: Study, runs: Iterable[Run]) -> dict[Run, Artifact]:
    """Return the artifacts of those runs that are finished; nothing is built."""
    found: dict[Run, Artifact] = {}
    with reading():
        token = _loaded.set({})
        try:
            for run in runs:
                with suppress(NotMadeError):
                    found |= load_all(study, [run])
        finally:
            _loaded.reset(token)
    return found


def weight_settings(study: Study, train: Train) -> dict:
    """Return the settings of a model and its training that change its weights.

    The encoder's dropout is not among them: it is a parameter of candidates.
    """
    return {
        "model": study.model.model_dump(exclude={"encoder_dropout"}),
        "train": train.model_dump(exclude={"checkpoint_seconds"}),
    }


def variants(study: Study) -> list[Variant]:
    """Return the variants of distillation that the study compares."""
    return list(study.ablation.variants.values()) if study.ablation else []


def num_train(study: Study, name: str) -> int:
    """Return about how many train examples a task has (a ranking: at most), before any are read."""
    name = study.task(name).ranks or name
    if name in study.own_tasks:
        full = count_train_rows(study, name)
    else:
        full = study.task(name).num_train
        if study.data.source == "synthetic":
            full = round(synthetic.LAYOUT[name]["train"] * study.data.scale)
        full -= round((study.data.holdout_fraction or 0) * full)
    return min(full, study.data.most_train(name) or full)


def count_updates(study: Study, names: Iterable[str], settings: Train) -> int:
    """Return the mini-batches of one training on these tasks: its updates, by Algorithm 1."""
    batches = sum(-(-num_train(study, name) // settings.batch_size) for name in names)
    return settings.epochs * batches
