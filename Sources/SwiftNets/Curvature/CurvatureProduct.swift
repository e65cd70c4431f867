/// Products of a curvature matrix with vectors at the point of a `NetworkPass`.
public enum CurvatureKind: Int32, Sendable, CaseIterable {
  /// ∂²L/∂w² (Pearlmutter 1994).
  case hessian
  /// Σ Jᵀ C J with C the loss's Hessian in the outputs (Schraudolph 2002); the exact Fisher matrix for likelihoods.
  case gaussNewton
  /// Σ g gᵀ over the samples' gradients.
  case empiricalFisher
}

/// Pearlmutter's R-pass and its relatives: tangents of a chunk of samples along one direction.
///
/// Rows of the tangents are rows of the pass less `origin`, so that one object serves pieces of a chunk in turn.
final class CurvatureProduct<Element: KernelScalar> {
  private let net: MultilayerPerceptron
  let capacity: Int
  /// Which of a team's members uses it.
  private let thread: Int
  private let own: LayerMatrices<Element>
  /// Its own matrices, or those of another member.
  private(set) var direction: LayerMatrices<Element>
  /// Tangents of the pre-activations, layer by layer, where the activation is curved.
  let images: [Matrix<Element>]
  /// Tangents of each layer's outputs.
  let tangents: [Matrix<Element>]
  /// Tangents of the deltas.
  let deltas: [Matrix<Element>]
  /// Tangents of the loss's derivatives in each layer's outputs, if they are kept.
  let cotangents: [Matrix<Element>]
  private let keepsCotangents: Bool

  init(
    _ net: MultilayerPerceptron, capacity: Int, thread: Int, keepsCotangents: Bool = false
  ) throws(EngineError) {
    self.net = net
    self.capacity = capacity
    self.thread = thread
    own = try LayerMatrices(net)
    direction = own
    self.keepsCotangents = keepsCotangents
    var arrays: [[Matrix<Element>]] = [[], [], [], []]
    for index in 0..<net.depth {
      let columns = NetworkPass<Element>.columns(net, index)
      for list in 0..<3 { arrays[list].append(try .padded(capacity, columns)) }
      arrays[3].append(keepsCotangents ? try .padded(capacity, columns) : arrays[2][index])
    }
    images = arrays[0]
    tangents = arrays[1]
    deltas = arrays[2]
    cotangents = arrays[3]
  }

  /// What its memory takes.
  var bytes: Int {
    own.bytes + totalBytes(images, tangents, deltas, keepsCotangents ? cotangents : [])
  }

  func load(_ flat: UnsafePointer<Element>) {
    own.load(flat)
    direction = own
  }

  /// The same by all members of a team for all of them, with what `first` has: copies of large ones take long. They
  /// meet before any uses it.
  func load(_ flat: UnsafePointer<Element>, sharing first: CurvatureProduct, _ member: ThreadTeam.Member) {
    first.own.load(flat, member, isShared: true)
    direction = first.own
  }

  /// Tangents of all layers along the direction loaded; those of the net's outputs are in `outputTangents`.
  func forward(_ pass: NetworkPass<Element>, _ part: Range<Int>, origin: Int = 0, _ member: ThreadTeam.Member) {
    let rows = part.lowerBound - origin..<part.upperBound - origin
    for (index, layer) in net.layers.enumerated() where !member.isStopped {
      let isCurved = pass.isCurved(index)
      let target = isCurved ? images[index] : tangents[index]
      let scale = isCurved || !pass.hasSlopes(index) ? nil : pass.slopes[index].rows(part)
      let piece = target.rows(rows)
      let inputs = pass.inputs[index].prefix(layer.rows).rows(part)
      multiply(inputs.operand, direction.natural[index], scale: scale, into: piece, rows: 0..<part.count)
      if index > 0 {
        let below = tangents[index - 1].prefix(layer.fanIn).rows(rows)
        multiply(
          below.operand, pass.weights(thread).natural[index], scale: scale, .add, into: piece, rows: 0..<part.count)
      }
      if isCurved {
        let count = part.count * target.stride
        Element.multiply(
          count, pass.slopes[index].row(part.lowerBound), piece.base, tangents[index].row(rows.lowerBound))
      }
    }
  }

  /// The tangent of the outputs of `row` (counted from the origin), after `forward`.
  func outputTangent(_ row: Int) -> UnsafeMutablePointer<Element> { tangents[net.depth - 1].row(row) }

  /// Tangents of the deltas: the R-pass's way back, or for Gauss–Newton the transposed Jacobian applied to C J v.
  func backward(
    _ kind: CurvatureKind, _ pass: NetworkPass<Element>, _ part: Range<Int>, origin: Int = 0,
    _ member: ThreadTeam.Member
  ) {
    let rows = part.lowerBound - origin..<part.upperBound - origin
    let last = net.depth - 1
    pass.output.multiply(part, tangents[last].rows(rows), into: cotangents[last].rows(rows))
    let isHessian = kind == .hessian
    for index in net.layers.indices.reversed() where !member.isStopped {
      let target = deltas[index]
      let count = part.count * target.stride
      if index < net.depth - 1 {
        pullBack(index, pass, part, rows, isHessian: isHessian)
      } else {
        setDelta(index, pass, part, rows)
      }
      if isHessian && pass.isCurved(index) {
        Element.multiplyAdd(
          count, pass.curvatures[index].row(part.lowerBound), images[index].row(rows.lowerBound),
          target.row(rows.lowerBound))
      }
    }
  }

