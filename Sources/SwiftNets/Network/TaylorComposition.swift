/// Working memory of one thread for elementwise work with numbers of an algebra: derivatives, then powers of δ.
final class TaylorScratch<Element: KernelScalar> {
  /// Numbers at a time.
  static var block: Int { 512 }
  let derivatives: [Matrix<Element>]
  let squares: [Matrix<Element>]
  let cubes: [Matrix<Element>]
  /// Of one row of softmax: σ, and the series of 1 / (1 + σ).
  let sums: Matrix<Element>
  let inverses: Matrix<Element>

  init(_ algebra: TaylorAlgebra) throws(EngineError) {
    func arrays(_ count: Int) throws(EngineError) -> [Matrix<Element>] {
      var all: [Matrix<Element>] = []
      for _ in 0..<count { all.append(try Matrix(rows: 1, columns: Self.block)) }
      return all
    }
    derivatives = try arrays(5)
    squares = try arrays(algebra.count)
    cubes = try arrays(algebra.count)
    sums = try Matrix(rows: 1, columns: algebra.count)
    inverses = try Matrix(rows: 1, columns: algebra.count)
  }
}

extension TaylorAlgebra {
  /// f(a) and f′(a), … of numbers `range` of arrays with a coefficient each: `functions[q]` becomes
  /// Σ f⁽ᵖ⁺ᵍ⁾(a₀) δᵖ / p! for the f whose derivatives at a₀ `fill` gives: (count, start, where to put them). Where that
  /// is linear near a₀, f′ is constant.
  func compose<Element: KernelScalar>(
    _ range: Range<Int>, _ a: [UnsafeMutablePointer<Element>], _ functions: [[UnsafeMutablePointer<Element>]],
    _ plan: TaylorPowers, isLinear: Bool, _ scratch: TaylorScratch<Element>,
    _ fill: (Int, Int, [UnsafeMutablePointer<Element>?]) -> Void
  ) {
    var start = range.lowerBound
    let end = range.upperBound
    let derivatives = scratch.derivatives.map { Optional($0.base) }
    while start < end {
      let length = min(TaylorScratch<Element>.block, end - start)
      fill(length, start, derivatives)
      powers(a, start, length, plan, scratch)
      for (q, function) in functions.enumerated() {
        let d = scratch.derivatives.dropFirst(q).map { $0.base }
        (function[0] + start).update(from: d[0], count: length)
        for k in 1..<count where !(isLinear && q > 0) {
          let target = function[k] + start
          var isSet = false
          func add(_ factor: UnsafeMutablePointer<Element>, _ power: UnsafeMutablePointer<Element>) {
            if isSet {
              Element.multiplyAdd(length, factor, power, target)
            } else {
              Element.multiply(length, factor, power, target)
            }
            isSet = true
          }
          if plan.linear[k] { add(d[1], a[k] + start) }
          if !plan.squares[k].isEmpty { add(d[2], scratch.squares[k].base) }
          if !plan.cubes[k].isEmpty { add(d[3], scratch.cubes[k].base) }
        }
      }
      start += length
    }
  }

  /// ½ δ² and δ³ / 6 of a block.
  private func powers<Element: KernelScalar>(
    _ a: [UnsafeMutablePointer<Element>], _ start: Int, _ length: Int, _ plan: TaylorPowers,
    _ scratch: TaylorScratch<Element>
  ) {
    for k in 1..<count {
      let square = scratch.squares[k].base
      let cube = scratch.cubes[k].base
      // A square counts half; of the two orders of a product one.
      var isSet = false
      func add(
        _ x: UnsafeMutablePointer<Element>, _ y: UnsafeMutablePointer<Element>, _ target: UnsafeMutablePointer<Element>
      ) {
        if isSet { Element.multiplyAdd(length, x, y, target) } else { Element.multiply(length, x, y, target) }
        isSet = true
      }
      for (i, j) in plan.squares[k] where i == j { add(a[i] + start, a[j] + start, square) }
      if isSet { scale(square, length, 0.5) }
      for (i, j) in plan.squares[k] where i < j { add(a[i] + start, a[j] + start, square) }
      guard !plan.cubes[k].isEmpty else { continue }
      // δ · ½ δ² is three times δ³ / 6; lower squares are ready, as εᵢ εⱼ = εₖ has i, j < k.
      isSet = false
      for (i, j) in plan.cubes[k] { add(a[i] + start, scratch.squares[j].base, cube) }
      scale(cube, length, 1 / Element(3))
    }
  }

