/// The sum of two values: where a residual branch meets its shortcut.
struct AddLayer: NetworkLayer {
  let size: Int

  var work: Int { size }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let count = step.rows * size  // bounded: numbers of the value
    for k in step.coefficients {
      let y = step.y(k)
      switch (step.x(k), step.second(k)) {
      case (let x?, let second?):
        y.update(from: x, count: count)
        T.axpy(count, 1, second, y)
      case (let one?, nil), (nil, let one?): y.update(from: one, count: count)
      case (nil, nil): y.update(repeating: 0, count: count)
      }
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    let count = step.rows * size  // bounded: numbers of the value
    for k in step.coefficients {
      let g = step.gy(k)
      // The second before the first: where both are one value, the first adds.
      if step.node.addsSecond {
        T.axpy(count, 1, g, step.gsecond(k))
      } else {
        step.gsecond(k).update(from: g, count: count)
      }
      if step.node.addsInput || step.node.input == step.node.second {
        T.axpy(count, 1, g, step.gx(k))
      } else {
        step.gx(k).update(from: g, count: count)
      }
    }
  }
}
