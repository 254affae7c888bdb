"""Costs of a study's systems, measured after every other run."""

import pytest
from integration.stages.small import ASSISTED, MKD, small

from mtkd.stages import all_runs, mkd, serving
from mtkd.stages.common import Run

pytestmark = pytest.mark.usefixtures("work")


@pytest.mark.slow
def test_costs_of_every_system():
    study = small(MKD, ASSISTED)
    artifact = serving.run(study)
    costs = artifact.frame("costs.csv").set_index(["system", "batch"])
    main = {"bert", "mt-dnn:mtl", "mt-dnn", "mt-dnn-kd:mtl", "mt-dnn-kd", "mt-dnn-ensemble"}
    names = [one.system for name in study.mkd.students for one in mkd.trainings(study, name)]
    assert set(costs.index.get_level_values("system")) == main | set(names)
    assert (costs.latency > 0).all() and set(costs.index.get_level_values("batch")) == {1, 32}
    models = costs.models.xs(1, level="batch")
    assert models["bert"] == 2 and models["mt-dnn:mtl"] == 1 and models["mt-dnn-ensemble"] == 4
    assert models["lstm"] == 2 and models["mkd-lstm:mtl"] == 1 and models["mkd-lstm"] == 2
    assert costs.params["mt-dnn-ensemble", 1] > 1.9 * costs.params["bert", 1]
    same = costs.loc[[("mkd-lstm:mtl", 1), ("mkd-assisted:mtl", 1)]]
    assert (same.nunique() == 1).all() and set(same.measured) == {"lstm"}
    assert artifact.json("machine.json")["precision"] == "fp32"


def test_it_waits_for_every_run_but_the_report():
    study = small(MKD)
    others = [run for run in all_runs(study) if run.stage not in (serving.NAME, "11_report")]
    assert serving.parents(study, Run(serving.NAME)) == others
