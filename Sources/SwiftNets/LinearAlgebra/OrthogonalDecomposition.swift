import CKernels
import COpenBLAS
import Glibc

/// The complete orthogonal decomposition of a matrix of any rank, A ≈ Q₁ Tᵀ Z₁ᵀ Πᵀ, which applies A's pseudo-inverse.
///
/// Column-pivoted QR (Businger and Golub, 1965; panels as in Quintana-Ortí, Sun and Bischof, 1998) ends at the first
/// diagonal entry of R that is at most `tolerance` times the first one: that is the numerical rank k. Where k is less
/// than the number of columns, a second QR, of [R₁₁ R₁₂]ᵀ = Z₁ T, leaves the k×k triangle T (else T = R₁₁ᵀ, Z₁ = 1).
///
/// - The memory is A's and that of the k reflectors of Z₁.
/// - Complexity: 4 m n k operations, half of them bound by memory.
struct OrthogonalDecomposition {
  let rows: Int  // m ≥ n
  let columns: Int
  let rank: Int
  /// Estimate of the largest over the smallest singular value kept, from below.
  let condition: Double
  /// What was cut off, as a part of the largest: the norm of A - Q₁ Tᵀ Z₁ᵀ Πᵀ over |R₁₁|, about.
  let dropped: Double
  let bytes: Int

  private let q: Reflectors
  private let z: Reflectors?  // nil where rank = columns
  private let pivots: [Int]

  /// - Parameters:
  ///   - a: the matrix as its columns: a row of `a` is a column of A. It is overwritten and kept. All entries are
  ///     finite, and A has at least as many rows as columns.
  init(replacing a: Matrix<Double>, tolerance: Double, interruption: Interruption) throws(EngineError) {
    let (m, n) = (a.columns, a.rows)
    rows = m
    columns = n
    // The largest entry becomes about 1, so that no norm overflows or underflows. Powers of 2 round nothing.
    var largest = 0.0
    for row in 0..<n {
      if row % 256 == 0 { try interruption.check() }
      let index = Int(OpenBLAS.call(scipy_cblas_idamax(Int32(m), a.row(row), 1)))
      largest = max(largest, abs(a[row, min(index, m - 1)]))
    }
    guard largest > 0 else {
      (rank, condition, dropped, pivots, z) = (0, 1, 0, Array(0..<n), nil)
      scale = 1
      q = try Reflectors(a, count: 0, taus: Storage(count: 0), interruption: interruption)
      bytes = q.bytes
      return
    }
    let scale = scalbn(1.0, -min(max(Int32(clamping: largest.exponent), -1000), 1000))
    self.scale = scale
    try inSlices(of: n, weight: saturating(copied, m), interruption: interruption) { rows in
      for row in rows { OpenBLAS.call(scipy_cblas_dscal(Int32(m), scale, a.row(row), 1)) }
    }

    let taus: Storage<Double> = try Storage(count: n)
    let norms: Matrix<Double> = try Matrix(rows: 2, columns: n)
    var order = (0..<Int32(clamping: n)).map { $0 }
    try inSlices(of: n, weight: saturating(copied, m), interruption: interruption) { rows in
      for row in rows {
        let norm = OpenBLAS.call(scipy_cblas_dnrm2(Int32(m), a.row(row), 1))
        norms[0, row] = norm
        norms[1, row] = norm
      }
    }
    // Half the work of a panel reads all that is left of A once a column: LAPACK does it for small ones.
    let isLarge = saturating(m, n) > 2_500_000
    let width = 32
    let work: Matrix<Double> = try Matrix(rows: width + 1, columns: n)
    var done = 0
    var rank = n
    var left = 0.0
    while done < n {
      try interruption.check()
      let panel = min(width, n - done)
      let found = try order.withUnsafeMutableBufferPointer { order throws(EngineError) in
        guard let order = order.baseAddress else { return 0 }
        if isLarge {
          return try PivotedPanel(a: a, taus: taus.base, norms: norms, work: work).run(
            done, width: panel, order, interruption: interruption)
        }
        var (pm, pn, offset, nb, ld, ldf, found) = (
          Int32(m), Int32(n - done), Int32(done), Int32(panel), Int32(a.stride), Int32(n), Int32(0)
        )
        OpenBLAS.call(
          scipy_dlaqps_(
            &pm, &pn, &offset, &nb, &found, a.row(done), &ld, order + done, taus.base + done, norms.row(0) + done,
            norms.row(1) + done, work.row(0), work.row(1), &ldf))
        return Int(found)
      }
      guard found > 0 else { throw .numerical("column-pivoted QR made no progress at column \(done)") }
      let end = min(n, done + found)
      let threshold = tolerance * abs(a[0, 0])
      if let cut = (done..<end).first(where: { !(abs(a[$0, $0]) > threshold) }) {
        rank = cut
        // The rows of R below the cut, and what the panels have not reached.
        for column in cut..<n {
          let reached = column < end ? column + 1 : end
          let part = OpenBLAS.call(scipy_cblas_dnrm2(Int32(reached - cut), a.row(column) + cut, 1))
          left += part * part + (column < end ? 0 : norms[0, column] * norms[0, column])
        }
        break
      }
      done = end
    }
    self.rank = rank
    dropped = left.squareRoot() / abs(a[0, 0])
    pivots = order.map { Int($0) }
    q = try Reflectors(a, count: rank, taus: taus, interruption: interruption)
    if rank < n {
      // [R₁₁ R₁₂]ᵀ by columns, which are the rows of R.
      let r: Matrix<Double> = try Matrix(rows: rank, columns: n)
      let tile = 32
      for first in stride(from: 0, to: rank, by: tile) {
        try interruption.check()
        for left in stride(from: first, to: n, by: tile) {
          for row in first..<min(first + tile, rank) {
            for column in max(left, row)..<max(min(left + tile, n), row) { r[row, column] = a[column, row] }
          }
        }
      }
      z = try Reflectors(factoring: r, interruption: interruption)
    } else {
      z = nil
    }
    bytes = q.bytes + (z?.bytes ?? 0) + n * MemoryLayout<Int>.stride
    condition = try triangleCondition(
      z?.matrix ?? a, order: rank, interruption: interruption)
  }

