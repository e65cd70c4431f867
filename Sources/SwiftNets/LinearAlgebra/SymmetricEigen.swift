import CKernels
import COpenBLAS
import Glibc

/// Replaces a symmetric matrix by its eigenvectors, as rows, and returns the eigenvalues in ascending order.
///
/// LAPACK's divide and conquer (`dsyevd`, `ssyevd`) for small matrices; for large float64 ones the same algorithm by
/// `TridiagonalEigen`, on the team and with looks at the interruption. The upper triangle is read alone.
/// - Throws: `numerical` when it does not converge, `notFinite` for a matrix with entries that are not finite,
///   `invalidArgument` for one too large for LAPACK's integers, `cancelled`.
/// - Complexity: about 9 n³ operations.
func symmetricEigen<T: KernelScalar>(
  _ matrix: Matrix<T>, interruption: Interruption = Interruption()
) throws(EngineError) -> [T] {
  let n = matrix.rows
  guard n > 0 else { return [] }
  guard n <= largestEigenOrder else {
    throw .invalidArgument(
      "a matrix of order \(n) is too large for eigenvectors: LAPACK's integers count up to order \(largestEigenOrder)")
  }
  try inSlices(of: n, weight: saturating(copied, n), interruption: interruption) { rows throws(EngineError) in
    for row in rows {
      for column in row..<n where !matrix[row, column].isFinite {
        throw .notFinite("a matrix to be diagonalised has entries that are not finite")
      }
    }
  }
  if n > 400, let large = matrix as? Matrix<Double> {
    guard let values = try largeSymmetricEigen(large, interruption) as? [T] else { return [] }
    return values
  }
  if n > 1024 {
    // Nobody could stop LAPACK.
    let wide = try Matrix<Double>(rows: n, columns: n)
    for row in 0..<n { for column in row..<n { wide[row, column] = Double(matrix[row, column]) } }
    let values = try largeSymmetricEigen(wide, interruption)
    for row in 0..<n { for column in 0..<n { matrix[row, column] = T(wide[row, column]) } }
    return values.map { T($0) }
  }
  var values = [T](repeating: 0, count: n)
  // Column-major eigenvectors as columns are row-major eigenvectors as rows, and the matrix is its own transpose.
  let info = values.withUnsafeMutableBufferPointer { values in
    if let base = matrix.base as? UnsafeMutablePointer<Double> {
      return OpenBLAS.call(
        scipy_LAPACKE_dsyevd(
          LAPACK_COL_MAJOR, CChar(UInt8(ascii: "V")), CChar(UInt8(ascii: "L")), Int32(n), base, Int32(matrix.stride),
          UnsafeMutableRawPointer(values.baseAddress!).assumingMemoryBound(to: Double.self)))
    }
    return OpenBLAS.call(
      scipy_LAPACKE_ssyevd(
        LAPACK_COL_MAJOR, CChar(UInt8(ascii: "V")), CChar(UInt8(ascii: "L")), Int32(n),
        UnsafeMutableRawPointer(matrix.base).assumingMemoryBound(to: Float.self), Int32(matrix.stride),
        UnsafeMutableRawPointer(values.baseAddress!).assumingMemoryBound(to: Float.self)))
  }
  guard info == 0 else { throw .numerical("the symmetric eigenvalue solver did not converge (LAPACK info \(info))") }
  return values
}

/// Replaces a symmetric matrix, of which the upper triangle is read, by its eigenvectors as rows.
/// - Returns: the eigenvalues, ascending.
/// - Throws: what `symmetricEigen` throws.
public func eigenvalues(
  replacing matrix: Matrix<Double>, interruption: Interruption = Interruption()
) throws(EngineError) -> [Double] {
  try symmetricEigen(matrix, interruption: interruption)
}

/// Beyond it LAPACK's 32-bit integers do not count the numbers of a half of the vectors, and wrap.
let largestEigenOrder = 65_535

/// A = Q T Qᵀ by Householder's reflections, T = Z Λ Zᵀ by divide and conquer, and the rows of (Q Z)ᵀ in A's place.
private func largeSymmetricEigen(_ a: Matrix<Double>, _ interruption: Interruption) throws(EngineError) -> [Double] {
  let n = a.rows
  // Powers of 2 round nothing, and take squares into the range.
  var largest = 0.0
  try inSlices(of: n, weight: saturating(copied, n), interruption: interruption) { rows in
    for row in rows { for column in row..<n { largest = max(largest, abs(a[row, column])) } }
  }
  let exponent = largest > 0 ? Int32(clamping: largest.exponent) : 0
  let scale = abs(exponent) > 200 ? scalbn(1.0, -exponent / 2) : 1
  if scale != 1 {
    // In two halves: one of them may not be a number of its own.
    for row in 0..<n {
      for column in row..<n { a[row, column] = a[row, column] * scale * scale }
    }
  }
  let work: Storage<Double> = try Storage(count: saturating(3, n))
  let (d, e, tau) = (work.base, work.base + n, work.base + 2 * n)
  try reduceToTridiagonal(a, d, e, tau, interruption)
  let z: Matrix<Double> = try Matrix(rows: n, columns: n)  // eigenvectors of T as rows
  try TridiagonalEigen(order: n).decompose(d, e, into: z, interruption: interruption)
  try reflect(z, a, tau, interruption)
  try inSlices(of: n, weight: saturating(copied, n), interruption: interruption) { rows in
    for row in rows { a.row(row).update(from: z.row(row), count: n) }
  }
  return (0..<n).map { d[$0] / scale / scale }
}

