"""Folders and data that the tests of stages share."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers import mirror, rows
from integration.stages.small import ADAPTATION, ASSISTED, MKD, overrides

from mtkd.tasks import SNLI


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """A work folder that all tests of stages share, with rows in SNLI's layout (MTKD_SNLI)."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("work")
        for name in [name for name in os.environ if name.startswith("MTKD_")]:
            patch.delenv(name)
        patch.setenv("MTKD_WORK", str(folder / "artifacts"))
        patch.setenv("MTKD_REPORTS", str(folder / "reports"))
        splits = {"train": rows(SNLI, 120, seed=1), "validation": rows(SNLI, 50, seed=2)}
        patch.setenv("MTKD_SNLI", str(mirror(folder / "snli", SNLI, splits)))
        yield folder


def _write_candidates(path: Path, questions: int, seed: int) -> str:
    """Write questions with one to three candidates, the right one marked by its text."""
    random, lines = np.random.default_rng(seed), []
    for number in range(questions):
        count = 1 if number % 5 == 4 else int(random.integers(2, 4))
        right = int(random.integers(count))
        for position in range(count):
            marker = "river sees" if position == right else "house hears"
            query, text = f"small bird {seed} {number}", f"the old {marker} dog {position}"
            lines.append({"query": query, "text": text, "label": int(position == right)})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture(scope="session")
def ranking_task(work) -> list[str]:
    """Overrides that add a custom task of candidates, which is ranked."""
    train = _write_candidates(work / "train.jsonl", 60, seed=0)
    dev = _write_candidates(work / "dev.jsonl", 20, seed=1)
    task = {"type": "ranking", "train": train, "dev": dev, "columns": ["query", "text"]}
    return [
        f"own_tasks={{answers: {json.dumps(task)}}}",
        "tasks=[rte, stsb, mrpc, answers]",
        "ranking=[answers]",
    ]


@pytest.fixture(scope="session")
def every_stage(ranking_task) -> list[str]:
    """Settings of a study that has all stages, and every source of soft targets."""
    self_distillation = {"source": "self_distillation"}
    return overrides(
        *("name=whole", "seeds=[0, 1]", *ranking_task, MKD, ASSISTED, ADAPTATION),
        kl={"loss": "kl"},
        texts={"source": "unlabelled", "unlabelled": {"other_tasks": 9}},
        folds={"source": "cross_fit", "folds": 2},
        self_1={**self_distillation, "generations": 1},
        self_2={**self_distillation, "generations": 2},
    )
