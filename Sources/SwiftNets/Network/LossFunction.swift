/// The loss of one sample as a function of the net's outputs z and a target y.
public struct LossFunction: Equatable, Sendable {
  public enum Kind: Int32, Sendable, CaseIterable {
    /// ½ Σ (z − y)²
    case squaredError
    /// Σ softplus(z) − y z, with z the logits
    case binaryCrossEntropy
    /// Σ ½ r² where |r| < δ, else δ (|r| − ½ δ), with r = z − y
    case huber
    /// −Σ y log softmax(z)
    case softmaxCrossEntropy
  }

  public let kind: Kind
  /// δ for `huber`; unused otherwise.
  public let parameter: Double

  public init(_ kind: Kind, parameter: Double = 0) {
    self.kind = kind
    self.parameter = parameter
  }

  /// Whether the outputs do not mix: the loss's Hessian in z is diagonal.
  var isElementwise: Bool { kind != .softmaxCrossEntropy }
}
