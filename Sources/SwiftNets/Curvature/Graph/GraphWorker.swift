/// The passes of one block of samples at given weights, kept.
final class GraphBlock<Element: KernelScalar> {
  let ply: Ply<Element>
  let loss: OutputLoss<Element>
  /// Samples, the first of which is sample `first`.
  var rows = 0
  var first = 0

  init(_ graph: NetworkGraph, _ layout: PlyLayout, capacity: Int) throws(EngineError) {
    ply = try Ply(layout, capacity: capacity)
    loss = try OutputLoss(graph.loss, graph.outputs, capacity: capacity, isPadded: false)
  }
}

/// One thread's passes through a net of any layers: values, tangents along a direction, and numbers of an algebra.
final class GraphWorker<Element: KernelScalar>: @unchecked Sendable {
  /// How far an ordinary pass goes.
  enum Depth: Int {
    case outputs, gradient, curvature
  }

  let graph: NetworkGraph
  let layout: PlyLayout
  let algebra: TaylorAlgebra
  let capacity: Int
  /// For an ordinary pass of its own.
  let block: GraphBlock<Element>
  /// Along a direction; by coefficient, `block`'s first.
  private let plies: [Ply<Element>]
  /// Directions; the weights are shared.
  let directions: [LayerParameters<Element>]
  private let scratch: LayerScratch<Element>
  private let plain = TaylorAlgebra.series(order: 0)
  private let plainPowers: LayerPowers
  private let powers: LayerPowers
  private let lossSeries: TaylorLoss<Element>
  private let squares: [Matrix<Element>]
  /// For several directions at once, made when first wanted.
  private var stack: ConvolutionStack<Element>?
  /// Room for a row of the Jacobian, made when first wanted.
  private(set) var row: Storage<Element>?

  /// For blocks of up to `capacity` samples.
  init(_ graph: NetworkGraph, _ layout: PlyLayout, _ algebra: TaylorAlgebra, capacity: Int) throws(EngineError) {
    self.graph = graph
    self.layout = layout
    self.algebra = algebra
    self.capacity = capacity
    block = try GraphBlock(graph, layout, capacity: capacity)
    var plies = [block.ply]
    for _ in 1..<max(algebra.count, 1) { plies.append(try Ply(layout, capacity: capacity)) }
    self.plies = plies
    var directions: [LayerParameters<Element>] = []
    for _ in algebra.weightCoefficients.dropFirst() { directions.append(try LayerParameters(graph)) }
    self.directions = directions
    scratch = try LayerScratch(graph, algebra, rows: capacity)
    plainPowers = LayerPowers(plain)
    powers = LayerPowers(algebra)
    let outputs = graph.outputs
    lossSeries = TaylorLoss(
      graph.loss, outputs, algebra,
      powers.of(input: false, isLinear: graph.loss.kind == .squaredError || graph.loss.kind == .huber),
      targets: try Matrix(rows: capacity, columns: outputs))
    var squares: [Matrix<Element>] = []
    for _ in 0..<algebra.count { squares.append(try Matrix(rows: capacity, columns: outputs)) }
    self.squares = squares
  }

  func makeRow() throws(EngineError) {
    if row == nil { row = try Storage(count: graph.parameterCount) }
  }

  /// Makes `stack`, where the first layer is a convolution of few channels.
  func makeStack() throws(EngineError) {
    guard stack == nil, case .convolution(let layer) = graph.nodes[0].layer else { return }
    stack = try ConvolutionStack(layer, capacity: capacity)
  }

  // MARK: Passes through the layers

  /// What one pass is made with.
  private struct Pass {
    var algebra: TaylorAlgebra
    var powers: LayerPowers
    var first = 0
    var rows: Int
    var plies: [Ply<Element>]
    var coplies: [Ply<Element>]
    var parameters: [LayerParameters<Element>?]
    var tokens: UnsafePointer<Int64>?
    var isCurved = false
    /// Where in `stack` the first layer's tangents are, and its cotangents go.
    var place: Int?
  }

