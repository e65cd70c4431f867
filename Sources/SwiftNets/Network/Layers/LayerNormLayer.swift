/// y = γ ∘ h + β with h = (x − M(x)) / √(M((x − M(x))²) + ε), M the mean over a position's channels: PyTorch's LayerNorm
/// over the last dimension.
///
/// The numbers are centred, then squared. With r₀ = (v₀ + ε)^(−1/2) of the variance v, d = r₀ (x − M(x)) and
/// ρ = (M(d²) + ε r₀²)^(−1/2), whose coefficient 0 is 1, h = ρ d: so that d₀ is h₀, and is not kept twice. Keeps d, h,
/// r₀ ρ; backward, with q = γ ∘ g and t = q − M(q) − h M(h q), t and −M(h q): the cotangent is r₀ ρ t.
struct LayerNormLayer: NetworkLayer {
  let positions: Int
  let channels: Int
  let epsilon: Double
  let isAffine: Bool

  private var size: Int { saturating(positions, channels) }

  var parameterCount: Int { isAffine ? saturating(2, channels) : 0 }
  var work: Int { saturating(8, size) }
  var stateSizes: [Int] { [size, size, positions] }
  var costateSizes: [Int] { [size, positions] }
  /// The variance's small part and its square, ρ, means, and q where it is not at hand.
  var scratchSizes: [Int] { [1, 1, 1, 1, channels] }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let algebra = step.algebra
    let ones = step.scratch.ones
    let share = 1 / T(channels)
    // bounded: places in arrays, here and below
    let each = step.lookEach(saturating(4, algebra.count, algebra.count, channels))
    for row in 0..<step.rows * positions {
      if row % each == each - 1 && step.member.isStopped { break }
      let place = row * channels
      if step.first == 0, let x = step.x(0) {
        let (x, h) = (x + place, step.state(1, 0) + place)
        let mean = share * T.dot(channels, x, ones)
        for channel in 0..<channels { h[channel] = x[channel] - mean }
        let r = inverseDeviation(share * T.dot(channels, h, h), T(epsilon)) { body in
          for channel in 0..<channels { body(h[channel]) }
        }
        for channel in 0..<channels { h[channel] *= r }
        step.state(2, 0)[row] = r
      }
      guard algebra.count > 1 else { continue }
      let r = step.state(2, 0)[row]
      for k in step.coefficients where k > 0 {
        let d = step.state(0, k) + place
        guard let x = step.x(k).map({ $0 + place }) else {
          d.update(repeating: 0, count: channels)
          continue
        }
        let mean = share * T.dot(channels, x, ones)
        for channel in 0..<channels { d[channel] = r * (x[channel] - mean) }
      }
      for k in step.coefficients where k > 0 {
        var variance: T = 0
        for (i, j) in algebra.products[k] {
          variance += T.dot(channels, d(step, i, place), d(step, j, place))
        }
        step.scratch(0, k)[0] = share * variance
      }
      inverseRoots(step, 1)
      step.scratch(2, 0)[0] = 1
      for k in step.coefficients where k > 0 {
        let h = step.state(1, k) + place
        step.state(2, k)[row] = r * step.scratch(2, k)[0]
        h.update(repeating: 0, count: channels)
        for (i, j) in algebra.products[k] { T.axpy(channels, step.scratch(2, j)[0], d(step, i, place), h) }
      }
    }
    normAffine(step, step.rows * positions, channels, isAffine, h: 1)
  }

  private func d<T: KernelScalar>(_ step: LayerStep<T>, _ k: Int, _ place: Int) -> UnsafeMutablePointer<T> {
    step.state(k == 0 ? 1 : 0, k) + place
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    let algebra = step.algebra
    let share = 1 / T(channels)
    let count = step.rows * positions  // bounded: positions of the value
    for k in step.coefficients {
      normScale(step, count, channels, isAffine, k, into: step.costate(0, k))
    }
    let each = step.lookEach(saturating(4, algebra.count, algebra.count, channels))
    for row in 0..<count {
      if row % each == each - 1 && step.member.isStopped { break }
      let place = row * channels
      // q is in t's place until its means are known: of all coefficients, before any of them is changed. What is kept
      // of coefficient 0 is t.
      if step.first > 0 {
        let g = step.gy(0) + place
        if isAffine, let gamma = step.w(0) {
          T.multiply(channels, g, gamma, step.scratch(4))
        } else {
          step.scratch(4).update(from: g, count: channels)
        }
      }
      for k in step.coefficients {
        var sum: T = 0
        for (i, j) in algebra.products[k] {
          let q = j < step.first ? step.scratch(4) : step.costate(0, j) + place
          sum += T.dot(channels, step.state(1, i) + place, q)
        }
        step.costate(1, k)[row] = -share * sum
        step.scratch(3, k)[0] = share * T.dot(channels, step.costate(0, k) + place, step.scratch.ones)
      }
      for k in step.coefficients {
        let t = step.costate(0, k) + place
        let mean = step.scratch(3, k)[0]
        for channel in 0..<channels { t[channel] -= mean }
        for (i, j) in algebra.products[k] { T.axpy(channels, step.costate(1, j)[row], step.state(1, i) + place, t) }
      }
      for k in step.coefficients {
        let gx = step.gx(k) + place
        if !step.node.addsInput { gx.update(repeating: 0, count: channels) }
        for (i, j) in algebra.products[k] { T.axpy(channels, step.state(2, i)[row], step.costate(0, j) + place, gx) }
      }
    }
  }

  func gradient<T: KernelScalar>(
    _ step: LayerStep<T>, _ rows: Range<Int>, into weights: [UnsafeMutablePointer<T>?]
  ) {
    if isAffine { normGradient(step, rows, positions, channels, h: 1, into: weights) }
  }
}
