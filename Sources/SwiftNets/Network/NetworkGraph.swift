/// A net of any of the layers in `Layer`: what they are, how they are joined, and what a flat parameter vector means.
///
/// Value 0 is the net's input, value i + 1 what node i computes; a node reads values before its own. The last node's
/// value, a vector, is the net's output.
public struct NetworkGraph: Sendable {
  /// A layer as it comes over a language boundary.
  public struct Description: Sendable {
    public enum Kind: Int32, Sendable, CaseIterable {
      case dense, convolution, activation, averagePool, maxPool, globalAveragePool, flatten, layerNorm, groupNorm,
        frozenBatchNorm, embedding, positionEmbedding, attention, mean, add
    }

    public let kind: Kind
    /// The value it reads, and for `add` the other one.
    public let input: Int
    public let second: Int
    /// Where its parameters begin.
    public let offset: Int
    /// What the kind takes; see `NetworkGraph.layer`.
    public let integers: [Int]
    public let number: Double
    /// Means, then variances, of `frozenBatchNorm`.
    public let statistics: [Double]
    /// Of `activation`: in place of its kind.
    public let function: ForeignFunction?

    public init(
      kind: Kind, input: Int, second: Int, offset: Int, integers: [Int], number: Double, statistics: [Double] = [],
      function: ForeignFunction? = nil
    ) {
      self.kind = kind
      self.input = input
      self.second = second
      self.offset = offset
      self.integers = integers
      self.number = number
      self.statistics = statistics
      self.function = function
    }
  }

  /// The net's input: its numbers come as images [channels, height, width], as rows of a sequence, or as tokens.
  public enum Input: Sendable {
    case vector(Int)
    case image(channels: Int, height: Int, width: Int)
    case sequence(length: Int, channels: Int)
    case tokens(Int)
  }

  struct Node: Sendable {
    let layer: Layer
    let input: Int
    let second: Int
    let output: Int
    let offset: Int
    let parameterCount: Int
    /// Whether a parameter below wants this node's cotangent of its input.
    let needsInput: Bool
    /// Whether the way back goes through it: attention's own parameters want more than its output's cotangent.
    var wantsBackward: Bool {
      if case .attention = layer { return true }
      return needsInput
    }
    /// Whether a later node has set the cotangent of the input already.
    let addsInput: Bool
    let addsSecond: Bool
  }

  let nodes: [Node]
  /// The shape of each value.
  let shapes: [ValueShape]
  public let loss: LossFunction
  public let parameterCount: Int
  /// Parameters of the nodes that have any, in the order of the vector.
  public let blocks: [Range<Int>]

  public var inputs: Int { shapes[0].count }
  public var outputs: Int { shapes[shapes.count - 1].count }
  public var takesTokens: Bool { shapes[0].kind == .tokens }
  /// Classes of tokens: the smallest table that reads them.
  let vocabulary: Int

  /// Multiplications of a forward pass over one sample, about.
  let work: Int

  /// - Throws: `invalidArgument` where a layer does not take what comes, or parameters overlap or leave a gap.
  public init(input: Input, layers: [Description], loss: LossFunction) throws(EngineError) {
    var shapes = [try Self.shape(input)]
    var kept: [Layer] = []
    var hasParameters = [false]  // whether a parameter is at or below a value
    for (index, description) in layers.enumerated() {
      func require(_ value: Int) throws(EngineError) -> ValueShape {
        guard (0...index).contains(value) else {
          throw .invalidArgument("layer \(index) reads value \(value); it must be from 0 to \(index)")
        }
        return shapes[value]
      }
      let x = try require(description.input)
      let isAdd = description.kind == .add
      let second = isAdd ? try require(description.second) : nil
      let (layer, y) = try Self.layer(description, index, x, second)
      guard y.count < 1 << 31 else {
        throw .invalidArgument("layer \(index) makes \(y) of each sample, more than fits")
      }
      kept.append(layer)
      shapes.append(y)
      hasParameters.append(
        layer.parameterCount > 0 || hasParameters[description.input] || (isAdd && hasParameters[description.second]))
    }
    guard let last = shapes.last, layers.count > 0, last.kind == .vector else {
      throw .invalidArgument(
        layers.isEmpty ? "a net needs a layer" : "the last layer makes \(shapes[shapes.count - 1]); expected a vector")
    }
    self.shapes = shapes
    self.loss = loss
    (blocks, parameterCount) = try Self.blocks(kept, layers)
    var nodes: [Node] = []
    var isSet = Array(repeating: false, count: shapes.count)
    // From the last: who comes first backwards sets a value's cotangent, who comes later adds to it.
    for (index, description) in layers.enumerated().reversed() {
      let isAdd = description.kind == .add
      let needs = hasParameters[description.input] || (isAdd && hasParameters[description.second])
      let adds = isSet[description.input]
      isSet[description.input] = isSet[description.input] || needs
      var addsSecond = false
      if isAdd {
        addsSecond = isSet[description.second]
        isSet[description.second] = true
      }
      nodes.append(
        Node(
          layer: kept[index], input: description.input, second: description.second, output: index + 1,
          offset: description.offset, parameterCount: kept[index].parameterCount, needsInput: needs, addsInput: adds,
          addsSecond: addsSecond))
    }
    self.nodes = nodes.reversed()
    for index in 1..<shapes.count - 1 where !isSet[index] && hasParameters[index] {
      throw .invalidArgument("nothing reads what layer \(index - 1) makes")
    }
    var vocabulary = Int.max
    var work = 0
    for node in self.nodes {
      if case .embedding(let table) = node.layer { vocabulary = min(vocabulary, table.vocabulary) }
      work = saturating(sum: work, node.layer.work)
    }
    self.vocabulary = vocabulary
    self.work = work
  }

