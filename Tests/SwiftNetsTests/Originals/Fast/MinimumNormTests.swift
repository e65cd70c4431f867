import Glibc
import Synchronization
import Testing

@testable import SwiftNets

private let unit = Float80(sign: .plus, exponent: -53, significand: 1)

@Suite struct MinimumNormTests {
  /// ‖w − X⁺ b‖ / ‖X⁺ b‖ for the solution w of the factorisation, which must prove itself by its residual.
  private func error(
    _ factorization: MinimumNorm, _ xs: Matrix<Double>, _ b: Matrix<Double>, _ pseudoInverse: ExtendedMatrix
  ) throws -> Float80 {
    let w = try Matrix<Double>(rows: xs.columns, columns: b.columns)
    let residual = try factorization.solve(xs, b, into: w)
    #expect(residual <= factorization.promisedResidual)
    let exact = pseudoInverse * ExtendedMatrix(b)
    return (ExtendedMatrix(w) - exact).norm / exact.norm
  }

  /// What an orthogonal factorisation may leave: ε κ, a factor for the sums of n terms in every entry.
  private func bound(_ xs: Matrix<Double>, condition: Double) -> Float80 {
    4 * Float80(xs.rows + xs.columns) * unit * Float80(condition)
  }

  private func spectrum(_ count: Int, condition: Double) -> [Double] {
    (0..<count).map { pow(condition, -Double($0) / Double(max(1, count - 1))) }
  }

  @Test(arguments: [10, 1e3, 1e5, 8e5], [(12, 12), (20, 31)])
  func `the Cholesky route is as accurate as an orthogonal factorisation`(
    condition: Double, size: (Int, Int)
  ) throws {
    let xs = try Matrix<Double>.withSpectrum(size.0, size.1, spectrum(size.0, condition: condition), seed: 3)
    let b = try Matrix<Double>.normal(size.0, 5, seed: 4)
    let found = try MinimumNorm(xs)
    #expect(found.route == .cholesky)
    #expect(found.rank == size.0)
    #expect(!found.isPixels)
    #expect(found.condition > 0.5 * condition && found.condition < 1.01 * condition)
    #expect(try error(found, xs, b, ExtendedMatrix(xs).fullRankPseudoInverse) <= bound(xs, condition: condition))
  }

  @Test(arguments: [(12, 12), (20, 31), (31, 20), (1, 9), (9, 1), (40, 70)])
  func `the orthogonal route is as accurate as its condition number allows`(size: (Int, Int)) throws {
    for condition in [1.0, 1e4, 1e9] {
      let rank = min(size.0, size.1)
      let xs = try Matrix<Double>.withSpectrum(size.0, size.1, spectrum(rank, condition: condition), seed: 3)
      let b = try Matrix<Double>.normal(size.0, 5, seed: 4)
      let found = try MinimumNorm(xs, route: .orthogonal)
      #expect(found.rank == rank)
      if rank > 1 { #expect(found.condition > 0.5 * condition && found.condition < 1.01 * condition) }
      let pseudoInverse = ExtendedMatrix(xs).fullRankPseudoInverse
      // A least-squares solution with a residual may also suffer κ², which the right-hand side here does not: it is
      // projected first.
      let inRange = try (ExtendedMatrix(xs) * (pseudoInverse * ExtendedMatrix(b))).matrix()
      #expect(
        try error(found, xs, size.0 > size.1 ? inRange : b, pseudoInverse) <= bound(xs, condition: condition))
    }
  }

  @Test func `a batch that is too ill-conditioned for Cholesky goes to the orthogonal route by itself`() throws {
    for condition in [1e7, 1e10] {
      let xs = try Matrix<Double>.withSpectrum(20, 31, spectrum(20, condition: condition), seed: 3)
      let found = try MinimumNorm(xs)
      #expect(found.route == .orthogonal)
      #expect(found.rank == 20)
    }
  }

  @Test func `pixels are solved through bytes as accurately as any batch`() throws {
    // More rows than one block of the Cholesky factor has.
    let xs = try Matrix<Double>.pixels(40, 300, seed: 5)
    let b = try Matrix<Double>.normal(40, 19, seed: 4)
    let found = try MinimumNorm(xs)
    #expect(found.isPixels)
    let pseudoInverse = ExtendedMatrix(xs).fullRankPseudoInverse
    #expect(try error(found, xs, b, pseudoInverse) <= bound(xs, condition: found.condition))
  }

