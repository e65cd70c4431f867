import Glibc
import Testing

@testable import SwiftNets

/// tr (A + λ)⁻¹ and log|det (A + λ)| by a complex step, against elimination in extended precision and known spectra.
@Suite struct TraceOfInverseTests {
  static let step = 0x1p-100

  /// Definite, indefinite, and of zeros on the diagonal, so that pivots are two by two.
  static func symmetric(_ n: Int, kind: String) throws -> Matrix<Double> {
    let a = try Matrix<Double>.normal(n, n, seed: UInt64(n))
    for i in 0..<n {
      for j in 0..<i { a[i, j] = a[j, i] }
      switch kind {
      case "definite": a[i, i] += 4 * Double(n).squareRoot()
      case "hollow": a[i, i] = 0
      default: break
      }
    }
    return a
  }

  /// The trace of the inverse, its norm by Frobenius, and log|det|, in Float80.
  static func reference(_ a: Matrix<Double>, shift: Double) -> (trace: Double, inverse: Double, logDeterminant: Double)
  {
    let n = a.rows
    var rows = a.rowsAsArrays
    for i in 0..<n { rows[i][i] += Float80(shift) }
    var (trace, square): (Float80, Float80) = (0, 0)
    for i in 0..<n {
      let column = solveExtended(rows, (0..<n).map { $0 == i ? 1 : 0 })
      trace += column[i]
      square += column.reduce(0) { $0 + $1 * $1 }
    }
    var logDeterminant: Float80 = 0
    for column in 0..<n {
      let pivot = (column..<n).max { abs(rows[$0][column]) < abs(rows[$1][column]) }!
      rows.swapAt(column, pivot)
      logDeterminant += Float80(log(Double(abs(rows[column][column]))))
      for row in column + 1..<n {
        let factor = rows[row][column] / rows[column][column]
        for k in column..<n { rows[row][k] -= factor * rows[column][k] }
      }
    }
    return (Double(trace), Double(square.squareRoot()), Double(logDeterminant))
  }

  @Test(arguments: [1, 2, 7, 40], ["definite", "indefinite", "hollow"])
  func `trace and determinant are those of an inverse in extended precision`(n: Int, kind: String) throws {
    let a = try Self.symmetric(n, kind: kind)
    for shift in kind == "hollow" && n > 2 ? [0.0, 0.3] : [0.3, -2.5] {
      let wanted = Self.reference(a, shift: shift)
      var norm = abs(shift)
      for i in 0..<n { for j in 0..<n { norm = hypot(norm, a[i, j]) } }
      for step in [Self.step, -Self.step] {
        let found = try TraceOfInverse(a, shift: shift, step: step)
        // Backward stable: A + E with |E| some n u |A|, and d tr A⁻¹ = −tr A⁻¹ E A⁻¹.
        let rounding = 4 * Double(n) * 0x1p-52 * norm * wanted.inverse
        #expect(abs(found.trace - wanted.trace) <= rounding * wanted.inverse)
        #expect(abs(found.logDeterminant - wanted.logDeterminant) <= rounding * Double(n))
      }
    }
  }

  /// Powers of two change no bits: the trace is scaled by the inverse one, the logarithm by a sum.
  @Test(arguments: [-900, -600, 0, 500, 900])
  func `scales far from one`(exponent: Int) throws {
    let n = 12
    let a = try Self.symmetric(n, kind: "indefinite")
    let plain = try TraceOfInverse(a, shift: 0.25, step: Self.step)
    let scaled: Matrix<Double> = try Matrix(rows: n, columns: n)
    for i in 0..<n { for j in 0..<n { scaled[i, j] = scalbn(a[i, j], Int32(exponent)) } }
    let found = try TraceOfInverse(
      scaled, shift: scalbn(0.25, Int32(exponent)), step: scalbn(Self.step, Int32(exponent)))
    #expect(abs(scalbn(found.trace, Int32(exponent)) - plain.trace) <= 1e-13 * abs(plain.trace))
    #expect(
      abs(found.logDeterminant - plain.logDeterminant - Double(n * exponent) * log(2.0))
        <= 0x1p-50 * Double(n * abs(exponent) + n))
  }

  @Test func `what cannot be answered is refused`() throws {
    let a = try Self.symmetric(3, kind: "definite")
    for (shift, step) in [(0.0, 0.0), (0.0, 1e-3), (.nan, Self.step), (.infinity, Self.step)] as [(Double, Double)] {
      #expect(throws: EngineError.self) { try TraceOfInverse(a, shift: shift, step: step) }
    }
    let singular: Matrix<Double> = try Matrix(rows: 2, columns: 2)
    for i in 0..<2 { for j in 0..<2 { singular[i, j] = 1 } }
    // 1 / 0 is no number; with the step alone in its place the trace would be 1 / h.
    let found = try? TraceOfInverse(singular, shift: 0, step: Self.step)
    #expect(found == nil || abs(found!.trace) > 1e25)
    a[0, 1] = .nan
    #expect(throws: EngineError.self) { try TraceOfInverse(a, shift: 0, step: Self.step) }
    #expect(throws: EngineError.cancelled) {
      try TraceOfInverse(
        try Self.symmetric(3, kind: "definite"), shift: 0, step: Self.step, interruption: Interruption { true })
    }
  }

  /// Terms of both signs, 2⁶⁰ times what is left of them: a plain sum has nothing of it.
  @Test func `roundings of the sum over pivots are carried along`() {
    var slopes = PivotSlopes()
    slopes.add(Complex(1, 0x1p60))
    slopes.add(Complex(1, 1))
    slopes.add(Complex(1, 0x1p60), times: -1)
    #expect(slopes.value == 1)
  }

  @Test(arguments: LayeredFactorizationTests.cases, [10, 1, 0.1])
  func `layer by layer it is the sum over the eigenvalues`(
    case: LayeredFactorizationTests.Case, shift: Double
  ) throws {
    let net = try `case`.net()
    let dense = try LayeredFactorizationTests.Dense(net, shift: shift)
    let wanted = dense.eigenvalues.reduce(0) { $0 + 1 / $1 }
    let size = dense.eigenvalues.reduce(0) { $0 + 1 / abs($1) }
    let determinant = dense.eigenvalues.reduce(0) { $0 + log(abs($1)) }
    for form in LayeredFactorizationTests.forms {
      let factors = try LayeredFactorization(
        layers: net.layers, output: net.output, shift: shift, imaginaryShift: Self.step, form: form)
      let found = try #require(factors.traceOfInverse)
      let rounding = 32 * Double(net.parameterCount) * 0x1p-52 * dense.condition * dense.growth
      #expect(abs(found.trace - wanted) <= rounding * size)
      #expect(abs(found.logDeterminant - determinant) <= rounding * Double(net.parameterCount))
      let real = try LayeredFactorization(layers: net.layers, output: net.output, shift: shift, form: form)
      #expect(real.traceOfInverse == nil)
      let large = try LayeredFactorization(
        layers: net.layers, output: net.output, shift: shift, imaginaryShift: 0.1, form: form)
      #expect(large.traceOfInverse == nil)
    }
  }
}
