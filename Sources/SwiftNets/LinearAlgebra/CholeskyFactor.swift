import CKernels
import COpenBLAS

/// The Cholesky factor of a symmetric positive definite matrix, G = L Lᵀ, for many right-hand sides.
///
/// L takes the place of G's lower triangle and Lᵀ that of the upper one, so that both halves of a solve read rows. The
/// diagonal blocks are kept inverted: a solve is all matrix products. Both the factorisation and a solve look at the
/// interruption between blocks.
struct CholeskyFactor {
  let matrix: Matrix<Double>
  /// Estimate of the 2-norm condition number of G, from below.
  private(set) var condition = 1.0

  private static let block = 256

  /// Replaces the lower triangle of `gram` by its factor; nil where `gram` is not positive definite in float64.
  /// - Complexity: n³/3 operations.
  init?(replacing gram: Matrix<Double>, interruption: Interruption) throws(EngineError) {
    let n = gram.rows
    matrix = gram
    let largest = try largestEigenvalue(gram, interruption: interruption)
    guard largest > 0, largest.isFinite else { return nil }
    // Left-looking: each block of columns takes all earlier ones at once, in one deep product.
    for first in stride(from: 0, to: n, by: Self.block) {
      try interruption.check()
      let end = min(n, first + Self.block)
      let order = Int32(end - first)
      let ld = Int32(gram.stride)
      let diagonal = gram.row(first) + first
      if first > 0 {
        symmetricProduct(-1, gram.view(first..<end, 0..<first), 1, into: gram.view(first..<end, first..<end))
      }
      // A row-major lower triangle is a column-major upper one.
      guard
        OpenBLAS.call(scipy_LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, CChar(UInt8(ascii: "U")), order, diagonal, ld)) == 0
      else {
        return nil
      }
      if end < n {
        let below = gram.view(end..<n, first..<end)
        if first > 0 {
          try product(
            -1, gram.view(end..<n, 0..<first), gram.view(first..<end, 0..<first), transposeB: true, 1, into: below,
            interruption: interruption)
        }
        solveRows(below, by: diagonal, gram.stride, isTransposed: true)
      }
      guard
        OpenBLAS.call(
          scipy_LAPACKE_dtrtri_work(
            LAPACK_COL_MAJOR, CChar(UInt8(ascii: "U")), CChar(UInt8(ascii: "N")), order, diagonal, ld)) == 0
      else { return nil }
    }
    try mirror(interruption)
    let smallest = try smallestEigenvalue(interruption: interruption)
    guard smallest > 0, smallest.isFinite else { return nil }
    condition = max(1, largest / smallest)
  }

  /// Replaces b `[n, k]` by G⁻¹ b, each thread of the team a share of the columns.
  func solve(_ b: Matrix<Double>, interruption: Interruption) throws(EngineError) {
    let n = matrix.rows
    let threads = b.columns < 8 ? 1 : Threads.forWork(of: saturating(n, n))
    // Working memory for each part, made here because nothing may throw out of a team but a cancellation.
    let width = min(Self.columns, (b.columns + threads - 1) / threads + 1)
    let work: [Matrix<Double>] = try (0..<threads).map { _ throws(EngineError) in
      try .padded(n, width)
    }
    try ThreadTeam.run(parts: threads, interruption) { member in
      for part in member.parts {
        let share = member.share(of: b.columns, part: part)
        for first in stride(from: share.lowerBound, to: share.upperBound, by: width) {
          let columns = first..<min(share.upperBound, first + width)
          solve(b.view(0..<n, columns), work[member.index], member)
        }
      }
    }
  }

  /// Columns solved at once: the rows of the right-hand sides then stay in the cache.
  private static let columns = 112
  private static let depth = 128

  private func solve(_ b: Matrix<Double>, _ work: Matrix<Double>, _ member: ThreadTeam.Member) {
    let n = matrix.rows
    let x = Matrix(borrowing: work.base, rows: n, columns: b.columns, stride: work.stride)
    for row in 0..<n { x.row(row).update(from: b.row(row), count: b.columns) }
    let starts = Array(stride(from: 0, to: n, by: Self.block))
    for (first, isForward) in starts.map({ ($0, true) }) + starts.reversed().map({ ($0, false) }) {
      if member.isStopped { return }
      let end = min(n, first + Self.block)
      let done = isForward ? 0..<first : end..<n
      // In pieces of which the rows of x stay in the first cache.
      for left in stride(from: done.lowerBound, to: done.upperBound, by: Self.depth) {
        let piece = left..<min(done.upperBound, left + Self.depth)
        Double.gemm(
          end - first, b.columns, piece.count, matrix.row(first) + piece.lowerBound, matrix.stride, 1,
          x.row(piece.lowerBound), x.stride, nil, 0, .subtract, false, x.row(first), x.stride)
      }
      OpenBLAS.call(
        scipy_cblas_dtrmm(
          CblasRowMajor, CblasLeft, CblasLower, isForward ? CblasNoTrans : CblasTrans, CblasNonUnit,
          Int32(end - first), Int32(b.columns), 1, matrix.row(first) + first, Int32(matrix.stride), x.row(first),
          Int32(x.stride)))
    }
    for row in 0..<n { b.row(row).update(from: x.row(row), count: b.columns) }
  }

  /// Copies L below its diagonal blocks to the upper triangle.
  private func mirror(_ interruption: Interruption) throws(EngineError) {
    let n = matrix.rows
    let tiles = Queue(0)
    let size = 32
    let count = (n + size - 1) / size
    try ThreadTeam.run(parts: Threads.forWork(of: saturating(n, n)), interruption) { member in
      while !member.isStopped, let tile = tiles.next(below: count) {
        let rows = tile * size..<min(n, (tile + 1) * size)
        let end = rows.lowerBound / Self.block * Self.block
        for left in stride(from: 0, to: end, by: size) {
          for column in left..<left + size {
            let target = matrix.row(column)
            for row in rows { target[row] = matrix[row, column] }
          }
        }
      }
    }
  }

  /// Estimate of the smallest eigenvalue of G, from above, by three steps of inverse iteration on four vectors at once.
  private func smallestEigenvalue(interruption: Interruption) throws(EngineError) -> Double {
    let width = 4
    let vectors: Matrix<Double> = try Matrix(rows: matrix.rows, columns: width)
    fillWithSigns(vectors)
    var largest = 0.0
    for _ in 0..<3 {
      largest = 0
      for column in 0..<width {
        let length = OpenBLAS.call(scipy_cblas_dnrm2(Int32(matrix.rows), vectors.base + column, Int32(width)))
        guard length > 0, length.isFinite else { return 0 }
        OpenBLAS.call(scipy_cblas_dscal(Int32(matrix.rows), 1 / length, vectors.base + column, Int32(width)))
      }
      try solve(vectors, interruption: interruption)
      for column in 0..<width {
        largest = max(
          largest, OpenBLAS.call(scipy_cblas_dnrm2(Int32(matrix.rows), vectors.base + column, Int32(width))))
      }
    }
    return 1 / largest
  }
}

