import Testing

@testable import SwiftNets

@Suite struct SymmetricFactorTests {
  enum Kind: CaseIterable {
    case random, zeroDiagonal, definite
  }

  /// Orders on both sides of a panel's width, and of the few rows that a solve takes at once.
  static let orders = [1, 2, 3, 7, 24, 25, 65, 130]

  private func matrix(_ n: Int, _ kind: Kind, seed: UInt64) throws -> Matrix<Double> {
    let a = try Matrix<Double>.normal(n, n, seed: seed)
    for i in 0..<n {
      for j in 0..<i { a[i, j] = a[j, i] }
      // An entry off the diagonal of order 1 and none on it: 1×1 pivots would be divisions by 0.
      if kind == .zeroDiagonal && n > 1 { a[i, i] = 0 }
      if kind == .definite { a[i, i] = 4 * Double(n).squareRoot() + 1 }
    }
    return a
  }

  /// A factorisation of `a` and the memory that it lives in.
  private struct Factored<Element: FactorScalar> {
    let factor: SymmetricFactor<Element>
    let isRegular: Bool
    private let memory: ArenaMemory

    init(order: Int, _ entry: (Int, Int) -> Element) throws {
      var arena = Arena.measuring
      _ = SymmetricFactor<Element>(order: order, in: &arena)
      memory = try ArenaMemory(bytes: arena.bytes)
      arena = Arena(memory)
      factor = SymmetricFactor(order: order, in: &arena)
      for i in 0..<order {
        // Only the lower triangle is read.
        for j in 0..<order { factor.base[i * order + j] = j <= i ? entry(i, j) : Element(.nan) }
      }
      isRegular = try factor.factor()
    }

    /// A⁻¹ b for the columns of b.
    func solve(_ b: [[Element]]) -> [[Element]] {
      let (n, count) = (factor.order, b[0].count)
      // The kernels read whole vectors, and so past the end.
      var x = (0..<n).flatMap { b[Int(factor.places[$0])] } + [Element](repeating: Element(0), count: 4)
      var y = x
      x.withUnsafeMutableBufferPointer { x in
        y.withUnsafeMutableBufferPointer { y in
          let (x, y) = (x.baseAddress!, y.baseAddress!)
          Element.solveColumns(isTransposed: true, n, factor.base, n, x, count, count: count)
          factor.divideColumns(x, into: y, count)
          Element.solveColumns(isTransposed: false, n, factor.base, n, y, count, count: count)
        }
      }
      var result = b
      for row in 0..<n { result[Int(factor.places[row])] = Array(y[row * count..<(row + 1) * count]) }
      return result
    }
  }

  @Test(arguments: orders, Kind.allCases)
  func `a solve leaves a residual of rounding errors`(n: Int, kind: Kind) throws {
    let a = try matrix(n, kind, seed: UInt64(n))
    let factored = try Factored<Double>(order: n) { a[$0, $1] }
    try #require(factored.isRegular)
    let b = try Matrix<Double>.normal(n, 5, seed: 3)
    let x = factored.solve((0..<n).map { row in (0..<5).map { b[row, $0] } })
    // Bunch and Kaufman: backward stable but for the growth of the entries, which is small unless it is made not to be.
    for column in 0..<5 {
      let length = (0..<n).reduce(0) { $0 + x[$1][column] * x[$1][column] }.squareRoot()
      for row in 0..<n {
        let residual = (0..<n).reduce(Float80(b[row, column])) { $0 - Float80(a[row, $1]) * Float80(x[$1][column]) }
        #expect(abs(Double(residual)) <= 8 * Double(n) * 0x1p-53 * a.norm * length)
      }
    }
  }

