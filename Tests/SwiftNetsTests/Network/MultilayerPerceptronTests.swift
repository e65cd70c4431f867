import Glibc
import Testing

@testable import SwiftNets

/// The general net's engine against its loss written out in extended precision.
@Suite struct MultilayerPerceptronTests {
  struct Case: CustomTestStringConvertible, Sendable {
    let sizes: [Int]
    let kind: Activation.Kind
    let loss: LossFunction.Kind
    let bias: Bool

    var testDescription: String { "\(sizes), \(kind), \(loss)\(bias ? ", bias" : "")" }
  }

  static let smooth = [
    Case(sizes: [3, 2], kind: .tanh, loss: .squaredError, bias: true),
    Case(sizes: [2, 3, 2], kind: .tanh, loss: .softmaxCrossEntropy, bias: false),
    Case(sizes: [4, 5, 3], kind: .sigmoid, loss: .binaryCrossEntropy, bias: true),
    Case(sizes: [3, 4, 3, 2], kind: .softplus, loss: .squaredError, bias: false),
    Case(sizes: [2, 2, 3, 2], kind: .silu, loss: .softmaxCrossEntropy, bias: true),
    Case(sizes: [3, 3, 1], kind: .gelu, loss: .squaredError, bias: true),
    Case(sizes: [2, 4, 1], kind: .sine, loss: .binaryCrossEntropy, bias: false),
  ]
  static let cases = smooth + [Case(sizes: [3, 4, 2], kind: .leakyReLU, loss: .squaredError, bias: true)]

  /// A net with data, and its loss in extended precision.
  struct Problem {
    let net: MultilayerPerceptron
    let engine: NetworkEngine
    let samples: Int
    let w: Matrix<Double>
    let x: Matrix<Double>
    let y: Matrix<Double>
    let directions: Matrix<Double>

    init(_ case: Case, samples: Int = 5, scalars: NetworkEngine.Scalars = .float64) throws {
      let activations =
        [Activation](repeating: Activation(`case`.kind, parameter: 0.5), count: `case`.sizes.count - 2)
        + [Activation(.identity)]
      net = try MultilayerPerceptron(
        sizes: `case`.sizes, activations: activations, hasBias: `case`.bias, loss: LossFunction(`case`.loss))
      engine = NetworkEngine(net, scalars)
      self.samples = samples
      w = try .normal(1, net.parameterCount, scale: 0.7, seed: 1)
      x = try .normal(samples, net.inputs, seed: 2)
      y = try .normal(samples, net.outputs, seed: 3)
      directions = try .normal(3, net.parameterCount, seed: 4)
      // Targets that are probabilities suit every loss.
      for row in 0..<samples {
        var sum = 0.0
        for column in 0..<net.outputs {
          y[row, column] = 1 / (1 + exp(-y[row, column]))
          sum += y[row, column]
        }
        for column in 0..<net.outputs where `case`.loss == .softmaxCrossEntropy { y[row, column] /= sum }
      }
    }

    var batch: NetworkEngine.Batch { batch(0..<samples, scale: 0.5) }

    func batch(_ rows: Range<Int>, scale: Double) -> NetworkEngine.Batch {
      NetworkEngine.Batch(
        count: rows.count, inputs: UnsafeRawPointer(x.row(rows.lowerBound)),
        targets: UnsafeRawPointer(y.row(rows.lowerBound)), labels: nil, weights: nil, scale: scale)
    }

    /// The pass at w, kept. Data is in float64: for a float32 net what it holds means nothing.
    func point() throws -> NetworkEngine.Point {
      let gradient = try Matrix<Double>(rows: 1, columns: net.parameterCount)
      return try engine.linearize(w.base, batch, gradient: gradient.base).0
    }

    var direction: [Double] { (0..<net.parameterCount).map { directions[0, $0] } }

