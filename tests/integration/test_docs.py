"""Documentation: generated parts are up to date, commands and links exist, studies are valid."""

import importlib.util
import json
import re
import shlex
import shutil

import pytest
import yaml
from helpers import ROOT
from typer.main import get_command

from mtkd import stages
from mtkd.cli import app
from mtkd.config.study import check, load

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
COMMANDS = get_command(app).commands
TARGETS = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
STUDIES = {path.stem for path in (ROOT / "studies").glob("*.yaml")}
CHEAP = ("--dry-run", "mtkd new", "mtkd doctor")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[str]:
    """Return the commands of a page's bash blocks without comments and pipes' first halves."""
    lines = "".join(blocks(text, "bash")).splitlines()
    parts = (part.strip() for line in lines for part in re.sub(r"\s+#.*", "", line).split(" | "))
    return [part for part in parts if part]


LINES = [(page, line) for page, text in TEXTS.items() for line in commands(text)]


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_what_make_docs_writes(generate):
    for path, text in generate.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: run make docs"


def test_results_are_rendered_from_a_reference_report(generate, tmp_path):
    folder = tmp_path / "quick"
    folder.mkdir()
    head = "study,system,task,split,metric,value,seed,n,params,seconds\n"
    base = "quick,mt-dnn,rte,validation,accuracy,50.0,0,277,1000000,1\n"
    student = "quick,mt-dnn-kd,rte,validation,accuracy,52.0,0,277,1000000,1\n"
    (folder / "results.csv").write_text(head + base + student)
    (folder / "comparisons.csv").write_text(
        "a,b,task,difference,low,high,p,p_holm,seeds,examples\n"
        "mt-dnn-kd,mt-dnn,average,2.0,-1.0,5.0,0.2,0.2,1,277\n"
    )
    (folder / "tables").mkdir()
    for name in ("claims", "mkd", "table1"):
        (folder / "tables" / f"{name}.md").write_text(f"**Table {name}**\n")
    run = {"computed on": ["a laptop", "a desktop"], "made": "2026-01-02"}
    run |= {"seconds": {"02_mtdnn": 3600, "04_student": 5400}, "unfinished": ["04_student.s1"]}
    (folder / "run.json").write_text(json.dumps(run))
    page, block = generate.results_page(tmp_path), generate.readme_block(tmp_path, "quick")
    for text in (page, block):
        assert "+2.00 (−1.00 to +5.00)" in text and "figures/overview.png" in text
    assert "**Table claims**\n\n**Table mkd**" in page and "**Table table1**" not in page
    assert "Made on 2026-01-02 on a laptop and a desktop, seeds 0." in page
    assert "smoke test" in block and "2.5 hours of one processor core so far" in block
    assert "runs still to come: 1." in block
    assert "replaces them; it is being made." in page
    until = generate.readme_block(tmp_path, "glue")
    assert "`glue`, is being made" in until and until.endswith(block)
    shutil.copytree(folder, tmp_path / "glue")
    (tmp_path / "glue" / "results.csv").write_text(head + base)  # unfinished
    assert generate.readme_block(tmp_path, "glue") == until
    assert "replaces them; it is being made." in generate.results_page(tmp_path)
    (tmp_path / "glue" / "results.csv").write_text(head + base + student)
    page, block = generate.results_page(tmp_path), generate.readme_block(tmp_path, "glue")
    assert "being made" not in page + block and "reference/glue/figures/overview.png" in block
    assert page.index("## glue") < page.index("## quick") and block.count("\n| MT-DNN") == 2
    assert "No reference report" in generate.results_page(tmp_path / "none")


def test_settings_tried_are_shown_with_how_they_were_scored(generate, tmp_path):
    path = tmp_path / "glue.tried.csv"
    path.write_text(
        "system,learning_rate,epochs,rte,stsb,average,chosen,examples,seeds\n"
        "bert,0.0001,2,60.14,85.0,72.57,,1000,2\n"
        "mt-dnn,5e-05,3,62,84,73,yes,1000,2\n"
    )
    lines = generate.tried_section(path).splitlines()
    assert lines[0] == "**Settings tried on held-back train examples**"
    assert lines[2] == "| System | Learning rate | Epochs | RTE | STS-B | Average | Chosen |"
    assert lines[4:6] == [
        "| BERT | 1e-4 | 2 | 60.1 | 85.0 | 72.6 |  |",
        "| MT-DNN | 5e-5 | 3 | 62.0 | 84.0 | 73.0 | **yes** |",
    ]
    assert "at most 1,000 of a task; seeds: 2" in lines[-1] and "no dev example" in lines[-1]


def test_the_configuration_page_has_every_field_of_every_class(generate):
    page = generate.configuration_page()
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) > 120 and all(map(all, rows))
    assert "| `ensemble_size` | integer ≥ 1 | `3` |" in page
    assert set(re.findall(r"\]\(#(\w+)\)", page)) <= {
        heading.lower() for heading in re.findall(r"^## (\w+)$", page, re.MULTILINE)
    }


@pytest.mark.parametrize("page", TEXTS)
def test_links_to_files_and_headings_exist(page):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", TEXTS[page]):
        path, _, heading = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert heading in anchors, f"{page}: {link}"


@pytest.mark.parametrize(("page", "line"), LINES, ids=[line for _, line in LINES])
def test_commands_exist_with_their_options(page, line):
    words = shlex.split(line)
    while "=" in words[0]:
        words.pop(0)
    if words[0] == "make":
        assert words[1] in TARGETS, line
        named = [word.removeprefix("STUDY=") for word in words if word.startswith("STUDY=")]
        assert set(named) <= STUDIES, line
    elif "mtkd" in words:
        check_mtkd(words[words.index("mtkd") + 1 :], line)
    elif words[0] == "python":  # a script and its step
        script = ROOT / words[1].removeprefix("PACK/code/")
        assert f"def {words[2]}(" in script.read_text(encoding="utf-8"), line
    else:
        assert words[0] in ("pip", "cat", "cd", "source"), line


def check_mtkd(words: list[str], line: str) -> None:
    """Check a command's options, and the study that it names."""
    assert words[0] in COMMANDS, line
    command = COMMANDS[words[0]]
    command.make_context(words[0], list(words[1:]), resilient_parsing=True)
    known = {flag for parameter in command.params for flag in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known | {"--help"}, line
    if words[0] in ("run", "stage", "submit", "reference"):
        name = words[1]
        assert name in STUDIES or name == "mine.yaml" or (ROOT / name).is_file(), line
        overrides = [words[at + 1] for at, word in enumerate(words) if word == "--set"]
        if name != "mine.yaml":
            study = load(ROOT / name if name.endswith(".yaml") else name, overrides)
            assert words[0] != "stage" or stages.find_run(study, words[2])
    if words[0] in ("predict", "export"):
        assert words[1].partition(":")[0] in STUDIES, line


def test_cheap_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    lines = {line for _, line in LINES if any(part in line for part in CHEAP)}
    for line in sorted(lines, key=lambda line: "mtkd new" not in line):
        words = shlex.split(line)[1:]
        words = [str(tmp_path / word) if word == "mine.yaml" else word for word in words]
        app(words, standalone_mode=False)
    assert {line.split()[1] for line in lines} == {"new", "run", "doctor"}


@pytest.mark.parametrize("page", TEXTS)
def test_yaml_examples_are_valid_settings(page):
    encoders = {"encoders": {"uncased": {"checkpoint": "somewhere/bert"}}}
    for text in blocks(TEXTS[page], "yaml"):
        check({"name": "example"} | encoders | yaml.safe_load(text), page)
