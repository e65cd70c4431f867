import Glibc

// bounded: `LayeredShape` grants no size from 2³⁰ on, and no more than 2⁵⁰ bytes together.

/// The two sweeps of a solve with the factors of `LayeredElimination`, for some right-hand sides at once.
///
/// Down from the last layer, with p the linear part of what is left to minimise: p̂ = S p, u = M⁻ᵀ Pᵀ (B V + Rᵀ p̂),
/// p_below = p̂ Wᵀ − Gᵀ D⁻¹ u − D X⊥ᵀ. Then up from the first, with z = 0: Y = P M⁻¹ D⁻¹ (u − G z), the weights X from
/// Y, and z = S (z W + R Y) of the layer above.
extension LayeredElimination {
  /// Solves (H + shift) x = b for the rows of b, as many as there are in x.
  /// - Parameters:
  ///   - b: right-hand sides [k, parameters]; their imaginary parts may be nil for none.
  ///   - x: solutions, with imaginary parts if and only if the shift is complex. They may be b.
  func solve(
    _ b: (real: Matrix<Double>, imaginary: Matrix<Double>?), into x: (real: Matrix<Double>, imaginary: Matrix<Double>?),
    interruption: Interruption
  ) throws(EngineError) {
    try solveScaled(b, into: x, interruption: interruption)
    guard exponent != 0 else { return }
    for matrix in [x.real, x.imaginary].compactMap({ $0 }) {
      for row in 0..<matrix.rows {
        for column in 0..<matrix.columns { matrix[row, column] = scalbn(matrix[row, column], Int32(-exponent)) }
      }
    }
  }

  /// The same for (H + shift) 2^−exponent.
  func solveScaled(
    _ b: (real: Matrix<Double>, imaginary: Matrix<Double>?), into x: (real: Matrix<Double>, imaginary: Matrix<Double>?),
    interruption: Interruption
  ) throws(EngineError) {
    let count = b.real.rows
    // Fewer at once where layers are large: nobody could stop them for a while.
    let chunk = min(count, max(shape.largestOrder, shape.largestAbove) > 4096 ? 8 : 32)
    var measuring = Arena.measuring
    _ = LayeredSweep<Element>(shape, delays, count: chunk, in: &measuring)
    let memory = try ArenaMemory(bytes: measuring.bytes)
    var arena = Arena(memory)
    let full = LayeredSweep<Element>(shape, delays, count: chunk, in: &arena)
    for first in stride(from: 0, to: count, by: chunk) {
      let rows = first..<min(first + chunk, count)
      let sweep = full.reduced(to: rows.count)
      for part in 0..<Element.parts {
        for row in rows {
          let target = sweep.vectors[part] + (row - first) * shape.parameters
          if let source = part == 0 ? b.real : b.imaginary {
            target.update(from: source.row(row), count: shape.parameters)
          } else {
            target.update(repeating: 0, count: shape.parameters)
          }
        }
      }
      try run(sweep, interruption)
      for row in rows {
        let offset = (row - first) * shape.parameters
        x.real.row(row).update(from: sweep.vectors.real + offset, count: shape.parameters)
        x.imaginary?.row(row).update(from: sweep.vectors[1] + offset, count: shape.parameters)
      }
    }
  }

  private func run(_ sweep: LayeredSweep<Element>, _ interruption: Interruption) throws(EngineError) {
    for (index, layer) in layers.enumerated().reversed() {
      try interruption.check()
      try sweep.down(
        delays[index]?.layer ?? layer, delays[index], index, shift, isLast: index == layers.count - 1, interruption)
    }
    for (index, layer) in layers.enumerated() {
      try interruption.check()
      try sweep.up(
        delays[index]?.layer ?? layer, delays[index], index, index == 0 && isRestZero ? Complex(zeroPivot) : shift,
        isLast: index == layers.count - 1, interruption)
    }
  }
}

/// Right-hand sides under way, and the memory for it.
private struct LayeredSweep<Element: FactorScalar> {
  private(set) var count: Int
  /// [count, parameters]: right-hand sides at first, solutions in the end.
  let vectors: Planes
  private let parameters: Int
  private let offsets: [Int]  // of the layers in a vector
  private let halves: [UnsafeMutablePointer<Element>]  // u of each layer [count, order]
  private let state: Planes  // p or z of the layer at hand [count, N, width]
  private let other: Planes  // of its neighbour
  private let right: Planes  // [count, order]
  private let joined: UnsafeMutablePointer<Element>
  private let mixed: UnsafeMutablePointer<Element>
  private let front: UnsafeMutablePointer<Element>  // [count, delayed]: of the unknowns between two layers
  private let along: UnsafeMutablePointer<Element>  // [count, below + delayed]
  private let term: Planes  // [count, below]
  private let inside: Planes  // [order], or [N, fanIn]
  private let outside: UnsafeMutablePointer<Double>  // [fanIn, n]
  private let transposed: UnsafeMutablePointer<Double>  // [n, fanIn]

