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
                "p < .001; 3 paired seeds",
                "the student keeps 50 % (30 % to 70 %) of it",
            ],
        ),
        (-1.0, 3, ["**Distillation did not help**", "excludes zero", "worse on 5"]),
        (
            0.03,
            3,
            [
                "**Distillation did not help measurably**",
                "includes zero",
                "p = .500",
                "Holm's p < .05): none",
            ],
        ),
        (1.0, 1, ["**Distillation helped in this run**", "one seed, so without how training"]),
        (-1.0, 1, ["**Distillation did not help**", "one seed"]),
    ],
)
def test_sentences(gain, seeds, expected, make_report):
    report = make_report(gain, seeds)
    text = " ".join(report.finding)
    expected += ["(tasks: 5, ", "Of the paper's 7 claims, reproduced: none; not reproduced: none"]
    expected += ["The ensembles gain over MT-DNN (+", "Published", "+1.25 points", "88 %"]
    assert report.finding[0].startswith(expected[0]) and len(report.finding) <= 6
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


def test_no_share_of_a_gain_that_is_not_established(make_report):
    report = make_report()
    unsure = Compared(report.compared.frame)  # without a share
    sentence = finding(report.results, unsure)[3]
    assert sentence.startswith("The ensembles' gain over MT-DNN is not established (+")
    assert " %" not in sentence
