"""SNLI (Bowman et al. 2015), from a directory in the hub's layout: text from outside GLUE."""

import os
from pathlib import Path

import datasets

from mtkd.artifacts import file_hash
from mtkd.errors import UserError


def files(split: str) -> list[Path]:
    """The split's Parquet files under MTKD_TRANSFER; `UserError` where there are none."""
    folder = Path(os.environ.get("MTKD_TRANSFER", ""))
    found = sorted((folder / "snli").glob(f"{split}-*.parquet")) if folder.parts else []
    if not found:
        raise UserError(f"SNLI's {split} set is not there ({folder / 'snli' if folder.parts else 'MTKD_TRANSFER is not set'}): set "
                        f"MTKD_TRANSFER to a directory that holds snli/{split}-*.parquet.")
    return found


def origin(split: str) -> list[str]:
    """What identifies the split: SHA-256 of its files."""
    return [file_hash(path) for path in files(split)]


def snli(split: str) -> datasets.Dataset:
    """premise, hypothesis, label (entailment, neutral, contradiction), idx; pairs whose annotators did not agree (-1) are left out."""
    found = datasets.Dataset.from_parquet([str(path) for path in files(split)], keep_in_memory=True)
    return found.select_columns(["premise", "hypothesis", "label", "idx"]).filter(lambda label: label >= 0, input_columns="label",
                                                                                  keep_in_memory=True)  # fmt: skip
