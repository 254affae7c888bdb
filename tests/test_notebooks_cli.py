"""Notebooks as batches, and the command line: one line and status 2 for what a user can mend."""

import json

import pytest
from conftest import ROOT, TINY, mtkd
from jupyter_client import AsyncKernelClient

from mtkd.errors import UserError
from mtkd.workflow import kernels as warm
from mtkd.workflow import notebook as notebooks

SOURCES = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_source_notebooks_are_clean_and_have_one_cell_of_parameters(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert [cell["metadata"].get("tags") for cell in cells].count(["parameters"]) == 1
    assert not any(
        line.startswith(("def ", "class ", "for ", "if ", "while "))
        for cell in code
        for line in cell["source"]
    )


def test_an_unknown_parameter_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(
        UserError,
        match="02_mtdnn has no parameter 'sed': its parameters are study, overrides, encoder, dropout, seed",
    ):
        notebooks.run("02_mtdnn", tmp_path / "out.ipynb", {"sed": 1}, tmp_path / "log")
    assert not list(tmp_path.iterdir())


def test_an_unknown_notebook_names_the_known_ones(tmp_path):
    with pytest.raises(
        UserError, match="no notebook '09_more': the notebooks are 00_data, 01_pretrain"
    ):
        notebooks.run("09_more", tmp_path / "out.ipynb", {}, tmp_path / "log")


@pytest.mark.parametrize("failures", [1, notebooks.STARTS])
def test_a_kernel_that_dies_as_it_starts_is_started_again(tmp_path, monkeypatch, failures):
    starts = []
    ready = AsyncKernelClient._async_wait_for_ready

    async def dies(client, timeout=None):
        starts.append(client)
        if len(starts) <= failures:
            raise RuntimeError("Kernel died before replying to kernel_info")
        await ready(client, timeout)

    monkeypatch.setattr(AsyncKernelClient, "wait_for_ready", dies)
    monkeypatch.setenv("MTKD_NOTEBOOKS", str(tmp_path))
    cell = {
        "cell_type": "code",
        "source": "print('here')",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    (tmp_path / "short.ipynb").write_text(
        json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4})
    )
    if failures == notebooks.STARTS:
        with pytest.raises(UserError, match="No kernel started for notebook short in 3 tries"):
            notebooks.run("short", tmp_path / "out.ipynb", {}, tmp_path / "log")
    else:
        notebooks.run("short", tmp_path / "out.ipynb", {}, tmp_path / "log")
        assert "here" in (tmp_path / "out.ipynb").read_text() and len(starts) == 2


def test_what_a_notebook_raised_is_told_in_one_line_and_its_page_is_kept_beside_the_log(tmp_path):
    done = mtkd(
        "notebook",
        "02_mtdnn",
        tmp_path / "out.ipynb",
        "--log",
        tmp_path / "run.log",
        "-p",
        f"study={TINY}",
        "-p",
        "encoder=latin",
        MTKD_WORK=str(tmp_path / "w"),
    )
    assert (
        done.returncode == 2
        and "no encoder 'latin': its encoders are uncased, cased" in done.stderr
    )
    assert not (tmp_path / "out.ipynb").exists() and (tmp_path / "run.ipynb").exists()


def test_without_a_warm_server_a_run_imports_for_itself(monkeypatch):
    monkeypatch.delenv(warm.SOCKET, raising=False)
    assert warm.call({"name": "00_data"}) is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quik"], ["no study 'quik'", "quick"]),
        (["run", "quick", "--set", "train.epoch=2"], ["train.epoch", "epochs"]),
        (
            ["run", "quick", "--set", "train.epochs=0"],
            ["train.epochs", "greater than or equal to 1", "it is 0"],
        ),
        (["run", "quick", "--set", "train.epochs"], ["--set train.epochs", "field=value"]),
        (["run", "quick", "--set", "tasks=[colla]"], ["tasks", "colla", "cola"]),
        (["notebook", "00_data", "out.ipynb", "-p", "study"], ["-p study", "name=value"]),
    ],
)
def test_bad_input_ends_with_one_line_and_status_2(arguments, words):
    done = mtkd(*arguments)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert (
        len(lines) == 1
        and lines[0].startswith("mtkd: ")
        and all(word in lines[0] for word in words)
    ), done.stderr


def test_a_study_that_fails_says_what_its_stage_said(tmp_path):
    study = tmp_path / "laptop.yaml"
    study.write_text((ROOT / "studies" / "laptop.yaml").read_text())
    folders = {"MTKD_WORK": str(tmp_path / "w"), "MTKD_REPORTS": str(tmp_path / "r")}
    done = mtkd("run", study, "--set", "adaptation=null", MTKD_GLUE="./nowhere", **folders)
    assert done.returncode == 2
    assert (
        "mtkd: 00_data failed: There is no directory ./nowhere: set MTKD_GLUE" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_a_dry_run_of_the_paper_lists_its_jobs_and_steps():
    done = mtkd("run", "paper", "--dry-run")
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[-1].startswith("22 jobs, ")
    assert sum(line.startswith("02_mtdnn.") for line in lines) == 6
    # 5 epochs of the batches of 32 of cola sst2 mnli rte qqp mrpc stsb qnli: by hand from Table 1's full sizes.
    batches = 268 + 2105 + 12272 + 78 + 11371 + 115 + 180 + 3274
    assert f"{5 * batches:,} steps" in next(
        line for line in lines if line.startswith("04_student.s0")
    )