  private func step(_ pass: Pass, _ index: Int, _ member: ThreadTeam.Member) -> LayerStep<Element> {
    LayerStep(
      algebra: pass.algebra, first: pass.first, rows: pass.rows, index: index, node: graph.nodes[index], layout: layout,
      plies: pass.plies, coplies: pass.coplies, parameters: pass.parameters, scratch: scratch, tokens: pass.tokens,
      isCurved: pass.isCurved, powers: pass.powers, member: member)
  }

  private func forward(_ pass: Pass, _ member: ThreadTeam.Member) {
    for index in graph.nodes.indices where !member.isStopped {
      let step = step(pass, index, member)
      if index == 0, let stack, let place = pass.place {
        step.y(1).update(from: stack.values(place), count: stackedCount(pass))
      } else {
        graph.nodes[index].layer.forward(step)
      }
    }
  }

  private func backward(_ pass: Pass, _ member: ThreadTeam.Member) {
    for index in graph.nodes.indices.reversed() where graph.nodes[index].wantsBackward && !member.isStopped {
      graph.nodes[index].layer.backward(step(pass, index, member))
    }
  }

  /// Adds samples `rows` to gradients, a flat vector for each coefficient that is wanted.
  private func gradient(
    _ pass: Pass, _ rows: Range<Int>, into flat: [UnsafeMutablePointer<Element>?], _ member: ThreadTeam.Member
  ) {
    for index in graph.nodes.indices where graph.nodes[index].parameterCount > 0 && !member.isStopped {
      let node = graph.nodes[index]
      let step = step(pass, index, member)
      if index == 0, let stack, let place = pass.place {
        stack.values(place).update(from: step.gy(step.algebra.count - 1), count: stackedCount(pass))
      } else {
        node.layer.gradient(step, rows, into: flat.map { $0.map { $0 + node.offset } })
      }
    }
  }

  /// Numbers of the first layer's value in a block.
  private func stackedCount(_ pass: Pass) -> Int {
    pass.rows * layout.sizes[graph.nodes[0].output]  // bounded: its array
  }

  private func outputs(_ ply: Ply<Element>, _ rows: Int) -> Matrix<Element> {
    Matrix(borrowing: ply.array(layout.valueCount - 1), rows: rows, columns: graph.outputs)
  }

  private func cotangents(_ ply: Ply<Element>, _ rows: Int) -> Matrix<Element> {
    Matrix(borrowing: ply.array(2 * layout.valueCount - 1), rows: rows, columns: graph.outputs)
  }

  /// A block's inputs, images pixel by pixel.
  private func load(
    _ samples: Samples<Element>, _ first: Int, _ rows: Int, _ ply: Ply<Element>, _ member: ThreadTeam.Member
  ) {
    let shape = graph.shapes[0]
    let x = ply.array(0)
    switch shape.kind {
    case .tokens: break
    case .vector, .sequence:
      member.copy(samples.inputs.row(first), to: x, count: rows * shape.count)  // bounded: the value
    case .image:
      for row in 0..<rows {
        member.transpose(
          shape.channels, shape.positions, samples.inputs.row(first + row), shape.positions, x + row * shape.count,
          shape.channels)
      }
    }
  }

  private func tokens(_ samples: Samples<Element>, _ first: Int) -> UnsafePointer<Int64>? {
    samples.tokens.map { UnsafePointer($0.base + first * graph.inputs) }  // bounded: places in the tokens
  }

  private func plainPass(
    _ block: GraphBlock<Element>, _ w: LayerParameters<Element>, _ samples: Samples<Element>
  ) -> Pass {
    Pass(
      algebra: plain, powers: plainPowers, rows: block.rows, plies: [block.ply], coplies: [block.ply], parameters: [w],
      tokens: tokens(samples, block.first))
  }

  // MARK: Values

