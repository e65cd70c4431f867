import Glibc

@testable import SwiftNets

/// A matrix in extended precision, with a pseudo-inverse from explicit full-rank factors: the independent answers.
struct ExtendedMatrix {
  var rows: [[Float80]]

  init(_ rows: [[Float80]]) { self.rows = rows }
  init(_ matrix: Matrix<Double>) { rows = matrix.rowsAsArrays }

  var height: Int { rows.count }
  var width: Int { rows.first?.count ?? 0 }

  var transpose: ExtendedMatrix {
    ExtendedMatrix((0..<width).map { column in rows.map { $0[column] } })
  }

  var norm: Float80 { rows.reduce(0) { $0 + $1.reduce(0) { $0 + $1 * $1 } }.squareRoot() }

  static func * (a: ExtendedMatrix, b: ExtendedMatrix) -> ExtendedMatrix {
    let columns = b.transpose.rows
    return ExtendedMatrix(
      a.rows.map { row in columns.map { column in zip(row, column).reduce(0) { $0 + $1.0 * $1.1 } } })
  }

  static func - (a: ExtendedMatrix, b: ExtendedMatrix) -> ExtendedMatrix { a.combined(b) { $0 - $1 } }

  func combined(_ other: ExtendedMatrix, _ body: (Float80, Float80) -> Float80) -> ExtendedMatrix {
    ExtendedMatrix(zip(rows, other.rows).map { zip($0, $1).map(body) })
  }

  /// The pseudo-inverse of a matrix of full row rank, Aᵀ (A Aᵀ)⁻¹, or of full column rank. Newton–Schulz steps,
  /// B (2 − A B), square the error of the normal equations until that of the rounding is left.
  var fullRankPseudoInverse: ExtendedMatrix {
    guard height <= width else { return transpose.fullRankPseudoInverse.transpose }
    let gram = (self * transpose).rows
    let inverse = ExtendedMatrix(
      gram.indices.map { index in solveExtended(gram, gram.indices.map { $0 == index ? 1 : 0 }) })
    var result = transpose * inverse
    for _ in 0..<4 {
      var two = self * result
      for i in two.rows.indices {
        for j in two.rows.indices { two.rows[i][j] = (i == j ? 2 : 0) - two.rows[i][j] }
      }
      result = result * two
    }
    return result
  }

  func matrix() throws -> Matrix<Double> {
    let result = try Matrix<Double>(rows: height, columns: width)
    for (i, row) in rows.enumerated() { for (j, value) in row.enumerated() { result[i, j] = Double(value) } }
    return result
  }
}

extension Matrix where Element == Double {
  /// U diag(values) Vᵀ with orthogonal U and V made of four random reflections each.
  static func withSpectrum(_ rows: Int, _ columns: Int, _ values: [Double], seed: UInt64) throws -> Matrix<Double> {
    var generator = SeededGenerator(seed: seed)
    var matrix = ExtendedMatrix(
      (0..<rows).map { i in (0..<columns).map { i == $0 && i < values.count ? Float80(values[i]) : 0 } })
    for _ in 0..<4 {
      for _ in 0..<2 {
        let v = (0..<matrix.height).map { _ in Float80(generator.normal()) }
        let square = v.reduce(0) { $0 + $1 * $1 }
        let image = matrix.transpose.rows.map { column in zip(column, v).reduce(0) { $0 + $1.0 * $1.1 } * 2 / square }
        for i in 0..<matrix.height {
          for j in 0..<matrix.width { matrix.rows[i][j] -= v[i] * image[j] }
        }
        matrix = matrix.transpose
      }
    }
    return try matrix.matrix()
  }

  /// Random pixels.
  static func pixels(_ rows: Int, _ columns: Int, seed: UInt64) throws -> Matrix<Double> {
    var generator = SeededGenerator(seed: seed)
    let matrix = try Matrix(rows: rows, columns: columns)
    for row in 0..<rows {
      for column in 0..<columns { matrix[row, column] = Double(Int.random(in: 0...255, using: &generator)) / 256 - 0.5 }
    }
    return matrix
  }
}
