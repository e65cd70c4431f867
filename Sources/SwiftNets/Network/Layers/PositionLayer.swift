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
          step.member.copy(x + row * size, to: y, count: size)
          if let p = step.w(k) { step.member.add(p, to: y, count: size) }
        } else if let p = step.w(k) {
          step.member.copy(p, to: y, count: size)
        } else {
          step.member.clear(y, count: size)
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
      // bounded: numbers of the value
      for row in rows { step.member.add(step.gy(k) + row * size, to: target, count: size) }
    }
  }
}
