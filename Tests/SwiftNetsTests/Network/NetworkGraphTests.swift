import Testing

@testable import SwiftNets

/// Nets of any layers: against chains of dense layers, differences, and what they refuse.
@Suite struct NetworkGraphTests {
  typealias Description = NetworkGraph.Description

  /// Layers one after the other, parameters in their order.
  private func chain(
    _ input: NetworkGraph.Input, _ layers: [(Description.Kind, [Int], Double)], sizes: [Int],
    loss: LossFunction.Kind = .squaredError
  ) throws -> NetworkGraph {
    var offset = 0
    var descriptions: [Description] = []
    for (index, (kind, integers, number)) in layers.enumerated() {
      descriptions.append(
        Description(
          kind: kind, input: index, second: 0, offset: sizes[index] > 0 ? offset : 0, integers: integers,
          number: number))
      offset += sizes[index]
    }
    return try NetworkGraph(input: input, layers: descriptions, loss: LossFunction(loss))
  }

  private func images() throws -> NetworkGraph {
    try chain(
      .image(channels: 2, height: 6, width: 5),
      [
        (.convolution, [4, 3, 2, 1, 1, 1, 0, 2, 1], 0), (.groupNorm, [2, 1], 1e-5),
        (.activation, [Int(Activation.Kind.gelu.rawValue)], 0), (.maxPool, [2, 2, 2, 2, 0, 0], 0), (.flatten, [], 0),
        (.dense, [3, 1], 0),
      ], sizes: [28, 8, 0, 0, 0, 75], loss: .softmaxCrossEntropy)
  }

  private func sequences() throws -> NetworkGraph {
    try chain(
      .tokens(4),
      [
        (.embedding, [5, 6], 0), (.positionEmbedding, [], 0), (.layerNorm, [1], 1e-5), (.attention, [2, 1], 0),
        (.mean, [], 0), (.dense, [3, 1], 0),
      ], sizes: [30, 24, 12, 168, 0, 21], loss: .softmaxCrossEntropy)
  }

  /// A net with data; tokens where it takes such.
  private struct Problem {
    let engine: NetworkEngine
    let w: Matrix<Double>
    let x: Matrix<Double>
    let tokens: Integers<Int64>
    let y: Matrix<Double>
    let samples: Int

    init(_ graph: NetworkGraph, samples: Int) throws {
      engine = NetworkEngine(graph, .float64)
      self.samples = samples
      w = try .normal(1, graph.parameterCount, scale: 0.5, seed: 1)
      x = try .normal(samples, graph.inputs, seed: 2)
      tokens = try Integers(count: samples * graph.inputs)
      for index in 0..<tokens.count { tokens.base[index] = Int64(index * 7 % 5) }
      y = try Matrix(rows: samples, columns: graph.outputs)
      for row in 0..<samples { y[row, row % graph.outputs] = 1 }
    }

    var batch: NetworkEngine.Batch {
      .init(
        count: samples,
        inputs: engine.takesTokens ? UnsafeRawPointer(tokens.base) : UnsafeRawPointer(x.base),
        targets: UnsafeRawPointer(y.base), labels: nil, weights: nil, scale: 1)
    }

    func gradient(_ w: Matrix<Double>) throws -> (Double, Matrix<Double>) {
      let out = try Matrix<Double>(rows: 1, columns: engine.parameterCount)
      let loss = try engine.gradient(w.base, batch, into: out.base, interruption: Interruption())
      return (loss, out)
    }

    func product(_ v: Matrix<Double>) throws -> Matrix<Double> {
      let out = try Matrix<Double>(rows: 1, columns: engine.parameterCount)
      try engine.products(.hessian, w.base, batch, v.base, 1, into: out.base, interruption: Interruption())
      return out
    }
  }

