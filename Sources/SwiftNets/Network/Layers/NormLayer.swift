/// y = γ ∘ h + β with h = (x − M(x)) / √(M((x − M(x))²) + ε), means M over a group of a sample's numbers: PyTorch's
/// LayerNorm, where a group is a position's channels, and GroupNorm, where it is some channels of all positions.
///
/// The numbers are centred, then squared. Keeps the centred c and h, and r = h / c a group; backward what it needs of q,
/// t and M(h q), with q = γ ∘ g, t = q − M(q) − h M(h q), and the cotangent r t.
struct NormLayer: NetworkLayer {
  /// Parts of a sample that are normalised by themselves, and what each is.
  let rows: Int
  let positions: Int
  let channels: Int
  let groups: Int
  let epsilon: Double
  let isAffine: Bool

  private var part: Int { saturating(positions, channels) }
  private var size: Int { saturating(rows, part) }
  private var statistics: Int { saturating(rows, groups) }
  private var groupChannels: Int { channels / groups }
  private var groupCount: Int { saturating(positions, groupChannels) }

  var parameterCount: Int { isAffine ? saturating(2, channels) : 0 }
  var work: Int { saturating(8, size) }
  var stateSizes: [Int] { [size, size, statistics] }
  var costateSizes: [Int] { [size, size, statistics] }
  /// Variances, powers of them, and a row of channels.
  var scratchSizes: [Int] { [groups, groups, groups, channels] }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let algebra = step.algebra
    // bounded: places in arrays, here and below
    for row in 0..<step.rows * rows {
      let (place, group) = (row * part, row * groups)
      for k in step.coefficients {
        let c = step.state(0, k) + place
        guard let x = step.x(k) else {
          c.update(repeating: 0, count: part)
          continue
        }
        let means = step.scratch(1, k)
        reduce(x + place, nil, into: means, step)
        for index in 0..<groups { means[index] = -means[index] }
        shift(x + place, means, into: c, step)
      }
      for k in step.coefficients {
        let variances = step.scratch(0, k)
        let sum = step.scratch(1, k)
        variances.update(repeating: 0, count: groups)
        for (i, j) in algebra.products[k] {
          reduce(step.state(0, i) + place, step.state(0, j) + place, into: sum, step)
          for index in 0..<groups { variances[index] += sum[index] }
        }
      }
      roots(step, group)
      for k in step.coefficients {
        let h = step.state(1, k) + place
        for (number, (i, j)) in algebra.products[k].enumerated() {
          scale(step.state(0, i) + place, step.state(2, j) + group, adding: number > 0, into: h, step)
        }
        affine(step, k, place)
      }
    }
  }

  /// r = v^(−1/2) of one part's variances, in the algebra.
  private func roots<T: KernelScalar>(_ step: LayerStep<T>, _ place: Int) {
    let algebra = step.algebra
    for index in 0..<groups {
      if step.first == 0 { step.state(2, 0)[place + index] = 1 / (step.scratch(0, 0)[index] + T(epsilon)).squareRoot() }
      let r = step.state(2, 0)[place + index]
      // Derivatives at v₀ over p!: of v − v₀, its square and its cube.
      let square = r * r
      let first = -r * square / 2
      let second = -3 * first * square / 4
      let third = -5 * second * square / 6
      for k in step.coefficients where k > 0 {
        var value = first * step.scratch(0, k)[index]
        var product: T = 0
        var cube: T = 0
        for (i, j) in algebra.products[k] where i > 0 && j > 0 {
          product += step.scratch(0, i)[index] * step.scratch(0, j)[index]
          cube += step.scratch(0, i)[index] * step.scratch(2, j)[index]
        }
        step.scratch(2, k)[index] = product
        if algebra.degree > 1 { value += second * product }
        if algebra.degree > 2 { value += third * cube }
        step.state(2, k)[place + index] = value
      }
    }
  }

  private func affine<T: KernelScalar>(_ step: LayerStep<T>, _ k: Int, _ place: Int) {
    let y = step.y(k) + place
    guard isAffine else { return y.update(from: step.state(1, k) + place, count: part) }
    var isAdding = false
    for (i, j) in step.algebra.products[k] {
      guard let gamma = step.w(j) else { continue }
      T.scaleColumns(positions, channels, step.state(1, i) + place, gamma, adding: isAdding, y)
      isAdding = true
    }
    if let beta = step.w(k).map({ $0 + channels }) { T.shiftColumns(positions, channels, y, beta, y) }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    let algebra = step.algebra
    for row in 0..<step.rows * rows {
      let (place, group) = (row * part, row * groups)
      for k in step.coefficients {
        let q = step.costate(0, k) + place
        guard isAffine else {
          q.update(from: step.gy(k) + place, count: part)
          continue
        }
        var isAdding = false
        for (i, j) in algebra.products[k] {
          guard let gamma = step.w(j) else { continue }
          T.scaleColumns(positions, channels, step.gy(i) + place, gamma, adding: isAdding, q)
          isAdding = true
        }
      }
      for k in step.coefficients {
        let sum = step.scratch(1, k)
        let projections = step.costate(2, k) + group
        projections.update(repeating: 0, count: groups)
        for (i, j) in algebra.products[k] {
          reduce(step.state(1, i) + place, step.costate(0, j) + place, into: sum, step)
          for index in 0..<groups { projections[index] -= sum[index] }
        }
        let t = step.costate(1, k) + place
        reduce(step.costate(0, k) + place, nil, into: sum, step)
        for index in 0..<groups { sum[index] = -sum[index] }
        shift(step.costate(0, k) + place, sum, into: t, step)
        // The projections have their sign already.
        for (i, j) in algebra.products[k] {
          scale(step.state(1, i) + place, step.costate(2, j) + group, adding: true, into: t, step)
        }
      }
      for k in step.coefficients {
        for (number, (i, j)) in algebra.products[k].enumerated() {
          scale(
            step.costate(1, j) + place, step.state(2, i) + group, adding: number > 0 || step.node.addsInput,
            into: step.gx(k) + place, step)
        }
      }
    }
  }

  func gradient<T: KernelScalar>(
    _ step: LayerStep<T>, _ samples: Range<Int>, into weights: [UnsafeMutablePointer<T>?]
  ) {
    guard isAffine else { return }
    let first = samples.lowerBound * size
    let count = samples.count * rows * positions
    for k in step.coefficients {
      guard let target = weights[k] else { continue }
      for (i, j) in step.algebra.products[k] {
        T.columnDots(count, channels, step.state(1, i) + first, step.gy(j) + first, target)
      }
      T.columnDots(count, channels, step.gy(k) + first, nil, target + channels)
    }
  }

  // MARK: One part and its groups

  private var isOneRow: Bool { positions == 1 && groups == 1 }

  /// Means of a ∘ b over each group, or of a.
  private func reduce<T: KernelScalar>(
    _ a: UnsafeMutablePointer<T>, _ b: UnsafeMutablePointer<T>?, into means: UnsafeMutablePointer<T>,
    _ step: LayerStep<T>
  ) {
    let factor = 1 / T(groupCount)
    if isOneRow {
      means[0] = factor * T.dot(channels, a, b ?? step.scratch.ones)
      return
    }
    let sums = step.scratch(3)
    sums.update(repeating: 0, count: channels)
    T.columnDots(positions, channels, a, b, sums)
    for group in 0..<groups {
      var sum: T = 0
      for channel in group * groupChannels..<(group + 1) * groupChannels { sum += sums[channel] }
      means[group] = factor * sum
    }
  }

  /// out = a s, each number of a times its group's s.
  private func scale<T: KernelScalar>(
    _ a: UnsafeMutablePointer<T>, _ s: UnsafeMutablePointer<T>, adding: Bool, into out: UnsafeMutablePointer<T>,
    _ step: LayerStep<T>
  ) {
    if isOneRow {
      let factor = s[0]
      if adding {
        T.axpy(channels, factor, a, out)
      } else {
        for channel in 0..<channels { out[channel] = factor * a[channel] }
      }
      return
    }
    T.scaleColumns(positions, channels, a, spread(s, step), adding: adding, out)
  }

  /// out = a + s, to each number of a its group's s.
  private func shift<T: KernelScalar>(
    _ a: UnsafeMutablePointer<T>, _ s: UnsafeMutablePointer<T>, into out: UnsafeMutablePointer<T>, _ step: LayerStep<T>
  ) {
    if isOneRow {
      let term = s[0]
      for channel in 0..<channels { out[channel] = a[channel] + term }
      return
    }
    T.shiftColumns(positions, channels, a, spread(s, step), out)
  }

  /// A number a group as one a channel.
  private func spread<T: KernelScalar>(
    _ s: UnsafeMutablePointer<T>, _ step: LayerStep<T>
  ) -> UnsafeMutablePointer<T> {
    let row = step.scratch(3)
    for group in 0..<groups {
      for channel in group * groupChannels..<(group + 1) * groupChannels { row[channel] = s[group] }
    }
    return row
  }
}
