import errno
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mtkd.errors import UserError
from mtkd.training import checkpoint as checkpoints


class Tied(nn.Module):
    """A net with dropout, tied weights, and buffers (BatchNorm)."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.embed = nn.Embedding(11, width)
        self.drop = nn.Dropout(0.3)
        self.norm = nn.BatchNorm1d(width)
        self.out = nn.Linear(width, 11)
        self.out.weight = self.embed.weight

    def forward(self, ids):
        return self.out(self.norm(self.drop(self.embed(ids))))


def build(kind=torch.optim.AdamW, width: int = 8):
    torch.manual_seed(0)
    model = Tied(width)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() == 1]},
    ]
    optimizer = kind(groups, lr=1e-2)
    return {
        "model": model,
        "optimizer": optimizer,
        "scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    }


def train(state, steps: int) -> list[float]:
    """Losses of some steps that draw from all three random generators."""
    losses = []
    for _ in range(steps):
        ids = torch.from_numpy(np.random.randint(0, 11, 16)).roll(random.randrange(16))
        loss = nn.functional.cross_entropy(state["model"](ids), ids)
        loss.backward()
        state["optimizer"].step()
        state["scheduler"].step()
        state["optimizer"].zero_grad()
        losses.append(loss.item())
    return losses


def flip_a_bit(data: bytes) -> bytes:
    return data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]


def assert_same(a, b):
    for (name, x), y in zip(
        a["model"].state_dict().items(), b["model"].state_dict().values(), strict=True
    ):
        assert x.dtype == y.dtype and torch.equal(x, y), name
    left, right = a["optimizer"].state_dict(), b["optimizer"].state_dict()
    assert left["param_groups"] == right["param_groups"]
    for index, entries in left["state"].items():
        for name, x in entries.items():
            assert x.dtype == right["state"][index][name].dtype and torch.equal(
                x, right["state"][index][name]
            ), name
    assert a["scheduler"].state_dict() == b["scheduler"].state_dict()


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adamax])
def test_an_interrupted_run_equals_an_uninterrupted_one_to_the_last_bit(tmp_path, kind):
    state = build(kind)
    train(state, 5)
    checkpoints.save(tmp_path, **state, position={"step": 5, "lr": 0.1}, log=[{"loss": 1 / 3}])
    after = train(state, 5)

    resumed = build(kind)
    train(resumed, 2)  # neither the weights nor the random states may depend on what was before
    assert checkpoints.load(tmp_path, **resumed) == ({"step": 5, "lr": 0.1}, [{"loss": 1 / 3}])
    assert resumed["model"].out.weight is resumed["model"].embed.weight
    assert train(resumed, 5) == after
    assert_same(state, resumed)


def test_two_generations_are_kept_and_no_other_files(tmp_path):
    state = build()
    (tmp_path / "000001.part").mkdir()  # what a kill while writing leaves behind
    for step in range(4):
        checkpoints.save(tmp_path, **state, position={"step": step}, log={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000003", "000004"]
    assert {path.suffix for path in tmp_path.glob("*/*")} == {".json", ".safetensors"}


@pytest.mark.parametrize("file", ["model.safetensors", "state.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("damage", [lambda data: data[:-7], flip_a_bit, None])
def test_a_damaged_generation_gives_way_to_the_older_one(tmp_path, file, damage):
    state = build()
    train(state, 1)
    for step in (1, 2):
        checkpoints.save(tmp_path, **state, position={"step": step}, log={})
    path = tmp_path / "000002" / file
    if damage:
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    with pytest.warns(UserWarning, match="damaged"):
        position, _ = checkpoints.load(tmp_path, **build())
    assert position == {"step": 1}


@pytest.mark.parametrize("call", range(12))
def test_a_kill_at_any_moment_leaves_a_valid_checkpoint(tmp_path, monkeypatch, call):
    state = build()
    for step in (1, 2):
        checkpoints.save(tmp_path, **state, position={"step": step}, log={})
    calls = 0

    def killed_at(function):
        def wrapper(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == call:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return wrapper

    with monkeypatch.context() as patch:
        for owner, name in (
            (checkpoints, "save_file"),
            (checkpoints, "_fingerprint"),
            (checkpoints, "sync"),
            (checkpoints.shutil, "rmtree"),
            (Path, "rename"),
            (Path, "write_text"),
        ):
            patch.setattr(owner, name, killed_at(getattr(owner, name)))
        try:
            checkpoints.save(tmp_path, **state, position={"step": 3}, log={})
        except KeyboardInterrupt:
            assert calls == call
        else:
            assert call == 0
    reached = checkpoints.load(tmp_path, **build())[0]["step"]
    assert reached == (2 if 1 <= call <= 10 else 3)
    checkpoints.save(tmp_path, **state, position={"step": 4}, log={})
    assert len(list(tmp_path.iterdir())) == 2


def test_no_checkpoint_and_only_a_damaged_one_are_none(tmp_path):
    assert checkpoints.load(tmp_path / "nowhere", **build()) is None
    checkpoints.save(tmp_path, **build(), position={}, log={})
    (tmp_path / "000001" / "model.safetensors").write_bytes(b"")
    before = build()
    with pytest.warns(UserWarning, match="damaged"):
        assert checkpoints.load(tmp_path, **before) is None
    assert_same(before, build())


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        checkpoints.SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_explained_and_the_older_checkpoint_stays(tmp_path, monkeypatch, error):
    state = build()
    checkpoints.save(tmp_path, **state, position={"step": 1}, log={})

    def full(tensors, path):
        path.write_bytes(b"half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", full)
        with pytest.raises(UserError, match=rf"{re.escape(str(tmp_path))}: the disk is full.* MB"):
            checkpoints.save(tmp_path, **state, position={"step": 2}, log={})
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]
    assert checkpoints.load(tmp_path, **state)[0] == {"step": 1}


def test_other_errors_of_the_disk_are_not_taken_for_a_full_one(tmp_path, monkeypatch):
    def denied(tensors, path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(checkpoints, "save_file", denied)
    with pytest.raises(PermissionError):
        checkpoints.save(tmp_path, **build(), position={}, log={})


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    checkpoints.save(tmp_path, **build(), position={}, log={})
    with pytest.raises(UserError, match="another model"):
        checkpoints.load(tmp_path, **build(width=4))


def test_nothing_is_pickled(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("pickle")

    for target in (
        "torch.save",
        "torch.load",
        "pickle.dump",
        "pickle.dumps",
        "pickle.load",
        "pickle.loads",
    ):
        monkeypatch.setattr(target, refuse)
    state = build()
    checkpoints.save(tmp_path, **state, position={}, log={})
    checkpoints.load(tmp_path, **state)
    assert not re.search(
        r"import pickle|torch\.(save|load)\b", Path(checkpoints.__file__).read_text()
    )
