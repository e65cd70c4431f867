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
        step.member.copy(x, to: y, count: count)
        step.member.add(second, to: y, count: count)
      case (let one?, nil), (nil, let one?): step.member.copy(one, to: y, count: count)
      case (nil, nil): step.member.clear(y, count: count)
      }
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    let count = step.rows * size  // bounded: numbers of the value
    for k in step.coefficients {
      let g = step.gy(k)
      // The second before the first: where both are one value, the first adds.
      if step.node.addsSecond {
        step.member.add(g, to: step.gsecond(k), count: count)
      } else {
        step.member.copy(g, to: step.gsecond(k), count: count)
      }
      if step.node.addsInput || step.node.input == step.node.second {
        step.member.add(g, to: step.gx(k), count: count)
      } else {
        step.member.copy(g, to: step.gx(k), count: count)
      }
    }
  }
}