  @Test(arguments: orders, Kind.allCases)
  func `a complex symmetric matrix is solved without conjugation`(n: Int, kind: Kind) throws {
    let (a, c) = (try matrix(n, kind, seed: UInt64(n)), try matrix(n, .random, seed: 7))
    if kind == .zeroDiagonal && n > 1 { for i in 0..<n { c[i, i] = 0 } }
    let factored = try Factored<Complex>(order: n) { Complex(a[$0, $1], c[$0, $1]) }
    try #require(factored.isRegular)
    let b = try Matrix<Double>.normal(n, 2, seed: 3)
    let x = factored.solve((0..<n).map { [Complex(b[$0, 0], b[$0, 1]), Complex(b[$0, 1], -1)] })
    for column in 0..<2 {
      let length = (0..<n).reduce(0) {
        $0 + x[$1][column].real * x[$1][column].real + x[$1][column].imaginary * x[$1][column].imaginary
      }.squareRoot()
      for row in 0..<n {
        let wanted = column == 0 ? Complex(b[row, 0], b[row, 1]) : Complex(b[row, 1], -1)
        let residual = (0..<n).reduce(wanted) { $0 - Complex(a[row, $1], c[row, $1]) * x[$1][column] }
        let bound = 16 * Double(n) * 0x1p-53 * (a.norm + c.norm) * length
        #expect(abs(residual.real) <= bound && abs(residual.imaginary) <= bound)
      }
    }
  }

  @Test(arguments: orders, [true, false])
  func `rows are solved as columns are`(n: Int, isTransposed: Bool) throws {
    let a = try matrix(n, .random, seed: UInt64(n))
    let factored = try Factored<Double>(order: n) { a[$0, $1] }
    for count in [1, 3] {
      let rows = try Matrix<Double>.normal(count, n, seed: 3)
      let columns = try Matrix<Double>(rows: n + 4, columns: count)
      for i in 0..<n { for j in 0..<count { columns[i, j] = rows[j, i] } }
      let sizes = rows.norm
      Double.solveRows(isTransposed: isTransposed, n, factored.factor.base, n, rows.base, n, count: count)
      Double.solveColumns(isTransposed: isTransposed, n, factored.factor.base, n, columns.base, count, count: count)
      // Entries of M are at most 2.8 in a 1×1 pivot's column, and of any size in a 2×2 one's, but small in practice.
      for i in 0..<n {
        for j in 0..<count {
          #expect(abs(rows[j, i] - columns[i, j]) <= Double(n * n) * 0x1p-52 * (sizes + rows.norm))
        }
      }
    }
  }

  @Test(arguments: orders, Kind.allCases)
  func `inertia and determinant are those of the eigenvalues`(n: Int, kind: Kind) throws {
    let a = try matrix(n, kind, seed: UInt64(n))
    let factored = try Factored<Double>(order: n) { a[$0, $1] }
    var inertia = Inertia()
    var determinant = LogarithmOfProduct()
    factored.factor.tally(&inertia, &determinant)
    let values = try symmetricEigen(try a.copy())
    #expect(inertia == Inertia(positive: values.filter { $0 > 0 }.count, negative: values.filter { $0 < 0 }.count))
    let condition = a.norm / values.map(abs).min()!
    let wanted = values.reduce(0) { $0 + Double.logarithm(abs($1)) }
    #expect(abs(determinant.value - wanted) <= 8 * Double(n) * 0x1p-53 * condition)
  }

  @Test func `a determinant beyond the range of numbers has a logarithm`() throws {
    let n = 40
    for scale in [1e-300, 1e300] {
      let factored = try Factored<Double>(order: n) { $0 == $1 ? scale : 0 }
      var inertia = Inertia()
      var determinant = LogarithmOfProduct()
      factored.factor.tally(&inertia, &determinant)
      let wanted = Double(n) * Double.logarithm(scale)
      #expect(abs(determinant.value - wanted) <= Double(n) * 0x1p-52 * abs(wanted))
    }
  }

  @Test func `a product of any numbers has a logarithm`() {
    var product = LogarithmOfProduct()
    for x in [1e308, -1e308, .leastNonzeroMagnitude, .leastNonzeroMagnitude] { product.multiply(x) }
    product.divide(.leastNonzeroMagnitude)
    // 1e308² · 2⁻¹⁰⁷⁴
    let wanted = 2 * Double.logarithm(1e308) - 1074 * Double.logarithm(2)
    #expect(abs(product.value - wanted) <= 8 * 0x1p-53 * 1500)
    product.multiply(0)
    product.multiply(3)
    #expect(product.value == -.infinity)
    product = LogarithmOfProduct()
    product.divide(0)
    #expect(product.value == .infinity)
    product.multiply(.nan)
    #expect(product.value.isNaN)
  }

