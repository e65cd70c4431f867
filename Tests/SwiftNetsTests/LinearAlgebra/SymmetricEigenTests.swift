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

  @Test func `a matrix with a NaN is refused`() throws {
    let matrix: Matrix<Double> = try .padded(2, 2)
    matrix[1, 0] = .nan
    #expect(throws: EngineError.self) { try symmetricEigen(matrix) }
  }
}
