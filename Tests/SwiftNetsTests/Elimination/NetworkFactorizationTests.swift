import Testing

@testable import SwiftNets

@Suite struct NetworkFactorizationTests {
  typealias Case = MultilayerPerceptronTests.Case
  typealias Problem = MultilayerPerceptronTests.Problem

  private static let epsilon = 0x1p-53
  private let none = Interruption()

  /// The row b − (H + shift) x, with products that share nothing with the elimination.
  private func residual(_ it: Problem, _ x: Matrix<Double>, _ b: Matrix<Double>, shift: Double) throws -> Matrix<Double>
  {
    let out = try Matrix<Double>(rows: 1, columns: b.columns)
    try it.engine.products(.hessian, it.w.base, it.batch, x.base, 1, into: out.base, interruption: none)
    for i in 0..<b.columns { out[0, i] = b[0, i] - out[0, i] - shift * x[0, i] }
    return out
  }

  private func norm(_ matrix: Matrix<Double>) -> Double {
    (0..<matrix.columns).reduce(0) { $0 + matrix[0, $1] * matrix[0, $1] }.squareRoot()
  }

  @Test(arguments: MultilayerPerceptronTests.cases, [LayerForm.primal, .dual])
  func refinedSolutionsSatisfyTheEquations(_ example: Case, _ form: LayerForm) throws {
    let it = try Problem(example)
    let shift = 0.7
    let factors = try NetworkFactorization(
      it.point(), shift: (shift, nil), form: form, interruption: none)
    let b = try Matrix<Double>.normal(1, it.net.parameterCount, seed: 5)
    let x = try Matrix<Double>(rows: 1, columns: b.columns)
    let step = try Matrix<Double>(rows: 1, columns: b.columns)
    try factors.solve(b, imaginary: nil, into: x, imaginary: nil, interruption: none)
    try factors.solve(residual(it, x, b, shift: shift), imaginary: nil, into: step, imaginary: nil, interruption: none)
    for i in 0..<b.columns { x[0, i] += step[0, i] }
    // What is left are the roundings of the products, sums over parameters and samples.
    let few = Double(b.columns + it.samples) * Self.epsilon
    let rest = try norm(residual(it, x, b, shift: shift))
    #expect(rest < few * (norm(b) + 10 * norm(x)))
    let inertia = try #require(factors.summary.inertia)
    #expect(inertia.positive + inertia.negative == b.columns)
    #expect(try #require(factors.summary.certificate) < 1e-6)
  }

  @Test func aFloat32NetIsRefused() throws {
    let it = try Problem(MultilayerPerceptronTests.cases[0], scalars: .float32)
    let point = try it.point()
    let out = try Matrix<Double>(rows: 1, columns: point.statesCount)
    #expect(throws: EngineError.self) { try point.copyStates(into: out.base) }
    #expect(throws: EngineError.self) {
      try NetworkFactorization(point, shift: (1, nil), form: .automatic, interruption: none)
    }
  }

  @Test(arguments: [LossFunction.Kind.softmaxCrossEntropy, .squaredError])
  func copiedStatesAreAsManyAsCounted(_ loss: LossFunction.Kind) throws {
    let it = try Problem(Case(sizes: [2, 4, 3], kind: .tanh, loss: loss, bias: true))
    let point = try it.point()
    let count = point.statesCount
    let out = try Matrix<Double>(rows: 1, columns: count + 1)
    for i in 0...count { out[0, i] = .nan }
    try point.copyStates(into: out.base)
    #expect((0..<count).allSatisfy { out[0, $0].isFinite } && out[0, count].isNaN)
  }

  @Test(arguments: MultilayerPerceptronTests.cases)
  func `a factorisation reads the kept pass and leaves it as it was`(_ example: Case) throws {
    let it = try Problem(example)
    let point = try it.point()
    let v = try Matrix<Double>.normal(2, it.net.parameterCount, seed: 8)
    func products(_ kind: CurvatureKind) throws -> [Double] {
      let out = try Matrix<Double>(rows: 2, columns: v.columns)
      try point.products(kind, v.base, 2, into: out.base, interruption: none)
      return (0..<2 * v.columns).map { out.base[$0] }
    }
    func states() throws -> [Double] {
      let out = try Matrix<Double>(rows: 1, columns: point.statesCount)
      try point.copyStates(into: out.base)
      return (0..<point.statesCount).map { out[0, $0] }
    }
    let before = try (products(.hessian), products(.gaussNewton), states())
    // Neither the weights nor the samples that it was made of are read again.
    it.w.base.update(repeating: .nan, count: it.net.parameterCount)
    it.x.base.update(repeating: .nan, count: it.samples * it.net.inputs)
    let factors = try NetworkFactorization(point, shift: (50, nil), form: .automatic, interruption: none)
    #expect(factors.summary.inertia?.zero == 0)
    let after = try (products(.hessian), products(.gaussNewton), states())
    #expect(after == before)
  }

  @Test(arguments: [1, 5, 300], [false, true])
  func denseFactorsAreThoseOfTheMatrix(order: Int, isDefinite: Bool) throws {
    // Diagonally dominant, so that the signs on the diagonal are those of the eigenvalues.
    let a = try Matrix<Double>.normal(order, order, scale: 0.1 / Double(order), seed: 6)
    for i in 0..<order {
      for j in 0..<i { a[i, j] = a[j, i] }
      a[i, i] = i % 3 == 1 && !isDefinite ? -2 : 1
    }
    let negative = (0..<order).filter { a[$0, $0] < 0 }.count
    let factors = try DenseFactorization(a)
    let (summary, isPositiveDefinite) = try factors.factor(shift: 0)
    #expect(isPositiveDefinite == (negative == 0))
    #expect(summary.inertia == Inertia(positive: order - negative, negative: negative))
    let b = try Matrix<Double>.normal(3, order, seed: 7)
    let x = try Matrix<Double>(rows: 3, columns: order)
    try factors.solve(b, into: x)
    for k in 0..<3 {
      for i in 0..<order {
        let image = (0..<order).reduce(0) { $0 + a[i, $1] * x[k, $1] }
        // ‖A‖ < 3, and normal numbers hardly reach 5.
        #expect(abs(image - b[k, i]) < 2 * 3 * 5 * Double(order) * Self.epsilon)
      }
    }
  }

  @Test func cancellingAnUpdateLeavesNoFactors() throws {
    let it = try Problem(MultilayerPerceptronTests.cases[1])
    let factors = try NetworkFactorization(
      it.point(), shift: (1, nil), form: .automatic, interruption: none)
    #expect(throws: EngineError.cancelled) {
      try factors.update(shift: (2, nil), interruption: Interruption { true })
    }
    let x = try Matrix<Double>(rows: 1, columns: it.net.parameterCount)
    #expect(throws: EngineError.self) {
      try factors.solve(x, imaginary: nil, into: x, imaginary: nil, interruption: none)
    }
    let update = try factors.update(shift: (2, nil), interruption: none)
    #expect(update.inertia != nil)
  }
}