  /// The ordinary pass over samples `range` into `block`; returns the weighted loss.
  func run(
    _ w: LayerParameters<Element>, _ samples: Samples<Element>, _ range: Range<Int>, keeping depth: Depth,
    into block: GraphBlock<Element>, hasTargets: Bool = true, _ member: ThreadTeam.Member
  ) -> Double {
    block.rows = range.count
    block.first = range.lowerBound
    load(samples, range.lowerBound, range.count, block.ply, member)
    var pass = plainPass(block, w, samples)
    pass.isCurved = depth == .curvature
    forward(pass, member)
    guard hasTargets else { return 0 }
    let loss = block.loss.evaluate(
      samples, from: range.lowerBound, 0..<range.count, outputs(block.ply, range.count),
      into: cotangents(block.ply, range.count), order: depth.rawValue)
    if depth != .outputs { backward(pass, member) }
    return loss
  }

  /// The outputs of a block after its pass.
  func outputs(_ block: GraphBlock<Element>) -> Matrix<Element> { outputs(block.ply, block.rows) }

  /// Adds a block's gradient, or that of some of its rows, after its pass.
  func gradient(
    _ block: GraphBlock<Element>, _ w: LayerParameters<Element>, _ samples: Samples<Element>, _ rows: Range<Int>? = nil,
    into flat: UnsafeMutablePointer<Element>, _ member: ThreadTeam.Member
  ) {
    gradient(plainPass(block, w, samples), rows ?? 0..<block.rows, into: [flat], member)
  }

  // MARK: Tangents

  private func tangentPass(
    _ block: GraphBlock<Element>, _ w: LayerParameters<Element>, along direction: LayerParameters<Element>,
    _ samples: Samples<Element>
  ) -> Pass {
    var pass = plainPass(block, w, samples)
    pass.algebra = algebra
    pass.powers = powers
    pass.first = 1
    pass.plies = [block.ply, plies[1]]
    pass.coplies = pass.plies
    pass.parameters = [w, direction]
    return pass
  }

  /// J v, after `block`'s pass.
  func tangent(
    _ block: GraphBlock<Element>, _ w: LayerParameters<Element>, along direction: LayerParameters<Element>,
    _ samples: Samples<Element>, _ member: ThreadTeam.Member
  ) -> Matrix<Element> {
    forward(tangentPass(block, w, along: direction, samples), member)
    return outputs(plies[1], block.rows)
  }

  /// Adds a block's products of a curvature matrix with `directions` to `targets`.
  func products(
    _ kind: CurvatureKind, _ block: GraphBlock<Element>, _ w: LayerParameters<Element>, _ samples: Samples<Element>,
    _ directions: ArraySlice<LayerParameters<Element>>, into targets: [UnsafeMutablePointer<Element>],
    _ member: ThreadTeam.Member
  ) {
    let (most, offset) = (stack?.count ?? 1, graph.nodes[0].offset)
    var (directions, targets) = (directions, targets[...])
    while !directions.isEmpty && !member.isStopped {
      let (now, into) = (directions.prefix(most), targets.prefix(most))
      directions = directions.dropFirst(most)
      targets = targets.dropFirst(most)
      guard now.count > 1, let stack, let direction = now.first else {
        for (direction, target) in zip(now, into) {
          product(kind, block, w, along: direction, samples, into: target, member)
        }
        continue
      }
      let first = step(tangentPass(block, w, along: direction, samples), 0, member)
      stack.forward(first, now.map { $0.flat.base + offset })
      for (place, (direction, target)) in zip(now, into).enumerated() where !member.isStopped {
        product(kind, block, w, along: direction, samples, place: place, into: target, member)
      }
      stack.gradient(first, into: into.map { $0 + offset })
    }
  }

