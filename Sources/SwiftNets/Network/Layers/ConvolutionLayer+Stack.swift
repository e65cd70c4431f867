/// The tangents of a net's first layer along several directions at once.
///
/// Its input has no tangent, so that along V₁ … Vₘ they are P(x) [V₁ … Vₘ], and the gradients P(x)ᵀ [g₁ … gₘ]: products
/// of whole vectors where those of a few channels each would leave most of a vector empty. Every number is the sum of the
/// same products in the same order as along one direction.
final class ConvolutionStack<Element: KernelScalar> {
  /// Directions at once.
  let count: Int
  private let layer: ConvolutionLayer
  /// The kernels of all directions, or their gradients, beside each other: [patch, count * outputs].
  private let kernels: Storage<Element>
  /// One sample's tangents or cotangents of all directions: [positions, count * outputs].
  private let columns: Storage<Element>
  /// Each direction's tangents or cotangents of a block's samples.
  private let values: [Storage<Element>]

  /// Columns of a product that fill whole tiles of vectors of every length.
  static var columnsAtOnce: Int { 48 }

  /// Numbers that it takes for blocks of `rows` samples; 0 where directions are not stacked.
  static func numbers(_ layer: ConvolutionLayer, rows: Int) -> Int {
    let count = layer.directionsAtOnce
    guard count > 1 else { return 0 }
    return saturating(
      count,
      saturating(
        sum: saturating(layer.patch, layer.outputs), layer.outSize, saturating(rows, layer.outSize)))
  }

  /// nil where a kernel alone fills vectors.
  init?(_ layer: ConvolutionLayer, capacity: Int) throws(EngineError) {
    count = layer.directionsAtOnce
    self.layer = layer
    guard count > 1 else { return nil }
    kernels = try Storage(count: saturating(count, layer.patch, layer.outputs))
    columns = try Storage(count: saturating(count, layer.outSize))
    var values: [Storage<Element>] = []
    for _ in 0..<count { values.append(try Storage(count: saturating(capacity, layer.outSize))) }
    self.values = values
  }

  /// Where a direction's tangents are, and its cotangents go.
  func values(_ place: Int) -> UnsafeMutablePointer<Element> { values[place].base }

  /// Computes the tangents of all samples along `directions`, given by their places of this layer's parameters.
  func forward(_ step: LayerStep<Element>, _ directions: [UnsafeMutablePointer<Element>]) {
    let (outputs, width) = (layer.outputs, directions.count * layer.outputs)  // bounded: below twice 48
    for (place, direction) in directions.enumerated() {
      copy(layer.patch, outputs, direction, outputs, to: kernels.base + place * outputs, width)
    }
    guard let x = step.x(0) else { return }
    for row in 0..<step.rows where !step.member.isStopped {
      // bounded: places in the arrays, here and below
      let positions = layer.window.outPositions
      for (place, direction) in directions.enumerated() {
        let bias = layer.hasBias ? direction + layer.weightCount : nil
        for position in 0..<positions {
          let target = columns.base + position * width + place * outputs
          for column in 0..<outputs { target[column] = bias?[column] ?? 0 }
        }
      }
      let place = row * layer.window.size  // bounded: in the value
      let image = layer.window.padded(x + place, step.scratch(0, 0))
      ConvolutionLayer.apply(
        step.member, layer.window, 1, image, kernels.base, width, into: columns.base)
      for place in directions.indices {
        copy(
          positions, outputs, columns.base + place * outputs, width, to: values[place].base + row * layer.outSize,
          outputs)
      }
    }
  }

  /// Adds the gradients of all samples along the directions of `targets`, places of this layer's parameters.
  func gradient(_ step: LayerStep<Element>, into targets: [UnsafeMutablePointer<Element>]) {
    // bounded: places in the arrays, as above
    let (outputs, width) = (layer.outputs, targets.count * layer.outputs)
    guard let x = step.x(0) else { return }
    for (place, target) in targets.enumerated() {
      copy(layer.patch, outputs, target, outputs, to: kernels.base + place * outputs, width)
    }
    let positions = layer.window.outPositions
    for row in 0..<step.rows where !step.member.isStopped {
      for (place, target) in targets.enumerated() {
        let own = values[place].base + row * layer.outSize
        copy(positions, outputs, own, outputs, to: columns.base + place * outputs, width)
        if layer.hasBias {
          step.addRows(own, positions, outputs, into: target + layer.weightCount)
        }
      }
      let place = row * layer.window.size  // bounded: in the value
      let image = layer.window.padded(x + place, step.scratch(0, 0))
      layer.collect(step.member, image, columns.base, width, into: kernels.base)
    }
    for (place, target) in targets.enumerated() {
      copy(layer.patch, outputs, kernels.base + place * outputs, width, to: target, outputs)
    }
  }

  /// Copies a matrix from rows of one step to rows of another.
  @inline(__always)
  private func copy(
    _ rows: Int, _ width: Int, _ source: UnsafePointer<Element>, _ step: Int, to target: UnsafeMutablePointer<Element>,
    _ targetStep: Int
  ) {
    var (source, target) = (source, target)
    for _ in 0..<rows {
      for column in 0..<width { target[column] = source[column] }
      source += step
      target += targetStep
    }
  }
}

extension ConvolutionLayer {
  /// Directions whose kernels beside each other fill vectors; 1 where one does, or an image is too large to stay near.
  var directionsAtOnce: Int {
    let columns = ConvolutionStack<Double>.columnsAtOnce
    guard groups == 1, saturating(window.outPositions, columns) <= 1 << 20 else { return 1 }
    return max(1, columns / max(outputs, 1))
  }
}
