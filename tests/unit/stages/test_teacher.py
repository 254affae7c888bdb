"""What a teacher's run reads, and the names of what it predicts."""

from integration.stages.small import small

from mtkd.config.distillation import Unlabelled
from mtkd.stages import all_runs, mtdnn, teacher
from mtkd.stages.common import Run


def labelled(labels: str):
    texts = {"left_out_train": 5, "labels": labels}
    more = {"source": "unlabelled", "unlabelled": texts, "teachers": ["rte"]}
    return small("model.encoder_dropout=0.3", "candidates.seeds=[5, 6]", more=more)


def test_an_mt_dnn_that_labels_texts_is_a_parent_of_the_tasks_that_have_them():
    for labels in ("soft", "hard", "gold", "mt-dnn"):
        study = labelled(labels)
        vanilla = mtdnn.baseline_run(study, 5)
        above = {
            one: teacher.parents(study, Run(teacher.NAME, task=one)) for one in ("rte", "stsb")
        }
        assert (vanilla in above["rte"]) == (vanilla in all_runs(study)) == (labels == "mt-dnn")
        assert vanilla not in above["stsb"]
        candidates = set(map(mtdnn.candidate_run, study.candidate_models))
        assert len(candidates) == 4 and candidates <= set(above["rte"])


def test_soft_and_hard_labels_share_the_predictions_of_an_ensemble():
    names = {
        labels: Unlabelled(left_out_train=5, labels=labels, extra_updates=True).name
        for labels in ("soft", "hard", "gold", "mt-dnn")
    }
    assert names["soft"] == names["hard"] == "left_out_train-5"
    assert len(set(names.values())) == 3
    assert Unlabelled(snli=3, other_tasks=4).name == "snli-3-other_tasks-4"
