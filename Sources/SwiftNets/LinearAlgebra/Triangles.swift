import COpenBLAS

// Cholesky factors and triangular solves of any size, in blocks between which the caller may stop them. What is small
// is one call of LAPACK's or BLAS's, which nobody would stop.

/// L in place of the lower triangle of a symmetric matrix, of which nothing else is touched.
/// - Returns: false where the matrix is not positive definite.
/// - Complexity: n³/3 operations.
func factorLower(_ a: Matrix<Double>, interruption: Interruption) throws(EngineError) -> Bool {
  let (n, block) = (a.rows, 256)
  // Left-looking: each block of columns takes all earlier ones at once, in one deep product.
  for first in stride(from: 0, to: n, by: block) {
    try interruption.check()
    let end = min(n, first + block)
    let corner = a.row(first) + first
    if first > 0 {
      symmetricProduct(-1, a.view(first..<end, 0..<first), 1, into: a.view(first..<end, first..<end))
    }
    // A row-major lower triangle is a column-major upper one.
    let info = OpenBLAS.call(
      scipy_LAPACKE_dpotrf_work(
        LAPACK_COL_MAJOR, CChar(UInt8(ascii: "U")), Int32(end - first), corner, Int32(a.stride)))
    guard info == 0 else { return false }
    guard end < n else { break }
    let below = a.view(end..<n, first..<end)
    if first > 0 {
      try product(
        -1, a.view(end..<n, 0..<first), a.view(first..<end, 0..<first), transposeB: true, 1, into: below,
        interruption: interruption)
    }
    solveRows(below, by: corner, a.stride, isTransposed: true)
  }
  return true
}

/// Orders and blocks of triangular solves that are done in blocks.
private let (large, block) = (2048, 512)

/// b = b op(l)⁻¹ for the rows of b, with l lower triangular.
func solveRows(
  _ b: Matrix<Double>, by l: UnsafePointer<Double>, _ ldl: Int, isTransposed: Bool, isUnit: Bool = false,
  interruption: Interruption
) throws(EngineError) {
  let n = b.columns
  guard n > large else {
    try interruption.check()
    solveBlock(b, by: l, ldl, isTransposed: isTransposed, isUnit: isUnit)
    return
  }
  let all = Matrix(reading: l, rows: n, columns: n, stride: ldl)
  let starts = Array(stride(from: 0, to: n, by: block))
  for first in isTransposed ? starts : starts.reversed() {
    try interruption.check()
    let own = first..<min(n, first + block)
    let done = isTransposed ? 0..<first : own.upperBound..<n
    let part = isTransposed ? all.view(own, done) : all.view(done, own)
    let target = b.view(0..<b.rows, own)
    if done.isEmpty {
      // The first block.
    } else if b.rows == 1 {
      OpenBLAS.call(
        scipy_cblas_dgemv(
          CblasRowMajor, isTransposed ? CblasNoTrans : CblasTrans, Int32(part.rows), Int32(part.columns), -1, part.base,
          Int32(ldl), b.base + done.lowerBound, 1, 1, target.base, 1))
    } else {
      try product(
        -1, b.view(0..<b.rows, done), part, transposeB: isTransposed, 1, into: target, interruption: interruption)
    }
    solveBlock(target, by: l + first * ldl + first, ldl, isTransposed: isTransposed, isUnit: isUnit)
  }
}

private func solveBlock(
  _ b: Matrix<Double>, by l: UnsafePointer<Double>, _ ldl: Int, isTransposed: Bool, isUnit: Bool
) {
  if b.rows == 1 {
    OpenBLAS.call(
      scipy_cblas_dtrsv(
        CblasRowMajor, CblasLower, isTransposed ? CblasNoTrans : CblasTrans, isUnit ? CblasUnit : CblasNonUnit,
        Int32(b.columns), l, Int32(ldl), b.base, 1))
  } else {
    solveRows(b, by: l, ldl, isTransposed: isTransposed, isUnit: isUnit)
  }
}

/// b = op(l)⁻¹ b, with l lower triangular.
func solveColumns(
  _ b: Matrix<Double>, by l: UnsafePointer<Double>, _ ldl: Int, isTransposed: Bool, interruption: Interruption
) throws(EngineError) {
  let n = b.rows
  guard n > large else {
    try interruption.check()
    solveColumns(b, by: l, ldl, isTransposed: isTransposed)
    return
  }
  let all = Matrix(reading: l, rows: n, columns: n, stride: ldl)
  let starts = Array(stride(from: 0, to: n, by: block))
  for first in isTransposed ? starts.reversed() : starts {
    try interruption.check()
    let own = first..<min(n, first + block)
    let done = isTransposed ? own.upperBound..<n : 0..<first
    let target = b.view(own, 0..<b.columns)
    if !done.isEmpty {
      try product(
        -1, isTransposed ? all.view(done, own) : all.view(own, done), transposeA: isTransposed,
        b.view(done, 0..<b.columns), 1, into: target, interruption: interruption)
    }
    solveColumns(target, by: l + first * ldl + first, ldl, isTransposed: isTransposed)
  }
}

extension FactorScalar {
  /// b = M⁻¹ b or M⁻ᵀ b for the rows of b [count, n], with M [n, n] unit lower triangular.
  static func solveRows(
    isTransposed: Bool, _ n: Int, _ m: UnsafePointer<Self>, _ ldm: Int, _ b: UnsafeMutablePointer<Self>, count: Int,
    interruption: Interruption
  ) throws(EngineError) {
    let starts = n > large ? Array(stride(from: 0, to: n, by: block)) : [0]
    for first in isTransposed ? starts.reversed() : starts {
      try interruption.check()
      let end = n > large ? min(n, first + block) : n
      let width = end - first
      if isTransposed, end < n {
        multiply(
          false, false, count, width, n - end, -1, b + end, n, m + end * ldm + first, ldm, 1, b + first, n)
      } else if !isTransposed, first > 0 {
        multiply(false, true, count, width, first, -1, b, n, m + first * ldm, ldm, 1, b + first, n)
      }
      solveRows(isTransposed: isTransposed, width, m + first * (ldm + 1), ldm, b + first, n, count: count)
    }
  }
}
