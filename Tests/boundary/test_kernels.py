"""The C kernels alone, at every level of the processor: see Tests/c/test_kernels.c."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS, TESTS = ROOT / "Sources/CKernels", ROOT / "Tests/c"
# As in Package.swift, and what the kernels' own way with vectors would be warned of.
FLAGS = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-sign-compare")
QUIET = ("-Wno-unused-function", "-Wno-psabi")

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or not shutil.which("swiftc"),
    reason="for the levels of x86-64, by the compiler of the kernels",
)


def levels(folder, sources, *options):
    """The levels that the test went through, built with the kernels in `sources`."""
    clang = Path(shutil.which("swiftc")).resolve().with_name("clang")
    paths = [f"-I{path}" for path in (sources, KERNELS / "include", TESTS)]
    command = [clang, *FLAGS, *QUIET, *options, *paths, TESTS / "test_kernels.c", "-lm"]
    subprocess.run([*command, "-o", folder / "kernels"], check=True, timeout=600)
    run = subprocess.run(
        [folder / "kernels"], capture_output=True, text=True, timeout=600, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def has_avx2():
    flags = Path("/proc/cpuinfo").read_text()
    return " avx2 " in flags and " fma " in flags


def test_every_level_stays_in_its_buffers_and_is_right_to_rounding(tmp_path):
    found = levels(tmp_path, KERNELS, "-O3")
    assert found == ["baseline", "v3", "v4"][: len(found)]
    assert found


def test_the_code_of_avx512_does_without_it_and_without_undefined_behaviour(tmp_path):
    if not has_avx2():
        pytest.skip("the processor has no AVX2, by which AVX-512 is emulated")
    sources = tmp_path / "sources"
    shutil.copytree(KERNELS, sources)
    for file in sources.glob("*.c"):
        text = file.read_text().replace("<immintrin.h>", '"emulated_avx512.h"')
        text = text.replace("arch=x86-64-v4,avx512vnni", "arch=x86-64-v3")
        file.write_text(text.replace("arch=x86-64-v4", "arch=x86-64-v3"))
    checks = ("-fsanitize=undefined", "-fsanitize-trap=undefined")
    found = levels(tmp_path, sources, "-O1", "-DEMULATED", *checks)
    assert found == ["baseline", "v3", "v4"]
