import COpenBLAS

// bounded: `LayeredShape` grants no size from 2³⁰ on, and no more than 2⁵⁰ bytes together.

/// Exact products with H by the R-pass (Pearlmutter, 1994), from the numbers that the elimination was given: what its
/// factors are measured by. One takes about 12 N P operations.
final class LayeredProduct {
  private let shape: LayeredShape
  private let offsets: [Int]
  private let images: [UnsafeMutablePointer<Double>]  // a of each layer [N, n]
  private let tangents: [UnsafeMutablePointer<Double>]  // z of each layer [N, n]
  private let above: UnsafeMutablePointer<Double>
  private let transposed: UnsafeMutablePointer<Double>
  private let vector: UnsafeMutablePointer<Double>
  private let memory: ArenaMemory

  init(_ shape: LayeredShape) throws(EngineError) {
    func layOut(
      _ arena: inout Arena
    ) -> ([UnsafeMutablePointer<Double>], [UnsafeMutablePointer<Double>], [UnsafeMutablePointer<Double>]) {
      (
        shape.layers.map { arena.take($0.above) }, shape.layers.map { arena.take($0.above) },
        [
          arena.take(shape.largestAbove), arena.take(shape.layers.map { $0.fanIn * $0.width }.max()!),
          arena.take(shape.parameters),
        ]
      )
    }
    self.shape = shape
    var offset = 0
    offsets = shape.layers.map { layer in
      defer { offset += layer.parameters }
      return offset
    }
    var arena = Arena.measuring
    _ = layOut(&arena)
    memory = try ArenaMemory(bytes: arena.bytes)
    arena = Arena(memory)
    let work: [UnsafeMutablePointer<Double>]
    (images, tangents, work) = layOut(&arena)
    (above, transposed, vector) = (work[0], work[1], work[2])
  }

  /// H v into `out` [parameters], which may be v.
  func multiply<Element>(
    _ layers: [EliminatedLayer<Element>], _ output: UnsafePointer<Double>, _ v: UnsafePointer<Double>,
    into out: UnsafeMutablePointer<Double>, _ interruption: Interruption
  ) throws(EngineError) {
    // The kernels read past the end.
    vector.update(from: v, count: shape.parameters)
    for (index, layer) in layers.enumerated() {
      try interruption.check()
      let size = layer.shape
      let (samples, width) = (size.samples, size.width)
      if index > 0 {
        product(
          samples, width, size.fanIn, tangents[index - 1], size.fanIn, 1, layer.weights, width, .set, images[index],
          width)
      }
      product(
        samples, width, size.rows, layer.inputs, size.rows, 1, vector + offsets[index], width, index > 0 ? .add : .set,
        images[index], width)
      Double.multiply(size.above, images[index], layer.slopes, tangents[index])
    }
    let outputs = shape.outputs
    for sample in 0..<shape.samples {
      product(
        1, outputs, outputs, tangents[layers.count - 1] + sample * outputs, outputs, 1,
        output + sample * outputs * outputs, outputs, .set, above + sample * outputs, outputs)
    }
    for (index, layer) in layers.enumerated().reversed() {
      try interruption.check()
      let size = layer.shape
      let (samples, width, fanIn, rows) = (size.samples, size.width, size.fanIn, size.rows)
      let (deltas, curvatures, slopes, above) = (images[index], layer.curvatures, layer.slopes, above)
      for place in 0..<size.above { deltas[place] = curvatures[place] * deltas[place] + slopes[place] * above[place] }
      if index > 0 {
        Double.transpose(fanIn, width, vector + offsets[index], width, transposed, fanIn)
        product(samples, fanIn, width, deltas, width, 1, layer.transposedWeights, fanIn, .set, above, fanIn)
        product(samples, fanIn, width, layer.deltas, width, 1, transposed, fanIn, .add, above, fanIn)
      }
      let target = out + offsets[index]
      product(rows, width, samples, layer.inputs, 1, rows, deltas, width, .set, target, width)
      if index > 0 {
        product(fanIn, width, samples, tangents[index - 1], 1, fanIn, layer.deltas, width, .add, target, width)
      }
    }
  }

  /// ‖z‖ of each layer's outputs in the last product.
  var sizes: [Double] {
    zip(shape.layers, tangents).map { OpenBLAS.call(scipy_cblas_dnrm2(Int32($0.above), $1, 1)) }
  }
}
