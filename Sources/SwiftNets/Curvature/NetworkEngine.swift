/// A net with all its derivatives in float64 or float32, behind untyped pointers to scalars of that type.
///
/// Each function is concrete for both types, so that the compiler specialises everything below it.
public final class NetworkEngine: Sendable {
  public enum Scalars: Int32, Sendable { case float64, float32 }

  /// Samples as they come over a language boundary; see `Samples`.
  public struct Batch {
    public let count: Int
    public let inputs: UnsafeRawPointer
    /// [count, outputs], or nil.
    public let targets: UnsafeRawPointer?
    /// [count], or nil.
    public let labels: UnsafePointer<Int64>?
    /// [count], or nil for ones.
    public let weights: UnsafeRawPointer?
    public let scale: Double

    public init(
      count: Int, inputs: UnsafeRawPointer, targets: UnsafeRawPointer?, labels: UnsafePointer<Int64>?,
      weights: UnsafeRawPointer?, scale: Double
    ) {
      self.count = count
      self.inputs = inputs
      self.targets = targets
      self.labels = labels
      self.weights = weights
      self.scale = scale
    }
  }

  private enum Typed: Sendable {
    case float64(AnyDerivatives<Double>)
    case float32(AnyDerivatives<Float>)
  }

  public let scalars: Scalars
  public let parameterCount: Int
  public let inputs: Int
  public let outputs: Int
  /// Whether inputs are int64 tokens in place of scalars.
  public let takesTokens: Bool
  /// Parameters of each layer that has any, in the order of the vector.
  public let blocks: [Range<Int>]
  /// The net where it is a chain of dense layers with passes of its own.
  public let chain: MultilayerPerceptron?
  /// Whether calls are to stay on the caller's thread, as there are functions of the caller's own.
  public let isAlone: Bool
  private let loss: LossFunction
  private let vocabulary: Int
  private let typed: Typed

  public init(_ net: MultilayerPerceptron, _ scalars: Scalars) {
    self.scalars = scalars
    parameterCount = net.parameterCount
    inputs = net.inputs
    outputs = net.outputs
    takesTokens = false
    blocks = net.layers.map(\.parameters)
    chain = net
    isAlone = net.layers.contains { $0.activation.function != nil }
    loss = net.loss
    vocabulary = 0
    typed =
      scalars == .float64 ? .float64(.chain(NetworkDerivatives(net))) : .float32(.chain(NetworkDerivatives(net)))
  }

  public init(_ graph: NetworkGraph, _ scalars: Scalars) {
    self.scalars = scalars
    parameterCount = graph.parameterCount
    inputs = graph.inputs
    outputs = graph.outputs
    takesTokens = graph.takesTokens
    blocks = graph.blocks
    chain = nil
    isAlone = graph.nodes.contains {
      if case .activation(let layer) = $0.layer { layer.activation.function != nil } else { false }
    }
    loss = graph.loss
    vocabulary = graph.vocabulary
    typed =
      scalars == .float64 ? .float64(.graph(GraphDerivatives(graph))) : .float32(.graph(GraphDerivatives(graph)))
  }

  /// Bytes, about: what a point on so many samples keeps for its products, and what a call works in.
  public func memory(samples: Int) -> (point: Int, working: Int) {
    switch typed {
    case .float64(let d): d.memory(samples)
    case .float32(let d): d.memory(samples)
    }
  }

  private func samples<T: KernelScalar>(_ batch: Batch) throws(EngineError) -> Samples<T> {
    try requireAddressable("x", batch.count, inputs)
    try requireAddressable("the samples' outputs", batch.count, outputs)
    var targets = Samples<T>.Targets.none
    if let rows = batch.targets {
      targets = .rows(Matrix(reading: reading(rows), rows: batch.count, columns: outputs))
    } else if let labels = batch.labels {
      guard loss.kind == .softmaxCrossEntropy else {
        throw .invalidArgument("labels are for the softmax cross-entropy loss; give targets")
      }
      let copy = try Integers<Int64>(count: batch.count)
      copy.base.update(from: labels, count: batch.count)
      for sample in 0..<batch.count where copy.base[sample] < 0 || copy.base[sample] >= Int64(outputs) {
        throw .invalidArgument(
          "labels[\(sample)] is \(copy.base[sample]); it must be from 0 to \(outputs - 1)")
      }
      targets = .labels(copy)
    }
    return Samples(
      inputs: Matrix(reading: reading(batch.inputs), rows: batch.count, columns: takesTokens ? 0 : inputs),
      tokens: takesTokens ? try tokens(batch) : nil, targets: targets,
      weights: batch.weights.map { reading($0) }, scale: T(batch.scale))
  }

