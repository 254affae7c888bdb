"""The levers' part of the report: differences paired by seed, figures that say what the table says."""

import numpy as np
import pandas as pd

from mtkd.config import study as studies
from mtkd.config.distillation import Variant
from mtkd.report.sections import ablation as report
from mtkd.report.significance import COLUMNS, Compared


def found_of(**over: dict) -> report.Found:
    """Two tasks, two seeds: MT-DNN at 60 and 62, MT-DNN_KD 2 above it, variants as told, ensembles of 3 and of 1 at 70 and 66."""
    rows = []
    for task in ("rte", "mrpc"):
        for seed, level in ((0, 60.0), (1, 62.0)):
            values = {
                "mt-dnn:mtl": level,
                "mt-dnn-kd:mtl": level + 2,
                "mt-dnn-kd:keep-1": level + 1,
                "mt-dnn-kd:loud": level + 3 + seed,
            }
            rows += [
                (system, task, "validation", "accuracy", value, seed)
                for system, value in values.items()
            ]
        rows += [
            (system, task, "validation", "accuracy", value, np.nan)
            for system, value in {"mt-dnn-ensemble": 70.0, "mt-dnn-ensemble:keep-1": 66.0}.items()
        ]
    frame = pd.DataFrame(rows, columns=["system", "task", "split", "metric", "value", "seed"])
    added = frame.system.isin(["mt-dnn-kd:keep-1", "mt-dnn-kd:loud", "mt-dnn-ensemble:keep-1"])
    spans = {("keep-1", "kd"): (-1.2, -0.8), ("loud", "kd"): (-0.5, 3.5), ("loud", ""): (1.5, 5.5)}
    compared = pd.DataFrame(
        [
            (f"mt-dnn-kd:{a}", f"mt-dnn{b and '-' + b}:mtl", "average", 0.0, *span, np.nan, 2, 9)
            for (a, b), span in spans.items()
        ],
        columns=COLUMNS,
    )
    given = dict(
        results=frame[~added],
        rows=frame[added],
        keep=3,
        tasks=["rte", "mrpc"],
        variants={"keep-1": Variant(ensemble_size=1), "loud": Variant(hard_weight=0.9)},
        compared=Compared(compared),
    )
    return report.Found(**{**given, **over})


def test_the_tables_differences_are_paired_by_seed():
    table = report.table(found_of()).frame.set_index("Student")
    assert (
        table.loc["MT-DNN_KD", "over MT-DNN"] == "+2.00"
        and table.loc["MT-DNN_KD", "over MT-DNN_KD"] == "–"
    )
    assert table.loc["keep-1", "over MT-DNN_KD"] == "−1.00 (−1.20 to −0.80)"
    assert table.loc["loud", "over MT-DNN_KD"] == "+1.50 (−0.50 to +3.50)"
    assert table.loc["loud", "over MT-DNN"] == "+3.50 (+1.50 to +5.50)"
    assert table.loc["loud", ["RTE", "MRPC", "Average", "Seeds"]].tolist() == [
        "64.5",
        "64.5",
        "64.5",
        "2",
    ]
    assert table.loc["loud", "What is changed"] == "weight of hard targets 0.9"


def test_a_variant_stands_beside_its_control():
    found = found_of(
        variants={
            "keep-1": Variant(ensemble_size=1),
            "loud": Variant(hard_weight=0.9, control="keep-1"),
        }
    )
    assert ("mt-dnn-kd:loud", "mt-dnn-kd:keep-1") in report.pairs(found)
    table = report.table(found).frame.set_index("Student")
    assert table.loc["loud", "over its control"] == "keep-1: +2.50"
    assert (
        table.loc["keep-1", "over its control"] == table.loc["MT-DNN_KD", "over its control"] == "–"
    )


def test_every_difference_shown_is_compared():
    found = found_of()
    assert set(report.pairs(found)) >= set(
        zip(found.compared.frame.a, found.compared.frame.b, strict=True)
    )
    assert ("mt-dnn:mtl", "mt-dnn-kd:mtl") in report.pairs(found) and report.pairs(None) == []


def test_the_figures_say_what_the_table_says():
    found = found_of()
    assert report.differences(found).get_label() == (
        "Points over MT-DNN_KD before fine-tuning. loud +1.50 (−0.50 to +3.50); keep-1 −1.00 (−1.20 to −0.80); "
        "MT-DNN (no soft targets) −2.00."
    )
    points = report.by_size(found).groupby(["system", "size"])["average"].mean()
    assert points.to_dict() == {
        ("ensemble", 1): 66.0,
        ("ensemble", 3): 70.0,
        ("student", 1): 62.0,
        ("student", 3): 63.0,
    }
    assert "members" in report.ensemble_size(found).get_axes()[0].get_xlabel()
    one = found_of(
        variants={"loud": Variant(hard_weight=0.9)},
        rows=found.rows[found.rows.system == "mt-dnn-kd:loud"],
    )
    assert (
        set(report.write_figures(found)) - set(report.write_figures(one)) == {"ensemble_size"}
        and len(report.part(one).pieces) == 2
    )


def test_what_has_more_seeds_than_the_variants_is_shown_on_theirs_too():
    found = found_of()
    assert not any("same seeds" in note for note in report.table(found).notes)
    fewer = found_of(rows=found.rows[found.rows.seed != 1])
    assert (
        "Not all rows have the same seeds. Over the 1 that all have: MT-DNN 60.0, MT-DNN_KD 62.0."
        in report.table(fewer).notes
    )
    points = report.by_size(fewer)
    assert points[points.system == "student"][["size", "average"]].values.tolist() == [
        [1, 61.0],
        [3, 62.0],
    ]
    assert "MT-DNN, before fine-tuning: 60.0" in report.ensemble_size(fewer).get_label()


def test_a_study_without_an_ablation_shows_nothing():
    assert (
        report.write_tables(None) == []
        and report.write_figures(None) == {}
        and report.part(None)._repr_html_() == ""
    )
    assert "<h2" in report.part(found_of())._repr_html_()


def test_every_variant_has_its_words():
    study = studies.load("laptop")
    told = {name: report.words(variant) for name, variant in study.ablation.variants.items()}
    assert all(told.values()) and len(set(told.values())) == len(told)
    for name in told:
        assert told[name] in report.settings(study, name).caption
