import Glibc

// bounded: `LayeredShape` grants no size from 2³⁰ on, and no more than 2⁵⁰ bytes together.

/// The elimination of a layer whose pivots are not all good.
///
/// An eigenvector v of F with eigenvalue μ is eliminated where that adds no more than g times ‖H + λ‖ to the
/// cost-to-go, (‖∂z/∂X‖ ‖Cᵀ v‖)² ≤ g N |μ|; counted as 0 where both μ and its coupling are 0 to working precision, and
/// eliminated with μ + N, so that the factors are those of H + λ + N Σ v vᵀ, and can be measured; and else left to the
/// layer below, as one more unknown of its own: the pivot that makes it regular may be there.
extension LayeredElimination {
  func eliminateWithDelays(
    _ index: Int, cost: Planes, next: Planes, front: LayeredFront<Element>?, keepsForm: Bool, triesPivots: Bool,
    measure: inout LayeredMeasure, interruption: Interruption
  ) throws(EngineError) -> (layer: DelayedLayer<Element>, front: LayeredFront<Element>?) {
    let layer = keepsForm ? layers[index] : layers[index].primal
    let size = layer.shape
    let (below, carried) = (size.below, front?.count ?? 0)
    let order = size.order + carried
    try checkMemory(order: order, above: size.above, below: below)
    let block = try FactorBuffer<Element>(order * order)
    let coupling = try FactorBuffer<Element>(order * below)
    let reduced = try FactorBuffer<Element>(below * below)
    try form(layer, cost, front, into: block, coupling, reduced, interruption)
    try interruption.check()
    let spread = measure.spread(index)
    let none = try FactorBuffer<Element>(0)
    if triesPivots,
      let all = try DelayedLayer(
        layer, carried: carried, acceptedRows: nil, accepted: order, delayedRows: none, delayed: 0, f: block,
        coupling: coupling, interruption: interruption)
    {
      let divided = try all.divided()
      let growth = measure.growth(
        index, all.coupling.base, divided.base, rows: order, columns: below, stride: below)
      if all.pivot.smallestPivot > (index == 0 ? 100 : 1) * measure.tolerance && growth <= measure.limit ?? .infinity {
        measure.growth += growth
        return (all, try reduce(all, divided, reduced, nil, index, into: next, interruption))
      }
    }
    try interruption.check()
    var choice = try choose(order, below, block, coupling, spread: spread, measure, interruption)
    measure.growth += choice.growth
    // As many as there are couplings would do, but for roundings and small eigenvalues; more and more would be
    // quadratic.
    guard choice.delayed.count / order <= 4 * below + 8 else { throw Self.singular }
    let rows = try FactorBuffer(choice.accepted)
    let delayedRows = try FactorBuffer(choice.delayed)
    let (accepted, delayed) = (choice.accepted.count / order, choice.delayed.count / order)
    choice.accepted = []
    choice.delayed = []
    let width = below + delayed
    // F Vᵀ, then V F Vᵀ and its corners.
    let image = try FactorBuffer<Element>(order * max(accepted, delayed))
    let corner = try FactorBuffer<Element>(accepted * accepted)
    try multiply(
      false, true, order, accepted, order, 1, block.base, order, rows.base, order, 0, image.base, accepted, interruption
    )
    try multiply(
      false, false, accepted, accepted, order, 1, rows.base, order, image.base, accepted, 0, corner.base, accepted,
      interruption)
    for place in choice.zeros {
      corner.base[place * (accepted + 1)] = corner.base[place * (accepted + 1)] + Element(measure.zeroPivot)
    }
    let own = try FactorBuffer<Element>(accepted * width)
    let left = try FactorBuffer<Element>(delayed * width)
    try multiply(
      false, false, accepted, below, order, 1, rows.base, order, coupling.base, below, 0, own.base, width, interruption)
    try multiply(
      false, false, delayed, below, order, 1, delayedRows.base, order, coupling.base, below, 0, left.base, width,
      interruption)
    try multiply(
      false, true, order, delayed, order, 1, block.base, order, delayedRows.base, order, 0, image.base, delayed,
      interruption)
    try multiply(
      false, false, accepted, delayed, order, 1, rows.base, order, image.base, delayed, 0, own.base + below, width,
      interruption)
    try multiply(
      false, false, delayed, delayed, order, 1, delayedRows.base, order, image.base, delayed, 0, left.base + below,
      width, interruption)
    guard
      let result = try DelayedLayer(
        layer, carried: carried, acceptedRows: rows, accepted: accepted, zeros: choice.zeros,
        delayedRows: delayedRows, delayed: delayed, f: corner, coupling: own, interruption: interruption)
    else { throw Self.singular }
    return (result, try reduce(result, result.divided(), reduced, left, index, into: next, interruption))
  }

