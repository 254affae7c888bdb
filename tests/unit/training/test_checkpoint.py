"""A training's state in one file: resumed to the last bit, never taken for whole if damaged."""

import errno
import os
import random

import numpy as np
import pytest
import torch
from torch import nn

from mtkd.errors import UserError
from mtkd.training import checkpoint
from mtkd.training.checkpoint import load_checkpoint, resume, save_checkpoint


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


def build(kind=torch.optim.AdamW, width: int = 8) -> dict:
    torch.manual_seed(0)
    model = Tied(width)
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() == 1]},
    ]
    optimizer = kind(groups, lr=1e-2)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler}


def train(parts: dict, steps: int) -> list[float]:
    """Losses of some steps that draw from all three random generators."""
    losses = []
    for _ in range(steps):
        ids = torch.from_numpy(np.random.randint(0, 11, 16)).roll(random.randrange(16))
        loss = nn.functional.cross_entropy(parts["model"](ids), ids)
        loss.backward()
        parts["optimizer"].step()
        parts["scheduler"].step()
        parts["optimizer"].zero_grad()
        losses.append(loss.item())
    return losses


def state_of(parts: dict, **position) -> dict:
    return {name: part.state_dict() for name, part in parts.items()} | position


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.Adamax])
def test_an_interrupted_run_equals_an_uninterrupted_one_to_the_last_bit(tmp_path, kind):
    path, parts = tmp_path / "made" / "c.pt", build(kind)
    train(parts, 5)
    np.random.standard_normal()  # half of a pair is kept in NumPy's state
    position = {"step": 5, "log": [{"loss": 1 / 3, "task": "rte"}], "losses": {"rte": (0.1, 2)}}
    save_checkpoint(path, state_of(parts, **position))
    after = train(parts, 5), np.random.standard_normal()

    resumed = build(kind)
    train(resumed, 2)  # neither the weights nor the random states may depend on what was before
    assert resume(path, **resumed) == position
    assert resumed["model"].out.weight is resumed["model"].embed.weight
    assert (train(resumed, 5), np.random.standard_normal()) == after
    assert os.listdir(path.parent) == ["c.pt"]
    for left, right in zip(state_of(parts).values(), state_of(resumed).values(), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize("damage", ["cut", "flipped bit", "empty", "text"])
def test_a_damaged_file_is_ignored_with_a_warning(tmp_path, damage):
    path, parts = tmp_path / "c.pt", build()
    save_checkpoint(path, state_of(parts))
    data = path.read_bytes()
    weight = data.index(parts["model"].norm.bias.detach().numpy().tobytes())
    flipped = data[:weight] + bytes([data[weight] ^ 1]) + data[weight + 1 :]
    broken = {"cut": data[:-700], "flipped bit": flipped, "empty": b"", "text": b"no checkpoint"}
    path.write_bytes(broken[damage])
    with pytest.warns(UserWarning, match=r"c.pt: damaged checkpoint ignored"):
        assert resume(path, **build()) is None


def test_a_file_that_would_run_code_is_taken_for_damaged(tmp_path):
    torch.save({"model": os.system}, tmp_path / "c.pt")
    with pytest.warns(UserWarning, match="damaged"):
        assert load_checkpoint(tmp_path / "c.pt") is None


def test_no_file_is_none(tmp_path):
    assert load_checkpoint(tmp_path / "nowhere" / "c.pt") is None


@pytest.mark.parametrize("name", ["save", "fsync", "replace", "sync"])
def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path, monkeypatch, name):
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"step": 1})
    owner = {"save": torch, "fsync": os, "replace": os, "sync": checkpoint}[name]

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, name, killed)
        save_checkpoint(path, {"step": 2})
    assert load_checkpoint(path) == {"step": 2 if name == "sync" else 1}
    (tmp_path / "c.pt.part").write_bytes(b"half")  # what SIGKILL leaves behind
    save_checkpoint(path, {"step": 3})
    assert load_checkpoint(path) == {"step": 3} and os.listdir(tmp_path) == ["c.pt"]


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_a_full_disk_is_explained_and_the_checkpoint_before_stays(tmp_path, size):
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"step": 1})
    (tmp_path / "c.pt.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"No space is left .*c.pt: free some, or set MTKD_WORK"):
        save_checkpoint(path, {"step": 2, "weights": torch.zeros(size)})
    assert load_checkpoint(path) == {"step": 1} and os.listdir(tmp_path) == ["c.pt"]


def test_other_errors_of_the_disk_are_not_taken_for_a_full_one(tmp_path, monkeypatch):
    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(torch, "save", denied)
    with pytest.raises(PermissionError):
        save_checkpoint(tmp_path / "c.pt", {})


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    save_checkpoint(tmp_path / "c.pt", state_of(build()))
    with pytest.raises(UserError, match=r"c.pt is a checkpoint of another model or optimizer"):
        resume(tmp_path / "c.pt", **build(width=4))
