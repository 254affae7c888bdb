"""Variants of distillation: what replaces the study's settings, and what contradicts them."""

import pytest

from mtkd.config.distillation import Distil, Unlabelled, Variant
from mtkd.config.study import Study, check
from mtkd.errors import UserError

ENCODERS = {"uncased": {"checkpoint": "a/bert"}, "cased": {"checkpoint": "a/bert-cased"}}


def study(distil: dict | None = None, **variants: dict) -> Study:
    settings = {"name": "x", "encoders": ENCODERS, "distil": distil or {}}
    return check(settings | ({"ablation": {"variants": variants}} if variants else {}))


def test_a_variant_replaces_what_it_gives():
    base = Distil(hard_weight=0.2, temperature=3.0)
    assert Variant(loss="kl").distil(base, []) == base.model_copy(update={"loss": "kl"})
    assert Variant(teachers=["rte"]).distil(base, []).teachers == ["rte"]
    itself = Variant(source="self_distillation", generations=1)
    assert itself.distil(base, ["cola", "rte"]).teachers == ["cola", "rte"]


def test_only_sources_with_unlabelled_texts_keep_them():
    texts = Unlabelled(left_out_train=5)
    base = Distil(unlabelled=texts)
    assert Variant(temperature=2).distil(base, []).unlabelled == texts
    assert Variant(source="ensemble").distil(base, []).unlabelled is None
    more = Unlabelled(other_tasks=9)
    assert Variant(source="unlabelled", unlabelled=more).distil(base, []).unlabelled == more


def test_null_leaves_a_variant_out():
    ablation = study(hot={"temperature": 2.0}, cold=None).ablation
    assert list(ablation.variants) == ["hot"]
    assert ablation.variants["hot"].changes == {"temperature": 2.0}


BAD = [
    ({"loss": "logits", "temperature": 2}, {}, "temperature: it must be 1 with loss: logits"),
    ({"annealing": True, "hard_weight_of": {"rte": 0.1}}, {}, "hard_weight_of: annealing"),
    ({"hard_weight_of": {"cola": 0.1}}, {}, "'cola' has no teacher; allowed: mnli, qqp"),
    ({"unlabelled": {}}, {}, "there is no text"),
    ({"unlabelled": {"left_out_train": 5}}, {}, "left_out_train: it needs a limit"),
    ({"unlabelled": {"labels": "gold", "snli": 5}}, {}, "labels: gold is for left_out_train"),
    (
        {"unlabelled": {"labels": "gold", "left_out_train": 5, "other_tasks": 5}},
        {},
        "labels: gold is for left_out_train alone",
    ),
    (
        {"unlabelled": {"labels": "hard", "snli": 5}, "loss": "logits"},
        {},
        "unlabelled.labels: hard needs temperature: 1 and another loss than logits",
    ),
    (
        {"unlabelled": {"labels": "hard", "snli": 5}},
        {"x": {"temperature": 2}},
        "ablation.variants.x: unlabelled.labels: hard needs temperature: 1",
    ),
    ({}, {"x": {}}, "it changes nothing"),
    ({}, {"x": {"source": "ensemble"}}, "ablation.variants.x: it changes nothing"),
    ({}, {"x": {"source": "cross_fit"}}, "source: cross_fit and the field folds go together"),
    ({}, {"x": {"folds": 2}}, "source: cross_fit and the field folds go together"),
    ({}, {"x": {"source": "cross_fit", "folds": 2, "teachers": ["rte"]}}, "leave teachers out"),
    ({}, {"x": {"source": "self_distillation", "generations": 3}}, "less than or equal to 2"),
    (
        {},
        {"x": {"source": "self_distillation", "generations": 1, "ensemble_size": 2}},
        "ensemble_size: with source: self_distillation there are no members",
    ),
    ({}, {"x": {"ensemble_size": 7}}, "ablation.variants.x.ensemble_size: 7 is more"),
    ({}, {"x": {"teachers": ["wnli"]}}, "ablation.variants.x.teachers: 'wnli' is not trained"),
    ({}, {"mtl": {"temperature": 2.0}}, "'mtl' is reserved"),
    ({}, {"X": {"temperature": 2.0}}, "pattern"),
    ({}, {"x": {"temperature": 2.0, "control": "x"}}, "x.control: 'x' is not another variant"),
    ({"temperature": 2.0}, {"x": {"loss": "logits"}}, "ablation.variants.x: temperature"),
    (
        {},
        {"x": {"combine": {"gradients": "pcgrad"}}},
        "combine: gradients: pcgrad needs the gradients of several mini-batches: set "
        "batches_per_update above 1",
    ),
    (
        {},
        {"x": {"combine": {"pcgrad": True}}},
        "unknown field 'ablation.variants.x.combine.pcgrad'",
    ),
]


@pytest.mark.parametrize(("distil", "variants", "words"), BAD)
def test_what_does_not_fit_is_refused(distil, variants, words):
    with pytest.raises(UserError) as error:
        study(distil, **variants)
    assert words in str(error.value)


def test_seeds_of_an_ablation_are_some_of_the_study_s():
    with pytest.raises(UserError, match=r"ablation.seeds: '5' is not one of the study's seeds"):
        check(
            {
                "name": "x",
                "encoders": ENCODERS,
                "ablation": {"seeds": [5], "variants": {"x": {"temperature": 2.0}}},
            }
        )
