import Testing

@testable import SwiftNets

private func activation(_ a: Float80) -> Float80 { a > 0 ? a : a / 2 }
private func slope(_ a: Float80) -> Float80 { a > 0 ? 1 : 0.5 }
private func inverseActivation(_ h: Float80) -> Float80 { h > 0 ? h : 2 * h }

/// A batch with one-hot targets, and its pseudo-inverse in extended precision.
private struct Batch {
  let xs: Matrix<Double>
  let ys: Matrix<Double>
  let w: Matrix<Double>
  let pseudoInverse: ExtendedMatrix
  let net: Perceptron

  init(_ xs: Matrix<Double>, pseudoInverse: ExtendedMatrix? = nil, outputs: Int = 5) throws {
    self.xs = xs
    ys = try Matrix(rows: xs.rows, columns: outputs)
    for row in 0..<xs.rows { ys[row, (7 * row + 2) % outputs] = 1 }
    w = try .normal(xs.columns, outputs, scale: 0.3, seed: 9)
    net = Perceptron(insize: xs.columns, outsize: outputs)
    self.pseudoInverse = pseudoInverse ?? ExtendedMatrix(xs).fullRankPseudoInverse
  }

  /// Each sample twice, so that X has half its full row rank: X⁺ = X₀⁺ times the average of the copies.
  static func repeated() throws -> Batch {
    let distinct = try Matrix<Double>.normal(6, 14, seed: 2)
    let xs = try Matrix<Double>(rows: 12, columns: 14)
    for row in 0..<12 { for column in 0..<14 { xs[row, column] = distinct[row % 6, column] } }
    let average = ExtendedMatrix((0..<6).map { row in (0..<12).map { $0 % 6 == row ? 0.5 : 0 } })
    return try Batch(xs, pseudoInverse: ExtendedMatrix(distinct).fullRankPseudoInverse * average)
  }

  /// The script's difference quotient, literally, in extended precision. Away from kinks it has no truncation error,
  /// as all maps are linear there.
  func differenceQuotient(r: Float80) -> ExtendedMatrix {
    let x = ExtendedMatrix(xs)
    let y = ExtendedMatrix(ys)
    let net = x * ExtendedMatrix(w)
    let error = net.combined(y) { activation($0) - $1 }
    let gradient = x.transpose * error.combined(net) { $0 * slope($1) }
    func undone(_ factor: Float80) -> ExtendedMatrix {
      let nudged = ExtendedMatrix(gradient.rows.map { $0.map { $0 * factor } })
      let h = (pseudoInverse.transpose * nudged).combined(net) { $0 / slope($1) }.combined(y) { $0 + $1 }
      return pseudoInverse * ExtendedMatrix(h.rows.map { $0.map(inverseActivation) })
    }
    return undone(1 + r / 2).combined(undone(1 - r / 2)) { ($0 - $1) / r }
  }

  func step(r: Double = 0, factorization: MinimumNorm? = nil, alpha: Double = 1) throws -> (
    step: ExtendedMatrix, report: FastStep.Report
  ) {
    let newW = try Matrix<Double>(rows: w.rows, columns: w.columns)
    let report = try #require(
      FastStep.step(
        net, try factorization ?? MinimumNorm(xs), xs, ys, w: w, alpha: alpha, r: r, newW: newW))
    return (ExtendedMatrix(w) - ExtendedMatrix(newW), report)
  }
}

@Suite struct FastStepTests {
  private static func batches() throws -> [Batch] {
    [
      try Batch(.normal(8, 20, seed: 1)),
      try Batch(.pixels(8, 20, seed: 1)),
      try Batch(.normal(20, 8, seed: 1)),
      try .repeated(),
    ]
  }

  @Test(arguments: 0..<4)
  func `the limit is the derivative of the gradient's functional inverse`(index: Int) throws {
    let batch = try Self.batches()[index]
    let found = try batch.step()
    let exact = batch.differenceQuotient(r: 0x1p-20)
    let condition = Float80(try MinimumNorm(batch.xs).condition)
    // ε κ for the solve and as much again for h, with a factor for sums of up to 20 terms and for w − (w − s).
    let bound = 200 * 0x1p-53 * condition * condition * (exact.norm + ExtendedMatrix(batch.w).norm)
    #expect((found.step - exact).norm <= bound)
    #expect(found.report.isSolved)
    #expect(found.report.residual <= 1e-12)
  }

