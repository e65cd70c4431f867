/// The loss of the outputs of a block of samples, and what its Hessian in them needs, kept.
///
/// Rows are those of the block; weights of samples are in the cotangents and in the Hessian.
final class OutputLoss<Element: KernelScalar> {
  let loss: LossFunction
  private let width: Int
  /// The Hessian in the outputs: its diagonal, weighted, for elementwise losses; the probabilities for softmax.
  let hessian: Matrix<Element>
  let weights: Matrix<Element>
  /// What multiplies diag(p) − p pᵀ of each sample for softmax: its weight, times the sum of its targets.
  let scales: Matrix<Element>
  private let topClasses: Storage<Double>
  private let targets: Matrix<Element>
  private let losses: Matrix<Element>

  /// For outputs `width` wide in rows padded as the kernels want them, or as close as can be where not `isPadded`.
  init(_ loss: LossFunction, _ width: Int, capacity: Int, isPadded: Bool = true) throws(EngineError) {
    func rows() throws(EngineError) -> Matrix<Element> {
      isPadded ? try .padded(capacity, width) : try Matrix(rows: capacity, columns: width)
    }
    self.loss = loss
    self.width = width
    hessian = try rows()
    targets = try rows()
    losses = try rows()
    weights = try Matrix(rows: capacity, columns: 1)
    scales = try Matrix(rows: capacity, columns: 1)
    topClasses = try Storage(count: capacity)
  }

  /// The most probable class of a sample for softmax.
  func topClass(_ row: Int) -> Int { Int(topClasses.base[row]) }

  /// The sum of the weighted losses of `part`, rows of which are samples `first`…, with outputs z; and for an order from
  /// 1 on ∂L/∂z. Arrays are strided alike.
  func evaluate(
    _ samples: Samples<Element>, from first: Int, _ part: Range<Int>, _ z: Matrix<Element>,
    into cotangents: Matrix<Element>, order: Int
  ) -> Double {
    var sum = 0.0
    if loss.isElementwise {
      if case .rows(let rows) = samples.targets {
        for row in part { targets.row(row).update(from: rows.row(first + row), count: width) }
      }
      let start = part.lowerBound
      Element.loss(
        loss.kind.rawValue, loss.parameter, order: order, part.count * z.stride, z.row(start), targets.row(start),
        [losses.row(start), cotangents.row(start), hessian.row(start)])
      for row in part {
        let weight = samples.weight(first + row)
        weights.base[row] = weight
        var loss = 0.0
        for column in 0..<width { loss += Double(losses[row, column]) }
        sum += Double(weight) * loss
        guard weight != 1 else { continue }
        for column in 0..<(order > 0 ? width : 0) {
          cotangents[row, column] *= weight
          if order > 1 { hessian[row, column] *= weight }
        }
      }
    } else {
      for row in part {
        let weight = samples.weight(first + row)
        weights.base[row] = weight
        sum += Double(weight) * softmaxRow(samples, first, row, weight, z.row(row), into: cotangents.row(row))
      }
    }
    return sum
  }

  /// Softmax cross-entropy of one row: the loss unweighted, the probabilities, and the weighted cotangent.
  private func softmaxRow(
    _ samples: Samples<Element>, _ first: Int, _ row: Int, _ weight: Element, _ z: UnsafeMutablePointer<Element>,
    into cotangent: UnsafeMutablePointer<Element>
  ) -> Double {
    let p = hessian.row(row)
    let softmax = Softmax(z, width, into: p)
    let (loss, total) = softmax.evaluate(
      z, p, width, samples.targets, first + row, scale: weight, into: cotangent)
    topClasses.base[row] = Double(softmax.top)
    scales.base[row] = weight * total
    return loss
  }

  /// The Hessian in the outputs of `part` times tangents of theirs, whose first row is `part`'s first; strided alike.
  func multiply(_ part: Range<Int>, _ tangents: Matrix<Element>, into out: Matrix<Element>) {
    if loss.isElementwise {
      Element.multiply(part.count * out.stride, hessian.row(part.lowerBound), tangents.base, out.base)
      return
    }
    for (offset, row) in part.enumerated() {
      Softmax.multiply(
        hessian.row(row), topClass(row), scales.base[row], tangents.row(offset), width, into: out.row(offset))
    }
  }

  /// Whether its third derivative in the outputs is 0 wherever it is there.
  var isQuadratic: Bool { loss.kind == .squaredError || loss.kind == .huber }

  /// The diagonal of an elementwise loss's third derivative in the outputs z of `part`, weighted. It is the same for any
  /// targets.
  func third(_ part: Range<Int>, _ z: Matrix<Element>, into out: Matrix<Element>) {
    let start = part.lowerBound
    Element.loss(
      loss.kind.rawValue, loss.parameter, order: 3, part.count * z.stride, z.row(start), targets.row(start),
      [nil, nil, nil, out.row(start)])
    for row in part where weights.base[row] != 1 {
      for column in 0..<width { out[row, column] *= weights.base[row] }
    }
  }

  /// Adds the third derivative of a softmax loss in the outputs of `part` along two tangents of theirs, times a factor,
  /// to `out`; rows count from `part`'s first.
  func addThird(
    _ part: Range<Int>, _ u: Matrix<Element>, _ v: Matrix<Element>, _ factor: Element, into out: Matrix<Element>
  ) {
    for (offset, row) in part.enumerated() {
      Softmax.addThird(
        hessian.row(row), topClass(row), factor * scales.base[row], u.row(offset), v.row(offset), width,
        into: out.row(offset))
    }
  }

  /// Column `number` of a root R of a row's Hessian in the outputs, R Rᵀ: for softmax √(scale p) (e − p).
  func root(_ row: Int, _ number: Int, into out: UnsafeMutablePointer<Element>) {
    let p = hessian.row(row)
    guard !loss.isElementwise else {
      out.update(repeating: 0, count: width)
      out[number] = p[number].squareRoot()
      return
    }
    let factor = (scales.base[row] * p[number]).squareRoot()
    var others: Element = 0
    for column in 0..<width where column != number {
      out[column] = -factor * p[column]
      others += p[column]
    }
    out[number] = factor * others  // 1 − p to full relative accuracy
  }
}
