"""Adaptation with few labels: the shares of SNLI, the same start and examples for all systems, the stage and the report."""

import itertools
import json
import os
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import mirror, rows

from mtkd.config import study as studies
from mtkd.data import snli as transfer
from mtkd.errors import UserError
from mtkd.report import html as pages
from mtkd.report.sections import adaptation as report
from mtkd.stages import adaptation
from mtkd.stages import common as stages
from mtkd.stages import report as summary
from mtkd.stages.inputs import encoder, new_model
from mtkd.tasks import SNLI
from mtkd.workflow import jobs as plan
from mtkd.workflow import notebook as notebooks

TINY = Path(__file__).parent / "studies" / "tiny.yaml"
SECTION = "adaptation={fractions: [0.01, 0.1, 1.0], seeds: [0], max_train: 100, max_dev: 40, min_updates: 5}"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A work folder that this module's tests share, and made-up rows in SNLI's layout."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("work")
        for name in [name for name in os.environ if name.startswith("MTKD_")]:
            patch.delenv(name)
        patch.setenv("MTKD_WORK", str(folder / "artifacts"))
        patch.setenv("MTKD_REPORTS", str(folder / "reports"))
        splits = {"train": rows(SNLI, 120, seed=1), "validation": rows(SNLI, 50, seed=2)}
        patch.setenv("MTKD_SNLI", str(mirror(folder / "transfer", SNLI, splits)))
        yield folder


def tiny(*overrides: str) -> studies.Study:
    few = [
        "tasks=[rte, mrpc]",
        "exclude_from_multitask=[]",
        "candidates={dropouts: [0.1], ensemble_size: 1, select_on: [rte]}",
        "distil.teachers=[rte]",
    ]
    return studies.load(TINY, ["train.epochs=1", "mkd=null", *few, SECTION, *overrides])


def test_a_share_is_within_every_larger_one_and_another_seed_draws_others():
    parts = [adaptation.subset(1000, share, 3) for share in (0.0001, 0.01, 0.1, 1.0)]
    assert [len(part) for part in parts] == [1, 10, 100, 1000]
    for small, large in itertools.pairwise(parts):
        assert set(small) < set(large)
    assert (parts[-1] == np.arange(1000)).all() and (np.diff(parts[2]) > 0).all()
    assert set(parts[1]) != set(adaptation.subset(1000, 0.01, 4))


def test_rows_without_a_gold_label_are_left_out_and_the_rest_keep_their_numbers(
    tmp_path, monkeypatch
):
    unlabelled = rows(SNLI, 7).remove_columns("idx").cast_column("label", datasets.Value("int64"))
    unlabelled = unlabelled.map(
        lambda row, place: {"label": -1 if place in (1, 4) else row["label"]}, with_indices=True
    )
    monkeypatch.setenv("MTKD_SNLI", str(mirror(tmp_path, SNLI, {"train": unlabelled})))
    found = transfer.snli("train")
    assert found.column_names == ["premise", "hypothesis", "label", "idx"]
    assert found["idx"][:] == [0, 2, 3, 5, 6] and found["label"][:] == [0, 2, 0, 2, 0]
    with pytest.raises(UserError, match="no 'validation' split of SNLI \\(they have train\\)"):
        transfer.snli("validation")


def test_a_missing_directory_and_another_s_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("MTKD_SNLI", str(tmp_path / "nowhere"))
    with pytest.raises(
        UserError,
        match=r"There is no directory .*nowhere: set MTKD_SNLI \(or the study's adaptation\.hub\)",
    ):
        transfer.snli("train")
    monkeypatch.setenv("MTKD_SNLI", str(tmp_path))
    with pytest.raises(
        UserError,
        match=r"not a SNLI directory: it has no snli/train-\*\.parquet. Give MTKD_SNLI a copy",
    ):
        transfer.snli("train")


def test_the_settings_are_checked():
    for change, words in {
        "seeds: [7]": "adaptation.seeds: 7 is not one of the study's seeds (0, 1)",
        "fractions: [0.1, 0.1]": "adaptation.fractions: a value stands twice",
        "fractions: [0]": "greater than 0",
        "share: [1]": "unknown field 'adaptation.share'; known there: hub, shares",
        "train: {epoch: 1}": "unknown field 'adaptation.train.epoch'; known there: learning_rate, batch_size, epochs",
    }.items():
        with pytest.raises(UserError) as error:
            studies.load(TINY, [f"adaptation={{{change}}}"])
        assert words in str(error.value)
    with pytest.raises(
        UserError, match="Study quick adapts nothing to SNLI: give it a section adaptation"
    ):
        adaptation.adaptation(studies.load("quick"), "bert", 0)


