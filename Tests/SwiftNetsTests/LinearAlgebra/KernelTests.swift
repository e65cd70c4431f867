import CKernels
import Testing

@testable import SwiftNets

@Suite struct KernelTests {
  /// Every tail of rows, columns and depth, transposed or not, scaled or not.
  @Test(arguments: [1, 2, 3, 4, 5, 7, 8, 50], [1, 3, 4, 8, 9, 29, 56, 100])
  func `a small product is right to its rounding bound`(m: Int, n: Int) throws {
    for k in [1, 2, 17] {
      try check(Double.self, m, n, k)
      try check(Float.self, m, n, k)
    }
  }

  /// A tall right factor goes in slabs, and one with wide rows is packed.
  @Test(arguments: [7, 8, 16, 19], [5, 64, 130, 257])
  func `a tall product is right to its rounding bound`(m: Int, n: Int) throws {
    for k in [96, 97, 128, 200] {
      try check(Double.self, m, n, k)
      try check(Float.self, m, n, k)
    }
  }

  /// Parts of a product are cut for more threads or fewer.
  @Test(arguments: [2, 7, 8, 19], [96, 97, 200])
  func `a row of a product has the same bits whatever rows are computed with it`(m: Int, k: Int) throws {
    try checkRows(Double.self, m, k)
    try checkRows(Float.self, m, k)
  }

