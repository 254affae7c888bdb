"""What the doctor reports, and that it never waits for long."""

import json
import time

import pytest
from families import FAMILIES, make_checkpoint
from helpers import ROOT, TINY, sentences, study

from mtkd.config.study import load
from mtkd.errors import UserError
from mtkd.workflow import doctor

VARIABLES = (
    "MTKD_GLUE",
    "MTKD_SNLI",
    "MTKD_PRETRAIN_TEXT",
    "HF_HUB_OFFLINE",
    "HF_DATASETS_OFFLINE",
)


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """Leave no setting of this machine's, and no network."""
    for name in (*VARIABLES, "MTKD_ENCODER_UNCASED", "MTKD_ENCODER_CASED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(doctor, "reachable", lambda address: False)
    return monkeypatch


def test_a_network_that_never_answers_costs_seconds(monkeypatch):
    def never(*_, **__):
        time.sleep(60)
        raise OSError

    monkeypatch.setattr(doctor.socket, "create_connection", never)
    monkeypatch.setattr(doctor, "TIMEOUT", 0.2)
    started = time.perf_counter()
    assert doctor.reachable("https://example.org") is False
    assert time.perf_counter() - started < 20
    assert doctor.reachable("https://example.org:port") is False


def test_it_reports_what_is_there_and_which_studies_run(bare):
    text = "\n".join(doctor.report_lines([str(TINY), "paper"]))
    for part in (
        "packages: mtkd ",
        "hub: not reachable",
        "processor: ",
        "GPU: ",
        "disk: ",
        "MTKD_GLUE: not set",
        "tiny.yaml: can run: ",
        " updates",
        "paper: cannot run: GLUE: set MTKD_GLUE",
    ):
        assert part in text


def test_a_broken_study_of_the_folder_is_reported_and_one_that_is_named_is_an_error(bare, tmp_path):
    (tmp_path / "broken.yaml").write_text("sed: [0]")
    bare.setenv("MTKD_STUDIES", str(tmp_path))
    assert "broken: cannot run: " in list(doctor.report_lines([]))[-1]
    with pytest.raises(UserError, match="'sed'"):
        next(doctor.report_lines(["broken"]))


@pytest.fixture
def glue_study():
    """Return a study of real GLUE that pre-trains its encoder and adapts to SNLI."""
    recipe = {"pretrain": {"layers": 1}}
    return study(
        tasks=["rte", "mrpc"],
        candidates={"select_on": ["rte"], "ensemble_size": 1},
        distil={"teachers": ["rte"]},
        encoders={"uncased": recipe},
        adaptation={},
    )


def test_missing_requirements_are_named_with_their_remedy(bare, glue_study, tmp_path):
    encoder = "encoder uncased: set MTKD_ENCODER_UNCASED or MTKD_PRETRAIN_TEXT"
    assert doctor.missing_requirements(glue_study, online=True) == [encoder]
    glue, snli, last = doctor.missing_requirements(glue_study, online=False)
    assert "MTKD_GLUE" in glue and last == encoder
    assert "MTKD_SNLI" in snli and "--set adaptation=null" in snli
    for name in ("rte", "mrpc", "snli"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-00000-of-00001.parquet").touch()
    bare.setenv("MTKD_GLUE", str(tmp_path))
    bare.setenv("MTKD_SNLI", str(tmp_path))
    bare.setenv("MTKD_PRETRAIN_TEXT", str(ROOT / "README.md"))
    assert doctor.missing_requirements(glue_study, online=False) == []
    (tmp_path / "rte" / "train-00000-of-00001.parquet").unlink()
    lacking = [f"{tmp_path} has no rte/train-*.parquet"]
    assert doctor.missing_requirements(glue_study, online=False) == lacking


def test_a_variable_that_names_nothing_is_reported(bare, tmp_path):
    bare.setenv("MTKD_ENCODER_UNCASED", str(tmp_path / "none"))
    lines = list(doctor.report_lines([str(TINY)]))
    assert f"MTKD_ENCODER_UNCASED: {tmp_path / 'none'} (not on this machine)" in lines
    bare.setenv("MTKD_ENCODER_UNCASED", "someone/mini")
    lines = list(doctor.report_lines([str(TINY)]))
    assert "MTKD_ENCODER_UNCASED: someone/mini (no folder here: a hub id)" in lines


@pytest.mark.parametrize("family", FAMILIES)
def test_a_study_on_any_family_has_a_verdict(bare, tmp_path, family):
    make_checkpoint(family, tmp_path / "encoder", sentences(60))
    bare.setenv("MTKD_ENCODER_UNCASED", str(tmp_path / "encoder"))
    assert ": can run: " in list(doctor.report_lines([str(TINY)]))[-1]
    path = tmp_path / "encoder" / "config.json"
    whole = json.loads(path.read_text())
    for damage in ({"model_type": "gpt2"}, {"model_type": "t5"}, {"vocab_size": 3}):
        path.write_text(json.dumps(whole | damage))
        assert ": cannot run: The checkpoint" in list(doctor.report_lines([str(TINY)]))[-1]


def test_versions_that_were_not_tested_are_named(bare, tmp_path):
    (tmp_path / "constraints.txt").write_text("# tested\ntorch==0.1\npandas==0.2\nother==3\n")
    bare.setattr(doctor, "CONSTRAINTS", tmp_path / "constraints.txt")
    first = next(doctor.report_lines([]))
    assert "(tested: 0.1)" in first and "pandas" in first and "other" not in first


@pytest.mark.parametrize("name", ["quick", "base"])
def test_a_study_of_the_checkout_has_a_verdict(bare, name):
    assert load(name).name == name
    assert f"  {name}: can" in list(doctor.report_lines([name]))[-1]