def test_small_shares_have_as_many_updates_as_are_asked_for():
    study = tiny("adaptation.train={epochs: 2, batch_size: 8}", "adaptation.min_updates=20")
    epochs = {
        size: plan.adaptation_training(study, size).epochs for size in (1, 8, 9, 80, 81, 1000)
    }
    assert epochs == {1: 20, 8: 20, 9: 10, 80: 2, 81: 2, 1000: 2}
    assert (
        plan.adaptation_training(study, 9).batch_size == 8
        and not plan.adaptation_training(study, 9).score_every_epoch
    )
    assert plan.adaptation_training(tiny("finetune.learning_rate=0.5"), 9).learning_rate == 0.5
    steps = [job.steps for job in plan.jobs(study) if job.notebook == "06_adaptation"]
    assert steps == [20 + 2 * 10 + 2 * 13] * 3  # 1, 10 and 100 examples by three systems


def test_all_systems_start_with_the_same_head_on_the_same_batches(work, monkeypatch):
    study, seen = tiny(), {}

    def look(model, train_sets, dev_sets, test_sets, settings, seed, out, inputs, system, **_):
        (examples,) = train_sets.values()
        assert list(train_sets) == ["snli"] and len(dev_sets[0][1]) == 40
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        seen[system, len(examples)] = (examples.idx.tolist(), weights, settings)
        pd.DataFrame([{"task": "snli"}]).to_csv(out / "scores.csv", index=False)

    monkeypatch.setattr(adaptation, "fit", look)
    monkeypatch.setenv("MTKD_WORK", str(work / "artifacts"))
    monkeypatch.setattr(adaptation, "folder", lambda study, *parts: work / "looked" / Path(*parts))
    for system in plan.SYSTEMS:
        adaptation.adaptation(study, system, 0)
    assert {size for _, size in seen} == {1, 10, 100} and len(seen) == 9
    for size in (1, 10, 100):
        first, weights, settings = seen["bert", size]
        for system in ("mt-dnn", "mt-dnn-kd"):
            other, its, its_settings = seen[system, size]
            assert other == first and its_settings == settings
            assert torch.equal(its["heads.snli.weight"], weights["heads.snli.weight"])
    assert set(seen["bert", 1][0]) < set(seen["bert", 10][0]) < set(seen["bert", 100][0])
    parents = {
        "mt-dnn": stages.mtdnn(study, "uncased", 0.1, 0),
        "mt-dnn-kd": stages.student(study, 0),
    }
    for system, parent in parents.items():
        model = new_model(
            study, encoder(study, "uncased"), list(map(study.task, study.multitask)), 0.0
        )
        model.load(parent.file("model.safetensors"))
        for name, value in model.encoder.state_dict().items():
            assert torch.equal(value, seen[system, 10][1][f"encoder.{name}"]), (system, name)
    assert not torch.equal(
        *(
            seen[system, 10][1]["encoder.model.encoder.layer.0.output.dense.weight"]
            for system in ("bert", "mt-dnn")
        )
    )


def test_the_stage_scores_every_share_and_is_not_done_again(work, monkeypatch):
    study = tiny()
    done = adaptation.adaptation(study, "mt-dnn", 0)
    table = adaptation.scores(done)
    assert (
        list(table.share) == [0.01, 0.1, 1.0]
        and list(table.examples) == [1, 10, 100]
        and list(table.updates) == [5, 5, 8]
    )
    assert (
        set(table.task) == {"snli"} and set(table.split) == {"validation"} and set(table.n) == {40}
    )
    assert table.value.between(0, 100).all() and set(table.system) == {"mt-dnn"}
    assert "model.safetensors" not in done[0].record["files"]
    monkeypatch.setattr(adaptation, "fit", None)
    assert [run.fingerprint for run in adaptation.adaptation(study, "mt-dnn", 0)] == [
        run.fingerprint for run in done
    ]
    with pytest.raises(
        UserError, match="no system 'mkd' to fine-tune: the systems are bert, mt-dnn, mt-dnn-kd"
    ):
        adaptation.adaptation(study, "mkd", 0)


def made(gain: float, seeds: int = 3, spread: float = 0.0) -> pd.DataFrame:
    """Scores in which MT-DNN is `gain` above BERT on the shares below the whole, `spread` by seed, and MT-DNN_KD as good as BERT."""
    found = []
    for seed in range(seeds):
        for share, size in ((0.01, 10), (0.1, 100), (1.0, 1000)):
            for system in plan.SYSTEMS:
                value = (
                    40
                    + 10 * share
                    + seed
                    + ((gain + spread * (seed - 1)) if system == "mt-dnn" and share < 1 else 0)
                )
                found.append(
                    [
                        "t",
                        system,
                        "snli",
                        share,
                        size,
                        50,
                        "validation",
                        "accuracy",
                        value,
                        seed,
                        200,
                        4e6,
                        9.0,
                    ]
                )
    return pd.DataFrame(found, columns=adaptation.COLUMNS)


