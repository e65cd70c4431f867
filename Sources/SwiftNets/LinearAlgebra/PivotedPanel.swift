import COpenBLAS
import Glibc

/// A panel of the column-pivoted QR decomposition of a large matrix: LAPACK's dlaqps (Quintana-Ortí, Sun and Bischof,
/// 1998) with its reading of all that is left, once a column, on the team, and with looks at the interruption.
struct PivotedPanel {
  /// The matrix by its columns: a row is a column.
  let a: Matrix<Double>
  let taus: UnsafeMutablePointer<Double>
  /// Norms of what is left of the columns, and what they were when they were last computed.
  let norms: Matrix<Double>
  /// F of the panel by its columns [width, columns], and a row for the work.
  let work: Matrix<Double>

  /// Does columns from `done` on, up to `width` of them.
  /// - Returns: columns done, at least 1.
  func run(
    _ done: Int, width: Int, _ order: UnsafeMutablePointer<Int32>, interruption: Interruption
  ) throws(EngineError) -> Int {
    let (m, n) = (a.columns, a.rows)
    let last = min(m, n)
    var difficult: [Int] = []
    var k = 0
    while k < width && done + k < n && difficult.isEmpty {
      let (own, row) = (done + k, done + k)
      let pivot = own + Int(OpenBLAS.call(scipy_cblas_idamax(Int32(n - own), norms.row(0) + own, 1)))
      if pivot < n && pivot != own { exchange(own, pivot, k, order) }
      let column = a.row(own) + row
      let height = m - row
      if k > 0 {
        OpenBLAS.call(
          scipy_cblas_dgemv(
            CblasRowMajor, CblasTrans, Int32(k), Int32(height), -1, a.row(done) + row, Int32(a.stride), work.base + own,
            Int32(work.stride), 1, column, 1))
      }
      _ = OpenBLAS.call(scipy_LAPACKE_dlarfg_work(Int32(height), column, column + (height > 1 ? 1 : 0), 1, taus + own))
      let diagonal = column[0]
      column[0] = 1
      let f = work.row(k)
      for index in done...own { f[index] = 0 }
      let others = own + 1..<n
      if !others.isEmpty {
        let (a, tau) = (a, taus[own])
        let threads = Threads.forWork(of: saturating(others.count, height))
        try ThreadTeam.run(parts: threads, interruption) { member in
          let share = member.share(of: others.count, grain: 8)
          member.inPieces(share, weight: saturating(8, height)) { piece in
            let first = others.lowerBound + piece.lowerBound
            OpenBLAS.call(
              scipy_cblas_dgemv(
                CblasRowMajor, CblasNoTrans, Int32(piece.count), Int32(height), tau, a.row(first) + row,
                Int32(a.stride),
                column, 1, 0, f + first, 1))
          }
        }
      }
      if k > 0 {
        let overlaps = work.row(width)
        OpenBLAS.call(
          scipy_cblas_dgemv(
            CblasRowMajor, CblasNoTrans, Int32(k), Int32(height), -taus[own], a.row(done) + row, Int32(a.stride),
            column,
            1, 0, overlaps, 1))
        OpenBLAS.call(
          scipy_cblas_dgemv(
            CblasRowMajor, CblasTrans, Int32(k), Int32(n - done), 1, work.base + done, Int32(work.stride), overlaps, 1,
            1,
            f + done, 1))
      }
      if !others.isEmpty {
        // This row of what is left: its entries are one in each column.
        OpenBLAS.call(
          scipy_cblas_dgemv(
            CblasRowMajor, CblasTrans, Int32(k + 1), Int32(others.count), -1, work.base + own + 1, Int32(work.stride),
            a.row(done) + row, Int32(a.stride), 1, a.row(own + 1) + row, Int32(a.stride)))
      }
      if row + 1 < last { difficult = updateNorms(others, row) }
      column[0] = diagonal
      k += 1
    }
    let (rows, rest) = (done + k..<m, done + k..<n)
    if !rows.isEmpty && !rest.isEmpty {
      try product(
        -1, work.view(0..<k, rest), transposeA: true, a.view(done..<done + k, rows), 1, into: a.view(rest, rows),
        interruption: interruption)
    }
    for column in difficult {
      try interruption.check()
      let norm =
        rows.isEmpty ? 0 : OpenBLAS.call(scipy_cblas_dnrm2(Int32(rows.count), a.row(column) + rows.lowerBound, 1))
      norms[0, column] = norm
      norms[1, column] = norm
    }
    return k
  }

  private func exchange(_ own: Int, _ pivot: Int, _ k: Int, _ order: UnsafeMutablePointer<Int32>) {
    OpenBLAS.call(scipy_cblas_dswap(Int32(a.columns), a.row(pivot), 1, a.row(own), 1))
    for index in 0..<k {
      let f = work.row(index)
      (f[own], f[pivot]) = (f[pivot], f[own])
    }
    (order[own], order[pivot]) = (order[pivot], order[own])
    norms[0, pivot] = norms[0, own]
    norms[1, pivot] = norms[1, own]
  }

  /// Takes row `row` out of the norms of columns `others`.
  /// - Returns: those of which so little is left that the norm must be computed anew.
  private func updateNorms(_ others: Range<Int>, _ row: Int) -> [Int] {
    var difficult: [Int] = []
    for column in others where norms[0, column] != 0 {
      let ratio = abs(a[column, row]) / norms[0, column]
      let left = max(0, (1 + ratio) * (1 - ratio))
      let relative = norms[0, column] / norms[1, column]
      if left * (relative * relative) <= 0x1p-26 {
        difficult.append(column)
      } else {
        norms[0, column] *= left.squareRoot()
      }
    }
    return difficult
  }
}
