"""Where a study's jobs run: on this machine, or where a Snakemake profile sends them."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from mtkd.config import yaml
from mtkd.config.study import Study
from mtkd.errors import UserError


def executor(profile: Path | None) -> str:
    """Return the executor of a profile, a folder with a config.yaml; "local" without one.

    Raises:
        UserError: The profile cannot be read, or its executor is not installed.
    """
    if profile is None:
        return "local"
    file = profile / "config.yaml"
    if not file.is_file():
        raise UserError(
            f"--profile {profile}: there is no {file}; 'mtkd init' copies profiles/slurm."
        )
    try:
        settings = yaml.parse(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # also UnicodeDecodeError
        raise UserError(f"{file} is not a readable YAML file: {error}; correct it.") from None
    name = (settings or {}).get("executor", "local")
    plugin = f"snakemake-executor-plugin-{name}"
    if name != "local" and not importlib.util.find_spec(plugin.replace("-", "_")):
        raise UserError(f"{file}: the executor {name} is not installed: pip install {plugin}.")
    return name


def arguments(study: Study, cores: int | None, profile: Path | None) -> list[str]:
    """Return Snakemake's arguments on where jobs run and how many at once (two, if not given)."""
    if profile is not None:
        return ["--profile", str(profile), *(["--cores", str(cores)] if cores else [])]
    slots = ["--resources", f"gpu_slots={study.resources.gpu_slots}"] if has_gpu() else []
    return ["--cores", str(cores or 2), *slots]


def has_gpu() -> bool:
    """Tell whether this process sees an NVIDIA GPU; importing torch would take seconds."""
    if not shutil.which("nvidia-smi") or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    return "GPU" in subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