  /// c = α op(a) op(b) + β c of `FactorScalar`, in slices short enough to be interrupted between.
  func multiply(
    _ transposesA: Bool, _ transposesB: Bool, _ m: Int, _ n: Int, _ k: Int, _ alpha: Double,
    _ a: UnsafePointer<Element>,
    _ lda: Int, _ b: UnsafePointer<Element>, _ ldb: Int, _ beta: Double, _ c: UnsafeMutablePointer<Element>, _ ldc: Int,
    _ interruption: Interruption
  ) throws(EngineError) {
    let (isTall, part) = (m > n, 2 * Element.parts * Element.parts)
    let weight = saturating(part, min(m, n), k)
    try inSlices(of: max(m, n), least: 8, weight: weight, interruption: interruption) { slice in
      let first = slice.lowerBound
      if isTall {
        Element.multiply(
          transposesA, transposesB, slice.count, n, k, alpha, a + first * (transposesA ? 1 : lda), lda, b, ldb, beta,
          c + first * ldc, ldc)
      } else {
        Element.multiply(
          transposesA, transposesB, m, slice.count, k, alpha, a, lda, b + first * (transposesB ? ldb : 1), ldb, beta,
          c + first, ldc)
      }
    }
  }

  /// Unknowns to choose pivots among: eigenvectors of a larger matrix take minutes.
  static var largestChoice: Int { 2048 / Element.parts }

  static var singular: EngineError {
    .numerical("the layered elimination broke down: the matrix is singular to working precision")
  }

  /// What comes next is not in the plan: it depends on the numbers.
  private func checkMemory(order: Int, above: Int, below: Int) throws(EngineError) {
    let (f, a, b) = (Double(order), Double(above), Double(below))
    let numbers = 6 * f * f + f * (a + 3 * b) + 2 * a * (a + b) + 4 * b * b
    let bytes = 8 * numbers * Double(Element.parts * Element.parts)
    let limit = Double(sysconf(Int32(_SC_PHYS_PAGES))) * Double(sysconf(Int32(_SC_PAGESIZE)))
    guard bytes < limit, order <= Self.largestChoice else { throw .outOfMemory(bytes: Int(min(bytes, 0x1p62))) }
  }

  // MARK: - Forming

