import COpenBLAS

/// What proves that factors F of a symmetric matrix A have A's inertia.
///
/// With R = 1 − A F⁻¹ all of F + t (A − F) = (1 − t R) F, 0 ≤ t ≤ 1, are regular where ‖R‖₂ < 1: no eigenvalue passes 0
/// on the way from F to A, and log|det| changes by no more than −log|det (1 − R)|.
struct FactorCertificate {
  /// An estimate of ‖R‖ in Frobenius' norm, which ‖R‖₂ is no larger than, with the rounding of A itself counted in.
  let error: Double
  /// An estimate of |trace R|, which log|det| is off by.
  let logDeterminantError: Double
  /// ‖R z‖ / ‖F⁻¹ z‖ relative to ‖A‖, the larger one of two z: what F is off by.
  private let backwardError: Double

  /// Below it the inertia is proved, up to the chance that random vectors hide what they should show.
  static let limit = 0.1

  var isAccepted: Bool { error <= Self.limit }

  /// Whether better pivots would hardly improve the factors: they solve for a matrix near by, and tell the determinant
  /// unless rounding does not let them.
  var isGood: Bool {
    isAccepted && (backwardError <= 1e-13 || backwardError <= 1e-10 && logDeterminantError <= 1e-6)
  }

  /// Whether refinement with the factors gains three digits a step.
  var isFair: Bool { error <= 1e-3 && backwardError <= 1e-8 }

  typealias Rows = (real: Matrix<Double>, imaginary: Matrix<Double>?)

  /// - Parameters:
  ///   - norm: ‖A‖.
  ///   - solve: replaces a vector b by F⁻¹ b, unrefined.
  ///   - multiply: A times the first vector into the second.
  init(
    order: Int, norm: Double, isComplex: Bool, solve: (Rows) throws(EngineError) -> Void,
    multiply: (Rows, Rows) throws(EngineError) -> Void
  ) throws(EngineError) {
    func vector() throws(EngineError) -> Rows {
      (try Matrix(rows: 1, columns: order), isComplex ? try Matrix(rows: 1, columns: order) : nil)
    }
    let (start, image) = (try Matrix<Double>(rows: 1, columns: order), try vector())
    var noise = Noise()
    var found: [Rows] = []
    var (backward, inverse, error) = (0.0, 0.0, 0.0)
    // One that finds nothing is enough: a millionth would have to hide 1.
    while found.count < 2 && (found.isEmpty || error > 1e-6) {
      for index in 0..<order { start.base[index] = noise.next() }
      // Of variance 1 in these very numbers, so that it matters in one dimension, too.
      let scale = Double(order).squareRoot() / Self.length((start, nil))
      let x = try vector()
      for index in 0..<order {
        start.base[index] *= scale
        x.real.base[index] = start.base[index]
      }
      try solve(x)
      try multiply(x, image)
      for index in 0..<order { image.real.base[index] -= start.base[index] }
      let size = Self.length(x)
      backward = Self.most(backward, Self.length(image) / size)
      inverse = Self.most(inverse, size)
      error = (backward + 0x1p-51 * norm) * inverse
      found.append(x)
    }
    if error > 1e-4 && error <= Self.limit {
      // Where both vectors had little of the eigenvector with the largest inverse, x has much.
      let relative = backward + 0x1p-51 * norm
      for x in found {
        let size = Self.length(x)
        for index in 0..<order {
          x.real.base[index] /= size
          x.imaginary?.base[index] /= -size
        }
        try solve(x)
        error = Self.most(error, relative * Self.length(x))
      }
    }
    self.error = error
    backwardError = norm > 0 ? backward / norm : 0
    // |trace R| ≤ √P ‖R‖, and twice that for the chance of the vectors.
    logDeterminantError = 2 * Double(order).squareRoot() * error
  }

  /// NaN is no maximum.
  private static func most(_ a: Double, _ b: Double) -> Double { a.isNaN || b.isNaN ? .infinity : max(a, b) }

  private static func length(_ vector: Rows) -> Double {
    func length(_ part: Matrix<Double>) -> Double {
      OpenBLAS.call(scipy_cblas_dnrm2(Int32(part.columns), part.base, 1))
    }
    return Complex(length(vector.real), vector.imaginary.map(length) ?? 0).magnitude
  }
}

extension EngineError {
  /// Factors that prove nothing.
  static func singular(_ certificate: FactorCertificate) -> EngineError {
    // One digit, without Foundation.
    var (digits, exponent) = (certificate.error, 0)
    while digits >= 9.5 && digits.isFinite { (digits, exponent) = (digits / 10, exponent + 1) }
    while digits < 0.95 && digits > 0 { (digits, exponent) = (digits * 10, exponent - 1) }
    let shown = digits.isFinite ? "\(Int(digits.rounded()))e\(exponent)" : "inf"
    return .numerical(
      "the matrix is singular to working precision: its factors are off by e = \(shown) relatively, and "
        + "\(FactorCertificate.limit) would do")
  }
}
