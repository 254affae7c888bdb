"""Where the time of a study goes: processor seconds of one MT-DNN run, from the imports to its page, by part.

    python benchmarks/by_stage.py                                # quick's first MT-DNN, its encoder pre-trained before
    python benchmarks/by_stage.py laptop --set data.max_train=500

One process with one thread and an empty work folder; the page is made by papermill afterwards, when nothing is left to
train. Parts that lie in another (the batches of the dev scores) count there alone.
"""

import argparse
import os
import resource
import tempfile
import time
from collections import defaultdict
from pathlib import Path

PARTS = {
    "imports": "imports",
    "pretrain": "pre-training the encoder",
    "data": "reading and checking data",
    "tokens": "tokenisation",
    "batch": "making mini-batches",
    "forward": "forward",
    "backward": "backward",
    "max_grad_norm": "clipping",
    "optimizer": "optimizer",
    "checkpoint": "checkpoints",
    "score": "dev scores, test predictions",
    "other": "the rest of training",
    "page": "notebook and page",
}


class Ledger:
    """Processor seconds by part; a part that begins within another stops the other's clock."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = time.process_time()

    def _turn(self) -> None:
        now = time.process_time()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def of(self, part: str, function, within: str | None = None):
        """The function with its time booked; not where the part `within` is open already."""

        def booked(*given, **named):
            if within in self._open:
                return function(*given, **named)
            self._turn()
            self._open.append(part)
            try:
                return function(*given, **named)
            finally:
                self._turn()
                self._open.pop()

        return booked


def patched(ledger: Ledger) -> None:
    """Books what the stages call."""
    import torch
    from accelerate import Accelerator

    from mtkd.data.dataset import Examples
    from mtkd.models import MultiTaskModel
    from mtkd.stages import common as stages
    from mtkd.training import checkpoint as checkpoints
    from mtkd.training import loop as training

    for place, name, part in (
        (Examples, "batch", "batch"),
        (MultiTaskModel, "forward", "forward"),
        (Accelerator, "backward", "backward"),
        (Accelerator, "clip_grad_norm_", "max_grad_norm"),
        (checkpoints, "save", "checkpoint"),
        (stages, "predict", "score"),
    ):
        setattr(
            place,
            name,
            ledger.of(part, getattr(place, name), within=None if part == "score" else "score"),
        )
    plain = training.optimizer_of

    def optimizer_of(*given) -> torch.optim.Optimizer:
        found = plain(*given)
        kind = type(found)
        found.__class__ = type(kind.__name__, (kind,), {"step": ledger.of("optimizer", kind.step)})
        return found

    training.optimizer_of = optimizer_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", nargs="?", default="quick")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="field=value")
    given = parser.parse_args()
    ledger = Ledger()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ |= {
            "MTKD_WORK": f"{scratch}/artifacts",
            "MTKD_REPORTS": f"{scratch}/reports",
            "MTKD_LOG": os.devnull,
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }

        def imports():
            from mtkd.config import study as studies
            from mtkd.stages import common as stages
            from mtkd.stages import inputs as encoders
            from mtkd.workflow import jobs as plan
            from mtkd.workflow import notebook as notebooks

            return encoders, notebooks, plan, stages, studies

        encoders, notebooks, plan, stages, studies = ledger.of("imports", imports)()
        study = studies.load(given.study, given.overrides)
        job = next(job for job in plan.jobs(study) if job.notebook == "02_mtdnn")
        ledger.of("data", stages.data)(study)
        ledger.of("pretrain", encoders.encoder)(study, job.parameters["encoder"])
        ledger.of("tokens", encoders.tokens)(study, job.parameters["encoder"])
        patched(ledger)
        ledger.of("other", stages.mtdnn)(study, *job.parameters.values())
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        chosen = {**job.parameters, "study": given.study, "overrides": ";".join(given.overrides)}
        ledger.of("page", notebooks.run)(
            job.notebook, Path(scratch, "page.ipynb"), chosen, Path(scratch, "log")
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        ledger.seconds["page"] += (
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        )
    whole = sum(ledger.seconds.values())
    print(f"| part of {job.name} | processor seconds | share |\n|---|---:|---:|")
    for part, words in PARTS.items():
        print(f"| {words} | {ledger.seconds[part]:.2f} | {ledger.seconds[part] / whole:.1%} |")
    print(f"| all | {whole:.2f} | |")


if __name__ == "__main__":
    main()
