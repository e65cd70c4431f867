/// The net of slow_net: two dense layers without bias, leaky ReLU of slope ½ on both, half the sum of squared errors.
///
/// Weights are `[in, out]`, samples are rows. At a kink the slope is ½, as in the original.
public struct TwoLayerPerceptron: Equatable, Sendable {
  public let insize: Int
  public let hidsize: Int
  public let outsize: Int

  public init(insize: Int, hidsize: Int, outsize: Int) {
    self.insize = insize
    self.hidsize = hidsize
    self.outsize = outsize
  }

  /// ½ Σ (h₂ − Y)².
  public func loss(
    _ xs: Matrix<Double>, _ ys: Matrix<Double>, w1: Matrix<Double>, w2: Matrix<Double>,
    interruption: Interruption = .init()
  ) throws(EngineError) -> Double {
    let pass = try TwoLayerPass(net: self, samples: xs.rows)
    pass.load(w1: w1, w2: w2)
    try ThreadTeam.run(parts: Threads.forWork(of: pass.operations), interruption) {
      pass.forward(xs, ys, member: $0)
    }
    return pass.loss
  }

  /// The output activations h₂, `[n, outsize]`, written to `h2`.
  public func predict(
    _ xs: Matrix<Double>, w1: Matrix<Double>, w2: Matrix<Double>, into h2: Matrix<Double>,
    interruption: Interruption = .init()
  ) throws(EngineError) {
    let pass = try TwoLayerPass(net: self, samples: xs.rows)
    pass.load(w1: w1, w2: w2)
    try ThreadTeam.run(parts: Threads.forWork(of: pass.operations), interruption) { member in
      pass.forward(xs, nil, member: member)
      for row in member.share(of: xs.rows) {
        h2.row(row).update(from: pass.error.row(row), count: outsize)
      }
    }
  }

  /// The gradients of the loss, shaped like the weights, and the loss itself.
  public func gradient(
    _ xs: Matrix<Double>, _ ys: Matrix<Double>, w1: Matrix<Double>, w2: Matrix<Double>,
    into dw1: Matrix<Double>, _ dw2: Matrix<Double>, interruption: Interruption = .init()
  ) throws(EngineError) -> Double {
    let pass = try TwoLayerPass(net: self, samples: xs.rows)
    pass.load(w1: w1, w2: w2)
    try pass.run(xs, ys, interruption)
    for row in 0..<insize { dw1.row(row).update(from: pass.dw1.row(row), count: hidsize) }
    for row in 0..<hidsize { dw2.row(row).update(from: pass.dw2.row(row), count: outsize) }
    return pass.loss
  }
}

/// One forward and backward pass of a `TwoLayerPerceptron` over a batch, with everything that the curvature of the
/// batch is made of. Team members call the phases together, each on its share of the rows.
final class TwoLayerPass {
  let net: TwoLayerPerceptron
  let samples: Int

  let w1: Matrix<Double>  // padded copies of the weights
  let w2: Matrix<Double>
  let w2t: Matrix<Double>
  let slope1: Matrix<Double>  // D₁ = act′(n₁), D₂ = act′(n₂)
  let slope2: Matrix<Double>
  let h1: Matrix<Double>
  let error: Matrix<Double>  // h₂ − Y, or h₂ where there are no targets
  let g2: Matrix<Double>  // (h₂ − Y) ∘ D₂
  let g1: Matrix<Double>  // (G₂ w₂ᵀ) ∘ D₁
  let dw1: Matrix<Double>
  let dw2: Matrix<Double>
  private let losses: Storage<Double>  // one a part, a cache line apart

  init(net: TwoLayerPerceptron, samples: Int) throws(EngineError) {
    self.net = net
    self.samples = samples
    w1 = try .padded(net.insize, net.hidsize)
    w2 = try .padded(net.hidsize, net.outsize)
    w2t = try .padded(net.outsize, net.hidsize)
    slope1 = try .padded(samples, net.hidsize)
    slope2 = try .padded(samples, net.outsize)
    h1 = try .padded(samples, net.hidsize)
    error = try .padded(samples, net.outsize)
    g2 = try .padded(samples, net.outsize)
    g1 = try .padded(samples, net.hidsize)
    dw1 = try .padded(net.insize, net.hidsize)
    dw2 = try .padded(net.hidsize, net.outsize)
    losses = try Storage(count: 8 * 64)
  }

