"""The recipes of docs/guide.md: each runs by itself, and prints what is below it."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[1] / "docs" / "guide.md"
TEXT = GUIDE.read_text() if GUIDE.exists() else ""
RECIPES = dict(re.findall(r"^## (\d+\. .+)\n((?:(?!## ).*\n)*)", TEXT, re.M))

pytestmark = pytest.mark.skipif(not TEXT, reason="needs a source tree")


def parts(recipe):
    """The snippet, and what it is to print."""
    snippets = re.findall(r"```python\n(.*?)```", recipe, re.DOTALL)
    printed = re.findall(r"```text\n(.*?)```", recipe, re.DOTALL)
    assert len(snippets) == 1 and len(printed) == ("print(" in snippets[0])
    return snippets[0], printed[0] if printed else ""


def test_there_are_at_least_twelve_and_they_are_numbered():
    assert [int(title.split(".")[0]) for title in RECIPES] == list(range(1, len(RECIPES) + 1))
    assert len(RECIPES) >= 12


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_runs_as_pasted(title, tmp_path, monkeypatch, capsys):
    snippet, printed = parts(RECIPES[title])
    for name in set(re.findall(r"^(?:import|from) (\w+)", snippet, re.M)):
        if find_spec(name) is None:
            pytest.skip(f"needs {name}")
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, title, "exec"), {"__name__": "recipe"})
    assert capsys.readouterr().out == printed
