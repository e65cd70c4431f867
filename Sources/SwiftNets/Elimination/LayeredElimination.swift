import COpenBLAS
import Glibc

// bounded: `LayeredShape` grants no size from 2³⁰ on, and no more than 2⁵⁰ bytes together.

/// Block elimination of (H + λ) X = V, a layer at a time from the last, for `LayeredFactorization`.
///
/// With Z = R B, the rows of B orthonormal (R = Z and B = 1 in the primal form), a layer's weights move by
/// X = Bᵀ Y + X⊥. Let P be the Hessian, in the layer's outputs, of what is left to minimise above it, a ∈ ℝ^{N×n} the
/// tangent of Z W, z that of the layer's inputs, and W without its bias row in what follows:
///
///     P̂ = S P S + K                      a = z W + R Y
///     Q = λ + Rᵀ P̂ R                     acts on Y: the pivot, factored with Bunch and Kaufman's pivoting
///     C : z ↦ Rᵀ P̂ (z W) + B (zᵀ D)      couples Y to z
///     P_below = W P̂ Wᵀ − Cᵀ Q⁻¹ C − (D Dᵀ) ⊗ (1 − Bᵀ B) / λ
///
/// The last term is X⊥ = (1 − Bᵀ B)(V − zᵀ D) / λ, solved for on paper. This is the dual form without its usual
/// division of everything by λ: Q stays symmetric, and is H + λ reduced to B's rows, so that its inertia and
/// determinant count. Every array's index pairs (sample, unit) or (component, unit) are flat and row-major.
///
/// Q may be singular where H + λ is not. What a pivot adds to the cost-to-go is therefore measured, in the units of the
/// weights; where it is too much, or the pivot 0 to working precision, the layer goes to `eliminateWithDelays`.
/// In the end the factors are measured by exact products with H + λ (`FactorCertificate`).
final class LayeredElimination<Element: FactorScalar> {
  let shape: LayeredShape
  let layers: [EliminatedLayer<Element>]
  private let planned: Int
  /// λ · 2^−exponent.
  private(set) var shift = Complex(0)
  /// The batch's numbers, and with them H, are there times 2^−exponent. It is 0 unless H + λ is near the ends of the
  /// numbers' range, where squares of its entries would leave it.
  private(set) var exponent = 0
  /// What stands for a layer with unknowns left or taken over, or in another form than planned; nil for the others.
  private(set) var delays: [DelayedLayer<Element>?]
  /// Eigenvalues counted as 0.
  private(set) var zeros = 0
  /// What stands in for pivots that are counted as 0.
  private(set) var zeroPivot = 1.0
  /// Whether λ is one of them, for weights of the first layer outside the span of its inputs: H is 0 there.
  private(set) var isRestZero = false
  private var pristine: [[Double]] = []
  private var measured: (norm: Double, spreads: [Double])?
  let workspace: LayeredWorkspace<Element>
  private let memory: ArenaMemory
  let output: UnsafeMutablePointer<Double>  // [N, outputs, outputs]
  /// Whether the caller is asked between pieces of a product, too.
  let isLarge: Bool

  init(_ shape: LayeredShape) throws(EngineError) {
    self.shape = shape
    isLarge = max(shape.largestOrder, shape.largestAbove) > 512
    var measuring = Arena.measuring
    _ = Self.layOut(shape, in: &measuring)
    memory = try ArenaMemory(bytes: measuring.bytes)
    var arena = Arena(memory)
    (layers, workspace, output) = Self.layOut(shape, in: &arena)
    planned = measuring.bytes
    delays = layers.map { _ in nil }
  }

  /// Memory that it holds, that of delayed pivots included.
  var bytes: Int { delays.reduce(planned) { $0 + ($1?.bytes ?? 0) } }

  static func bytes(_ shape: LayeredShape) -> Int {
    var arena = Arena.measuring
    _ = layOut(shape, in: &arena)
    return arena.bytes
  }

