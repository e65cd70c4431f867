import COpenBLAS
import Glibc

/// Writes a matrix Z [n, m] as R B with the rows of B orthonormal: R [n, r] and B [r, m], r = min(n, m).
///
/// By Householder's reflections, so that B is orthonormal whatever Z's rank.
/// - Parameter work: room for m n + (n + m) `rowSpanBlock` numbers.
/// - Complexity: 4 n m r operations.
func factorRows(
  _ z: Matrix<Double>, r: UnsafeMutablePointer<Double>, b: UnsafeMutablePointer<Double>,
  work: UnsafeMutablePointer<Double>, interruption: Interruption
) throws(EngineError) {
  let (n, m) = (z.rows, z.columns)
  let rank = min(n, m)
  guard rank > 0 else { return }
  // Row-major Z is column-major Zᵀ [m, n] = Q U, so that Z = Uᵀ Qᵀ.
  let reflectors = work
  let taus = work + m * n
  let room = taus + rank
  let roomCount = Int32(clamping: saturating(n, rowSpanBlock - 1))
  for row in 0..<n { (reflectors + row * m).update(from: z.row(row), count: m) }
  let panel = rowSpanBlock - 1
  // Of what is large, LAPACK does a panel at a time.
  let isLarge = saturating(n, m, rank) > 1 << 28
  if isLarge {
    for first in stride(from: 0, to: rank, by: panel) {
      try interruption.check()
      let width = min(panel, rank - first)
      let block = reflectors + first * m + first
      _ = OpenBLAS.call(
        scipy_LAPACKE_dgeqrf_work(
          LAPACK_COL_MAJOR, Int32(m - first), Int32(width), block, Int32(m), taus + first, room, roomCount))
      let others = first + width..<n
      let weight = saturating(4, width, m - first)
      try inSlices(of: others.count, least: 8, weight: weight, interruption: interruption) { slice in
        _ = OpenBLAS.call(
          scipy_LAPACKE_dormqr_work(
            LAPACK_COL_MAJOR, CChar(UInt8(ascii: "L")), CChar(UInt8(ascii: "T")), Int32(m - first), Int32(slice.count),
            Int32(width), block, Int32(m), taus + first,
            reflectors + (others.lowerBound + slice.lowerBound) * m + first,
            Int32(m), room, roomCount))
      }
    }
  } else {
    _ = OpenBLAS.call(
      scipy_LAPACKE_dgeqrf_work(
        LAPACK_COL_MAJOR, Int32(m), Int32(n), reflectors, Int32(m), taus, room, roomCount))
  }
  for row in 0..<n {
    let (source, target) = (reflectors + row * m, r + row * rank)
    let count = min(row + 1, rank)
    target.update(from: source, count: count)
    (target + count).update(repeating: 0, count: rank - count)
  }
  b.update(from: reflectors, count: rank * m)
  guard isLarge else {
    _ = OpenBLAS.call(
      scipy_LAPACKE_dorgqr_work(
        LAPACK_COL_MAJOR, Int32(m), Int32(rank), Int32(rank), b, Int32(m), taus, room, roomCount))
    return
  }
  // The reflections applied to the first columns of 1, the last ones first.
  for row in 0..<rank {
    (b + row * m).update(repeating: 0, count: m)
    b[row * m + row] = 1
  }
  for first in stride(from: 0, to: rank, by: panel).reversed() {
    let width = min(panel, rank - first)
    let weight = saturating(4, width, m - first)
    try inSlices(of: rank - first, least: 8, weight: weight, interruption: interruption) { slice in
      _ = OpenBLAS.call(
        scipy_LAPACKE_dormqr_work(
          LAPACK_COL_MAJOR, CChar(UInt8(ascii: "L")), CChar(UInt8(ascii: "N")), Int32(m - first), Int32(slice.count),
          Int32(width), reflectors + first * m + first, Int32(m), taus + first,
          b + (first + slice.lowerBound) * m + first, Int32(m), room, roomCount))
    }
  }
}

/// Columns of a block of reflections.
let rowSpanBlock = 33