  private let scale: Double  // the decomposition is that of scale · A

  /// A⁺ b `[n, k]` for b `[m, k]`; b is overwritten.
  func pseudoInverse(_ b: Matrix<Double>, into x: Matrix<Double>, interruption: Interruption) throws(EngineError) {
    try q.apply(to: b, transposed: true, interruption: interruption)
    try solveTriangle(b, transposed: false, interruption)
    let padded: Matrix<Double> = try Matrix(rows: columns, columns: b.columns)
    for row in 0..<rank { padded.row(row).update(from: b.row(row), count: b.columns) }
    try z?.apply(to: padded, transposed: false, interruption: interruption)
    for (index, pivot) in pivots.enumerated() {
      for column in 0..<b.columns { x[pivot, column] = padded[index, column] * scale }
    }
  }

  /// (Aᵀ)⁺ c `[m, k]` for c `[n, k]`.
  func pseudoInverseOfTranspose(
    _ c: Matrix<Double>, into y: Matrix<Double>, interruption: Interruption
  ) throws(EngineError) {
    let permuted = try permute(c)
    try z?.apply(to: permuted, transposed: true, interruption: interruption)
    try solveTriangle(permuted, transposed: true, interruption)
    for row in 0..<rank {
      for column in 0..<c.columns { y[row, column] = permuted[row, column] * scale }
    }
    for row in rank..<rows { memset(y.row(row), 0, c.columns * MemoryLayout<Double>.stride) }
    try q.apply(to: y, transposed: false, interruption: interruption)
  }

  /// Replaces b `[m, k]` by its projection on the range of A.
  func project(_ b: Matrix<Double>, interruption: Interruption) throws(EngineError) {
    try q.apply(to: b, transposed: true, interruption: interruption)
    for row in rank..<rows { memset(b.row(row), 0, b.columns * MemoryLayout<Double>.stride) }
    try q.apply(to: b, transposed: false, interruption: interruption)
  }

