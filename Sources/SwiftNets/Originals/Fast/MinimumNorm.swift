import COpenBLAS

/// A factorisation of one batch X `[n, d]` that applies its pseudo-inverse to many right-hand sides.
///
/// The X it was made of must be passed to every call that uses it, and is recognised bit by bit: no copy is kept, but
/// the bytes of pixels or a hash. Several threads may use one at once.
///
/// - `cholesky`: X Xᵀ = L Lᵀ, formed exactly in integers where X are pixels. Corrected seminormal equations in X
///   itself bring the error of a solution from ε κ² down to about ε κ, that of an orthogonal factorisation
///   (Björck, *Linear Algebra Appl.* 88/89, 1987). Taken where n ≤ d, X has full row rank and κ is at most 10⁶.
/// - `orthogonal`: everything else, rank-revealing. Singular values below `tolerance` times the largest count as 0.
public final class MinimumNorm: @unchecked Sendable {
  public enum Route: Sendable { case cholesky, orthogonal }

  public let rows: Int
  public let columns: Int
  public let route: Route
  /// Whether every entry was k/256 − ½ and X Xᵀ was formed in exact integers.
  public let isPixels: Bool
  public let rank: Int
  public let tolerance: Double
  /// Estimate, from below, of the largest over the smallest singular value kept.
  public let condition: Double
  /// Memory that the factorisation holds.
  public let bytes: Int

  private enum Factor {
    case cholesky(CholeskyFactor, PixelProducts?)
    /// Of Xᵀ where `ofTranspose`, else of X: the one with at least as many rows as columns.
    case orthogonal(OrthogonalDecomposition, ofTranspose: Bool)
  }
  private let factor: Factor
  /// Of X, where its bytes are not kept.
  private var hash: UInt64?

  /// The largest κ that the Cholesky route serves: two corrections contract by ε κ² each, 2 · 10⁻⁴ there.
  static let largestCholeskyCondition = 1e6

  /// - Parameters:
  ///   - tolerance: nil for max(n, d) · 2⁻⁵².
  ///   - route: nil to choose; asking for `cholesky` where it breaks down throws `numerical`.
  /// - Throws: `notFinite` where an entry of X is not, `outOfMemory`, `cancelled`.
  /// - Complexity: n² d + n³/3 operations (cholesky), about 4 n d · rank (orthogonal).
  public init(
    _ xs: Matrix<Double>, tolerance: Double? = nil, route: Route? = nil, interruption: Interruption = .init()
  ) throws(EngineError) {
    guard xs.rows > 0, xs.columns > 0, xs.fitsLAPACK else {
      throw .invalidArgument("xs is \(xs.rows) × \(xs.columns); both must be from 1 to \(Int32.max)")
    }
    (rows, columns) = (xs.rows, xs.columns)
    let tolerance = tolerance ?? Double(max(rows, columns)) * 0x1p-52
    guard tolerance >= 0, tolerance < 1 else {
      throw .invalidArgument("tolerance is \(tolerance); it must be at least 0 and less than 1")
    }
    self.tolerance = tolerance

    if xs.rows <= xs.columns, route != .orthogonal {
      let pixels = try Pixels(xs, interruption: interruption)
      if pixels == nil { try Self.checkFinite(xs, interruption) }
      let gram: Matrix<Double> = try Matrix(rows: xs.rows, columns: xs.rows)
      if let pixels {
        try pixels.gram(into: gram, interruption: interruption)
      } else {
        try lowerGram(xs, into: gram, interruption: interruption)
      }
      if let cholesky = try CholeskyFactor(replacing: gram, interruption: interruption) {
        let condition = cholesky.condition.squareRoot()
        // A singular value that the tolerance would cut is for the other route.
        if condition <= Self.largestCholeskyCondition, condition * tolerance < 0.5 || route == .cholesky {
          var products: PixelProducts?
          // Our baseline kernels know SSE2 alone: OpenBLAS may have better ones.
          if let pixels, !isBaseline { products = try PixelProducts(pixels, interruption: interruption) }
          if products == nil { hash = try Self.hash(xs, interruption) }
          factor = .cholesky(cholesky, products)
          (self.route, self.condition, rank, isPixels) = (.cholesky, condition, xs.rows, pixels != nil)
          bytes = gram.bytes + (products?.bytes ?? 0)
          return
        }
      }
      if route == .cholesky { throw .numerical("X Xᵀ is not positive definite, or nearly singular") }
    } else {
      guard route != .cholesky else {
        throw .invalidArgument("xs is \(rows) × \(columns): the Cholesky route needs at least as many columns as rows")
      }
    }

    let ofTranspose = xs.rows <= xs.columns
    let a: Matrix<Double>
    if ofTranspose {
      a = try xs.copy(interruption: interruption)
    } else {
      let fresh: Matrix<Double> = try Matrix(rows: xs.columns, columns: xs.rows)
      try inSlices(of: xs.rows, least: 64, weight: saturating(copied, xs.columns), interruption: interruption) { rows in
        transposeTiled(xs, rows, into: fresh)
      }
      a = fresh
    }
    // The copy: another thread may change xs, and a NaN would become a place of pivots.
    try Self.checkFinite(a, interruption)
    let decomposition = try OrthogonalDecomposition(replacing: a, tolerance: tolerance, interruption: interruption)
    factor = .orthogonal(decomposition, ofTranspose: ofTranspose)
    (self.route, condition, rank, isPixels) = (.orthogonal, decomposition.condition, decomposition.rank, false)
    bytes = decomposition.bytes
    hash = try Self.hash(xs, interruption)
  }