@pytest.mark.parametrize(
    ("gain", "seeds", "spread", "words"),
    [
        (
            2.0,
            3,
            0.1,
            "**With few labels MT-DNN adapts better than BERT: +2.0 (+1.8 to +2.2) points on average over the shares",
        ),
        (
            1.0,
            3,
            2.0,
            "**With few labels MT-DNN does not measurably adapt better than BERT: +1.0 (−4.0 to +6.0) points",
        ),
        (
            -2.0,
            3,
            0.1,
            "**With few labels MT-DNN does not adapt better than BERT: −2.0 (−2.2 to −1.8) points",
        ),
        (
            2.0,
            1,
            0.0,
            "**With few labels MT-DNN adapts better than BERT in this run (one seed: chance is not ruled out): +2.0 points",
        ),
    ],
)
def test_the_finding_is_computed(gain, seeds, spread, words):
    text = report.finding(made(gain, seeds, spread))
    assert (
        words in text
        and "with 10, " in text
        and "0.0" in text.partition("with 100, ")[2].partition("with 1,000")[0]
    )
    assert "**With few labels MT-DNN_KD does not adapt better than BERT: 0.0" in text


def test_gains_are_paired_by_seed():
    found = made(2.0, spread=1.0)
    gains = report.gains(found, "mt-dnn")
    assert list(gains.index) == [10, 100, 1000, 0] and gains.gain.tolist() == pytest.approx(
        [2, 2, 0, 2]
    )
    reach = 4.302653 / 3**0.5  # of the t distribution with two degrees of freedom, deviation 1
    assert gains.loc[10, ["low", "high"]].tolist() == pytest.approx(
        [2 - reach, 2 + reach], abs=1e-5
    )
    one_more = pd.concat(
        [found, found[(found.seed == 0) & (found.system == "mt-dnn")].assign(seed=9, value=99)]
    )
    assert report.gains(one_more, "mt-dnn").loc[10, "gain"] == pytest.approx(2)
    assert not len(report.gains(found[found.system != "bert"], "mt-dnn"))


def test_the_reports_part():
    table = report.table(made(2.0, spread=0.1))
    assert list(table.frame.columns) == ["System", "1 % (10)", "10 % (100)", "100 % (1,000)"]
    assert list(table.frame["System"]) == [
        "BERT",
        "MT-DNN",
        "MT-DNN_KD",
        "MT-DNN − BERT",
        "MT-DNN_KD − BERT",
    ] and table.divide == (3,)
    assert (
        table.frame["1 % (10)"].tolist()[:2] == ["41.1 ± 1.0", "43.1 ± 1.1"]
        and "1,000 of SNLI's 549,367" in table.notes[-1]
    )
    label = report.curve(made(2.0)).get_label()
    assert "BERT 41.1 with 10, 42.0 with 100, 51.0 with 1,000; MT-DNN 43.1 with 10" in label
    assert (
        "Nothing was adapted" in report.curve(None).get_label()
        and report.part(None)._repr_html_() == ""
    )
    shown = report.part(made(2.0))._repr_html_()
    assert (
        "<h2>Adaptation with few labels</h2>" in shown
        and "<strong>With few labels MT-DNN adapts better" in shown
        and "**" not in shown
    )
    assert report.write_tables(None) == [] and report.write_figures(None) == {}


def test_the_notebook_runs_in_a_tiny_study_and_its_page_shows_the_loss(work, tmp_path):
    overrides = [
        "train.epochs=1",
        "tasks=[rte, mrpc]",
        "exclude_from_multitask=[]",
        "candidates={dropouts: [0.1], ensemble_size: 1, select_on: [rte]}",
        "distil.teachers=[rte]",
        "mkd=null",
        SECTION,
    ]
    given = {"study": str(TINY), "overrides": "; ".join(overrides), "system": "mt-dnn", "seed": 0}
    (tmp_path / "notebooks").mkdir()
    notebooks.run(
        "06_adaptation",
        tmp_path / "notebooks" / "06_adaptation.mt-dnn-s0.ipynb",
        given,
        tmp_path / "log",
    )
    cells = json.loads((tmp_path / "notebooks" / "06_adaptation.mt-dnn-s0.ipynb").read_text())[
        "cells"
    ]
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    (page,) = pages.all_pages(tmp_path)
    assert (
        'alt="Train loss by epoch' in page.read_text()
        and "Adaptation with few labels · mt-dnn-s0" in page.read_text()
    )


def test_the_report_has_adaptation_beside_the_results_and_not_among_them(work):
    study = tiny("seeds=[0]")
    found = summary.report(study)
    assert "snli" not in set(found.results["task"]) and len(found.adaptation) == 9
    written = pd.read_csv(found.folder / "adaptation.csv")
    assert list(written.columns) == adaptation.COLUMNS and set(written.system) == set(plan.SYSTEMS)
    assert (found.folder / "figures" / "adaptation.png").stat().st_size
    assert "| MT-DNN_KD |" in (found.folder / "tables" / "adaptation.md").read_text()
    assert (
        "With few labels" in (found.folder / "finding.md").read_text()
        and found.run["seconds"]["adaptation"] > 0
    )
