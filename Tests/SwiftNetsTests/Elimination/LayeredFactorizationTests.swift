import Glibc
import Testing

@testable import SwiftNets

@Suite struct LayeredFactorizationTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let sizes: [Int]
    let samples: Int
    let bias: Bool
    let isTanh: Bool
    let loss: DenseNet.Loss

    func net() throws -> DenseNet {
      try DenseNet(sizes, samples: samples, bias: bias, isTanh: isTanh, loss: loss, seed: UInt64(samples + sizes.count))
    }

    var testDescription: String {
      "\(sizes), \(samples) samples, \(isTanh ? "tanh" : "leaky"), \(loss)\(bias ? ", bias" : "")"
    }
  }

  /// Depth 1 to 11, widths 1 to 6, fewer and more samples than weights for each unit.
  static let cases = [
    Case(sizes: [3, 4], samples: 2, bias: true, isTanh: true, loss: .squares),
    Case(sizes: [1, 1, 1], samples: 2, bias: false, isTanh: true, loss: .squares),
    Case(sizes: [2, 3, 2], samples: 1, bias: true, isTanh: false, loss: .crossEntropy),
    Case(sizes: [4, 4, 4], samples: 20, bias: false, isTanh: true, loss: .crossEntropy),
    Case(sizes: [5, 2, 6, 3], samples: 4, bias: true, isTanh: false, loss: .crossEntropy),
    Case(sizes: [3, 5, 5, 2], samples: 3, bias: true, isTanh: true, loss: .squares),
    Case(sizes: [6, 3, 3, 3, 3, 4], samples: 7, bias: false, isTanh: false, loss: .squares),
    Case(sizes: [2, 3, 3, 3, 3, 3], samples: 20, bias: true, isTanh: true, loss: .squares),
    Case(sizes: [Int](repeating: 3, count: 12), samples: 3, bias: true, isTanh: false, loss: .crossEntropy),
    Case(sizes: [Int](repeating: 3, count: 8), samples: 5, bias: false, isTanh: true, loss: .crossEntropy),
  ]
  static let shifts = [10, 1, 0.1, 1e-3, -0.37]
  static let forms: [LayerForm] = [.automatic, .primal, .dual]

  // MARK: - What is known about H + λ

  /// H + λ written out, and how far rounding errors may carry its solutions.
  struct Dense {
    let matrix: [[Double]]
    let eigenvalues: [Double]
    /// ‖H + λ‖ ‖(H + λ)⁻¹‖
    let condition: Double
    /// The largest ‖H + λ‖ ‖T⁻¹‖ of the blocks T of the layers from one to the last: elimination layer by layer,
    /// without pivots across layers, solves with each of them, and what one magnifies the next ones inherit.
    let growth: Double

    init(_ net: DenseNet, shift: Double, imaginary: Double = 0) throws {
      var rows = net.hessian()
      for i in rows.indices { rows[i][i] += shift }
      matrix = rows
      let blocks = try net.offsets.map { first -> [Double] in
        let n = rows.count - first
        let block: Matrix<Double> = try .padded(n, n)
        for i in 0..<n { for j in 0..<n { block[i, j] = rows[first + i][first + j] } }
        return try symmetricEigen(block)
      }
      eigenvalues = blocks[0]
      // Eigenvalues of a symmetric matrix plus i times the imaginary shift.
      let norm = blocks[0].map { hypot($0, imaginary) }.max()!
      condition = norm / blocks[0].map { hypot($0, imaginary) }.min()!
      growth = norm / blocks.joined().map { hypot($0, imaginary) }.min()!
    }

    func solve(_ b: [Double]) -> [Double] {
      solveExtended(matrix.map { $0.map(Float80.init) }, b.map(Float80.init)).map(Double.init)
    }

    /// (H + λ + iτ)⁻¹ b as the solution of a real system of twice the order.
    func solve(_ b: [Double], imaginary: Double) -> (real: [Double], imaginary: [Double]) {
      let n = b.count
      var rows = [[Float80]](repeating: [Float80](repeating: 0, count: 2 * n), count: 2 * n)
      for i in 0..<n {
        for j in 0..<n {
          rows[i][j] = Float80(matrix[i][j])
          rows[n + i][n + j] = rows[i][j]
        }
        rows[i][n + i] = -Float80(imaginary)
        rows[n + i][i] = Float80(imaginary)
      }
      let x = solveExtended(rows, b.map(Float80.init) + [Float80](repeating: 0, count: n)).map(Double.init)
      return (Array(x[..<n]), Array(x[n...]))
    }
  }

  private static let epsilon = 0x1p-53

  private func length(_ x: [Double]) -> Double { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }

  private func error(_ x: [Double], _ exact: [Double]) -> Double {
    length(zip(x, exact).map { $0 - $1 }) / length(exact)
  }

  private func vector(_ n: Int, seed: UInt64 = 77) throws -> [Double] {
    let matrix = try Matrix<Double>.normal(1, n, seed: seed)
    return (0..<n).map { matrix[0, $0] }
  }

  private func matrix(_ rows: [[Double]]) throws -> Matrix<Double> {
    let matrix = try Matrix<Double>(rows: rows.count, columns: rows[0].count)
    for (i, row) in rows.enumerated() { for (j, value) in row.enumerated() { matrix[i, j] = value } }
    return matrix
  }

  private func solve(_ factors: LayeredFactorization, _ b: [[Double]]) throws -> [[Double]] {
    let (right, x) = (try matrix(b), try Matrix<Double>(rows: b.count, columns: b[0].count))
    try factors.solve(right, into: x)
    return (0..<b.count).map { row in (0..<b[0].count).map { x[row, $0] } }
  }

  // MARK: - Against the dense system

  @Test(arguments: cases)
  func `the tests' Hessian is the derivative of their gradient`(case: Case) throws {
    var net = try `case`.net()
    let weights = net.layers.flatMap { layer in
      (0..<layer.weights.rows * layer.weights.columns).map { layer.weights.base[$0] }
    }
    let v = try vector(net.parameterCount)
    let product = net.product(v)
    let step = 1e-5
    let ahead = try net.move(to: zip(weights, v).map { $0 + step * $1 })
    let behind = try net.move(to: zip(weights, v).map { $0 - step * $1 })
    let difference = zip(ahead, behind).map { ($0 - $1) / (2 * step) }
    // The step's square times a third derivative along v, of length about √P; rounding over the step is smaller.
    #expect(error(difference, product) <= 100 * step * step * Double(net.parameterCount))
  }

  @Test(arguments: cases, shifts)
  func `solutions are those of the dense system in every form, and to rounding after refinement`(
    case: Case, shift: Double
  ) throws {
    let net = try `case`.net()
    let dense = try Dense(net, shift: shift)
    let b = try vector(net.parameterCount)
    let exact = dense.solve(b)
    for form in Self.forms {
      let factors = try LayeredFactorization(layers: net.layers, output: net.output, shift: shift, form: form)
      var x = try solve(factors, [b])[0]
      #expect(error(x, exact) <= 16 * Self.epsilon * dense.condition * dense.growth)
      for _ in 0..<2 {
        let residual = zip(zip(net.product(x), x), b).map { $1 - $0.0 - shift * $0.1 }
        x = zip(x, try solve(factors, [residual])[0]).map { $0 + $1 }
      }
      // What is left comes from the rounding of H itself and of its products with x, sums of up to N + P numbers.
      let terms = Double(net.samples + net.parameterCount).squareRoot()
      #expect(error(x, exact) <= 4 * terms * Self.epsilon * dense.condition)
    }
  }

  @Test(arguments: cases, [(0, 0.1), (0, 1e-3), (0.2, -0.05)])
  func `solutions at complex shifts are those of the dense system`(case: Case, shift: (Double, Double)) throws {
    let net = try `case`.net()
    let (lambda, tau) = shift
    let dense = try Dense(net, shift: lambda, imaginary: tau)
    let n = net.parameterCount
    let b = try vector(n)
    let exact = dense.solve(b, imaginary: tau)
    for form in Self.forms {
      let factors = try LayeredFactorization(
        layers: net.layers, output: net.output, shift: lambda, imaginaryShift: tau, form: form)
      let (x, y) = (try Matrix<Double>(rows: 1, columns: n), try Matrix<Double>(rows: 1, columns: n))
      try factors.solve(try matrix([b]), imaginary: nil, into: x, imaginary: y)
      let found = (0..<n).map { x[0, $0] } + (0..<n).map { y[0, $0] }
      #expect(error(found, exact.real + exact.imaginary) <= 16 * Self.epsilon * dense.condition * dense.growth)
      #expect(factors.inertia == nil && factors.logDeterminant == nil)
    }
  }

  @Test(arguments: cases, shifts)
  func `inertia and determinant are those of the dense eigenvalues`(case: Case, shift: Double) throws {
    let net = try `case`.net()
    let dense = try Dense(net, shift: shift)
    let wanted = dense.eigenvalues.reduce(0) { $0 + log(abs($1)) }
    for form in Self.forms {
      let factors = try LayeredFactorization(layers: net.layers, output: net.output, shift: shift, form: form)
      #expect(
        factors.inertia
          == Inertia(
            positive: dense.eigenvalues.filter { $0 > 0 }.count, negative: dense.eigenvalues.filter { $0 < 0 }.count))
      let found = try #require(factors.logDeterminant)
      // d log|det| = trace of (H + λ)⁻¹ dH
      let bound = 16 * Double(net.parameterCount) * Self.epsilon * dense.growth
      #expect(abs(found - wanted) <= bound)
    }
  }

  /// The originals' system with the equation that it lacked: with Z₀ and Z₁ invertible H itself has an inverse, and
  /// nothing needs damping.
  @Test(arguments: [true, false])
  func `square nets are solved without damping`(isTanh: Bool) throws {
    let net = try DenseNet([4, 4, 4], samples: 4, bias: false, isTanh: isTanh, loss: .squares, seed: 5)
    let dense = try Dense(net, shift: 0)
    let b = try vector(net.parameterCount)
    for form in Self.forms {
      let factors = try LayeredFactorization(layers: net.layers, output: net.output, shift: 0, form: form)
      let bound = 16 * Self.epsilon * dense.condition * dense.growth
      #expect(error(try solve(factors, [b])[0], dense.solve(b)) <= bound)
    }
  }

  /// Units and samples enough for OpenBLAS's products; and a single input, whose matrices are single rows.
  @Test(arguments: [
    Case(sizes: [3, 28, 3], samples: 20, bias: true, isTanh: true, loss: .squares),
    Case(sizes: [1, 3, 1], samples: 500, bias: false, isTanh: true, loss: .squares),
  ])
  func `a net of hundreds of unknowns a layer is solved as a small one is`(case: Case) throws {
    let net = try `case`.net()
    let n = net.parameterCount
    let b = try vector(n)
    for (lambda, tau) in [(0.1, nil), (0.1, 0.3)] as [(Double, Double?)] {
      let dense = try Dense(net, shift: lambda, imaginary: tau ?? 0)
      let factors = try LayeredFactorization(
        layers: net.layers, output: net.output, shift: lambda, imaginaryShift: tau)
      let (x, y) = (try Matrix<Double>(rows: 1, columns: n), try Matrix<Double>(rows: 1, columns: n))
      if tau == nil {
        try factors.solve(try matrix([b]), into: x)
      } else {
        try factors.solve(try matrix([b]), imaginary: nil, into: x, imaginary: y)
      }
      let (real, imaginary) = ((0..<n).map { x[0, $0] }, (0..<n).map { y[0, $0] })
      let (first, second) = (net.product(real), net.product(imaginary))
      let scale = dense.growth * dense.eigenvalues.map(abs).max()! * length(real + imaginary)
      for i in 0..<n {
        let rest = b[i] - first[i] - lambda * real[i] + (tau ?? 0) * imaginary[i]
        let other = second[i] + lambda * imaginary[i] + (tau ?? 0) * real[i]
        #expect(hypot(rest, other) <= 16 * Self.epsilon * scale)
      }
    }
  }

  // MARK: - Many right-hand sides, other numbers

  @Test(arguments: [cases[4], cases[7]])
  func `many right-hand sides are solved as each one is`(case: Case) throws {
    let net = try `case`.net()
    let dense = try Dense(net, shift: 0.1)
    let factors = try LayeredFactorization(layers: net.layers, output: net.output, shift: 0.1)
    // More than are taken at once.
    let b = try (0..<67).map { try vector(net.parameterCount, seed: UInt64($0)) }
    for (x, right) in zip(try solve(factors, b), b) {
      let alone = try solve(factors, [right])[0]
      #expect(error(x, alone) <= 32 * Self.epsilon * dense.condition * dense.growth)
    }
    #expect(try solve(factors, [[Double](repeating: 0, count: net.parameterCount)])[0].allSatisfy { $0 == 0 })
  }

  @Test(arguments: [cases[4], cases[7]])
  func `a complex right-hand side is the sum of its parts, and may be overwritten`(case: Case) throws {
    let net = try `case`.net()
    let n = net.parameterCount
    let dense = try Dense(net, shift: 0, imaginary: 0.1)
    let factors = try LayeredFactorization(layers: net.layers, output: net.output, shift: 0, imaginaryShift: 0.1)
    let (b, c) = (try vector(n, seed: 1), try vector(n, seed: 2))
    let (x, y) = (try matrix([b, c]), try matrix([c, b]))
    try factors.solve(x, imaginary: y, into: x, imaginary: y)
    let (p, q) = (dense.solve(b, imaginary: 0.1), dense.solve(c, imaginary: 0.1))
    let bound = 32 * Self.epsilon * dense.condition * dense.growth
    let exact = (0..<n).map { p.real[$0] - q.imaginary[$0] } + (0..<n).map { p.imaginary[$0] + q.real[$0] }
    #expect(error((0..<n).map { x[0, $0] } + (0..<n).map { y[0, $0] }, exact) <= bound)
    // The second one is the first one's conjugate, times i.
    let other = (0..<n).map { q.real[$0] - p.imaginary[$0] } + (0..<n).map { q.imaginary[$0] + p.real[$0] }
    #expect(error((0..<n).map { x[1, $0] } + (0..<n).map { y[1, $0] }, other) <= bound)
  }

  @Test func `another batch and another shift in the same memory give what new memory gives, to the bit`() throws {
    let (first, second) = (
      try Self.cases[5].net(),
      try DenseNet(
        Self.cases[5].sizes, samples: 3, bias: true, isTanh: true, loss: .squares, seed: 99)
    )
    let b = try vector(first.parameterCount)
    let reused = try LayeredFactorization(layers: first.layers, output: first.output, shift: 0.1)
    try reused.load(layers: second.layers, output: second.output)
    #expect(throws: EngineError.self) { try solve(reused, [b]) }
    try reused.factor(shift: -0.37)
    let fresh = try LayeredFactorization(layers: second.layers, output: second.output, shift: -0.37)
    #expect(try solve(reused, [b]) == solve(fresh, [b]))
    #expect(reused.inertia == fresh.inertia && reused.logDeterminant == fresh.logDeterminant)
  }

  @Test func `the cost is linear in the depth, and known before`() throws {
    func plan(_ depth: Int) throws -> LayeredPlan {
      try LayeredPlan(
        samples: 8, sizes: [Int](repeating: 8, count: depth + 1), hasBias: [Bool](repeating: true, count: depth))
    }
    let (a, b, c) = (try plan(2), try plan(33), try plan(64))
    #expect(abs(c.operations + a.operations - 2 * b.operations) <= 64 * 0x1p-52 * c.operations)
    #expect(c.parameterCount == 64 * 72)
    for isComplex in [false, true] {
      let net = try Self.cases[4].net()
      let plan = try LayeredPlan(samples: 4, sizes: net.sizes, hasBias: [true, true, true], isComplex: isComplex)
      let factors = try LayeredFactorization(
        layers: net.layers, output: net.output, shift: 1, imaginaryShift: isComplex ? 1 : nil)
      #expect(factors.bytes == plan.bytes && factors.operations == plan.operations)
      #expect(factors.operationsOfSolve == plan.operationsOfSolve)
      #expect(factors.parameterCount == net.parameterCount)
      #expect(factors.isDual == [true, false, true])
    }
  }

  // MARK: - What cannot be done

  @Test func `eigenvalues that are 0 are counted, and nothing is solved`() throws {
    // More weights than samples, and no damping.
    let wide = try Self.cases[5].net()
    // No slope at all in the second layer of three.
    let flat = try Self.cases[3].net()
    for i in 0..<80 {
      flat.layers[1].slopes.base[i] = 0
      flat.layers[1].curvatures.base[i] = 0
      flat.layers[1].deltas.base[i] = 0
    }
    for net in [wide, flat] {
      let values = try Dense(net, shift: 0).eigenvalues
      let few = 1e-13 * values.map(abs).max()!
      let wanted = Inertia(
        positive: values.filter { $0 > few }.count, negative: values.filter { $0 < -few }.count,
        zero: values.filter { abs($0) <= few }.count)
      #expect(wanted.zero > 0)
      for form in Self.forms {
        let factors = try LayeredFactorization(layers: net.layers, output: net.output, shift: 0, form: form)
        #expect(factors.inertia == wanted && factors.logDeterminant == -.infinity && factors.certificate == nil)
        #expect {
          try solve(factors, [try vector(net.parameterCount)])
        } throws: { error in
          if case .numerical(let message) = error as? EngineError { message.contains("singular") } else { false }
        }
        #expect(throws: EngineError.self) {
          try LayeredFactorization(
            layers: net.layers, output: net.output, shift: 0, imaginaryShift: 0, form: form)
        }
      }
    }
  }

  /// Where Z of the last layer is rank deficient its block is singular, and that of the whole is not.
  @Test(arguments: [0, 1e-12, -1e-9, 1e-6])
  func `pivots that are nearly 0 are left to the layer below`(shift: Double) throws {
    var delayed = 0
    for seed in 0..<40 as Range<UInt64> {
      let sizes = [1 + Int(seed % 2), 2 + Int(seed % 3), 2, 1]
      let net = try DenseNet(sizes, samples: 2 + Int(seed % 2), bias: false, isTanh: true, loss: .squares, seed: seed)
      let dense = try Dense(net, shift: shift)
      guard dense.condition < 1e6 else { continue }
      let b = try vector(net.parameterCount)
      let exact = dense.solve(b)
      for form in Self.forms {
        let factors = try LayeredFactorization(layers: net.layers, output: net.output, shift: shift, form: form)
        let inertia = try #require(factors.inertia)
        #expect(inertia.positive == dense.eigenvalues.filter { $0 > 0 }.count && inertia.zero == 0)
        // Roundings that may have grown by 1e4, or are measured to be 1e-10.
        #expect(error(try solve(factors, [b])[0], exact) <= 1e-9 * dense.condition)
        let plan = try LayeredPlan(
          samples: net.samples, sizes: net.sizes, hasBias: [false, false, false], form: form)
        if factors.bytes > plan.bytes { delayed += 1 }
      }
      let complex = try LayeredFactorization(
        layers: net.layers, output: net.output, shift: shift, imaginaryShift: 1e-12)
      let (x, y) = (try Matrix<Double>(rows: 1, columns: b.count), try Matrix<Double>(rows: 1, columns: b.count))
      try complex.solve(try matrix([b]), imaginary: nil, into: x, imaginary: y)
      #expect(error((0..<b.count).map { x[0, $0] }, exact) <= 1e-9 * dense.condition)
    }
    #expect(shift > 1e-9 || delayed > 0)
  }

  @Test func `numbers that are not finite are refused`() throws {
    let net = try Self.cases[4].net()
    var broken = net.layers
    let slopes = try broken[1].slopes.copy()
    slopes[2, 3] = .nan
    broken[1].slopes = slopes
    #expect(throws: EngineError.notFinite("layer 1 has numbers that are not finite")) {
      try LayeredFactorization(layers: broken, output: net.output, shift: 1)
    }
    for shift in [Double.nan, .infinity] {
      #expect(throws: EngineError.self) {
        try LayeredFactorization(layers: net.layers, output: net.output, shift: shift)
      }
    }
    let factors = try LayeredFactorization(layers: net.layers, output: net.output, shift: 1)
    var b = try vector(net.parameterCount)
    b[3] = .infinity
    #expect(throws: EngineError.self) { try solve(factors, [b]) }
  }

  @Test func `sizes that do not fit together are refused, and named`() throws {
    let net = try Self.cases[4].net()
    var layers = net.layers
    layers[1].deltas = try Matrix(rows: 4, columns: 5)
    #expect(throws: EngineError.invalidArgument("deltas of layer 1 is 4×5; expected 4×6")) {
      try LayeredFactorization(layers: layers, output: net.output, shift: 1)
    }
    layers = net.layers
    layers[2].weights = try Matrix(rows: 6, columns: 3)
    #expect(throws: EngineError.self) { try LayeredFactorization(layers: layers, output: net.output, shift: 1) }
    #expect(throws: EngineError.self) { try LayeredFactorization(layers: [], output: net.output, shift: 1) }
    let diagonal = OutputHessian.diagonal(try Matrix(rows: 4, columns: 2))
    #expect(throws: EngineError.self) { try LayeredFactorization(layers: net.layers, output: diagonal, shift: 1) }
    let factors = try LayeredFactorization(layers: net.layers, output: net.output, shift: 1)
    #expect(throws: EngineError.self) { try solve(factors, [[1, 2, 3]]) }
    #expect(throws: EngineError.self) { try factors.factor(shift: 1, imaginaryShift: 1) }
    #expect(throws: EngineError.self) {
      try factors.load(layers: Self.cases[5].net().layers, output: Self.cases[5].net().output)
    }
    let x = try matrix([try vector(net.parameterCount)])
    #expect(throws: EngineError.self) { try factors.solve(x, imaginary: nil, into: x, imaginary: x) }
  }

  @Test(arguments: [([1 << 20, 1 << 20], 8), ([8, 1 << 14, 8], 1 << 14), ([1 << 40, 1 << 40], 1 << 40)])
  func `sizes beyond all memory are refused before anything is allocated`(sizes: [Int], samples: Int) throws {
    #expect {
      try LayeredPlan(samples: samples, sizes: sizes, hasBias: [Bool](repeating: true, count: sizes.count - 1))
    } throws: { error in
      if case .outOfMemory(let bytes) = error as? EngineError { bytes > 1 << 40 } else { false }
    }
    #expect(throws: EngineError.self) { try LayeredPlan(samples: 1, sizes: [1, 0], hasBias: [true]) }
    #expect(throws: EngineError.self) { try LayeredPlan(samples: 1, sizes: [1, 1], hasBias: []) }
  }

  @Test func `a factorisation and a solve stop when asked to, and can start again`() throws {
    let net = try Self.cases[8].net()
    let factors = try LayeredFactorization(layers: net.layers, output: net.output, shift: 1)
    let b = try matrix([try vector(net.parameterCount)])
    let x = try Matrix<Double>(rows: 1, columns: net.parameterCount)
    for limit in [1, 5, 12] {
      var asked = 0
      let interruption = Interruption {
        asked += 1
        return asked >= limit
      }
      #expect(throws: EngineError.cancelled) { try factors.factor(shift: 1, interruption: interruption) }
      #expect(asked == limit)
      try factors.factor(shift: 1)
      asked = 0
      #expect(throws: EngineError.cancelled) { try factors.solve(b, into: x, interruption: interruption) }
      #expect(asked == limit)
    }
  }
}
