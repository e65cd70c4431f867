import Testing

@testable import SwiftNets

/// A net on a batch, with its loss and gradient in extended precision by the definition: the independent answer.
struct TwoLayerCase {
  let net: TwoLayerPerceptron
  let xs: Matrix<Double>
  let ys: Matrix<Double>
  let w1: Matrix<Double>
  let w2: Matrix<Double>

  init(_ insize: Int, _ hidsize: Int, _ outsize: Int, samples: Int, scale: Double = 1, seed: UInt64 = 7) throws {
    net = TwoLayerPerceptron(insize: insize, hidsize: hidsize, outsize: outsize)
    xs = try .normal(samples, insize, seed: seed)
    ys = try .normal(samples, outsize, seed: seed + 1)
    w1 = try .normal(insize, hidsize, scale: scale / Double(insize).squareRoot(), seed: seed + 2)
    w2 = try .normal(hidsize, outsize, scale: scale / Double(hidsize).squareRoot(), seed: seed + 3)
  }

  /// Loss, dW₁ and dW₂ at weights given in extended precision.
  func gradient(_ w1: [[Float80]], _ w2: [[Float80]]) -> (loss: Float80, dw1: [[Float80]], dw2: [[Float80]]) {
    var loss: Float80 = 0
    var dw1 = [[Float80]](repeating: .init(repeating: 0, count: net.hidsize), count: net.insize)
    var dw2 = [[Float80]](repeating: .init(repeating: 0, count: net.outsize), count: net.hidsize)
    for sample in 0..<xs.rows {
      let n1 = (0..<net.hidsize).map { j in
        (0..<net.insize).reduce(Float80(0)) { $0 + Float80(xs[sample, $1]) * w1[$1][j] }
      }
      let d1: [Float80] = n1.map { $0 > 0 ? 1 : 0.5 }
      let h1 = zip(n1, d1).map { $0 * $1 }
      let n2 = (0..<net.outsize).map { k in (0..<net.hidsize).reduce(Float80(0)) { $0 + h1[$1] * w2[$1][k] } }
      let d2: [Float80] = n2.map { $0 > 0 ? 1 : 0.5 }
      let e = (0..<net.outsize).map { n2[$0] * d2[$0] - Float80(ys[sample, $0]) }
      let g2 = zip(e, d2).map { $0 * $1 }
      loss += e.reduce(0) { $0 + $1 * $1 } / 2
      let g1 = (0..<net.hidsize).map { j in d1[j] * (0..<net.outsize).reduce(Float80(0)) { $0 + g2[$1] * w2[j][$1] } }
      for j in 0..<net.hidsize {
        for k in 0..<net.outsize { dw2[j][k] += h1[j] * g2[k] }
        for i in 0..<net.insize { dw1[i][j] += Float80(xs[sample, i]) * g1[j] }
      }
    }
    return (loss, dw1, dw2)
  }

  /// The Hessian block of one layer by central differences of the extended-precision gradient. Within its activation
  /// cell the loss is quadratic in one layer's weights, so the difference is exact but for rounding.
  func differencedBlock(layer: Int) -> [[Float80]] {
    let step: Float80 = 0x1p-26
    var (a, b) = (w1.rowsAsArrays, w2.rowsAsArrays)
    var block: [[Float80]] = []
    let (rows, columns) = layer == 1 ? (net.insize, net.hidsize) : (net.hidsize, net.outsize)
    for row in 0..<rows {
      for column in 0..<columns {
        var ends: [[Float80]] = []
        for sign: Float80 in [1, -1] {
          if layer == 1 { a[row][column] += sign * step } else { b[row][column] += sign * step }
          let found = gradient(a, b)
          ends.append((layer == 1 ? found.dw1 : found.dw2).flatMap { $0 })
          if layer == 1 { a[row][column] -= sign * step } else { b[row][column] -= sign * step }
        }
        block.append(zip(ends[0], ends[1]).map { ($0 - $1) / (2 * step) })
      }
    }
    return block
  }
}

@Suite struct TwoLayerPerceptronTests {
  @Test(arguments: [(1, 1, 1, 1), (8, 6, 9, 5), (7, 13, 3, 30), (50, 50, 100, 50)])
  func `loss and gradient agree with extended precision`(insize: Int, hidsize: Int, outsize: Int, samples: Int) throws {
    let example = try TwoLayerCase(insize, hidsize, outsize, samples: samples)
    let dw1 = try Matrix<Double>(rows: insize, columns: hidsize)
    let dw2 = try Matrix<Double>(rows: hidsize, columns: outsize)
    let loss = try example.net.gradient(
      example.xs, example.ys, w1: example.w1, w2: example.w2, into: dw1, dw2)
    let exact = example.gradient(example.w1.rowsAsArrays, example.w2.rowsAsArrays)
    let depth = Double(insize + hidsize + outsize + samples)
    #expect(abs(Float80(loss) - exact.loss) <= Float80(depth * 0x1p-51) * exact.loss)
    for (found, wanted) in [(dw1, exact.dw1), (dw2, exact.dw2)] {
      let size = wanted.flatMap { $0 }.map(abs).max()!
      for row in 0..<found.rows {
        for column in 0..<found.columns {
          #expect(abs(Float80(found[row, column]) - wanted[row][column]) <= Float80(depth * 0x1p-50) * size)
        }
      }
    }
    #expect(
      try example.net.loss(example.xs, example.ys, w1: example.w1, w2: example.w2) == loss)
  }

  @Test func `predictions are the activations that the loss is taken of`() throws {
    let example = try TwoLayerCase(5, 4, 6, samples: 9)
    let h2 = try Matrix<Double>(rows: 9, columns: 6)
    try example.net.predict(example.xs, w1: example.w1, w2: example.w2, into: h2)
    var sum = 0.0
    for row in 0..<9 {
      for column in 0..<6 {
        sum += (h2[row, column] - example.ys[row, column]) * (h2[row, column] - example.ys[row, column])
      }
    }
    let loss = try example.net.loss(example.xs, example.ys, w1: example.w1, w2: example.w2)
    #expect(abs(sum / 2 - loss) <= 60 * 0x1p-52 * loss)
  }

  @Test(arguments: [1, 2])
  func `a dense block agrees with differences of the gradient, and is symmetric`(layer: Int) throws {
    let example = try TwoLayerCase(4, 5, 3, samples: 6)
    let order = layer == 1 ? 20 : 15
    let block = try Matrix<Double>(rows: order, columns: order)
    try example.net.hessianBlock(layer: layer, example.xs, w1: example.w1, w2: example.w2, into: block)
    let exact = example.differencedBlock(layer: layer)
    let size = exact.flatMap { $0 }.map(abs).max()!
    for i in 0..<order {
      for j in 0..<order {
        // The differences lose 26 of 64 bits; 2⁻³⁴ leaves a factor 16 for the sums.
        #expect(abs(Float80(block[i, j]) - exact[i][j]) <= 0x1p-34 * size)
        #expect(abs(block[i, j] - block[j, i]) <= 64 * 0x1p-52 * Double(size))
      }
    }
  }

  @Test func `a layer that does not exist is refused`() throws {
    let example = try TwoLayerCase(2, 2, 2, samples: 1)
    let block = try Matrix<Double>(rows: 4, columns: 4)
    #expect(throws: EngineError.invalidArgument("layer is 3; it must be 1 or 2")) {
      try example.net.hessianBlock(layer: 3, example.xs, w1: example.w1, w2: example.w2, into: block)
    }
  }
}