  /// A copy of a batch's tokens, each a row of the net's tables.
  private func tokens(_ batch: Batch) throws(EngineError) -> Integers<Int64> {
    let count = batch.count * inputs  // bounded: addressable, as was checked
    let copy = try Integers<Int64>(count: count)
    copy.base.update(from: batch.inputs.assumingMemoryBound(to: Int64.self), count: count)
    for index in 0..<count where copy.base[index] < 0 || copy.base[index] >= Int64(vocabulary) {
      throw .invalidArgument(
        "x[\(index / inputs), \(index % inputs)] is \(copy.base[index]); it must be from 0 to \(vocabulary - 1)")
    }
    return copy
  }

  private func withTargets<T: KernelScalar>(_ batch: Batch) throws(EngineError) -> Samples<T> {
    guard batch.targets != nil || batch.labels != nil else { throw .invalidArgument("targets and labels are NULL") }
    return try samples(batch)
  }

  // MARK: Values and gradients

  public func loss(_ w: UnsafeRawPointer, _ batch: Batch, interruption: Interruption) throws(EngineError) -> Double {
    switch typed {
    case .float64(let d): try d.loss(reading(w), withTargets(batch), interruption: interruption)
    case .float32(let d): try d.loss(reading(w), withTargets(batch), interruption: interruption)
    }
  }

  public func predict(
    _ w: UnsafeRawPointer, _ batch: Batch, into out: UnsafeMutableRawPointer, interruption: Interruption
  ) throws(EngineError) {
    switch typed {
    case .float64(let d): try d.predict(reading(w), samples(batch), into: writing(out), interruption: interruption)
    case .float32(let d): try d.predict(reading(w), samples(batch), into: writing(out), interruption: interruption)
    }
  }

  public func gradient(
    _ w: UnsafeRawPointer, _ batch: Batch, into out: UnsafeMutableRawPointer, interruption: Interruption
  ) throws(EngineError) -> Double {
    switch typed {
    case .float64(let d): try d.gradient(reading(w), withTargets(batch), into: writing(out), interruption: interruption)
    case .float32(let d): try d.gradient(reading(w), withTargets(batch), into: writing(out), interruption: interruption)
    }
  }

  public func sampleGradients(
    _ w: UnsafeRawPointer, _ batch: Batch, into out: UnsafeMutableRawPointer, interruption: Interruption
  ) throws(EngineError) {
    try requireAddressable("out", batch.count, parameterCount)
    switch typed {
    case .float64(let d):
      try d.perSampleGradients(reading(w), withTargets(batch), into: writing(out), interruption: interruption)
    case .float32(let d):
      try d.perSampleGradients(reading(w), withTargets(batch), into: writing(out), interruption: interruption)
    }
  }

  // MARK: Curvature

  public func products(
    _ kind: CurvatureKind, _ w: UnsafeRawPointer, _ batch: Batch, _ v: UnsafeRawPointer, _ count: Int,
    into out: UnsafeMutableRawPointer, interruption: Interruption
  ) throws(EngineError) {
    try requireAddressable("v", count, parameterCount)
    switch typed {
    case .float64(let d):
      try d.products(
        kind, reading(w), withTargets(batch), reading(v), count, into: writing(out), interruption: interruption)
    case .float32(let d):
      try d.products(
        kind, reading(w), withTargets(batch), reading(v), count, into: writing(out), interruption: interruption)
    }
  }

  /// The whole matrix, or for layers upper ≥ lower the block between them.
  public func dense(
    _ kind: CurvatureKind, _ w: UnsafeRawPointer, _ batch: Batch, block: (upper: Int, lower: Int)?,
    into out: UnsafeMutableRawPointer, interruption: Interruption
  ) throws(EngineError) {
    if let block, !blocks.indices.contains(block.upper) || !(0...block.upper).contains(block.lower) {
      throw .invalidArgument("the block is (\(block.upper), \(block.lower)) of \(blocks.count) layers; lower ≤ upper")
    }
    let rows = block.map { blocks[$0.upper].count } ?? parameterCount
    let columns = block.map { blocks[$0.lower].count } ?? parameterCount
    try requireAddressable("out", rows, columns)
    switch typed {
    case .float64(let d):
      try d.dense(
        kind, reading(w), withTargets(batch), block: block,
        into: Matrix(borrowing: writing(out), rows: rows, columns: columns), interruption: interruption)
    case .float32(let d):
      try d.dense(
        kind, reading(w), withTargets(batch), block: block,
        into: Matrix(borrowing: writing(out), rows: rows, columns: columns), interruption: interruption)
    }
  }

  public func diagonal(
    _ kind: CurvatureKind, _ w: UnsafeRawPointer, _ batch: Batch, into out: UnsafeMutableRawPointer,
    interruption: Interruption
  ) throws(EngineError) {
    switch typed {
    case .float64(let d):
      try d.diagonal(kind, reading(w), withTargets(batch), into: writing(out), interruption: interruption)
    case .float32(let d):
      try d.diagonal(kind, reading(w), withTargets(batch), into: writing(out), interruption: interruption)
    }
  }

