"""Builds engine and shim with sanitizers, apart from the ordinary build, and tests them so.

    python Tests/sanitize.py [--short]

AddressSanitizer and UndefinedBehaviorSanitizer watch the C programs in Tests/c, which must not lose
memory either, and the Python tests; ThreadSanitizer watches the C programs that use threads. Exits
with 1 where anything is found, or where the Swift toolchain has no sanitizers.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAMS = ROOT / "Tests" / "c"
TESTS = ROOT / "Tests"

# What the C programs are called with. Under ThreadSanitizer one call takes about ten times as long.
WATCHED = {
    "address": {"test_abi": [], "test_buffers": ["40"], "test_threads": ["10"]},
    "thread": {"test_abi": [], "test_threads": ["30"]},
}
LEFT_OUT = [
    # It looks at the ordinary build, with compilers that would be watched too.
    f"--ignore={TESTS / 'test_build.py'}",
    # They show large calls and what time these take; other tests make the same calls.
    f"--ignore={TESTS / 'test_notebooks.py'}",
    # It limits the addresses of a process, of which AddressSanitizer takes terabytes.
    "--deselect=Tests/nets/test_mlp_data.py"
    "::test_diagonals_of_wide_layers_take_fewer_samples_at_a_time",
    # It asks the C library's allocator, in whose place AddressSanitizer puts its own.
    "--deselect=Tests/nets/test_memory.py::test_a_net_keeps_up_to_64_mib_of_its_last_point",
]
# The files of the short form: those that reach furthest into the native side.
SHORT = [
    "boundary/test_boundary.py",
    "_support/test_buffers.py",
    "boundary/test_core.py",
    "nets/test_custom_activations.py",
    "test_fast_net.py",
    "_support/test_locks.py",
    "boundary/test_mlp_boundary.py",
    "boundary/test_signal_handlers.py",
    "test_slow_net.py",
]


def run(*command, **options):
    print(*command, flush=True)
    return subprocess.run([str(word) for word in command], cwd=ROOT, **options).returncode


def must(*command, **options):
    if run(*command, **options) != 0:
        sys.exit("that failed")


class Toolchain:
    """The clang that the Swift toolchain brings, and its sanitizers' runtimes."""

    def __init__(self):
        swift = shutil.which("swift")
        if swift is None:
            sys.exit("there is no Swift toolchain on PATH: install one from swift.org")
        self.folder = Path(swift).resolve().parent
        self.clang = self.folder / "clang"

    def library(self, *names):
        """The first of these that clang finds."""
        for name in names:
            command = [self.clang, f"-print-file-name={name}"]
            found = subprocess.run(command, capture_output=True, text=True).stdout.strip()
            if found and Path(found).is_file():
                return found
        sys.exit(
            f"the Swift toolchain in {self.folder} has no {names[0]}, which the sanitizers need: "
            "install a whole one from swift.org"
        )

    def runtime(self, name):
        machine = platform.machine()
        return self.library(f"libclang_rt.{name}-{machine}.so", f"libclang_rt.{name}.so")


def options(**more):
    """The environment that makes sanitizers strict."""
    address = {
        "abort_on_error": 1,
        "allocator_may_return_null": 1,
        "detect_leaks": 1,
        "detect_stack_use_after_return": 1,
        **more,
    }
    undefined = {"halt_on_error": 1, "print_stacktrace": 1, **more}
    given = {
        "ASAN_OPTIONS": address,
        "UBSAN_OPTIONS": undefined,
        "TSAN_OPTIONS": {"history_size": 4},
    }
    return {
        name: ":".join(f"{key}={value}" for key, value in values.items())
        for name, values in given.items()
    }


def build(toolchain, sanitizer):
    """The package with that sanitizer, in build/address or build/thread."""
    base = ROOT / "build" / sanitizer
    must(
        *(sys.executable, "setup.py", "--quiet", "build", "--build-base", base),
        *("--build-lib", base / "lib", "--build-temp", base / "temp"),
        env={**os.environ, "SWIFTNETS_SANITIZE": sanitizer, "CC": str(toolchain.clang)},
    )
    return base