  /// Multiply–adds of one forward and backward pass, counted as two operations.
  var operations: Int { saturating(6, samples, net.hidsize, net.insize + net.outsize) }

  /// The same of a pass either way over one sample.
  private var weight: Int { saturating(4, net.hidsize, net.insize + net.outsize) }

  /// Half the sum of squares that `forward` found, added in the order of the parts.
  var loss: Double {
    var sum = 0.0
    for part in 0..<64 { sum += losses.base[8 * part] }
    return sum / 2
  }

  func load(w1: Matrix<Double>, w2: Matrix<Double>) {
    for row in 0..<net.insize { self.w1.row(row).update(from: w1.row(row), count: net.hidsize) }
    for row in 0..<net.hidsize {
      self.w2.row(row).update(from: w2.row(row), count: net.outsize)
      for column in 0..<net.outsize { w2t[column, row] = w2[row, column] }
    }
    for part in 0..<64 { losses.base[8 * part] = 0 }
  }

  /// The loss and both gradients at the weights loaded.
  func run(_ xs: Matrix<Double>, _ ys: Matrix<Double>, _ interruption: Interruption) throws(EngineError) {
    try ThreadTeam.run(parts: Threads.forWork(of: operations), interruption) { member in
      forward(xs, ys, member: member)
      backward(member: member)
      member.barrier()
      gradients(xs, member: member)
    }
  }

  /// h₁, D₁, D₂ and the error of the member's rows.
  func forward(_ xs: Matrix<Double>, _ ys: Matrix<Double>?, member: ThreadTeam.Member) {
    for part in member.parts {
      var squares = 0.0
      member.inPieces(member.share(of: samples, part: part), weight: weight) { squares += forward(xs, ys, rows: $0) }
      losses.base[8 * part] = squares
    }
  }

  /// - Returns: the sum of squared errors of `rows`.
  private func forward(_ xs: Matrix<Double>, _ ys: Matrix<Double>?, rows: Range<Int>) -> Double {
    multiply(xs.operand, w1, into: h1, rows: rows)
    var squares = 0.0
    for row in rows {
      let h = h1.row(row)
      let slope = slope1.row(row)
      for column in 0..<h1.stride {
        let value = h[column]
        let factor = value > 0 ? 1.0 : 0.5
        slope[column] = factor
        h[column] = value * factor
      }
    }
    multiply(h1.operand, w2, into: error, rows: rows)
    for row in rows {
      let e = error.row(row)
      let slope = slope2.row(row)
      for column in 0..<error.stride {
        let value = e[column]
        let factor = value > 0 ? 1.0 : 0.5
        slope[column] = factor
        e[column] = value * factor
      }
      guard let ys else { continue }
      let y = ys.row(row)
      for column in 0..<net.outsize { e[column] -= y[column] }
      squares += Double.dot(net.outsize, e, e)
    }
    return squares
  }

  /// G₂ and G₁ of the member's rows.
  func backward(member: ThreadTeam.Member) {
    member.inPieces(member.share(of: samples), weight: weight) { rows in
      for row in rows {
        let g = g2.row(row)
        let e = error.row(row)
        let slope = slope2.row(row)
        for column in 0..<g2.stride { g[column] = e[column] * slope[column] }
      }
      multiply(g2.operand, w2t, scale: slope1, into: g1, rows: rows)
    }
  }

  /// The member's rows of the gradients; every member's `backward` must be done.
  func gradients(_ xs: Matrix<Double>, member: ThreadTeam.Member) {
    member.inPieces(member.share(of: net.hidsize), weight: saturating(2, samples, net.outsize)) {
      multiply(h1.transposed, g2, into: dw2, rows: $0)
    }
    member.inPieces(member.share(of: net.insize), weight: saturating(2, samples, net.hidsize)) {
      multiply(xs.transposed, g1, into: dw1, rows: $0)
    }
  }
}