  /// Replaces c `[n, k]` by its projection on the range of Aᵀ.
  func projectOnRowSpace(_ c: Matrix<Double>, interruption: Interruption) throws(EngineError) {
    guard let z else {
      if rank == 0 { for row in 0..<columns { memset(c.row(row), 0, c.columns * MemoryLayout<Double>.stride) } }
      return
    }
    let permuted = try permute(c)
    try z.apply(to: permuted, transposed: true, interruption: interruption)
    for row in rank..<columns { memset(permuted.row(row), 0, c.columns * MemoryLayout<Double>.stride) }
    try z.apply(to: permuted, transposed: false, interruption: interruption)
    for (index, pivot) in pivots.enumerated() { c.row(pivot).update(from: permuted.row(index), count: c.columns) }
  }

  private func permute(_ c: Matrix<Double>) throws(EngineError) -> Matrix<Double> {
    let permuted: Matrix<Double> = try Matrix(rows: columns, columns: c.columns)
    for (index, pivot) in pivots.enumerated() { permuted.row(index).update(from: c.row(pivot), count: c.columns) }
    return permuted
  }

  /// The first `rank` rows of b become T⁻ᵀ b, or T⁻¹ b where `transposed`; without Z₁, T is R₁₁ᵀ.
  private func solveTriangle(
    _ b: Matrix<Double>, transposed: Bool, _ interruption: Interruption
  ) throws(EngineError) {
    guard rank > 0, b.columns > 0 else { return }
    // Both triangles lie by columns: for a row-major BLAS they are lower ones, R₁₁ᵀ and Tᵀ.
    let triangle = z?.matrix ?? q.matrix
    let asStored = (z == nil) == transposed
    try solveColumns(
      b.view(0..<rank, 0..<b.columns), by: triangle.base, triangle.stride, isTransposed: !asStored,
      interruption: interruption)
  }
}

/// Householder reflectors in blocks, H₁ H₂ ⋯, as LAPACK's dgeqrt leaves them below the diagonal of a matrix that is
/// given by its columns.
private struct Reflectors {
  let matrix: Matrix<Double>  // a row is a column
  let count: Int
  private let triangles: Storage<Double>  // the T of each block, block × block, by columns
  private static let block = 32

  var bytes: Int { matrix.bytes + triangles.bytes }

  /// The reflectors of a pivoted QR: the triangles are made from the scalars `taus`.
  init(
    _ matrix: Matrix<Double>, count: Int, taus: Storage<Double>, interruption: Interruption
  ) throws(EngineError) {
    self.matrix = matrix
    self.count = count
    triangles = try Storage(count: saturating(count, Self.block))
    for first in stride(from: 0, to: count, by: Self.block) {
      try interruption.check()
      let width = min(Self.block, count - first)
      _ = OpenBLAS.call(
        scipy_LAPACKE_dlarft_work(
          LAPACK_COL_MAJOR, CChar(UInt8(ascii: "F")), CChar(UInt8(ascii: "C")), Int32(matrix.columns - first),
          Int32(width), matrix.row(first) + first, Int32(matrix.stride), taus.base + first,
          triangles.base + first * Self.block, Int32(Self.block)))
    }
  }

  /// The QR decomposition of `matrix`, unpivoted, in its place; it has at least as many rows as columns.
  init(factoring matrix: Matrix<Double>, interruption: Interruption) throws(EngineError) {
    self.matrix = matrix
    count = matrix.rows
    triangles = try Storage(count: saturating(count, Self.block))
    let work: Storage<Double> = try Storage(count: saturating(Self.block, max(count, 1)))
    for first in stride(from: 0, to: count, by: Self.block) {
      try interruption.check()
      let width = min(Self.block, count - first)
      let height = matrix.columns - first
      let ld = Int32(matrix.stride)
      let triangle = triangles.base + first * Self.block
      _ = OpenBLAS.call(
        scipy_LAPACKE_dgeqrt_work(
          LAPACK_COL_MAJOR, Int32(height), Int32(width), Int32(width), matrix.row(first) + first, ld, triangle,
          Int32(Self.block), work.base))
      let rest = count - first - width
      guard rest > 0 else { continue }
      let threads = Threads.forWork(of: saturating(height, width, rest))
      try ThreadTeam.run(parts: threads, interruption) { member in
        for part in member.parts {
          let share = member.share(of: rest, grain: 8, part: part)
          member.inPieces(share, weight: saturating(2, height, width)) { columns in
            _ = OpenBLAS.call(
              scipy_LAPACKE_dgemqrt_work(
                LAPACK_COL_MAJOR, CChar(UInt8(ascii: "L")), CChar(UInt8(ascii: "T")), Int32(height),
                Int32(columns.count), Int32(width), Int32(width), matrix.row(first) + first, ld, triangle,
                Int32(Self.block), matrix.row(first + width + columns.lowerBound) + first, ld,
                work.base + Self.block * columns.lowerBound))
          }
        }
      }
    }
  }