  private static func layOut(
    _ shape: LayeredShape, in arena: inout Arena
  ) -> ([EliminatedLayer<Element>], LayeredWorkspace<Element>, UnsafeMutablePointer<Double>) {
    let layers = shape.layers.map { EliminatedLayer<Element>($0, in: &arena) }
    return (
      layers, LayeredWorkspace(shape, in: &arena), arena.take(shape.samples * shape.outputs * shape.outputs)
    )
  }

  /// Takes over the numbers of a batch.
  /// - Throws: `notFinite` where one of them is not.
  func load(
    _ states: [LayerState], _ hessian: OutputHessian, interruption: Interruption
  ) throws(EngineError) {
    for (index, state) in states.enumerated() {
      try interruption.check()
      for matrix in [state.inputs, state.weights, state.slopes, state.curvatures, state.deltas]
      where !matrix.isFinite {
        throw .notFinite("layer \(index) has numbers that are not finite")
      }
    }
    let width = shape.outputs
    switch hessian {
    case .diagonal(let matrix):
      guard matrix.isFinite else { throw .notFinite("the output Hessian has numbers that are not finite") }
      output.update(repeating: 0, count: shape.samples * width * width)
      for sample in 0..<shape.samples {
        for unit in 0..<width { output[(sample * width + unit) * width + unit] = matrix[sample, unit] }
      }
    case .blocks(let matrix):
      guard matrix.isFinite else { throw .notFinite("the output Hessian has numbers that are not finite") }
      for sample in 0..<shape.samples {
        (output + sample * width * width).update(from: matrix.row(sample), count: width * width)
      }
    }
    for (layer, state) in zip(layers, states) {
      try layer.load(state, work: workspace.spanning, interruption: interruption)
    }
    exponent = 0
    pristine = []
    measured = nil
  }

  /// Arrays that H is linear in.
  private var scaled: [(UnsafeMutablePointer<Double>, Int)] {
    [(output, shape.samples * shape.outputs * shape.outputs)]
      + layers.flatMap { [($0.curvatures, $0.shape.above), ($0.deltas, $0.shape.above)] }
  }

  /// Divides H by 2^exponent, rounding nothing that matters beside its norm.
  private func rescale(to exponent: Int) {
    guard exponent != self.exponent else { return }
    if pristine.isEmpty { pristine = scaled.map { Array(UnsafeBufferPointer(start: $0, count: $1)) } }
    for ((numbers, count), source) in zip(scaled, pristine) {
      for index in 0..<count { numbers[index] = scalbn(source[index], Int32(-exponent)) }
    }
    for layer in layers { layer.prepareDeltas() }
    self.exponent = exponent
  }

  /// ‖H‖ by steps of the power method, and ‖∂z/∂X‖ of each layer from the tangents of random weights.
  private func measure(
    _ product: LayeredProduct, _ interruption: Interruption
  ) throws(EngineError) -> (norm: Double, spreads: [Double]) {
    if let measured { return measured }
    let vector = try Matrix<Double>(rows: 1, columns: shape.parameters)
    var noise = Noise()
    for index in 0..<shape.parameters { vector.base[index] = noise.next() }
    var (norm, spreads) = (0.0, [Double]())
    for step in 0..<3 {
      let size = OpenBLAS.call(scipy_cblas_dnrm2(Int32(shape.parameters), vector.base, 1))
      guard size.isFinite else { throw Self.overflow }
      guard size > 0 else { break }
      for index in 0..<shape.parameters { vector.base[index] /= size }
      try product.multiply(layers, output, vector.base, into: vector.base, interruption)
      norm = max(norm, OpenBLAS.call(scipy_cblas_dnrm2(Int32(shape.parameters), vector.base, 1)))
      // The tangents of a vector of variance 1: the Jacobian's norm by Frobenius, no less than its 2-norm.
      if step == 0 { spreads = product.sizes.map { $0 * Double(shape.parameters).squareRoot() } }
    }
    // NaN is no maximum, and of numbers that overflow nothing is known.
    guard vector.isFinite, norm.isFinite, spreads.allSatisfy(\.isFinite) else { throw Self.overflow }
    measured = (norm, spreads)
    return (norm, spreads)
  }

