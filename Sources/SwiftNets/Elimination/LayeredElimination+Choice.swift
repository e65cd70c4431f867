// bounded: `LayeredShape` grants no size from 2³⁰ on, and no more than 2⁵⁰ bytes together.

/// Which unknowns of a layer are eliminated there.
extension LayeredElimination {
  struct Choice {
    var accepted: [Element] = []
    var delayed: [Element] = []
    /// Places among the accepted rows.
    var zeros: [Int] = []
    var growth = 0.0
  }

  private enum Fate { case accepted, delayed, zero }

  func choose(
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
    let isReal = isStep(measure)
    let (vectors, values) = try diagonalized(block, order, isReal: isReal, interruption)
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
      waiting.flatMap { place in
        (0..<below).map {
          let entry = image.base[place * below + $0]
          return isReal ? Element(entry.realPart) : entry
        }
      }, count, below,
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
    let (turns, pivots) = try diagonalized(inner, rest, isReal: isReal, interruption)
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

  /// - Parameter isReal: whether of the real part alone: derivatives in the imaginary part stay what they are only where
  ///   the vectors have none.
  private func diagonalized(
    _ matrix: FactorBuffer<Element>, _ order: Int, isReal: Bool, _ interruption: Interruption
  ) throws(EngineError) -> (rows: [Element], values: [Double]) {
    // What came in was finite: no argument is to blame.
    do throws(EngineError) {
      if isReal {
        let part = try FactorBuffer<Double>(order * order)
        for index in 0..<order * order { part.base[index] = matrix.base[index].realPart }
        let found = try Double.diagonalized(part.base, order: order, interruption: interruption)
        return (found.rows.map { Element($0) }, found.values)
      }
      return try Element.diagonalized(matrix.base, order: order, interruption: interruption)
    } catch .notFinite {
      throw Self.overflow
    }
  }

  /// An orthonormal basis of the columns of x [rows, columns] as far as they exceed the tolerance, and then of the
  /// space orthogonal to it.
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
}
