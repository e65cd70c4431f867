import CKernels
import COpenBLAS
import Glibc

/// Eigenvalues and eigenvectors of a symmetric tridiagonal matrix by divide and conquer (Cuppen 1981; the roots and the
/// vectors as Gu and Eisenstat 1995, deflation and numbering as Rutter 1994 in LAPACK's dlaed2).
///
/// T is torn in halves until they are small, T = diag(T₁, T₂) + ρ u uᵀ. A pair of decompositions is merged by the roots
/// of its secular equation and one product for each half, which is nearly all the work, and is done on the team.
final class TridiagonalEigen {
  private let order: Int
  private let numbers: Storage<Double>
  private let indices: Integers<Int32>
  private let leaf = 32

  /// The numbers of the working memory.
  static func numbers(of order: Int) -> Int { saturating(2, order, saturating(sum: order, 2)) }

  /// Room for matrices of `order`.
  init(order: Int) throws(EngineError) {
    self.order = order
    numbers = try Storage(count: Self.numbers(of: order))
    indices = try Integers(count: saturating(5, order))
  }

  /// Replaces d [n] by T's eigenvalues, ascending, and fills z [n, n] with its eigenvectors as rows; d is T's diagonal
  /// and e [n − 1] what is beside it, which is overwritten.
  /// - Throws: `cancelled`; `numerical` where a root is not found, which takes numbers that are not finite.
  func decompose(
    _ d: UnsafeMutablePointer<Double>, _ e: UnsafeMutablePointer<Double>, into z: Matrix<Double>,
    interruption: Interruption
  ) throws(EngineError) {
    try inSlices(of: order, weight: saturating(copied, order), interruption: interruption) { rows in
      for row in rows { z.row(row).update(repeating: 0, count: order) }
    }
    // LAPACK's copies would wait for the system to make the pages.
    try inSlices(of: numbers.count, weight: copied, interruption: interruption) { piece in
      for index in stride(from: piece.lowerBound, to: piece.upperBound, by: 512) { numbers.base[index] = 0 }
    }
    let sorted = indices.base  // of each piece, its eigenvalues' places in ascending order, from 1
    try solve(0..<order, d, e, z, sorted, interruption)
    // In ascending order, rows and all.
    let values = numbers.base
    let rows = numbers.base + order
    try inSlices(of: order, weight: saturating(copied, order), interruption: interruption) { places in
      for place in places {
        let source = Int(sorted[place]) - 1
        values[place] = d[source]
        (rows + place * order).update(from: z.row(source), count: order)
      }
    }
    d.update(from: values, count: order)
    try inSlices(of: order, weight: saturating(copied, order), interruption: interruption) { places in
      for row in places { z.row(row).update(from: rows + row * order, count: order) }
    }
  }

  private func solve(
    _ piece: Range<Int>, _ d: UnsafeMutablePointer<Double>, _ e: UnsafeMutablePointer<Double>, _ z: Matrix<Double>,
    _ sorted: UnsafeMutablePointer<Int32>, _ interruption: Interruption
  ) throws(EngineError) {
    try interruption.check()
    let first = piece.lowerBound
    if piece.count <= leaf {
      let info = OpenBLAS.call(
        scipy_LAPACKE_dsteqr(
          LAPACK_COL_MAJOR, CChar(UInt8(ascii: "I")), Int32(piece.count), d + first, e + first, z.row(first) + first,
          Int32(z.stride)))
      guard info == 0 else { throw .numerical("an eigenvalue of a tridiagonal matrix was not found") }
      for place in 0..<piece.count { sorted[first + place] = Int32(place + 1) }
      return
    }
    let middle = first + piece.count / 2
    let rho = e[middle - 1]
    d[middle - 1] -= abs(rho)
    d[middle] -= abs(rho)
    try solve(first..<middle, d, e, z, sorted, interruption)
    try solve(middle..<piece.upperBound, d, e, z, sorted, interruption)
    try merge(piece, at: middle - first, rho, d, z, sorted, interruption)
  }