  /// p of exp(z) / Σ exp(z) for one row, coefficients 1 and up, where p₀ is in `p[0]` and column `centre` has the
  /// largest of it. The small parts of z become differences against that column.
  ///
  /// With ε the small part, p = p₀ exp(ε) / (1 + σ), where σ = Σ p₀ (exp(ε) − 1) is a sum over the other columns.
  func softmax<Element: KernelScalar>(
    _ z: [UnsafeMutablePointer<Element>], _ width: Int, centre: Int, into p: [UnsafeMutablePointer<Element>],
    squares: [UnsafeMutablePointer<Element>], _ scratch: TaylorScratch<Element>
  ) {
    let (sums, inverses) = (scratch.sums.base, scratch.inverses.base)
    for k in 1..<count {
      let largest = z[k][centre]
      for column in 0..<width { z[k][column] -= largest }
    }
    // exp(ε) − 1 = ε + ½ ε² + ε³ / 6.
    for k in 1..<count {
      squares[k].update(repeating: 0, count: width)
      for (i, j) in products[k] where i > 0 && j > 0 { Element.multiplyAdd(width, z[i], z[j], squares[k]) }
      scale(squares[k], width, 0.5)
      p[k].update(repeating: 0, count: width)
      for (i, j) in products[k] where i > 0 && j > 0 { Element.multiplyAdd(width, z[i], squares[j], p[k]) }
      sums[k] = 0
      for column in 0..<width {
        p[k][column] = p[0][column] * (z[k][column] + squares[k][column] + p[k][column] / 3)
        sums[k] += p[k][column]
      }
    }
    // 1 / (1 + σ) = 1 − σ + σ² − σ³, and p = p₀ exp(ε) / (1 + σ) from the last coefficient down, in place.
    inverses[0] = 1
    for k in 1..<count {
      var power: Element = 0
      for (i, j) in products[k] where i > 0 { power += sums[i] * inverses[j] }
      inverses[k] = -power
    }
    for k in (1..<count).reversed() {
      for (i, j) in products[k] where j > 0 { Element.axpy(width, inverses[j], p[i], p[k]) }
    }
  }
}

private func scale<Element: KernelScalar>(_ x: UnsafeMutablePointer<Element>, _ count: Int, _ factor: Element) {
  for index in 0..<count { x[index] *= factor }
}

/// The loss of a net's outputs that are numbers of an algebra.
struct TaylorLoss<Element: KernelScalar> {
  private let loss: LossFunction
  private let width: Int
  private let algebra: TaylorAlgebra
  private let powers: TaylorPowers
  private let targets: Matrix<Element>

  /// For outputs whose small parts have these `powers`; `targets` is working memory, shaped as the outputs.
  init(_ loss: LossFunction, _ width: Int, _ algebra: TaylorAlgebra, _ powers: TaylorPowers, targets: Matrix<Element>) {
    self.loss = loss
    self.width = width
    self.algebra = algebra
    self.powers = powers
    self.targets = targets
  }

  /// The series of ∂L/∂Z of the outputs z of `part`, weighted, into `target`; returns the weighted loss. `squares` is
  /// working memory; z's small parts are spent.
  func cotangent(
    _ samples: Samples<Element>, _ first: Int, _ part: Range<Int>, _ z: [Matrix<Element>],
    into target: [Matrix<Element>], squares: [Matrix<Element>], _ scratch: TaylorScratch<Element>
  ) -> Double {
    var sum = 0.0
    guard loss.isElementwise else {
      for row in part {
        sum += softmaxRow(
          samples, first + row, z.map { $0.row(row) }, target.map { $0.row(row) }, squares.map { $0.row(row) }, scratch)
      }
      return sum
    }
    if case .rows(let rows) = samples.targets {
      for row in part { targets.row(row).update(from: rows.row(first + row), count: width) }
    }
    // The loss's own values go where the first cotangent will be, and are summed before it comes.
    let stride = z[0].stride
    let range = part.lowerBound * stride..<part.upperBound * stride
    Element.loss(
      loss.kind.rawValue, loss.parameter, order: 0, range.count, z[0].base + range.lowerBound,
      targets.base + range.lowerBound, [target[0].base + range.lowerBound])
    for row in part {
      var loss = 0.0
      for column in 0..<width { loss += Double(target[0][row, column]) }
      sum += Double(samples.weight(first + row)) * loss
    }
    algebra.compose(range, z.map(\.base), [target.map(\.base)], powers, isLinear: false, scratch) {
      count, start, derivatives in
      Element.loss(
        loss.kind.rawValue, loss.parameter, order: algebra.degree + 1, count, z[0].base + start, targets.base + start,
        [derivatives[4]] + derivatives.prefix(algebra.degree + 1))
    }
    for row in part {
      let weight = samples.weight(first + row)
      guard weight != 1 else { continue }
      for k in 0..<algebra.count where powers.any[k] { scale(target[k].row(row), width, weight) }
    }
    return sum
  }

  /// The series of softmax(z) − y for one row, centred as in `Softmax`.
  private func softmaxRow(
    _ samples: Samples<Element>, _ sample: Int, _ z: [UnsafeMutablePointer<Element>],
    _ e: [UnsafeMutablePointer<Element>], _ squares: [UnsafeMutablePointer<Element>], _ scratch: TaylorScratch<Element>
  ) -> Double {
    let weight = samples.weight(sample)
    let softmax = Softmax(z[0], width, into: e[0])
    algebra.softmax(z, width, centre: softmax.top, into: e, squares: squares, scratch)
    // Room for the probabilities that become the first cotangent.
    squares[0].update(from: e[0], count: width)
    let (loss, total) = softmax.evaluate(
      z[0], squares[0], width, samples.targets, sample, scale: weight, into: e[0])
    for k in 1..<algebra.count { scale(e[k], width, weight * total) }
    return Double(weight) * loss
  }
}
