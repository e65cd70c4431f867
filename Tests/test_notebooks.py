"""The notebooks run from top to bottom, and the outputs committed with them are theirs."""

import re
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
MOST_BYTES = 400_000

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def _code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _kinds(cell):
    """What a cell shows, however its lines were cut into pieces on the way."""
    return {
        kind
        for output in cell.outputs
        for kind in (output.get("data") or {output.get("name", output.output_type): None})
        if kind != "text/plain"  # the spare form of a picture
    }


def test_every_notebook_is_known():
    names = [
        "01_slow_net",
        "02_fast_net",
        "03_exact_curvature",
        "04_inverse_hessian",
        "05_second_order_and_beyond",
        "06_spectra",
        "07_dynamics",
        "08_beyond_dense",
    ]
    assert [path.stem for path in NOTEBOOKS] == names


@each
def test_it_runs_and_shows_what_its_committed_outputs_show(path, tmp_path, monkeypatch):
    # The kernel of this environment, and no settings of the user's.
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    committed = nbformat.read(path, as_version=4)
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(
        notebook,
        timeout=400,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    for ran, kept in zip(_code(notebook), _code(committed), strict=True):
        assert _kinds(ran) == _kinds(kept), ran.source


@each
def test_what_is_committed_was_run_in_order_and_is_small(path):
    assert path.stat().st_size < MOST_BYTES
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = _code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = set().union(*map(_kinds, cells))
    assert {"stdout", "image/png"} <= kinds
    assert kinds <= {"stdout", "image/png", "text/markdown"}  # no errors, no warnings


@each
def test_it_tells_nothing_of_the_machine_it_ran_on(path):
    notebook = nbformat.read(path, as_version=4)
    text = "\n".join(
        output.text for cell in _code(notebook) for output in cell.outputs if "text" in output
    )
    assert not re.search(r"/(home|root|tmp|usr)/|site-packages", text)
