"""The ablation's section: differences are paired by seed, figures agree with the table."""

import numpy as np
import pandas as pd
import pytest

from mtkd.config.distillation import Unlabelled, Variant
from mtkd.report.sections.ablation import (
    AblationResults,
    by_ensemble_size,
    describe,
    describe_unlabelled,
    differences,
    ensemble_size,
)
from mtkd.report.significance import COLUMNS, Compared

VARIANTS = {"keep-1": Variant(ensemble_size=1), "loud": Variant(hard_weight=0.9)}


def section(**over) -> AblationResults:
    """Return two tasks and two seeds.

    MT-DNN is at 60 and 62, MT-DNN_KD 2 above it, its variants 1 and 3 to 4 above it; ensembles of
    3 and of 1 are at 70 and 66.
    """
    rows = []
    for task in ("rte", "mrpc"):
        for seed, level in ((0, 60.0), (1, 62.0)):
            values = {"mt-dnn:mtl": level, "mt-dnn-kd:mtl": level + 2}
            values |= {"mt-dnn-kd:keep-1": level + 1, "mt-dnn-kd:loud": level + 3 + seed}
            rows += [(system, task, value, seed) for system, value in values.items()]
        ensembles = {"mt-dnn-ensemble": 70.0, "mt-dnn-ensemble:keep-1": 66.0}
        rows += [(system, task, value, np.nan) for system, value in ensembles.items()]
    frame = pd.DataFrame(rows, columns=["system", "task", "value", "seed"])
    frame = frame.assign(split="validation", metric="accuracy")
    added = frame["system"].str.contains("keep-1|loud")
    spans = [
        ("mt-dnn-kd:keep-1", "mt-dnn-kd:mtl", -1.2, -0.8),
        ("mt-dnn-kd:loud", "mt-dnn-kd:mtl", -0.5, 3.5),
        ("mt-dnn-kd:loud", "mt-dnn:mtl", 1.5, 5.5),
    ]
    compared = [(a, b, "average", 0.0, low, high, np.nan, 2, 9) for a, b, low, high in spans]
    given = {
        "rows": frame[added],
        "results": frame[~added],
        "tasks": ["rte", "mrpc"],
        "variants": VARIANTS,
        "ensemble_size": 3,
        "compared": Compared(pd.DataFrame(compared, columns=COLUMNS)),
    }
    return AblationResults(**given | over)


def test_differences_in_the_table_are_paired_by_seed():
    (table,) = section().tables()
    frame = table.frame.set_index("Student")
    assert frame.loc["MT-DNN_KD", ["over MT-DNN", "over MT-DNN_KD"]].tolist() == ["+2.00", "–"]
    assert frame.loc["keep-1", "over MT-DNN_KD"] == "−1.00 (−1.20 to −0.80)"
    assert frame.loc["loud", "over MT-DNN_KD"] == "+1.50 (−0.50 to +3.50)"
    assert frame.loc["loud", "over MT-DNN"] == "+3.50 (+1.50 to +5.50)"
    cells = ["RTE", "MRPC", "Average", "Seeds", "What is changed"]
    assert frame.loc["loud", cells].tolist() == ["64.5", "64.5", "64.5", "2", "hard weight: 0.9"]
    assert "over its control" not in frame


def test_a_variant_is_compared_with_its_control():
    controlled = Variant(hard_weight=0.9, control="keep-1")
    ablation = section(variants=VARIANTS | {"loud": controlled})
    assert ("mt-dnn-kd:loud", "mt-dnn-kd:keep-1") in ablation.pairs()
    (table,) = ablation.tables()
    column = table.frame.set_index("Student")["over its control"]
    assert column.tolist() == ["–", "–", "–", "keep-1: +2.50"]


def test_every_difference_shown_is_compared():
    ablation = section()
    shown = zip(ablation.compared.frame["a"], ablation.compared.frame["b"], strict=True)
    assert set(ablation.pairs()) >= {*shown, ("mt-dnn:mtl", "mt-dnn-kd:mtl")}


def test_the_finding_names_what_chance_does_not_explain():
    assert section().finding() == [
        "Variants **worse** than MT-DNN_KD, in points (95 % interval): "
        "keep-1 −1.00 (−1.20 to −0.80).",
        "No difference is established for 1 of 2 variants.",
    ]
    without = section(compared=Compared()).finding()
    assert without == ["No difference is established for 2 of 2 variants."]


def test_figures_agree_with_the_table():
    ablation = section()
    assert differences(ablation).get_label() == (
        "Points over MT-DNN_KD before fine-tuning. loud +1.50 (−0.50 to +3.50); "
        "keep-1 −1.00 (−1.20 to −0.80); MT-DNN (no soft targets) −2.00."
    )
    means = by_ensemble_size(ablation).groupby(["system", "size"])["average"].mean()
    ensembles = {("mt-dnn-ensemble", 1): 66.0, ("mt-dnn-ensemble", 3): 70.0}
    students = {("mt-dnn-kd:mtl", 1): 62.0, ("mt-dnn-kd:mtl", 3): 63.0}
    assert means.to_dict() == ensembles | students
    label = ensemble_size(ablation).get_label()
    assert "ensemble, fine-tuned, 1 members 66.0" in label
    assert "MT-DNN, before fine-tuning 61.0" in label


def test_students_of_ensembles_count_on_the_seeds_of_all_sizes():
    ablation = section()
    fewer = section(rows=ablation.rows[ablation.rows["seed"] != 1])
    points = by_ensemble_size(fewer)
    students = points[points["system"] == "mt-dnn-kd:mtl"]
    assert sorted(students[["size", "average"]].values.tolist()) == [[1, 61.0], [3, 62.0]]
    assert "MT-DNN, before fine-tuning 60.0" in ensemble_size(fewer).get_label()


def test_ensembles_of_one_size_have_no_curve():
    ablation = section()
    only = ablation.rows[ablation.rows["system"] == "mt-dnn-kd:loud"]
    one = section(variants={"loud": VARIANTS["loud"]}, rows=only)
    assert list(ablation.figures()) == ["ablation", "ensemble_size"]
    assert list(one.figures()) == ["ablation"]


def test_variants_without_scores_have_an_empty_figure():
    nothing = section(rows=section().rows[:0], results=section().results[:0])
    assert "No variant shares a task" in differences(nothing).get_label()
    assert nothing.tables()[0].frame["Average"].tolist() == ["–"] * 4


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ({"annealing": True}, "annealing: true"),
        ({"ensemble_size": 1}, "ensemble size: 1"),
        ({"source": "ensemble"}, "soft targets on the training sets alone"),
        (
            {"source": "cross_fit", "folds": 3},
            "soft targets of cross-fitted teachers; folds: 3",
        ),
        (
            {"source": "unlabelled", "unlabelled": {"snli": 8000}},
            "soft targets also on unlabelled texts; up to 8,000 SNLI pairs per task (same updates)",
        ),
        (
            {"teachers": ["rte", "cola"], "loss": "logits", "temperature": 1.0},
            "temperature: 1.0; loss: logits; teachers: rte, cola",
        ),
        ({"hard_weight_of": {"rte": 0.9}}, "hard weight of: rte: 0.9"),
        ({"hard_weight_of": {}}, "hard weight of: none"),
    ],
)
def test_variants_in_words(variant, words):
    assert describe(Variant(**variant)) == words


def test_unlabelled_texts_in_words():
    given = Unlabelled(left_out_train=500, other_tasks=20, extra_updates=True)
    assert describe_unlabelled(given) == (
        "up to 500 training examples left out by data.max_train, up to 20 sentence pairs of other "
        "tasks per task (more updates)"
    )