def programs(toolchain, sanitizer):
    """Builds and runs the C programs; the names of those that failed."""
    base = ROOT / "build" / sanitizer
    openblas = Path(find_spec("scipy_openblas32").submodule_search_locations[0]) / "lib"
    engine = ROOT / "build" / f"swift-{sanitizer}" / "release" / "libSwiftNetsABI.a"
    flags = ["-std=c11", "-g", "-O1", "-I", ROOT / "Sources" / "CSwiftNets" / "include"]
    flags += [f"-fsanitize={sanitizer}"] + ["-fsanitize=undefined"] * (sanitizer == "address")
    failed = []
    for name, arguments in WATCHED[sanitizer].items():
        program = base / name
        must(toolchain.clang, *flags, "-c", PROGRAMS / f"{name}.c", "-o", f"{program}.o")
        # Swift's static runtime would hide the sanitizer's malloc from the C library.
        must(
            *(
                "swiftc",
                "-use-ld=lld",
                "-emit-executable",
                f"-sanitize={sanitizer}",
                f"{program}.o",
                engine,
            ),
            *("-L", openblas, "-lscipy_openblas", "-Xlinker", "-rpath", "-Xlinker", openblas),
            *("-o", program),
        )
        if run(program, *arguments, env={**os.environ, **options()}) != 0:
            failed.append(f"{name} under the {sanitizer} sanitizer")
    return failed


def ours(report):
    """What is ours in a report: of leaks those of engine and shim, as CPython has some too."""
    if "ERROR: LeakSanitizer" in report:
        leaks = re.split(r"\n(?=(?:Direct|Indirect) leak)", report)
        places = ("_core.abi3.so", "/Sources/", "python/core/")
        return "\n".join(leak for leak in leaks if any(place in leak for place in places))
    # Allocations that are too large are reported, too; tests ask for them.
    return report if "ERROR: " in report or "runtime error: " in report else ""


# Whatever Python still has at its end is reachable, but for this: an enum refers to it, with a tag
# in the pointer that LeakSanitizer does not know.
REACHABLE = "leak:9SwiftNets16GraphDerivativesCyACyxGAA07NetworkC0VcfC\n"


def python_tests(toolchain, base, files):
    """Runs pytest on the package built with AddressSanitizer; what failed."""
    reports = base / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir()
    suppressions = base / "reachable.txt"
    suppressions.write_text(REACHABLE)
    # Libraries that throw need the C++ library beside the runtime from the start.
    preloaded = [toolchain.runtime("asan"), toolchain.library("libstdc++.so.6")]
    environment = {
        **os.environ,
        # Children's reports are found as well. Leaks alone end no process with another status.
        **options(exitcode=0, log_path=reports / "report"),
        "LSAN_OPTIONS": f"suppressions={suppressions}",
        "LD_PRELOAD": ":".join(preloaded),
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(base / "lib"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "timeout=3600"]
    failed = ["pytest"] if run(*command, *files, env=environment) != 0 else []
    for report in sorted(reports.iterdir()):
        found = ours(report.read_text(errors="replace"))
        if found:
            print(found)
            failed.append(f"a report of {report.name}")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="only some of the Python tests")
    short = parser.parse_args().short
    toolchain = Toolchain()
    for name in ("asan", "tsan"):
        toolchain.runtime(name)
    start = time.monotonic()
    failed = []
    for sanitizer in ("thread", "address"):
        base = build(toolchain, sanitizer)
        failed += programs(toolchain, sanitizer)
    whole = [TESTS, base / "lib" / "swiftnets", *LEFT_OUT]
    failed += python_tests(toolchain, base, [TESTS / name for name in SHORT] if short else whole)
    print(f"{(time.monotonic() - start) / 60:.0f} minutes; " + ("; ".join(failed) or "all well"))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
