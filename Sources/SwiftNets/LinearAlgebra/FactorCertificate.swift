import COpenBLAS

/// What proves that factors F of a symmetric matrix A tell A's inertia.
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

  /// Below it the inertia is proved, up to the chance that two random vectors both miss by a factor of ten.
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
  ///   - solve: replaces rows b by F⁻¹ b, unrefined.
  ///   - multiply: A times the first rows into the second.
  init(
    order: Int, norm: Double, isComplex: Bool, solve: (Rows) throws(EngineError) -> Void,
    multiply: (Rows, Rows) throws(EngineError) -> Void
  ) throws(EngineError) {
    func rows() throws(EngineError) -> Rows {
      (try Matrix(rows: 2, columns: order), isComplex ? try Matrix(rows: 2, columns: order) : nil)
    }
    let (start, x, image) = (try Matrix<Double>(rows: 2, columns: order), try rows(), try rows())
    var noise = Noise()
    for row in 0..<2 {
      for column in 0..<order { start[row, column] = noise.next() }
      // Of variance 1 in these very numbers, so that it matters in one dimension, too.
      let scale = Double(order).squareRoot() / Self.length((start, nil), row)
      for column in 0..<order {
        start[row, column] *= scale
        x.real[row, column] = start[row, column]
      }
    }
    try solve(x)
    try multiply(x, image)
    var (backward, inverse) = (0.0, 0.0)
    for row in 0..<2 {
      for column in 0..<order { image.real[row, column] -= start[row, column] }
      let size = Self.length(x, row)
      // NaN is no maximum.
      backward = Self.most(backward, Self.length(image, row) / size)
      inverse = Self.most(inverse, size)
    }
    let relative = backward + 0x1p-51 * norm
    var error = relative * inverse
    if error > 1e-4 && error <= Self.limit {
      // Where both vectors had little of the eigenvector with the largest inverse, x has much.
      for row in 0..<2 {
        let size = Self.length(x, row)
        for column in 0..<order {
          x.real[row, column] /= size
          if let imaginary = x.imaginary { imaginary[row, column] /= -size }
        }
      }
      try solve(x)
      for row in 0..<2 { error = Self.most(error, relative * Self.length(x, row)) }
    }
    self.error = error
    backwardError = norm > 0 ? backward / norm : 0
    logDeterminantError = Double(order).squareRoot() * error
  }

  private static func most(_ a: Double, _ b: Double) -> Double { a.isNaN || b.isNaN ? .infinity : max(a, b) }

  private static func length(_ rows: Rows, _ row: Int) -> Double {
    let real = length(rows.real, row)
    guard let imaginary = rows.imaginary else { return real }
    return Complex(real, length(imaginary, row)).magnitude
  }

  private static func length(_ rows: Matrix<Double>, _ row: Int) -> Double {
    scipy_cblas_dnrm2(Int32(rows.columns), rows.row(row), 1)
  }
}

extension EngineError {
  /// Factors that prove nothing.
  static func singular(_ certificate: FactorCertificate) -> EngineError {
    // Two digits, without Foundation.
    var (digits, exponent) = (certificate.error, 0)
    while digits >= 10 && digits.isFinite { (digits, exponent) = (digits / 10, exponent + 1) }
    while digits < 1 && digits > 0 { (digits, exponent) = (digits * 10, exponent - 1) }
    let shown = digits.isFinite ? "\((digits * 10).rounded() / 10)e\(exponent)" : "inf"
    return .numerical(
      "the matrix is singular to working precision: its factors are off by e = \(shown) relatively, and "
        + "\(FactorCertificate.limit) would do")
  }
}
