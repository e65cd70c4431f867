import COpenBLAS
import Glibc

/// Writes a matrix Z [n, m] as R B with the rows of B orthonormal: R [n, r] and B [r, m], r = min(n, m).
///
/// By Householder's reflections, so that B is orthonormal whatever Z's rank.
/// - Parameter work: room for m n + (n + m) `rowSpanBlock` numbers.
/// - Complexity: 4 n m r operations.
func factorRows(
  _ z: Matrix<Double>, r: UnsafeMutablePointer<Double>, b: UnsafeMutablePointer<Double>,
  work: UnsafeMutablePointer<Double>
) {
  let (n, m) = (z.rows, z.columns)
  let rank = min(n, m)
  guard rank > 0 else { return }
  // Row-major Z is column-major Zᵀ [m, n] = Q U, so that Z = Uᵀ Qᵀ.
  let reflectors = work
  let taus = work + m * n
  let room = taus + rank
  let roomCount = Int32(clamping: saturating(n, rowSpanBlock - 1))
  for row in 0..<n { (reflectors + row * m).update(from: z.row(row), count: m) }
  _ = scipy_LAPACKE_dgeqrf_work(
    LAPACK_COL_MAJOR, Int32(m), Int32(n), reflectors, Int32(m), taus, room, roomCount)
  for row in 0..<n {
    let (source, target) = (reflectors + row * m, r + row * rank)
    let count = min(row + 1, rank)
    target.update(from: source, count: count)
    (target + count).update(repeating: 0, count: rank - count)
  }
  b.update(from: reflectors, count: rank * m)
  _ = scipy_LAPACKE_dorgqr_work(
    LAPACK_COL_MAJOR, Int32(m), Int32(rank), Int32(rank), b, Int32(m), taus, room, roomCount)
}

/// Columns of a block of reflections.
let rowSpanBlock = 33
