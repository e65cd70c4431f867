/// What second derivatives of a net's loss on one batch are made of: the input of a `LayeredFactorization`.
///
/// Views of a pass over all samples, which it keeps, and of the weights, which must outlive it.
/// - Complexity: memory for all samples at once, `NetworkPass.bytesPerSample` each.
public struct NetworkStates {
  public let layers: [LayerState]
  public let output: OutputHessian
  private let pass: NetworkPass<Double>

  /// - Throws: `invalidArgument` for a float32 net or targets that are not the loss's, `outOfMemory`.
  public init(
    _ engine: NetworkEngine, _ w: UnsafeRawPointer, _ batch: NetworkEngine.Batch,
    interruption: Interruption = Interruption()
  ) throws(EngineError) {
    guard engine.scalars == .float64 else {
      throw .invalidArgument("the net is in float32; its layers' states are there for float64 nets")
    }
    let net = engine.net
    let flat = w.assumingMemoryBound(to: Double.self)
    let point = try Linearization<Double>(net, capacity: batch.count, piece: batch.count)
    try point.load(
      flat, engine.withTargets(batch), 0, batch.count, keeping: .curvature, interruption: interruption)
    let pass = point.pass
    layers = net.layers.enumerated().map { index, layer in
      if !pass.hasSlopes(index) {
        for row in 0..<batch.count { pass.slopes[index].row(row).update(repeating: 1, count: layer.width) }
      }
      return LayerState(
        inputs: pass.inputs[index].prefix(layer.rows),
        weights: Matrix(reading: flat + layer.offset, rows: layer.rows, columns: layer.width),
        hasBias: layer.hasBias, slopes: pass.slopes[index].prefix(layer.width),
        // Zeros, as they were made, where the activation is piecewise linear.
        curvatures: pass.curvatures[index].prefix(layer.width), deltas: pass.deltas[index].prefix(layer.width))
    }
    output =
      net.loss.isElementwise ? .diagonal(pass.outputHessian) : .blocks(try Self.softmaxBlocks(pass, interruption))
    self.pass = pass
  }

  /// c (diag(p) − p pᵀ) of each sample; on the diagonal, 1 − p as the sum of the others keeps its digits where p is near 1.
  private static func softmaxBlocks(
    _ pass: NetworkPass<Double>, _ interruption: Interruption
  ) throws(EngineError) -> Matrix<Double> {
    let width = pass.net.outputs
    let blocks = try Matrix<Double>(rows: pass.rows, columns: saturating(width, width))
    for sample in 0..<pass.rows {
      try interruption.check()
      let (p, scale) = (pass.outputHessian.row(sample), pass.sampleScales.base[sample])
      for i in 0..<width {
        let block = blocks.row(sample) + i * width
        var others = 0.0
        for j in 0..<width where j != i {
          block[j] = -scale * p[i] * p[j]
          others += p[j]
        }
        block[i] = scale * p[i] * others
      }
    }
    return blocks
  }

  /// How many numbers `copy` writes.
  public static func count(_ net: MultilayerPerceptron, samples: Int) -> Int {
    let layers = net.layers.reduce(0) { saturating(sum: $0, $1.rows, saturating(3, $1.width)) }
    let output = net.loss.isElementwise ? net.outputs : saturating(net.outputs, net.outputs)
    return saturating(samples, saturating(sum: layers, output))
  }

  /// Writes each layer's inputs, slopes, curvatures and deltas, then the output Hessian, one dense array after the other.
  public func copy(
    into out: UnsafeMutablePointer<Double>, interruption: Interruption = Interruption()
  ) throws(EngineError) {
    var next = out
    func write(_ matrix: Matrix<Double>) throws(EngineError) {
      try inSlices(of: matrix.rows, weight: saturating(copied, matrix.columns), interruption: interruption) { rows in
        for row in rows {
          next.update(from: matrix.row(row), count: matrix.columns)
          next += matrix.columns
        }
      }
    }
    for layer in layers {
      for matrix in [layer.inputs, layer.slopes, layer.curvatures, layer.deltas] { try write(matrix) }
    }
    switch output {
    case .diagonal(let matrix), .blocks(let matrix): try write(matrix)
    }
  }
}
