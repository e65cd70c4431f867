import Glibc

// bounded: `LayeredShape` grants no size from 2³⁰ on, and no more than 2⁵⁰ bytes together.

/// Numbers of one step of the elimination, not set to zero, with room for the kernels that read past the end.
final class FactorBuffer<Element: FactorScalar> {
  let base: UnsafeMutablePointer<Element>
  private let words: Integers<UInt64>

  init(_ count: Int) throws(EngineError) {
    words = try Integers(count: count * Element.parts + 4)
    base = UnsafeMutableRawPointer(words.base).bindMemory(to: Element.self, capacity: count + 4)
  }

  convenience init(_ numbers: [Element]) throws(EngineError) {
    try self.init(numbers.count)
    for (index, number) in numbers.enumerated() { base[index] = number }
  }

  convenience init(_ numbers: UnsafePointer<Double>, count: Int) throws(EngineError) {
    try self.init(count)
    for index in 0..<count { base[index] = Element(numbers[index]) }
  }
}

/// A layer of which some unknowns may have been left to the layer below, and some taken over from the layer above.
///
/// Its unknowns are f = (Y, t), t those taken over; f = Vaᵀ yₐ + V_dᵀ y_d with unitary (Vₐ; V_d), and yₐ is eliminated.
final class DelayedLayer<Element: FactorScalar> {
  /// The layer itself, in the form that was factored.
  let layer: EliminatedLayer<Element>
  /// Unknowns t.
  let carried: Int
  let accepted: Int
  let delayed: Int
  /// Vₐ [accepted, order]; nil for 1.
  let acceptedRows: FactorBuffer<Element>?
  /// Rows of Vₐ counted as eigenvectors of 0, whose pivots stand in for it.
  let zeros: [Int]
  /// V_d [delayed, order].
  let delayedRows: FactorBuffer<Element>
  let pivot: SymmetricFactor<Element>
  /// G [accepted, below + delayed].
  let coupling: FactorBuffer<Element>
  let bytes: Int
  private let memory: ArenaMemory

  var order: Int { layer.shape.order + carried }
  var width: Int { layer.shape.below + delayed }

  /// Factors F [accepted, accepted], and reduces its coupling C [accepted, below + delayed].
  /// - Returns: nil where F is singular.
  init?(
    _ layer: EliminatedLayer<Element>, carried: Int, acceptedRows: FactorBuffer<Element>?, accepted: Int,
    zeros: [Int] = [], delayedRows: FactorBuffer<Element>, delayed: Int, f: FactorBuffer<Element>,
    coupling c: FactorBuffer<Element>, interruption: Interruption
  ) throws(EngineError) {
    self.layer = layer
    self.carried = carried
    self.accepted = accepted
    self.delayed = delayed
    self.acceptedRows = acceptedRows
    self.zeros = zeros
    self.delayedRows = delayedRows
    var arena = Arena.measuring
    _ = SymmetricFactor<Element>(order: accepted, in: &arena)
    memory = try ArenaMemory(bytes: arena.bytes)
    let held = arena.bytes
    arena = Arena(memory)
    pivot = SymmetricFactor(order: accepted, in: &arena)
    pivot.base.update(from: f.base, count: accepted * accepted)
    let width = layer.shape.below + delayed
    coupling = try FactorBuffer(accepted * width)
    let order = layer.shape.order + carried
    bytes =
      held + MemoryLayout<Element>.stride
      * (accepted * width + (acceptedRows == nil ? 0 : accepted * order) + delayed * order)
    guard try pivot.factor(interruption: interruption) else { return nil }
    guard width > 0 else { return }
    for row in 0..<accepted {
      (coupling.base + row * width).update(from: c.base + Int(pivot.places[row]) * width, count: width)
    }
    guard accepted > 0 else { return }
    let weight = saturating(accepted, accepted, Element.parts)
    try inSlices(of: width, least: 8, weight: weight, interruption: interruption) { columns in
      Element.solveColumns(
        isTransposed: true, accepted, pivot.base, pivot.stride, coupling.base + columns.lowerBound, width,
        count: columns.count)
    }
  }

  /// D⁻¹ G.
  func divided() throws(EngineError) -> FactorBuffer<Element> {
    let result = try FactorBuffer<Element>(accepted * width)
    if width > 0 { pivot.divideColumns(coupling.base, into: result.base, width) }
    return result
  }
}

/// Unknowns on their way down: their coupling to the outputs of a layer, and their own matrix.
struct LayeredFront<Element: FactorScalar> {
  let count: Int
  /// Eᵀ S [count, N n].
  let coupling: FactorBuffer<Element>
  /// T [count, count].
  let block: FactorBuffer<Element>
}