  @Test(arguments: [nil, MinimumNorm.Route.orthogonal])
  func `inputs whose rows are exchanged or negated are not those factorised`(route: MinimumNorm.Route?) throws {
    for xs in [try Matrix<Double>.normal(6, 9, seed: 1), try .pixels(6, 9, seed: 1)] {
      let found = try MinimumNorm(xs, route: route)
      let b = try Matrix<Double>.normal(6, 2, seed: 4)
      let w = try Matrix<Double>(rows: 9, columns: 2)
      let (exchanged, negated) = (try xs.copy(), try xs.copy())
      for column in 0..<9 {
        (exchanged[0, column], exchanged[1, column]) = (xs[1, column], xs[0, column])
        for row in [0, 1] { negated[row, column] = -xs[row, column] }
      }
      for other in [exchanged, negated] {
        #expect(throws: EngineError.invalidArgument("xs is not what was factorised: an entry has changed")) {
          try found.solve(other, b, into: w)
        }
      }
    }
  }

  @Test(arguments: [8, 19], [10, 9e5])
  func `the residual told is that of the solution returned`(columns: Int, condition: Double) throws {
    let xs = try Matrix<Double>.withSpectrum(8, columns, spectrum(8, condition: condition), seed: 3)
    let b = try Matrix<Double>.normal(8, 3, seed: 4)
    for route in [nil, MinimumNorm.Route.orthogonal] {
      let found = try MinimumNorm(xs, route: route)
      let w = try Matrix<Double>(rows: columns, columns: 3)
      let told = Float80(try found.solve(xs, b, into: w))
      let exact = (ExtendedMatrix(xs) * ExtendedMatrix(w) - ExtendedMatrix(b)).norm / ExtendedMatrix(b).norm
      // In float64 it is known to the rounding of X w, sums of at most 19 products.
      let rounding = 19 * unit * ExtendedMatrix(xs).norm * ExtendedMatrix(w).norm / ExtendedMatrix(b).norm
      #expect(abs(told - exact) <= rounding)
      #expect(told >= exact / 8)
    }
  }

  @Test func `a factor of several blocks solves what it factorised`() throws {
    let xs = try Matrix<Double>.pixels(600, 700, seed: 5)
    let b = try Matrix<Double>.normal(600, 20, seed: 4)
    let found = try MinimumNorm(xs)
    let w = try Matrix<Double>(rows: 700, columns: 20)
    let residual = try found.solve(xs, b, into: w)
    // ‖X w − b‖ ≤ c ε ‖X‖ ‖w‖ ≤ c ε κ ‖b‖.
    #expect(Float80(residual) <= bound(xs, condition: found.condition))
    let y = try Matrix<Double>(rows: 600, columns: 20)
    try found.solveTransposed(xs, w, into: y)
    let image = try Matrix<Double>(rows: 700, columns: 20)
    try product(1, xs, transposeA: true, y, 0, into: image, interruption: .init())
    let difference = (ExtendedMatrix(image) - ExtendedMatrix(w)).norm
    #expect(difference <= bound(xs, condition: found.condition) * ExtendedMatrix(w).norm)
  }

  @Test(arguments: [nil, MinimumNorm.Route.orthogonal])
  func `the transposed solve applies the pseudo-inverse of the transpose`(route: MinimumNorm.Route?) throws {
    for size in [(12, 12), (20, 31)] + (route == nil ? [] : [(31, 20)]) {
      let xs = try Matrix<Double>.withSpectrum(size.0, size.1, spectrum(min(size.0, size.1), condition: 1e4), seed: 3)
      let y0 = try Matrix<Double>.normal(size.0, 3, seed: 4)
      let g = try (ExtendedMatrix(xs).transpose * ExtendedMatrix(y0)).matrix()
      let found = try MinimumNorm(xs, route: route)
      let y = try Matrix<Double>(rows: size.0, columns: 3)
      try found.solveTransposed(xs, g, into: y)
      let exact = ExtendedMatrix(xs).fullRankPseudoInverse.transpose * ExtendedMatrix(g)
      #expect((ExtendedMatrix(y) - exact).norm <= bound(xs, condition: 1e4) * exact.norm)
    }
  }

  @Test(arguments: [(9, 14), (9, 6), (14, 9)])
  func `repeated rows are averaged`(size: (Int, Int)) throws {
    // X = S X₀, X⁺ = X₀⁺ S⁺, where S⁺ averages the copies.
    let distinct = try Matrix<Double>.normal(4, size.1, seed: 2)
    let selection = ExtendedMatrix((0..<size.0).map { row in (0..<4).map { $0 == row % 4 ? 1 : 0 } })
    let xs = try (selection * ExtendedMatrix(distinct)).matrix()
    let average = ExtendedMatrix(
      selection.transpose.rows.map { row in row.map { $0 / row.reduce(0, +) } })
    try check(xs, rank: 4, ExtendedMatrix(distinct).fullRankPseudoInverse * average, 100)
  }

  @Test(arguments: [3, 4, 10, 15])
  func `grey images in three channels share their weights`(samples: Int) throws {
    // X = X₀ [1 1 1], X⁺ = [1 1 1]ᵀ/3 X₀⁺.
    let grey = try Matrix<Double>.pixels(samples, 4, seed: 8)
    let triple = ExtendedMatrix((0..<4).map { row in (0..<12).map { $0 % 4 == row ? 1 : 0 } })
    let third = ExtendedMatrix(triple.transpose.rows.map { $0.map { $0 / 3 } })
    let xs = try (ExtendedMatrix(grey) * triple).matrix()
    try check(xs, rank: min(4, samples), third * ExtendedMatrix(grey).fullRankPseudoInverse, 100)
  }

  /// The default factorisation of a batch of less than full rank, or near it, against the explicit pseudo-inverse.
  private func check(_ xs: Matrix<Double>, rank: Int, _ pseudoInverse: ExtendedMatrix, _ condition: Double) throws {
    let found = try MinimumNorm(xs)
    #expect(found.rank == rank)
    #expect(found.condition < condition)
    let range = ExtendedMatrix(xs) * pseudoInverse
    let b = try Matrix<Double>.normal(xs.rows, 3, seed: 4)
    // κ² appears for the part of b outside the range.
    #expect(try error(found, xs, b, pseudoInverse) <= bound(xs, condition: condition * condition))
    let y = try Matrix<Double>(rows: xs.rows, columns: 3)
    let g = try Matrix<Double>.normal(xs.columns, 3, seed: 5)
    try found.solveTransposed(xs, g, into: y)
    let exact = pseudoInverse.transpose * ExtendedMatrix(g)
    #expect((ExtendedMatrix(y) - exact).norm <= bound(xs, condition: condition * condition) * exact.norm)
    let projected = try b.copy()
    try found.project(projected)
    let wanted = range * ExtendedMatrix(b)
    #expect((ExtendedMatrix(projected) - wanted).norm <= bound(xs, condition: condition) * wanted.norm)
  }

  @Test func `singular values below the tolerance count as zero`() throws {
    for size in [(6, 9), (9, 6)] {
      let xs = try Matrix<Double>.withSpectrum(size.0, size.1, [1, 0.5, 0.1, 1e-5, 1e-6, 0], seed: 3)
      #expect(try MinimumNorm(xs).rank == 5)
      #expect(try MinimumNorm(xs, tolerance: 1e-3).rank == 3)
      #expect(try MinimumNorm(xs, tolerance: 1e-3).route == .orthogonal)
    }
  }

  @Test(arguments: [(1, 1), (4, 3), (3, 4)])
  func `a batch of zeros has rank 0 and the solution 0`(size: (Int, Int)) throws {
    let xs = try Matrix<Double>(rows: size.0, columns: size.1)
    let found = try MinimumNorm(xs)
    #expect(found.rank == 0)
    let w = try Matrix<Double>.normal(size.1, 2, seed: 1)
    _ = try found.solve(xs, try .normal(size.0, 2, seed: 2), into: w)
    #expect(ExtendedMatrix(w).norm == 0)
  }

  @Test(arguments: [500, -500, 1000, -1000])
  func `neither huge nor tiny entries overflow on the way`(exponent: Int) throws {
    let scale = Double(sign: .plus, exponent: exponent, significand: 1)
    let xs = try Matrix<Double>.withSpectrum(5, 7, spectrum(5, condition: 10), seed: 3)
    let b = try Matrix<Double>.normal(5, 2, seed: 4)
    let pseudoInverse = ExtendedMatrix(xs).fullRankPseudoInverse
    for row in 0..<5 {
      for column in 0..<7 { xs[row, column] *= scale }
      for column in 0..<2 { b[row, column] *= scale }
    }
    let w = try Matrix<Double>(rows: 7, columns: 2)
    let found = try MinimumNorm(xs)
    #expect(found.rank == 5)
    _ = try found.solve(xs, b, into: w)
    for row in 0..<5 { for column in 0..<2 { b[row, column] /= scale } }
    let exact = pseudoInverse * ExtendedMatrix(b)
    #expect((ExtendedMatrix(w) - exact).norm <= bound(xs, condition: 10) * exact.norm)
  }

  @Test(arguments: [Double.nan, .infinity, -.infinity], [(3, 5), (5, 3)])
  func `entries that are not finite are refused`(value: Double, size: (Int, Int)) throws {
    let xs = try Matrix<Double>.normal(size.0, size.1, seed: 1)
    xs[2, 2] = value
    #expect(throws: EngineError.notFinite("xs has entries that are not finite")) { try MinimumNorm(xs) }
  }

  @Test func `sizes and tolerances out of range are refused by name`() throws {
    let xs = try Matrix<Double>.normal(3, 5, seed: 1)
    #expect(throws: EngineError.invalidArgument("tolerance is 1.0; it must be at least 0 and less than 1")) {
      try MinimumNorm(xs, tolerance: 1)
    }
    #expect(throws: EngineError.invalidArgument("xs is 5 × 3; the factorisation is one of 3 × 5")) {
      let other = try Matrix<Double>.normal(5, 3, seed: 1)
      _ = try MinimumNorm(xs).solve(other, other, into: other)
    }
  }

  @Test(arguments: [nil, MinimumNorm.Route.orthogonal])
  func `every look at the interruption can stop the work`(route: MinimumNorm.Route?) throws {
    let xs = try Matrix<Double>.pixels(60, 90, seed: 1)
    let b = try Matrix<Double>.normal(60, 20, seed: 2)
    let w = try Matrix<Double>(rows: 90, columns: 20)
    func work(stoppingAt wanted: Int) throws -> Int {
      let looks = Counter()
      let interruption = Interruption { looks.next() == wanted }
      let found = try MinimumNorm(xs, route: route, interruption: interruption)
      _ = try found.solve(xs, b, into: w, interruption: interruption)
      return looks.next() - 1
    }
    let all = try work(stoppingAt: 0)
    #expect(all >= 10)
    for look in 1...all {
      #expect(throws: EngineError.cancelled) { _ = try work(stoppingAt: look) }
    }
  }

  /// Another thread may change X between the check and the work; here the looks at the interruption do.
  @Test(arguments: [(60, 20), (20, 60), (30, 30)])
  func `a NaN that comes after the check becomes no place of a pivot`(size: (Int, Int)) throws {
    let whole = try Matrix<Double>.normal(size.0, size.1, seed: 1)
    for row in 0..<size.0 { whole[row, 0] = whole[row, 1] }  // of less than full rank
    for look in 0..<12 {
      let xs = try whole.copy()
      let looks = Counter()
      let interruption = Interruption {
        if looks.next() == look { for row in 0..<size.0 { xs[row, 2] = .nan } }
        return false
      }
      do throws(EngineError) {
        let found = try MinimumNorm(xs, interruption: interruption)
        #expect(found.condition.isFinite && found.rank <= min(size.0, size.1))
      } catch .notFinite {
      }
    }
  }
}

/// Counts looks, which may come from any thread.
private final class Counter: Sendable {
  private let count = Atomic<Int>(0)
  func next() -> Int { count.add(1, ordering: .relaxed).newValue }
}
