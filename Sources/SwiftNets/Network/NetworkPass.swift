/// One forward and backward pass over a chunk of samples, kept: what every derivative at one point is built from.
///
/// For layer l: its inputs Z (with the column of ones), the slopes S = s′(A), the deltas D = ∂L/∂A and the curvatures
/// K = s″(A) ∘ ∂L/∂Z; for the outputs, the loss's Hessian in them. Weights of samples are in D, K and that Hessian. One
/// that keeps its images has A as well.
/// All of a layer's arrays have one stride, so that elementwise work runs over whole padded rows.
final class NetworkPass<Element: KernelScalar> {
  /// How much a pass keeps.
  enum Depth: Int {
    case outputs, gradient, curvature
  }

  let net: MultilayerPerceptron
  let capacity: Int
  /// The weights, one copy for each thread where they are few: reading what another core has just written costs more
  /// than writing it oneself.
  private var copies: [LayerMatrices<Element>]
  private var loaded = 0
  /// inputs[l] feeds layer l; inputs[depth] are the net's outputs.
  let inputs: [Matrix<Element>]
  let slopes: [Matrix<Element>]
  let curvatures: [Matrix<Element>]
  let deltas: [Matrix<Element>]
  /// The loss of the outputs.
  let output: OutputLoss<Element>
  /// ∂L/∂Z where the activation is curved, after a backward pass that keeps curvature.
  let cotangents: [Matrix<Element>]
  /// A where that is so and images are kept; else their place until the deltas are known.
  let images: [Matrix<Element>]
  private(set) var rows = 0

  init(_ net: MultilayerPerceptron, capacity: Int, keepsImages: Bool = false) throws(EngineError) {
    self.net = net
    self.capacity = capacity
    copies = [try LayerMatrices(net)]
    var inputs: [Matrix<Element>] = [try .padded(capacity, net.layers[0].rows)]
    var arrays: [[Matrix<Element>]] = [[], [], [], []]
    var images: [Matrix<Element>] = []
    for (index, layer) in net.layers.enumerated() {
      let columns = Self.columns(net, index)
      inputs.append(try .padded(capacity, columns))
      for list in arrays.indices { arrays[list].append(try .padded(capacity, columns)) }
      let isKept = keepsImages && !layer.activation.isPiecewiseLinear
      images.append(isKept ? try .padded(capacity, columns) : arrays[2][index])
    }
    self.inputs = inputs
    slopes = arrays[0]
    curvatures = arrays[1]
    deltas = arrays[2]
    cotangents = arrays[3]
    self.images = images
    output = try OutputLoss(net.loss, net.outputs, capacity: capacity)
  }

  /// Columns of the arrays of layer `index`: its width, and the ones that the next layer wants.
  static func columns(_ net: MultilayerPerceptron, _ index: Int) -> Int {
    index + 1 < net.depth ? net.layers[index + 1].rows : net.outputs
  }

  /// What its memory takes.
  var bytes: Int {
    copies.reduce(saturating(Self.bytesPerSample(net, keepsImages: true), capacity)) { $0 + $1.bytes }
  }

  /// Bytes that a pass keeps for a sample.
  static func bytesPerSample(_ net: MultilayerPerceptron, keepsImages: Bool = false) -> Int {
    let widths = (0..<net.depth).map { columns(net, $0) + Element.lanes }
    let numbers = saturating(
      sum: net.layers[0].rows, saturating(keepsImages ? 6 : 5, widths.reduce(0, +)), saturating(3, net.outputs))
    return saturating(numbers, MemoryLayout<Element>.stride)
  }

  /// Whether layer `index` multiplies by slopes at all.
  func hasSlopes(_ index: Int) -> Bool { !net.layers[index].activation.isIdentity }

  func isCurved(_ index: Int) -> Bool { !net.layers[index].activation.isPiecewiseLinear }

  /// Whether all threads read the same weights, and directions, as there are many.
  var isShared: Bool { saturating(net.parameterCount, MemoryLayout<Element>.stride) > 1 << 18 }