  private static var tooLarge: EngineError {
    .numerical(
      "the matrix is singular to working precision as far as pivots of each layer's own tell, and choosing better ones "
        + "would take more time or memory than there is")
  }

  static var overflow: EngineError {
    .numerical("the layered elimination overflowed: numbers on the way are too large for float64")
  }

  /// Factors H + shift, for the numbers loaded.
  /// - Returns: what the factors prove; nil where eigenvalues were counted as 0, so that there is no inverse.
  /// - Throws: `numerical` where H + shift is singular and its inertia cannot be proved, `cancelled`.
  func factor(shift: Complex, interruption: Interruption) throws(EngineError) -> FactorCertificate? {
    let product = try LayeredProduct(shape)
    // The norm is that of H itself, whatever an earlier shift scaled it by.
    if measured == nil { rescale(to: 0) }
    let (size, spreads) = try measure(product, interruption)
    // The magnitude of two parts near the end of the range is beyond it.
    let norm = max(size, min(shift.magnitude, .greatestFiniteMagnitude))
    rescale(to: norm > 0x1p300 || norm < 0x1p-300 && norm > 0 ? Int(norm.exponent) : 0)
    func scaled(_ number: Double) -> Double { scalbn(number, Int32(-exponent)) }
    self.shift = Complex(scaled(shift.real), scaled(shift.imaginary))
    var measure = LayeredMeasure(norm: scaled(norm), spreads: spreads, limit: nil, least: 1e-14)
    forgetDelays()
    if try eliminatePlainly(measure, interruption) {
      let found = try certify(measure.norm, product, interruption)
      if found.isGood || isCostly && found.isAccepted { return found }
    }
    // The last try counts more as 0; its result is proved, or refused.
    var refusal: FactorCertificate?
    for (limit, least) in [(1e4, 1e-14), (1e2, 1e-14), (1e2, 1e-12)] {
      let (isFirst, isLast) = (limit > 1e2, least > 1e-14)
      forgetDelays()
      measure = LayeredMeasure(norm: measure.norm, spreads: spreads, limit: limit, least: least)
      // Refused now, and not after the layers above it are eliminated.
      for (index, layer) in layers.enumerated()
      where !canDivide(index, measure) && layer.primal.shape.order > Self.largestChoice { throw Self.tooLarge }
      do throws(EngineError) {
        try eliminate(&measure, interruption)
      } catch .outOfMemory {
        throw Self.tooLarge
      } catch .numerical(let message) {
        guard isLast else { throw .numerical(message) }
        break
      }
      if isZero(self.shift, measure) {
        zeros += firstRest
        isRestZero = firstRest > 0
      }
      if zeros > 0 {
        // A complex matrix has no inertia that would count them.
        guard let real = self as? LayeredElimination<Double> else { return nil }
        zeroPivot = measure.zeroPivot
        // What is 0 beside roundings that grew may not be 0 beside those that did not.
        if isFirst && measure.tolerance > 1e-13 * measure.norm { continue }
        if try real.provesZeros(measure, product, interruption) { return nil }
        continue
      }
      let found = try certify(measure.norm, product, interruption)
      if found.isFair || !isFirst && found.isAccepted || shape.isComplex && !isFirst { return found }
      if !isFirst { refusal = refusal ?? found }
    }
    if let refusal { return refusal }
    throw .numerical(
      "the matrix is singular to working precision, and it cannot be proved how many of its eigenvalues are 0")
  }

  private var firstRest: Int { (delays[0]?.layer ?? layers[0]).restCount }

  private func forgetDelays() {
    (zeros, isRestZero) = (0, false)
    for index in layers.indices { delays[index] = nil }
  }

