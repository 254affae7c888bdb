"""The wheel, made from the source archive and installed: studies run where there is no checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SHORT = [
    "seeds=[0]",
    "candidates.dropouts=[0.1]",
    "candidates.ensemble_size=1",
    "train.epochs=1",
    "finetune.epochs=1",
    "encoders.uncased.pretrain.train_tokens=5000",
]
LEFT_OUT = shutil.ignore_patterns(".*", "artifacts", "build", "__pycache__", "*.egg-info")
BUILD = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel as pip does: from the source archive of a copy of the checkout."""
    folder = tmp_path_factory.mktemp("build")
    source = shutil.copytree(ROOT, folder / "source", ignore=LEFT_OUT)
    build = [sys.executable, "-c", BUILD]
    subprocess.run([*build, "build_sdist", folder], cwd=source, check=True)
    (archive,) = folder.glob("mtkd-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    unpacked = folder / archive.name.removesuffix(".tar.gz")
    subprocess.run([*build, "build_wheel", folder], cwd=unpacked, check=True)
    return next(folder.glob("mtkd-*.whl"))


class Installed:
    """The wheel in an environment of its own, and a folder with nothing in it."""

    def __init__(self, wheel: Path, folder: Path):
        self.folder, environment = folder / "empty", folder / "environment"
        self.folder.mkdir()
        ours = [name for name in os.environ if name.startswith("MTKD_")] + ["PYTHONPATH"]
        environ = {key: value for key, value in os.environ.items() if key not in ours}
        # What mtkd needs is that of these tests' environment, and so are nbconvert's templates.
        environ |= {"HF_HUB_OFFLINE": "1", "JUPYTER_PATH": f"{sys.prefix}/share/jupyter"}
        self.options = {"cwd": self.folder, "env": environ}
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        self.python = environment / "bin" / "python"
        (self.packages,) = environment.glob("lib/*/site-packages")
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install"]
        pip += ["--quiet", "--no-index", "--no-deps", wheel]
        subprocess.run(pip, check=True, **self.options)
        # A .pth file in that folder, such as one that leads to the checkout, has no effect.
        (self.packages / "libraries.pth").write_text(sysconfig.get_paths()["purelib"])
        self.before = self.files()

    def files(self) -> set[Path]:
        """Return what is installed."""
        return {path for path in self.packages.rglob("*") if "__pycache__" not in path.parts}

    def mtkd(self, *arguments: str) -> str:
        """Run the command in the empty folder, and return what it printed."""
        command = [self.python.with_name("mtkd"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, **self.options)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installed:
    return Installed(wheel, tmp_path_factory.mktemp("installed"))


def test_the_wheel_holds_every_module_and_what_a_study_needs_and_is_small(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "mtkd").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    share = {name.removeprefix("mtkd/share/") for name in names if "mtkd/share/" in name}
    folders = {"notebooks": "*.ipynb", "studies": "*", "profiles": "*/*.yaml", "examples": "*"}
    needed = {path for part, files in folders.items() for path in (ROOT / part).glob(files)}
    needed |= {ROOT / "Snakefile", ROOT / "constraints.txt"}
    needed |= set((ROOT / "reports" / "reference").glob("*/results.csv"))
    needed |= set((ROOT / "reports" / "reference").glob("*/run.json"))
    assert share == {path.relative_to(ROOT).as_posix() for path in needed if path.is_file()}
    others = names - modules - {f"mtkd/share/{name}" for name in share}
    assert {Path(name).suffix for name in others} == {
        *(".css", ".csv", ".j2", ".js", ".json", ".md", ".yaml")
    }
    assert wheel.stat().st_size < 2 << 20


def test_commands_work_in_an_empty_folder(installed):
    assert "02_mtdnn.uncased-0.1-s0" in installed.mtkd("run", "quick", "--dry-run")
    told = installed.mtkd("doctor")
    assert "quick: can run" in told and "paper: cannot run" in told
    found = "from mtkd import paths; print(paths.find('reports/reference/quick/run.json').exists())"
    command = [installed.python, "-c", found]
    done = subprocess.run(command, capture_output=True, text=True, **installed.options)
    assert done.stdout == "True\n"
    assert not list(installed.folder.iterdir()), "looking leaves nothing behind"


def test_a_study_runs_from_files_to_predictions_in_an_empty_folder(installed):
    options = [part for override in SHORT for part in ("--set", override)]
    printed = installed.mtkd("run", "examples/own.yaml", *options)
    assert "MT-DNN_KD" in printed and "Report: reports/own-example/index.html" in printed
    assert {"artifacts", "reports"} <= {path.name for path in installed.folder.iterdir()}
    record = next((installed.folder / "artifacts").rglob("record.json")).read_text()
    assert '"commit": "unknown"' in record
    model = ["examples/own.yaml:mt-dnn-kd", "--task", "letters"]
    assert '"probabilities"' in installed.mtkd("predict", *model, "Where is my parcel?")
    installed.mtkd("export", *model, "model")
    installed.mtkd("init", ".")
    installed.mtkd("new", "mine.yaml", "--yes", "--train", "examples/letters.csv")
    assert "04_student.s2" in installed.mtkd("run", "mine.yaml", "--dry-run")
    assert installed.files() == installed.before, "nothing is written beside the package"
