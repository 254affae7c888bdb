"""The command line: `mtkd run STUDY`, and what one does with its models."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mtkd.config import study as studies
from mtkd.errors import UserError, bad_path_told, full_disk_told, one_line

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multi-task knowledge distillation that anyone can rerun.",
)

StudyName = Annotated[str, typer.Argument(help="A study of studies/, or the path of a YAML file.")]
ModelName = Annotated[
    str, typer.Argument(help="STUDY:SYSTEM, such as quick:mt-dnn-kd, or a model's folder.")
]
TaskName = Annotated[
    str | None,
    typer.Option("--task", help="One of the model's tasks (not needed where it has one)."),
]
Overrides = Annotated[
    list[str], typer.Option("--set", help="Another value for a field, such as train.epochs=2.")
]


@app.command()
def run(
    study: StudyName,
    cores: Annotated[
        int | None,
        typer.Option("-c", "--cores", min=1, help="Runs side by side (2, or as the profile says)."),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(help="Where the jobs run: a Snakemake profile, such as profiles/slurm."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the jobs with their steps; compute nothing.")
    ] = False,
    overrides: Overrides = [],
) -> None:  # noqa: B006
    """Runs every stage of a study that is not done yet, and writes its report."""
    from mtkd.workflow import run as workflow

    found = studies.load(study, overrides)
    if dry_run:
        typer.echo(workflow.listing(found))
    else:
        workflow.run(study, found, cores, overrides, profile)


@app.command()
def new(
    study: Annotated[Path, typer.Argument(help="The study to write, such as mine.yaml.")],
    train: Annotated[
        list[Path], typer.Option(help="A file of train examples; once for each task.")
    ],
    name: Annotated[
        list[str],
        typer.Option(help="The task's name; the first is that of the first --train, and so on."),
    ] = [],  # noqa: B006
    type: Annotated[list[str], typer.Option(help="single, pair or similarity.")] = [],  # noqa: B006
    columns: Annotated[
        list[str], typer.Option(help="The text column, or two parted by a comma.")
    ] = [],  # noqa: B006
    label: Annotated[list[str], typer.Option(help="The column of the class or score.")] = [],  # noqa: B006
    labels: Annotated[list[str], typer.Option(help="The classes in order, parted by commas.")] = [],  # noqa: B006
    metrics: Annotated[list[str], typer.Option(help="Metrics, parted by commas.")] = [],  # noqa: B006
    dev: Annotated[
        list[str], typer.Option(help="A dev file, or the share of train to hold out.")
    ] = [],  # noqa: B006
    test: Annotated[list[str], typer.Option(help="A test file.")] = [],  # noqa: B006
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing: take what the files propose.")
    ] = False,
) -> None:
    """Writes a commented study of your own tasks after a look at their files; what no option answers is asked."""
    from mtkd.workflow import new_study as starter

    starter.free(study)
    options = dict(
        name=name,
        type=type,
        columns=columns,
        label=label,
        labels=labels,
        metrics=metrics,
        dev=dev,
        test=test,
    )
    tasks = {}
    for place, path in enumerate(train):
        given = {
            key: values[place] if place < len(values) else None for key, values in options.items()
        }
        called, task = starter.interview(
            study,
            path,
            given,
            lambda text, proposal: proposal if yes else typer.prompt(text, proposal),
        )
        tasks[called] = task
    starter.write(study, tasks)
    typer.echo(
        f"{study} is written: read it, then mtkd run {study} --dry-run, and mtkd run {study}"
    )


@app.command()
def notebook(
    name: Annotated[str, typer.Argument(help="A notebook of notebooks/, such as 02_mtdnn.")],
    output: Annotated[Path, typer.Argument(help="Where the executed notebook goes.")],
    log: Annotated[Path, typer.Option(help="Where progress goes.")] = Path("notebook.log"),
    parameters: Annotated[list[str], typer.Option("-p", help="A parameter: name=value.")] = [],
) -> None:  # noqa: B006
    """Runs one notebook with parameters, as the workflow does."""
    from mtkd.workflow import kernels as warm

    given = dict(_parameter(text) for text in parameters)
    if not warm.call({"name": name, "output": str(output), "parameters": given, "log": str(log)}):
        from mtkd.workflow import notebook as notebooks

        notebooks.run(name, output, given, log)


def _parameter(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"-p {text}: write a parameter as name=value.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


@app.command()
def stage(
    study: StudyName,
    job: Annotated[
        str, typer.Argument(help="A job as --dry-run lists it, such as 02_mtdnn.uncased-0.1-s0.")
    ],
    overrides: Overrides = [],
) -> None:  # noqa: B006
    """Computes one stage without its notebook; under torchrun all of its processes share the training."""
    from mtkd.stages import ablation, adaptation, mkd, ranking
    from mtkd.stages import common as stages
    from mtkd.training import distributed as parallel
    from mtkd.workflow import jobs as plan

    found = studies.load(study, overrides)
    computed = {
        "00_data": stages.data,
        "01_pretrain": stages.pretrain,
        "02_mtdnn": stages.mtdnn,
        "03_teacher": stages.teacher,
        "04_student": stages.student,
        "05_finetune": stages.finetune,
        "06_ablation": ablation.ablation,
        "06_adaptation": adaptation.adaptation,
        "06_mkd": mkd.runs,
        "06_ranking": ranking.ranking,
    }
    jobs = {known.name: known for known in plan.jobs(found) if known.notebook in computed}
    if job not in jobs:
        raise UserError(
            f"Study {found.name} has no stage '{job}' to compute: its stages are {', '.join(jobs)}."
        )
    parallel.lead(computed[jobs[job].notebook], found, *jobs[job].parameters.values())


@app.command()
def pages(study: StudyName) -> None:
    """Turns a study's executed notebooks into HTML pages (the last step of `mtkd run`)."""
    from mtkd import paths as work
    from mtkd.report import html

    if not html.all_pages(folder := work.reports(studies.load(study))):
        raise UserError(
            f"{folder / 'notebooks'} holds no executed notebook: run 'mtkd run {study}', which makes them and their pages."
        )


