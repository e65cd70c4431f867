"""The house's rules that import-linter does not know."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import swiftnets

ROOT = Path(swiftnets.__file__).parent
PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
FILES = sorted(ROOT.rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in FILES]
# Packages that a user may not have; what needs one imports it when it is needed.
OPTIONAL = {
    "dask",
    "distributed",
    "scipy",
    "torch",
    "onnx",
    "matplotlib",
    "tqdm",
    "zarr",
    "IPython",
}
# `Network.from_torch` and its like are names for what the room above them does, and `Network.load`
# returns what was saved.
ABOVE = {
    "network.py": {"swiftnets.interop", "swiftnets.mlp"},
    "mlp.py": {"swiftnets.interop"},
}
# Their import takes longer than what most calls need.
SLOW = {"difflib"}


def imports(path):
    """(node, whether inside a function) of every import."""

    def walk(node, inside):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.Import, ast.ImportFrom)):
                yield child, inside
            yield from walk(child, inside or isinstance(child, (ast.FunctionDef, ast.Lambda)))

    yield from walk(ast.parse(path.read_text()), False)


def test_openblas_is_called_where_a_fork_waits_for_it():
    sources = Path(__file__).resolve().parents[1] / "Sources" / "SwiftNets"
    for path in sources.rglob("*.swift"):
        if path.name == "Threads.swift":  # its set-up, before any call
            continue
        code = re.sub(r"//.*", "", path.read_text())
        guarded = re.findall(r"OpenBLAS\.call\(\s*scipy_", code)
        assert code.count("scipy_") == len(guarded), path


def modules(node):
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_only_optional_packages_are_imported_inside_a_function(path):
    late = {
        name
        for node, inside in imports(path)
        if inside
        for name in modules(node)
        if name.split(".")[0] not in OPTIONAL | SLOW
    }
    assert not late - ABOVE.get(str(path.relative_to(ROOT)), set())


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_name_with_an_underscore_stays_in_its_folder(path):
    own = ".".join(("swiftnets", *path.relative_to(ROOT).parts[:-1]))
    foreign = []
    for node, _ in imports(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("swiftnets"):
            folder = (
                node.module
                if (ROOT.parent / node.module.replace(".", "/")).is_dir()
                else (node.module.rpartition(".")[0])
            )
            for alias in node.names:
                is_private = alias.name.startswith("_") and not alias.name.startswith("__")
                # The engine itself, and the support that all rooms stand on.
                if is_private and folder != own and alias.name not in ("_core", "_support"):
                    foreign.append(f"{node.module}.{alias.name}")
    assert not foreign


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_module_is_short_or_says_why_not(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 600 or any("One file, as" in line for line in lines[:12])


@pytest.mark.skipif(not PROJECT.exists(), reason="needs a source tree")
def test_every_module_has_its_place_in_the_order_of_imports():
    (contract,) = tomllib.loads(PROJECT.read_text())["tool"]["importlinter"]["contracts"]
    places = [name for line in contract["layers"] for name in re.findall(r"[\w.]+", line)]
    homeless = []
    for path in FILES:
        name = ".".join(("swiftnets", *path.relative_to(ROOT).with_suffix("").parts))
        if name != "swiftnets.__init__" and not any(
            f"{name}.".startswith(f"{place}.") for place in places
        ):
            homeless.append(name)
    assert not homeless