  /// F [order, order], C [order, below], and W P̂ Wᵀ with the part of X⊥ [below, below].
  private func form(
    _ layer: EliminatedLayer<Element>, _ cost: Planes, _ front: LayeredFront<Element>?,
    into block: FactorBuffer<Element>, _ coupling: FactorBuffer<Element>, _ reduced: FactorBuffer<Element>,
    _ interruption: Interruption
  ) throws(EngineError) {
    let size = layer.shape
    let (samples, rank, width, fanIn) = (size.samples, size.rank, size.width, size.fanIn)
    let (own, above, below, carried) = (size.order, size.above, size.below, front?.count ?? 0)
    let order = own + carried
    let curvature = try FactorBuffer<Element>(above * above)
    Element.join(cost, into: curvature.base, count: above * above)
    let spread = try FactorBuffer<Element>(layer.spread, count: samples * rank)
    let left = try FactorBuffer<Element>(own * above)
    try multiply(
      true, false, rank, width * above, samples, 1, spread.base, rank, curvature.base, width * above, 0, left.base,
      width * above, interruption)
    for row in 0..<order {
      let source = row < own ? left.base + row * above : front!.coupling.base + (row - own) * above
      try multiply(
        true, false, rank, width, samples, 1, spread.base, rank, source, width, 0, block.base + row * order, width,
        interruption)
      if row < own {
        block.base[row * (order + 1)] = block.base[row * (order + 1)] + Element(shift)
      } else if let front {
        (block.base + row * order + own).update(from: front.block.base + (row - own) * carried, count: carried)
      }
    }
    for row in 0..<order {
      for column in 0..<row { block.base[column * order + row] = block.base[row * order + column] }
    }
    guard below > 0 else { return }
    let weights = try FactorBuffer<Element>(layer.weights, count: fanIn * width)
    func backward(
      _ rows: Int, _ source: UnsafePointer<Element>, _ target: UnsafeMutablePointer<Element>
    ) throws(EngineError) {
      try multiply(
        false, true, rows * samples, fanIn, width, 1, source, width, weights.base, width, 0, target, fanIn, interruption
      )
    }
    try backward(own, left.base, coupling.base)
    if let front { try backward(carried, front.coupling.base, coupling.base + own * below) }
    for component in 0..<rank {
      try interruption.check()
      for input in 0..<fanIn {
        let entry = layer.basis.map { $0[component * size.rows + input] } ?? (component == input ? 1 : 0)
        if entry == 0 { continue }
        for unit in 0..<width {
          let target = coupling.base + (component * width + unit) * below + input
          for sample in 0..<samples {
            target[sample * fanIn] = target[sample * fanIn] + Element(entry * layer.deltas[sample * width + unit])
          }
        }
      }
    }
    let image = try FactorBuffer<Element>(above * below)
    try backward(above, curvature.base, image.base)
    for sample in 0..<samples {
      try multiply(
        false, false, fanIn, below, width, 1, weights.base, width, image.base + sample * width * below, below, 0,
        reduced.base + sample * fanIn * below, below, interruption)
    }
    guard layer.hasRest else { return }
    let reciprocal = Element(Complex(1) / shift)
    for row in 0..<below {
      if row % 64 == 0 { try interruption.check() }
      for column in 0..<below {
        let overlap = layer.overlaps[row / fanIn * samples + column / fanIn]
        let entry = Element(overlap * layer.rest[row % fanIn * fanIn + column % fanIn])
        reduced.base[row * below + column] = reduced.base[row * below + column] - reciprocal * entry
      }
    }
  }

  // MARK: - Reducing

  /// What is left to minimise: P̂ of the layer below into `next`, and the unknowns that it takes over.
  private func reduce(
    _ layer: DelayedLayer<Element>, _ divided: FactorBuffer<Element>, _ reduced: FactorBuffer<Element>,
    _ left: FactorBuffer<Element>?, _ index: Int, into next: Planes, _ interruption: Interruption
  ) throws(EngineError) -> LayeredFront<Element>? {
    let (below, delayed, width) = (layer.layer.shape.below, layer.delayed, layer.width)
    guard below > 0 else { return nil }
    let lower = layers[index - 1]
    let all = try FactorBuffer<Element>(width * width)
    for row in 0..<below {
      (all.base + row * width).update(from: reduced.base + row * below, count: below)
    }
    for row in 0..<delayed {
      (all.base + (below + row) * width).update(from: left!.base + row * width, count: width)
      for column in 0..<below { all.base[column * width + below + row] = left!.base[row * width + column] }
    }
    try multiply(
      true, false, width, width, layer.accepted, -1, layer.coupling.base, max(width, 1), divided.base, width, 1,
      all.base, width, interruption)
    let half = Element(0.5)
    let whole = try FactorBuffer<Element>(below * below)
    for row in 0..<below {
      if row % 64 == 0 { try interruption.check() }
      for column in 0...row {
        let mean = half * (all.base[row * width + column] + all.base[column * width + row])
        var entry = Element(lower.slopes[row] * lower.slopes[column]) * mean
        if row == column { entry = entry + Element(lower.curvatures[row]) }
        whole.base[row * below + column] = entry
        whole.base[column * below + row] = entry
      }
    }
    Element.split(whole.base, into: next, count: below * below)
    guard delayed > 0 else { return nil }
    let coupling = try FactorBuffer<Element>(delayed * below)
    let block = try FactorBuffer<Element>(delayed * delayed)
    for row in 0..<delayed {
      let source = all.base + (below + row) * width
      for column in 0..<below { coupling.base[row * below + column] = Element(lower.slopes[column]) * source[column] }
      for column in 0...row {
        let mean = half * (source[below + column] + all.base[(below + column) * width + below + row])
        block.base[row * delayed + column] = mean
        block.base[column * delayed + row] = mean
      }
    }
    return LayeredFront(count: delayed, coupling: coupling, block: block)
  }
}
