"""Sphinx: `make docs` builds the site, warnings being errors."""

import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "python"))
os.environ.setdefault("SWIFTNETS_NUM_THREADS", "1")

import swiftnets  # noqa: E402

project = "swiftnets"
author = "the swiftnets developers"
version = release = swiftnets.__version__
extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_show_copyright = False
html_title = f"swiftnets {version}"
templates_path = ["_templates"]
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have them
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# Notebooks come with their outputs, which a test compares with a fresh run: to run them here again
# would take minutes and show nothing else.
nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]
default_role = "code"


def bring_notebooks(app):
    """The notebooks lie outside; the site has copies of them."""
    target = Path(app.srcdir, "notebooks")
    target.mkdir(exist_ok=True)
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy2(notebook, target)


def setup(app):
    app.connect("builder-inited", bring_notebooks)
