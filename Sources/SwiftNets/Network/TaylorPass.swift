/// One pass of Taylor-mode differentiation over a chunk of samples (Griewank & Walther 2008, chapter 13): every
/// coefficient of the gradient along the directions at once.
///
/// Weights, inputs of layers, slopes and deltas are numbers of a `TaylorAlgebra`. An activation of a₀ + δ is
/// Σ s⁽ᵖ⁾(a₀) δᵖ / p!, exactly, as δ⁴ = 0; its slope likewise with s⁽ᵖ⁺¹⁾.
final class TaylorPass<Element: KernelScalar> {
  let net: MultilayerPerceptron
  let algebra: TaylorAlgebra
  let capacity: Int
  private let weights: [LayerMatrices<Element>]  // as algebra.weightCoefficients
  private let inputs: [[Matrix<Element>]]  // [layer][coefficient]; of layer 0 only the first
  private let slopes: [[Matrix<Element>]]
  private let deltas: [[Matrix<Element>]]
  private let cotangents: [[Matrix<Element>]]
  private let plan: TaylorPlan
  private let loss: TaylorLoss<Element>
  private var rows = 0

  init(_ net: MultilayerPerceptron, _ algebra: TaylorAlgebra, capacity: Int) throws(EngineError) {
    self.net = net
    self.algebra = algebra
    self.capacity = capacity
    func arrays(_ count: Int, _ columns: Int) throws(EngineError) -> [Matrix<Element>] {
      var all: [Matrix<Element>] = []
      for _ in 0..<count { all.append(try .padded(capacity, columns)) }
      return all
    }
    var weights: [LayerMatrices<Element>] = []
    for _ in algebra.weightCoefficients { weights.append(try LayerMatrices(net)) }
    var inputs = [try arrays(1, net.layers[0].rows)]
    var lists: [[[Matrix<Element>]]] = [[], [], []]
    for index in 0..<net.depth {
      let columns = NetworkPass<Element>.columns(net, index)
      inputs.append(try arrays(algebra.count, columns))
      for list in lists.indices { lists[list].append(try arrays(algebra.count, columns)) }
    }
    self.weights = weights
    self.inputs = inputs
    slopes = lists[0]
    deltas = lists[1]
    cotangents = lists[2]
    plan = TaylorPlan(net, algebra)
    loss = TaylorLoss(net.loss, net.outputs, algebra, plan.lossPowers, targets: try .padded(capacity, net.outputs))
    for (index, layer) in net.layers.enumerated() where layer.hasBias {
      for row in 0..<capacity { inputs[index][0][row, layer.fanIn] = 1 }
    }
  }

  static func bytesPerSample(_ net: MultilayerPerceptron, _ algebra: TaylorAlgebra) -> Int {
    let widths = (0..<net.depth).map { NetworkPass<Element>.columns(net, $0) + Element.lanes }
    let numbers = saturating(sum: net.layers[0].rows, saturating(4, algebra.count, widths.reduce(0, +)))
    return saturating(numbers, MemoryLayout<Element>.stride)
  }

  /// Takes the weights (first) or a direction. The memory must stay valid while the pass is used. With a member of a
  /// team all members call this, and meet before any uses it.
  func load(_ which: Int, _ flat: UnsafePointer<Element>, _ member: ThreadTeam.Member? = nil) {
    weights[which].load(flat, member ?? .alone, isShared: member != nil)
  }

  func begin(rows: Int) { self.rows = rows }

