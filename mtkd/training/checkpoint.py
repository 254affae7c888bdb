"""The state of a training run on disk, so that a killed run goes on to the last bit: safetensors and JSON, no pickle.

A checkpoint folder holds up to two generations, `000041/` and `000042/`. A generation is written under a temporary
name, synced and renamed, and only then is the generation before the last removed: a kill at any moment leaves a valid
one. Each file's size and SHA-256 stand in the generation's `checkpoint.json`, which carries its own.
"""

import hashlib
import json
import random
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mtkd.artifacts import sync
from mtkd.errors import UserError, no_space

RECORD = "checkpoint.json"


def save(
    folder: Path, *, model: nn.Module, optimizer, scheduler, position: dict, log: list[dict] | dict
) -> None:
    """Write a new generation into `folder` (made if need be) and remove all but the one before it.

    Kept: the model's weights (tied ones once), the optimizer's and scheduler's state, the random states of Python,
    NumPy and torch (CPU and every GPU), and `position` and `log`, which must be plain JSON values.
    Raises UserError when the disk is full; the generations already there stay valid.
    """
    folder = Path(folder)
    weights, tied = _untied(model.state_dict())
    tensors, optimizer_state = _flatten(optimizer.state_dict())
    tensors |= _torch_random_state()
    name, key, cursor, has_gauss, gauss = np.random.get_state()
    content = {
        "tied": tied,
        "optimizer": optimizer_state,
        "scheduler": scheduler.state_dict(),
        "random": {
            "python": random.getstate(),
            "numpy": [name, key.tolist(), cursor, has_gauss, gauss],
        },
        "position": position,
        "log": log,
    }
    generations = _generations(folder)
    target = folder / f"{int(generations[-1].name) + 1 if generations else 1:06d}"
    temporary = folder / f"{target.name}.part"
    needed = sum(t.nbytes for t in (*weights.values(), *tensors.values()))
    with _full_disk_explained(folder, needed):
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.part"):
            shutil.rmtree(leftover)
        temporary.mkdir()
        save_file(weights, temporary / "model.safetensors")
        save_file(tensors, temporary / "state.safetensors")
        content["files"] = {path.name: _fingerprint(path) for path in sorted(temporary.iterdir())}
        record = {"sha256": _digest(content), "content": content}
        (temporary / RECORD).write_text(json.dumps(record), encoding="utf-8")
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        temporary.rename(target)
        sync(folder)
    for old in generations[:-1]:
        shutil.rmtree(old)


def load(
    folder: Path, *, model: nn.Module, optimizer, scheduler
) -> tuple[dict, list[dict] | dict] | None:
    """Restore the newest valid generation in place, bit for bit, and return its (position, log).

    None where there is no valid one. A truncated or changed generation is removed with a warning, and the one before
    it is taken. Raises UserError when the checkpoint is of another model or optimizer. Tuples in `position` and `log`
    come back as lists (JSON).
    """
    for generation in reversed(_generations(Path(folder))):
        content = _read_valid(generation)
        if content is None:
            warnings.warn(f"{generation}: damaged checkpoint removed", stacklevel=2)
            shutil.rmtree(generation)
            continue
        weights = load_file(generation / "model.safetensors")
        weights |= {name: weights[kept] for name, kept in content["tied"].items()}
        tensors = load_file(generation / "state.safetensors")
        try:
            model.load_state_dict(weights)
            optimizer.load_state_dict(_unflatten(tensors, content["optimizer"]))
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{generation}: this checkpoint is of another model or optimizer; delete {folder} to start anew."
            ) from error
        scheduler.load_state_dict(content["scheduler"])
        _restore_random_states(tensors, content["random"])
        return content["position"], content["log"]
    return None


def _generations(folder: Path) -> list[Path]:
    return sorted(
        (path for path in folder.glob("*") if path.name.isdigit()), key=lambda path: int(path.name)
    )


def _untied(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once, and the other names of those that share memory (safetensors refuses to store them twice)."""
    kept, tied, first_name = {}, {}, {}
    for name, tensor in state.items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and place in first_name:
            tied[name] = first_name[place]
        else:
            first_name[place] = name
            kept[name] = tensor.detach().cpu().contiguous()
    return kept, tied


def _flatten(state: dict) -> tuple[dict[str, Tensor], dict]:
    """An optimizer's state as tensors named "<parameter>.<name>" and the JSON values beside them."""
    tensors, scalars = {}, {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value.detach().cpu().contiguous()
            else:
                scalars[f"{index}.{name}"] = value
    return tensors, {"scalars": scalars, "param_groups": state["param_groups"]}


def _unflatten(tensors: dict[str, Tensor], saved: dict) -> dict:
    state: dict[int, dict] = {}
    for key, value in (tensors | saved["scalars"]).items():
        index, _, name = key.partition(".")
        if index.isdigit():
            state.setdefault(int(index), {})[name] = value
    groups = [
        {
            name: tuple(v) if isinstance(v, list) and name != "params" else v
            for name, v in group.items()
        }
        for group in saved["param_groups"]
    ]
    return {"state": state, "param_groups": groups}


def _torch_random_state() -> dict[str, Tensor]:
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {
            f"random.cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())
        }
    return states


def _restore_random_states(tensors: dict[str, Tensor], saved: dict) -> None:
    version, words, gauss = saved["python"]
    random.setstate((version, tuple(words), gauss))
    name, key, *rest = saved["numpy"]
    np.random.set_state((name, np.array(key, dtype=np.uint32), *rest))
    torch.set_rng_state(tensors["random.cpu"])
    for i in range(torch.cuda.device_count()):
        if f"random.cuda{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"random.cuda{i}"], i)


def _read_valid(generation: Path) -> dict | None:
    """The generation's content, or None when any byte of it is not as written."""
    try:
        record = json.loads((generation / RECORD).read_text(encoding="utf-8"))
        content = record["content"]
        good = record["sha256"] == _digest(content) and all(
            _fingerprint(generation / name) == saved for name, saved in content["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return content if good else None


def _digest(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _fingerprint(path: Path) -> list:
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]


@contextmanager
def _full_disk_explained(folder: Path, needed: int) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        if not no_space(error):
            raise
        for leftover in folder.glob("*.part"):
            shutil.rmtree(leftover, ignore_errors=True)
        raise UserError(
            f"{folder}: the disk is full; a checkpoint needs {needed / 1e6:.0f} MB free there. "
            "Free some space and start again: the run goes on from its last checkpoint."
        ) from error
