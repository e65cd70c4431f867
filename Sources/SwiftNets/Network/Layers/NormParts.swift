// What normalising layers share: γ and β, which follow each other in the parameters, and roots.

/// y = γ ∘ h + β on `rows` rows; h is state `h`.
func normAffine<T: KernelScalar>(_ step: LayerStep<T>, _ rows: Int, _ channels: Int, _ isAffine: Bool, h: Int) {
  for k in step.coefficients {
    let y = step.y(k)
    guard isAffine else {
      step.member.copy(step.state(h, k), to: y, count: rows * channels)  // bounded: numbers of the value
      continue
    }
    var beta = step.w(k).map { $0 + channels }
    var isAdding = false
    for (i, j) in step.algebra.products[k] {
      guard let gamma = step.w(j) else { continue }
      if let term = beta, !isAdding {
        step.affineColumns(rows, channels, step.state(h, i), gamma, term, y)
        beta = nil
      } else {
        step.scaleColumns(rows, channels, step.state(h, i), gamma, adding: isAdding, y)
      }
      isAdding = true
    }
    if let term = beta { step.affineColumns(rows, channels, y, nil, term, y) }
  }
}

/// Coefficient k of γ ∘ g for the cotangents g of the output.
func normScale<T: KernelScalar>(
  _ step: LayerStep<T>, _ rows: Int, _ channels: Int, _ isAffine: Bool, _ k: Int, into q: UnsafeMutablePointer<T>
) {
  // bounded: numbers of the value
  guard isAffine else { return step.member.copy(step.gy(k), to: q, count: rows * channels) }
  var isAdding = false
  for (i, j) in step.algebra.products[k] {
    guard let gamma = step.w(j) else { continue }
    step.scaleColumns(rows, channels, step.gy(i), gamma, adding: isAdding, q)
    isAdding = true
  }
}

/// Adds Σ h ∘ g and Σ g over the positions of `samples`.
func normGradient<T: KernelScalar>(
  _ step: LayerStep<T>, _ samples: Range<Int>, _ positions: Int, _ channels: Int, h: Int,
  into weights: [UnsafeMutablePointer<T>?]
) {
  // bounded: places in arrays
  let first = samples.lowerBound * positions * channels
  let count = samples.count * positions  // bounded: positions of the value
  for k in step.coefficients {
    guard let target = weights[k] else { continue }
    for (i, j) in step.algebra.products[k] {
      step.columnDots(count, channels, step.state(h, i) + first, step.gy(j) + first, target)
    }
    step.columnDots(count, channels, step.gy(k) + first, nil, target + channels)
  }
}

/// ρ = u^(−1/2) of u = 1 + small, `groups` of them: the small parts are in scratch array 0, ρ's go to array 2, and array
/// 1 is for squares.
func inverseRoots<T: KernelScalar>(_ step: LayerStep<T>, _ groups: Int) {
  let algebra = step.algebra
  for k in step.coefficients where k > 0 {
    let (small, squares, roots) = (step.scratch(0, k), step.scratch(1, k), step.scratch(2, k))
    for group in 0..<groups {
      // −1/2, 3/8 and −5/16 are the derivatives at 1 over p!.
      var (square, cube): (T, T) = (0, 0)
      for (i, j) in algebra.products[k] where i > 0 && j > 0 {
        square += step.scratch(0, i)[group] * step.scratch(0, j)[group]
        cube += step.scratch(0, i)[group] * step.scratch(1, j)[group]
      }
      squares[group] = square
      roots[group] = -small[group] / 2
      if algebra.degree > 1 { roots[group] += 3 * square / 8 }
      if algebra.degree > 2 { roots[group] -= 5 * cube / 16 }
    }
  }
}

/// 1 / √(variance + ε) of centred numbers, which `each` goes through: where their squares leave the range, from the
/// numbers over a power of two. NaN where one of them is not finite.
func inverseDeviation<T: KernelScalar>(_ variance: T, _ epsilon: T, _ each: ((T) -> Void) -> Void) -> T {
  let sum = variance + epsilon
  if sum.isFinite { return 1 / sum.squareRoot() }
  var largest: T = 0
  var isFinite = true
  each {
    largest = max(largest, abs($0))
    if !$0.isFinite { isFinite = false }
  }
  guard isFinite, largest > 0 else { return .nan }
  let factor = T(sign: .plus, exponent: -largest.exponent, significand: 1)
  var (total, count): (T, T) = (0, 0)
  each {
    total += ($0 * factor) * ($0 * factor)
    count += 1
  }
  return factor / (total / count + epsilon * factor * factor).squareRoot()
}