  /// Starts a chunk of `rows` samples, at most `capacity`, that a team does in `parts` parts.
  func begin(rows: Int, parts: Int) throws(EngineError) {
    self.rows = rows
    loaded = isShared ? 1 : parts
    while copies.count < loaded { copies.append(try LayerMatrices(net)) }
  }

  /// Takes the weights, from memory that must stay valid unless `isCopying`: a copy for each part.
  func load(_ w: UnsafePointer<Element>, isCopying: Bool, _ member: ThreadTeam.Member) {
    if loaded == 1 {
      copies[0].load(w, isCopying: isCopying, member, isShared: true)
    } else {
      for part in member.parts { copies[part].load(w, isCopying: isCopying, member) }
    }
    if loaded < member.count { member.barrier() }
  }

  /// The weights as `thread` should read them.
  func weights(_ thread: Int = 0) -> LayerMatrices<Element> { copies[thread < loaded ? thread : 0] }

  /// Forward pass of `part`, a range of this chunk's rows, which are `first`… of the samples.
  func forward(
    _ samples: Samples<Element>, from first: Int, _ part: Range<Int>, keeping depth: Depth, _ member: ThreadTeam.Member
  ) {
    let weights = self.weights(member.index)
    let fanIn = net.inputs
    for row in part {
      inputs[0].row(row).update(from: samples.inputs.row(first + row), count: fanIn)
      // Here and below: the pages of large arrays are made a piece at a time.
      if net.layers[0].hasBias { inputs[0][row, fanIn] = 1 }
    }
    guard !part.isEmpty else { return }
    for (index, layer) in net.layers.enumerated() where !member.isStopped {
      let images = images[index]
      let next = inputs[index + 1]
      multiply(inputs[index].prefix(layer.rows).operand, weights.natural[index], into: images, rows: part)
      let count = part.count * next.stride
      let start = part.lowerBound
      let order = depth == .outputs ? 0 : depth == .gradient || !isCurved(index) ? 1 : 2
      if layer.activation.isIdentity {
        next.row(start).update(from: images.row(start), count: count)
      } else {
        layer.activation.evaluate(
          order: order, count, images.row(start),
          [next.row(start), slopes[index].row(start), curvatures[index].row(start)])
      }
      if index + 1 < net.depth, net.layers[index + 1].hasBias {
        for row in part { next[row, layer.width] = 1 }
      }
    }
  }

  /// The sum of the weighted losses of `part`, and ∂L/∂Z of the outputs into its cotangents.
  private func lossAndCotangent(_ samples: Samples<Element>, from first: Int, _ part: Range<Int>, order: Int) -> Double
  { output.evaluate(samples, from: first, part, inputs[net.depth], into: cotangents[net.depth - 1], order: order) }

  /// The sum of the weighted losses of `part`, after `forward`.
  func loss(_ samples: Samples<Element>, from first: Int, _ part: Range<Int>) -> Double {
    part.isEmpty ? 0 : lossAndCotangent(samples, from: first, part, order: 0)
  }

  /// Backward pass of `part`, after `forward` with the same depth; returns the sum of the weighted losses.
  func backward(
    _ samples: Samples<Element>, from first: Int, _ part: Range<Int>, keeping depth: Depth, _ member: ThreadTeam.Member
  ) -> Double {
    guard !part.isEmpty, !member.isStopped else { return 0 }
    let weights = self.weights(member.index)
    let loss = lossAndCotangent(samples, from: first, part, order: depth == .curvature ? 2 : 1)
    for index in net.layers.indices.reversed() where !member.isStopped {
      let start = part.lowerBound
      let count = part.count * deltas[index].stride
      let isFolding = depth == .curvature && isCurved(index)
      if index == net.depth - 1 {
        setDelta(index, start, count)
      } else if isFolding {
        multiply(upper(index), weights.transposed[index + 1], into: cotangents[index], rows: part)
        setDelta(index, start, count)
      } else {
        multiply(
          upper(index), weights.transposed[index + 1], scale: hasSlopes(index) ? slopes[index] : nil,
          into: deltas[index], rows: part)
      }
      if isFolding {
        Element.multiply(
          count, curvatures[index].row(start), cotangents[index].row(start), curvatures[index].row(start))
      }
    }
    return loss
  }