  /// Whether X has full row rank, so that X X⁺ = 1.
  public var hasFullRowRank: Bool { rank == rows }

  /// The relative residual beyond which a solve misses what the factorisation promises.
  ///
  /// 10⁻⁶, or what rounding and the cut singular values may leave where the condition is very large.
  public var promisedResidual: Double {
    guard case .orthogonal(let decomposition, let ofTranspose) = factor else { return 1e-6 }
    let rounding = 8 * Double(max(rows, columns)) * 0x1p-52
    return min(0.1, max(1e-6, (rounding + (ofTranspose ? 0 : decomposition.dropped)) * condition))
  }

  /// The products with `xs`, by bytes where they are pixels; nil if `xs` is not what was factorised, to the last bit.
  func batch(_ xs: Matrix<Double>, _ interruption: Interruption) throws(EngineError) -> Batch? {
    guard xs.rows == rows, xs.columns == columns else {
      throw .invalidArgument(
        "xs is \(xs.rows) × \(xs.columns); the factorisation is one of \(rows) × \(columns)")
    }
    try interruption.check()
    if case .cholesky(_, let pixels?) = factor {
      return try pixels.match(xs, interruption: interruption) ? Batch(xs: xs, pixels: pixels) : nil
    }
    return try Self.hash(xs, interruption) == hash ? Batch(xs: xs, pixels: nil) : nil
  }

  private func required(_ xs: Matrix<Double>, _ interruption: Interruption) throws(EngineError) -> Batch {
    guard let batch = try batch(xs, interruption) else {
      throw .invalidArgument("xs is not what was factorised: an entry has changed")
    }
    return batch
  }

  /// 64 bits of all entries in their places: four lanes a row, rows side by side.
  ///
  /// Reads X once, as fast as memory gives it. A change of one entry changes the result for certain, any other but for
  /// one in 2⁶⁴ or so.
  private static func hash(_ xs: Matrix<Double>, _ interruption: Interruption) throws(EngineError) -> UInt64 {
    let rows: Integers<UInt64> = try Integers(count: xs.rows)
    try ThreadTeam.run(parts: Threads.forWork(of: saturating(xs.rows, xs.columns)), interruption) { member in
      for index in member.share(of: xs.rows) {
        if index % 64 == 0 && member.isStopped { return }
        let words = UnsafeRawPointer(xs.row(index)).assumingMemoryBound(to: UInt64.self)
        var (a, b, c, d): (UInt64, UInt64, UInt64, UInt64) = (1, 2, 3, 4)
        var column = 0
        while column + 4 <= xs.columns {
          a = mixed(a, words[column])
          b = mixed(b, words[column + 1])
          c = mixed(c, words[column + 2])
          d = mixed(d, words[column + 3])
          column += 4
        }
        while column < xs.columns {
          a = mixed(a, words[column])
          column += 1
        }
        rows.base[index] = mixed(mixed(mixed(a, b), c), d)
      }
    }
    return (0..<xs.rows).reduce(0) { mixed($0, rows.base[$1]) }
  }

