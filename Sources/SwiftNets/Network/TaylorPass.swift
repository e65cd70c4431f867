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
  private let targets: Matrix<Element>
  private let plan: TaylorPlan
  private var rows = 0

  private static var block: Int { 512 }
  /// Working memory of one thread for elementwise work: the derivatives, then powers of δ.
  final class Scratch {
    fileprivate let derivatives: [Matrix<Element>]
    fileprivate let squares: [Matrix<Element>]
    fileprivate let cubes: [Matrix<Element>]
    /// Of one row of softmax: σ, and the series of 1 / (1 + σ).
    fileprivate let sums: Matrix<Element>
    fileprivate let inverses: Matrix<Element>

    init(_ algebra: TaylorAlgebra) throws(EngineError) {
      func arrays(_ count: Int) throws(EngineError) -> [Matrix<Element>] {
        var all: [Matrix<Element>] = []
        for _ in 0..<count { all.append(try Matrix(rows: 1, columns: TaylorPass.block)) }
        return all
      }
      derivatives = try arrays(5)
      squares = try arrays(algebra.count)
      cubes = try arrays(algebra.count)
      sums = try Matrix(rows: 1, columns: algebra.count)
      inverses = try Matrix(rows: 1, columns: algebra.count)
    }
  }

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
    targets = try .padded(capacity, net.outputs)
    plan = TaylorPlan(net, algebra)
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
    _ samples: Samples<Element>, from first: Int, _ part: Range<Int>, _ scratch: Scratch, _ member: ThreadTeam.Member
  ) -> Double {
    var loss = 0.0
    let weight = net.layers.reduce(saturating(6, net.parameterCount)) { saturating(sum: $0, saturating(64, $1.width)) }
    member.inPieces(part, weight: saturating(algebra.count, weight)) { part in
      for row in part { inputs[0][0].row(row).update(from: samples.inputs.row(first + row), count: net.inputs) }
      for index in net.layers.indices where !member.isStopped { forward(index, part, scratch) }
      loss += cotangent(samples, first, part, scratch)
      for index in net.layers.indices.reversed() where !member.isStopped { backward(index, part) }
    }
    return loss
  }

  private func forward(_ index: Int, _ part: Range<Int>, _ scratch: Scratch) {
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
    compose(part, images, [inputs[index + 1], slopes[index]], plan.layers[index].powers, isLinear: isLinear, scratch) {
      count, start, derivatives in
      Element.activation(
        activation.kind.rawValue, activation.parameter, order: isLinear ? 1 : self.algebra.degree + 1, count,
        images[0].base + start, derivatives)
    }
    if index + 1 < net.depth, net.layers[index + 1].hasBias {
      for row in part { inputs[index + 1][0][row, layer.width] = 1 }
    }
  }

  /// f(a) and f′(a), …: `functions[q]` becomes Σ f⁽ᵖ⁺ᵍ⁾(a₀) δᵖ / p! for the f whose derivatives at a₀ `fill` gives.
  /// Where that is linear near a₀, f′ is constant.
  private func compose(
    _ part: Range<Int>, _ a: [Matrix<Element>], _ functions: [[Matrix<Element>]], _ plan: TaylorPowers, isLinear: Bool,
    _ scratch: Scratch, _ fill: (Int, Int, [UnsafeMutablePointer<Element>?]) -> Void
  ) {
    let stride = a[0].stride
    var start = part.lowerBound * stride
    let end = part.upperBound * stride
    let derivatives = scratch.derivatives.map { Optional($0.base) }
    while start < end {
      let count = min(Self.block, end - start)
      fill(count, start, derivatives)
      powers(a, start, count, plan, scratch)
      for (q, function) in functions.enumerated() {
        let d = scratch.derivatives.dropFirst(q).map { $0.base }
        (function[0].base + start).update(from: d[0], count: count)
        for k in 1..<algebra.count where !(isLinear && q > 0) {
          let target = function[k].base + start
          var isSet = false
          func add(_ factor: UnsafeMutablePointer<Element>, _ power: UnsafeMutablePointer<Element>) {
            if isSet {
              Element.multiplyAdd(count, factor, power, target)
            } else {
              Element.multiply(count, factor, power, target)
            }
            isSet = true
          }
          if plan.linear[k] { add(d[1], a[k].base + start) }
          if !plan.squares[k].isEmpty { add(d[2], scratch.squares[k].base) }
          if !plan.cubes[k].isEmpty { add(d[3], scratch.cubes[k].base) }
        }
      }
      start += count
    }
  }

  /// ½ δ² and δ³ / 6 of a block.
  private func powers(
    _ a: [Matrix<Element>], _ start: Int, _ count: Int, _ plan: TaylorPowers, _ scratch: Scratch
  ) {
    for k in 1..<algebra.count {
      let square = scratch.squares[k].base
      let cube = scratch.cubes[k].base
      // A square counts half; of the two orders of a product one.
      var isSet = false
      func add(
        _ x: UnsafeMutablePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ target: UnsafeMutablePointer<Element>
      ) {
        if isSet { Element.multiplyAdd(count, x, y, target) } else { Element.multiply(count, x, y, target) }
        isSet = true
      }
      for (i, j) in plan.squares[k] where i == j { add(a[i].base + start, a[j].base + start, square) }
      if isSet { scale(square, count, 0.5) }
      for (i, j) in plan.squares[k] where i < j { add(a[i].base + start, a[j].base + start, square) }
      guard !plan.cubes[k].isEmpty else { continue }
      // δ · ½ δ² is three times δ³ / 6; lower squares are ready, as εᵢ εⱼ = εₖ has i, j < k.
      isSet = false
      for (i, j) in plan.cubes[k] { add(a[i].base + start, scratch.squares[j].base, cube) }
      scale(cube, count, 1 / Element(3))
    }
  }

  private func scale(_ x: UnsafeMutablePointer<Element>, _ count: Int, _ factor: Element) {
    for index in 0..<count { x[index] *= factor }
  }

  /// The series of ∂L/∂Z of the outputs, weighted, into the last layer's cotangents; returns the weighted loss.
  private func cotangent(_ samples: Samples<Element>, _ first: Int, _ part: Range<Int>, _ scratch: Scratch) -> Double {
    let outputs = inputs[net.depth]
    let target = cotangents[net.depth - 1]
    var sum = 0.0
    guard net.loss.isElementwise else {
      for row in part { sum += softmaxRow(samples, first, row, scratch) }
      return sum
    }
    if case .rows(let rows) = samples.targets {
      for row in part { targets.row(row).update(from: rows.row(first + row), count: net.outputs) }
    }
    // The loss's own values go where the first cotangent will be, and are summed before it comes.
    let start = part.lowerBound * outputs[0].stride
    Element.loss(
      net.loss.kind.rawValue, net.loss.parameter, order: 0, part.count * outputs[0].stride, outputs[0].base + start,
      targets.base + start, [target[0].base + start])
    for row in part {
      var loss = 0.0
      for column in 0..<net.outputs { loss += Double(target[0][row, column]) }
      sum += Double(samples.weight(first + row)) * loss
    }
    let loss = net.loss
    compose(part, outputs, [target], plan.lossPowers, isLinear: false, scratch) { count, start, derivatives in
      Element.loss(
        loss.kind.rawValue, loss.parameter, order: self.algebra.degree + 1, count, outputs[0].base + start,
        self.targets.base + start, [derivatives[4]] + derivatives.prefix(self.algebra.degree + 1))
    }
    for row in part {
      let weight = samples.weight(first + row)
      guard weight != 1 else { continue }
      for k in 0..<algebra.count where plan.lossPowers.any[k] { scale(target[k].row(row), net.outputs, weight) }
    }
    return sum
  }

  /// The series of softmax(z) − y for one row, centred as in `Softmax`: with ε the small part of z − z_c,
  /// p = p₀ exp(ε) / (1 + σ), where σ = Σ p₀ (exp(ε) − 1) is a sum over the other classes.
  private func softmaxRow(_ samples: Samples<Element>, _ first: Int, _ row: Int, _ scratch: Scratch) -> Double {
    let (width, count) = (net.outputs, algebra.count)
    let z = inputs[net.depth].map { $0.row(row) }
    let e = cotangents[net.depth - 1].map { $0.row(row) }
    let weight = samples.weight(first + row)
    let (sums, inverses) = (scratch.sums.base, scratch.inverses.base)
    let softmax = Softmax(z[0], width, into: e[0])
    for k in 1..<count {
      let centre = z[k][softmax.top]
      for column in 0..<width { z[k][column] -= centre }
    }
    // exp(ε) − 1 = ε + ½ ε² + ε³ / 6; the squares are kept where the deltas will be.
    let squares = deltas[net.depth - 1].map { $0.row(row) }
    for k in 1..<count {
      squares[k].update(repeating: 0, count: width)
      for (i, j) in algebra.products[k] where i > 0 && j > 0 { Element.multiplyAdd(width, z[i], z[j], squares[k]) }
      scale(squares[k], width, 0.5)
      e[k].update(repeating: 0, count: width)
      for (i, j) in algebra.products[k] where i > 0 && j > 0 { Element.multiplyAdd(width, z[i], squares[j], e[k]) }
      sums[k] = 0
      for column in 0..<width {
        e[k][column] = e[0][column] * (z[k][column] + squares[k][column] + e[k][column] / 3)
        sums[k] += e[k][column]
      }
    }
    // 1 / (1 + σ) = 1 − σ + σ² − σ³, and p = p₀ exp(ε) / (1 + σ) from the last coefficient down, in place.
    inverses[0] = 1
    for k in 1..<count {
      var power: Element = 0
      for (i, j) in algebra.products[k] where i > 0 { power += sums[i] * inverses[j] }
      inverses[k] = -power
    }
    for k in (1..<count).reversed() {
      for (i, j) in algebra.products[k] where j > 0 { Element.axpy(width, inverses[j], e[i], e[k]) }
    }
    // Where the deltas will be is room for the probabilities that become the first cotangent.
    squares[0].update(from: e[0], count: width)
    let (loss, total) = softmax.evaluate(
      z[0], squares[0], width, samples.targets, first + row, scale: weight, into: e[0])
    for k in 1..<count { scale(e[k], width, weight * total) }
    return Double(weight) * loss
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
