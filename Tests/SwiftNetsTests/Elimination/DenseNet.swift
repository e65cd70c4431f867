import Glibc

@testable import SwiftNets

/// A net whose Hessian is written out by Pearlmutter's product with every unit vector: the independent answer to the
/// layered elimination. Nothing here is shared with the engine but its containers.
struct DenseNet {
  enum Loss {
    case squares, crossEntropy
  }

  var layers: [LayerState] = []
  var output: OutputHessian
  let samples: Int
  let sizes: [Int]
  let bias: Bool
  private let loss: Loss
  private let targets: [[Double]]
  private let inputs: [[Double]]
  private let isTanh: Bool

  var parameterCount: Int { layers.reduce(0) { $0 + $1.weights.rows * $1.weights.columns } }
  /// First parameter of each layer.
  var offsets: [Int] {
    var offset = 0
    return layers.map { layer in
      defer { offset += layer.weights.rows * layer.weights.columns }
      return offset
    }
  }

  /// Weights, inputs and targets at random; weights such that images are of order 1.
  init(_ sizes: [Int], samples: Int, bias: Bool, isTanh: Bool, loss: Loss, seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    self.sizes = sizes
    self.samples = samples
    self.bias = bias
    self.loss = loss
    self.isTanh = isTanh
    inputs = (0..<samples).map { _ in (0..<sizes[0]).map { _ in generator.normal() } }
    let outputs = sizes.last!
    targets = (0..<samples).map { _ in
      if loss == .squares { return (0..<outputs).map { _ in generator.normal() } }
      let label = Int.random(in: 0..<outputs, using: &generator)
      return (0..<outputs).map { $0 == label ? 1 : 0 }
    }
    output = .diagonal(try Matrix(rows: 0, columns: 0))
    var weights: [Double] = []
    for (fanIn, width) in zip(sizes, sizes.dropFirst()) {
      let rows = fanIn + (bias ? 1 : 0)
      let scale = 1 / Double(rows).squareRoot()
      weights += (0..<rows * width).map { _ in scale * generator.normal() }
    }
    try move(to: weights)
  }

  private func activation(_ x: Double, isLast: Bool) -> (value: Double, slope: Double, curvature: Double) {
    if isLast && loss == .crossEntropy { return (x, 1, 0) }
    if isTanh { return (tanh(x), 1 - tanh(x) * tanh(x), -2 * tanh(x) * (1 - tanh(x) * tanh(x))) }
    return x > 0 ? (x, 1, 0) : (0.5 * x, 0.5, 0)
  }

  /// Forward and backward pass with other weights.
  /// - Returns: the gradient.
  @discardableResult
  mutating func move(to flat: [Double]) throws -> [Double] {
    layers = []
    var z = inputs
    var offset = 0
    for (index, (fanIn, width)) in zip(sizes, sizes.dropFirst()).enumerated() {
      let rows = fanIn + (bias ? 1 : 0)
      let weights = try Matrix<Double>(rows: rows, columns: width)
      for i in 0..<rows * width { weights.base[i] = flat[offset + i] }
      offset += rows * width
      let state = LayerState(
        inputs: try Matrix(rows: samples, columns: rows), weights: weights, hasBias: bias,
        slopes: try Matrix(rows: samples, columns: width), curvatures: try Matrix(rows: samples, columns: width),
        deltas: try Matrix(rows: samples, columns: width))
      for sample in 0..<samples {
        if bias { z[sample].append(1) }
        for row in 0..<rows { state.inputs[sample, row] = z[sample][row] }
        z[sample] = (0..<width).map { unit in
          let image = (0..<rows).reduce(0) { $0 + z[sample][$1] * weights[$1, unit] }
          let found = activation(image, isLast: index == sizes.count - 2)
          state.slopes[sample, unit] = found.slope
          state.curvatures[sample, unit] = found.curvature
          return found.value
        }
      }
      layers.append(state)
    }
    let outputs = sizes.last!
    var g: [[Double]] = []
    if loss == .squares {
      let ones = try Matrix<Double>(rows: samples, columns: outputs)
      for i in 0..<samples * outputs { ones.base[i] = 1 }
      output = .diagonal(ones)
      g = zip(z, targets).map { zip($0, $1).map { $0 - $1 } }
    } else {
      let blocks = try Matrix<Double>(rows: samples, columns: outputs * outputs)
      for sample in 0..<samples {
        let powers = z[sample].map(exp)
        let p = powers.map { $0 / powers.reduce(0, +) }
        for i in 0..<outputs {
          for j in 0..<outputs { blocks[sample, i * outputs + j] = (i == j ? p[i] : 0) - p[i] * p[j] }
        }
        g.append(zip(p, targets[sample]).map { $0 - $1 })
      }
      output = .blocks(blocks)
    }
    var gradient = [Double](repeating: 0, count: flat.count)
    for (layer, offset) in zip(layers, offsets).reversed() {
      let (rows, width) = (layer.weights.rows, layer.weights.columns)
      for sample in 0..<samples {
        for unit in 0..<width {
          layer.curvatures[sample, unit] *= g[sample][unit]
          layer.deltas[sample, unit] = layer.slopes[sample, unit] * g[sample][unit]
          for row in 0..<rows {
            gradient[offset + row * width + unit] += layer.inputs[sample, row] * layer.deltas[sample, unit]
          }
        }
        g[sample] = (0..<layer.fanIn).map { row in
          (0..<width).reduce(0) { $0 + layer.deltas[sample, $1] * layer.weights[row, $1] }
        }
      }
    }
    return gradient
  }

