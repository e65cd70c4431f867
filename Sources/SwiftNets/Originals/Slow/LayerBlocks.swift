/// The dense Hessian block of one layer, one Pearlmutter R-pass a column (Pearlmutter, Neural Computation 6, 1994).
///
/// As act″ = 0 the pass carries no curvature of the activation, and the block is its Gauss–Newton block: positive
/// semidefinite.
/// - Parameters:
///   - layer: 1 for w₁–w₁, `[in·hid]²`, or 2 for w₂–w₂, `[hid·out]²`; rows and columns flattened row-major.
///   - block: written whole.
/// - Complexity: 4 n · hid · (in + out) operations a column for layer 1, 4 n · hid · out for layer 2.
func hessianBlock(
  _ pass: TwoLayerPass, _ xs: Matrix<Double>, layer: Int, into block: Matrix<Double>, interruption: Interruption
) throws(EngineError) {
  let net = pass.net
  let rows = layer == 1 ? net.insize : net.hidsize
  let columns = layer == 1 ? net.hidsize : net.outsize
  let threads = Threads.count
  var passes: [RPass] = []
  for _ in 0..<threads { passes.append(try RPass(pass, xs, layer: layer)) }
  // A few directions between looks at the caller's wish to stop.
  let group = max(1, 20_000_000 / max(1, saturating(4, pass.samples, net.hidsize, net.insize + net.outsize))) * threads
  for first in stride(from: 0, to: rows * columns, by: group) {
    try interruption.check()
    let directions = first..<min(first + group, rows * columns)
    try ThreadTeam.run(parts: threads, interruption) { member in
      let own = passes[member.index]
      for offset in member.share(of: directions.count) where !member.isStopped {
        let direction = directions.lowerBound + offset
        own.direction[direction / columns, direction % columns] = 1
        own.run(member)
        own.direction[direction / columns, direction % columns] = 0
        for row in 0..<rows {
          block.row(direction).advanced(by: row * columns).update(from: own.result.row(row), count: columns)
        }
      }
    }
  }
}

/// R{dW} of one layer for a direction in the same layer: a Hessian-block–vector product.
private final class RPass {
  let direction: Matrix<Double>
  let result: Matrix<Double>
  private let pass: TwoLayerPass
  private let xs: Matrix<Double>
  private let layer: Int
  private let hidden: Matrix<Double>
  private let output: Matrix<Double>

  init(_ pass: TwoLayerPass, _ xs: Matrix<Double>, layer: Int) throws(EngineError) {
    self.pass = pass
    self.xs = xs
    self.layer = layer
    let net = pass.net
    direction = try .padded(layer == 1 ? net.insize : net.hidsize, layer == 1 ? net.hidsize : net.outsize)
    result = try .padded(direction.rows, direction.columns)
    hidden = try .padded(pass.samples, net.hidsize)
    output = try .padded(pass.samples, net.outsize)
  }

  func run(_ member: ThreadTeam.Member) {
    let net = pass.net
    let sizes = layer == 1 ? saturating(sum: net.insize, saturating(2, net.outsize)) : net.outsize
    let weight = saturating(2, net.hidsize, sizes)
    member.inPieces(0..<pass.samples, weight: weight) { samples in
      if layer == 1 {
        multiply(xs.operand, direction, scale: pass.slope1, into: hidden, rows: samples)  // R{h₁}
        multiply(hidden.operand, pass.w2, scale: pass.slope2, into: output, rows: samples)  // R{h₂}
      } else {
        multiply(pass.h1.operand, direction, scale: pass.slope2, into: output, rows: samples)
      }
      for entry in samples.lowerBound * output.stride..<samples.upperBound * output.stride {
        output.base[entry] *= pass.slope2.base[entry]  // R{G₂}
      }
      guard layer == 1 else { return }
      multiply(output.operand, pass.w2t, scale: pass.slope1, into: hidden, rows: samples)  // R{G₁}
    }
    member.inPieces(0..<result.rows, weight: saturating(2, pass.samples, result.columns)) { rows in
      if layer == 1 {
        multiply(xs.transposed, hidden, into: result, rows: rows)
      } else {
        multiply(pass.h1.transposed, output, into: result, rows: rows)
      }
    }
  }
}

extension TwoLayerPerceptron {
  /// The dense Hessian block of `layer` 1 or 2 at the given weights, row-major, into `block`.
  public func hessianBlock(
    layer: Int, _ xs: Matrix<Double>, w1: Matrix<Double>, w2: Matrix<Double>, into block: Matrix<Double>,
    interruption: Interruption = .init()
  ) throws(EngineError) {
    guard layer == 1 || layer == 2 else { throw .invalidArgument("layer is \(layer); it must be 1 or 2") }
    let pass = try TwoLayerPass(net: self, samples: xs.rows)
    pass.load(w1: w1, w2: w2)
    try ThreadTeam.run(parts: Threads.forWork(of: pass.operations), interruption) {
      pass.forward(xs, nil, member: $0)
    }
    try SwiftNets.hessianBlock(pass, xs, layer: layer, into: block, interruption: interruption)
  }
}