/// Estimate of the largest eigenvalue of a symmetric matrix given by its lower triangle, from below, by power
/// iteration.
private func largestEigenvalue(_ matrix: Matrix<Double>, interruption: Interruption) throws(EngineError) -> Double {
  let n = matrix.rows
  let vectors: Matrix<Double> = try Matrix(rows: 2, columns: n)
  fillWithSigns(vectors)
  var value = 0.0
  for _ in 0..<3 {
    try interruption.check()
    let length = OpenBLAS.call(scipy_cblas_dnrm2(Int32(n), vectors.row(0), 1))
    guard length > 0, length.isFinite else { return length }
    OpenBLAS.call(scipy_cblas_dscal(Int32(n), 1 / length, vectors.row(0), 1))
    OpenBLAS.call(
      scipy_cblas_dsymv(
        CblasRowMajor, CblasLower, Int32(n), 1, matrix.base, Int32(matrix.stride), vectors.row(0), 1, 0,
        vectors.row(1), 1))
    value = OpenBLAS.call(scipy_cblas_dnrm2(Int32(n), vectors.row(1), 1))
    vectors.row(0).update(from: vectors.row(1), count: n)
  }
  return value
}

/// Fills a matrix with entries that have no structure and are the same every time.
func fillWithSigns(_ matrix: Matrix<Double>) {
  var state: UInt64 = 0x9e37_79b9_7f4a_7c15
  for row in 0..<matrix.rows {
    for column in 0..<matrix.columns {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      matrix[row, column] = state >> 63 == 0 ? 1 : -1
    }
  }
}