/// What tells which pivots are good: sizes relative to ‖H + λ‖, and what rounding did so far.
struct LayeredMeasure {
  /// ‖H + λ‖, to a factor of two.
  let norm: Double
  /// ‖∂z/∂X‖ of each layer's outputs.
  let spreads: [Double]
  /// Sum over layers of ‖Cᵀ Q⁻¹ C‖ / norm.
  var growth = 1.0

  /// g: what an elimination may add to the cost-to-go, relative to the norm; nil for anything.
  let limit: Double?
  /// What is 0 relative to the norm, where rounding did little so far.
  let least: Double

  init(norm: Double, spreads: [Double], limit: Double?, least: Double) {
    (self.norm, self.spreads, self.limit, self.least) = (norm, spreads, limit, least)
  }

  /// What is 0 to working precision.
  var tolerance: Double { max(least, 4 * 0x1p-52 * growth) * norm }
  /// What is added to a pivot that is counted as 0.
  var zeroPivot: Double { norm > 0 ? norm : 1 }
  /// Of the layer's inputs.
  func spread(_ index: Int) -> Double { index == 0 ? 0 : spreads[index - 1] }

  /// Largest entry on the diagonal of |G|ᵀ |D⁻¹ G|, in units of the weights and relative to the norm.
  func growth<Element: FactorScalar>(
    _ index: Int, _ g: UnsafePointer<Element>, _ divided: UnsafePointer<Element>, rows: Int, columns: Int, stride: Int
  ) -> Double {
    let spread = spread(index)
    return withUnsafeTemporaryAllocation(of: Double.self, capacity: columns) { sums in
      sums.initialize(repeating: 0)
      guard let base = sums.baseAddress else { return 0 }
      for row in 0..<rows {
        let (a, b) = (g + row * stride, divided + row * stride)
        for column in 0..<columns { base[column] += (spread * a[column].magnitude) * (spread * b[column].magnitude) }
      }
      // NaN is no maximum.
      return sums.reduce(0) { $1.isNaN ? .infinity : max($0, $1) } / norm
    }
  }
}

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
    // As many as there are couplings would do, but for roundings and small eigenvalues; more and more would be quadratic.
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
  private func multiply(
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

  /// What comes next is not in the plan, which no one can know.
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

  // MARK: - Choosing

  private struct Choice {
    var accepted: [Element] = []
    var delayed: [Element] = []
    /// Places among the accepted rows.
    var zeros: [Int] = []
    var growth = 0.0
  }

  private enum Fate { case accepted, delayed, zero }

  private func choose(
    _ order: Int, _ below: Int, _ block: FactorBuffer<Element>, _ coupling: FactorBuffer<Element>, spread: Double,
    _ measure: LayeredMeasure, _ interruption: Interruption
  ) throws(EngineError) -> Choice {
    var choice = Choice()
    func fate(_ value: Double, _ size: Double) -> Fate {
      let (tolerance, pivot) = (measure.tolerance, abs(value))
      if pivot <= tolerance { return size <= tolerance ? .zero : .delayed }
      // Relative to the norm and one after the other, so that squares stay in range.
      let growth = size / pivot * (size / measure.norm)
      guard growth <= measure.limit ?? .infinity else { return .delayed }
      choice.growth = max(choice.growth, growth)
      return .accepted
    }
    func takeZero(_ row: some Sequence<Element>) {
      choice.zeros.append(choice.accepted.count / order)
      choice.accepted += row
    }
    let (vectors, values) = try diagonalized(block, order, interruption)
    let rows = try FactorBuffer(vectors)
    let image = try FactorBuffer<Element>(order * below)
    try multiply(
      false, false, order, below, order, 1, rows.base, order, coupling.base, below, 0, image.base, below, interruption)
    var waiting: [Int] = []
    for place in 0..<order {
      switch fate(values[place], spread * length(image.base + place * below, below)) {
      case .accepted: choice.accepted += vectors[place * order..<(place + 1) * order]
      case .zero: takeZero(vectors[place * order..<(place + 1) * order])
      case .delayed: waiting.append(place)
      }
    }
    guard !waiting.isEmpty, below > 0 else { return choice }
    // Directions among them that the layer below does not see are decided here, by their coupling to the others.
    let count = waiting.count
    let seen = try range(
      waiting.flatMap { place in (0..<below).map { image.base[place * below + $0] } }, count, below,
      tolerance: measure.tolerance / spread, interruption: interruption)
    let own = try FactorBuffer(waiting.flatMap { vectors[$0 * order..<($0 + 1) * order] })
    let rotation = try FactorBuffer(seen.numbers.map(\.conjugate))
    let turned = try FactorBuffer<Element>(count * order)
    try multiply(
      false, false, count, order, count, 1, rotation.base, count, own.base, order, 0, turned.base, order, interruption)
    let (first, rest) = (seen.rank, count - seen.rank)
    func take(_ source: UnsafePointer<Element>, into target: inout [Element]) {
      target += UnsafeBufferPointer(start: source, count: order)
    }
    for row in 0..<first { take(turned.base + row * order, into: &choice.delayed) }
    guard rest > 0 else { return choice }
    let hidden = turned.base + first * order
    let product = try FactorBuffer<Element>(order * count)  // F (V₁; V₂)ᵀ
    try multiply(
      false, true, order, count, order, 1, block.base, order, turned.base, order, 0, product.base, count, interruption)
    let corner = try FactorBuffer<Element>(rest * count)
    try multiply(
      false, false, rest, count, order, 1, hidden, order, product.base, count, 0, corner.base, count, interruption)
    let inner = try FactorBuffer<Element>(rest * rest)
    for row in 0..<rest {
      for column in 0...row {
        inner.base[row * rest + column] = corner.base[row * count + first + column]
        inner.base[column * rest + row] = corner.base[row * count + first + column]
      }
    }
    let (turns, pivots) = try diagonalized(inner, rest, interruption)
    let turn = try FactorBuffer(turns)
    let final = try FactorBuffer<Element>(rest * order)
    try multiply(false, false, rest, order, rest, 1, turn.base, rest, hidden, order, 0, final.base, order, interruption)
    let across = try FactorBuffer<Element>(rest * first)
    try multiply(
      false, false, rest, first, rest, 1, turn.base, rest, corner.base, count, 0, across.base, max(first, 1),
      interruption)
    for place in 0..<rest {
      switch fate(pivots[place], length(across.base + place * first, first)) {
      case .accepted: take(final.base + place * order, into: &choice.accepted)
      case .zero: takeZero(UnsafeBufferPointer(start: final.base + place * order, count: order))
      case .delayed: take(final.base + place * order, into: &choice.delayed)
      }
    }
    return choice
  }

  private func diagonalized(
    _ matrix: FactorBuffer<Element>, _ order: Int, _ interruption: Interruption
  ) throws(EngineError) -> (rows: [Element], values: [Double]) {
    // What came in was finite: this is no one's argument.
    do throws(EngineError) {
      return try Element.diagonalized(matrix.base, order: order, interruption: interruption)
    } catch .notFinite {
      throw Self.overflow
    }
  }

  /// An orthonormal basis of the columns of x [rows, columns] whose rest is above the tolerance, and then of all others.
  private func range(
    _ x: [Element], _ rows: Int, _ columns: Int, tolerance: Double, interruption: Interruption
  ) throws(EngineError) -> (numbers: [Element], rank: Int) {
    var x = x
    var basis = OrthonormalRows<Element>(length: rows)
    while basis.count < min(rows, columns) {
      try interruption.check()
      var sizes = [Double](repeating: 0, count: columns)
      for row in 0..<rows {
        for column in 0..<columns {
          let size = x[row * columns + column].magnitude
          sizes[column] += size * size
        }
      }
      let best = (0..<columns).max { sizes[$0] < sizes[$1] }!
      guard sizes[best].squareRoot() > tolerance else { break }
      let scale = Element(1 / sizes[best].squareRoot())
      basis.append((0..<rows).map { x[$0 * columns + best] * scale })
      let last = basis.numbers.suffix(rows)
      var overlaps = [Element](repeating: Element(0), count: columns)
      for (row, entry) in last.enumerated() {
        for column in 0..<columns {
          overlaps[column] = overlaps[column] + entry.conjugate * x[row * columns + column]
        }
      }
      for (row, entry) in last.enumerated() {
        for column in 0..<columns { x[row * columns + column] = x[row * columns + column] - entry * overlaps[column] }
      }
    }
    let rank = basis.count
    try basis.complete(interruption: interruption)
    return (basis.numbers, rank)
  }

  private func length(_ numbers: UnsafePointer<Element>, _ count: Int) -> Double {
    var (largest, sum) = (0.0, 0.0)
    for index in 0..<count { largest = max(largest, numbers[index].magnitude) }
    guard largest > 0 else { return 0 }
    for index in 0..<count {
      let size = numbers[index].magnitude / largest
      sum += size * size
    }
    return largest * sum.squareRoot()
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
