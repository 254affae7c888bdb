"""What made an artifact or a report: versions, commit and machine."""

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

from mtkd import __version__

ARCHIVED = "$Format:%H$"  # `git archive` puts the commit here (.gitattributes)
PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "accelerate", "safetensors")
PACKAGES += ("numpy", "pandas", "pyarrow", "scikit-learn", "scipy")


@cache
def provenance() -> dict:
    """Return the versions, the commit and the machine of this process."""
    versions = {"mtkd": __version__, "commit": commit(), "python": platform.python_version()}
    packages = {name: metadata.version(name) for name in PACKAGES}
    return versions | {"packages": packages, "machine": machine()}


def machine() -> str:
    """Return the architecture, the vector units on which rounding depends, and the cores."""
    import torch

    known = getattr(torch.cpu, "get_capabilities", dict)()  # older versions know the best one alone
    units = [name for name in ("amx_bf16", "avx512_bf16", "avx512_f", "avx2") if known.get(name)]
    units.append(torch.backends.cpu.get_cpu_capability().lower())
    return f"{platform.machine()} with {units[0]}, {os.cpu_count()} cores"


def commit() -> str:
    """Return the commit of this checkout, or of the archive that the code was taken from."""
    if not ARCHIVED.startswith("$"):
        return ARCHIVED[:12]
    top = Path(__file__).resolve().parent.parent
    # Named, as an installed package may lie within another project's repository.
    command = ["git", f"--git-dir={top / '.git'}", f"--work-tree={top}", "describe", "--always"]
    command += ["--abbrev=12", "--exclude=*", "--dirty=+changes"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
