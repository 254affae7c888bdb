"""Where a study's jobs run: on this machine, or where a Snakemake profile sends them."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from mtkd.config.study import Study
from mtkd.config.yaml import parsed
from mtkd.errors import UserError


def executor(profile: Path | None) -> str:
    """What jobs are run by: `local`, or the executor of a profile, which is a folder with a config.yaml.

    Raises `UserError` where the profile cannot be read or its executor is not installed.
    """
    if profile is None:
        return "local"
    file = profile / "config.yaml"
    if not file.is_file():
        raise UserError(
            f"--profile {profile}: there is no {file}; give a folder with a config.yaml, such as profiles/slurm."
        )
    try:
        settings = parsed(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:  # no UTF-8 too
        raise UserError(f"{file} is not a readable YAML file: {error}; correct it there.") from None
    found = settings.get("executor", "local") if isinstance(settings, dict) else None
    if not isinstance(found, str) or not re.fullmatch(r"[a-z0-9-]+", found):
        raise UserError(
            f"{file} names no executor: write it as a mapping of Snakemake's options, such as 'executor: slurm'."
        )
    if found != "local" and not importlib.util.find_spec(
        f"snakemake_executor_plugin_{found}".replace("-", "_")
    ):
        raise UserError(
            f"{file} asks for the executor {found}, which is not installed: pip install snakemake-executor-plugin-{found}."
        )
    return found


def arguments(study: Study, cores: int | None, profile: Path | None) -> list[str]:
    """Snakemake's arguments on where jobs run and how many at once: a profile's own, or `cores` (two) here and a GPU's slots."""
    if profile is not None:
        return ["--profile", str(profile), *(["--cores", str(cores)] if cores else [])]
    return [
        "--cores",
        str(cores or 2),
        *(["--resources", f"gpu_slots={study.resources.gpu_slots}"] if has_gpu() else []),
    ]


def has_gpu() -> bool:
    """Whether this process sees an NVIDIA GPU, told without the seconds that importing torch takes."""
    if not shutil.which("nvidia-smi") or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    return "GPU" in subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout
