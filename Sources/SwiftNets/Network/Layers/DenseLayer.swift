/// y = x W + b on every position: W [inputs, outputs], then b [outputs].
struct DenseLayer: NetworkLayer {
  let positions: Int
  let inputs: Int
  let outputs: Int
  let hasBias: Bool

  init(input: ValueShape, outputs: Int, hasBias: Bool) {
    positions = input.positions
    inputs = input.channels
    self.outputs = outputs
    self.hasBias = hasBias
  }

  var parameterCount: Int { saturating(hasBias ? inputs + 1 : inputs, outputs) }
  var work: Int { saturating(positions, inputs, outputs) }
  var transposes: [TransposedMatrix] { [TransposedMatrix(offset: 0, rows: inputs, columns: outputs)] }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let m = step.rows * positions  // bounded: numbers of the value
    for k in step.coefficients {
      let y = step.y(k)
      var update = step.fillRows(y, m, outputs, hasBias ? step.w(k).map { $0 + inputs * outputs } : nil)  // bounded: w
      for (i, j) in step.algebra.products[k] {
        guard let x = step.x(i), let w = step.w(j) else { continue }
        step.product(m, outputs, inputs, x, inputs, 1, w, outputs, update, y, outputs)
        update = .add
      }
      if update == .set { step.member.clear(y, count: m * outputs) }  // bounded: as above
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    let m = step.rows * positions  // bounded: numbers of the value
    for k in step.coefficients {
      var update: Update = step.node.addsInput ? .add : .set
      for (i, j) in step.algebra.products[k] {
        guard let transposed = step.transposed(0, j) else { continue }
        step.product(m, inputs, outputs, step.gy(i), outputs, 1, transposed, inputs, update, step.gx(k), inputs)
        update = .add
      }
    }
  }

  func gradient<T: KernelScalar>(
    _ step: LayerStep<T>, _ rows: Range<Int>, into weights: [UnsafeMutablePointer<T>?]
  ) {
    // bounded: all of these are places in arrays
    let first = rows.lowerBound * positions
    let m = rows.count * positions
    for k in step.coefficients {
      guard let target = weights[k] else { continue }
      for (i, j) in step.algebra.products[k] {
        guard let x = step.x(i) else { continue }
        step.product(
          inputs, outputs, m, x + first * inputs, 1, inputs, step.gy(j) + first * outputs, outputs, .add, target,
          outputs)
      }
      if hasBias {
        step.addRows(step.gy(k) + first * outputs, m, outputs, into: target + inputs * outputs)
      }
    }
  }
}
