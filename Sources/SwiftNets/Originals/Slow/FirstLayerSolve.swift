/// Solves (H₁₁ + λ) s = dW₁ for a `TwoLayerPass` by conjugate gradients on Hessian-block products.
///
/// H₁₁ v = Sᵀ[((((S v) ∘ D₁) w₂) ∘ D₂² ) w₂ᵀ ∘ D₁]: four small products, no matrix. The iteration runs in float32,
/// twice as fast, inside a float64 refinement: each round solves for the float64 residual to 1e-5, so three rounds
/// reach 1e-13 (Carson and Higham, SIAM J. Sci. Comput. 40, 2018). Where float32 does not contract, float64 takes over.
///
/// A round starts without preconditioner. When its first steps reduce the residual slowly, it goes on preconditioned by
/// the Kronecker factors (SᵀS) ⊗ B + λ with B = mean D₁ᵀD₁ ∘ (w₂ mean(D₂²) w₂ᵀ), inverted in their eigenbases.
/// - Complexity: 4 n · hid · (in + out) operations a step.
final class FirstLayerSolve {
  /// Eigenvectors of larger factors would cost more than they save.
  static let preconditionerLimit = 512
  /// Products with H₁₁ in all rounds together.
  static let limit = 20_000

  let solution: Matrix<Double>  // [in, hid]
  private(set) var iterations = 0
  private(set) var rounds = 0

  private let net: TwoLayerPerceptron
  private let threads: Int
  private var scale = 1.0  // of dW₁ and all that comes of it, where squares would under- or overflow
  private let single: FirstLayerSystem<Float>
  private var double: FirstLayerSystem<Double>?
  private let residual: Matrix<Double>
  private let previous: Matrix<Double>  // the solution before a round
  private let hidden: Matrix<Double>
  private let output: Matrix<Double>

  init(net: TwoLayerPerceptron, samples: Int, threads: Int) throws(EngineError) {
    self.net = net
    self.threads = threads
    solution = try .padded(net.insize, net.hidsize)
    residual = try .padded(net.insize, net.hidsize)
    previous = try .padded(net.insize, net.hidsize)
    hidden = try .padded(samples, net.hidsize)
    output = try .padded(samples, net.outsize)
    single = try FirstLayerSystem(net: net, samples: samples, threads: threads)
  }

  /// - Returns: the evidence, solved or not; its norms are of a multiple of dW₁ where that is far from 1.
  func solve(
    _ pass: TwoLayerPass, _ xs: Matrix<Double>, damping: Double, interruption: Interruption
  ) throws(EngineError) -> SolveEvidence {
    iterations = 0
    rounds = 0
    let count = net.insize * solution.stride
    solution.base.update(repeating: 0, count: count)
    let size = norm(count, pass.dw1.base)
    guard size > 0, size.isFinite else { return SolveEvidence(residual: size, gradient: size, image: 0) }
    let exponent = Int(size.exponent)
    scale = abs(exponent) < 400 ? 1 : Double(sign: .plus, exponent: -max(-1000, min(1000, exponent)), significand: 1)
    defer {
      if scale != 1 { for entry in 0..<count { solution.base[entry] /= scale } }
    }
    for entry in 0..<count { residual.base[entry] = scale * pass.dw1.base[entry] }
    let gradient = norm(count, residual.base)
    var evidence = SolveEvidence(residual: gradient, gradient: gradient, image: 0)

    try single.load(pass, xs, damping: damping, interruption)
    if try refine(single, pass, xs, damping, &evidence, goal: 1e-5, interruption) { return evidence }
    // The numbers are beyond float32's range or the system beyond its precision.
    let exact: FirstLayerSystem<Double>
    if let double {
      exact = double
    } else {
      exact = try FirstLayerSystem(net: net, samples: pass.samples, threads: threads)
      double = exact
    }
    try exact.load(pass, xs, damping: damping, interruption)
    _ = try refine(exact, pass, xs, damping, &evidence, goal: 1e-10, interruption)
    return evidence
  }

  /// Rounds of solving for the residual in T's arithmetic, until solved or no longer contracting.
  private func refine<T: KernelScalar>(
    _ system: FirstLayerSystem<T>, _ pass: TwoLayerPass, _ xs: Matrix<Double>, _ damping: Double,
    _ evidence: inout SolveEvidence, goal: Double, _ interruption: Interruption
  ) throws(EngineError) -> Bool {
    while !evidence.isSolved(length: net.insize * net.hidsize) {
      let before = evidence.residual
      previous.base.update(from: solution.base, count: solution.rows * solution.stride)
      // The last round need not go further than the whole solve does.
      let needed = 0.3 * SolveEvidence.tolerance * evidence.gradient / before
      iterations += try system.solve(
        residual, norm: before, tolerance: max(goal, needed), limit: Self.limit - iterations,
        adding: solution, interruption)
      rounds += 1
      let after = try measure(pass, xs, damping, gradient: evidence.gradient, interruption)
      guard after.residual <= before / 2 else {
        if !(after.residual <= before) {
          // A round that made it worse, or overflowed, is taken back.
          solution.base.update(from: previous.base, count: solution.rows * solution.stride)
          evidence = try measure(pass, xs, damping, gradient: evidence.gradient, interruption)
        } else {
          evidence = after
        }
        return evidence.isSolved(length: net.insize * net.hidsize)
      }
      evidence = after
      if iterations >= Self.limit { return false }
    }
    return true
  }

  /// The residual dW₁ − (H₁₁ + λ) s in float64, left in `residual`, and its norm.
  private func measure(
    _ pass: TwoLayerPass, _ xs: Matrix<Double>, _ damping: Double, gradient: Double, _ interruption: Interruption
  ) throws(EngineError) -> SolveEvidence {
    try ThreadTeam.run(parts: threads, interruption) { member in
      let weight = saturating(2, net.hidsize, saturating(sum: net.insize, saturating(2, net.outsize)))
      member.inPieces(member.share(of: pass.samples), weight: weight) { rows in
        multiply(xs.operand, solution, scale: pass.slope1, into: hidden, rows: rows)
        multiply(hidden.operand, pass.w2, scale: pass.slope2, into: output, rows: rows)
        for row in rows {
          let target = output.row(row)
          let slope = pass.slope2.row(row)
          for column in 0..<output.stride { target[column] *= slope[column] }
        }
        multiply(output.operand, pass.w2t, scale: pass.slope1, into: hidden, rows: rows)
      }
      member.barrier()
      member.inPieces(member.share(of: net.insize), weight: saturating(2, pass.samples, net.hidsize)) {
        multiply(xs.transposed, hidden, into: residual, rows: $0)
      }
    }
    let count = net.insize * solution.stride
    let image = norm(count, residual.base) + damping * norm(count, solution.base)
    for entry in 0..<count {
      residual.base[entry] = scale * pass.dw1.base[entry] - (residual.base[entry] + damping * solution.base[entry])
    }
    return SolveEvidence(residual: norm(count, residual.base), gradient: gradient, image: image)
  }
}
