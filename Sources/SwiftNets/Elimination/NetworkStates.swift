/// What second derivatives of a net's loss on one batch are made of: the input of a `LayeredFactorization`.
///
/// Views of a kept pass and of its copy of the weights, for whoever has the pass for itself: a pass has no slopes where
/// an activation is the identity, and the ones that stand for them are written there.
struct NetworkStates {
  let layers: [LayerState]
  let output: OutputHessian

  /// - Throws: `outOfMemory` for the blocks of a softmax, `cancelled`.
  init(_ pass: NetworkPass<Double>, interruption: Interruption) throws(EngineError) {
    let net = pass.net
    var layers: [LayerState] = []
    for (index, layer) in net.layers.enumerated() {
      if !pass.hasSlopes(index) {
        try inSlices(of: pass.rows, weight: saturating(copied, layer.width), interruption: interruption) { rows in
          for row in rows { pass.slopes[index].row(row).update(repeating: 1, count: layer.width) }
        }
      }
      layers.append(
        LayerState(
          inputs: pass.inputs[index].prefix(layer.rows), weights: pass.weights().natural[index],
          hasBias: layer.hasBias, slopes: pass.slopes[index].prefix(layer.width),
          // Zeros, as they were made, where the activation is piecewise linear.
          curvatures: pass.curvatures[index].prefix(layer.width), deltas: pass.deltas[index].prefix(layer.width)))
    }
    self.layers = layers
    output =
      net.loss.isElementwise ? .diagonal(pass.output.hessian) : .blocks(try Self.softmaxBlocks(pass, interruption))
  }

  /// c (diag(p) − p pᵀ) of each sample; on the diagonal, 1 − p as the sum of the others keeps its digits where p is
  /// near 1.
  private static func softmaxBlocks(
    _ pass: NetworkPass<Double>, _ interruption: Interruption
  ) throws(EngineError) -> Matrix<Double> {
    let width = pass.net.outputs
    let blocks = try Matrix<Double>(rows: pass.rows, columns: saturating(width, width))
    for sample in 0..<pass.rows {
      try interruption.check()
      let (p, scale) = (pass.output.hessian.row(sample), pass.output.scales.base[sample])
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
  static func count(_ net: MultilayerPerceptron, samples: Int) -> Int {
    let layers = net.layers.reduce(0) { saturating(sum: $0, $1.rows, saturating(3, $1.width)) }
    let output = net.loss.isElementwise ? net.outputs : saturating(net.outputs, net.outputs)
    return saturating(samples, saturating(sum: layers, output))
  }

  /// Writes each layer's inputs, slopes, curvatures and deltas, then the output Hessian, one dense array after the
  /// other.
  func copy(
    into out: UnsafeMutablePointer<Double>, interruption: Interruption
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
