/// Adds a table [length, width] of parameters to every sequence.
struct PositionLayer: NetworkLayer {
  let size: Int

  var parameterCount: Int { size }
  var work: Int { size }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    for k in step.coefficients {
      for row in 0..<step.rows {
        let y = step.y(k) + row * size  // bounded: numbers of the value
        if let x = step.x(k) {
          y.update(from: x + row * size, count: size)
          if let p = step.w(k) { T.axpy(size, 1, p, y) }
        } else if let p = step.w(k) {
          y.update(from: p, count: size)
        } else {
          y.update(repeating: 0, count: size)
        }
      }
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    addCotangents(step, step.rows * size)  // bounded: numbers of the value
  }

  func gradient<T: KernelScalar>(
    _ step: LayerStep<T>, _ rows: Range<Int>, into weights: [UnsafeMutablePointer<T>?]
  ) {
    for k in step.coefficients {
      guard let target = weights[k] else { continue }
      for row in rows { T.axpy(size, 1, step.gy(k) + row * size, target) }  // bounded: numbers of the value
    }
  }
}
