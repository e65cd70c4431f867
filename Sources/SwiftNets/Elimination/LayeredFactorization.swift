/// H + λ of a deep net factored a layer at a time (backward Riccati recursion, block LDLᵀ), for any number of solves.
///
/// H is the exact Hessian of the loss in all weights, for one batch, flat layer by layer, each layer's W row-major with
/// the bias row last. λ is real or complex; a complex H + λ is symmetric, not Hermitian, and nothing is conjugated.
///
/// Layers are eliminated in their order, each with pivoting of its own; unknowns whose pivots are too small beside
/// their coupling to the layer below are left to it. That bounds what rounding errors may add beside ‖H + λ‖, and the
/// factors are measured by exact products: inertia and determinant are proved, or the factorisation refuses. Solutions
/// are not refined: look at the residual with exact products by H, and solve again for it.
///
/// Solves may run on several threads at once; `load` and `factor` must have the factorisation for themselves.
///
/// - Complexity: in the number of layers linear; a layer with N samples, m rows and n columns of weights costs about
///   q³/3 + q² N m + q (N m)² operations, q = n min(N, m). See `operations`.
public final class LayeredFactorization {
  private enum Elimination {
    case real(LayeredElimination<Double>)
    case complex(LayeredElimination<Complex>)
  }

  private let shape: LayeredShape
  private let elimination: Elimination
  private let form: LayerForm
  private enum State { case none, singular, factored }
  private var state = State.none
  /// Real and imaginary part of λ.
  public private(set) var shift: (real: Double, imaginary: Double)
  /// Eigenvalues of H + λ by sign, where λ is real; 0 are those that rounding errors cannot tell from it.
  public private(set) var inertia: Inertia?
  /// log|det(H + λ)|, where λ is real; −∞ where eigenvalues were counted as 0.
  public private(set) var logDeterminant: Double?
  /// What log|det(H + λ)| may be off by; an estimate.
  public private(set) var logDeterminantError: Double?
  /// An estimate of ‖1 − (H + λ) F⁻¹‖ for the factors F, 0.1 at most; nil where eigenvalues were counted as 0.
  public private(set) var certificate: Double?

  /// Copies the matrices; `factor` comes next, for a λ that is complex or not as said here.
  /// - Throws: `invalidArgument` for sizes that do not fit together, `notFinite`, `outOfMemory`, `cancelled`.
  init(
    loading layers: [LayerState], output: OutputHessian, isComplex: Bool, form: LayerForm, interruption: Interruption
  ) throws(EngineError) {
    let shape = try LayeredShape(layers, output, isComplex: isComplex, form: form)
    self.shape = shape
    self.form = form
    shift = (0, 0)
    elimination = shape.isComplex ? .complex(try LayeredElimination(shape)) : .real(try LayeredElimination(shape))
    try load(layers: layers, output: output, interruption: interruption)
  }

  /// Factors H + λ. The matrices are copied.
  /// - Parameters:
  ///   - form: which unknowns stand for each layer's weights.
  /// - Throws: `invalidArgument` for sizes that do not fit together, `notFinite`, `outOfMemory`, `cancelled`;
  ///   `numerical` where H + λ is singular to working precision, and its inertia cannot be proved.
  public convenience init(
    layers: [LayerState], output: OutputHessian, shift: Double, imaginaryShift: Double? = nil,
    form: LayerForm = .automatic, interruption: Interruption = Interruption()
  ) throws(EngineError) {
    try self.init(
      loading: layers, output: output, isComplex: imaginaryShift != nil, form: form, interruption: interruption)
    try factor(shift: shift, imaginaryShift: imaginaryShift, interruption: interruption)
  }

  /// Takes another batch or other weights of the same sizes; `factor` comes next.
  /// - Throws: `invalidArgument` where the sizes are others, `notFinite`.
  public func load(
    layers: [LayerState], output: OutputHessian, interruption: Interruption = Interruption()
  ) throws(EngineError) {
    state = .none
    guard try LayeredShape(layers, output, isComplex: shape.isComplex, form: form) == shape else {
      throw .invalidArgument("the layers have other sizes than those that the factorisation was made for")
    }
    switch elimination {
    case .real(let elimination): try elimination.load(layers, output, interruption: interruption)
    case .complex(let elimination): try elimination.load(layers, output, interruption: interruption)
    }
  }

  /// Factors H + λ for another λ, in the same memory. Whether λ is complex stays as it was.
  public func factor(
    shift: Double, imaginaryShift: Double? = nil, interruption: Interruption = Interruption()
  ) throws(EngineError) {
    state = .none
    (inertia, logDeterminant, logDeterminantError, certificate) = (nil, nil, nil, nil)
    guard shift.isFinite, (imaginaryShift ?? 0).isFinite else {
      throw .invalidArgument("the shift is \(shift), \(imaginaryShift ?? 0)i; it must be finite")
    }
    guard (imaginaryShift != nil) == shape.isComplex else {
      throw .invalidArgument(
        "the factorisation was made for \(shape.isComplex ? "complex" : "real") shifts, and this one is "
          + (shape.isComplex ? "real" : "complex"))
    }
    self.shift = (shift, imaginaryShift ?? 0)
    let value = Complex(shift, imaginaryShift ?? 0)
    let found: FactorCertificate?
    switch elimination {
    case .real(let elimination): found = try elimination.factor(shift: value, interruption: interruption)
    case .complex(let elimination): found = try elimination.factor(shift: value, interruption: interruption)
    }
    if let found {
      guard found.isAccepted else { throw .singular(found) }
      (certificate, logDeterminantError) = (found.error, shape.isComplex ? nil : found.logDeterminantError)
    }
    switch elimination {
    case .real(let elimination):
      (inertia, logDeterminant) = elimination.tally
      if found == nil { logDeterminantError = 0 }
    case .complex(let elimination):
      guard elimination.zeros == 0 else {
        throw .numerical("the matrix is singular to working precision: \(elimination.zeros) singular values are 0")
      }
    }
    state = found == nil ? .singular : .factored
  }

