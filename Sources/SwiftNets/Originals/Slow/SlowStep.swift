import COpenBLAS

/// One iteration of slow_net: saddle-free Newton on the two diagonal Hessian blocks,
/// w −= α Q |1/(Λ + λ)| Qᵀ dW for each layer, both gradients taken before either update (Dauphin et al., 2014).
///
/// As both blocks are positive semidefinite the absolute value never acts, and the step is (H + λ)⁻¹ dW: the
/// `structured` method solves that from the blocks' structure, the `dense` one forms and diagonalises them.
///
/// An object keeps working memory between steps, never state: a step is a function of its arguments. Calls from several
/// threads take turns.
public final class SlowStep {
  public enum Method: Sendable {
    /// Conjugate gradients on layer 1, one small Cholesky an output on layer 2.
    case structured
    /// Both blocks formed by R-passes and diagonalised.
    case dense
  }

  /// What proves a step.
  public struct Report: Equatable, Sendable {
    /// The loss before the step.
    public var loss = 0.0
    public var first = SolveEvidence(residual: 0, gradient: 0, image: 0)
    public var second = SolveEvidence(residual: 0, gradient: 0, image: 0)
    /// Products with H₁₁, and rounds of refinement; 0 for the dense method.
    public var iterations = 0
    public var rounds = 0
    /// Whether both solves reached their tolerance.
    public var isSolved = true
  }

  private struct Memory {
    let net: TwoLayerPerceptron
    let samples: Int
    let threads: Int
    let pass: TwoLayerPass
    let first: FirstLayerSolve
    let second: SecondLayerSolve
  }

  private var memory: Memory?
  private let gate = Gate()

  /// What the eigenvectors' rounding may leave of the relative residual of the dense method: half of the digits.
  public static let denseTolerance = 0x1p-26

  public init() {}

  /// The weights after one step, into `newW1` and `newW2`.
  ///
  /// - Parameters:
  ///   - damping: λ > 0.
  /// - Returns: the report; where `isSolved` is false the new weights are those of the best iterate.
  /// - Throws: `notFinite` when the loss or the step is not finite, `cancelled`, `outOfMemory`.
  /// - Complexity: `structured` 6 n · hid · (in + out) operations and as many again for every 1.5 conjugate gradient
  ///   steps; `dense` (in · hid)³ + (hid · out)³ times about 9.
  public func step(
    _ net: TwoLayerPerceptron, _ xs: Matrix<Double>, _ ys: Matrix<Double>, w1: Matrix<Double>, w2: Matrix<Double>,
    alpha: Double, damping: Double, method: Method, newW1: Matrix<Double>, newW2: Matrix<Double>,
    interruption: Interruption = .init()
  ) throws(EngineError) -> Report {
    guard damping > 0, damping.isFinite else {
      throw .invalidArgument("damping is \(damping); it must be positive and finite")
    }
    guard alpha.isFinite else { throw .invalidArgument("alpha is \(alpha); it must be finite") }
    return try gate.write(interruption) { () throws(EngineError) in
      switch method {
      case .structured:
        return try structured(net, xs, ys, w1, w2, alpha, damping, newW1, newW2, interruption)
      case .dense:
        return try dense(net, xs, ys, w1, w2, alpha, damping, newW1, newW2, interruption)
      }
    }
  }

  private func structured(
    _ net: TwoLayerPerceptron, _ xs: Matrix<Double>, _ ys: Matrix<Double>, _ w1: Matrix<Double>,
    _ w2: Matrix<Double>, _ alpha: Double, _ damping: Double, _ newW1: Matrix<Double>, _ newW2: Matrix<Double>,
    _ interruption: Interruption
  ) throws(EngineError) -> Report {
    let memory = try memory(for: net, samples: xs.rows)
    let (pass, first, second) = (memory.pass, memory.first, memory.second)
    pass.load(w1: w1, w2: w2)
    try ThreadTeam.run(parts: memory.threads, interruption) { member in
      pass.forward(xs, ys, member: member)
      pass.backward(member: member)
      member.barrier()
      pass.gradients(xs, member: member)
      member.barrier()
      guard second.isBatched else { return }
      second.solve(pass, damping: damping, correcting: false, member: member)
    }
    var report = Report()
    report.loss = pass.loss
    guard report.loss.isFinite else { throw .notFinite("the loss is \(report.loss)") }
    if !second.isBatched {
      try second.solveLarge(pass, damping: damping, correcting: false, interruption: interruption)
    }
    let length = saturating(net.hidsize, net.outsize)
    report.second = try check(memory, damping, interruption)
    if !report.second.isSolved(length: length) {
      // The rounding of a badly scaled system: one correction by the factorisation, with the residual of s itself.
      if second.isBatched {
        try ThreadTeam.run(parts: memory.threads, interruption) {
          second.solve(pass, damping: damping, correcting: true, member: $0)
        }
      } else {
        try second.solveLarge(pass, damping: damping, correcting: true, interruption: interruption)
      }
      report.second = try check(memory, damping, interruption)
    }
    report.first = try first.solve(pass, xs, damping: damping, interruption: interruption)
    report.iterations = first.iterations
    report.rounds = first.rounds
    report.isSolved =
      report.first.isSolved(length: net.insize * net.hidsize)
      && report.second.isSolved(length: length)
    update(w1, first.solution, alpha, into: newW1)
    update(w2, second.solution, alpha, into: newW2)
    guard report.first.residual.isFinite, report.second.residual.isFinite else {
      throw .notFinite("the step overflowed")
    }
    return report
  }

