"""Run a whole study on one GPU in minutes, on a machine without a network.

    python benchmarks/gpu_study.py pack PACK                 # here: code, wheels, data, encoders
    python PACK/code/benchmarks/gpu_study.py check PACK OUT  # there: tests for a GPU, bench
    python PACK/code/benchmarks/gpu_study.py run PACK OUT    # there
    python benchmarks/gpu_study.py unpack PACK OUT           # here: artifacts, how to report them

The machine has torch, transformers, accelerate, pandas, pyarrow, scikit-learn, seaborn and pip. The
encoders' weights are rounded to bf16 for the journey. `run` trains what the study's graph allows
side by side (side_by_side.py) and writes the artifacts without weights, in parts of 15 MiB.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

from side_by_side import Budget, plan, run_units

ROOT = Path(__file__).resolve().parent.parent
SENT = ("mtkd", "benchmarks", "studies", "pyproject.toml", "constraints.txt", "tests")
WHEELS = (  # of what the stages import, and the other machine lacks
    *("datasets", "evaluate", "dill", "multiprocess", "xxhash"),
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection"),
)
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "any")
PACK_LIMIT, PART_LIMIT = 60 << 20, 15 << 20  # bytes
PACKED = "artifacts.zip"
LEFT_OUT = (".safetensors", ".arrow", "soft_targets.parquet")  # gigabytes that no report reads


def pack(options: argparse.Namespace) -> None:
    """Fill a folder with all that the other machine lacks."""
    from mtkd.config.study import load
    from mtkd.data.glue import glue_location
    from mtkd.stages.checkpoint import checkpoint_of

    study, folder = load(options.study, options.set), options.pack
    folder.mkdir(parents=True)
    status = ["git", "-C", str(ROOT), "status", "--porcelain", "--", *SENT]
    if subprocess.run(status, check=True, capture_output=True, text=True).stdout:
        print("What is not committed does not travel: the code is that of HEAD.")
    archive = ["git", "-C", str(ROOT), "archive", "HEAD", *SENT]
    code = subprocess.run(archive, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(code)) as tar:
        tar.extractall(folder / "code", filter="data")
    if study.data.source == "glue":
        _pack_glue(Path(glue_location(study.data)), folder / "glue", study.tasks)
    for name, settings in study.encoders.items():
        if source := checkpoint_of(study, name):
            known = Path(settings.checkpoint or source).name  # the report names the folder
            _pack_encoder(name, Path(source), folder / "encoders" / name / f"{known}-bf16")
    if not options.no_wheels:
        _pack_wheels(folder / "wheels", options.python)
    files = [path for path in folder.rglob("*") if path.is_file()]
    for part in sorted(folder.iterdir()):
        size = sum(path.stat().st_size for path in files if part in path.parents)
        print(f"{part.name:<10}{size / 2**20:7.1f} MiB")
    size = sum(path.stat().st_size for path in files)
    print(f"{'all':<10}{size / 2**20:7.1f} MiB")
    if size > PACK_LIMIT:
        raise SystemExit(f"{folder} is above {PACK_LIMIT >> 20} MiB: leave out tasks or encoders.")


def _pack_glue(source: Path, folder: Path, tasks: list[str]) -> None:
    if not source.is_dir():
        raise SystemExit(f"{source} is no folder: set MTKD_GLUE to GLUE in the hub's layout.")
    for task in tasks:
        shutil.copytree(source / task, folder / task)


def _pack_encoder(name: str, source: Path, folder: Path) -> None:
    """Copy a checkpoint, its weights rounded to bf16."""
    import torch
    from safetensors.torch import load_file, save_file

    from mtkd.stages.pretrain import CONFIG, WEIGHTS

    if not source.is_dir():
        raise SystemExit(f"{source} is no folder: set MTKD_ENCODER_{name.upper()} to one.")
    folder.mkdir(parents=True)
    for path in {path for pattern in CONFIG for path in source.glob(pattern)}:
        shutil.copy(path, folder)
    weights = load_file(source / WEIGHTS)
    rounded = {
        key: one.to(torch.bfloat16) if one.is_floating_point() else one
        for key, one in weights.items()
    }
    save_file(rounded, folder / WEIGHTS, metadata={"format": "pt"})


def _pack_wheels(folder: Path, python: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    command += [f"--platform={name}" for name in PLATFORMS]
    subprocess.run([*command, "-c", str(ROOT / "constraints.txt"), *WHEELS], check=True)


def use_full_sizes(glue: Path) -> None:
    """Count a task's train examples as they are in a folder: updates are estimated from that."""
    from pyarrow import parquet

    from mtkd.tasks import GLUE

    for name, task in list(GLUE.items()):
        if files := list(glue.glob(f"{name}/train-*.parquet")):
            rows = sum(parquet.read_metadata(path).num_rows for path in files)
            GLUE[name] = replace(task, num_train=rows)