  private static func shape(_ input: Input) throws(EngineError) -> ValueShape {
    let shape: ValueShape
    let sizes: [Int]
    switch input {
    case .vector(let width): (shape, sizes) = (.vector(width), [width])
    case .image(let channels, let height, let width):
      (shape, sizes) = (.image(height, width, channels), [channels, height, width])
    case .sequence(let length, let channels): (shape, sizes) = (.sequence(length, channels), [length, channels])
    case .tokens(let length): (shape, sizes) = (.tokens(length), [length])
    }
    guard sizes.allSatisfy({ $0 >= 1 }), shape.count < 1 << 31 else {
      throw .invalidArgument("the input's sizes are \(sizes); each must be at least 1 and their product fit in 31 bits")
    }
    return shape
  }

  /// The ranges of the layers' parameters, which must fill the vector without overlap.
  private static func blocks(
    _ layers: [Layer], _ descriptions: [Description]
  ) throws(EngineError) -> ([Range<Int>], Int) {
    var ranges: [Range<Int>] = []
    for (layer, description) in zip(layers, descriptions) where layer.parameterCount > 0 {
      guard (0..<1 << 44).contains(description.offset) else {
        throw .invalidArgument("an offset is \(description.offset); it must be at least 0")
      }
      ranges.append(description.offset..<saturating(sum: description.offset, layer.parameterCount))
    }
    ranges.sort { $0.lowerBound < $1.lowerBound }
    var end = 0
    for range in ranges {
      guard range.lowerBound == end else {
        throw .invalidArgument("parameters overlap or leave a gap at \(min(end, range.lowerBound))")
      }
      end = range.upperBound
    }
    guard end > 0, end < 1 << 44 else {
      throw .invalidArgument(end == 0 ? "no layer has parameters" : "the layers have too many parameters")
    }
    return (ranges, end)
  }