  init(_ shape: LayeredShape, _ delays: [DelayedLayer<Element>?], count: Int, in arena: inout Arena) {
    func planes(_ count: Int) -> Planes {
      Planes(real: arena.take(count), imaginary: Element.parts > 1 ? arena.take(count) : nil)
    }
    func most(_ size: (LayerShape) -> Int) -> Int { shape.layers.map(size).max()! }
    self.count = count
    parameters = shape.parameters
    vectors = planes(count * parameters)
    var offset = 0
    var offsets: [Int] = []
    var halves: [UnsafeMutablePointer<Element>] = []
    let sizes = zip(shape.layers, delays).map { $1?.layer.shape ?? $0 }
    for (layer, delayed) in zip(sizes, delays) {
      offsets.append(offset)
      offset += layer.parameters
      halves.append(arena.take(count * (delayed?.accepted ?? layer.order)))
    }
    let mostDelayed = delays.reduce(0) { max($0, $1?.delayed ?? 0) }
    let mostUnknown = zip(sizes, delays).map { $1?.order ?? $0.order }.max()!
    let isPlain = delays.allSatisfy { $0 == nil }
    self.offsets = offsets
    self.halves = halves
    state = planes(count * shape.largestAbove)
    other = planes(count * shape.largestAbove)
    right = planes(count * sizes.map(\.order).max()!)
    joined = arena.take(count * mostUnknown)
    mixed = arena.take(isPlain ? 0 : count * mostUnknown)
    front = arena.take(count * mostDelayed)
    along = arena.take(count * (most(\.below) + mostDelayed))
    term = planes(count * most(\.below))
    inside = planes(sizes.map { max($0.order, $0.below) }.max()!)
    outside = arena.take(most { $0.fanIn * $0.width })
    transposed = arena.take(most { $0.fanIn * $0.width })
  }

  private init(_ full: LayeredSweep, count: Int) {
    self = full
    self.count = count
  }

  func reduced(to count: Int) -> LayeredSweep { LayeredSweep(self, count: count) }

  /// p, or z, of layers `index` with an even or an odd number.
  private func tangent(_ index: Int) -> Planes { index % 2 == 0 ? state : other }

  private func scale(_ planes: Planes, by slopes: UnsafePointer<Double>, length: Int) {
    for part in 0..<Element.parts {
      for row in 0..<count {
        let entries = planes[part] + row * length
        Double.multiply(length, entries, slopes, entries)
      }
    }
  }

  // MARK: - Down

  /// u of this layer, and p of the layer below.
  func down(
    _ layer: EliminatedLayer<Element>, _ delayed: DelayedLayer<Element>?, _ index: Int, _ shift: Complex, isLast: Bool,
    _ interruption: Interruption
  ) throws(EngineError) {
    let size = layer.shape
    let (order, width, samples, below) = (size.order, size.width, size.samples, size.below)
    let above = tangent(index)
    if !isLast { scale(above, by: layer.slopes, length: size.above) }
    let next = tangent(index + 1)
    if below > 0 {
      for part in 0..<Element.parts {
        if isLast {
          next[part].update(repeating: 0, count: count * below)
        } else {
          product(
            count * samples, size.fanIn, width, above[part], width, 1, layer.transposedWeights, size.fanIn, .set,
            next[part], size.fanIn)
        }
      }
    }
    for row in 0..<count {
      try interruption.check()
      for part in 0..<Element.parts {
        let target = right[part] + row * order
        let source = vectors[part] + row * parameters + offsets[index]
        if let basis = layer.basis {
          product(size.rank, width, size.rows, basis, size.rows, 1, source, width, .set, target, width)
        } else {
          target.update(from: source, count: order)
        }
      }
      if layer.hasRest && below > 0 { subtractRest(layer, index, row, Complex(1) / shift, from: next) }
      if isLast { continue }
      for part in 0..<Element.parts {
        product(
          size.rank, width, samples, layer.spread, 1, size.rank, above[part] + row * size.above, width, .add,
          right[part] + row * order, width)
      }
    }
    if let delayed {
      try downWithDelays(delayed, halves[index], next, interruption)
      return
    }
    Element.join(right, into: joined, count: count * order)
    let half = halves[index]
    for row in 0..<count {
      let (source, target) = (joined + row * order, half + row * order)
      for place in 0..<order { target[place] = source[Int(layer.pivot.places[place])] }
    }
    try Element.solveRows(
      isTransposed: true, order, layer.pivot.base, layer.pivot.stride, half, count: count, interruption: interruption)
    guard below > 0 else { return }
    joined.update(from: half, count: count * order)
    layer.pivot.divideRows(joined, count: count)
    Element.multiplyRows(
      isTransposed: false, count: count, joined, layer.coupling, rows: order, columns: below, along)
    Element.split(along, into: term, count: count * below)
    for part in 0..<Element.parts { Double.axpy(count * below, -1, term[part], next[part]) }
  }

