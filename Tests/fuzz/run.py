"""Fuzz the C interface with libFuzzer and the readers of files with atheris.

    python Tests/fuzz/run.py [--seconds 60] [target ...]

Targets: abi_mlp, abi_network, abi_nets, abi_factors; pickles, archives, checkpoints, tensors,
models. It builds the engine with AddressSanitizer, UBSan for its C, and coverage into
build/swift-fuzz, starts from the inputs in Tests/fuzz/corpus and keeps new ones in build/fuzz.
Exits with 1 after a crash, and names the input: give it to the same program to see the crash again.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILT = ROOT / "build" / "fuzz"
ABI = ("abi_mlp", "abi_network", "abi_nets", "abi_factors")
READERS = ("pickles", "archives", "checkpoints", "tensors", "models")
UNDEFINED = ["-fsanitize=undefined", "-fno-sanitize-recover=undefined"]


def missing_for_abi():
    """Why the C interface cannot be fuzzed here, or None."""
    for tool in ("swift", "swiftc", "clang"):
        if shutil.which(tool) is None:
            return f"there is no {tool} on PATH"
    found = Path(shutil.which("swiftc")).resolve().parents[1] / "lib"
    if not any(found.glob("clang/*/lib/linux/libclang_rt.fuzzer-*.a")):
        return f"the Swift toolchain in {found.parent} comes without libFuzzer"
    return None


def missing_for_readers():
    if importlib.util.find_spec("atheris") is None:
        return "atheris is not installed: pip install atheris"
    return None


def build_engine():
    openblas = Path(importlib.util.find_spec("scipy_openblas32").submodule_search_locations[0])
    scratch = ROOT / "build" / "swift-fuzz"
    compile_c = [*UNDEFINED, "-fsanitize=fuzzer-no-link"]
    coverage = "-sanitize-coverage=edge,inline-8bit-counters,pc-table"
    subprocess.run(
        ["swift", "build", "-c", "release", "--static-swift-stdlib", "--sanitize=address"]
        + ["--product", "SwiftNetsABI", "--scratch-path", str(scratch), "-Xswiftc", coverage]
        + [word for flag in compile_c for word in ("-Xcc", flag)],
        cwd=ROOT,
        env={**os.environ, "SWIFTNETS_OPENBLAS": str(openblas)},
        check=True,
    )
    return scratch / "release" / "libSwiftNetsABI.a", openblas / "lib"


def build(target, engine, openblas):
    made = BUILT / f"{target}.o"
    subprocess.run(
        ["clang", "-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", *UNDEFINED]
        + ["-fsanitize=fuzzer-no-link,address", "-I", str(ROOT / "Sources/CSwiftNets/include")]
        + ["-c", str(HERE / f"{target}.c"), "-o", str(made)],
        check=True,
    )
    linker = ["--wrap=mmap", "-rpath", str(openblas)]
    # Of its many words, all on symbols that libFuzzer does not export, none help.
    linked = subprocess.run(
        ["swiftc", "-emit-executable", "-static-stdlib", "-sanitize=fuzzer,address"]
        + ["-parse-as-library", str(made), str(engine), "-L", str(openblas), "-lscipy_openblas"]
        + [word for flag in linker for word in ("-Xlinker", flag)]
        + ["-o", str(BUILT / target)],
        stderr=subprocess.PIPE,
        text=True,
    )
    if linked.returncode != 0:
        sys.exit(linked.stderr)


def fuzz(target, seconds):
    """Whether nothing was found."""
    if target in ABI:
        command, longest = [str(BUILT / target)], 512
    else:
        command, longest = [sys.executable, str(HERE / "readers.py"), target], 16384
    kept = BUILT / f"{target}-corpus"
    kept.mkdir(exist_ok=True)
    log = BUILT / f"{target}.log"
    symbolizer = shutil.which("llvm-symbolizer")
    with tempfile.TemporaryDirectory() as scratch, open(log, "w") as stream:
        environment = {**os.environ, "TMPDIR": scratch, "UBSAN_OPTIONS": "print_stacktrace=1"}
        if symbolizer:
            environment["ASAN_SYMBOLIZER_PATH"] = symbolizer
        limits = [f"-max_total_time={seconds}", f"-max_len={longest}", "-timeout=120"]
        limits += ["-len_control=0", "-rss_limit_mb=4096", "-print_final_stats=1"]
        corpora = [str(kept), *map(str, HERE.glob(f"corpus/{target}"))]
        status = subprocess.run(
            [*command, *limits, f"-artifact_prefix={BUILT}/{target}-", *corpora],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
        ).returncode
    lines = log.read_text(errors="replace").splitlines()
    runs = [line.split()[1] for line in lines if line.startswith("stat::number_of_executed_units")]
    if status == 0:
        print(f"{target}: nothing in {runs[0] if runs else 'some'} runs", flush=True)
        return True
    print(f"{target}: exit status {status}. The last lines of {log}:", *lines[-60:], sep="\n")
    units = [line.split()[-1] for line in lines if "Test unit written to" in line]
    print(f"{target}: to see it again: {' '.join(command + units)}", flush=True)
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("targets", nargs="*", metavar="target", help=", ".join(ABI + READERS))
    given = parser.parse_args()
    targets = given.targets or [*ABI, *READERS]
    if unknown := set(targets) - {*ABI, *READERS}:
        parser.error(f"no target is called {', '.join(sorted(unknown))}")
    BUILT.mkdir(parents=True, exist_ok=True)
    for group, why in ((ABI, missing_for_abi()), (READERS, missing_for_readers())):
        chosen = [target for target in targets if target in group]
        if chosen and why:
            print(f"not fuzzed: {', '.join(chosen)}, as {why}", flush=True)
            targets = [target for target in targets if target not in group]
    if any(target in ABI for target in targets):
        made = build_engine()
        for target in targets:
            if target in ABI:
                build(target, *made)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        fine = list(pool.map(lambda target: fuzz(target, given.seconds), targets))
    sys.exit(0 if all(fine) else 1)


if __name__ == "__main__":
    main()