  private func upper(_ index: Int) -> Operand<Element> {
    deltas[index + 1].prefix(net.layers[index + 1].width).operand
  }

  /// D = S ∘ ∂L/∂Z.
  private func setDelta(_ index: Int, _ start: Int, _ count: Int) {
    if hasSlopes(index) {
      Element.multiply(count, slopes[index].row(start), cotangents[index].row(start), deltas[index].row(start))
    } else {
      deltas[index].row(start).update(from: cotangents[index].row(start), count: count)
    }
  }

  /// Rows `range` of layer `index`'s gradient Zᵀ D over `samples` of the chunk's rows, set or added in the flat vector.
  func gradient(
    _ index: Int, _ range: Range<Int>, _ samples: Range<Int>, _ update: Update,
    into flat: UnsafeMutablePointer<Element>
  ) {
    let layer = net.layers[index]
    multiply(
      inputs[index].prefix(layer.rows).rows(samples).transposed, deltas[index].prefix(layer.width).rows(samples),
      update, isExact: true, into: Matrix(borrowing: flat + layer.offset, rows: layer.rows, columns: layer.width),
      rows: range)
  }

  /// One sample's weighted gradient, set in the flat vector.
  func sampleGradient(_ row: Int, into flat: UnsafeMutablePointer<Element>) {
    for (index, layer) in net.layers.enumerated() {
      Element.gemm(
        layer.rows, layer.width, 1, inputs[index].row(row), 1, 1, deltas[index].row(row), deltas[index].stride, nil, 0,
        .set, true, flat + layer.offset, layer.width)
    }
  }

  /// Rows `range` of layer `index`'s sum of weight · gradient², set or added in the flat vector.
  func squaredGradients(
    _ index: Int, _ range: Range<Int>, _ update: Update, into flat: UnsafeMutablePointer<Element>
  ) {
    let layer = net.layers[index]
    inBlocks(range, width: layer.width, update, into: flat + layer.offset) { row, sample, sum in
      let weight = output.weights.base[sample]
      // Squared last: the weighted gradient over the root of the weight is in range where its square is.
      let factor = weight > 0 ? inputs[index][sample, row] / weight.squareRoot() : 0
      let delta = deltas[index].row(sample)
      for column in 0..<layer.width { sum[column] += (factor * delta[column]) * (factor * delta[column]) }
    }
  }
}

extension NetworkPass {
  /// Sets or adds rows `range` of `out`, `width` numbers each: sums over the samples, which `add` gives one by one as
  /// (row, sample, where to add). 64 of them are added up at a time, as float32 forgets small terms of long sums.
  @inline(__always)
  func inBlocks(
    _ range: Range<Int>, width: Int, _ update: Update, into out: UnsafeMutablePointer<Element>,
    _ add: (Int, Int, UnsafeMutablePointer<Element>) -> Void
  ) {
    withUnsafeTemporaryAllocation(of: Element.self, capacity: width) { buffer in
      guard let sum = buffer.baseAddress else { return }
      for row in range {
        let target = out + row * width
        if update == .set { target.update(repeating: 0, count: width) }
        for first in Swift.stride(from: 0, to: rows, by: 64) {
          sum.initialize(repeating: 0, count: width)
          for sample in first..<min(first + 64, rows) { add(row, sample, sum) }
          Element.axpy(width, 1, sum, target)
        }
      }
    }
  }
}

extension Matrix {
  /// The first `columns` columns, as a view.
  func prefix(_ columns: Int) -> Matrix {
    Matrix(borrowing: base, rows: rows, columns: columns, stride: stride)
  }

  /// Some of the rows, as a view.
  func rows(_ range: Range<Int>) -> Matrix {
    view(row(range.lowerBound), rows: range.count, columns: columns)
  }
}