  /// One to one in either argument. The rotation brings the highest bits, signs, to where the next product spreads
  /// them.
  @inline(__always)
  private static func mixed(_ hash: UInt64, _ word: UInt64) -> UInt64 {
    let product = (hash ^ word) &* 0x9E37_79B1_85EB_CA87
    return product &<< 31 | product &>> 33
  }

  /// w `[d, k]` = X⁺ b for b `[n, k]`, the minimum-norm least-squares solution.
  ///
  /// - Returns: ‖X w − P b‖ / ‖b‖ (Frobenius) recomputed from w, P the projector on the range of X; 0 where b = 0.
  public func solve(
    _ xs: Matrix<Double>, _ b: Matrix<Double>, into w: Matrix<Double>, interruption: Interruption = .init()
  ) throws(EngineError) -> Double {
    try solve(required(xs, interruption), b, into: w, interruption: interruption)
  }

  func solve(
    _ x: Batch, _ b: Matrix<Double>, into w: Matrix<Double>, interruption: Interruption
  ) throws(EngineError) -> Double {
    let size = b.norm
    guard size != 0 else {
      for row in 0..<w.rows { w.row(row).update(repeating: 0, count: w.columns) }
      return 0
    }
    let residual = try b.copy(interruption: interruption)
    switch factor {
    case .cholesky(let cholesky, _):
      let dual = try b.copy(interruption: interruption)
      let change: Matrix<Double> = try Matrix(rows: w.rows, columns: w.columns)
      try cholesky.solve(dual, interruption: interruption)
      try x.product(1, transposed: true, dual, 0, into: w, precision: .medium, interruption: interruption)
      try x.product(-1, w, 1, into: residual, interruption: interruption)
      var isClose = false
      for correction in 1...corrections {
        dual.base.update(from: residual.base, count: dual.rows * dual.stride)
        try cholesky.solve(dual, interruption: interruption)
        try x.product(1, transposed: true, dual, 0, into: change, precision: .low, interruption: interruption)
        isClose = correct(w, by: change) && corrections == 1
        guard correction < corrections || isClose else { break }
        // b − X w from the one before: the change is small, and 22 bits of its image are plenty.
        try x.product(-1, change, 1, into: residual, precision: .low, interruption: interruption)
      }
      if !isClose {
        residual.base.update(from: b.base, count: residual.rows * residual.stride)
        try x.product(-1, w, 1, into: residual, interruption: interruption)
      }
    case .orthogonal(let decomposition, let ofTranspose):
      let work = try b.copy(interruption: interruption)
      if ofTranspose {
        try decomposition.pseudoInverseOfTranspose(work, into: w, interruption: interruption)
      } else {
        try decomposition.pseudoInverse(work, into: w, interruption: interruption)
      }
      try project(residual, interruption: interruption)
      try x.product(-1, w, 1, into: residual, interruption: interruption)
    }
    let relative = residual.norm / size
    guard relative.isFinite else { throw .notFinite("the minimum-norm solution overflowed") }
    return relative
  }

  /// w += change, and `change` what w has changed by in float64, which a difference tells without rounding or nearly so.
  ///
  /// b − X w is then the earlier residual less X times that change, for the w that is returned and not for the one that
  /// was meant.
  /// - Returns: whether the change is so small, 2⁻³⁰ of w, that 22 bits of its image are float64's accuracy of X w.
  private func correct(_ w: Matrix<Double>, by change: Matrix<Double>) -> Bool {
    var (changes, sizes) = (0.0, 0.0)
    for row in 0..<w.rows {
      let (entries, steps) = (w.row(row), change.row(row))
      var (stepSquares, squares) = (SIMD4<Double>.zero, SIMD4<Double>.zero)
      for column in 0..<w.columns {
        let old = entries[column]
        let new = old + steps[column]
        let step = new - old
        entries[column] = new
        steps[column] = step
        stepSquares[column % 4] += step * step
        squares[column % 4] += new * new
      }
      changes += stepSquares.sum()
      sizes += squares.sum()
    }
    // Also false where squares under- or overflow.
    return sizes < .infinity && sizes > 0x1p-900 && changes <= sizes * 0x1p-60
  }

