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
  /// In place of the kind, where there is one.
  public let function: ForeignFunction?

  public init(_ kind: Kind, parameter: Double = 0, function: ForeignFunction? = nil) {
    self.kind = kind
    self.parameter = parameter
    self.function = function
  }

  var isIdentity: Bool { function == nil && kind == .identity }

  /// Whether s″ is 0 everywhere.
  var isPiecewiseLinear: Bool { function == nil && (kind == .identity || kind == .leakyReLU) }

  /// Derivatives 0 to `order` of n numbers; see Activations.h.
  @inline(__always)
  func evaluate<T: KernelScalar>(
    order: Int, _ n: Int, _ a: UnsafePointer<T>, _ d: [UnsafeMutablePointer<T>?]
  ) {
    guard let function else { return T.activation(kind.rawValue, parameter, order: order, n, a, d) }
    function.evaluate(order: order, n, a, d.map { UnsafeMutableRawPointer($0) })
  }
}

/// A function of the caller's own, with its derivatives, behind a language boundary. It is called on the caller's thread
/// alone: an `Interruption` with `isAlone` sees to that.
public struct ForeignFunction: Equatable, @unchecked Sendable {
  public typealias Code =
    @convention(c) (
      UnsafeMutableRawPointer?, Int32, Int, UnsafeRawPointer?, UnsafePointer<UnsafeMutableRawPointer?>?
    ) -> Void

  private let code: Code
  private let context: UnsafeMutableRawPointer?

  /// - Parameter code: takes `context`, the order, how many numbers, these, and where each derivative goes.
  public init(_ code: @escaping Code, context: UnsafeMutableRawPointer?) {
    self.code = code
    self.context = context
  }

  public static func == (a: ForeignFunction, b: ForeignFunction) -> Bool {
    unsafeBitCast(a.code, to: Int.self) == unsafeBitCast(b.code, to: Int.self) && a.context == b.context
  }

  fileprivate func evaluate(order: Int, _ n: Int, _ a: UnsafeRawPointer, _ d: [UnsafeMutableRawPointer?]) {
    d.withUnsafeBufferPointer { code(context, Int32(order), n, a, $0.baseAddress) }
  }
}
