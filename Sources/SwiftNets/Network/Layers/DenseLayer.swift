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
      var update = fillRows(y, m, outputs, hasBias ? step.w(k).map { $0 + inputs * outputs } : nil)  // bounded: w
      for (i, j) in step.algebra.products[k] {
        guard let x = step.x(i), let w = step.w(j) else { continue }
        step.product(m, outputs, inputs, x, inputs, 1, w, outputs, update, y, outputs)
        update = .add
      }
      if update == .set { y.update(repeating: 0, count: m * outputs) }  // bounded: as above
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
        addRows(step.gy(k) + first * outputs, m, outputs, step.scratch.ones, into: target + inputs * outputs)
      }
    }
  }
}

/// Sets `rows` rows of y to those of a bias, if there is one; returns how to add to them.
func fillRows<T: KernelScalar>(
  _ y: UnsafeMutablePointer<T>, _ rows: Int, _ width: Int, _ bias: UnsafeMutablePointer<T>?
) -> Update {
  guard let bias else { return .set }
  var target = y
  for _ in 0..<rows {
    for column in 0..<width { target[column] = bias[column] }
    target += width
  }
  return .add
}

/// Adds the sum of `rows` rows to `sum`.
func addRows<T: KernelScalar>(
  _ y: UnsafeMutablePointer<T>, _ rows: Int, _ width: Int, _ ones: UnsafeMutablePointer<T>,
  into sum: UnsafeMutablePointer<T>
) {
  T.gemm(1, width, rows, ones, rows, 1, y, width, nil, 0, .add, true, sum, width)
}
