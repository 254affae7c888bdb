"""The package's shape: imports go one way, the top level is short, and no function takes a list of
parameters."""

import ast
from pathlib import Path

import pytest

import mtkd

PACKAGE = Path(mtkd.__file__).parent
# Each layer imports from those before it alone.
LAYERS = [
    {"errors", "progress", "provenance", "artifacts", "tasks", "paths"},
    {"config"},
    {"data"},
    {"models"},
    {"training"},
    {"report"},
    {"stages"},
    {"inference", "workflow"},
    {"cli"},
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
MODULES = sorted(PACKAGE.rglob("*.py"))


def package_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Return the top-level names of mtkd that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "mtkd":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mtkd."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
            names |= {part[1] for part in parts if part[0] == "mtkd" and len(part) > 1}
    return names - {"__version__"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    here = package_of(path)
    if here == "__init__":
        assert not imported(path)
        return
    above = {name for name in imported(path) if LAYER[name] > LAYER[here]}
    beside = {name for name in imported(path) if LAYER[name] == LAYER[here] and name != here}
    assert not above, f"{here} is to the left of {', '.join(above)}"
    assert here in LAYERS[0] or not beside, f"{here} and {', '.join(beside)} are on one level"


def test_the_first_layer_has_no_cycle():
    edges = {name: imported(PACKAGE / f"{name}.py") for name in LAYERS[0]}
    while edges:
        leaves = {name for name, above in edges.items() if not above & edges.keys()}
        assert leaves, f"a cycle among {', '.join(edges)}"
        edges = {name: above for name, above in edges.items() if name not in leaves}


def test_the_top_level_is_read_in_a_minute():
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert len(packages) == 8 and len(files) <= 7
    assert packages | files <= LAYER.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_and_functions_are_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    assert "fmt: skip" not in text and "fmt: off" not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            names = [argument.arg for argument in given if argument.arg not in ("self", "cls")]
            assert len(names) <= 7, f"{node.name} takes {', '.join(names)}"


def test_the_snakefile_is_short():
    assert len((PACKAGE.parent / "Snakefile").read_text().splitlines()) <= 80
