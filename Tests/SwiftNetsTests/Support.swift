import Glibc

@testable import SwiftNets

/// A small generator with a seed, so that a failure repeats (Vigna's splitmix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// A standard normal number (Box and Muller).
  mutating func normal() -> Double {
    let radius = (-2 * log(Double.random(in: Double.leastNonzeroMagnitude..<1, using: &self))).squareRoot()
    return radius * cos(2 * .pi * Double.random(in: 0..<1, using: &self))
  }
}

extension Matrix where Element == Double {
  /// Normal numbers times `scale`.
  static func normal(_ rows: Int, _ columns: Int, scale: Double = 1, seed: UInt64) throws -> Matrix {
    var generator = SeededGenerator(seed: seed)
    let matrix = try Matrix(rows: rows, columns: columns)
    for row in 0..<rows { for column in 0..<columns { matrix[row, column] = scale * generator.normal() } }
    return matrix
  }

  var rowsAsArrays: [[Float80]] {
    (0..<rows).map { row in (0..<columns).map { Float80(self[row, $0]) } }
  }
}

/// Solves A x = b by Gaussian elimination with partial pivoting in extended precision: the independent answer.
func solveExtended(_ a: [[Float80]], _ b: [Float80]) -> [Float80] {
  var a = a
  var b = b
  let n = b.count
  for column in 0..<n {
    let pivot = (column..<n).max { abs(a[$0][column]) < abs(a[$1][column]) }!
    a.swapAt(column, pivot)
    b.swapAt(column, pivot)
    for row in column + 1..<n {
      let factor = a[row][column] / a[column][column]
      if factor == 0 { continue }
      for k in column..<n { a[row][k] -= factor * a[column][k] }
      b[row] -= factor * b[column]
    }
  }
  for row in stride(from: n - 1, through: 0, by: -1) {
    for k in row + 1..<n { b[row] -= a[row][k] * b[k] }
    b[row] /= a[row][row]
  }
  return b
}