def run(options: argparse.Namespace) -> None:
    """Train what the time allows, and write it to `out` without weights."""
    started, folder = time.perf_counter(), options.pack.resolve()
    _install(folder)
    os.environ |= settings_of_environment(folder, options.work or folder / "artifacts")
    use_full_sizes(folder / "glue")
    units, reports = plan(options.study, options.set)
    levels = [sum(one.updates for one in units if one.level == at) for at in range(len(reports))]
    updates = ", ".join(f"{one:,}" for one in levels)
    print(
        f"{len(units)} runs, {sum(levels):,} updates ({updates} for the {len(reports)} reports, "
        f"one after another): {sum(levels) / options.limit:.1f} a second finish it all in time."
    )
    budget = Budget(options.workers, options.limit, options.grace, started)
    log = run_units(units, options.study, options.set, budget)
    done = {row["unit"] for row in log if not row["error"]}
    whole = [
        changes
        for place, changes in enumerate(reports)
        if all(unit.name in done for unit in units if unit.level <= place)
    ]
    about = {"study": options.study, "overrides": options.set, "workers": options.workers}
    about |= {"seconds": round(time.perf_counter() - started, 1), "device": device_name()}
    about |= {"report": [*options.set, *whole[-1]] if whole else None, "units": log}
    options.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(about, indent=1) + "\n"
    (options.out / "run.json").write_text(text, encoding="utf-8")
    collect(Path(os.environ["MTKD_WORK"]), options.out)


def check(options: argparse.Namespace) -> None:
    """Run the tests that need a GPU, and compare speed on it."""
    started, folder = time.perf_counter(), options.pack.resolve()
    _install(folder)
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    tests = [sys.executable, "-m", "pytest", "-v", "-s", "-p", "no:cacheprovider", "-m", "gpu"]
    tests += ["tests/gpu", f"--junitxml={out / 'tests.xml'}"]
    failed = subprocess.run(tests, cwd=ROOT, check=False, timeout=options.limit).returncode
    bench = [sys.executable, str(ROOT / "benchmarks" / "bench.py"), "--gpu", "--rounds", "3"]
    bench += ["--threads", "1", "--updates", "64", "--out", str(out / "bench")]
    left = options.limit - (time.perf_counter() - started)
    subprocess.run(bench, check=False, timeout=max(30, left))
    raise SystemExit(failed)


def _install(folder: Path) -> None:
    """Unpack the wheels, and let this process and its children import them and the code."""
    wheels, site = folder / "wheels", folder / "site"
    search = [str(ROOT), str(site)]
    if wheels.is_dir() and not site.is_dir():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps"]
        files = sorted(map(str, wheels.glob("*.whl")))
        subprocess.run([*command, "--no-compile", "--target", str(site), *files], check=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(search)
    sys.path[:0] = search


def settings_of_environment(folder: Path, work: Path) -> dict[str, str]:
    """Return the environment of the processes that train."""
    found = {"MTKD_WORK": str(work), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    found["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    if (folder / "glue").is_dir():
        found["MTKD_GLUE"] = str(folder / "glue")
    for path in folder.glob("encoders/*/*"):
        found[f"MTKD_ENCODER_{path.parent.name.upper()}"] = str(path)
    return found


def device_name() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "processor"


def collect(work: Path, out: Path) -> None:
    """Write the finished artifacts below `work`, without what no report reads, in parts."""
    from mtkd.artifacts import pack as pack_artifacts

    whole = out / PACKED
    pack_artifacts(work, whole, lambda file: file.name.endswith(LEFT_OUT))
    content = whole.read_bytes()
    whole.unlink()
    for number, start in enumerate(range(0, len(content), PART_LIMIT)):
        (out / f"{PACKED}.{number:02}").write_bytes(content[start : start + PART_LIMIT])
    print(f"{out}: artifacts without weights, {len(content) / 2**20:.1f} MiB")


def unpack(options: argparse.Namespace) -> None:
    """Put artifacts where this machine's study looks for them, and say how to make the report."""
    from mtkd import paths
    from mtkd.artifacts import restore

    work = options.work or paths.work_folder("")
    parts = sorted(options.out.glob(f"{PACKED}.*"))
    content = b"".join(part.read_bytes() for part in parts)
    restored = restore(io.BytesIO(content), work)
    about = json.loads((options.out / "run.json").read_text(encoding="utf-8"))
    print(f"{len(restored)} artifacts in {work}")
    if about["report"] is None:
        raise SystemExit("The time was over before a seed was whole: there is no report to make.")
    changes = " ".join(f"--set '{change}'" for change in about["report"])
    given = settings_of_environment(options.pack.resolve(), work)
    names = " ".join(f"{key}={one}" for key, one in given.items() if key.startswith("MTKD"))
    print(f"The report: {names} mtkd stage {about['study']} 11_report {changes}".rstrip())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(required=True)
    for step in (pack, check, run, unpack):
        its = steps.add_parser(step.__name__, description=step.__doc__)
        its.set_defaults(step=step)
        its.add_argument("pack", type=Path, help="folder with what travels")
        its.add_argument("--study", default="glue-full")
        its.add_argument("--set", action="append", default=[], help="as of mtkd run")
        if step is pack:
            its.add_argument("--python", default="3.12", help="version on the other machine")
            its.add_argument("--no-wheels", action="store_true")
            continue
        its.add_argument("out", type=Path, help="folder with what comes back")
        its.add_argument("--work", type=Path, help="folder of the artifacts")
        its.add_argument("--limit", type=float, default=420, help="seconds to start runs")
        its.add_argument("--grace", type=float, default=60, help="seconds more to end them")
        its.add_argument("--workers", type=int, default=12, help="trainings side by side")
    options = parser.parse_args()
    options.step(options)


if __name__ == "__main__":
    main()