  @Test(arguments: [1, 2, 5, 20], [0, 1, 3])
  func `a symmetric matrix of any rank is diagonalised by unitary rows`(n: Int, rank: Int) throws {
    // A sum of squares of vectors: complex symmetric of that rank, or 0.
    let a = try Matrix<Double>.normal(2 * rank + 1, n, seed: 9)
    var f = [Complex](repeating: Complex(0), count: n * n)
    for k in 0..<rank {
      for i in 0..<n {
        for j in 0..<n {
          f[i * n + j] = f[i * n + j] + Complex(a[2 * k, i], a[2 * k + 1, i]) * Complex(a[2 * k, j], a[2 * k + 1, j])
        }
      }
    }
    try check(f, n)
    try check(f.map(\.real), n)
  }

  private func check<Element: FactorScalar>(_ f: [Element], _ n: Int) throws {
    let (rows, values) = try Element.diagonalized(f, order: n, interruption: Interruption())
    let size = f.map(\.magnitude).max()!
    for i in 0..<n {
      for j in 0..<n {
        var (overlap, entry) = (Element(0), Element(0))
        for k in 0..<n {
          overlap = overlap + rows[i * n + k] * rows[j * n + k].conjugate
          for l in 0..<n { entry = entry + rows[i * n + k] * f[k * n + l] * rows[j * n + l] }
        }
        #expect((overlap - Element(i == j ? 1 : 0)).magnitude <= 1e-12)
        #expect((entry - Element(i == j ? values[i] : 0)).magnitude <= 1e-12 * Double(n) * size)
      }
    }
  }

  @Test func `a certificate tells factors of the matrix from those of another`() throws {
    let n = 50
    let a = try Matrix<Double>.normal(1, n, seed: 4)
    func certificate(_ inverse: (Int) -> Double) throws -> FactorCertificate {
      try FactorCertificate(order: n, norm: 3, isComplex: false) { x in
        for i in 0..<n { x.real.base[i] *= inverse(i) }
      } multiply: { x, y in
        for i in 0..<n { y.real.base[i] = a.base[i] * x.real.base[i] }
      }
    }
    let right = try certificate { 1 / a.base[$0] }
    #expect(right.isAccepted && right.error < 1e-11)
    // One eigenvalue of the wrong sign: ‖1 − A F⁻¹‖ = 2.
    let wrong = try certificate { ($0 == 17 ? -1 : 1) / a.base[$0] }
    #expect(!wrong.isAccepted && wrong.error > 0.1)
    #expect(try !certificate { $0 == 17 ? .infinity : 1 / a.base[$0] }.isAccepted)
  }

  @Test func `a singular matrix, and one with a NaN, are refused`() throws {
    #expect(try !Factored<Double>(order: 3) { _, _ in 0 }.isRegular)
    #expect(try !Factored<Double>(order: 3) { $0 == 2 && $1 == 2 ? .nan : $0 == $1 ? 1 : 0 }.isRegular)
    #expect(try !Factored<Complex>(order: 3) { _, _ in Complex(0) }.isRegular)
  }

  @Test func `a factorisation stops when it is asked to`() throws {
    var asked = 0
    var arena = Arena.measuring
    _ = SymmetricFactor<Double>(order: 60, in: &arena)
    let memory = try ArenaMemory(bytes: arena.bytes)
    arena = Arena(memory)
    let factor = SymmetricFactor<Double>(order: 60, in: &arena)
    for i in 0..<3600 { factor.base[i] = i % 61 == 0 ? 1 : 0 }
    let interruption = Interruption {
      asked += 1
      return asked == 2
    }
    #expect(throws: EngineError.cancelled) { try factor.factor(interruption: interruption) }
    #expect(asked == 2)
    withExtendedLifetime(memory) {}
  }

  @Test func `division of complex numbers does not overflow on the way`() {
    let large = Complex(1e300, -1e300)
    #expect(large / large == Complex(1))
    #expect(Complex(0, 1e-300) / Complex(1e-300, 0) == Complex(0, 1))
    let quotient = Complex(3, -2) / Complex(-1, 4)
    let back = quotient * Complex(-1, 4)
    #expect(abs(back.real - 3) <= 8 * 0x1p-52 && abs(back.imaginary + 2) <= 8 * 0x1p-52)
  }
}
