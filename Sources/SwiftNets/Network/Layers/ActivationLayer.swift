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

  private var isIdentity: Bool { activation.isIdentity }
  private var isCurved: Bool { !activation.isPiecewiseLinear }

  var work: Int { saturating(8, size) }
  var stateSizes: [Int] { isIdentity ? [] : isCurved ? [size, size] : [size] }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let count = step.rows * size  // bounded: numbers of the value
    if isIdentity {
      return step.linearly { k, x in
        if let x {
          step.member.copy(x, to: step.y(k), count: count)
        } else {
          step.member.clear(step.y(k), count: count)
        }
      }
    }
    if step.first > 0 {
      // A tangent along slopes that are kept.
      for k in step.coefficients {
        guard let x = step.x(k) else {
          step.member.clear(step.y(k), count: count)
          if isCurved { step.member.clear(step.state(0, k), count: count) }
          continue
        }
        step.inPieces(count) { part in
          let (start, x) = (part.lowerBound, x + part.lowerBound)
          T.multiply(part.count, step.state(0, 0) + start, x, step.y(k) + start)
          if isCurved && step.isCurved {
            T.multiply(part.count, step.state(1, 0) + start, x, step.state(0, k) + start)
          }
        }
      }
      return
    }
    guard let x = step.x(0) else { return }
    if step.algebra.count == 1 {
      let order = isCurved && step.isCurved ? 2 : 1
      let places = [step.y(0), step.state(0, 0)] + (order == 2 ? [step.state(1, 0)] : [])
      step.inPieces(count, of: 4) { part in
        activation.evaluate(order: order, part.count, x + part.lowerBound, places.map { $0 + part.lowerBound })
      }
      return
    }
    let isLinear = activation.isPiecewiseLinear
    let all = 0..<step.algebra.count
    let (arrays, functions) = (all.map { step.x($0) ?? x }, [all.map(step.y), all.map { step.state(0, $0) }])
    let plan = step.powers.of(input: step.node.input == 0, isLinear: isLinear)
    step.inPieces(count, of: 8 * step.algebra.count) { part in
      step.algebra.compose(part, arrays, functions, plan, isLinear: isLinear, step.scratch.taylor) {
        length, start, derivatives in
        activation.evaluate(order: isLinear ? 1 : step.algebra.degree + 1, length, x + start, derivatives)
      }
    }
    if step.node.input == 0 {
      for k in all.dropFirst() {
        step.member.clear(step.y(k), count: count)
        step.member.clear(step.state(0, k), count: count)
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
      step.member.add(step.gy(k), to: step.gx(k), count: count)
    } else {
      step.member.copy(step.gy(k), to: step.gx(k), count: count)
    }
  }
}
