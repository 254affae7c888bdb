"""The command line: `mtkd run STUDY`, and what one does with its models.

Commands import what they need when they run, so that help and wrong settings cost no time.
"""

import codecs
import gc
import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from mtkd import paths
from mtkd.config.study import load
from mtkd.errors import UserError, explain_bad_path, explain_full_disk, one_line

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multi-task knowledge distillation that anyone can rerun.",
)

PLAIN = {"−": "-", "–": "-", "…": "...", "±": "+-", "·": "-"}  # in terminals without them

StudyName = Annotated[str, typer.Argument(help="A study's name, or the path of a YAML file.")]
StudyOrPlan = Annotated[str, typer.Argument(help="A study, or plan.json of 'mtkd run'.")]
RunName = Annotated[str, typer.Argument(help="As --dry-run lists it: 02_mtdnn.uncased-0.1-s0.")]
ModelName = Annotated[str, typer.Argument(help="STUDY:SYSTEM (quick:mt-dnn), or a folder.")]
Task = Annotated[str | None, typer.Option("--task", help="One of the model's tasks.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", help="Another value for a field: train.epochs=2.")
]
Texts = Annotated[list[str] | None, typer.Argument(help="A text, or a pair; or a file; or -.")]


@app.command()
def run(
    study: StudyName,
    cores: Annotated[int | None, typer.Option("-c", "--cores", min=1, help="Runs at once.")] = None,
    profile: Annotated[Path | None, typer.Option(help="A folder: profiles/slurm.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs; do nothing.")] = False,
    overrides: Overrides = None,
) -> None:
    """Run every stage of a study that is not done yet, and write its report."""
    settings = load(study, overrides or [])
    from mtkd.workflow import jobs
    from mtkd.workflow.run import run_study

    if dry_run:
        typer.echo(jobs.listing(settings))
    else:
        run_study(study, settings, overrides or [], cores, profile)


@app.command()
def new(
    study: Annotated[Path, typer.Argument(help="The study to write, such as mine.yaml.")],
    train: Annotated[list[str], typer.Option(help="FILE or NAME=FILE of a task's examples.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="A task's field: letters.dev=0.2.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take every proposal.")] = False,
) -> None:
    """Write a commented study of your own tasks after a look at their files."""
    from mtkd.workflow.new_study import write_study

    write_study(study, train, settings or [], None if yes else typer.prompt)
    typer.echo(f"{study} is written: read it, then 'mtkd run {study} --dry-run'.")


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="Where to; it may exist.")]) -> None:
    """Copy the notebooks, studies, profiles and examples, to change them in a folder of yours."""
    from mtkd.workflow.init import copy_parts

    copy_parts(folder)
    typer.echo(f"{folder}: mtkd uses these copies when it is run in that folder.")


@app.command(context_settings={"ignore_unknown_options": True})
def lab(
    options: Annotated[list[str] | None, typer.Argument(help="JupyterLab's: --no-browser.")] = None,
) -> None:
    """Open the current folder's notebooks in JupyterLab; the first time, copy them there."""
    from mtkd.workflow.init import open_lab

    open_lab(options or [])


@app.command()
def stage(study: StudyName, run: RunName, overrides: Overrides = None) -> None:
    """Compute one run without its notebook; under torchrun its processes share the training."""
    from mtkd import stages
    from mtkd.training.distributed import lead_group

    settings = load(study, overrides or [])
    lead_group(stages.load, settings, stages.find_run(settings, run))


@app.command()
def notebook(study: StudyOrPlan, run: RunName, overrides: Overrides = None) -> None:
    """Execute the notebook of one run, as `mtkd run` does."""
    from mtkd.workflow.process import die_with_run

    die_with_run()  # before anything slow
    from mtkd import stages
    from mtkd.workflow import jobs
    from mtkd.workflow.notebook import execute

    study, overrides = _requested(study, overrides)
    settings = load(study, overrides)
    chosen = stages.find_run(settings, run)
    log = paths.reports(settings.name) / "logs" / f"{chosen.name}.log"
    execute(chosen, study, overrides, jobs.executed(settings, chosen), log)


@app.command()
def pages(study: StudyOrPlan, overrides: Overrides = None) -> None:
    """Turn a study's executed notebooks into HTML pages (the last step of `mtkd run`)."""
    from mtkd.report.html import write_pages

    study, overrides = _requested(study, overrides)
    folder = paths.reports(load(study, overrides).name)
    if not write_pages(folder):
        raise UserError(
            f"{folder / 'notebooks'} holds no executed notebook: run 'mtkd run {study}'."
        )


