"""Sizes beyond all memory: an error, and never the end of the process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("group", ["slow", "fast", "net (", "net deep", "network"])
def test_arrays_larger_than_memory_end_no_process(group):
    command = [sys.executable, ROOT / "Tests/support/absurd_sizes.py", group]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr
    assert "MemoryError" in run.stdout


def lint(source, path):
    path.write_text(source)
    command = [sys.executable, ROOT / "tools/check_sizes.py", path]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode != 0) == bool(run.stdout)
    return [int(line.split(":")[1]) for line in run.stdout.splitlines()]


def test_the_sources_multiply_no_sizes_that_may_overflow():
    command = [sys.executable, ROOT / "tools/check_sizes.py"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout


def test_the_lint_sees_products_where_sizes_are_made(tmp_path):
    source = """\
struct A {
  var operations: Int { 6 * samples * units }
  let bytes =
    isWide
    ? 2 * rows * columns
    : 3
  func weight(_ n: Int) -> Int {
    return n * 8
  }
  func work() throws {
    let a = try Storage<Double>(count: n * m)
    let b = try Matrix<Float>(rows: n, columns: two(2 * n))
    let c = [Double](repeating: 0, count: n * n)
    try inSlices(of: n, weight: 2 * n) { _ in }
    arena.take(1 << bits)
    Int32(n * m)
    saturating(2 * n, m)
  }
}
"""
    assert lint(source, tmp_path / "a.swift") == [2, 5, 8, 11, 12, 13, 14, 15, 16, 17]


def test_the_lint_lets_pass_what_cannot_overflow(tmp_path):
    source = """\
/// bytes = n * m
struct A {
  let text = "bytes: \\(n * m)"
  let size = 8 * 64
  let weight = 2 * Double(n) * Double(n)
  let count = rows * matrix.stride
  let place = base + row * width
  // bounded: both are below 1024
  let length = n * m
  let order = n * m  // bounded: as above
  let capacity = saturating(n, m)
}
"""
    assert lint(source, tmp_path / "a.swift") == []
    assert lint(source.replace("// bounded:", "//"), tmp_path / "a.swift") == [9, 10]
    assert lint("import A\n\n// bounded: one\n\nlet size = n * m\n", tmp_path / "a.swift") == []
