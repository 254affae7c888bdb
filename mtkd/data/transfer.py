"""Data outside GLUE: SNLI (Bowman et al. 2015), to adapt models to and for texts beside the tasks'."""

import os

import datasets
import numpy as np

from mtkd.data import load
from mtkd.errors import UserError
from mtkd.tasks import SNLI

HUB = "stanfordnlp/snli"


def location(hub: str = HUB) -> str:
    """Hub id or directory of the data; the environment variable MTKD_TRANSFER goes before `hub`."""
    return os.environ.get("MTKD_TRANSFER") or hub


def snli(split: str, hub: str = HUB) -> datasets.Dataset:
    """A split of SNLI, checked: premise, hypothesis, label and idx, without the rows that have no gold label (-1).

    Raises `UserError` where the data cannot be had or used.
    """
    found = load.read(load.Place("SNLI", location(hub), "MTKD_TRANSFER", "adaptation.hub", HUB), SNLI)
    if split not in found:
        raise UserError(f"The data at {location(hub)} have no '{split}' split of SNLI (they have {', '.join(found)}): add it.")
    rows = load.check(SNLI, split, found[split], unlabelled=(split,))
    labelled = rows.select(np.flatnonzero(rows.data.column("label").to_numpy() != -1))
    return load.check(SNLI, split, labelled)