  /// The deltas for a cotangent of the outputs, which `cotangent` gives row by row: the transposed Jacobian.
  func pullBack(
    _ pass: NetworkPass<Element>, _ part: Range<Int>, origin: Int = 0, _ member: ThreadTeam.Member,
    _ cotangent: (Int, UnsafeMutablePointer<Element>) -> Void
  ) {
    let rows = part.lowerBound - origin..<part.upperBound - origin
    let last = net.depth - 1
    for row in part { cotangent(row, cotangents[last].row(row - origin)) }
    setDelta(last, pass, part, rows)
    for index in (0..<last).reversed() where !member.isStopped {
      pullBack(index, pass, part, rows, isHessian: false)
    }
  }

  private func pullBack(
    _ index: Int, _ pass: NetworkPass<Element>, _ part: Range<Int>, _ rows: Range<Int>, isHessian: Bool
  ) {
    let upper = net.layers[index + 1]
    let scale = pass.hasSlopes(index) && !keepsCotangents ? pass.slopes[index].rows(part) : nil
    let piece = cotangents[index].rows(rows)
    multiply(
      deltas[index + 1].prefix(upper.width).rows(rows).operand, pass.weights(thread).transposed[index + 1],
      scale: scale,
      into: piece, rows: 0..<part.count)
    if isHessian {
      multiply(
        pass.deltas[index + 1].prefix(upper.width).rows(part).operand, direction.transposed[index + 1], scale: scale,
        .add, into: piece, rows: 0..<part.count)
    }
    if keepsCotangents { setDelta(index, pass, part, rows) }
  }

  /// The delta of a layer from its cotangent: times the slopes.
  private func setDelta(_ index: Int, _ pass: NetworkPass<Element>, _ part: Range<Int>, _ rows: Range<Int>) {
    let (source, target) = (cotangents[index].row(rows.lowerBound), deltas[index].row(rows.lowerBound))
    let count = part.count * deltas[index].stride
    if pass.hasSlopes(index) {
      Element.multiply(count, pass.slopes[index].row(part.lowerBound), source, target)
    } else if source != target {
      target.update(from: source, count: count)
    }
  }

  /// The deltas for the empirical Fisher matrix: each sample's own, times its gradient's product with the direction.
  func projectOnGradients(_ pass: NetworkPass<Element>, _ part: Range<Int>, origin: Int = 0) {
    let start = part.lowerBound - origin
    for (index, layer) in net.layers.enumerated() {
      let piece = tangents[index].rows(start..<start + part.count)
      multiply(
        pass.inputs[index].prefix(layer.rows).rows(part).operand, direction.natural[index], into: piece,
        rows: 0..<part.count)
    }
    for row in part {
      var product: Element = 0
      for (index, layer) in net.layers.enumerated() {
        product += Element.dot(layer.width, tangents[index].row(row - origin), pass.deltas[index].row(row))
      }
      let weight = pass.output.weights.base[row]
      let factor = weight == 0 ? 0 : product / weight
      for (index, layer) in net.layers.enumerated() {
        let (from, to) = (pass.deltas[index].row(row), deltas[index].row(row - origin))
        for column in 0..<layer.width { to[column] = factor * from[column] }
      }
    }
  }

  /// Rows `range` of layer `index`'s part of the product, over `part`'s samples, set or added in the flat vector.
  func collect(
    _ index: Int, _ range: Range<Int>, _ kind: CurvatureKind, _ pass: NetworkPass<Element>, _ part: Range<Int>,
    origin: Int = 0, _ update: Update, into flat: UnsafeMutablePointer<Element>
  ) {
    let layer = net.layers[index]
    let rows = part.lowerBound - origin..<part.upperBound - origin
    let out = Matrix(borrowing: flat + layer.offset, rows: layer.rows, columns: layer.width)
    multiply(
      pass.inputs[index].prefix(layer.rows).rows(part).transposed, deltas[index].prefix(layer.width).rows(rows), update,
      isExact: true, into: out, rows: range)
    guard kind == .hessian, index > 0 else { return }
    let below = range.clamped(to: 0..<layer.fanIn)
    multiply(
      tangents[index - 1].prefix(layer.fanIn).rows(rows).transposed, pass.deltas[index].prefix(layer.width).rows(part),
      .add, isExact: true, into: out, rows: below)
  }

  /// One sample's gradient of what the deltas are of: its inputs' and deltas' outer products, set in the flat vector.
  func outerProducts(
    _ row: Int, _ pass: NetworkPass<Element>, origin: Int = 0, into flat: UnsafeMutablePointer<Element>
  ) {
    for (index, layer) in net.layers.enumerated() {
      Element.gemm(
        layer.rows, layer.width, 1, pass.inputs[index].row(row), 1, 1, deltas[index].row(row - origin),
        deltas[index].stride, nil, 0, .set, true, flat + layer.offset, layer.width)
    }
  }
}
