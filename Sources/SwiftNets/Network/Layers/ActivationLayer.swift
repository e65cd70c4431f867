/// y = s(x), elementwise.
///
/// Keeps the slopes s′(x), and for tangents s″(x₀).
struct ActivationLayer: NetworkLayer {
  let activation: Activation
  let size: Int

  init(_ activation: Activation, size: Int) {
    self.activation = activation
    self.size = size
  }

  private var isIdentity: Bool { activation.kind == .identity }
  private var isCurved: Bool { !activation.isPiecewiseLinear }

  var work: Int { saturating(8, size) }
  var stateSizes: [Int] { isIdentity ? [] : isCurved ? [size, size] : [size] }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let count = step.rows * size  // bounded: numbers of the value
    if isIdentity {
      return step.linearly { k, x in
        if let x { step.y(k).update(from: x, count: count) } else { step.y(k).update(repeating: 0, count: count) }
      }
    }
    let (kind, parameter) = (activation.kind.rawValue, activation.parameter)
    if step.first > 0 {
      // A tangent along slopes that are kept.
      for k in step.coefficients {
        guard let x = step.x(k) else {
          step.y(k).update(repeating: 0, count: count)
          if isCurved { step.state(0, k).update(repeating: 0, count: count) }
          continue
        }
        T.multiply(count, step.state(0, 0), x, step.y(k))
        if isCurved && step.isCurved { T.multiply(count, step.state(1, 0), x, step.state(0, k)) }
      }
      return
    }
    guard let x = step.x(0) else { return }
    if step.algebra.count == 1 {
      let order = isCurved && step.isCurved ? 2 : 1
      T.activation(
        kind, parameter, order: order, count, x,
        [step.y(0), step.state(0, 0)] + (order == 2 ? [step.state(1, 0)] : []))
      return
    }
    let isLinear = activation.isPiecewiseLinear
    let all = 0..<step.algebra.count
    step.algebra.compose(
      0..<count, all.map { step.x($0) ?? x }, [all.map(step.y), all.map { step.state(0, $0) }],
      step.powers.of(input: step.node.input == 0, isLinear: isLinear), isLinear: isLinear, step.scratch.taylor
    ) { length, start, derivatives in
      T.activation(
        kind, parameter, order: isLinear ? 1 : step.algebra.degree + 1, length, x + start, derivatives)
    }
    if step.node.input == 0 {
      for k in all.dropFirst() {
        step.y(k).update(repeating: 0, count: count)
        step.state(0, k).update(repeating: 0, count: count)
      }
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    let count = step.rows * size  // bounded: numbers of the value
    if isIdentity { return addCotangents(step, count) }
    let isCurved = isCurved
    for k in step.coefficients {
      step.multiply(
        count, into: step.gx(k), k, adding: step.node.addsInput, { $0 > 0 && !isCurved ? nil : step.state(0, $0) },
        step.gy)
    }
  }
}

/// gx = gy, or that added.
func addCotangents<T: KernelScalar>(_ step: LayerStep<T>, _ count: Int) {
  for k in step.coefficients {
    if step.node.addsInput {
      T.axpy(count, 1, step.gy(k), step.gx(k))
    } else {
      step.gx(k).update(from: step.gy(k), count: count)
    }
  }
}
