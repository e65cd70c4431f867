// bounded: `LayeredShape` grants no size from 2³⁰ on, and no more than 2⁵⁰ bytes together.

/// The steps of a layer with pivots of its own.
extension LayeredElimination {
  /// P̂ of the last layer, from the loss's Hessian in the outputs.
  func startCost(_ layer: EliminatedLayer<Element>, _ control: LayeredControl) {
    let (cost, _) = workspace.costs(isOdd: false)
    let (size, width) = (layer.shape.above, layer.shape.width)
    control.inSlices(of: size, weight: saturating(copied, size, Element.parts)) { rows in
      for row in rows {
        for part in 0..<Element.parts { (cost[part] + row * size).update(repeating: 0, count: size) }
        let first = row / width * width
        let entries = cost.real + row * size + first
        for unit in 0..<width {
          // Each pair of entries from one of them: exactly symmetric, whatever came in.
          let (high, low) = (max(row, first + unit), min(row, first + unit))
          entries[unit] = layer.slopes[row] * layer.slopes[first + unit] * output[high * width + low - first]
        }
        entries[row - first] += layer.curvatures[row]
      }
    }
  }

  /// Rᵀ P̂ [r, (n, N n)] into `workspace.left`, and Q = λ + Rᵀ P̂ R: the other index of samples is contracted in the
  /// transpose.
  func formPivot(_ layer: EliminatedLayer<Element>, _ cost: Planes, _ control: LayeredControl) {
    let size = layer.shape
    let (order, samples, rank, above) = (size.order, size.samples, size.rank, size.above)
    let (length, transposedLength) = (size.width * above, size.width * order)
    for part in 0..<Element.parts {
      let (left, right, pivot) = (workspace.left[part], workspace.wide[part], workspace.pivot(of: layer)[part])
      control.multiply(rank, length, samples, layer.spread, 1, rank, cost[part], length, .set, left, length)
      control.inSlices(of: order, weight: saturating(copied, above)) { rows in
        let first = rows.lowerBound
        Double.transpose(rows.count, above, left + first * above, above, right + first, order)
      }
      control.multiply(
        rank, transposedLength, samples, layer.spread, 1, rank, right, transposedLength, .set, pivot, transposedLength)
      let shift = part == 0 ? shift.real : shift.imaginary
      for index in 0..<order { pivot[index * (order + 1)] += shift }
    }
  }

  /// C into `workspace.coupling`, and the lower triangle of W P̂ Wᵀ with the part of X⊥ into `next`.
  func formCoupling(
    _ layer: EliminatedLayer<Element>, _ cost: Planes, _ next: Planes, _ control: LayeredControl
  ) {
    let size = layer.shape
    let (samples, width, fanIn, below) = (size.samples, size.width, size.fanIn, size.below)
    let reciprocal = layer.hasRest ? Complex(1) / shift : Complex(0)
    for part in 0..<Element.parts {
      let right = workspace.wide[part]
      control.multiply(
        size.above * samples, fanIn, width, cost[part], width, 1, layer.transposedWeights, fanIn, .set, right, fanIn)
      let scale = part == 0 ? reciprocal.real : reciprocal.imaginary
      for sample in 0..<samples {
        control.multiply(
          fanIn, (sample + 1) * fanIn, width, layer.weights, width, 1, right + sample * width * below, below, .set,
          next[part] + sample * fanIn * below, below)
        guard scale != 0 else { continue }
        for unit in 0..<fanIn {
          let target = next[part] + (sample * fanIn + unit) * below
          for other in 0...sample {
            let overlap = scale * layer.overlaps[sample * samples + other]
            subtract(overlap, layer.rest + unit * fanIn, from: target + other * fanIn, count: fanIn)
          }
        }
      }
      control.multiply(
        size.order * samples, fanIn, width, workspace.left[part], width, 1, layer.transposedWeights, fanIn, .set,
        workspace.coupling[part], fanIn)
    }
    let coupling = workspace.coupling.real
    for component in 0..<size.rank {
      if let basis = layer.basis {
        control.multiply(
          width * samples, fanIn, 1, layer.transposedDeltas, 1, 1, basis + component * size.rows, fanIn, .add,
          coupling + component * width * below, fanIn)
      } else if component < fanIn {
        for unit in 0..<width {
          let entries = coupling + (component * width + unit) * below + component
          for sample in 0..<samples { entries[sample * fanIn] += layer.deltas[sample * width + unit] }
        }
      }
    }
  }

