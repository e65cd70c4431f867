import Glibc
import Testing

@testable import SwiftNets

@Suite struct SymmetricEigenTests {
  /// H = I − 2vvᵀ/vᵀv reflects: Q Λ Qᵀ with Q = H has a spectrum that is known beforehand.
  @Test func `a prescribed spectrum comes back, with eigenvectors as rows`() throws {
    let n = 20
    let v = try Matrix<Double>.normal(1, n, seed: 5)
    let square = Double.dot(n, v.base, v.base)
    func reflector(_ i: Int, _ j: Int) -> Double { (i == j ? 1 : 0) - 2 * v[0, i] * v[0, j] / square }
    let spectrum = (0..<n).map { Double($0 * $0) - 30 }
    let matrix: Matrix<Double> = try .padded(n, n)
    let copy: Matrix<Double> = try .padded(n, n)
    for i in 0..<n {
      for j in 0..<n {
        matrix[i, j] = (0..<n).reduce(0) { $0 + reflector(i, $1) * spectrum[$1] * reflector($1, j) }
        copy[i, j] = matrix[i, j]
      }
    }
    let values = try symmetricEigen(matrix)
    let bound = Double(n) * 0x1p-52 * spectrum.map(abs).max()! * 4
    for (found, wanted) in zip(values, spectrum.sorted()) { #expect(abs(found - wanted) <= bound) }
    for k in 0..<n {
      for i in 0..<n {
        let image = Double.dot(n, copy.row(i), matrix.row(k))
        #expect(abs(image - values[k] * matrix[k, i]) <= bound)
      }
    }
  }

  /// A = R Λ R with a reflection R, by rank-two updates; what comes back is checked against A itself and against Λ.
  @Test(
    arguments: [401, 640],
    ["apart", "in clusters", "of few values", "graded", "tiny", "huge"])
  func `large matrices too, whatever their spectrum`(n: Int, kind: String) throws {
    let spectrum = (0..<n).map { k -> Double in
      let x = Double(k) / Double(n)
      switch kind {
      case "in clusters": return Double(k % 5) + 1e-14 * x
      case "of few values": return Double(k % 3) - 1
      case "graded": return scalbn(1.0, -Int32(k % 50))
      case "tiny": return scalbn(x - 0.3, -1000)
      case "huge": return scalbn(x - 0.3, 1000)
      default: return x - 0.3
      }
    }
    let v = try Matrix<Double>.normal(1, n, seed: 5)
    let square = Double.dot(n, v.base, v.base)
    let matrix: Matrix<Double> = try Matrix(rows: n, columns: n)
    // R Λ R = Λ − 2 (v (Λ v)ᵀ + Λ v vᵀ) / vᵀv + 4 (vᵀ Λ v) v vᵀ / (vᵀv)²
    let middle = (0..<n).reduce(0.0) { $0 + v[0, $1] * (spectrum[$1] * v[0, $1] / square) }
    for i in 0..<n {
      for j in 0..<n {
        matrix[i, j] =
          (i == j ? spectrum[i] : 0) - 2 * v[0, i] * (v[0, j] / square) * (spectrum[i] + spectrum[j])
          + 4 * (middle * v[0, i]) * (v[0, j] / square)
      }
    }
    let copy = try matrix.copy()
    let values = try symmetricEigen(matrix)
    let norm = spectrum.map(abs).max()!
    // Backward stable: some n units of rounding of the norm.
    let bound = Double(n) * 0x1p-52 * norm
    for (found, wanted) in zip(values, spectrum.sorted()) { #expect(abs(found - wanted) <= bound) }
    let images: Matrix<Double> = try Matrix(rows: n, columns: n)
    let overlaps: Matrix<Double> = try Matrix(rows: n, columns: n)
    try product(1, matrix, copy, 0, into: images, interruption: Interruption())
    try product(1, matrix, matrix, transposeB: true, 0, into: overlaps, interruption: Interruption())
    var (worst, skew) = (0.0, 0.0)
    for k in 0..<n {
      for i in 0..<n {
        worst = max(worst, abs(images[k, i] - values[k] * matrix[k, i]))
        skew = max(skew, abs(overlaps[k, i] - (k == i ? 1 : 0)))
      }
    }
    #expect(worst <= bound)
    #expect(skew <= Double(n) * 0x1p-52)
  }

  @Test func `the same bits for any number of members of a team, and a look at the interruption`() throws {
    Threads.prepare()  // OpenBLAS has threads of its own before
    let n = 500
    let source = try Matrix<Double>.normal(n, n, seed: 1)
    for i in 0..<n { for j in 0..<i { source[i, j] = source[j, i] } }
    let first = try source.copy()
    let again = try source.copy()
    #expect(try symmetricEigen(first) == symmetricEigen(again))
    for row in 0..<n { for column in 0..<n where first[row, column] != again[row, column] { Issue.record("bits") } }
    #expect(throws: EngineError.cancelled) {
      try symmetricEigen(try source.copy(), interruption: Interruption { true })
    }
  }

  @Test func `a matrix with a NaN is refused`() throws {
    let matrix: Matrix<Double> = try .padded(2, 2)
    matrix[0, 1] = .nan
    #expect(throws: EngineError.self) { try symmetricEigen(matrix) }
  }

  /// LAPACK's 2 n² + 6 n + 1 wraps from order 32,767 on, and n² from 46,341.
  @Test func `sizes of memory are counted in 64 bits`() {
    #expect(TridiagonalEigen.numbers(of: 32_767) == 2_147_483_646)
    #expect(TridiagonalEigen.numbers(of: 46_341) == 4_295_161_926)
  }

  @Test func `an order that LAPACK cannot count is refused by name, before anything is read`() throws {
    let one = try Matrix<Double>(rows: 1, columns: 1)
    let order = largestEigenOrder + 1
    let huge = Matrix(borrowing: one.base, rows: order, columns: order)
    let error = #expect(throws: EngineError.self) { _ = try symmetricEigen(huge) }
    guard case .invalidArgument(let message)? = error else { return #expect(Bool(false)) }
    #expect(message.contains("65536"))
  }
}
