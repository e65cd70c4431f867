"""What a release says of itself: metadata, the citation, and the list of programs."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.specifiers import SpecifierSet

import swiftnets
from swiftnets.__main__ import PROGRAMS, main

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = Path(swiftnets.__file__).parent
in_a_tree = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs a source tree")


def run(*command, code=0):
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done


# Metadata


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    """As a wheel has it; nothing is compiled for that."""
    if not (ROOT / "pyproject.toml").exists() or find_spec("setuptools") is None:
        pytest.skip("needs a source tree and setuptools")
    folder = tmp_path_factory.mktemp("metadata")
    run("-c", "import sys\nfrom setuptools.build_meta import prepare_metadata_for_build_wheel\n"
        "prepare_metadata_for_build_wheel(sys.argv[1])", str(folder))  # fmt: skip
    (found,) = folder.glob("*.dist-info/METADATA")
    return Metadata.from_email(found.read_bytes(), validate=True)


def test_metadata_are_valid_and_of_this_version(metadata):
    assert (metadata.name, str(metadata.version)) == ("swiftnets", swiftnets.__version__)
    assert len(metadata.summary) < 100 and "\n" not in metadata.summary
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description.startswith("# swiftnets")
    # The licence is an expression, beside which no classifier of one is allowed (PEP 639).
    assert metadata.license_expression
    assert not [one for one in metadata.classifiers if one.startswith("License ::")]
    for name in metadata.license_files:
        assert (ROOT / name).is_file()


def test_classifiers_have_the_versions_that_are_required(metadata):
    prefix = "Programming Language :: Python :: 3."
    minors = [int(one.removeprefix(prefix)) for one in metadata.classifiers if prefix in one]
    assert minors == list(range(min(minors), max(minors) + 1)) == [11, 12, 13, 14]
    required = SpecifierSet(str(metadata.requires_python))
    assert f"3.{min(minors) - 1}" not in required and f"3.{min(minors)}" in required
    assert len(set(metadata.classifiers)) == len(metadata.classifiers)


def test_extras_that_messages_and_pages_name_are_there(metadata):
    named = {"test"}
    for path in (*PACKAGE.rglob("*.py"), *(ROOT / "docs").glob("*.md"), ROOT / "README.md"):
        for extras in re.findall(r"swiftnets\[([\w,]+)\]", path.read_text()):
            named |= set(extras.split(","))
    assert len(named) > 4
    assert named <= set(metadata.provides_extra)


def test_the_readme_is_rendered(metadata):
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": False})
    text = metadata.description
    tokens = parser.enable("table").parse(text)
    kinds = [token.type for token in tokens]
    assert kinds[0] == "heading_open" and "table_open" in kinds
    # A fence that is not closed goes on to the end of the page.
    assert kinds[-1] == "paragraph_close"
    assert kinds.count("fence") * 2 == len(re.findall(r"^```", text, re.M))
    pieces = [piece for token in tokens for piece in token.children or ()]
    # On an index's page there are no files of the repository beside it.
    targets = [piece.attrs["href"] for piece in pieces if piece.type == "link_open"]
    assert all(target.startswith("https://") for target in targets)
    assert not [piece for piece in pieces if piece.type == "image"] and "](" not in text
    words = (ROOT / "README.md").read_text()
    assert all(word in text for word in re.findall(r"(?<!!)\[([^\]]+)\]\(", words))


# The citation


@in_a_tree
def test_the_citation_is_of_this_version():
    """Its schema 1.2.0 asks for four keys, and knows no others than some of these."""
    cff = pytest.importorskip("yaml").safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = {"cff-version", "message", "title", "authors", "type", "abstract", "version"}
    known |= {"license", "keywords", "date-released", "repository-code", "url", "doi"}
    assert {"cff-version", "message", "title", "authors"} <= set(cff) <= known
    assert (cff["cff-version"], cff["type"]) == ("1.2.0", "software")
    assert cff["version"] == swiftnets.__version__ and "swiftnets" in cff["title"]
    assert cff["license"] == "Apache-2.0" and cff["keywords"] == project["keywords"]
    assert all("name" in one or "family-names" in one for one in cff["authors"])


@in_a_tree
def test_an_import_error_names_an_extra_that_exists_and_how_it_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [path.read_text() for path in PACKAGE.rglob("*.py")]
    raised = [
        ast.unparse(node.exc)
        for text in texts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Raise) and ast.unparse(node).startswith("raise ImportError(")
        if node.cause is not None  # which others are where an old version is found
    ]
    assert len(raised) >= 7
    assert [text for text in raised if "pip install " not in text] == []
    named = {name for text in texts for name in re.findall(r"swiftnets\[(\w+)\]", text)}
    assert named <= set(project["optional-dependencies"])


@in_a_tree
def test_the_notebooks_import_what_their_extra_brings():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    # What imports of other names come with.
    brought = {"cycler": "matplotlib", "IPython": "ipykernel"}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        code = "\n".join("".join(one["source"]) for one in cells if one["cell_type"] == "code")
        names = set(re.findall(r"^\s*(?:import|from) (\w+)", code, re.M))
        names -= {"swiftnets", "numpy", *sys.stdlib_module_names}
        assert {brought.get(name, name) for name in names} <= set(extras["notebooks"]), path.name


# Programs


def test_all_programs_are_listed():
    found = {
        ".".join(("swiftnets", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in PACKAGE.rglob("*.py")
        if re.search('^if __name__ == "__main__":', path.read_text(), re.M)
    }
    assert found - {"swiftnets.__main__"} == set(PROGRAMS)


def test_the_package_lists_its_programs(capsys):
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"swiftnets {swiftnets.__version__}: ")
    for name, text in PROGRAMS.items():
        assert re.search(rf"^  python -m {re.escape(name)} +{re.escape(text)}$", printed, re.M)


def test_its_options(capsys):
    for option, begins in (("--version", f"swiftnets {swiftnets.__version__}\n"),
                           ("--help", "usage: python -m swiftnets")):  # fmt: skip
        with pytest.raises(SystemExit) as end:
            main([option])
        assert end.value.code == 0
        assert capsys.readouterr().out.startswith(begins)
    with pytest.raises(SystemExit) as end:
        main(["slow_net"])
    assert end.value.code == 2
    assert "unrecognized arguments: slow_net" in capsys.readouterr().err


def test_it_runs_as_a_module_and_loads_no_engine():
    code = "import runpy, sys\ntry: runpy.run_module('swiftnets', run_name='__main__')\n"
    code += "except SystemExit as end: print(end.code, sorted({'numpy', 'swiftnets._core'} & "
    code += "set(sys.modules)))"
    assert run("-W", "error", "-c", code).stdout.endswith("\n0 []\n")


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_has_help(name):
    printed = run("-W", "error", "-m", name, "--help").stdout
    assert printed.startswith("usage: ") and name.rpartition(".")[2] in printed
