import Testing

@testable import SwiftNets

@Suite struct SlowStepTests {
  private func step(
    _ example: TwoLayerCase, damping: Double = 0.1, method: SlowStep.Method = .structured,
    slow: SlowStep = .init(), interruption: Interruption = .init()
  ) throws -> (w1: Matrix<Double>, w2: Matrix<Double>, report: SlowStep.Report) {
    let w1 = try Matrix<Double>(rows: example.net.insize, columns: example.net.hidsize)
    let w2 = try Matrix<Double>(rows: example.net.hidsize, columns: example.net.outsize)
    let report = try slow.step(
      example.net, example.xs, example.ys, w1: example.w1, w2: example.w2, alpha: 0.1, damping: damping,
      method: method, newW1: w1, newW2: w2, interruption: interruption)
    return (w1, w2, report)
  }

  /// More and fewer samples than hidden units, sizes that fill no vector, both ways of solving layer 2.
  @Test(
    arguments: [(1, 1, 1, 1), (4, 5, 3, 2), (5, 3, 7, 8), (3, 6, 4, 6), (8, 6, 10, 1)],
    [SlowStep.Method.structured, .dense])
  func `a step is the damped Newton step of the differenced blocks`(
    sizes: (Int, Int, Int, Int), method: SlowStep.Method
  ) throws {
    let example = try TwoLayerCase(sizes.0, sizes.1, sizes.2, samples: sizes.3)
    let found = try step(example, method: method)
    let exact = example.gradient(example.w1.rowsAsArrays, example.w2.rowsAsArrays)
    #expect(found.report.isSolved)
    for (layer, before, after, gradient) in [
      (1, example.w1, found.w1, exact.dw1), (2, example.w2, found.w2, exact.dw2),
    ] {
      var block = example.differencedBlock(layer: layer)
      let largest = block.map { $0.reduce(0) { $0 + abs($1) } }.max()!
      for i in block.indices { block[i][i] += 0.1 }
      let solution = solveExtended(block, gradient.flatMap { $0 })
      let size = solution.map(abs).max()!
      for i in solution.indices {
        let wanted = Float80(before[i / before.columns, i % before.columns]) - 0.1 * solution[i]
        let difference = abs(Float80(after[i / before.columns, i % before.columns]) - wanted)
        // The differenced block is right to 2⁻³⁴, the solve to 1e-12; both are magnified by the condition number.
        #expect(difference <= (0x1p-34 + 1e-12) * (largest + 0.1) / 0.1 * size)
      }
    }
  }

  @Test(arguments: [1.0, 3.0])
  func `the structured step agrees with the diagonalised one`(scale: Double) throws {
    let example = try TwoLayerCase(12, 10, 8, samples: 20, scale: scale)
    let quick = try step(example)
    let literal = try step(example, method: .dense)
    #expect(quick.report.loss == literal.report.loss)
    for (a, b, before) in [(quick.w1, literal.w1, example.w1), (quick.w2, literal.w2, example.w2)] {
      var size = 0.0
      var difference = 0.0
      for row in 0..<a.rows {
        for column in 0..<a.columns {
          size = max(size, abs(a[row, column] - before[row, column]))
          difference = max(difference, abs(a[row, column] - b[row, column]))
        }
      }
      #expect(difference <= 1e-9 * size)
    }
  }

  @Test(arguments: [(3, 200, 2, 300), (3, 200, 2, 199), (3, 250, 2, 220)])
  func `orders too large for the batched kernels are solved too`(sizes: (Int, Int, Int, Int)) throws {
    let example = try TwoLayerCase(sizes.0, sizes.1, sizes.2, samples: sizes.3)
    let found = try step(example)
    #expect(found.report.isSolved)
    #expect(found.report.second.relative <= 1e-11)
  }

  @Test func `numbers beyond float32 are solved in float64`() throws {
    let example = try TwoLayerCase(6, 5, 4, samples: 8)
    for row in 0..<6 { for column in 0..<5 { example.w1[row, column] *= 1e-30 } }
    for row in 0..<8 { for column in 0..<6 { example.xs[row, column] *= 1e30 } }
    let found = try step(example, damping: 1e50)
    #expect(found.report.isSolved)
    #expect(found.report.first.gradient > 1e29)
  }

  @Test(arguments: [-340, -550, -900], [SlowStep.Method.structured, .dense])
  func `gradients whose squares underflow make their step`(exponent: Int, method: SlowStep.Method) throws {
    let tiny = Double(sign: .plus, exponent: exponent, significand: 1)
    for layer in [1, 2] {
      let example = try TwoLayerCase(4, 5, 3, samples: 6)
      // The layer itself is 0, so that its new weights are the step alone; the other makes its gradient tiny, and its
      // block nothing beside the damping: s = dW / λ.
      for row in 0..<4 { for column in 0..<5 { example.w1[row, column] *= layer == 1 ? 0 : tiny } }
      for row in 0..<5 { for column in 0..<3 { example.w2[row, column] *= layer == 1 ? tiny : 0 } }
      let found = try step(example, method: method)
      let (dw1, dw2) = (try Matrix<Double>(rows: 4, columns: 5), try Matrix<Double>(rows: 5, columns: 3))
      _ = try example.net.gradient(example.xs, example.ys, w1: example.w1, w2: example.w2, into: dw1, dw2)
      let (gradient, new) = layer == 1 ? (dw1, found.w1) : (dw2, found.w2)
      #expect(gradient.norm > 0)
      for row in 0..<new.rows {
        for column in 0..<new.columns {
          #expect(abs(new[row, column] + gradient[row, column]) <= 1e-12 * gradient.norm)
        }
      }
      let evidence = layer == 1 ? found.report.first : found.report.second
      #expect(evidence.gradient > 0 && evidence.relative <= 1e-12)
    }
  }

  @Test func `a step depends on its arguments alone`() throws {
    let example = try TwoLayerCase(50, 50, 100, samples: 50)
    let other = try TwoLayerCase(50, 50, 100, samples: 50, scale: 0.1, seed: 40)
    let slow = SlowStep()
    let fresh = try step(example)
    _ = try step(other, slow: slow)
    let reused = try step(example, slow: slow)
    for row in 0..<50 {
      for column in 0..<50 { #expect(fresh.w1[row, column] == reused.w1[row, column]) }
      for column in 0..<100 { #expect(fresh.w2[row, column] == reused.w2[row, column]) }
    }
  }

  @Test func `a gradient of zero is a step of zero`() throws {
    let example = try TwoLayerCase(3, 4, 2, samples: 5)
    try example.net.predict(example.xs, w1: example.w1, w2: example.w2, into: example.ys)
    let found = try step(example)
    #expect(found.report.isSolved)
    #expect(found.report.loss == 0)
    for row in 0..<3 { for column in 0..<4 { #expect(found.w1[row, column] == example.w1[row, column]) } }
  }

  @Test(arguments: [SlowStep.Method.structured, .dense])
  func `a caller can stop a step`(method: SlowStep.Method) throws {
    let example = try TwoLayerCase(10, 10, 10, samples: 10)
    #expect(throws: EngineError.cancelled) {
      try step(example, method: method, interruption: Interruption { true })
    }
  }

  @Test func `arguments out of range are refused by name`() throws {
    let example = try TwoLayerCase(2, 2, 2, samples: 2)
    for damping in [0, -1, .nan, .infinity] {
      #expect(throws: EngineError.self) { try step(example, damping: damping) }
    }
    example.xs[0, 0] = .nan
    #expect(throws: EngineError.self) { try step(example) }
  }
}