  public func linearize(
    _ w: UnsafeRawPointer, _ batch: Batch, gradient: UnsafeMutableRawPointer,
    interruption: Interruption = Interruption()
  ) throws(EngineError) -> (Point, Double) {
    switch typed {
    case .float64(let d):
      let (point, loss) = try d.linearize(
        reading(w), withTargets(batch), gradient: writing(gradient), interruption: interruption)
      return (Point(.float64(point), parameterCount, isAlone: isAlone), loss)
    case .float32(let d):
      let (point, loss) = try d.linearize(
        reading(w), withTargets(batch), gradient: writing(gradient), interruption: interruption)
      return (Point(.float32(point), parameterCount, isAlone: isAlone), loss)
    }
  }

  // MARK: Jacobians

  public func jvp(
    _ w: UnsafeRawPointer, _ batch: Batch, _ v: UnsafeRawPointer, _ count: Int, into out: UnsafeMutableRawPointer,
    interruption: Interruption
  ) throws(EngineError) {
    try requireAddressable("v", count, parameterCount)
    try requireAddressable("out", count, batch.count, outputs)
    switch typed {
    case .float64(let d):
      try d.jvp(reading(w), samples(batch), reading(v), count, into: writing(out), interruption: interruption)
    case .float32(let d):
      try d.jvp(reading(w), samples(batch), reading(v), count, into: writing(out), interruption: interruption)
    }
  }

  public func vjp(
    _ w: UnsafeRawPointer, _ batch: Batch, _ u: UnsafeRawPointer, _ count: Int, into out: UnsafeMutableRawPointer,
    interruption: Interruption
  ) throws(EngineError) {
    try requireAddressable("u", count, batch.count, outputs)
    try requireAddressable("out", count, parameterCount)
    switch typed {
    case .float64(let d):
      try d.vjp(reading(w), samples(batch), reading(u), count, into: writing(out), interruption: interruption)
    case .float32(let d):
      try d.vjp(reading(w), samples(batch), reading(u), count, into: writing(out), interruption: interruption)
    }
  }

  public func jacobian(
    _ w: UnsafeRawPointer, _ batch: Batch, into out: UnsafeMutableRawPointer, interruption: Interruption
  ) throws(EngineError) {
    try requireAddressable("out", batch.count, outputs, parameterCount)
    switch typed {
    case .float64(let d): try d.jacobian(reading(w), samples(batch), into: writing(out), interruption: interruption)
    case .float32(let d): try d.jacobian(reading(w), samples(batch), into: writing(out), interruption: interruption)
    }
  }

  // MARK: Taylor series

  /// Coefficients 0 to `order` of the gradient along v, as rows of `out`; returns the loss.
  public func taylor(
    _ w: UnsafeRawPointer, _ batch: Batch, order: Int, _ v: UnsafeRawPointer, into out: UnsafeMutableRawPointer,
    interruption: Interruption
  ) throws(EngineError) -> Double {
    guard (0...3).contains(order) else { throw .invalidArgument("order is \(order); it must be from 0 to 3") }
    let algebra = TaylorAlgebra.series(order: order)
    let kept = Array(0...order)
    switch typed {
    case .float64(let d):
      return try d.taylor(
        algebra, reading(w), withTargets(batch), directions: order > 0 ? [reading(v)] : [], keeping: kept,
        into: writing(out), interruption: interruption)
    case .float32(let d):
      return try d.taylor(
        algebra, reading(w), withTargets(batch), directions: order > 0 ? [reading(v)] : [], keeping: kept,
        into: writing(out), interruption: interruption)
    }
  }

  /// The third or fourth derivative applied to one or two `directions` and each of `count` rows of v.
  public func multilinear(
    _ w: UnsafeRawPointer, _ batch: Batch, directions: [UnsafeRawPointer], _ v: UnsafeRawPointer, _ count: Int,
    into out: UnsafeMutableRawPointer, interruption: Interruption
  ) throws(EngineError) {
    try requireAddressable("v", count, parameterCount)
    guard (1...2).contains(directions.count) else {
      throw .invalidArgument("\(directions.count) directions; there must be 1 or 2")
    }
    switch typed {
    case .float64(let d):
      try d.multilinear(
        reading(w), withTargets(batch), directions: directions.map { reading($0) }, reading(v), count,
        into: writing(out), interruption: interruption)
    case .float32(let d):
      try d.multilinear(
        reading(w), withTargets(batch), directions: directions.map { reading($0) }, reading(v), count,
        into: writing(out), interruption: interruption)
    }
  }
}

func reading<T: Scalar>(_ pointer: UnsafeRawPointer) -> UnsafePointer<T> {
  pointer.assumingMemoryBound(to: T.self)
}

func writing<T: Scalar>(_ pointer: UnsafeMutableRawPointer) -> UnsafeMutablePointer<T> {
  pointer.assumingMemoryBound(to: T.self)
}
