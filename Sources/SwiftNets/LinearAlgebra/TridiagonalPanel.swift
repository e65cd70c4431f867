import COpenBLAS

/// A panel of the reduction of a large symmetric matrix to tridiagonal form: LAPACK's dlatrd ('L', by columns), with
/// its product of all that is left and a vector, once a column, on the team, and with looks at the interruption.
struct TridiagonalPanel {
  /// The lower triangle by columns: by rows the upper one.
  let a: Matrix<Double>
  /// W by its columns [width, order].
  let w: Matrix<Double>
  /// Sums of the parts of a product [parts, order].
  private let sums: Matrix<Double>
  private let threads: Int

  init(_ a: Matrix<Double>, _ w: Matrix<Double>) throws(EngineError) {
    self.a = a
    self.w = w
    threads = Threads.count
    sums = try Matrix(rows: threads, columns: a.rows)
  }

  /// Reduces columns from `first` on, `width` of them; W belongs to what is left from there, and starts at its column
  /// 0.
  func run(
    _ first: Int, width: Int, _ e: UnsafeMutablePointer<Double>, _ tau: UnsafeMutablePointer<Double>,
    interruption: Interruption
  ) throws(EngineError) {
    let (n, lda, ldw) = (a.rows, Int32(a.stride), Int32(w.stride))
    for index in 0..<width {
      let (own, done) = (first + index, Int32(index))
      // What the columns before have in this one. Of column c, row r is a[c, r] and w[c − first, r − first].
      let height = Int32(n - own)
      OpenBLAS.call(
        scipy_cblas_dgemv(
          CblasColMajor, CblasNoTrans, height, done, -1, a.row(first) + own, lda, w.base + index, ldw, 1,
          a.row(own) + own, 1))
      OpenBLAS.call(
        scipy_cblas_dgemv(
          CblasColMajor, CblasNoTrans, height, done, -1, w.base + index, ldw, a.row(first) + own, lda, 1,
          a.row(own) + own, 1))
      let v = a.row(own) + own + 1
      let rest = height - 1
      _ = OpenBLAS.call(scipy_LAPACKE_dlarfg_work(rest, v, v + (rest > 1 ? 1 : 0), 1, tau + own))
      e[own] = v[0]
      v[0] = 1
      let target = w.row(index) + index + 1
      try multiply(own + 1, v, into: target, interruption)
      let overlaps = w.row(index)
      for (left, ldl, right, ldr) in [
        (w.base + index + 1, ldw, a.row(first) + own + 1, lda), (a.row(first) + own + 1, lda, w.base + index + 1, ldw),
      ] {
        OpenBLAS.call(scipy_cblas_dgemv(CblasColMajor, CblasTrans, rest, done, 1, left, ldl, v, 1, 0, overlaps, 1))
        OpenBLAS.call(
          scipy_cblas_dgemv(CblasColMajor, CblasNoTrans, rest, done, -1, right, ldr, overlaps, 1, 1, target, 1))
      }
      OpenBLAS.call(scipy_cblas_dscal(rest, tau[own], target, 1))
      let overlap = OpenBLAS.call(scipy_cblas_ddot(rest, target, 1, v, 1))
      OpenBLAS.call(scipy_cblas_daxpy(rest, -0.5 * tau[own] * overlap, v, 1, target, 1))
    }
  }

  /// The matrix left from `start` on times v, each part of the team some of its columns.
  private func multiply(
    _ start: Int, _ v: UnsafePointer<Double>, into target: UnsafeMutablePointer<Double>, _ interruption: Interruption
  ) throws(EngineError) {
    let count = a.rows - start
    let (a, sums, parts) = (a, sums, min(threads, Threads.forWork(of: saturating(count, count))))
    let ends = (0...parts).map {
      (count - Int(Double(count) * (1 - Double($0) / Double(parts)).squareRoot())) / 8 * 8
    }
    try ThreadTeam.run(parts: parts, interruption) { member in
      for part in member.parts {
        let sum = sums.row(part)
        sum.update(repeating: 0, count: count)
        let (low, high) = (ends[part], part == parts - 1 ? count : ends[part + 1])
        for first in stride(from: low, to: high, by: Self.columns) where !member.isStopped {
          let width = min(Self.columns, high - first)
          let corner = a.row(start + first) + start + first
          OpenBLAS.call(
            scipy_cblas_dsymv(
              CblasColMajor, CblasLower, Int32(width), 1, corner, Int32(a.stride), v + first, 1, 1, sum + first, 1))
          // What is below, in pieces that are still in the cache when they are read the second time.
          for row in stride(from: first + width, to: count, by: Self.rows) {
            let height = Int32(min(Self.rows, count - row))
            let piece = a.row(start + first) + start + row
            OpenBLAS.call(
              scipy_cblas_dgemv(
                CblasColMajor, CblasNoTrans, height, Int32(width), 1, piece, Int32(a.stride), v + first, 1, 1,
                sum + row,
                1))
            OpenBLAS.call(
              scipy_cblas_dgemv(
                CblasColMajor, CblasTrans, height, Int32(width), 1, piece, Int32(a.stride), v + row, 1, 1, sum + first,
                1))
          }
        }
      }
    }
    target.update(from: sums.base, count: count)
    for part in 1..<max(parts, 1) { Double.axpy(count, 1, sums.row(part), target) }
  }

  private static let (columns, rows) = (32, 1024)
}
