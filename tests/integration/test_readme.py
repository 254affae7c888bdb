"""README: short, true to the graph of stages, and tested by CI. See also test_docs.py."""

import re

import pytest
from helpers import ROOT, TINY

from mtkd import stages
from mtkd.config.study import load

README = (ROOT / "README.md").read_text(encoding="utf-8")
EVERY_STAGE = ["ranking=[qnli]", "adaptation={}"]  # added to the tiny study


@pytest.fixture(scope="module")
def edges() -> set[tuple[str, str]]:
    """Return the edges between stages of a study with every stage."""
    study = load(TINY, EVERY_STAGE)
    return {
        (parent.stage, run.stage)
        for run in stages.all_runs(study)
        for parent in stages.parents(study, run)
    }


def test_it_has_at_most_two_hundred_lines():
    assert len(README.splitlines()) <= 200


def test_its_subjects_come_in_order():
    titles = re.findall(r"^## (.+)$", README, re.MULTILINE)
    assert titles == [
        "Quick start",
        "The method",
        "The pipeline",
        "Real GLUE",
        "Configure",
        "Your own tasks",
        "Use a model",
        "Layout",
        "Reproducibility and limits",
        "Develop, cite, licence",
    ]


def test_its_table_of_notebooks_is_that_of_the_stages():
    rows = re.findall(r"^\| `(\w+)` \| \[(\w+)\]", README, re.MULTILINE)
    modules = {name: module.__name__.rpartition(".")[2] for name, module in stages.stages().items()}
    assert dict(rows) == modules
    assert set(modules) == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}


def test_its_pipeline_is_the_graph_of_the_stages(edges):
    (picture,) = re.findall(r"```mermaid\n(.*?)```", README, re.DOTALL)
    arrows = {"-->": set(), "-.->": set()}
    for line in picture.splitlines()[1:]:
        words = line.split()
        for first, arrow, second in zip(words[::2], words[1::2], words[2::2], strict=False):
            arrows[arrow].add((first, second))
    first_six = {(a, b) for a, b in edges if a != b and b < "06"}
    assert arrows["-->"] == first_six | {("05_finetune", "11_report")}
    assert arrows["-.->"] <= edges
    drawn = arrows["-->"] | arrows["-.->"]
    assert {name for pair in drawn for name in pair} == set(stages.stages())


def test_its_order_of_imports_is_that_of_the_architecture():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    orders = [re.findall(r"^errors .* → cli$", text, re.MULTILINE) for text in (README, page)]
    assert len(orders[0]) == 1 and orders[0] == orders[1]
    for name in re.findall(r"\w+", orders[0][0]):
        assert any((ROOT / "mtkd" / f"{name}{end}").exists() for end in ("", ".py")), name


def test_ci_runs_its_test_command():
    assert "make test " in README
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()
