"""The state of a training in one file, so that a killed run continues to the last bit."""

import os
import random
import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch

from mtkd.artifacts import sync
from mtkd.errors import UserError, explain_full_disk


def save_checkpoint(path: Path, state: dict) -> None:
    """Write `state` and the random states of Python, NumPy and torch, in place of the file before.

    A kill or a full disk (`UserError`) at any moment leaves the old file or the new one, whole.

    Args:
        path: of the file; its folder is made if need be.
        state: tensors and plain Python values, nested (`state_dict()`s, a position, a log).
    """
    kind, keys, *position = np.random.get_state()
    randomness = {
        "python": random.getstate(),
        "numpy": (kind, keys.tolist(), *position),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    temporary = path.with_name(f"{path.name}.part")
    try:
        with explain_full_disk(path, "MTKD_WORK"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(state | {"random": randomness}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict | None:
    """Return what `save_checkpoint` was given, on the CPU, and restore the random states.

    None where there is no file, and with a warning where it is damaged.
    """
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()  # torch does not compare the checksums
        state = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # zipfile, torch and pickle each raise several kinds
        state = None
    if state is None:
        warnings.warn(f"{path}: damaged checkpoint ignored, training starts anew", stacklevel=2)
        return None
    randomness = state.pop("random")
    random.setstate(randomness["python"])
    kind, keys, *position = randomness["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *position))
    torch.set_rng_state(randomness["torch"])
    for device in range(min(torch.cuda.device_count(), len(randomness["cuda"]))):
        torch.cuda.set_rng_state(randomness["cuda"][device], device)
    return state


def resume(path: Path, **parts) -> dict | None:
    """Load a checkpoint into a model, optimizer and scheduler in place, and return the rest of it.

    `parts` have the names that their `state_dict()`s have in the file. Raises `UserError` where the
    checkpoint is of another model or optimizer; None as from `load_checkpoint`.
    """
    state = load_checkpoint(path)
    if state is not None:
        try:
            for name, part in parts.items():
                part.load_state_dict(state.pop(name))
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{path} is a checkpoint of another model or optimizer: delete it to start anew."
            ) from error
    return state