  private func checkRows<T: KernelScalar>(_ type: T.Type, _ m: Int, _ k: Int) throws {
    var generator = SeededGenerator(seed: UInt64(m * 1000 + k))
    func random(_ rows: Int, _ columns: Int) throws -> Matrix<T> {
      let matrix: Matrix<T> = try .padded(rows, columns)
      for row in 0..<rows { for column in 0..<columns { matrix[row, column] = T(generator.normal()) } }
      return matrix
    }
    let (a, at, b, scale) = (try random(m, k), try random(k, m), try random(k, 130), try random(m, 130))
    for left in [a.operand, at.transposed] {
      for weights in [nil, scale] {
        for update in [Update.set, .add, .subtract] {
          let (whole, parts): (Matrix<T>, Matrix<T>) = (try .padded(m, 130), try .padded(m, 130))
          multiply(left, b, scale: weights, update, into: whole, rows: 0..<m)
          for row in 0..<m { multiply(left, b, scale: weights, update, into: parts, rows: row..<row + 1) }
          for row in 0..<m {
            for column in 0..<130 { #expect(whole[row, column] == parts[row, column]) }
          }
        }
      }
    }
  }

  private func check<T: KernelScalar>(_ type: T.Type, _ m: Int, _ n: Int, _ k: Int) throws {
    var generator = SeededGenerator(seed: UInt64(m * 10_000 + n * 100 + k))
    func random(_ rows: Int, _ columns: Int) throws -> Matrix<T> {
      let matrix: Matrix<T> = try .padded(rows, columns)
      for row in 0..<rows { for column in 0..<columns { matrix[row, column] = T(generator.normal()) } }
      return matrix
    }
    let a = try random(m, k)
    let at = try random(k, m)
    let b = try random(k, n)
    let scale = try random(m, n)
    let c: Matrix<T> = try .padded(m, n)
    for (left, element) in [(a.operand, { a[$0, $1] }), (at.transposed, { at[$1, $0] })] {
      for weights in [nil, scale] {
        multiply(left, b, scale: weights, into: c, rows: 0..<m)
        for row in 0..<m {
          for column in 0..<n {
            var exact: Float80 = 0
            var size: Float80 = 0
            for p in 0..<k {
              let term = Float80(element(row, p)) * Float80(b[p, column])
              exact += term
              size += abs(term)
            }
            let weight = weights.map { Float80($0[row, column]) } ?? 1
            // Higham's γ of k additions and multiplications and the scaling.
            let bound = Float80(k + 2) * Float80(T.ulpOfOne) * size * abs(weight)
            #expect(abs(Float80(c[row, column]) - exact * weight) <= bound)
          }
        }
      }
    }
  }

  @Test(arguments: [1, 3, 7, 50], [1, 4, 29, 100])
  func `a product taken away leaves the difference`(m: Int, n: Int) throws {
    let a = try Matrix<Double>.normal(m, 9, seed: 11)
    let b: Matrix<Double> = try .padded(9, n)
    let c: Matrix<Double> = try .padded(m, n)
    let values = try Matrix<Double>.normal(9 + m, n, seed: 12)
    for row in 0..<9 { b.row(row).update(from: values.row(row), count: n) }
    for row in 0..<m { c.row(row).update(from: values.row(9 + row), count: n) }
    Double.gemm(m, n, 9, a.base, a.stride, 1, b.base, b.stride, nil, 0, .subtract, false, c.base, c.stride)
    for row in 0..<m {
      for column in 0..<n {
        let terms = (0..<9).map { Float80(a[row, $0]) * Float80(b[$0, column]) }
        let start = Float80(values[9 + row, column])
        let size = terms.reduce(abs(start)) { $0 + abs($1) }
        #expect(abs(Float80(c[row, column]) - (start - terms.reduce(0, +))) <= 11 * 0x1p-52 * size)
      }
    }
  }

  @Test(arguments: [1, 4, 31, 32, 33, 100])
  func `vector kernels do every element`(n: Int) throws {
    let x = try Matrix<Double>.normal(1, n, seed: 1)
    let y = try Matrix<Double>.normal(1, n, seed: 2)
    let expected = (0..<n).reduce(Float80(0)) { $0 + Float80(x[0, $1]) * Float80(y[0, $1]) }
    let size = (0..<n).reduce(Float80(0)) { $0 + abs(Float80(x[0, $1]) * Float80(y[0, $1])) }
    #expect(abs(Float80(Double.dot(n, x.base, y.base)) - expected) <= Float80(n + 1) * 0x1p-52 * size)
    let before = (0..<n).map { y[0, $0] }
    Double.axpy(n, 3, x.base, y.base)
    for i in 0..<n {
      #expect(abs(y[0, i] - (before[i] + 3 * x[0, i])) <= 0x1p-50 * (abs(before[i]) + 3 * abs(x[0, i])))
    }
    let after = (0..<n).map { y[0, $0] }
    Double.xpby(n, x.base, -2, y.base)
    for i in 0..<n { #expect(abs(y[0, i] - (x[0, i] - 2 * after[i])) <= 0x1p-50 * (abs(x[0, i]) + 2 * abs(after[i]))) }
  }

  @Test(arguments: [1, 3, 4, 5, 50])
  func `four systems are solved at once, each with its own slopes`(used: Int) throws {
    let n = (used + 3) / 4 * 4
    let lanes = Int(swk_batch)
    let h = try Matrix<Double>.normal(used, used + 2, seed: 3)
    let kernel: Matrix<Double> = try .padded(used, used)
    for i in 0..<used {
      for j in 0..<used { kernel[i, j] = Double.dot(h.columns, h.row(i), h.row(j)) }
    }
    let matrix = try Storage<Double>(count: n * n * lanes)
    let inverse = try Storage<Double>(count: n * lanes)
    let x = try Storage<Double>(count: n * lanes)
    let d = try Storage<Double>(count: n * lanes)
    let right = try Matrix<Double>.normal(used, lanes, seed: 4)
    for i in 0..<used {
      for lane in 0..<lanes {
        d.base[i * lanes + lane] = (i + lane) % 3 == 0 ? 0.5 : 1
        x.base[i * lanes + lane] = right[i, lane]
      }
    }
    swk_batched_scaled_kernel(n, used, kernel.base, kernel.stride, d.base, 0.1, matrix.base)
    swk_batched_cholesky_factor(n, matrix.base, inverse.base)
    swk_batched_cholesky_solve(n, matrix.base, inverse.base, x.base)
    for lane in 0..<lanes {
      let a = (0..<used).map { i in
        (0..<used).map { j in
          Float80(kernel[i, j]) * Float80(d.base[i * lanes + lane] * d.base[j * lanes + lane]) + (i == j ? 0.1 : 0)
        }
      }
      let exact = solveExtended(a, (0..<used).map { Float80(right[$0, lane]) })
      let norm = a.map { $0.reduce(0) { $0 + abs($1) } }.max()!
      let size = exact.map(abs).max()!
      for i in 0..<used {
        // ‖A⁻¹‖ ≤ 1/damping; backward error of Cholesky 4 n² u ‖A‖ (Higham, Theorem 10.4), generously.
        let bound = Float80(4 * used * used) * 0x1p-53 * (norm / 0.1) * size
        #expect(abs(Float80(x.base[i * lanes + lane]) - exact[i]) <= bound)
      }
    }
  }

  @Test func `a system that is not positive definite gives NaN, in its lane alone`() throws {
    let lanes = Int(swk_batch)
    let kernel: Matrix<Double> = try .padded(1, 1)
    kernel[0, 0] = -1
    let memory = try Storage<Double>(count: 4 * 4 * lanes)
    let inverse = try Storage<Double>(count: 4 * lanes)
    let x = try Storage<Double>(count: 4 * lanes)
    let d = try Storage<Double>(count: 4 * lanes)
    for lane in 0..<lanes {
      d.base[lane] = lane == 2 ? 1 : 0
      x.base[lane] = 1
    }
    swk_batched_scaled_kernel(4, 1, kernel.base, kernel.stride, d.base, 0.5, memory.base)
    swk_batched_cholesky_factor(4, memory.base, inverse.base)
    swk_batched_cholesky_solve(4, memory.base, inverse.base, x.base)
    for lane in 0..<lanes { #expect(lane == 2 ? x.base[lane].isNaN : abs(x.base[lane] - 2) < 1e-15) }
  }
}
