"""What a study costs on a GPU: its training's operations from the plan, at a rate and a price that the reader sets.

Operations: matrix products of the encoder over the word pieces of GLUE's examples (mean lengths as in `work.LENGTHS`, cut at
the study's max_length), three times the forward pass for a training step; scoring comes on top (a few percent). The rate is
an assumption: a GPU's peak times the share of it that training reaches.
"""

import argparse
import math

from work import LENGTHS

from mtkd import tasks
from mtkd.config import study as studies
from mtkd.config.mkd import LstmStudent
from mtkd.config.study import Study
from mtkd.workflow import jobs as plan

SHAPES = {
    "bert-base": (12, 768),
    "bert-large": (24, 1024),
}  # layers and width by the checkpoint's name


def pieces(study: Study) -> float:
    """Mean word pieces of an example over the study's tasks, as many examples of each as its full train set has."""
    sizes = {name: tasks.get(name).num_train for name in study.multitask}
    means = {
        name: min(math.exp(LENGTHS[name][0] + LENGTHS[name][1] ** 2 / 2), study.data.max_length)
        for name in sizes
    }
    return sum(sizes[name] * means[name] for name in sizes) / sum(sizes.values())


def forward(layers: int, width: int, n: float) -> float:
    """Floating-point operations of an example of n word pieces through a Transformer's layers."""
    return layers * (24 * n * width**2 + 4 * n**2 * width)


def of_student(settings, width: int, n: float) -> float:
    """The same through a student of MKD's."""
    if isinstance(settings, LstmStudent):
        hidden = settings.hidden
        return sum(
            16 * n * hidden * (given + hidden)
            for given in [settings.width, *[2 * hidden] * (settings.layers - 1), 6 * hidden]
        )
    return (
        forward(len(settings.kept_layers), width, n)
        if settings.kept_layers
        else forward(settings.layers, settings.hidden, n)
    )


def operations(study: Study) -> dict[str, float]:
    """Training operations of a study's jobs, by notebook."""
    checkpoint = study.encoders[study.student_encoder].checkpoint
    layers, width = next(shape for name, shape in SHAPES.items() if name in checkpoint)
    n, found = pieces(study), {}
    for job in plan.jobs(study):
        one = (
            of_student(study.mkd.students[job.parameters["student"]], width, n)
            if job.notebook == "06_mkd"
            else forward(layers, width, n)
        )
        found[job.notebook] = (
            found.get(job.notebook, 0.0) + 3 * one * job.steps * study.train.batch_size
        )
    return {name: value for name, value in found.items() if value}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("studies", nargs="*", default=["base", "paper"])
    parser.add_argument(
        "--tflops",
        type=float,
        default=312,
        help="peak of the GPU in bf16 (an A100's published one)",
    )
    parser.add_argument(
        "--share", type=float, default=0.35, help="of the peak that training reaches"
    )
    parser.add_argument("--price", type=float, default=2.0, help="of an hour of that GPU")
    given = parser.parse_args()
    print(
        "| study | jobs | updates | operations | GPU hours | money |\n|---|---:|---:|---:|---:|---:|"
    )
    for name in given.studies:
        study = studies.load(name)
        jobs, total = plan.jobs(study), sum(operations(study).values())
        hours = total / (given.tflops * 1e12 * given.share) / 3600
        print(
            f"| `{name}` | {len(jobs)} | {sum(job.steps for job in jobs) / 1e6:.2f} M | {total / 1e18:.1f} EFLOP | {hours:.0f} | "
            f"{hours * given.price:.0f} |"
        )


if __name__ == "__main__":
    main()
