"""The ablation's section: differences are paired by seed, figures agree with the table."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mtkd.config.distillation import Variant
from mtkd.report.sections.ablation import AblationResults, describe
from mtkd.report.sections.ablation import section as make_section
from mtkd.report.significance import COLUMNS, Compared
from mtkd.stages import Run

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
    compared = [(a, b, "average", 0.0, low, high, 0.5, 0.5, 2, 9) for a, b, low, high in spans]
    given = {
        "rows": frame[added],
        "results": frame[~added],
        "tasks": ["rte", "mrpc"],
        "variants": VARIANTS,
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
    assert frame.loc["loud", cells].tolist() == [*["64.5"] * 3, "2", "hard weight: 0.9"]
    assert frame["Its ensembles"].tolist() == ["–", "70.0", "66.0", "–"]
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


def test_the_figure_agrees_with_the_table():
    label = section().figures["ablation"].get_label()
    assert "variants: loud +1.50, keep-1 −1.00. MT-DNN: MT-DNN (no soft targets) −2.00." in label


def test_variants_without_scores_have_an_empty_figure():
    nothing = section(rows=section().rows[:0], results=section().results[:0])
    assert "nothing to compare" in nothing.figures["ablation"].get_label()
    assert nothing.tables()[0].frame["Average"].tolist() == ["–"] * 4


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ({"annealing": True}, "annealing: true"),
        ({"ensemble_size": 1}, "ensemble size: 1"),
        ({"source": "cross_fit", "folds": 3}, "source: cross fit; folds: 3"),
        (
            {"source": "unlabelled", "unlabelled": {"snli": 8000}},
            "source: unlabelled; unlabelled: snli: 8000",
        ),
        (
            {"teachers": ["rte", "cola"], "loss": "logits", "temperature": 1.0},
            "temperature: 1.0; loss: logits; teachers: rte, cola",
        ),
        ({"hard_weight_of": {}}, "hard weight of: none"),
    ],
)
def test_variants_in_words(variant, words):
    assert describe(Variant(**variant)) == words


def test_a_study_whose_ensembles_have_one_size_has_the_section():
    """Without a variant of another size, ensembles.csv has no row and its columns no type."""
    columns = ["system", "task", "split", "metric", "value", "seed"]
    row = ["mt-dnn-kd:loud", "rte", "validation", "accuracy", 60.0, 0]
    files = {
        "06_ablation": pd.DataFrame([row], columns=columns),
        "03_teacher": pd.DataFrame(columns=columns),
    }

    def artifacts(stage: str) -> dict:
        return {Run(stage, variant="loud"): SimpleNamespace(frame=lambda file: files[stage])}

    variants = {"loud": VARIANTS["loud"]}
    ablation = SimpleNamespace(variants=variants)
    study = SimpleNamespace(name="any", ablation=ablation, multitask=["rte"])
    made = make_section(study, files["06_ablation"], artifacts)
    assert made.rows["system"].tolist() == ["mt-dnn-kd:loud"]