  /// Whether choosing pivots may take more than about a second: 25 n³ operations for eigenvectors of each layer.
  private var isCostly: Bool {
    shape.layers.reduce(0) { $0 + 25 * pow(Double($1.parameters), 3) * Double(Element.parts * Element.parts) } > 4e9
  }

  func certify(
    _ norm: Double, _ product: LayeredProduct, _ interruption: Interruption
  ) throws(EngineError) -> FactorCertificate {
    let count = shape.parameters
    return try FactorCertificate(order: count, norm: norm, isComplex: shape.isComplex) { b throws(EngineError) in
      try solveScaled(b, into: b, interruption: interruption)
    } multiply: { x, y throws(EngineError) in
      for row in 0..<x.real.rows {
        let (source, target) = (x.real.row(row), y.real.row(row))
        try product.multiply(layers, output, source, into: target, interruption)
        Double.axpy(count, shift.real, source, target)
        if zeros > 0, let real = self as? LayeredElimination<Double> { try real.addZeros(of: source, to: target) }
        guard let imaginary = x.imaginary?.row(row), let other = y.imaginary?.row(row) else { continue }
        try product.multiply(layers, output, imaginary, into: other, interruption)
        Double.axpy(count, shift.real, imaginary, other)
        Double.axpy(count, -shift.imaginary, imaginary, target)
        Double.axpy(count, shift.imaginary, source, other)
      }
    }
  }

  /// Eliminates each layer with pivots of its own, as long as none shows to be bad; products then measure the factors.
  private func eliminatePlainly(
    _ measure: LayeredMeasure, _ interruption: Interruption
  ) throws(EngineError) -> Bool {
    let control = LayeredControl(interruption, isLarge: isLarge)
    startCost(layers[layers.count - 1], control)
    for (index, layer) in layers.enumerated().reversed() {
      if control.check() { throw .cancelled }
      if layer.hasRest && shift.real == 0 && isStep(measure) || shift == Complex(0) && layer.hasRest { return false }
      let (cost, next) = workspace.costs(isOdd: (layers.count - index) % 2 == 0)
      guard try eliminatePlainly(index, layer, cost, next, measure, control) != nil else { return false }
    }
    return true
  }

  private func eliminate(_ measure: inout LayeredMeasure, _ interruption: Interruption) throws(EngineError) {
    let control = LayeredControl(interruption, isLarge: isLarge)
    var front: LayeredFront<Element>?
    startCost(layers[layers.count - 1], control)
    for (index, layer) in layers.enumerated().reversed() {
      if control.check() { throw .cancelled }
      let (cost, next) = workspace.costs(isOdd: (layers.count - index) % 2 == 0)
      let keepsForm = canDivide(index, measure)
      let isPlain = front == nil && keepsForm
      if isPlain, let growth = try eliminatePlainly(index, layer, cost, next, measure, control) {
        measure.growth += growth
        continue
      }
      let found = try eliminateWithDelays(
        index, cost: cost, next: next, front: front, keepsForm: keepsForm, triesPivots: !isPlain, measure: &measure,
        interruption: interruption)
      delays[index] = found.layer
      front = found.front
      zeros += found.layer.zeros.count
    }
  }

  /// Whether the imaginary part of λ only carries derivatives: see `TraceOfInverse`.
  func isStep(_ measure: LayeredMeasure) -> Bool {
    shape.isComplex && abs(shift.imaginary) <= TraceOfInverse.largestStep * measure.norm
  }

  /// λ as an eigenvalue: no rounding has touched it.
  private func isZero(_ shift: Complex, _ measure: LayeredMeasure) -> Bool {
    shift.magnitude <= measure.least * measure.norm
  }

  /// Whether weights outside the span of the inputs may be divided by the shift: that adds D Dᵀ / λ to the cost-to-go.
  private func canDivide(_ index: Int, _ measure: LayeredMeasure) -> Bool {
    let layer = layers[index]
    guard layer.hasRest, index > 0 else { return true }
    let size = measure.spread(index) * OpenBLAS.call(scipy_cblas_dnrm2(Int32(layer.shape.above), layer.deltas, 1))
    return !isZero(shift, measure)
      && size / shift.magnitude * (size / measure.norm) <= measure.limit ?? .infinity
  }