@app.command()
def reference(
    study: StudyName,
    restore: Annotated[bool, typer.Option("--restore", help="Go on from it, here.")] = False,
) -> None:
    """Write what is committed of a study to reports/reference (for maintainers)."""
    settings = load(study)
    from mtkd.inference.glue_submission import write_submissions
    from mtkd.report.write import restore_reference, write_reference

    if restore:
        typer.echo(f"{restore_reference(settings.name)} artifacts without weights are restored.")
        return
    folder = write_reference(settings.name)
    for note in write_submissions(settings, folder / "submissions"):
        typer.echo(note)
    typer.echo(folder)


@app.command()
def predict(
    model: ModelName,
    texts: Texts = None,
    task: Task = None,
    columns: Annotated[
        list[str] | None, typer.Option(help="The file's text column; for a pair, twice.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--format", help="Of the input: csv, text …")] = None,
    out: Annotated[Path | None, typer.Option(help="A file for the predictions.")] = None,
) -> None:
    """Print labels and probabilities of texts, a line of JSON each."""
    gc.disable()  # for a fifth of the start: importing makes objects, and no garbage
    from mtkd.inference.load import load_model
    from mtkd.inference.predict import write_predictions
    from mtkd.inference.reader import source

    trained = load_model(model, task)
    write_predictions(
        trained, source(texts or [], trained.task, columns or (), kind, trained.quotes), out
    )


@app.command()
def export(
    model: ModelName,
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    task: Task = None,
    form: Annotated[str, typer.Option("--format", help="transformers or onnx.")] = "transformers",
    push: Annotated[str | None, typer.Option(help="Upload it to the hub: USER/NAME.")] = None,
) -> None:
    """Write a model for one task in transformers' format or as ONNX, with its model card."""
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the tracer's notes are not for users
    from mtkd.inference.export import export as export_model
    from mtkd.inference.load import load_model
    from mtkd.inference.push import open_repository

    upload = open_repository(push) if push else None
    table = export_model(load_model(model, task), out, form, push)
    typer.echo(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    typer.echo(f"{out}: see {out / 'README.md'}")
    if upload:
        typer.echo(upload(out))


@app.command()
def submit(
    study: StudyName,
    system: Annotated[str, typer.Argument(help="bert, mt-dnn or mt-dnn-kd.")],
    out: Annotated[Path, typer.Argument(help="The zip to write.")],
    overrides: Overrides = None,
) -> None:
    """Write the GLUE server's zip of a system's test predictions."""
    from mtkd.inference.glue_submission import write_submission

    for note in write_submission(load(study, overrides or []), system, out):
        typer.echo(note)
    typer.echo(f"{out}: eleven files")


@app.command()
def doctor(
    study: Annotated[list[str] | None, typer.Argument(help="Studies to look at (all).")] = None,
) -> None:
    """Tell what is installed and reachable here, and which studies can run."""
    from mtkd.workflow.doctor import report_lines

    for line in report_lines(study or []):
        typer.echo(line)


def _requested(study: str, overrides: list[str] | None) -> tuple[str, list[str]]:
    """Return a study and its overrides as given, or those of the plan that is given."""
    from mtkd.workflow.jobs import read_request

    return read_request(Path(study)) if study.endswith(".json") else (study, overrides or [])


class _Closed(io.StringIO):
    """A closed standard input: like a terminal at which nobody answers."""

    def isatty(self) -> bool:
        return True


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """Return characters that a terminal lacks as others: a minus sign must not get lost."""
    characters = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in characters), error.end


def _prepare_streams() -> None:
    """Make standard streams of those that are closed, and let them print whatever they can."""
    while (nowhere := os.open(os.devnull, os.O_RDWR)) < 3:  # or a file gets a stream's number
        os.set_inheritable(nowhere, True)
    os.close(nowhere)
    sys.stdin = sys.stdin or _Closed()
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    codecs.register_error("plainer", _plainer)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plainer")


def main() -> None:
    """Run the command line; what a user can mend ends with one line and status 2."""
    _prepare_streams()
    try:
        with explain_bad_path(), explain_full_disk(None, "MTKD_REPORTS"):
            sys.exit(app(sys.argv[1:] or ["--help"], prog_name="mtkd", standalone_mode=False))
    except UserError as error:
        text = str(error)
    except typer.BadParameter.__base__ as error:  # every way to call a command wrongly
        command = error.ctx.command_path if error.ctx else "mtkd"
        message = error.format_message().rstrip(".")
        text = one_line(f"{message}: '{command} --help' shows how it is called.")
    except typer.Abort:
        text = "Stopped, and nothing was written: answer the question, or give --yes."
    print(f"mtkd: {text}", file=sys.stderr)
    sys.exit(2)