  /// Solves (H + λ) x = b for real λ.
  /// - Parameters:
  ///   - b: right-hand sides as rows [k, parameters].
  ///   - x: solutions [k, parameters]; it may be b.
  public func solve(
    _ b: Matrix<Double>, into x: Matrix<Double>, interruption: Interruption = Interruption()
  ) throws(EngineError) {
    try expect(b, "b", rows: b.rows)
    try expect(x, "x", rows: b.rows)
    guard case .real(let elimination) = elimination else {
      throw .invalidArgument("the shift is complex; the solution has an imaginary part, which needs a place")
    }
    try elimination.solve((b, nil), into: (x, nil), interruption: interruption)
    guard x.isFinite else { throw Self.overflow }
  }

  /// Solves (H + λ) (x + i y) = b + i c for complex λ.
  /// - Parameters:
  ///   - b: real parts of the right-hand sides as rows [k, parameters].
  ///   - c: their imaginary parts, nil for none.
  ///   - x: real parts of the solutions [k, parameters].
  ///   - y: their imaginary parts [k, parameters].
  public func solve(
    _ b: Matrix<Double>, imaginary c: Matrix<Double>?, into x: Matrix<Double>, imaginary y: Matrix<Double>,
    interruption: Interruption = Interruption()
  ) throws(EngineError) {
    try expect(b, "b", rows: b.rows)
    if let c { try expect(c, "c", rows: b.rows) }
    try expect(x, "x", rows: b.rows)
    try expect(y, "y", rows: b.rows)
    guard case .complex(let elimination) = elimination else {
      throw .invalidArgument("the shift is real; solve the imaginary part as another right-hand side")
    }
    try elimination.solve((b, c), into: (x, y), interruption: interruption)
    guard x.isFinite, y.isFinite else { throw Self.overflow }
  }

  private func expect(_ matrix: Matrix<Double>, _ name: String, rows: Int) throws(EngineError) {
    guard matrix.columns == shape.parameters, matrix.rows == rows else {
      throw .invalidArgument(
        "\(name) is \(matrix.rows)×\(matrix.columns); expected \(rows)×\(shape.parameters)")
    }
    switch state {
    case .factored: break
    case .singular:
      let zeros = inertia?.zero ?? 0
      throw .numerical(
        "the matrix is singular: \(zeros) eigenvalue\(zeros == 1 ? " is" : "s are") 0 to working precision")
    case .none: throw .numerical("there is no factorisation: the last one failed or is still to come")
    }
  }

  private static var overflow: EngineError {
    .numerical("the layered solve overflowed, or its right-hand side is not finite")
  }

  // MARK: - Sizes

  /// Parameters of the net: the order of H.
  public var parameterCount: Int { shape.parameters }
  /// tr (H + λ)⁻¹ and log|det (H + λ)| for the real part of λ, where its imaginary part is tiny and not 0; else nil.
  public var traceOfInverse: TraceOfInverse? {
    guard state == .factored, case .complex(let elimination) = elimination else { return nil }
    return elimination.traceOfInverse
  }
  /// Whether each layer is in the dual form.
  public var isDual: [Bool] { shape.layers.map(\.isDual) }
  /// The memory that the factorisation holds, that of pivots that were left to other layers included.
  public var bytes: Int {
    switch elimination {
    case .real(let elimination): elimination.bytes
    case .complex(let elimination): elimination.bytes
    }
  }
  /// Real multiplications and additions of a factorisation.
  public var operations: Double { shape.operations }
  /// Those of a solve, for each right-hand side.
  public var operationsOfSolve: Double { shape.operationsOfSolve }
}

/// What a layered factorisation would take, before anything is allocated.
public struct LayeredPlan: Sendable {
  public let parameterCount: Int
  /// The memory that the factorisation holds where no pivots are left to other layers.
  public let bytes: Int
  /// Real multiplications and additions of a factorisation.
  public let operations: Double
  /// Those of a solve, for each right-hand side.
  public let operationsOfSolve: Double

  /// - Parameters:
  ///   - sizes: inputs of the first layer, then outputs of each.
  ///   - hasBias: of each layer.
  /// - Throws: `invalidArgument` for sizes below 1, `outOfMemory` for sizes beyond LAPACK's integers.
  public init(
    samples: Int, sizes: [Int], hasBias: [Bool], isComplex: Bool = false, form: LayerForm = .automatic
  ) throws(EngineError) {
    let shape = try LayeredShape(samples: samples, sizes: sizes, hasBias: hasBias, isComplex: isComplex, form: form)
    parameterCount = shape.parameters
    bytes = isComplex ? LayeredElimination<Complex>.bytes(shape) : LayeredElimination<Double>.bytes(shape)
    operations = shape.operations
    operationsOfSolve = shape.operationsOfSolve
  }
}
