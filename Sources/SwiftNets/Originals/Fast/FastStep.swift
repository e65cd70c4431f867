/// One iteration of fast_net: w −= α H⁻¹ g, with H⁻¹ taken as the Jacobian of the gradient's functional inverse.
///
/// The gradient g = Xᵀ((h − Y) ∘ D) of a `Perceptron` is undone step by step: δ = (Xᵀ)⁺ g, h′ = δ / D + Y,
/// net′ = inv_act(h′), w′ = X⁺ net′. The step is the derivative of w′ along g, by a finite difference of relative size
/// r or, for r = 0, in its limit
///
///     s = X⁺ [inv_act′(δ / D + Y) ∘ (δ / D)],   δ = P ((h − Y) ∘ D),
///
/// where P = X X⁺ projects on the range of X. With full row rank P = 1 and s = X⁺ [inv_act′(h) ∘ (h − Y)]. At a kink
/// inv_act′ is 2, the inverse of the slope that the net has there.
public enum FastStep {
  public struct Report: Equatable, Sendable {
    /// The loss before the step.
    public var loss: Double
    /// ‖X s − P b‖ / ‖b‖ of the minimum-norm solve, recomputed from s; the larger of two where r > 0.
    public var residual: Double
    /// Whether the residual keeps what the factorisation promises.
    public var isSolved: Bool
  }

  /// The weights after one step, into `newW`; nil, and nothing written, if the factorisation is not one of `xs`.
  ///
  /// - Parameters:
  ///   - factorization: of `xs`.
  ///   - r: 0 for the limit, else the relative size of the difference, whose rounding noise is about (ε / r) κ(X).
  /// - Complexity: for n samples, d inputs and k outputs about 8 n d k + 4 n² k operations (r = 0, Cholesky route).
  public static func step(
    _ net: Perceptron, _ factorization: MinimumNorm, _ xs: Matrix<Double>, _ ys: Matrix<Double>, w: Matrix<Double>,
    alpha: Double, r: Double = 0, newW: Matrix<Double>, interruption: Interruption = .init()
  ) throws(EngineError) -> Report? {
    guard alpha.isFinite else { throw .invalidArgument("alpha is \(alpha); it must be finite") }
    guard r >= 0, r.isFinite else { throw .invalidArgument("r is \(r); it must be finite and at least 0") }
    guard w.fitsLAPACK else { throw .invalidArgument("a dimension of w is larger than \(Int32.max)") }
    guard let batch = try factorization.batch(xs, interruption) else { return nil }
    let a: Matrix<Double> = try Matrix(rows: xs.rows, columns: net.outsize)
    try batch.product(1, w, 0, into: a, interruption: interruption)
    let (loss, target) = try (r > 0 ? nudged : limit)(factorization, batch, ys, a, r, newW, interruption)
    try inSlices(of: w.rows, weight: saturating(copied, net.outsize), interruption: interruption) { rows in
      for row in rows {
        let (old, step, new) = (w.row(row), target.step.row(row), newW.row(row))
        for column in 0..<net.outsize { new[column] = old[column] - alpha * step[column] }
      }
    }
    return Report(loss: loss, residual: target.residual, isSolved: target.residual <= factorization.promisedResidual)
  }

  private typealias Solution = (loss: Double, target: (step: Matrix<Double>, residual: Double))

  /// The step in the limit r → 0. `a` holds the net's sums and is overwritten.
  private static func limit(
    _ factorization: MinimumNorm, _ x: Batch, _ ys: Matrix<Double>, _ a: Matrix<Double>, _ r: Double,
    _ step: Matrix<Double>, _ interruption: Interruption
  ) throws(EngineError) -> Solution {
    let loss: Double
    if factorization.hasFullRowRank {
      loss = try replace(a, ys, interruption) { sum, h, y in Perceptron.inverseSlope(h) * (h - y) }
    } else {
      let sums = try a.copy(interruption: interruption)
      loss = try replace(a, ys, interruption) { sum, h, y in (h - y) * Perceptron.slope(sum) }
      try factorization.project(a, interruption: interruption)
      try inSlices(of: a.rows, weight: saturating(copied, a.columns), interruption: interruption) { rows in
        for row in rows {
          for column in 0..<a.columns {
            let difference = a[row, column] / Perceptron.slope(sums[row, column])
            a[row, column] = Perceptron.inverseSlope(difference + ys[row, column]) * difference
          }
        }
      }
    }
    let residual = try factorization.solve(x, a, into: step, interruption: interruption)
    return (loss, (step, residual))
  }

  /// The difference quotient: the gradient nudged both ways, each sent back through its functional inverse.
  private static func nudged(
    _ factorization: MinimumNorm, _ x: Batch, _ ys: Matrix<Double>, _ a: Matrix<Double>, _ r: Double,
    _ step: Matrix<Double>, _ interruption: Interruption
  ) throws(EngineError) -> Solution {
    let sums = try a.copy(interruption: interruption)
    let loss = try replace(a, ys, interruption) { sum, h, y in (h - y) * Perceptron.slope(sum) }
    let gradient: Matrix<Double> = try Matrix(rows: step.rows, columns: a.columns)
    try x.product(1, transposed: true, a, 0, into: gradient, interruption: interruption)
    let ahead: Matrix<Double> = try Matrix(rows: step.rows, columns: a.columns)
    let behind: Matrix<Double> = try Matrix(rows: step.rows, columns: a.columns)
    var residual = 0.0
    for (sign, target) in [(1.0, ahead), (-1.0, behind)] {
      try inSlices(of: gradient.rows, weight: saturating(copied, gradient.columns), interruption: interruption) {
        rows in
        for row in rows {
          for column in 0..<gradient.columns { target[row, column] = gradient[row, column] * (1 + sign * r / 2) }
        }
      }
      try factorization.solveTransposed(x, target, into: a, interruption: interruption)
      try inSlices(of: a.rows, weight: saturating(copied, a.columns), interruption: interruption) { rows in
        for row in rows {
          for column in 0..<a.columns {
            let h = a[row, column] / Perceptron.slope(sums[row, column]) + ys[row, column]
            a[row, column] = Perceptron.inverseActivation(h)
          }
        }
      }
      residual = max(residual, try factorization.solve(x, a, into: target, interruption: interruption))
    }
    try inSlices(of: ahead.rows, weight: saturating(copied, ahead.columns), interruption: interruption) { rows in
      for row in rows {
        for column in 0..<ahead.columns { ahead[row, column] = (ahead[row, column] - behind[row, column]) / r }
      }
    }
    return (loss, (ahead, residual))
  }

  /// Replaces each of the net's sums by what `value` makes of it, of its activation h and of its target.
  /// - Returns: the loss.
  private static func replace(
    _ sums: Matrix<Double>, _ ys: Matrix<Double>, _ interruption: Interruption,
    by value: (_ sum: Double, _ h: Double, _ y: Double) -> Double
  ) throws(EngineError) -> Double {
    var loss = 0.0
    try inSlices(of: sums.rows, weight: saturating(copied, sums.columns), interruption: interruption) { rows in
      for row in rows {
        var part = 0.0
        for column in 0..<sums.columns {
          let sum = sums[row, column]
          let y = ys[row, column]
          let h = Perceptron.activation(sum)
          part += (h - y) * (h - y)
          sums[row, column] = value(sum, h, y)
        }
        loss += part
      }
    }
    loss /= 2
    guard loss.isFinite else { throw .notFinite("the loss is \(loss)") }
    return loss
  }
}