  private func merge(
    _ piece: Range<Int>, at cut: Int, _ tear: Double, _ d: UnsafeMutablePointer<Double>, _ z: Matrix<Double>,
    _ sorted: UnsafeMutablePointer<Int32>, _ interruption: Interruption
  ) throws(EngineError) {
    let (first, n) = (piece.lowerBound, piece.count)
    let (values, order) = (d + first, sorted + first)
    let q = z.row(first) + first  // [n, n], vectors as rows; LAPACK's columns
    let stride = z.stride
    let u = numbers.base
    let (poles, w) = (u + n, u + 2 * n)
    let kept = u + 3 * n  // at most n² of the vectors that are left, without their zeros
    let coefficients = kept + n * n
    let (index, groups, places, types) = (
      indices.base + self.order, indices.base + 2 * self.order, indices.base + 3 * self.order,
      indices.base + 4 * self.order
    )
    // The last row of the first half's vectors and the first of the second half's.
    for column in 0..<n { u[column] = q[column * stride + (column < cut ? cut - 1 : cut)] }
    var (k, size, half, ldq, rho, info) = (Int32(0), Int32(n), Int32(cut), Int32(stride), tear, Int32(0))
    OpenBLAS.call(
      scipy_dlaed2_(
        &k, &size, &half, values, q, &ldq, order, &rho, u, poles, w, kept, index, groups, places, types, &info))
    guard info == 0 else { throw .numerical("divide and conquer met a matrix of no size") }
    guard k > 0 else {
      for place in 0..<n { order[place] = Int32(place + 1) }
      return
    }
    let left = Int(k)
    try findRoots(left, poles, w, rho, values, q, stride, interruption)
    try formCoefficients(left, poles, w, q, stride, groups, coefficients, interruption)
    // Vectors with numbers in the first half alone, in both, in the second alone.
    let (upper, both, lower) = (Int(types[0]), Int(types[1]), Int(types[2]))
    let rest = n - cut
    let top = Matrix(borrowing: kept, rows: upper + both, columns: cut)
    let bottom = Matrix(borrowing: kept + (upper + both) * cut, rows: both + lower, columns: rest)
    let all = Matrix(borrowing: coefficients, rows: left, columns: left)
    for (part, columns, target) in [
      (bottom, upper..<left, Matrix(borrowing: q + cut, rows: left, columns: rest, stride: stride)),
      (top, 0..<upper + both, Matrix(borrowing: q, rows: left, columns: cut, stride: stride)),
    ] {
      if part.rows > 0 {
        try product(1, all.view(0..<left, columns), part, 0, into: target, interruption: interruption)
      } else {
        for row in 0..<left { target.row(row).update(repeating: 0, count: target.columns) }
      }
    }
    var (ascending, descending, one, minusOne) = (k, Int32(n - left), Int32(1), Int32(-1))
    OpenBLAS.call(scipy_dlamrg_(&ascending, &descending, values, &one, &minusOne, order))
  }

  /// The roots of the secular equation into `values`, and row j of q their distances to all poles.
  private func findRoots(
    _ count: Int, _ poles: UnsafeMutablePointer<Double>, _ w: UnsafeMutablePointer<Double>, _ rho: Double,
    _ values: UnsafeMutablePointer<Double>, _ q: UnsafeMutablePointer<Double>, _ stride: Int,
    _ interruption: Interruption
  ) throws(EngineError) {
    let failed = Flag(false)
    let parts = Threads.forWork(of: saturating(count, count, 16))
    try inSlices(of: count, least: 8 * parts, weight: saturating(1000, count), interruption: interruption) { slice in
      inParts(parts, of: slice.count, grain: 1) { share in
        for root in share {
          let place = slice.lowerBound + root
          var (k, i, info, rho) = (Int32(count), Int32(place + 1), Int32(0), rho)
          OpenBLAS.call(scipy_dlaed4_(&k, &i, poles, w, q + place * stride, &rho, values + place, &info))
          if info != 0 { failed.value = true }
        }
      }
    }
    if failed.value { throw .numerical("a root of the secular equation was not found") }
  }

  /// The vectors of the rank-one update for the z that has exactly the computed roots (Gu and Eisenstat), so that they
  /// are orthogonal to rounding; each row in the order of dlaed2's groups.
  private func formCoefficients(
    _ count: Int, _ poles: UnsafeMutablePointer<Double>, _ w: UnsafeMutablePointer<Double>,
    _ q: UnsafeMutablePointer<Double>, _ stride: Int, _ groups: UnsafeMutablePointer<Int32>,
    _ coefficients: UnsafeMutablePointer<Double>, _ interruption: Interruption
  ) throws(EngineError) {
    if count <= 2 {
      // The rows of q are the vectors already.
      for row in 0..<count {
        for column in 0..<count {
          coefficients[row * count + column] = count == 1 ? 1 : q[row * stride + Int(groups[column]) - 1]
        }
      }
      return
    }
    let parts = Threads.forWork(of: saturating(count, count))
    let squares = numbers.base
    try ThreadTeam.run(parts: parts, interruption) { member in
      let share = member.share(of: count, grain: 8)
      for pole in share { squares[pole] = -q[pole * stride + pole] }
      for root in 0..<count {
        if root % 64 == 0 && member.isStopped { return }
        let distances = q + root * stride
        for pole in share where pole != root { squares[pole] *= distances[pole] / (poles[pole] - poles[root]) }
      }
      for pole in share { w[pole] = squares[pole].squareRoot() * (w[pole] < 0 ? -1 : 1) }
    }
    try ThreadTeam.run(parts: parts, interruption) { member in
      for root in member.share(of: count, grain: 8) {
        if root % 64 == 0 && member.isStopped { return }
        let (distances, target) = (q + root * stride, coefficients + root * count)
        for pole in 0..<count { distances[pole] = w[pole] / distances[pole] }
        let length = OpenBLAS.call(scipy_cblas_dnrm2(Int32(count), distances, 1))
        for column in 0..<count { target[column] = distances[Int(groups[column]) - 1] / length }
      }
    }
  }
}