  /// G = M⁻ᵀ Pᵀ C with the pivot's M, kept for the solves, and D⁻¹ G.
  func reduceCoupling(_ layer: EliminatedLayer<Element>, _ control: LayeredControl) {
    let (order, below) = (layer.shape.order, layer.shape.below)
    control.inSlices(of: order, weight: saturating(copied, below, Element.parts)) { rows in
      for row in rows {
        Element.join(
          workspace.coupling + Int(layer.pivot.places[row]) * below, into: layer.coupling + row * below, count: below)
      }
    }
    control.inSlices(of: below, weight: saturating(order, order, Element.parts)) { columns in
      Element.solveColumns(
        isTransposed: true, order, layer.pivot.base, layer.pivot.stride, layer.coupling + columns.lowerBound, below,
        count: columns.count)
    }
    if control.isCancelled { return }
    layer.pivot.divideColumns(layer.coupling, into: workspace.divided, below) { control.isLarge && control.check() }
  }

  /// P_below, and from it P̂ of the layer below: the lower triangle by blocks of rows, and its mirror image.
  func updateCost(
    _ layer: EliminatedLayer<Element>, _ below: EliminatedLayer<Element>, _ next: Planes, _ control: LayeredControl
  ) {
    let (order, size) = (layer.shape.order, layer.shape.below)
    let slopes = below.slopes
    for first in stride(from: 0, to: size, by: workspace.block) {
      let end = min(first + workspace.block, size)
      control.inSlices(of: end, weight: 2 * (end - first) * order * Element.parts) { columns in
        Element.subtractProduct(
          end - first, columns.count, order, workspace.divided + first, layer.coupling + columns.lowerBound,
          stride: size, from: next + (first * size + columns.lowerBound), size, work: workspace.product)
      }
      if control.isCancelled { return }
      for part in 0..<Element.parts {
        let plane = next[part]
        for row in first..<end {
          let entries = plane + row * size
          scale(entries, by: slopes, times: slopes[row], count: row + 1)
          if part == 0 { entries[row] += below.curvatures[row] }
          for column in first..<row { plane[column * size + row] = entries[column] }
        }
        Double.transpose(end - first, first, plane + first * size, size, plane + first, size)
      }
    }
  }
}

/// y −= a x for the few numbers that one sample has: inline, as a call would take longer than the work.
@inline(__always)
private func subtract(
  _ a: Double, _ x: UnsafePointer<Double>, from y: UnsafeMutablePointer<Double>, count: Int
) {
  var index = 0
  while index + 4 <= count {
    let four = UnsafeRawPointer(x + index).loadUnaligned(as: SIMD4<Double>.self)
    let target = UnsafeMutableRawPointer(y + index)
    target.storeBytes(of: target.loadUnaligned(as: SIMD4<Double>.self) - a * four, as: SIMD4<Double>.self)
    index += 4
  }
  while index < count {
    y[index] -= a * x[index]
    index += 1
  }
}

/// y = a x ∘ y, likewise.
@inline(__always)
private func scale(_ y: UnsafeMutablePointer<Double>, by x: UnsafePointer<Double>, times a: Double, count: Int) {
  var index = 0
  while index + 4 <= count {
    let four = UnsafeRawPointer(x + index).loadUnaligned(as: SIMD4<Double>.self)
    let target = UnsafeMutableRawPointer(y + index)
    target.storeBytes(of: target.loadUnaligned(as: SIMD4<Double>.self) * (a * four), as: SIMD4<Double>.self)
    index += 4
  }
  while index < count {
    y[index] *= a * x[index]
    index += 1
  }
}