  /// The same with `right` and the front as the right-hand side, both of what is eliminated and of what is left.
  private func downWithDelays(
    _ layer: DelayedLayer<Element>, _ half: UnsafeMutablePointer<Element>, _ next: Planes, _ interruption: Interruption
  ) throws(EngineError) {
    let (own, carried, order) = (layer.layer.shape.order, layer.carried, layer.order)
    let (below, accepted, delayed, width) = (layer.layer.shape.below, layer.accepted, layer.delayed, layer.width)
    for row in 0..<count {
      Element.join(right + row * own, into: joined + row * order, count: own)
      (joined + row * order + own).update(from: front + row * carried, count: carried)
    }
    var source = joined
    if let rows = layer.acceptedRows {
      Element.multiply(false, true, count, accepted, order, 1, joined, order, rows.base, order, 0, mixed, accepted)
      Element.multiply(
        false, true, count, delayed, order, 1, joined, order, layer.delayedRows.base, order, 0, front, delayed)
      source = mixed
    }
    for row in 0..<count {
      for place in 0..<accepted {
        half[row * accepted + place] = source[row * accepted + Int(layer.pivot.places[place])]
      }
    }
    guard accepted > 0 else { return }
    try Element.solveRows(
      isTransposed: true, accepted, layer.pivot.base, layer.pivot.stride, half, count: count,
      interruption: interruption)
    guard width > 0 else { return }
    joined.update(from: half, count: count * accepted)
    layer.pivot.divideRows(joined, count: count)
    Element.multiply(
      false, false, count, width, accepted, 1, joined, accepted, layer.coupling.base, width, 0, along, width)
    for row in 0..<count {
      let source = along + row * width
      Element.split(source, into: term, count: below)
      for part in 0..<Element.parts { Double.axpy(below, -1, term[part], next[part] + row * below) }
      for place in 0..<delayed { front[row * delayed + place] = front[row * delayed + place] - source[below + place] }
    }
  }

  /// p −= D X⊥ᵀ for X⊥ = (1 − Bᵀ B) V / λ; `right` holds B V.
  private func subtractRest(
    _ layer: EliminatedLayer<Element>, _ index: Int, _ row: Int, _ reciprocal: Complex, from next: Planes
  ) {
    guard let basis = layer.basis else { return }
    let size = layer.shape
    let (width, fanIn, below) = (size.width, size.fanIn, size.below)
    for part in 0..<Element.parts {
      outside.update(from: vectors[part] + row * parameters + offsets[index], count: fanIn * width)
      product(
        fanIn, width, size.rank, basis, 1, size.rows, right[part] + row * size.order, width, .subtract, outside, width)
      Double.transpose(fanIn, width, outside, width, transposed, fanIn)
      product(size.samples, fanIn, width, layer.deltas, width, 1, transposed, fanIn, .set, inside[part], fanIn)
    }
    let target = next + row * below
    Double.axpy(below, -reciprocal.real, inside.real, target.real)
    if Element.parts > 1 {
      Double.axpy(below, reciprocal.imaginary, inside[1], target.real)
      Double.axpy(below, -reciprocal.real, inside[1], target[1])
      Double.axpy(below, -reciprocal.imaginary, inside.real, target[1])
    }
  }

  // MARK: - Up

