import Glibc

/// tr A⁻¹ and log|det A| from one factorisation of A + ih, with h so small that squares of it vanish beside 1: imaginary
/// parts then are h times derivatives (Squire & Trapp 1998), without the cancellation of differences. With the pivots d,
///
///     tr A⁻¹ = d/dλ log|det (A + λ)| = Σ Im d / (h Re d)
public struct TraceOfInverse: Sendable {
  public let trace: Double
  /// log|det A|.
  public let logDeterminant: Double

  /// Largest |h| relative to ‖A‖: its square does not show beside 1.
  static let largestStep = 0x1p-60

  init(_ sum: PivotSlopes, logDeterminant: Double, step: Double) {
    self.logDeterminant = logDeterminant
    trace = sum.value / step
  }

  /// Of a dense matrix plus a shift.
  /// - Parameters:
  ///   - a: the upper triangle of A [n, n], which is copied.
  ///   - step: h, not 0 and at most 2⁻⁶⁰ of the largest entry.
  /// - Throws: `numerical` where a pivot is 0, `notFinite`, `outOfMemory`, `cancelled`, `invalidArgument`.
  /// - Complexity: 4/3 n³ operations, and 16 n² bytes. What rounding does to the pivots is not measured here: factor
  ///   the real matrix for that.
  public init(
    _ a: Matrix<Double>, shift: Double, step: Double, interruption: Interruption = Interruption()
  ) throws(EngineError) {
    let order = a.rows
    guard order <= 1 << 20 else { throw .outOfMemory(bytes: saturating(order, order, 16)) }
    var measuring = Arena.measuring
    _ = SymmetricFactor<Complex>(order: order, in: &measuring)
    let memory = try ArenaMemory(bytes: measuring.bytes)
    var arena = Arena(memory)
    let factors = SymmetricFactor<Complex>(order: order, in: &arena)
    let largest = try Self.largest(a, interruption)
    let size = max(largest, abs(shift))
    guard shift.isFinite, step != 0, abs(step) <= Self.largestStep * size else {
      throw .invalidArgument("the shift is \(shift) and the step \(step); both must be finite, and the step tiny")
    }
    let exponent = size > 0x1p300 || size < 0x1p-300 ? Int(size.exponent) : 0
    func scaled(_ number: Double) -> Double { exponent == 0 ? number : scalbn(number, Int32(-exponent)) }
    try inSlices(of: order, weight: saturating(copied, order, 2), interruption: interruption) { rows in
      for row in rows {
        let target = factors.base + row * order
        for column in 0...row { target[column] = Complex(scaled(a[column, row])) }
        target[row] = Complex(scaled(a[row, row]) + scaled(shift), scaled(step))
      }
    }
    guard try factors.factor(interruption: interruption) else {
      throw .numerical("the matrix is singular to working precision: a pivot is 0")
    }
    var (sum, determinant) = (PivotSlopes(), LogarithmOfProduct())
    factors.tally(&sum, &determinant)
    self.init(
      sum, logDeterminant: determinant.value + Double(order * exponent) * Double.logarithm(2), step: step)
    guard trace.isFinite else { throw .numerical("the trace of the inverse is beyond the range of float64") }
  }

  private static func largest(_ a: Matrix<Double>, _ interruption: Interruption) throws(EngineError) -> Double {
    var (sum, largest) = (0.0, 0.0)  // the first of zeros, and of NaN where a number is not finite
    for row in 0..<a.rows {
      if row % 1024 == 0 { try interruption.check() }
      for column in row..<a.rows {
        sum += 0 * a[row, column]
        largest = max(largest, abs(a[row, column]))
      }
    }
    guard sum == 0 else { throw .notFinite("the matrix has numbers that are not finite") }
    return largest
  }
}

/// Σ Im d / Re d over pivots, with the roundings of the sum carried along: terms of both signs may be large.
struct PivotSlopes {
  private var sum = 0.0
  private var rest = 0.0

  mutating func add(_ pivot: Complex, times: Double = 1) {
    let term = times * (pivot.imaginary / pivot.real)
    let next = sum + term
    rest += abs(sum) >= abs(term) ? (sum - next) + term : (term - next) + sum
    sum = next
  }

  var value: Double { sum + rest }
}

extension SymmetricFactor where Element == Complex {
  /// Adds up the pivots' slopes, and multiplies |Re det| of each into `determinant`: of a matrix with a tiny imaginary
  /// part.
  func tally(_ sum: inout PivotSlopes, _ determinant: inout LogarithmOfProduct) {
    var index = 0
    while index < order {
      if pivots[index] > 0 {
        let pivot = base[index * stride + index]
        sum.add(pivot)
        determinant.multiply(pivot.real)
        index += 1
        continue
      }
      // det D⁻¹ = (a b − 1) / scale², and coupling = −1 / scale.
      let middle = coupling[index]
      let rest = (inverse[index + 1] / middle) * (inverse[index] / middle) - Complex(1)
      sum.add(middle, times: -2)
      sum.add(rest, times: -1)
      determinant.divide(middle.real)
      determinant.divide(middle.real)
      determinant.divide(rest.real)
      index += 2
    }
  }
}