  @Test(arguments: 0..<4, [1e-9, 1e-6, 1e-3])
  func `the finite difference agrees with the limit to its rounding noise`(index: Int, r: Double) throws {
    let batch = try Self.batches()[index]
    let factorization = try MinimumNorm(batch.xs)
    let nudged = try batch.step(r: r, factorization: factorization)
    let exact = try batch.step(factorization: factorization)
    // (ε / r) κ times what is differenced: w₊ and w₋, of the size of w.
    let noise =
      50 * 0x1p-52 / Float80(r) * Float80(factorization.condition)
      * (ExtendedMatrix(batch.w).norm + exact.step.norm)
    #expect((nudged.step - exact.step).norm <= noise)
    #expect(nudged.report.loss == exact.report.loss)
  }

  @Test func `a tiny r shows the noise that the limit does not have`() throws {
    let batch = try Batch(.normal(8, 20, seed: 1))
    let exact = batch.differenceQuotient(r: 0x1p-20)
    let limit = (try batch.step().step - exact).norm
    let nudged = (try batch.step(r: 1e-12).step - exact).norm
    #expect(nudged > 1000 * limit)
  }

  @Test func `at a kink the inverse slope is two`() throws {
    let batch = try Batch(.normal(4, 9, seed: 1))
    for row in 0..<9 { for column in 0..<5 { batch.w[row, column] = 0 } }
    // h = 0 everywhere: s = X⁺ [2 (0 − Y)].
    let exact = batch.pseudoInverse * ExtendedMatrix(batch.ys.rowsAsArrays.map { $0.map { -2 * $0 } })
    let found = try batch.step()
    #expect((found.step - exact).norm <= 1e-12 * exact.norm)
  }

  @Test func `the loss is half the sum of squares of what predict gives`() throws {
    let batch = try Batch(.normal(7, 9, seed: 1))
    let h = try Matrix<Double>(rows: 7, columns: 5)
    try batch.net.predict(batch.xs, w: batch.w, into: h)
    let net = ExtendedMatrix(batch.xs) * ExtendedMatrix(batch.w)
    let exact = net.rows.map { $0.map(activation) }
    #expect((ExtendedMatrix(h) - ExtendedMatrix(exact)).norm <= 9 * 0x1p-53 * net.norm * 10)
    let loss = (ExtendedMatrix(exact) - ExtendedMatrix(batch.ys)).norm
    let wanted = loss * loss / 2
    #expect(abs(Float80(try batch.net.loss(batch.xs, batch.ys, w: batch.w)) - wanted) <= 1e-13 * wanted)
    #expect(abs(Float80(try batch.step().report.loss) - wanted) <= 1e-13 * wanted)
  }

  @Test(arguments: [8, 20, 30])
  func `a factorisation of inputs that differ in one bit makes no step`(rows: Int) throws {
    for xs in [try Matrix<Double>.normal(rows, 20, seed: 7), try .pixels(rows, 20, seed: 7)] {
      let batch = try Batch(xs)
      let factorization = try MinimumNorm(xs)
      _ = try batch.step(factorization: factorization)
      for (row, column) in [(0, 0), (rows - 1, 19), (rows / 2, 18)] {
        let changed = try Batch(xs.copy())
        changed.xs[row, column] = changed.xs[row, column].nextUp
        let newW = try Matrix<Double>(rows: 20, columns: 5)
        let report = try FastStep.step(
          changed.net, factorization, changed.xs, changed.ys, w: changed.w, alpha: 1, newW: newW)
        #expect(report == nil)
        #expect(newW.norm == 0)
      }
    }
  }

  @Test func `parameters and weights that are not finite are refused`() throws {
    let batch = try Batch(.normal(4, 9, seed: 1))
    #expect(throws: EngineError.invalidArgument("alpha is nan; it must be finite")) { try batch.step(alpha: .nan) }
    #expect(throws: EngineError.invalidArgument("r is -1.0; it must be finite and at least 0")) {
      try batch.step(r: -1)
    }
    batch.w[0, 0] = .nan
    #expect(throws: EngineError.notFinite("the loss is nan")) { try batch.step() }
  }

  @Test func `the same thread count gives the same bits`() throws {
    let batch = try Batch(.pixels(60, 200, seed: 1), pseudoInverse: ExtendedMatrix([[]]), outputs: 40)
    let first = try batch.step().step
    let second = try batch.step().step
    #expect(first.rows == second.rows)
  }
}
