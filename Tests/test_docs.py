"""The site's API pages have every public name, and no page is left out of it."""

import re
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType

import pytest

import swiftnets

DOCS = Path(__file__).resolve().parents[1] / "docs"
# What is public: the package, the folders and modules that it names, and the tensors on disk.
MODULES = ["swiftnets", "swiftnets.curvature.tensors"] + [
    f"swiftnets.{name}"
    for name in swiftnets.__all__
    if isinstance(getattr(swiftnets, name), ModuleType)
]
ENTRY = re.compile(r"^\.\. currentmodule:: (\S+)|^   ([A-Za-z][\w.]*)$|^\.\. py:data:: (\S+)", re.M)

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="needs a source tree")


def documented():
    """Every object that an API page names; a module's page has all of the module's."""
    for page in sorted((DOCS / "api").glob("*.md")):
        home = ""
        for module, entry, data in ENTRY.findall(page.read_text()):
            if module:
                home = module
                continue
            found = resolve_name(f"{home}.{entry or data}")
            yield found
            if isinstance(found, ModuleType):
                yield from (getattr(found, name) for name in found.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_the_api_pages_have_every_public_name(module):
    pages = list(documented())
    missing = []
    for name in import_module(module).__all__:
        value = resolve_name(f"{module}.{name}")
        is_elsewhere = isinstance(value, ModuleType) or name == "__version__"
        if not is_elsewhere and not any(value is one for one in pages):
            missing.append(name)
    assert not missing


def test_every_page_is_reached_from_the_index():
    def below(page):
        yield page
        text = page.read_text()
        for tree in re.findall(r"```{toctree}\n(?::.*\n)*\n([^`]*)```", text):
            for name in tree.split():
                target = page.parent / f"{name}.md"
                if target.exists():
                    yield from below(target)
                else:
                    assert name.startswith("notebooks/"), target
                    assert (DOCS.parent / f"{name}.ipynb").exists(), target

    pages = {page for page in DOCS.rglob("*.md") if "generated" not in page.parts}
    assert pages == set(below(DOCS / "index.md"))


def test_the_gallery_has_every_notebook():
    named = set(re.findall(r"^notebooks/(\w+)$", (DOCS / "gallery.md").read_text(), re.M))
    assert named == {path.stem for path in (DOCS.parent / "notebooks").glob("*.ipynb")}
