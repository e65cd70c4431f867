/// A `LayeredFactorization` of a net's Hessian on one batch that several threads may share: any number of them solve at
/// once, and one that factors for another shift has it for itself.
public final class NetworkFactorization: @unchecked Sendable {
  public typealias Shift = (real: Double, imaginary: Double?)

  private let factorization: LayeredFactorization
  private let gate = Gate()

  /// Factors H + shift at a point, from the pass that it keeps; whether the shift is complex stays as it is here.
  ///
  /// The point has its turn while its numbers are copied, and is free while they are factored.
  /// - Throws: what `NetworkStates` and `LayeredFactorization` throw.
  public init(
    _ point: NetworkEngine.Point, shift: Shift, form: LayerForm, interruption: Interruption
  ) throws(EngineError) {
    let isComplex = shift.imaginary != nil
    // Before anything large is allocated.
    _ = try LayeredPlan(point.requireChain(), samples: point.samples, isComplex: isComplex, form: form)
    factorization = try point.withStates(interruption) { states throws(EngineError) in
      try LayeredFactorization(
        loading: states.layers, output: states.output, isComplex: isComplex, form: form, interruption: interruption)
    }
    try factorization.factor(shift: shift.real, imaginaryShift: shift.imaginary, interruption: interruption)
  }

  public var parameterCount: Int { factorization.parameterCount }

  /// Factors H + shift for another shift. After a failure there is no factorisation until the next one.
  public func update(shift: Shift, interruption: Interruption) throws(EngineError) -> FactorSummary {
    try gate.write(interruption) { () throws(EngineError) in
      try factorization.factor(shift: shift.real, imaginaryShift: shift.imaginary, interruption: interruption)
      return summary
    }
  }

  /// What the factors say about the matrix. For a thread that has the factorisation for itself.
  public var summary: FactorSummary {
    FactorSummary(
      inertia: factorization.inertia, logDeterminant: factorization.logDeterminant ?? 0,
      logDeterminantError: factorization.logDeterminantError ?? 0, certificate: factorization.certificate,
      bytes: factorization.bytes)
  }

  /// tr (H + λ)⁻¹ and log|det (H + λ)| for the real part of the shift λ, the imaginary one being tiny and not 0.
  public func traceOfInverse(interruption: Interruption) throws(EngineError) -> TraceOfInverse {
    try gate.read(interruption) { () throws(EngineError) in
      guard let found = factorization.traceOfInverse else {
        throw .invalidArgument(
          "the factors are not those of a shift with an imaginary part that is tiny beside the matrix and not 0")
      }
      return found
    }
  }

  /// Solves for rows of b, and of c for their imaginary parts, which go with y where the shift is complex.
  public func solve(
    _ b: Matrix<Double>, imaginary c: Matrix<Double>?, into x: Matrix<Double>, imaginary y: Matrix<Double>?,
    interruption: Interruption
  ) throws(EngineError) {
    try gate.read(interruption) { () throws(EngineError) in
      if let y {
        try factorization.solve(b, imaginary: c, into: x, imaginary: y, interruption: interruption)
      } else {
        try factorization.solve(b, into: x, interruption: interruption)
      }
    }
  }
}

/// What the factors of a symmetric matrix say about it.
public struct FactorSummary: Equatable, Sendable {
  /// nil for a complex matrix; its determinant means nothing then.
  public var inertia: Inertia?
  /// log|det|.
  public var logDeterminant: Double
  /// What log|det| may be off by; an estimate.
  public var logDeterminantError: Double
  /// An estimate of ‖1 − A F⁻¹‖ for the factors F; nil where eigenvalues were counted as 0.
  public var certificate: Double?
  /// Memory that the factors take.
  public var bytes: Int
}

extension LayeredPlan {
  public init(
    _ net: MultilayerPerceptron, samples: Int, isComplex: Bool, form: LayerForm
  ) throws(EngineError) {
    try self.init(
      samples: samples, sizes: [net.inputs] + net.layers.map(\.width), hasBias: net.layers.map(\.hasBias),
      isComplex: isComplex, form: form)
  }
}