  private func check(
    _ memory: Memory, _ damping: Double, _ interruption: Interruption
  ) throws(EngineError) -> SolveEvidence {
    try ThreadTeam.run(parts: memory.threads, interruption) { member in
      memory.second.prepareCheck(memory.pass, member: member)
      member.barrier()
      memory.second.check(memory.pass, damping: damping, member: member)
    }
    return memory.second.evidence(memory.pass, parts: memory.threads, damping: damping)
  }

  private func memory(for net: TwoLayerPerceptron, samples: Int) throws(EngineError) -> Memory {
    let threads = Threads.forWork(of: saturating(6, samples, net.hidsize, net.insize + net.outsize))
    if let memory, memory.net == net, memory.samples == samples, memory.threads == threads { return memory }
    memory = nil  // freed before its successor is made
    let fresh = Memory(
      net: net, samples: samples, threads: threads,
      pass: try TwoLayerPass(net: net, samples: samples),
      first: try FirstLayerSolve(net: net, samples: samples, threads: threads),
      second: try SecondLayerSolve(net: net, samples: samples, threads: threads))
    memory = fresh
    return fresh
  }

  private func update(_ w: Matrix<Double>, _ step: Matrix<Double>, _ alpha: Double, into target: Matrix<Double>) {
    for row in 0..<w.rows {
      for column in 0..<w.columns { target[row, column] = w[row, column] - alpha * step[row, column] }
    }
  }

  private func dense(
    _ net: TwoLayerPerceptron, _ xs: Matrix<Double>, _ ys: Matrix<Double>, _ w1: Matrix<Double>,
    _ w2: Matrix<Double>, _ alpha: Double, _ damping: Double, _ newW1: Matrix<Double>, _ newW2: Matrix<Double>,
    _ interruption: Interruption
  ) throws(EngineError) -> Report {
    let pass = try TwoLayerPass(net: net, samples: xs.rows)
    pass.load(w1: w1, w2: w2)
    try pass.run(xs, ys, interruption)
    var report = Report()
    report.loss = pass.loss
    guard report.loss.isFinite else { throw .notFinite("the loss is \(report.loss)") }
    report.first = try denseStep(pass, xs, 1, w1, pass.dw1, alpha, damping, newW1, interruption)
    report.second = try denseStep(pass, xs, 2, w2, pass.dw2, alpha, damping, newW2, interruption)
    report.isSolved = max(report.first.relative, report.second.relative) <= Self.denseTolerance
    return report
  }

  /// One layer's update through the eigendecomposition of its block.
  private func denseStep(
    _ pass: TwoLayerPass, _ xs: Matrix<Double>, _ layer: Int, _ w: Matrix<Double>, _ gradient: Matrix<Double>,
    _ alpha: Double, _ damping: Double, _ target: Matrix<Double>, _ interruption: Interruption
  ) throws(EngineError) -> SolveEvidence {
    let count = saturating(w.rows, w.columns)
    let block: Matrix<Double> = try Matrix(rows: count, columns: count)
    try hessianBlock(pass, xs, layer: layer, into: block, interruption: interruption)
    let g: Matrix<Double> = try Matrix(rows: 4, columns: count)  // g, Qᵀg scaled, s, H s
    for row in 0..<w.rows {
      g.row(0).advanced(by: row * w.columns).update(from: gradient.row(row), count: w.columns)
    }
    let vectors: Matrix<Double> = try Matrix(rows: count, columns: count)
    try inSlices(of: count, weight: saturating(copied, count), interruption: interruption) { rows in
      vectors.row(rows.lowerBound).update(from: block.row(rows.lowerBound), count: rows.count * count)
    }
    let values = try symmetricEigen(vectors, interruption: interruption)
    // The rows of `vectors` are the eigenvectors: coefficients by a product with them, the step by their transpose.
    let n = Int32(count)
    try interruption.check()
    OpenBLAS.call(scipy_cblas_dgemv(CblasRowMajor, CblasNoTrans, n, n, 1, vectors.base, n, g.row(0), 1, 0, g.row(1), 1))
    for index in 0..<count { g[1, index] *= abs(1 / (values[index] + damping)) }
    try interruption.check()
    OpenBLAS.call(scipy_cblas_dgemv(CblasRowMajor, CblasTrans, n, n, 1, vectors.base, n, g.row(1), 1, 0, g.row(2), 1))
    try interruption.check()
    OpenBLAS.call(scipy_cblas_dgemv(CblasRowMajor, CblasNoTrans, n, n, 1, block.base, n, g.row(2), 1, 0, g.row(3), 1))
    let image = norm(count, g.row(3)) + damping * norm(count, g.row(2))
    for index in 0..<count {
      g[3, index] += damping * g[2, index] - g[0, index]
      target[index / w.columns, index % w.columns] =
        w[index / w.columns, index % w.columns] - alpha * g[2, index]
    }
    return SolveEvidence(residual: norm(count, g.row(3)), gradient: norm(count, g.row(0)), image: image)
  }
}
