// bounded: `LayeredShape` grants no size from 2³⁰ on, and no more than 2⁵⁰ bytes together.

/// What one layer keeps for the solves.
struct EliminatedLayer<Element: FactorScalar> {
  let shape: LayerShape
  let inputs: UnsafeMutablePointer<Double>  // Z [N, m]
  let spread: UnsafeMutablePointer<Double>  // R [N, r]
  let basis: UnsafeMutablePointer<Double>?  // B [r, m]; nil for 1
  let weights: UnsafeMutablePointer<Double>  // W without its bias row [fanIn, n]
  let transposedWeights: UnsafeMutablePointer<Double>
  let slopes: UnsafeMutablePointer<Double>
  let curvatures: UnsafeMutablePointer<Double>
  let deltas: UnsafeMutablePointer<Double>
  let transposedDeltas: UnsafeMutablePointer<Double>
  let overlaps: UnsafeMutablePointer<Double>  // D Dᵀ [N, N]
  let rest: UnsafeMutablePointer<Double>  // 1 − Bᵀ B without the bias's row and column [fanIn, fanIn]
  let pivot: SymmetricFactor<Element>
  let coupling: UnsafeMutablePointer<Element>  // G [order, below]

  /// Whether there are weights outside the span of the inputs.
  var hasRest: Bool { shape.rank < shape.rows }
  /// How many they are.
  var restCount: Int { (shape.rows - shape.rank) * shape.width }

  /// The layer with its weights themselves as unknowns.
  var primal: EliminatedLayer {
    guard shape.isDual else { return self }
    return EliminatedLayer(
      shape: shape.primal, inputs: inputs, spread: inputs, basis: nil, weights: weights,
      transposedWeights: transposedWeights, slopes: slopes, curvatures: curvatures, deltas: deltas,
      transposedDeltas: transposedDeltas, overlaps: overlaps, rest: rest, pivot: pivot, coupling: coupling)
  }

  func load(
    _ state: LayerState, work: UnsafeMutablePointer<Double>, interruption: Interruption
  ) throws(EngineError) {
    let (samples, width, fanIn, rows) = (shape.samples, shape.width, shape.fanIn, shape.rows)
    for row in 0..<fanIn { (weights + row * width).update(from: state.weights.row(row), count: width) }
    Double.transpose(fanIn, width, weights, width, transposedWeights, fanIn)
    for row in 0..<samples {
      (slopes + row * width).update(from: state.slopes.row(row), count: width)
      (curvatures + row * width).update(from: state.curvatures.row(row), count: width)
      (deltas + row * width).update(from: state.deltas.row(row), count: width)
    }
    for row in 0..<samples { (inputs + row * rows).update(from: state.inputs.row(row), count: rows) }
    prepareDeltas()
    guard let basis else { return }
    try factorRows(state.inputs, r: spread, b: basis, work: work, interruption: interruption)
    guard hasRest, !shape.isFirst else { return }
    rest.update(repeating: 0, count: fanIn * fanIn)
    for index in 0..<fanIn { rest[index * (fanIn + 1)] = 1 }
    try inSlices(of: fanIn, least: 8, weight: saturating(2, fanIn, shape.rank), interruption: interruption) { range in
      let first = range.lowerBound
      Double.gemm(
        range.count, fanIn, shape.rank, basis + first, 1, rows, basis, rows, nil, 0, .subtract, true,
        rest + first * fanIn, fanIn)
    }
  }

  /// What is computed from D.
  func prepareDeltas() {
    let (samples, width) = (shape.samples, shape.width)
    Double.transpose(samples, width, deltas, width, transposedDeltas, samples)
    guard hasRest, !shape.isFirst else { return }
    Double.gemm(
      samples, samples, width, deltas, width, 1, transposedDeltas, samples, nil, 0, .set, true, overlaps, samples)
  }
}

extension EliminatedLayer {
  init(_ shape: LayerShape, in arena: inout Arena) {
    self.shape = shape
    let needsRest = shape.rank < shape.rows && !shape.isFirst
    inputs = arena.take(shape.samples * shape.rows)
    spread = shape.isDual ? arena.take(shape.samples * shape.rank) : inputs
    basis = shape.isDual ? arena.take(shape.rank * shape.rows) : nil
    weights = arena.take(shape.fanIn * shape.width)
    transposedWeights = arena.take(shape.fanIn * shape.width)
    slopes = arena.take(shape.above)
    curvatures = arena.take(shape.above)
    deltas = arena.take(shape.above)
    transposedDeltas = arena.take(shape.above)
    overlaps = arena.take(needsRest ? shape.samples * shape.samples : 0)
    rest = arena.take(needsRest ? shape.fanIn * shape.fanIn : 0)
    pivot = SymmetricFactor(order: shape.order, in: &arena)
    coupling = arena.take(shape.order * shape.below)
  }
}