  @Test(arguments: [false, true])
  func `gradients and Hessian products are what differences say`(isSequence: Bool) throws {
    let problem = try Problem(isSequence ? sequences() : images(), samples: 5)
    let count = problem.engine.parameterCount
    let v = try Matrix<Double>.normal(1, count, seed: 3)
    // Central differences: ε² of the third derivative, and rounding over ε.
    let step = 1e-5
    func moved(_ factor: Double) throws -> Matrix<Double> {
      let w = try Matrix<Double>(rows: 1, columns: count)
      for index in 0..<count { w[0, index] = problem.w[0, index] + factor * v[0, index] }
      return w
    }
    let (ahead, behind) = (try problem.gradient(moved(step)), try problem.gradient(moved(-step)))
    let (_, gradient) = try problem.gradient(problem.w)
    let slope = (0..<count).reduce(0) { $0 + gradient[0, $1] * v[0, $1] }
    #expect(abs((ahead.0 - behind.0) / (2 * step) - slope) <= 1e-7 * max(1, abs(slope)))
    let product = try problem.product(v)
    let largest = (0..<count).reduce(0) { max($0, abs(product[0, $1])) }
    for index in 0..<count {
      let difference = (ahead.1[0, index] - behind.1[0, index]) / (2 * step)
      #expect(abs(difference - product[0, index]) <= 1e-7 * largest)
    }
  }

  /// The same net by the passes of dense chains.
  @Test func `dense layers are those of a multilayer perceptron`() throws {
    let tanh = Int(Activation.Kind.tanh.rawValue)
    let graph = try chain(
      .vector(4), [(.dense, [5, 1], 0), (.activation, [tanh], 0), (.dense, [2, 1], 0)], sizes: [25, 0, 12])
    let net = try MultilayerPerceptron(
      sizes: [4, 5, 2], activations: [Activation(.tanh), Activation(.identity)], hasBias: true,
      loss: LossFunction(.squaredError))
    let problem = try Problem(graph, samples: 7)
    let v = try Matrix<Double>.normal(1, graph.parameterCount, seed: 4)
    let other = NetworkEngine(net, .float64)
    let (gradient, product) = (
      try Matrix<Double>(rows: 1, columns: 37), try Matrix<Double>(rows: 1, columns: 37)
    )
    let loss = try other.gradient(problem.w.base, problem.batch, into: gradient.base, interruption: Interruption())
    try other.products(
      .hessian, problem.w.base, problem.batch, v.base, 1, into: product.base, interruption: Interruption())
    let (ownLoss, ownGradient) = try problem.gradient(problem.w)
    let ownProduct = try problem.product(v)
    // Sums of some hundred terms in other orders.
    #expect(abs(ownLoss - loss) <= 0x1p-45 * loss)
    for (own, theirs) in [(ownGradient, gradient), (ownProduct, product)] {
      let largest = (0..<37).reduce(0) { max($0, abs(theirs[0, $1])) }
      for index in 0..<37 { #expect(abs(own[0, index] - theirs[0, index]) <= 0x1p-43 * largest) }
    }
  }

  @Test func `what does not fit is refused in words`() throws {
    func refusal(_ layers: [Description], _ input: NetworkGraph.Input = .vector(3)) -> String {
      do {
        _ = try NetworkGraph(input: input, layers: layers, loss: LossFunction(.squaredError))
        return "nothing"
      } catch {
        return "\(error)"
      }
    }
    func dense(_ outputs: Int, input: Int = 0, offset: Int = 0) -> Description {
      Description(kind: .dense, input: input, second: 0, offset: offset, integers: [outputs, 0], number: 0)
    }
    #expect(refusal([]).contains("a net needs a layer"))
    #expect(refusal([dense(2, input: 1)]).contains("reads value 1"))
    #expect(refusal([dense(2), dense(2, input: 1, offset: 5)]).contains("overlap or leave a gap"))
    #expect(refusal([dense(2), dense(2)]).contains("overlap or leave a gap"))
    #expect(refusal([dense(2)], .image(channels: 1, height: 2, width: 2)).contains("a vector or a sequence"))
    #expect(refusal([dense(2)], .tokens(3)).contains("only an embedding"))
    #expect(refusal([dense(2)], .vector(0)).contains("at least 1"))
    let wide = Description(
      kind: .convolution, input: 0, second: 0, offset: 0, integers: [1, 9, 9, 1, 1, 0, 0, 1, 0], number: 0)
    #expect(refusal([wide], .image(channels: 1, height: 4, width: 4)).contains("larger than"))
    let norm = Description(kind: .layerNorm, input: 0, second: 0, offset: 0, integers: [1], number: 0)
    #expect(refusal([norm]).contains("eps"))
  }

  @Test func `a token beyond the table is refused`() throws {
    let problem = try Problem(sequences(), samples: 2)
    problem.tokens.base[5] = 5
    #expect(throws: EngineError.self) { try problem.gradient(problem.w) }
    problem.tokens.base[5] = -1
    #expect(throws: EngineError.self) { try problem.gradient(problem.w) }
  }
}