  /// Eliminates a layer with pivots of its own.
  /// - Returns: what they add to the cost-to-go relative to the norm; nil where it is too much.
  private func eliminatePlainly(
    _ index: Int, _ layer: EliminatedLayer<Element>, _ cost: Planes, _ next: Planes, _ measure: LayeredMeasure,
    _ control: LayeredControl
  ) throws(EngineError) -> Double? {
    let (order, below) = (layer.shape.order, layer.shape.below)
    formPivot(layer, cost, control)
    if control.isCancelled { throw .cancelled }
    Element.join(workspace.pivot(of: layer), into: layer.pivot.base, count: order * order)
    let isRegular = try layer.pivot.factor(interruption: control.interruption)
    // Without a layer below there is no growth to betray a pivot that is nearly 0.
    guard isRegular, layer.pivot.smallestPivot > (index == 0 ? 100 : 1) * measure.tolerance else { return nil }
    guard index > 0 else { return 0 }
    formCoupling(layer, cost, next, control)
    reduceCoupling(layer, control)
    if control.isCancelled { throw .cancelled }
    var growth = 0.0
    if let limit = measure.limit {
      growth = measure.growth(
        index, layer.coupling, workspace.divided, rows: order, columns: below, stride: below)
      guard growth <= limit else { return nil }
    }
    updateCost(layer, layers[index - 1], next, control)
    if control.isCancelled { throw .cancelled }
    return growth
  }
}

extension LayeredElimination where Element == Double {
  /// Inertia and log|det| of H + shift, of the last factorisation.
  var tally: (Inertia, Double) {
    var inertia = Inertia(zero: zeros)
    var determinant = LogarithmOfProduct()
    var rest = 0
    for (layer, delayed) in zip(layers, delays) {
      (delayed?.pivot ?? layer.pivot).tally(&inertia, &determinant)
      rest += (delayed?.layer ?? layer).restCount
      // The pivots that stand in for 0 are positive.
      inertia.positive -= delayed?.zeros.count ?? 0
    }
    if isRestZero { rest -= firstRest }
    if shift.real > 0 { inertia.positive += rest } else if shift.real < 0 { inertia.negative += rest }
    guard inertia.zero == 0 else { return (inertia, -.infinity) }
    let outside = rest > 0 ? Double(rest) * Double.logarithm(abs(shift.real)) : 0
    return (
      inertia, determinant.value + outside + Double(shape.parameters * exponent) * Double.logarithm(2)
    )
  }
}

extension LayeredElimination where Element == Complex {
  /// Of the last factorisation, of a λ with a tiny imaginary part; nil where that is 0 or not tiny.
  var traceOfInverse: TraceOfInverse? {
    guard let measured, shift.imaginary != 0 else { return nil }
    let norm = scalbn(max(measured.norm, 0), Int32(-exponent))
    guard abs(shift.imaginary) <= TraceOfInverse.largestStep * max(norm, abs(shift.real)) else { return nil }
    var (sum, determinant) = (PivotSlopes(), LogarithmOfProduct())
    var rest = 0
    for (layer, delayed) in zip(layers, delays) {
      (delayed?.pivot ?? layer.pivot).tally(&sum, &determinant)
      rest += (delayed?.layer ?? layer).restCount
    }
    var outside = 0.0
    if rest > 0 {
      sum.add(shift, times: Double(rest))
      outside = Double(rest) * Double.logarithm(abs(shift.real))
    }
    // Both parts of λ, and H, are divided by 2^exponent: the sum of slopes does not change with it, the step does.
    return TraceOfInverse(
      sum, logDeterminant: determinant.value + outside + Double(shape.parameters * exponent) * Double.logarithm(2),
      step: scalbn(shift.imaginary, Int32(exponent)))
  }
}