  /// H x by the R-pass (Pearlmutter, 1994).
  func product(_ x: [Double]) -> [Double] {
    var images: [[[Double]]] = []
    var tangents = [[[Double]]](repeating: [], count: layers.count)
    var z = [[Double]](repeating: [Double](repeating: 0, count: sizes[0]), count: samples)
    for (index, layer) in layers.enumerated() {
      let (rows, width, offset) = (layer.weights.rows, layer.weights.columns, offsets[index])
      tangents[index] = z
      let a = (0..<samples).map { sample in
        (0..<width).map { unit in
          (0..<rows).reduce(0) { $0 + layer.inputs[sample, $1] * x[offset + $1 * width + unit] }
            + (0..<layer.fanIn).reduce(0) { $0 + z[sample][$1] * layer.weights[$1, unit] }
        }
      }
      images.append(a)
      z = a.enumerated().map { sample, row in row.enumerated().map { layer.slopes[sample, $0] * $1 } }
    }
    let outputs = sizes.last!
    var g = z.enumerated().map { sample, row in
      (0..<outputs).map { i in
        switch output {
        case .diagonal(let matrix): matrix[sample, i] * row[i]
        case .blocks(let matrix): (0..<outputs).reduce(0) { $0 + matrix[sample, i * outputs + $1] * row[$1] }
        }
      }
    }
    var result = [Double](repeating: 0, count: x.count)
    for (index, layer) in layers.enumerated().reversed() {
      let (rows, width, offset) = (layer.weights.rows, layer.weights.columns, offsets[index])
      for sample in 0..<samples {
        let d = (0..<width).map {
          layer.curvatures[sample, $0] * images[index][sample][$0] + layer.slopes[sample, $0] * g[sample][$0]
        }
        for row in 0..<rows {
          for unit in 0..<width {
            result[offset + row * width + unit] += layer.inputs[sample, row] * d[unit]
            if row < layer.fanIn {
              result[offset + row * width + unit] += tangents[index][sample][row] * layer.deltas[sample, unit]
            }
          }
        }
        g[sample] = (0..<layer.fanIn).map { row in
          (0..<width).reduce(0) {
            $0 + d[$1] * layer.weights[row, $1] + layer.deltas[sample, $1] * x[offset + row * width + $1]
          }
        }
      }
    }
    return result
  }

  /// H, symmetric to the last bit.
  func hessian() -> [[Double]] {
    let n = parameterCount
    var rows = (0..<n).map { index in product((0..<n).map { $0 == index ? 1 : 0 }) }
    for i in 0..<n { for j in 0..<i { rows[i][j] = rows[j][i] } }
    return rows
  }
}
