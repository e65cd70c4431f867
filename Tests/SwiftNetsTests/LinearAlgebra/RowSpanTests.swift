import Testing

@testable import SwiftNets

@Suite struct RowSpanTests {
  @Test(arguments: [(1, 1), (1, 6), (3, 7), (8, 9), (5, 5), (9, 4), (40, 70)], [true, false])
  func `a matrix of any rank is R B with orthonormal rows of B`(size: (Int, Int), isDeficient: Bool) throws {
    let (n, m) = size
    let rank = min(n, m)
    let z = try Matrix<Double>.normal(n, m, seed: UInt64(n * m))
    // Samples that are alike.
    if isDeficient { for row in 1..<max(n, 1) { z.row(row).update(from: z.row(0), count: m) } }
    let r = try Matrix<Double>(rows: n, columns: rank)
    let b = try Matrix<Double>(rows: rank, columns: m)
    let work = try Matrix<Double>(rows: 1, columns: m * n + (m + n) * rowSpanBlock)
    try factorRows(z, r: r.base, b: b.base, work: work.base, interruption: Interruption())
    let bound = 8 * Double(n + m) * 0x1p-53
    for i in 0..<n {
      for j in 0..<m {
        let found = (0..<rank).reduce(0) { $0 + r[i, $1] * b[$1, j] }
        #expect(abs(found - z[i, j]) <= bound * z.norm)
      }
    }
    for i in 0..<rank {
      for j in 0..<rank {
        #expect(abs(Double.dot(m, b.row(i), b.row(j)) - (i == j ? 1 : 0)) <= bound * Double(rank).squareRoot())
      }
    }
  }
}