    /// ½ Σ loss at w + Σ steps.
    func loss(_ steps: [(Float80, [Double])] = []) -> Float80 {
      let weights = (0..<net.parameterCount).map { index in
        steps.reduce(Float80(w[0, index])) { $0 + $1.0 * Float80($1.1[index]) }
      }
      var sum: Float80 = 0
      for sample in 0..<samples {
        var z = (0..<net.inputs).map { Float80(x[sample, $0]) }
        for layer in net.layers {
          var next = [Float80](repeating: 0, count: layer.width)
          for column in 0..<layer.width {
            for row in 0..<layer.fanIn { next[column] += z[row] * weights[layer.offset + row * layer.width + column] }
            if layer.hasBias { next[column] += weights[layer.offset + layer.fanIn * layer.width + column] }
            next[column] = activated(layer.activation, next[column])
          }
          z = next
        }
        let t = (0..<net.outputs).map { Float80(y[sample, $0]) }
        switch net.loss.kind {
        case .squaredError: for (a, b) in zip(z, t) { sum += (a - b) * (a - b) / 2 }
        case .binaryCrossEntropy: for (a, b) in zip(z, t) { sum += log1pl(expl(a)) - b * a }
        case .softmaxCrossEntropy:
          let logarithm = logl(z.reduce(0) { $0 + expl($1) })
          for (a, b) in zip(z, t) { sum += b * (logarithm - a) }
        case .huber: Issue.record("not in these tests")
        }
      }
      return sum / 2
    }

    func unit(_ index: Int) -> [Double] { (0..<net.parameterCount).map { $0 == index ? 1 : 0 } }
  }

  static func activated(_ activation: Activation, _ a: Float80) -> Float80 {
    switch activation.kind {
    case .identity: a
    case .leakyReLU: a > 0 ? a : Float80(activation.parameter) * a
    case .tanh: tanhl(a)
    case .sigmoid: 1 / (1 + expl(-a))
    case .softplus: a > 0 ? a + log1pl(expl(-a)) : log1pl(expl(a))
    case .silu: a / (1 + expl(-a))
    case .gelu: a / 2 * erfcl(-a / Float80(2).squareRoot())
    case .geluTanh: a / 2 * (1 + tanhl((2 / Float80.pi).squareRoot() * (a + 0.044715 * a * a * a)))
    case .sine: sinl(a)
    case .elu: a > 0 ? a : Float80(activation.parameter) * expm1l(a)
    }
  }

  /// Central differences with steps h and h/2, extrapolated: the error is of order h⁴.
  private func extrapolated(_ h: Float80, _ difference: (Float80) -> Float80) -> Double {
    Double((4 * difference(h / 2) - difference(h)) / 3)
  }

  /// Errors of the differences below: their truncation, near h⁴ = 1e-12 times a fifth or sixth derivative of a few
  /// units.
  private static let tolerance = 1e-9

  private func array(_ p: Problem, rows: Int = 1, _ fill: (UnsafeMutablePointer<Double>) throws -> Void) throws
    -> [[Double]]
  {
    let out = try Matrix<Double>(rows: rows, columns: p.net.parameterCount)
    try fill(out.base)
    return (0..<rows).map { row in (0..<out.columns).map { out[row, $0] } }
  }

  private func gradient(_ p: Problem) throws -> [Double] {
    try array(p) { _ = try p.engine.gradient(p.w.base, p.batch, into: $0, interruption: Interruption()) }[0]
  }

  private func products(_ p: Problem, _ kind: CurvatureKind, _ v: Matrix<Double>) throws -> [[Double]] {
    try array(p, rows: v.rows) {
      try p.engine.products(kind, p.w.base, p.batch, v.base, v.rows, into: $0, interruption: Interruption())
    }
  }

  private func dense(_ p: Problem, _ kind: CurvatureKind) throws -> [[Double]] {
    try array(p, rows: p.net.parameterCount) {
      try p.engine.dense(kind, p.w.base, p.batch, block: nil, into: $0, interruption: Interruption())
    }
  }

  @Test(arguments: cases)
  func `loss and gradient are those of the loss written out`(case: Case) throws {
    let p = try Problem(`case`)
    let loss = try p.engine.loss(p.w.base, p.batch, interruption: Interruption())
    #expect(abs(loss - Double(p.loss())) <= 1e-14 * loss)
    for (index, value) in try gradient(p).enumerated() {
      let unit = p.unit(index)
      let expected = extrapolated(1e-3) { h in (p.loss([(h, unit)]) - p.loss([(-h, unit)])) / (2 * h) }
      #expect(abs(value - expected) <= Self.tolerance)
    }
  }

