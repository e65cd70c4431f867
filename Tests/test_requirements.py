"""What `make lock` chose is what pyproject.toml asks for, and nothing is without a hash."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").exists(), reason="needs a source tree"
)


@pytest.fixture(scope="module")
def asked():
    """Requirements of pyproject.toml by the file that has them."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = content["project"]

    def of(*extras):
        found = [Requirement(text) for text in project["dependencies"]]
        for extra in extras:
            for text in project["optional-dependencies"][extra]:
                one = Requirement(text)
                found += of(*one.extras) if one.name == project["name"] else [one]
        return found

    build = [Requirement(text) for text in content["build-system"]["requires"]]
    return {"build": build, "demo": of("plot", "progress"), "test": of("test"), "docs": of("docs")}


@pytest.mark.parametrize("name", ["build", "demo", "docs", "test"])
def test_all_that_is_asked_for_is_locked_in_a_version_that_will_do(name, asked):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    locked = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE))
    for one in asked[name]:
        version = locked[canonicalize_name(one.name)]
        assert one.specifier.contains(version, prereleases=True), f"{one}: {version}; make lock"


@pytest.mark.parametrize("name", ["build", "demo", "docs", "test"])
def test_every_locked_package_has_its_hashes_and_no_address(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    lines = [line for line in text.replace("\\\n", "").splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.match(r"[a-z0-9.-]+==\S+ ", line), line
        assert "--hash=sha256:" in line and "//" not in line and "@" not in line, line
