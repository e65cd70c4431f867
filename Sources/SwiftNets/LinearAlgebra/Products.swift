import COpenBLAS

// Large products, each on the team with OpenBLAS on one thread in every part. Parts are cut the same way whoever does
// them, so that the bits depend on their number alone.

/// c = β c + α op(a) op(b), in slices of rows of c short enough to be interrupted between.
///
/// A slice is about 4 · 10⁹ operations, some 40 ms on two cores, or 2 · 10⁹ bytes where there is less to do than to
/// read.
func product(
  _ alpha: Double, _ a: Matrix<Double>, transposeA: Bool = false, _ b: Matrix<Double>, transposeB: Bool = false,
  _ beta: Double, into c: Matrix<Double>, interruption: Interruption
) throws(EngineError) {
  guard c.rows > 0, c.columns > 0 else { return }
  let depth = transposeA ? a.rows : a.columns
  let perRow = 2 * Double(c.columns) * Double(depth + copied / 2)
  let slice = Int(max(1, min(Double(c.rows), (4e9 / perRow).rounded(.up))))
  var first = 0
  while first < c.rows {
    let count = min(slice, c.rows - first)
    try interruption.check()
    let parts = Threads.forWork(of: saturating(count, c.columns, depth))
    let isTall = count >= c.columns
    inParts(parts, of: isTall ? count : c.columns, grain: 8) { share in
      let (rows, columns) = isTall ? (share, 0..<c.columns) : (0..<count, share)
      let row = first + rows.lowerBound
      OpenBLAS.call(
        scipy_cblas_dgemm(
          CblasRowMajor, transposeA ? CblasTrans : CblasNoTrans, transposeB ? CblasTrans : CblasNoTrans,
          Int32(rows.count), Int32(columns.count), Int32(depth), alpha, transposeA ? a.base + row : a.row(row),
          Int32(a.stride), transposeB ? b.row(columns.lowerBound) : b.base + columns.lowerBound, Int32(b.stride), beta,
          c.row(row) + columns.lowerBound, Int32(c.stride)))
    }
    first += count
  }
}

/// The lower triangle of c [n, n] = β c + α a aᵀ, or α aᵀ a where `isTransposed`.
func symmetricProduct(
  _ alpha: Double, _ a: Matrix<Double>, isTransposed: Bool = false, _ beta: Double, into c: Matrix<Double>
) {
  let n = c.rows
  let depth = isTransposed ? a.rows : a.columns
  let transpose = isTransposed ? CblasTrans : CblasNoTrans
  func factor(_ row: Int) -> UnsafeMutablePointer<Double> { isTransposed ? a.base + row : a.row(row) }
  let parts = Threads.forWork(of: saturating(n, n, depth))
  // Up to row n √(p / parts) lies a p-th of the triangle.
  let ends = (0...parts).map { Int(Double(n) * (Double($0) / Double(parts)).squareRoot() + 4) / 8 * 8 }
  inParts(parts, of: parts, grain: 1) { share in
    for part in share {
      let (first, end) = (part == 0 ? 0 : min(ends[part], n), part == parts - 1 ? n : min(ends[part + 1], n))
      guard first < end else { continue }
      if first > 0 {
        OpenBLAS.call(
          scipy_cblas_dgemm(
            CblasRowMajor, transpose, isTransposed ? CblasNoTrans : CblasTrans, Int32(end - first), Int32(first),
            Int32(depth), alpha, factor(first), Int32(a.stride), a.base, Int32(a.stride), beta, c.row(first),
            Int32(c.stride)))
      }
      OpenBLAS.call(
        scipy_cblas_dsyrk(
          CblasRowMajor, CblasLower, transpose, Int32(end - first), Int32(depth), alpha, factor(first), Int32(a.stride),
          beta, c.row(first) + first, Int32(c.stride)))
    }
  }
}

/// b = b op(l)⁻¹ for the rows of b, with l lower triangular.
func solveRows(
  _ b: Matrix<Double>, by l: UnsafePointer<Double>, _ ldl: Int, isTransposed: Bool, isUnit: Bool = false
) {
  inParts(Threads.forWork(of: saturating(b.rows, b.columns, b.columns)), of: b.rows, grain: 8) { rows in
    OpenBLAS.call(
      scipy_cblas_dtrsm(
        CblasRowMajor, CblasRight, CblasLower, isTransposed ? CblasTrans : CblasNoTrans,
        isUnit ? CblasUnit : CblasNonUnit, Int32(rows.count), Int32(b.columns), 1, l, Int32(ldl),
        b.row(rows.lowerBound), Int32(b.stride)))
  }
}

/// b = op(l)⁻¹ b, with l lower triangular.
func solveColumns(_ b: Matrix<Double>, by l: UnsafePointer<Double>, _ ldl: Int, isTransposed: Bool) {
  inParts(Threads.forWork(of: saturating(b.columns, b.rows, b.rows)), of: b.columns, grain: 8) { columns in
    OpenBLAS.call(
      scipy_cblas_dtrsm(
        CblasRowMajor, CblasLeft, CblasLower, isTransposed ? CblasTrans : CblasNoTrans, CblasNonUnit, Int32(b.rows),
        Int32(columns.count), 1, l, Int32(ldl), b.base + columns.lowerBound, Int32(b.stride)))
  }
}

/// Runs `body` on the shares of 0..<total that `parts` parts have, on the team.
func inParts(_ parts: Int, of total: Int, grain: Int, _ body: (Range<Int>) -> Void) {
  ThreadTeam.run(parts: parts) { member in
    for part in member.parts {
      let share = member.share(of: total, grain: grain, part: part)
      if !share.isEmpty { body(share) }
    }
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
  func copy(interruption: Interruption = Interruption()) throws(EngineError) -> Matrix<Double> {
    let fresh: Matrix<Double> = try Matrix(rows: rows, columns: columns)
    try inSlices(of: rows, weight: saturating(copied, columns), interruption: interruption) { slice in
      for index in slice { fresh.row(index).update(from: row(index), count: columns) }
    }
    return fresh
  }

  /// The Frobenius norm, without overflow on the way. Rows must be contiguous.
  var norm: Double {
    // In pieces that LAPACK's integers can count.
    var sum = 0.0
    for index in 0..<rows {
      let part = OpenBLAS.call(scipy_cblas_dnrm2(Int32(columns), row(index), 1))
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

/// √(a² + b²) for a, b ≥ 0, without overflow or underflow on the way; the C library's asks for glibc 2.35.
func hypotenuse(_ a: Double, _ b: Double) -> Double {
  let large = max(a, b)
  guard large > 0, a.isFinite, b.isFinite else { return a + b }
  let ratio = min(a, b) / large
  return large * (1 + ratio * ratio).squareRoot()
}