  @Test(arguments: cases)
  func `Hessian products are second differences of the loss`(case: Case) throws {
    let p = try Problem(`case`)
    let product = try products(p, .hessian, p.directions)[0]
    let v = p.direction
    for index in 0..<p.net.parameterCount {
      let unit = p.unit(index)
      let expected = extrapolated(1e-3) { h in
        (p.loss([(h, unit), (h, v)]) - p.loss([(h, unit), (-h, v)]) - p.loss([(-h, unit), (h, v)])
          + p.loss([(-h, unit), (-h, v)])) / (4 * h * h)
      }
      #expect(abs(product[index] - expected) <= 10 * Self.tolerance)
    }
  }

  @Test(arguments: cases, [CurvatureKind.hessian, .gaussNewton])
  func `dense matrices are symmetric to the bit and agree with products`(case: Case, kind: CurvatureKind) throws {
    let p = try Problem(`case`)
    let matrix = try dense(p, kind)
    let images = try products(p, kind, p.directions)
    for row in matrix.indices {
      for column in 0..<row { #expect(matrix[row][column] == matrix[column][row]) }
      for k in 0..<p.directions.rows {
        let sum = matrix.indices.reduce(0.0) { $0 + matrix[row][$1] * p.directions[k, $1] }
        let size = matrix.indices.reduce(0.0) { $0 + abs(matrix[row][$1] * p.directions[k, $1]) }
        #expect(abs(sum - images[k][row]) <= 0x1p-46 * (size + 1))
      }
    }
  }

  @Test func `the Gauss-Newton matrix of squared errors is the Jacobian's Gram matrix`() throws {
    let p = try Problem(Self.smooth[3])
    let (count, outputs) = (p.net.parameterCount, p.net.outputs)
    let jacobian = try Matrix<Double>(rows: p.samples * outputs, columns: count)
    try p.engine.jacobian(p.w.base, p.batch, into: jacobian.base, interruption: Interruption())
    let matrix = try dense(p, .gaussNewton)
    for i in 0..<count {
      for j in 0..<count {
        let sum = (0..<jacobian.rows).reduce(0.0) { $0 + jacobian[$1, i] * jacobian[$1, j] } / 2
        #expect(abs(matrix[i][j] - sum) <= 0x1p-46 * (abs(sum) + 1))
      }
    }
  }

  @Test(arguments: smooth)
  func `the Taylor series leaves a remainder of fifth order`(case: Case) throws {
    let p = try Problem(`case`)
    let series = try array(p, rows: 4) {
      _ = try p.engine.taylor(
        p.w.base, p.batch, order: 3, p.directions.base, into: $0, interruption: Interruption())
    }
    let v = p.direction
    let coefficients = series.enumerated().map { k, row in zip(row, v).reduce(0.0) { $0 + $1.0 * $1.1 } / Double(k + 1)
    }
    func remainder(_ t: Float80) -> Double {
      var polynomial = p.loss()
      for (k, c) in coefficients.enumerated() { polynomial += Float80(c) * powl(t, Float80(k + 1)) }
      return Double(abs(p.loss([(t, v)]) - polynomial))
    }
    // Halving the step divides t⁵ by 32, up to the next term's share; a wrong coefficient of t⁴ would leave 16.
    let (whole, half) = (remainder(0x1p-7), remainder(0x1p-8))
    #expect(whole < 1e-6)
    #expect(half * 22 < whole || whole < 1e-14)
  }

  @Test func `third derivatives are differences of Hessian products`() throws {
    let p = try Problem(Self.smooth[1])
    let third = try array(p) {
      try p.engine.multilinear(
        p.w.base, p.batch, directions: [UnsafeRawPointer(p.directions.base)], p.directions.row(1), 1, into: $0,
        interruption: Interruption())
    }[0]
    func product(_ h: Double) throws -> [Double] {
      let moved = try Matrix<Double>(rows: 1, columns: p.net.parameterCount)
      for index in 0..<moved.columns { moved[0, index] = p.w[0, index] + h * p.directions[0, index] }
      return try array(p) {
        try p.engine.products(
          .hessian, moved.base, p.batch, p.directions.row(1), 1, into: $0, interruption: Interruption())
      }[0]
    }
    let (up, down) = (try product(1e-4), try product(-1e-4))
    let kept = try array(p) {
      try p.point().third(p.directions.base, p.directions.row(1), 1, into: $0, interruption: Interruption())
    }[0]
    // Truncation 1e-8 times a fifth derivative of a few units, rounding 1e-16 / 1e-4.
    for index in third.indices {
      #expect(abs(third[index] - (up[index] - down[index]) / 2e-4) <= 1e-6)
      #expect(abs(kept[index] - (up[index] - down[index]) / 2e-4) <= 1e-6)
    }
  }

  @Test(arguments: cases) func `third derivatives of kept passes are those of the series`(_ `case`: Case) throws {
    for samples in [1, 5, 200] {
      let p = try Problem(`case`, samples: samples)
      // The first of the rows is the direction itself; as many as two threads share, and one alone.
      let found = try array(p, rows: 3) {
        try p.point().third(p.directions.base, p.directions.base, 3, into: $0, interruption: Interruption())
      }
      for (k, row) in found.enumerated() {
        let alone = try array(p) {
          try p.point().third(p.directions.base, p.directions.row(k), 1, into: $0, interruption: Interruption())
        }[0]
        let series = try array(p) {
          try p.engine.multilinear(
            p.w.base, p.batch, directions: [UnsafeRawPointer(p.directions.base)], p.directions.row(k), 1, into: $0,
            interruption: Interruption())
        }[0]
        // Sums of some hundred terms a sample, in two orders.
        let bound = 1e-13 * Double(samples) * max(1, series.map(abs).max() ?? 0)
        for index in series.indices {
          #expect(abs(row[index] - series[index]) <= bound)
          #expect(abs(alone[index] - series[index]) <= bound)
        }
      }
    }
  }

  @Test func `chunks add up to the whole`() throws {
    // A chunk is 1024 samples at most.
    let p = try Problem(Self.smooth[2], samples: 2100)
    let whole = try gradient(p)
    var sum = [Double](repeating: 0, count: whole.count)
    for rows in [0..<7, 7..<1500, 1500..<2100] {
      let part = try array(p) {
        _ = try p.engine.gradient(p.w.base, p.batch(rows, scale: 0.5), into: $0, interruption: Interruption())
      }[0]
      for index in sum.indices { sum[index] += part[index] }
    }
    // Relative to the sum of absolute values, of at most a few units a sample.
    for index in sum.indices { #expect(abs(sum[index] - whole[index]) <= 0x1p-50 * 2100 * 10) }
  }

  /// The last rows of their factors are read past their end, which `multiply` allows within the memory's slack alone.
  @Test(arguments: [NetworkEngine.Scalars.float64, .float32], [1, 4, 7, 13])
  func `blocks of the empirical Fisher matrix are those of the whole`(scalars: NetworkEngine.Scalars, insize: Int)
    throws
  {
    let problem = try Problem(
      Case(sizes: [insize, 3, 3], kind: .tanh, loss: .squaredError, bias: false), samples: 9, scalars: scalars)
    if scalars == .float64 {
      try checkFisherBlocks(Double.self, problem)
    } else {
      try checkFisherBlocks(Float.self, problem)
    }
  }

  private func checkFisherBlocks<T: KernelScalar>(_ type: T.Type, _ problem: Problem) throws {
    func converted(_ matrix: Matrix<Double>) throws -> Matrix<T> {
      let result = try Matrix<T>(rows: matrix.rows, columns: matrix.columns)
      for row in 0..<matrix.rows { for column in 0..<matrix.columns { result[row, column] = T(matrix[row, column]) } }
      return result
    }
    let (w, x, y) = (try converted(problem.w), try converted(problem.x), try converted(problem.y))
    let batch = NetworkEngine.Batch(
      count: problem.samples, inputs: x.base, targets: y.base, labels: nil, weights: nil, scale: 1)
    func dense(_ block: (upper: Int, lower: Int)?, _ rows: Int, _ columns: Int) throws -> Matrix<T> {
      let out = try Matrix<T>(rows: rows, columns: columns)
      try problem.engine.dense(.empiricalFisher, w.base, batch, block: block, into: out.base, interruption: .init())
      return out
    }
    let (count, layers) = (problem.net.parameterCount, problem.net.layers)
    let whole = try dense(nil, count, count)
    for (upper, lower) in [(0, 0), (1, 0), (1, 1)] {
      let block = try dense((upper, lower), layers[upper].parameterCount, layers[lower].parameterCount)
      for row in 0..<block.rows {
        for column in 0..<block.columns {
          let expected = whole[layers[upper].offset + row, layers[lower].offset + column]
          #expect(abs(block[row, column] - expected) <= 100 * T.ulpOfOne * abs(expected))
        }
      }
    }
  }

  @Test func `a linearisation's products and Lanczos runs are those of the matrix`() throws {
    let p = try Problem(Self.smooth[4])
    let gradient = try Matrix<Double>(rows: 1, columns: p.net.parameterCount)
    let (point, _) = try p.engine.linearize(p.w.base, p.batch, gradient: gradient.base)
    let expected = try products(p, .hessian, p.directions)
    let kept = try array(p, rows: 3) {
      try point.products(.hessian, p.directions.base, 3, into: $0, interruption: Interruption())
    }
    for (a, b) in zip(kept.joined(), expected.joined()) { #expect(abs(a - b) <= 0x1p-44 * (abs(b) + 1)) }

    let diagonal = try Matrix<Double>(rows: 3, columns: 2)
    let offDiagonal = try Matrix<Double>(rows: 3, columns: 2)
    try point.lanczos(
      .hessian, shift: 0.25, p.directions.base, 3, steps: 2, diagonal: diagonal.base, offDiagonal: offDiagonal.base,
      interruption: Interruption())
    for run in 0..<3 {
      let v = (0..<p.net.parameterCount).map { p.directions[run, $0] }
      let norm = v.reduce(0) { $0 + $1 * $1 }.squareRoot()
      let image = v.indices.map { (expected[run][$0] + 0.25 * v[$0]) / norm }
      let alpha = v.indices.reduce(0.0) { $0 + image[$1] * v[$1] / norm }
      let beta = v.indices.reduce(0.0) { $0 + (image[$1] - alpha * v[$1] / norm) * (image[$1] - alpha * v[$1] / norm) }
      #expect(abs(diagonal[run, 0] - alpha) <= 0x1p-40)
      #expect(abs(offDiagonal[run, 0] - beta.squareRoot()) <= 0x1p-40)
    }
  }

  @Test func `float32 agrees with float64 to its rounding`() throws {
    let p = try Problem(Self.smooth[1])
    let single = try Problem(Self.smooth[1], scalars: .float32)
    func rounded(_ matrix: Matrix<Double>) throws -> Matrix<Float> {
      let result = try Matrix<Float>(rows: matrix.rows, columns: matrix.columns)
      for row in 0..<matrix.rows {
        for column in 0..<matrix.columns { result[row, column] = Float(matrix[row, column]) }
      }
      return result
    }
    let (w, x, y) = (try rounded(p.w), try rounded(p.x), try rounded(p.y))
    let out = try Matrix<Float>(rows: 1, columns: p.net.parameterCount)
    let batch = NetworkEngine.Batch(
      count: p.samples, inputs: x.base, targets: UnsafeRawPointer(y.base), labels: nil, weights: nil, scale: 0.5)
    _ = try single.engine.gradient(w.base, batch, into: out.base, interruption: Interruption())
    for (index, value) in try gradient(p).enumerated() { #expect(abs(value - Double(out[0, index])) <= 0x1p-18) }
  }

  @Test func `a request to stop is heeded`() throws {
    let p = try Problem(Self.smooth[0])
    let stop = Interruption { true }
    #expect(throws: EngineError.cancelled) { try p.engine.loss(p.w.base, p.batch, interruption: stop) }
  }

  @Test func `sizes that do not fit are refused`() throws {
    let tanh = Activation(.tanh)
    for (sizes, activations) in [([3], []), ([3, 2], []), ([3, 0], [tanh]), ([3, 2, 1], [tanh])] {
      #expect(throws: EngineError.self) {
        try MultilayerPerceptron(
          sizes: sizes, activations: activations, hasBias: false, loss: LossFunction(.squaredError))
      }
    }
    let huge = 1 << 30
    #expect(throws: EngineError.self) {
      try MultilayerPerceptron(
        sizes: [huge, huge, huge], activations: [tanh, tanh], hasBias: true, loss: LossFunction(.squaredError))
    }
    #expect(throws: EngineError.self) {
      try MultilayerPerceptron(
        sizes: [1, 1], activations: [tanh], hasBias: false, loss: LossFunction(.huber, parameter: 0))
    }
  }
}