  /// X of this layer, and z of its outputs.
  func up(
    _ layer: EliminatedLayer<Element>, _ delayed: DelayedLayer<Element>?, _ index: Int, _ shift: Complex, isLast: Bool,
    _ interruption: Interruption
  ) throws(EngineError) {
    let size = layer.shape
    let (order, width, samples, below) = (size.order, size.width, size.samples, size.below)
    let inputs = tangent(index + 1)
    let half = halves[index]
    if let delayed {
      try upWithDelays(delayed, half, inputs, interruption)
    } else {
      if below > 0 {
        Element.join(inputs, into: along, count: count * below)
        Element.multiplyRows(
          isTransposed: true, count: count, along, layer.coupling, rows: order, columns: below, half)
      }
      try interruption.check()
      layer.pivot.divideRows(half, count: count)
      try Element.solveRows(
        isTransposed: false, order, layer.pivot.base, layer.pivot.stride, half, count: count,
        interruption: interruption)
      for row in 0..<count {
        let (source, target) = (half + row * order, joined + row * order)
        for place in 0..<order { target[Int(layer.pivot.places[place])] = source[place] }
      }
      Element.split(joined, into: right, count: count * order)
    }
    for row in 0..<count {
      try interruption.check()
      setWeights(layer, index, row, shift)
    }
    if isLast { return }
    let outputs = tangent(index)
    for part in 0..<Element.parts {
      if below > 0 {
        product(
          count * samples, width, size.fanIn, inputs[part], size.fanIn, 1, layer.weights, width, .set, outputs[part],
          width)
      }
      for row in 0..<count {
        product(
          samples, width, size.rank, layer.spread, size.rank, 1, right[part] + row * order, width,
          below > 0 ? .add : .set, outputs[part] + row * size.above, width)
      }
    }
    scale(outputs, by: layer.slopes, length: size.above)
  }

  /// `right` and the front of the layer above from z of this layer's inputs and the front of the layer below.
  private func upWithDelays(
    _ layer: DelayedLayer<Element>, _ half: UnsafeMutablePointer<Element>, _ inputs: Planes,
    _ interruption: Interruption
  ) throws(EngineError) {
    let (own, carried, order) = (layer.layer.shape.order, layer.carried, layer.order)
    let (below, accepted, delayed, width) = (layer.layer.shape.below, layer.accepted, layer.delayed, layer.width)
    for row in 0..<count {
      if below > 0 { Element.join(inputs + row * below, into: along + row * width, count: below) }
      (along + row * width + below).update(from: front + row * delayed, count: delayed)
    }
    if accepted > 0 {
      if width > 0 {
        Element.multiply(
          false, true, count, accepted, width, -1, along, width, layer.coupling.base, width, 1, half, accepted)
      }
      layer.pivot.divideRows(half, count: count)
      try Element.solveRows(
        isTransposed: false, accepted, layer.pivot.base, layer.pivot.stride, half, count: count,
        interruption: interruption)
    }
    for row in 0..<count {
      for place in 0..<accepted {
        joined[row * accepted + Int(layer.pivot.places[place])] = half[row * accepted + place]
      }
    }
    var result = joined
    if let rows = layer.acceptedRows {
      Element.multiply(false, false, count, order, accepted, 1, joined, accepted, rows.base, order, 0, mixed, order)
      Element.multiply(
        false, false, count, order, delayed, 1, front, delayed, layer.delayedRows.base, order, 1, mixed, order)
      result = mixed
    }
    for row in 0..<count {
      Element.split(result + row * order, into: right + row * own, count: own)
      (front + row * carried).update(from: result + row * order + own, count: carried)
    }
  }

  /// X = X⊥ + Bᵀ Y for one right-hand side, in the place of V.
  private func setWeights(_ layer: EliminatedLayer<Element>, _ index: Int, _ row: Int, _ shift: Complex) {
    let size = layer.shape
    let (width, fanIn, rows, rank) = (size.width, size.fanIn, size.rows, size.rank)
    let target = vectors + (row * parameters + offsets[index])
    let components = right + row * size.order
    guard let basis = layer.basis else {
      for part in 0..<Element.parts { target[part].update(from: components[part], count: size.order) }
      return
    }
    guard layer.hasRest else {
      for part in 0..<Element.parts {
        product(rows, width, rank, basis, 1, rows, components[part], width, .set, target[part], width)
      }
      return
    }
    if size.below > 0 {
      let inputs = tangent(index + 1) + row * size.below
      for part in 0..<Element.parts {
        product(
          fanIn, width, size.samples, inputs[part], 1, fanIn, layer.deltas, width, .subtract, target[part], width)
      }
    }
    let reciprocal = Complex(1) / shift
    if Element.parts > 1 {
      for entry in 0..<size.parameters {
        let product = Complex(target.real[entry], target[1][entry]) * reciprocal
        target.real[entry] = product.real
        target[1][entry] = product.imaginary
      }
    } else {
      for entry in 0..<size.parameters { target.real[entry] *= reciprocal.real }
    }
    for part in 0..<Element.parts {
      product(rank, width, rows, basis, rows, 1, target[part], width, .set, inside[part], width)
      Double.axpy(size.order, -1, inside[part], components[part])
      product(rows, width, rank, basis, 1, rows, components[part], width, .add, target[part], width)
      // Y itself is needed again.
      Double.axpy(size.order, 1, inside[part], components[part])
    }
  }
}