  /// y `[n, k]` = (Xᵀ)⁺ g for g `[d, k]`, the minimum-norm least-squares solution of Xᵀ y = g.
  public func solveTransposed(
    _ xs: Matrix<Double>, _ g: Matrix<Double>, into y: Matrix<Double>, interruption: Interruption = .init()
  ) throws(EngineError) {
    try solveTransposed(required(xs, interruption), g, into: y, interruption: interruption)
  }

  func solveTransposed(
    _ x: Batch, _ g: Matrix<Double>, into y: Matrix<Double>, interruption: Interruption
  ) throws(EngineError) {
    switch factor {
    case .cholesky(let cholesky, _):
      try x.product(1, g, 0, into: y, interruption: interruption)
      try cholesky.solve(y, interruption: interruption)
      let correction: Matrix<Double> = try Matrix(rows: rows, columns: g.columns)
      for _ in 0..<corrections {
        let residual = try g.copy(interruption: interruption)
        try x.product(-1, transposed: true, y, 1, into: residual, interruption: interruption)
        try x.product(1, residual, 0, into: correction, interruption: interruption)
        try cholesky.solve(correction, interruption: interruption)
        for row in 0..<rows {
          for column in 0..<g.columns { y[row, column] += correction[row, column] }
        }
      }
    case .orthogonal(let decomposition, let ofTranspose):
      let work = try g.copy(interruption: interruption)
      if ofTranspose {
        try decomposition.pseudoInverse(work, into: y, interruption: interruption)
      } else {
        try decomposition.pseudoInverseOfTranspose(work, into: y, interruption: interruption)
      }
    }
  }

  /// Replaces b `[n, k]` by its projection on the range of X.
  public func project(_ b: Matrix<Double>, interruption: Interruption = .init()) throws(EngineError) {
    guard !hasFullRowRank, case .orthogonal(let decomposition, let ofTranspose) = factor else { return }
    if ofTranspose {
      try decomposition.projectOnRowSpace(b, interruption: interruption)
    } else {
      try decomposition.project(b, interruption: interruption)
    }
  }

  /// Corrections that bring the error from (ε κ²) to ε κ when each contracts by ε κ².
  private var corrections: Int { condition < 1e5 ? 1 : 2 }

  private static func checkFinite(_ xs: Matrix<Double>, _ interruption: Interruption) throws(EngineError) {
    try inSlices(of: xs.rows, weight: saturating(copied, xs.columns), interruption: interruption) {
      rows throws(EngineError) in
      guard xs.view(rows, 0..<xs.columns).isFinite else { throw .notFinite("xs has entries that are not finite") }
    }
  }
}

/// The products with one batch.
struct Batch {
  let xs: Matrix<Double>
  let pixels: PixelProducts?

  /// c = β c + α X b, or α Xᵀ b; β is 0 or 1. `precision` is what is enough where less costs less.
  func product(
    _ alpha: Double, transposed: Bool = false, _ b: Matrix<Double>, _ beta: Double, into c: Matrix<Double>,
    precision: PixelProducts.Precision = .full, interruption: Interruption
  ) throws(EngineError) {
    if let pixels {
      try pixels.product(
        alpha, transposed: transposed, b, beta, into: c, precision: precision, interruption: interruption)
    } else {
      try SwiftNets.product(alpha, xs, transposeA: transposed, b, beta, into: c, interruption: interruption)
    }
  }
}

/// x xᵀ in the lower triangle of `gram`.
private func lowerGram(_ xs: Matrix<Double>, into gram: Matrix<Double>, interruption: Interruption) throws(EngineError)
{
  let block = 512
  for first in stride(from: 0, to: xs.rows, by: block) {
    try interruption.check()
    let end = min(xs.rows, first + block)
    symmetricProduct(
      1, xs.view(first..<end, 0..<xs.columns), 0, into: gram.view(first..<end, first..<end))
    if end < xs.rows {
      try product(
        1, xs.view(end..<xs.rows, 0..<xs.columns), xs.view(first..<end, 0..<xs.columns), transposeB: true, 0,
        into: gram.view(end..<xs.rows, first..<end), interruption: interruption)
    }
  }
}
