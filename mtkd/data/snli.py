"""SNLI (Bowman et al. 2015, arXiv:1508.05326), for adaptation and for unlabelled texts."""

import os

import datasets
import numpy as np

from mtkd.config.study import Study
from mtkd.data.checks import check_split
from mtkd.data.glue import read_splits
from mtkd.errors import UserError
from mtkd.tasks import SNLI

HUB = "stanfordnlp/snli"


def snli_location(hub: str = HUB) -> str:
    """Return the hub id or directory of SNLI: MTKD_SNLI, or else `hub`."""
    return os.environ.get("MTKD_SNLI") or hub


def load_snli(split: str, hub: str = HUB) -> datasets.Dataset:
    """Read a split of SNLI, without the rows that have no gold label (-1).

    Returns:
        Columns premise, hypothesis, label and idx.

    Raises:
        UserError: The data are unavailable or unusable.
    """
    where = snli_location(hub)
    splits = read_splits(where, SNLI, "MTKD_SNLI")
    if split not in splits:
        raise UserError(f"The data at {where} have no '{split}' split of SNLI: add it.")
    rows = check_split(SNLI, split, splits[split], unlabelled=(split,))
    labelled = np.flatnonzero(rows.data.column("label").to_numpy() != -1)
    return check_split(SNLI, split, rows.select(labelled))


def snli_settings(study: Study) -> dict[str, str]:
    """Return the settings that need SNLI, each with the hub id or directory it is read from."""
    hubs = {"adaptation": study.adaptation.hub} if study.adaptation else {}
    sections = {"distil": study.distil}
    for name, variant in study.ablation.variants.items() if study.ablation else ():
        sections[f"ablation.variants.{name}"] = variant
    for name, section in sections.items():
        if section.unlabelled and section.unlabelled.snli:
            hubs["distil.unlabelled" if name == "distil" else name] = HUB
    return {setting: snli_location(hub) for setting, hub in hubs.items()}


def check_snli(study: Study) -> None:
    """Raise `UserError` where a study needs SNLI and it is unavailable: before its first stage."""
    needed = snli_settings(study)
    for where in sorted(set(needed.values())):
        try:
            read_splits(where, SNLI, "MTKD_SNLI")
        except UserError as error:
            without = " ".join(f"--set {setting}=null" for setting in needed)
            raise UserError(f"{error} Or leave out what needs it: {without}.") from None
