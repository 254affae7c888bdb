"""The benchmark: its ratios come from its rounds, and it runs at the smallest size."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from helpers import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
from bench import ratios

pytestmark = pytest.mark.slow


def test_ratios_are_medians_of_the_ratio_within_a_round():
    rates = {
        "train:mtkd": [100, 50, 200],
        "train:trainer": [25, 25, 25],
        "train:plain-loop": [10, 10, 10],
        "score:mtkd": [60, 50, 90],
        "score:pipeline": [10, 10, 10],
    }
    rows = [
        {"shape": "mini", "round": turn, "system": system, "rate": rate}
        for system, values in rates.items()
        for turn, rate in enumerate(values, start=1)
    ]
    times = ratios(pd.DataFrame(rows)).loc["mini"].to_dict()
    assert times == {"train:trainer": 4, "train:plain-loop": 10, "score:pipeline": 6}


def test_the_benchmark_runs_at_the_smallest_size(tmp_path):
    small = ["--shapes", "tiny", "--updates", "2", "--tasks", "2", "--scored", "32"]
    command = [sys.executable, ROOT / "benchmarks" / "bench.py", *small, "--rounds", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command += ["--systems", "all", "--threads", "1", "2", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "bench.json").read_text())
    assert len(results["rounds"]) == 12 and all(row["rate"] > 0 for row in results["rounds"])
    names = {"train:trainer", "train:trainer-tuned", "train:plain-loop", "score:pipeline"}
    assert results["ratios"].keys() == {"tiny, 1 thread", "tiny, 2 processes"}
    assert all(times.keys() == names for times in results["ratios"].values())
    assert (tmp_path / "speed.png").stat().st_size > 5000 and "score:mtkd" in done.stdout