@app.command()
def predict(
    model: ModelName,
    texts: Annotated[
        list[str],
        typer.Argument(help="A text, or two for a pair; or a file; or - for the standard input."),
    ] = [],  # noqa: B006
    task: TaskName = None,
    columns: Annotated[
        str | None, typer.Option(help="The file's columns, parted by a comma.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--format", help="csv, tsv, jsonl, parquet or text.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A file for the answers.")] = None,
) -> None:
    """Labels and probabilities of texts, a line of JSON each."""
    from mtkd.inference import predict as answers
    from mtkd.inference import reader as reading
    from mtkd.inference.load import open_model

    trained = open_model(model, task)
    answers.write(trained, reading.source(texts, trained.task, columns, kind), out)


@app.command()
def export(
    model: ModelName,
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    task: TaskName = None,
    form: Annotated[str, typer.Option("--format", help="transformers or onnx.")] = "transformers",
) -> None:
    """Writes a model for one task in transformers' format or as ONNX, with its model card."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the tracer's notes are not for users
    from mtkd.inference import export as exports
    from mtkd.inference.load import open_model

    table = exports.export(open_model(model, task), out, form)
    typer.echo(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    typer.echo(f"{out}: see {out / 'README.md'}")


@app.command()
def submit(
    study: StudyName,
    system: Annotated[str, typer.Argument(help="bert, mt-dnn or mt-dnn-kd.")],
    out: Annotated[Path, typer.Argument(help="The zip to write.")],
    overrides: Overrides = [],
) -> None:  # noqa: B006
    """Writes the GLUE server's zip of a system's test predictions."""
    from mtkd.inference import glue_submission as submission

    for note in submission.submit(studies.load(study, overrides), system, out):
        typer.echo(note)
    typer.echo(f"{out}: eleven files, every row checked")


@app.command()
def doctor(
    study: Annotated[
        list[str], typer.Argument(help="Studies to look at (all of studies/ where none is named).")
    ] = [],
) -> None:  # noqa: B006
    """What is installed and at hand here, which studies can run, and for about how long."""
    from mtkd.workflow import doctor as doctors

    for name in study:
        studies.load(name)
    for line in doctors.lines(study):
        typer.echo(line)


def main() -> None:
    """Runs the command line; what a user can mend ends with one line and status 2."""
    try:
        with bad_path_told(), full_disk_told(None, "MTKD_REPORTS"):
            sys.exit(app(sys.argv[1:] or ["--help"], prog_name="mtkd", standalone_mode=False))
    except UserError as error:
        told = str(error)
    except typer.BadParameter.__base__ as error:  # every way to call a command wrongly
        command = error.ctx.command_path if error.ctx else "mtkd"
        told = one_line(
            f"{error.format_message().rstrip('.')}: '{command} --help' tells how it is called."
        )
    except typer.Abort:
        told = "Stopped, and nothing was written: a question got no answer; answer it, or take every proposal by --yes."
    print(f"mtkd: {told}", file=sys.stderr)
    sys.exit(2)