/// The rows of z times the reflections that the reduction left in a (LAPACK's dormtr), the last ones first.
private func reflect(
  _ z: Matrix<Double>, _ a: Matrix<Double>, _ tau: UnsafePointer<Double>, _ interruption: Interruption
) throws(EngineError) {
  let (n, block) = (z.rows, 32)
  let triangle: Storage<Double> = try Storage(count: saturating(block, block))
  let work: Storage<Double> = try Storage(count: saturating(block, n))
  for first in stride(from: 0, to: n - 1, by: block).reversed() {
    let width = min(block, n - 1 - first)
    let height = n - 1 - first
    let v = a.row(first) + first + 1
    _ = OpenBLAS.call(
      scipy_LAPACKE_dlarft_work(
        LAPACK_COL_MAJOR, CChar(UInt8(ascii: "F")), CChar(UInt8(ascii: "C")), Int32(height), Int32(width), v,
        Int32(a.stride), tau + first, triangle.base, Int32(block)))
    try ThreadTeam.run(parts: Threads.forWork(of: saturating(height, width, n)), interruption) { member in
      for part in member.parts {
        let share = member.share(of: n, grain: 8, part: part)
        // Rows of the work from here on are this part's.
        member.inPieces(share, weight: saturating(2, height, width)) { rows in
          _ = OpenBLAS.call(
            scipy_LAPACKE_dlarfb_work(
              LAPACK_COL_MAJOR, CChar(UInt8(ascii: "L")), CChar(UInt8(ascii: "N")), CChar(UInt8(ascii: "F")),
              CChar(UInt8(ascii: "C")), Int32(height), Int32(rows.count), Int32(width), v, Int32(a.stride),
              triangle.base,
              Int32(block), z.row(rows.lowerBound) + first + 1, Int32(z.stride), work.base + block * rows.lowerBound,
              Int32(rows.count)))
        }
      }
    }
  }
}

/// The reduction to tridiagonal form (LAPACK's dsytrd, lower triangle by columns), its rank-2k updates on the team.
private func reduceToTridiagonal(
  _ a: Matrix<Double>, _ d: UnsafeMutablePointer<Double>, _ e: UnsafeMutablePointer<Double>,
  _ tau: UnsafeMutablePointer<Double>, _ interruption: Interruption
) throws(EngineError) {
  let n = a.rows
  let lower = [CChar(UInt8(ascii: "L"))]
  var first = 0
  let panel = 32
  let work: Matrix<Double> = try Matrix(rows: panel, columns: n)
  let large = n > 1768 ? try TridiagonalPanel(a, work) : nil
  while n - first > 2 * panel {
    try interruption.check()
    let left = n - first
    let width = panel
    // A panel reads all that is left once a column: LAPACK does it where that is little.
    if let large, left > 1768 {
      try large.run(first, width: width, e, tau, interruption: interruption)
    } else {
      var (order, columns, lda, ldw) = (Int32(left), Int32(width), Int32(a.stride), Int32(n))
      OpenBLAS.call(
        scipy_dlatrd_(
          lower, &order, &columns, a.row(first) + first, &lda, e + first, tau + first, work.base, &ldw, 1))
    }
    // What is left less V Wᵀ + W Vᵀ; by columns the lower triangle, here rows of the upper one.
    let start = first + width
    let rest = n - start
    let v = a.row(first) + start  // [width, rest]
    let w = work.base + width
    let parts = Threads.forWork(of: saturating(rest, rest, width))
    let ends = (0...parts).map { rest - Int(Double(rest) * (1 - Double($0) / Double(parts)).squareRoot()) }
    try ThreadTeam.run(parts: parts, interruption) { member in
      for part in member.parts where !member.isStopped {
        let (low, high) = (ends[part], part == parts - 1 ? rest : ends[part + 1])
        guard low < high else { continue }
        let corner = a.row(start + low) + start + low
        OpenBLAS.call(
          scipy_cblas_dsyr2k(
            CblasColMajor, CblasLower, CblasNoTrans, Int32(high - low), Int32(width), -1, v + low, Int32(a.stride),
            w + low, Int32(n), 1, corner, Int32(a.stride)))
        guard high < rest else { continue }
        let below = a.row(start + low) + start + high
        for (x, ldx, y, ldy) in [(v, a.stride, w, n), (w, n, v, a.stride)] {
          OpenBLAS.call(
            scipy_cblas_dgemm(
              CblasColMajor, CblasNoTrans, CblasTrans, Int32(rest - high), Int32(high - low), Int32(width), -1,
              x + high, Int32(ldx), y + low, Int32(ldy), 1, below, Int32(a.stride)))
        }
      }
    }
    // The reflectors' leading ones made room for the off-diagonal.
    for index in first..<start {
      a[index, index + 1] = e[index]
      d[index] = a[index, index]
    }
    first = start
  }
  let info = OpenBLAS.call(
    scipy_LAPACKE_dsytrd(
      LAPACK_COL_MAJOR, lower[0], Int32(n - first), a.row(first) + first, Int32(a.stride), d + first, e + first,
      tau + first))
  guard info == 0 else { throw .outOfMemory(bytes: saturating(64, n, 8)) }
}
