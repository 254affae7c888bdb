"""What the doctor sees, and that it never waits for long."""

import re
import time

import pytest
from conftest import ROOT, TINY

from mtkd.config import study as studies
from mtkd.workflow import doctor


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """No setting of this machine's, no network, nothing measured."""
    for key in (
        "MTKD_GLUE",
        "MTKD_SNLI",
        "MTKD_PRETRAIN_TEXT",
        "MTKD_ENCODER_UNCASED",
        "MTKD_ENCODER_CASED",
        "HF_HUB_OFFLINE",
        "HF_DATASETS_OFFLINE",
    ):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("MTKD_WORK", str(tmp_path / "work"))
    monkeypatch.setattr(doctor, "reachable", lambda address: False)
    monkeypatch.setattr(doctor, "SECONDS", 0.05)
    return monkeypatch


def test_a_network_that_never_answers_costs_seconds(monkeypatch):
    def never(*_, **__):
        time.sleep(60)

    monkeypatch.setattr(doctor.socket, "create_connection", never)
    monkeypatch.setattr(doctor, "WAIT", 0.2)
    started = time.perf_counter()
    assert doctor.reachable("https://example.org") is False
    assert time.perf_counter() - started < 20
    assert doctor.reachable("no address") is False


def test_it_says_what_is_there_and_what_runs(bare):
    told = "\n".join(doctor.lines([str(TINY), "laptop", "paper", "nowhere"]))
    for word in (
        "packages: mtkd",
        "hub: not reachable",
        "processor: ",
        "GPU: ",
        "disk: ",
        "MTKD_GLUE: not set",
    ):
        assert word in told
    assert re.search(
        r"precision: bf16 products \d+ GFLOP/s on one thread, fp32 \d+: train.precision=(bf16|fp32) is the faster here",
        told,
    )
    assert "tiny.yaml: can run, about " in told and "jobs, " in told and "steps/s measured" in told
    assert (
        "laptop: cannot run: GLUE: set MTKD_GLUE" in told
        and "set MTKD_ENCODER_UNCASED or MTKD_PRETRAIN_TEXT" in told
    )
    assert (
        "paper: cannot run: " in told and "nowhere: cannot run: There is no study 'nowhere'" in told
    )


def test_with_data_and_encoders_at_hand_a_study_can_run(bare, tmp_path):
    laptop = studies.load("laptop")
    assert doctor.wants(laptop, online=True) == [
        "encoder cased: set MTKD_ENCODER_CASED or MTKD_PRETRAIN_TEXT"
    ]
    for name in laptop.trainable:
        (tmp_path / name).mkdir()
        (tmp_path / name / "train-00000-of-00001.parquet").touch()
    bare.setenv("MTKD_GLUE", str(tmp_path))
    bare.setenv("MTKD_PRETRAIN_TEXT", str(ROOT / "README.md"))
    assert doctor.wants(laptop, online=False) == [
        "SNLI: set MTKD_SNLI, connect to the hub, or leave out what needs it by --set adaptation=null"
    ]
    assert doctor.wants(studies.load("laptop", ["adaptation=null"]), online=False) == []
    pairs = studies.load(
        "laptop",
        ["adaptation=null", "ablation.variants.more={source: unlabelled, unlabelled: {snli: 9}}"],
    )
    assert len(doctor.wants(pairs, online=False)) == 1
    (tmp_path / "snli").mkdir()
    bare.setenv("MTKD_SNLI", str(tmp_path))
    assert doctor.wants(laptop, online=False) == []
    assert f"MTKD_SNLI: {tmp_path}, without snli/train-*.parquet" in doctor.lines(["nowhere"])
    assert "without " in next(
        line for line in doctor.lines(["nowhere"]) if line.startswith("MTKD_GLUE")
    )
    (tmp_path / "rte" / "train-00000-of-00001.parquet").unlink()
    assert doctor.wants(laptop, online=False) == [f"{tmp_path} has no rte/train-*.parquet"]
    bare.setenv("MTKD_ENCODER_CASED", str(tmp_path))
    assert any("lacks config.json" in line for line in doctor.lines(["nowhere"]))


def test_packages_that_are_missing_or_too_old_are_named(bare):
    wanted = ["torch>=99", "a-package-that-is-not-there>=1", "not-there-either>=1; extra == 'onnx'"]
    bare.setattr(doctor.metadata, "requires", lambda name: wanted)
    first = next(iter(doctor.lines([])))
    assert "torch" in first and "is not >=99" in first and "not-there-either" not in first
    assert "a-package-that-is-not-there is missing (wanted: >=1)" in first


def test_each_precision_is_measured_for_itself(bare):
    bare.setattr(doctor.torch.cuda, "is_available", lambda: False)
    rates = {}
    for text in ("train.precision=fp32", "train.precision=bf16", "model.pooling=compared"):
        assert doctor._duration(studies.load(str(TINY), [text]), rates)
    assert len(rates) == 3