  /// Adds a block's product of a curvature matrix with a direction; where that has a place in `stack`, all but the first
  /// layer's part.
  private func product(
    _ kind: CurvatureKind, _ block: GraphBlock<Element>, _ w: LayerParameters<Element>,
    along direction: LayerParameters<Element>, _ samples: Samples<Element>, place: Int? = nil,
    into flat: UnsafeMutablePointer<Element>, _ member: ThreadTeam.Member
  ) {
    var pass = tangentPass(block, w, along: direction, samples)
    pass.isCurved = kind == .hessian
    pass.place = place
    forward(pass, member)
    let rows = 0..<block.rows
    let tangents = outputs(plies[1], block.rows)
    let cotangents = self.cotangents(plies[1], block.rows)
    switch kind {
    case .hessian:
      block.loss.multiply(rows, tangents, into: cotangents)
      backward(pass, member)
      gradient(pass, rows, into: [nil, flat], member)
      return
    case .gaussNewton: block.loss.multiply(rows, tangents, into: cotangents)
    case .empiricalFisher:
      // g gᵀ v: each sample's own cotangent, times its gradient's product with v.
      let own = self.cotangents(block.ply, block.rows)
      for row in rows {
        let weight = block.loss.weights.base[row]
        let product = Element.dot(graph.outputs, own.row(row), tangents.row(row))
        let factor = weight == 0 ? 0 : product / weight
        for column in 0..<graph.outputs { cotangents[row, column] = factor * own[row, column] }
      }
    }
    pullBack(block, w, samples, member)
    var pulled = pulled(block, w, samples)
    pulled.place = place
    gradient(pulled, rows, into: [flat], member)
  }

  private func pulled(
    _ block: GraphBlock<Element>, _ w: LayerParameters<Element>, _ samples: Samples<Element>
  ) -> Pass {
    var pass = plainPass(block, w, samples)
    pass.coplies = [plies[1]]
    return pass
  }

  /// The transposed Jacobian of the cotangents in `cotangent(block)`.
  func pullBack(
    _ block: GraphBlock<Element>, _ w: LayerParameters<Element>, _ samples: Samples<Element>,
    _ member: ThreadTeam.Member
  ) { backward(pulled(block, w, samples), member) }

  /// Where cotangents of a block's outputs go that are pulled back.
  func cotangent(_ block: GraphBlock<Element>) -> Matrix<Element> { cotangents(plies[1], block.rows) }

  /// Adds the gradient of what was pulled back.
  func pulledGradient(
    _ block: GraphBlock<Element>, _ w: LayerParameters<Element>, _ samples: Samples<Element>, _ rows: Range<Int>,
    into flat: UnsafeMutablePointer<Element>, _ member: ThreadTeam.Member
  ) { gradient(pulled(block, w, samples), rows, into: [flat], member) }

  // MARK: Series

  /// Adds the gradient's coefficients of samples `range` along the directions loaded, those that `flat` has a place for;
  /// returns the weighted loss.
  func series(
    _ w: LayerParameters<Element>, _ samples: Samples<Element>, _ range: Range<Int>,
    into flat: [UnsafeMutablePointer<Element>?], _ member: ThreadTeam.Member
  ) -> Double {
    let rows = range.count
    load(samples, range.lowerBound, rows, plies[0], member)
    var parameters = [LayerParameters<Element>?](repeating: nil, count: algebra.count)
    parameters[0] = w
    for (number, k) in algebra.weightCoefficients.dropFirst().enumerated() { parameters[k] = directions[number] }
    let pass = Pass(
      algebra: algebra, powers: powers, rows: rows, plies: plies, coplies: plies, parameters: parameters,
      tokens: tokens(samples, range.lowerBound))
    forward(pass, member)
    let loss = lossSeries.cotangent(
      samples, range.lowerBound, 0..<rows, plies.map { outputs($0, rows) }, into: plies.map { cotangents($0, rows) },
      squares: squares, scratch.taylor)
    backward(pass, member)
    gradient(pass, 0..<rows, into: flat, member)
    return loss
  }
}