  /// Forward and backward pass of `part` of the chunk's rows, which are `first`… of the samples; returns their loss.
  func run(
    _ samples: Samples<Element>, from first: Int, _ part: Range<Int>, _ scratch: TaylorScratch<Element>,
    _ member: ThreadTeam.Member
  ) -> Double {
    var loss = 0.0
    let weight = net.layers.reduce(saturating(6, net.parameterCount)) { saturating(sum: $0, saturating(64, $1.width)) }
    member.inPieces(part, weight: saturating(algebra.count, weight)) { part in
      for row in part { inputs[0][0].row(row).update(from: samples.inputs.row(first + row), count: net.inputs) }
      for index in net.layers.indices where !member.isStopped { forward(index, part, scratch) }
      let last = net.depth - 1
      loss += self.loss.cotangent(
        samples, first, part, inputs[net.depth], into: cotangents[last], squares: deltas[last], scratch)
      for index in net.layers.indices.reversed() where !member.isStopped { backward(index, part) }
    }
    return loss
  }

  private func forward(_ index: Int, _ part: Range<Int>, _ scratch: TaylorScratch<Element>) {
    let layer = net.layers[index]
    let images = deltas[index]  // their place until the deltas are known
    for k in 0..<algebra.count {
      for (number, (i, w)) in plan.layers[index].images[k].enumerated() {
        // The column of ones has no small part, so only i = 0 meets the bias.
        let columns = i == 0 ? layer.rows : layer.fanIn
        multiply(
          inputs[index][i].prefix(columns).operand, weights[w].natural[index], number == 0 ? .set : .add,
          into: images[k], rows: part)
      }
    }
    let activation = layer.activation
    let isLinear = activation.isPiecewiseLinear
    let stride = images[0].stride
    algebra.compose(
      part.lowerBound * stride..<part.upperBound * stride, images.map(\.base),
      [inputs[index + 1].map(\.base), slopes[index].map(\.base)], plan.layers[index].powers, isLinear: isLinear, scratch
    ) { count, start, derivatives in
      activation.evaluate(
        order: isLinear ? 1 : self.algebra.degree + 1, count, images[0].base + start, derivatives)
    }
    if index + 1 < net.depth, net.layers[index + 1].hasBias {
      for row in part { inputs[index + 1][0][row, layer.width] = 1 }
    }
  }

  private func backward(_ index: Int, _ part: Range<Int>) {
    let target = cotangents[index]
    if index < net.depth - 1 {
      let upper = net.layers[index + 1]
      for k in 0..<algebra.count {
        for (number, (i, w)) in plan.layers[index + 1].cotangents[k].enumerated() {
          multiply(
            deltas[index + 1][i].prefix(upper.width).operand, weights[w].transposed[index + 1],
            number == 0 ? .set : .add, into: target[k], rows: part)
        }
      }
    }
    let stride = target[0].stride
    let start = part.lowerBound * stride
    let count = part.count * stride
    for k in 0..<algebra.count {
      let delta = deltas[index][k].base + start
      for (number, (i, j)) in plan.layers[index].deltas[k].enumerated() {
        let (u, g) = (slopes[index][i].base + start, target[j].base + start)
        if number == 0 { Element.multiply(count, u, g, delta) } else { Element.multiplyAdd(count, u, g, delta) }
      }
    }
  }

  /// Rows `range` of layer `index`'s gradient, coefficient k, over all rows of the chunk, set or added in `flat`.
  func gradient(_ index: Int, _ range: Range<Int>, _ k: Int, _ update: Update, into flat: UnsafeMutablePointer<Element>)
  {
    let layer = net.layers[index]
    let out = Matrix(borrowing: flat + layer.offset, rows: layer.rows, columns: layer.width)
    var update = update
    let pairs = plan.layers[index].gradients[k]
    // What no product sets, and the row of ones where the first product leaves it out.
    if update == .set && pairs.first?.0 != 0 {
      // bounded: rows of `out`.
      out.row(range.lowerBound).update(repeating: 0, count: range.count * layer.width)
      update = .add
    }
    for (i, j) in pairs {
      let hasOnes = i == 0
      let columns = hasOnes ? layer.rows : layer.fanIn
      multiply(
        inputs[index][i].prefix(columns).rows(0..<rows).transposed, deltas[index][j].prefix(layer.width).rows(0..<rows),
        update, isExact: true, into: out, rows: range.clamped(to: 0..<columns))
      update = .add
    }
  }
}
