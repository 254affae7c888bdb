"""Unlabelled texts: who scores them, and what a student learns from them."""

from pathlib import Path

import datasets
import pandas as pd
import pytest
import torch
from helpers import levers_of

from mtkd import tasks
from mtkd.config.distillation import Unlabelled
from mtkd.config.study import check
from mtkd.data.dataset import Examples
from mtkd.errors import UserError
from mtkd.report.finding import finding
from mtkd.stages import ablation
from mtkd.stages import common as stages
from mtkd.stages import ensemble as voices
from mtkd.stages import inputs as encoders
from mtkd.workflow import jobs as plan


def snli(folder: Path, count: int = 30) -> Path:
    (folder / "snli").mkdir(parents=True)
    table = {
        "premise": [f"a man {number} sleeps" for number in range(count)],
        "hypothesis": [f"he {number} is awake" for number in range(count)],
        "label": [number % 4 - 1 for number in range(count)],
        "idx": range(count),
    }
    pd.DataFrame(table).to_parquet(folder / "snli" / "train-00000-of-00001.parquet")
    return folder


def test_texts_without_a_label_have_soft_targets_alone(work, tmp_path, monkeypatch):
    monkeypatch.setenv("MTKD_SNLI", str(snli(tmp_path)))
    given = {"snli": 12, "left_out_train": 7, "other_tasks": 9}
    more = {**given, "extra_updates": True}
    study = levers_of(
        same={"source": "unlabelled", "unlabelled": given},
        more={"source": "unlabelled", "unlabelled": more},
    )
    batches: dict[str, list] = {}
    batch, current = Examples.batch, []

    def watched(self, rows):
        found = batch(self, rows)
        if self.soft_targets is not None:
            batches.setdefault(current[0], []).append(found)
        return found

    monkeypatch.setattr(Examples, "batch", watched)
    for name in ("same", "more"):
        current[:] = [name]
        ablation.ablation(study, name, 0)
    current[:] = ["plain"]
    stages.student(study, 1)
    count = {name: len(found) for name, found in batches.items()}
    assert count == {"plain": 2 * 2, "same": 2 * 2, "more": 2 * 3}, (
        "40 and 28 more examples of each task with a teacher, in batches of 32"
    )
    unknown = sum(
        int((~found.label_mask).sum()) for found in batches["more"] if found.label_mask is not None
    )
    assert unknown == 2 * (12 + 7 + 9) and all(
        found.label_mask is None for found in batches["plain"]
    )
    for found in batches["more"]:
        if found.label_mask is not None:
            labels = found.labels[~found.label_mask]
            assert bool((labels.isnan() if found.task == "stsb" else labels == -1).all())
            assert bool(torch.isfinite(found.soft_targets).all())


def test_a_study_gives_its_student_texts_without_a_label_and_a_variant_leaves_them_out(work):
    """`distil.unlabelled` does what the variant does; `source: ensemble` leaves it out."""
    given = {"left_out_train": 20}
    elsewhere = levers_of(more={"source": "unlabelled", "unlabelled": given})
    study = check(
        {
            **elsewhere.model_dump(),
            "distil": {**elsewhere.distil.model_dump(), "unlabelled": given},
            "ablation": {"variants": {"alone": {"source": "ensemble"}, "warm": {"temperature": 2}}},
        }
    )
    seed_one = [
        found.frame("predictions.parquet")
        for found in (stages.student(study, 1), ablation.ablation(elsewhere, "more", 1))
    ]
    assert seed_one[0].equals(seed_one[1])
    plain = stages.student(elsewhere, 1).frame("predictions.parquet")
    assert ablation.ablation(study, "alone", 1).frame("predictions.parquet").equals(
        plain
    ) and not seed_one[0].equals(plain)
    assert study.ablation.variants["warm"].distil(
        study.distil, study.multitask
    ).unlabelled == Unlabelled(left_out_train=20)
    steps = {
        job.name: job.steps
        for job in plan.jobs(
            check(
                {
                    **study.model_dump(),
                    "distil": {
                        **study.distil.model_dump(),
                        "unlabelled": {"left_out_train": 20, "extra_updates": True},
                    },
                }
            )
        )
    }
    same = {job.name: job.steps for job in plan.jobs(study)}
    assert (
        steps["04_student.s1"] == same["04_student.s1"] + 2
        and steps["06_ablation.alone-s1"] == same["06_ablation.alone-s1"]
    )
    told = finding(stages.student(study, 1).frame("scores.csv"), distil=study.distil)
    assert "also on up to 20 examples that data.max_train leaves out a task (same updates)" in told


def test_a_task_without_further_texts_has_none_and_a_study_without_any_is_refused(
    work, monkeypatch
):
    read = voices.texts
    monkeypatch.setattr(
        voices,
        "texts",
        lambda study, task, *given: read(study, task, *given).select(
            [] if task.name in empty else range(5)
        ),
    )
    empty, study = (
        {"rte"},
        levers_of(x={"source": "unlabelled", "unlabelled": {"left_out_train": 6}}),
    )
    assert ablation.ablation(study, "x", 0).frame("scores.csv").value.notna().all()
    notes = [
        found.json("notes.json")
        for found in ablation.sources(study)
        if found.path.parent.name == "rest-6-keep-2" and "notes.json" in found.record["files"]
    ]
    assert notes == [["RTE: there is no text beside its train set (unlabelled)."]]
    empty, study = (
        {"rte", "stsb"},
        levers_of(x={"source": "unlabelled", "unlabelled": {"left_out_train": 8}}),
    )
    with pytest.raises(UserError, match="There is no text beside the train sets of RTE, STS-B"):
        ablation.ablation(study, "x", 0)


def test_a_text_has_no_more_word_pieces_than_the_encoder_has_places(work, monkeypatch):
    study = levers_of(x={"source": "unlabelled", "unlabelled": {"left_out_train": 5}})
    start = encoders.encoder(study, "uncased")
    _, most = encoders.reading(
        study.model_copy(update={"data": study.data.model_copy(update={"max_length": 10**6})}),
        start,
    )
    tokenizer, few = encoders.reading(study, start)
    assert few == study.data.max_length < most < 10**6
    monkeypatch.setattr(voices, "reading", lambda *given: (tokenizer, 9))
    found = stages.further(
        study.model_copy(
            update={"distil": ablation.changed(study, study.ablation.variants["x"]).distil}
        )
    )["rte"]
    assert datasets.Dataset.from_file(str(found.file("tokens.arrow"))).num_rows == 5
    assert (
        stages.texts_of(
            study, found, encoders.examples_of(study, "uncased", tasks.get("rte"), "train")
        ).lengths.max()
        <= 9
    )