  /// The layer that a description is of, and what it makes of `x`.
  private static func layer(
    _ description: Description, _ index: Int, _ x: ValueShape, _ second: ValueShape?
  ) throws(EngineError) -> (Layer, ValueShape) {
    let given = description.integers
    func integers(_ count: Int) throws(EngineError) -> [Int] {
      guard given.count >= count, given.prefix(count).allSatisfy({ (0..<1 << 31).contains($0) }) else {
        throw .invalidArgument("layer \(index) has the sizes \(given); expected \(count), none negative")
      }
      return given
    }
    func refusal(_ wanted: String) -> EngineError {
      .invalidArgument("layer \(index) is given \(x); it takes \(wanted)")
    }
    if x.kind == .tokens && description.kind != .embedding { throw refusal("numbers, and only an embedding tokens") }
    switch description.kind {
    case .dense:  // outputs, has bias
      let sizes = try integers(2)
      if case .image = x.kind { throw refusal("a vector or a sequence") }
      guard sizes[0] >= 1 else { throw .invalidArgument("layer \(index) has no outputs") }
      let layer = DenseLayer(input: x, outputs: sizes[0], hasBias: sizes[1] != 0)
      return (.dense(layer), ValueShape(kind: x.kind, positions: x.positions, channels: sizes[0]))
    case .convolution:  // outputs, kernel (2), stride (2), padding (2), groups, has bias
      let sizes = try integers(9)
      let window = try PatchWindow(x, index, Array(sizes[1...6]))
      let (outputs, groups) = (sizes[0], sizes[7])
      guard outputs >= 1, groups >= 1, outputs % groups == 0, x.channels % groups == 0 else {
        throw .invalidArgument(
          "layer \(index) has \(groups) groups for \(x.channels) channels in and \(outputs) out; they must divide both")
      }
      let layer = ConvolutionLayer(window: window, outputs: outputs, groups: groups, hasBias: sizes[8] != 0)
      return (.convolution(layer), .image(window.outHeight, window.outWidth, outputs))
    case .activation:  // kind
      let code = try integers(1)[0]
      guard let kind = Int32(exactly: code).flatMap(Activation.Kind.init(rawValue:)), description.number.isFinite else {
        throw .invalidArgument("layer \(index) is activation \(code) with parameter \(description.number)")
      }
      let activation = Activation(kind, parameter: description.number, function: description.function)
      return (.activation(ActivationLayer(activation, size: x.count)), x)
    case .averagePool:  // kernel (2), stride (2), padding (2), count_include_pad
      let sizes = try integers(7)
      let window = try PatchWindow(x, index, Array(sizes[0...5]), isPool: true)
      return (
        .averagePool(AveragePoolLayer(window: window, countsPadding: sizes[6] != 0)),
        .image(window.outHeight, window.outWidth, x.channels)
      )
    case .maxPool:  // kernel (2), stride (2), padding (2)
      let window = try PatchWindow(x, index, Array(try integers(6)[0...5]), isPool: true)
      return (.maxPool(MaxPoolLayer(window: window)), .image(window.outHeight, window.outWidth, x.channels))
    case .globalAveragePool:
      guard case .image = x.kind else { throw refusal("an image") }
      return (.mean(MeanLayer(input: x)), .vector(x.channels))
    case .mean:
      guard case .sequence = x.kind else { throw refusal("a sequence") }
      return (.mean(MeanLayer(input: x)), .vector(x.channels))
    case .flatten: return (.flatten(FlattenLayer(input: x)), .vector(x.count))
    case .layerNorm:  // affine
      if case .image = x.kind { throw refusal("a vector or a sequence") }
      let affine = try integers(1)[0] != 0
      try requireEpsilon(description, index)
      return (
        .layerNorm(
          LayerNormLayer(positions: x.positions, channels: x.channels, epsilon: description.number, isAffine: affine)),
        x
      )
    case .groupNorm:  // groups, affine
      let sizes = try integers(2)
      if case .sequence = x.kind { throw refusal("an image or a vector") }
      guard sizes[0] >= 1, x.channels % sizes[0] == 0 else {
        throw .invalidArgument("layer \(index) has \(sizes[0]) groups for \(x.channels) channels; they must divide it")
      }
      try requireEpsilon(description, index)
      return (
        .groupNorm(
          GroupNormLayer(
            positions: x.positions, channels: x.channels, groups: sizes[0], epsilon: description.number,
            isAffine: sizes[1] != 0)),
        x
      )
    case .frozenBatchNorm:  // affine
      let affine = try integers(1)[0] != 0
      try requireEpsilon(description, index)
      let statistics = description.statistics
      guard statistics.count == saturating(2, x.channels), statistics.allSatisfy(\.isFinite),
        statistics.suffix(x.channels).allSatisfy({ $0 >= 0 })
      else {
        throw .invalidArgument(
          "layer \(index) has \(statistics.count) statistics for \(x.channels) channels; expected finite means and "
            + "variances, these not negative")
      }
      return (.frozenNorm(FrozenNormLayer(input: x, statistics, description.number, isAffine: affine)), x)
    case .embedding:  // vocabulary, width
      let sizes = try integers(2)
      guard x.kind == .tokens else { throw refusal("tokens") }
      guard sizes[0] >= 1, sizes[1] >= 1 else { throw .invalidArgument("layer \(index) is an empty table") }
      return (
        .embedding(EmbeddingLayer(length: x.positions, vocabulary: sizes[0], width: sizes[1])),
        .sequence(x.positions, sizes[1])
      )
    case .positionEmbedding:
      guard case .sequence = x.kind else { throw refusal("a sequence") }
      return (.position(PositionLayer(size: x.count)), x)
    case .attention:  // heads, has bias
      let sizes = try integers(2)
      guard case .sequence = x.kind else { throw refusal("a sequence") }
      guard sizes[0] >= 1, x.channels % sizes[0] == 0 else {
        throw .invalidArgument("layer \(index) has \(sizes[0]) heads for a width of \(x.channels); they must divide it")
      }
      return (.attention(AttentionLayer(input: x, heads: sizes[0], hasBias: sizes[1] != 0)), x)
    case .add:
      guard let second, second == x else {
        throw .invalidArgument("layer \(index) adds \(second.map(String.init(describing:)) ?? "nothing") to \(x)")
      }
      return (.add(AddLayer(size: x.count)), x)
    }
  }

  private static func requireEpsilon(_ description: Description, _ index: Int) throws(EngineError) {
    guard description.number > 0, description.number.isFinite else {
      throw .invalidArgument("layer \(index) has eps \(description.number); it must be positive")
    }
  }
}