  /// b = Q b, or Qᵀ b, for b `[matrix.columns, k]`.
  func apply(to b: Matrix<Double>, transposed: Bool, interruption: Interruption) throws(EngineError) {
    guard count > 0, b.columns > 0 else { return }
    let work: Storage<Double> = try Storage(count: saturating(Self.block, b.columns))
    let starts = Array(stride(from: 0, to: count, by: Self.block))
    for first in transposed ? starts : starts.reversed() {
      try interruption.check()
      let width = min(Self.block, count - first)
      // For LAPACK b is its transpose, so the blocks act from the right, transposed.
      let height = matrix.columns - first
      let threads = Threads.forWork(of: saturating(height, width, b.columns))
      try ThreadTeam.run(parts: threads, interruption) { member in
        for part in member.parts {
          let share = member.share(of: b.columns, grain: 8, part: part)
          member.inPieces(share, weight: saturating(2, height, width)) { columns in
            _ = OpenBLAS.call(
              scipy_LAPACKE_dgemqrt_work(
                LAPACK_COL_MAJOR, CChar(UInt8(ascii: "R")), CChar(UInt8(ascii: transposed ? "N" : "T")),
                Int32(columns.count), Int32(height), Int32(width), Int32(width), matrix.row(first) + first,
                Int32(matrix.stride), triangles.base + first * Self.block, Int32(Self.block),
                b.row(first) + columns.lowerBound, Int32(b.stride), work.base + Self.block * columns.lowerBound))
          }
        }
      }
    }
  }
}

/// Estimate of the condition number of a triangle, from below: five steps of the power method on it and its inverse.
private func triangleCondition(
  _ matrix: Matrix<Double>, order: Int, interruption: Interruption
) throws(EngineError) -> Double {
  guard order > 0 else { return 1 }
  let vectors: Matrix<Double> = try Matrix(rows: 2, columns: order)
  fillWithSigns(vectors)
  let (n, ld) = (Int32(order), Int32(matrix.stride))
  let steps: [(Matrix<Double>, Int) -> Void] = [
    { vectors, row in
      for side in [CblasTrans, CblasNoTrans] {
        OpenBLAS.call(
          scipy_cblas_dtrmv(CblasRowMajor, CblasLower, side, CblasNonUnit, n, matrix.base, ld, vectors.row(row), 1))
      }
    },
    { vectors, row in
      for side in [CblasNoTrans, CblasTrans] {
        OpenBLAS.call(
          scipy_cblas_dtrsv(CblasRowMajor, CblasLower, side, CblasNonUnit, n, matrix.base, ld, vectors.row(row), 1))
      }
    },
  ]
  var condition = 1.0
  for (row, step) in steps.enumerated() {
    var growth = 1.0
    for _ in 0..<5 {
      try interruption.check()
      let length = OpenBLAS.call(scipy_cblas_dnrm2(n, vectors.row(row), 1))
      guard length > 0, length.isFinite else { return .infinity }
      OpenBLAS.call(scipy_cblas_dscal(n, 1 / length, vectors.row(row), 1))
      step(vectors, row)
      growth = OpenBLAS.call(scipy_cblas_dnrm2(n, vectors.row(row), 1))
    }
    condition *= growth.squareRoot()
  }
  return max(1, condition)
}
