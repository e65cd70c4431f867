import CKernels

/// An elementwise activation s(a), with its derivatives to fourth order in `Activations.h`.
///
/// At a kink the derivatives from the left hold. The second and higher ones of those that are piecewise linear are 0
/// everywhere, as in the original scripts.
public struct Activation: Equatable, Sendable {
  public enum Kind: Int32, Sendable, CaseIterable {
    case identity, leakyReLU, tanh, sigmoid, softplus, silu, gelu, geluTanh, sine, elu
  }

  public let kind: Kind
  /// The slope left of 0 for `leakyReLU`, alpha for `elu`; unused otherwise.
  public let parameter: Double

  public init(_ kind: Kind, parameter: Double = 0) {
    self.kind = kind
    self.parameter = parameter
  }

  /// Whether s″ is 0 everywhere.
  var isPiecewiseLinear: Bool { kind == .identity || kind == .leakyReLU }
}
