// bounded: `LayeredShape` grants no size from 2³⁰ on, and no more than 2⁵⁰ bytes together.

/// The sizes of one layer in the elimination.
struct LayerShape: Equatable {
  let samples: Int
  let rows: Int  // m
  let width: Int  // n
  let fanIn: Int  // m without the bias
  /// The first layer's inputs do not depend on the weights: nothing lies below it.
  let isFirst: Bool
  let isDual: Bool

  init(samples: Int, rows: Int, width: Int, hasBias: Bool, isFirst: Bool, form: LayerForm) {
    self.samples = samples
    self.rows = rows
    self.width = width
    self.isFirst = isFirst
    fanIn = hasBias ? rows - 1 : rows
    switch form {
    case .automatic: isDual = samples < rows
    case .primal: isDual = false
    case .dual: isDual = true
    }
  }

  private init(primal shape: LayerShape) {
    (samples, rows, width, fanIn) = (shape.samples, shape.rows, shape.width, shape.fanIn)
    (isFirst, isDual) = (shape.isFirst, false)
  }

  /// The same layer with its weights themselves as unknowns.
  var primal: LayerShape { LayerShape(primal: self) }

  /// r: components of a column of the weights that are eliminated by factorisation.
  var rank: Int { isDual ? min(samples, rows) : rows }
  /// Order of the matrix that is factored.
  var order: Int { rank * width }
  /// Order of the cost-to-go in this layer's outputs.
  var above: Int { samples * width }
  /// Order of the cost-to-go in the outputs of the layer below.
  var below: Int { isFirst ? 0 : samples * fanIn }
  var parameters: Int { rows * width }

  /// Operations of the elimination with real numbers: forming the blocks, factoring, half-solving, updating.
  var operations: Double {
    let (r, n, h, count) = (Double(rank), Double(width), Double(isFirst ? 0 : fanIn), Double(samples))
    let (q, m, b) = (Double(order), Double(above), Double(below))
    let forming = 2 * q * m * count + 2 * q * q * count + 2 * m * m * h + 2 * m * b * h + 2 * q * m * h
    let spanning = isDual ? 4 * count * Double(rows) * r : 0
    return forming + spanning + q * q * q / 3 + q * q * b + q * b * b + 2 * n * q
  }

  /// Operations of one solve with real numbers.
  var operationsOfSolve: Double {
    2 * Double(order) * Double(order) + 4 * Double(order) * Double(below) + 12 * Double(samples) * Double(parameters)
  }
}

/// The sizes of a whole net in the elimination.
struct LayeredShape: Equatable {
  let layers: [LayerShape]
  let isComplex: Bool

  var samples: Int { layers[0].samples }
  var outputs: Int { layers[layers.count - 1].width }
  var parameters: Int { layers.reduce(0) { $0 + $1.parameters } }
  var largestOrder: Int { layers.map(\.order).max()! }
  var largestAbove: Int { layers.map(\.above).max()! }

  /// - Parameter sizes: inputs of the first layer, then outputs of each.
  /// - Throws: `invalidArgument` for sizes below 1, `outOfMemory` for sizes beyond LAPACK's integers.
  init(samples: Int, sizes: [Int], hasBias: [Bool], isComplex: Bool, form: LayerForm) throws(EngineError) {
    guard sizes.count >= 2, hasBias.count == sizes.count - 1, sizes.allSatisfy({ $0 > 0 }), samples > 0 else {
      throw .invalidArgument(
        "\(samples) samples, sizes \(sizes), \(hasBias.count) layers; expected at least 1 sample, "
          + "and positive sizes, one more than layers")
    }
    // In floating-point numbers first: these cannot overflow.
    var bytes = 0.0
    var isLarge = false
    for (fanIn, width) in zip(sizes, sizes.dropFirst()) {
      let (rows, columns, count) = (Double(fanIn) + 1, Double(width), Double(samples))
      let order = (form == .primal ? rows : min(rows, count)) * columns
      let above = count * columns
      bytes += 16 * (order * (order + count * rows) + rows * (columns + count) + 5 * above * (above + order))
      // Numbers that LAPACK and BLAS count.
      isLarge =
        isLarge
        || max(order, above, rows * columns, rows * count, above * columns, order * max(columns, count)) >= 0x1p30
    }
    guard !isLarge, bytes < 0x1p50 else { throw .outOfMemory(bytes: Int(min(bytes, 0x1p62))) }
    layers = zip(zip(sizes, sizes.dropFirst()), hasBias).enumerated().map { index, layer in
      LayerShape(
        samples: samples, rows: layer.0.0 + (layer.1 ? 1 : 0), width: layer.0.1, hasBias: layer.1, isFirst: index == 0,
        form: form)
    }
    self.isComplex = isComplex
  }

  /// - Throws: `invalidArgument` where sizes do not fit together.
  init(_ states: [LayerState], _ output: OutputHessian, isComplex: Bool, form: LayerForm) throws(EngineError) {
    guard let first = states.first, let last = states.last else {
      throw .invalidArgument("layers is empty; a net has at least one layer")
    }
    try self.init(
      samples: first.inputs.rows, sizes: [first.fanIn] + states.map(\.weights.columns),
      hasBias: states.map(\.hasBias), isComplex: isComplex, form: form)
    func expect(_ name: String, _ matrix: Matrix<Double>, _ columns: Int) throws(EngineError) {
      guard matrix.rows == samples, matrix.columns == columns else {
        throw .invalidArgument("\(name) is \(matrix.rows)×\(matrix.columns); expected \(samples)×\(columns)")
      }
    }
    for (index, (state, layer)) in zip(states, layers).enumerated() {
      guard state.weights.rows == layer.rows else {
        throw .invalidArgument(
          "layer \(index) has \(state.weights.rows) rows of weights; the layer below it asks for \(layer.rows)")
      }
      try expect("inputs of layer \(index)", state.inputs, layer.rows)
      try expect("slopes of layer \(index)", state.slopes, layer.width)
      try expect("curvatures of layer \(index)", state.curvatures, layer.width)
      try expect("deltas of layer \(index)", state.deltas, layer.width)
    }
    switch output {
    case .diagonal(let matrix): try expect("the output Hessian's diagonal", matrix, last.weights.columns)
    case .blocks(let matrix):
      try expect("the output Hessian", matrix, last.weights.columns * last.weights.columns)
    }
  }

  /// Operations of a factorisation: multiplications and additions of real numbers.
  var operations: Double { layers.reduce(0) { $0 + $1.operations } * (isComplex ? 4 : 1) }
  var operationsOfSolve: Double { layers.reduce(0) { $0 + $1.operationsOfSolve } * (isComplex ? 4 : 1) }
}
