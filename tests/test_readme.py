"""The README's commands are commands that this project has, and its pictures and tables are the reports' own."""

import re

import pytest
from helpers import ROOT, mtkd

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line.strip()
    for block in re.findall(r"```bash\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.strip()
]


def test_every_make_target_named_exists():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    named = {found for line in COMMANDS for found in re.findall(r"\bmake (\w+)", line)}
    assert named and named <= targets


def test_every_study_named_exists():
    named = {
        found
        for line in COMMANDS
        for found in re.findall(r"STUDY=(\w+)|mtkd run (\w+)(?![\w/.])", line)
        for found in found
        if found
    }
    assert named and all((ROOT / "studies" / f"{name}.yaml").is_file() for name in named)


@pytest.mark.parametrize(
    "line", [line for line in COMMANDS if line.startswith("mtkd ") and "--dry-run" in line]
)
def test_commands_that_compute_nothing_run(line):
    done = mtkd(*line.split("#")[0].split()[1:])
    assert done.returncode == 0, done.stderr


def test_pictures_and_files_it_links_to_exist():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links and all((ROOT / link).exists() for link in links)


MARKED = re.findall(r"<!-- (\w+) (\w+) -->(.*?)<!-- end -->", README, re.S)


@pytest.mark.parametrize(
    ("name", "study", "marked"), MARKED, ids=[f"{name} {study}" for name, study, _ in MARKED]
)
def test_its_tables_are_the_reports_own(name, study, marked):
    rows = (
        (ROOT / "reports" / study / "tables" / f"{name}.md")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    own = [line for line in marked.splitlines() if line.startswith("| ")]
    assert len(own) > 3 and all(line in rows for line in own)


def test_it_has_the_tables_of_the_reference_studies():
    marked = {(name, study) for name, study, _ in MARKED}
    assert marked >= {
        ("table3", "quick"),
        ("table3", "longer"),
        ("table3", "compared"),
        ("table3", "laptop"),
        ("mkd", "laptop"),
    }
