import COpenBLAS

/// c = β c + α op(a) op(b) with OpenBLAS, in slices of rows of c short enough to be interrupted between.
///
/// A slice is about 4 · 10⁹ operations: some 40 ms on two cores.
func product(
  _ alpha: Double, _ a: Matrix<Double>, transposeA: Bool = false, _ b: Matrix<Double>, transposeB: Bool = false,
  _ beta: Double, into c: Matrix<Double>, interruption: Interruption
) throws(EngineError) {
  guard c.rows > 0, c.columns > 0 else { return }
  let depth = transposeA ? a.rows : a.columns
  let perRow = 2 * Double(c.columns) * Double(max(depth, 1))
  let slice = Int(max(1, min(Double(c.rows), (4e9 / perRow).rounded(.up))))
  var first = 0
  while first < c.rows {
    let count = min(slice, c.rows - first)
    try interruption.check()
    scipy_cblas_dgemm(
      CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
      Int32(count), Int32(c.columns), Int32(depth), alpha, transposeA ? a.base + first : a.row(first),
      Int32(a.stride), b.base, Int32(b.stride), beta, c.row(first), Int32(c.stride))
    first += count
  }
}

extension Matrix where Element == Double {
  /// Whether LAPACK's 32-bit integers can hold the sizes.
  var fitsLAPACK: Bool { rows <= Int(Int32.max) && stride <= Int(Int32.max) }

  /// Rows and columns of this matrix as a view; both ranges must lie within it.
  func view(_ rowRange: Range<Int>, _ columnRange: Range<Int>) -> Matrix<Double> {
    Matrix(
      borrowing: row(rowRange.lowerBound) + columnRange.lowerBound, rows: rowRange.count, columns: columnRange.count,
      stride: stride)
  }

  /// A matrix of its own with the same entries.
  func copy() throws(EngineError) -> Matrix<Double> {
    let fresh: Matrix<Double> = try Matrix(rows: rows, columns: columns)
    for index in 0..<rows { fresh.row(index).update(from: row(index), count: columns) }
    return fresh
  }

  /// The Frobenius norm, without overflow on the way. Rows must be contiguous.
  var norm: Double {
    // In pieces that LAPACK's integers can count.
    var sum = 0.0
    for index in 0..<rows {
      let part = scipy_cblas_dnrm2(Int32(columns), row(index), 1)
      sum = sum.isFinite && part.isFinite ? hypotenuse(sum, part) : sum + part
    }
    return sum
  }

  var isFinite: Bool {
    for index in 0..<rows {
      let entries = row(index)
      // x - x is 0 for finite x and NaN otherwise; a NaN stays in the sum.
      var sum = SIMD8<Double>.zero
      var column = 0
      while column + 8 <= columns {
        let eight = UnsafeRawPointer(entries + column).loadUnaligned(as: SIMD8<Double>.self)
        sum += eight - eight
        column += 8
      }
      var rest = sum.sum()
      while column < columns {
        rest += entries[column] - entries[column]
        column += 1
      }
      if rest != 0 { return false }
    }
    return true
  }
}

/// ‖x‖, also where the squares under- or overflow.
func norm(_ count: Int, _ x: UnsafePointer<Double>) -> Double {
  let square = Double.dot(count, x, x)
  if square > 0x1p-900, square < 0x1p1000 { return square.squareRoot() }
  return Matrix(reading: x, rows: 1, columns: count).norm
}

/// √(a² + b²) for finite a, b ≥ 0, without overflow or underflow on the way.
private func hypotenuse(_ a: Double, _ b: Double) -> Double {
  let large = max(a, b)
  guard large > 0 else { return 0 }
  let ratio = min(a, b) / large
  return large * (1 + ratio * ratio).squareRoot()
}
