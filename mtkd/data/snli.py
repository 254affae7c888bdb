"""Data outside GLUE: SNLI (Bowman et al. 2015), to adapt models to and for texts beside the tasks'."""

import os
from collections.abc import Iterable

import datasets
import numpy as np

from mtkd.config.study import Study
from mtkd.data import glue as load
from mtkd.errors import UserError
from mtkd.tasks import SNLI

HUB = "stanfordnlp/snli"


def location(hub: str = HUB) -> str:
    """Hub id or directory of the data; the environment variable MTKD_SNLI goes before `hub`."""
    return os.environ.get("MTKD_SNLI") or hub


def wanted(study: Study) -> dict[str, str]:
    """What of a study needs SNLI, a field that may be null, and from which hub id or directory: field -> place."""
    places = {"adaptation": study.adaptation.hub} if study.adaptation else {}
    levers = {"distil.unlabelled": study.distil}
    if study.ablation:
        levers |= {
            f"ablation.variants.{name}": variant
            for name, variant in study.ablation.variants.items()
        }
    places |= {
        field: HUB for field, lever in levers.items() if lever.unlabelled and lever.unlabelled.snli
    }
    return {field: location(hub) for field, hub in places.items()}


def without(fields: Iterable[str]) -> str:
    """How a study does without what needs SNLI."""
    return f"leave out what needs it by {' '.join(f'--set {field}=null' for field in fields)}"


def check_there(study: Study) -> None:
    """Raises `UserError` where a study needs SNLI and it cannot be had: before the first stage, not hours later."""
    places = wanted(study)
    for place in sorted(set(places.values())):
        try:
            _splits(place)
        except UserError as error:
            raise UserError(f"{error} Or {without(places)}.") from None


def _splits(place: str) -> dict[str, datasets.Dataset]:
    return load.read(load.Place("SNLI", place, "MTKD_SNLI", "adaptation.hub", HUB), SNLI)


def snli(split: str, hub: str = HUB) -> datasets.Dataset:
    """A split of SNLI, checked: premise, hypothesis, label and idx, without the rows that have no gold label (-1).

    Raises `UserError` where the data cannot be had or used.
    """
    found = _splits(location(hub))
    if split not in found:
        raise UserError(
            f"The data at {location(hub)} have no '{split}' split of SNLI (they have {', '.join(found)}): add it."
        )
    rows = load.check(SNLI, split, found[split], unlabelled=(split,))
    labelled = rows.select(np.flatnonzero(rows.data.column("label").to_numpy() != -1))
    return load.check(SNLI, split, labelled)
