"""A report's folder: what it shows, the files of a run, and the reference that is committed."""

import json
import re
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from mtkd import paths
from mtkd.artifacts import pack, restore
from mtkd.config.study import Study
from mtkd.errors import UserError
from mtkd.report import figures, predictions, tables
from mtkd.report.finding import finding
from mtkd.report.html import INDEX, write_page
from mtkd.report.sections import Section
from mtkd.report.significance import Compared, rounded
from mtkd.report.style import save
from mtkd.report.table import Table
from mtkd.report.verdict import compare_with_reference

ARTIFACTS = "artifacts.zip"
COMMITTED = ("results.csv", "comparisons.csv", predictions.FILE, "run.json")
COMMITTED += ("tables/*.md", "figures/overview.png")


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows."""

    study: Study
    results: pd.DataFrame  # of the main systems
    candidates: pd.DataFrame  # rows of results.csv, too: the best candidate's first
    curves: pd.DataFrame  # run, system, seed, epoch, task, loss, metric, value
    soft: pd.DataFrame  # confidence.parquet of all tasks
    sizes: pd.DataFrame  # sizes.csv of the data
    run: dict  # run.json
    compared: Compared
    claims: Table
    sections: tuple[Section, ...] = ()

    @cached_property
    def frames(self) -> dict[str, pd.DataFrame]:
        """The CSV files by name: results and comparisons of all systems, and those of sections."""
        parts = {"results": [self.results, self.candidates]}
        parts |= {"comparisons": [rounded(self.compared.frame)]}
        for section in self.sections:
            parts.setdefault(section.csv, []).append(section.rows)
        return {name: pd.concat(frames, ignore_index=True) for name, frames in parts.items()}

    @cached_property
    def finding(self) -> list[str]:
        """The finding on the main systems, a sentence each."""
        left = len(self.run["unfinished"])
        unfinished = f"**{left} runs of this study are not finished** and left out."
        sentences = finding(self.results, self.compared, self.claims)
        return [unfinished, *sentences] if left else sentences

    @cached_property
    def tables(self) -> dict[str, Table]:
        """The main tables by name."""
        shown = [
            tables.summary(self.frames["results"], self.compared.frame),
            tables.table1(self.sizes, list(map(self.study.task, self.study.tasks))),
            tables.table3(pd.concat([self.results, self.candidates], ignore_index=True)),
            self.claims,
            tables.gains_table(self.results, self.compared),
            tables.comparisons_table(self.compared),
        ]
        return {table.name: table for table in shown}

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The main figures by name."""
        return {
            "overview": self.overview(),
            "learning_curves": figures.learning_curves(self.curves),
            "loss_curves": figures.learning_curves(self.curves, of="loss"),
            "soft_targets": figures.soft_targets(self.soft),
        }

    def overview(self, stacked: bool = False) -> Figure:
        """Draw the main result; with `stacked`, for a phone."""
        teachers = self.study.distil.teachers
        return figures.overview(self.results, self.sizes, teachers, self.compared, stacked)

    def verdict(self) -> Table | None:
        """Compare the written report with the reference, where there is one."""
        return compare_with_reference(self.study.name)


def write_report(report: ReportData, folder: Path) -> None:
    """Write a report's files to `folder`; the same data give the same bytes.

    These are results.csv, comparisons.csv, the sections' own CSV files, run.json, finding.md,
    tables/ (Markdown and CSV) and figures/ (PNG and SVG).
    """
    for part in ("tables", "figures"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, frame in report.frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    run = json.dumps(report.run, indent=1, default=str, ensure_ascii=False)
    (folder / "run.json").write_text(f"{run}\n", encoding="utf-8")
    finding, shown, drawn = [*report.finding], [*report.tables.values()], dict(report.figures)
    for section in report.sections:
        finding += section.finding()
        shown += section.tables()
        drawn |= section.figures
    (folder / "finding.md").write_text(bullets(finding), encoding="utf-8")
    for table in shown:
        (folder / "tables" / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
        (folder / "tables" / f"{table.name}.md").write_text(table.markdown(), encoding="utf-8")
    for name, figure in drawn.items():
        save(figure, folder / "figures" / name)


def bullets(sentences: list[str]) -> str:
    """Return sentences as a Markdown list."""
    return "".join(f"- {sentence}\n" for sentence in sentences)


def write_reference(study_name: str) -> Path:
    """Copy what is committed of a report to reports/reference/<study>, and return that folder.

    These are results.csv, comparisons.csv, predictions.parquet, run.json, tables as Markdown, the
    overview as PNG and the index page, which has all figures, without the verdict and the links to
    other pages. While runs are unfinished, the finished ones' artifacts without weights and
    texts, artifacts.zip, are there to go on from on another computer.

    Raises:
        UserError: if the study has no report, or one that was not computed at one commit.
    """
    folder, reference = paths.reports(study_name), paths.reference(study_name)
    notebook = folder / "notebooks" / f"{INDEX}.ipynb"
    if not notebook.is_file():
        raise UserError(f"{folder} holds no report: run 'mtkd run {study_name}' first.")
    check_commit(folder / "run.json")
    shutil.rmtree(reference, ignore_errors=True)
    for pattern in COMMITTED:
        for path in sorted(folder.glob(pattern)):
            copy = reference / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    write_page(notebook, reference / "index.html", drop="verdict")
    if json.loads((folder / "run.json").read_text(encoding="utf-8"))["unfinished"]:
        pack(paths.work_folder(study_name), reference / ARTIFACTS, _stays)
    return reference


def restore_reference(study_name: str) -> int:
    """Put the artifacts of an unfinished reference where the study goes on; return their number.

    Raises:
        UserError: if the reference has none.
    """
    packed = paths.reference(study_name) / ARTIFACTS
    if not packed.is_file():
        raise UserError(f"{packed} is not there: a reference has it until its study is finished.")
    return len(restore(packed, paths.work_folder(study_name)))


def _stays(file: Path) -> bool:
    """Return whether a file is not committed: weights, and artifacts that hold texts."""
    with_texts = "01_pretrain" in file.parts or any(file.parent.rglob("*.arrow"))
    return with_texts or file.suffix == ".safetensors"


def check_commit(run_json: Path) -> None:
    """Raise `UserError` unless all stages of a report were computed at one commit as it is."""
    commits = json.loads(run_json.read_text(encoding="utf-8")).get("computed at commits")
    if len(commits or ()) != 1 or not re.fullmatch("[0-9a-f]{7,40}", commits[0]):
        raise UserError(
            f"{run_json} was computed at {' and '.join(commits or ['no commit'])}: a reference is "
            "of one commit without changes; check it out, remove the study's artifacts and run it."
        )
