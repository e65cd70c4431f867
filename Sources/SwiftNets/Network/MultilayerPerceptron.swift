/// The shape of a net of dense layers: what a flat parameter vector means.
///
/// Parameters are flat, row-major, layer by layer: weights [in, out], then the bias. A layer with a bias is therefore
/// one matrix of in + 1 rows whose input has a last column of ones, and that is how the engine treats it.
public struct MultilayerPerceptron: Equatable, Sendable {
  /// One dense layer and its activation.
  public struct Layer: Equatable, Sendable {
    /// Inputs, without the column of ones.
    public let fanIn: Int
    /// Outputs.
    public let width: Int
    public let hasBias: Bool
    public let activation: Activation
    /// Where the layer's parameters start in the flat vector.
    public let offset: Int

    /// Rows of the layer's matrix: `fanIn`, and one more for the bias.
    public var rows: Int { hasBias ? fanIn + 1 : fanIn }
    public var parameterCount: Int { rows * width }  // bounded: neither is more than 2³¹
    public var parameters: Range<Int> { offset..<offset + parameterCount }
  }

  public let layers: [Layer]
  public let loss: LossFunction
  public let parameterCount: Int

  /// - Parameters:
  ///   - sizes: the inputs' width, then each layer's; at least two, none less than 1.
  ///   - activations: one a layer, the output's last.
  /// - Throws: `invalidArgument` when these do not fit together or a parameter is out of range.
  public init(sizes: [Int], activations: [Activation], hasBias: Bool, loss: LossFunction) throws(EngineError) {
    guard sizes.count >= 2 else {
      throw .invalidArgument("sizes has \(sizes.count) entries; it must have at least 2")
    }
    guard activations.count == sizes.count - 1 else {
      throw .invalidArgument("\(activations.count) activations for \(sizes.count - 1) layers")
    }
    if loss.kind == .huber, !(loss.parameter > 0 && loss.parameter.isFinite) {
      throw .invalidArgument("delta is \(loss.parameter); it must be positive")
    }
    var layers: [Layer] = []
    var offset = 0
    for (index, activation) in activations.enumerated() {
      let (fanIn, width) = (sizes[index], sizes[index + 1])
      guard fanIn >= 1, width >= 1, fanIn < 1 << 31, width < 1 << 31 else {
        throw .invalidArgument("sizes are \(sizes); each must be at least 1 and fit in 31 bits")
      }
      guard activation.parameter.isFinite else {
        throw .invalidArgument("an activation's parameter is \(activation.parameter); it must be finite")
      }
      let layer = Layer(fanIn: fanIn, width: width, hasBias: hasBias, activation: activation, offset: offset)
      layers.append(layer)
      let (end, overflow) = offset.addingReportingOverflow(layer.parameterCount)
      guard !overflow, end < 1 << 44 else { throw .invalidArgument("sizes \(sizes) give too many parameters") }
      offset = end
    }
    self.layers = layers
    self.loss = loss
    parameterCount = offset
  }

  public var depth: Int { layers.count }
  public var inputs: Int { layers[0].fanIn }
  public var outputs: Int { layers[depth - 1].width }
}
