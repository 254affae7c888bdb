"""The finding, whichever way the results fall."""

import pytest

from mtkd.report.finding import finding
from mtkd.report.significance import Compared


@pytest.mark.parametrize(
    ("gain", "seeds", "expected"),
    [
        (
            1.0,
            3,
            [
                "**Distillation helped**",
                "interval +",
                "Of 5 tasks MT-DNN_KD is better on 5",
                "keeps 5",
            ],
        ),
        (-1.0, 3, ["**Distillation did not help**", "excludes zero", "worse on 5"]),
        (0.03, 3, ["**Distillation did not help measurably**", "includes zero", "p < .05: none"]),
        (1.0, 1, ["**Distillation helped in this run**", "one seed, so without how training"]),
        (-1.0, 1, ["**Distillation did not help**", "one seed"]),
    ],
)
def test_sentences(gain, seeds, expected, make_report):
    report = make_report(gain, seeds)
    text = " ".join(report.finding)
    expected += ["MT-DNN is better than BERT (+", "(tasks: 5, ", "tasks with a teacher (1)"]
    expected += ["The ensembles gain over MT-DNN (+", "Published", "+1.25 points", "88 %"]
    assert report.finding[0].startswith(expected[0]) and len(report.finding) <= 8
    assert not [words for words in expected if words not in text]


def test_without_predictions_there_is_no_interval(make_report):
    sentences = finding(make_report().results)
    assert "without predictions there is no interval" in sentences[0]
    assert "95 %" not in " ".join(sentences[:-1])


@pytest.mark.parametrize("systems", [[], ["bert"], ["bert", "mt-dnn"]])
def test_what_cannot_be_known_is_said(systems, make_report):
    results = make_report().results
    sentences = finding(results[results["system"].isin(systems)], compared=Compared())
    assert sentences[0].startswith("**Whether distillation helps is not known**")


def test_a_trend_with_size(make_report):
    names = ("mnli", "qqp", "qnli", "sst2", "cola", "rte")
    report = make_report(names=names)
    shift = report.results["task"].map(names.index)  # larger for smaller tasks
    student = report.results["system"] == "mt-dnn-kd"
    results = report.results.assign(value=report.results["value"] + shift * student)
    text = " ".join(finding(results, report.sizes))
    assert "Smaller tasks gained more (rank correlation" in text
    assert "Too few tasks" in " ".join(finding(make_report(names=("rte",)).results))
