/// y = γ ∘ h + β with h = (x − M(x)) / √(M((x − M(x))²) + ε), M the mean over some channels of all positions: PyTorch's
/// GroupNorm.
///
/// As `LayerNormLayer`, but that of a sample's cotangents only sums over positions are wanted: Σ g and Σ h ∘ g give M(q),
/// M(h q) and the gradient. Keeps d, h, r₀ ρ; backward t, −M(h q) and the two sums.
struct GroupNormLayer: NetworkLayer {
  let positions: Int
  let channels: Int
  let groups: Int
  let epsilon: Double
  let isAffine: Bool

  private var size: Int { saturating(positions, channels) }
  private var groupChannels: Int { channels / groups }

  var parameterCount: Int { isAffine ? saturating(2, channels) : 0 }
  var work: Int { saturating(8, size) }
  var stateSizes: [Int] { [size, size, groups] }
  var costateSizes: [Int] { [size, groups, channels, channels] }
  /// The variance's small part and its square, ρ, means, and a number a channel.
  var scratchSizes: [Int] { [groups, groups, groups, groups, channels] }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let algebra = step.algebra
    // bounded: places in arrays, here and below
    for row in 0..<step.rows {
      let (place, group) = (row * size, row * groups)
      let r = step.state(2, 0) + group
      let means = step.scratch(3)
      if step.first == 0, let x = step.x(0) {
        let h = step.state(1, 0) + place
        reduce(x + place, nil, into: means, step)
        for index in 0..<groups { means[index] = -means[index] }
        step.affineColumns(positions, channels, x + place, nil, spread(means, step), h)
        reduce(h, h, into: r, step)
        for index in 0..<groups {
          r[index] = inverseDeviation(r[index], T(epsilon)) { body in
            for position in 0..<positions {
              for channel in index * groupChannels..<(index + 1) * groupChannels {
                body(h[position * channels + channel])
              }
            }
          }
        }
        step.scaleColumns(positions, channels, h, spread(r, step), adding: false, h)
      }
      guard algebra.count > 1 else { continue }
      for k in step.coefficients where k > 0 {
        let d = step.state(0, k) + place
        guard let x = step.x(k).map({ $0 + place }) else {
          step.member.clear(d, count: size)
          continue
        }
        reduce(x, nil, into: means, step)
        for index in 0..<groups { means[index] = -means[index] }
        step.affineColumns(positions, channels, x, nil, spread(means, step), d)
        step.scaleColumns(positions, channels, d, spread(r, step), adding: false, d)
      }
      for k in step.coefficients where k > 0 {
        let small = step.scratch(0, k)
        small.update(repeating: 0, count: groups)
        for (i, j) in algebra.products[k] {
          reduce(d(step, i, place), d(step, j, place), into: means, step)
          for index in 0..<groups { small[index] += means[index] }
        }
      }
      inverseRoots(step, groups)
      for index in 0..<groups { step.scratch(2, 0)[index] = 1 }
      for k in step.coefficients where k > 0 {
        let roots = step.state(2, k) + group
        for index in 0..<groups { roots[index] = r[index] * step.scratch(2, k)[index] }
        for (number, (i, j)) in algebra.products[k].enumerated() {
          step.scaleColumns(
            positions, channels, d(step, i, place), spread(step.scratch(2, j), step), adding: number > 0,
            step.state(1, k) + place)
        }
      }
    }
    normAffine(step, step.rows * positions, channels, isAffine, h: 1)
  }

  private func d<T: KernelScalar>(_ step: LayerStep<T>, _ k: Int, _ place: Int) -> UnsafeMutablePointer<T> {
    step.state(k == 0 ? 1 : 0, k) + place
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    let algebra = step.algebra
    sums(step)
    for k in step.coefficients {
      normScale(step, step.rows * positions, channels, isAffine, k, into: step.costate(0, k))
    }
    for row in 0..<step.rows {
      let (place, group, own) = (row * size, row * groups, row * channels)
      for k in step.coefficients {
        project(step, k, own, 3, into: step.costate(1, k) + group)
        project(step, k, own, 2, into: step.scratch(3, k))
      }
      for k in step.coefficients {
        let t = step.costate(0, k) + place
        step.affineColumns(positions, channels, t, nil, spread(step.scratch(3, k), step), t)
        for (i, j) in algebra.products[k] {
          step.scaleColumns(
            positions, channels, step.state(1, i) + place, spread(step.costate(1, j) + group, step), adding: true, t)
        }
      }
      for k in step.coefficients {
        for (number, (i, j)) in algebra.products[k].enumerated() {
          step.scaleColumns(
            positions, channels, step.costate(0, j) + place, spread(step.state(2, i) + group, step),
            adding: number > 0 || step.node.addsInput, step.gx(k) + place)
        }
      }
    }
  }

  /// Σ g and Σ h ∘ g over each sample's positions.
  private func sums<T: KernelScalar>(_ step: LayerStep<T>) {
    for row in 0..<step.rows {
      let (place, own) = (row * size, row * channels)
      for k in step.coefficients {
        let (plain, weighted) = (step.costate(2, k) + own, step.costate(3, k) + own)
        plain.update(repeating: 0, count: channels)
        weighted.update(repeating: 0, count: channels)
        step.columnDots(positions, channels, step.gy(k) + place, nil, plain)
        for (i, j) in step.algebra.products[k] {
          step.columnDots(positions, channels, step.state(1, i) + place, step.gy(j) + place, weighted)
        }
      }
    }
  }

  /// Minus the mean over each group of γ times sums that are costate `number`.
  private func project<T: KernelScalar>(
    _ step: LayerStep<T>, _ k: Int, _ own: Int, _ number: Int, into means: UnsafeMutablePointer<T>
  ) {
    let row = step.scratch(4)
    if isAffine {
      step.multiply(channels, into: row, k, { step.costate(number, $0) + own }, step.w)
    } else {
      row.update(from: step.costate(number, k) + own, count: channels)
    }
    fold(row, into: means)
    for index in 0..<groups { means[index] = -means[index] }
  }

  func gradient<T: KernelScalar>(
    _ step: LayerStep<T>, _ rows: Range<Int>, into weights: [UnsafeMutablePointer<T>?]
  ) {
    guard isAffine else { return }
    // Where nothing below wants cotangents, nobody has made the sums.
    guard step.node.needsInput else {
      return normGradient(step, rows, positions, channels, h: 1, into: weights)
    }
    for k in step.coefficients {
      guard let target = weights[k] else { continue }
      for row in rows {
        T.axpy(channels, 1, step.costate(3, k) + row * channels, target)
        T.axpy(channels, 1, step.costate(2, k) + row * channels, target + channels)
      }
    }
  }

  // MARK: Groups of one sample

  /// Means of a ∘ b over each group, or of a.
  private func reduce<T: KernelScalar>(
    _ a: UnsafeMutablePointer<T>, _ b: UnsafeMutablePointer<T>?, into means: UnsafeMutablePointer<T>,
    _ step: LayerStep<T>
  ) {
    let sums = step.scratch(4)
    sums.update(repeating: 0, count: channels)
    step.columnDots(positions, channels, a, b, sums)
    fold(sums, into: means)
  }

  /// Means over each group from sums over positions.
  private func fold<T: KernelScalar>(_ sums: UnsafeMutablePointer<T>, into means: UnsafeMutablePointer<T>) {
    let share = 1 / T(positions * groupChannels)
    for group in 0..<groups {
      var sum: T = 0
      for channel in group * groupChannels..<(group + 1) * groupChannels { sum += sums[channel] }
      means[group] = share * sum
    }
  }

  /// A number a group as one a channel.
  private func spread<T: KernelScalar>(
    _ s: UnsafeMutablePointer<T>, _ step: LayerStep<T>
  ) -> UnsafeMutablePointer<T> {
    let row = step.scratch(4)
    for group in 0..<groups {
      for channel in group * groupChannels..<(group + 1) * groupChannels { row[channel] = s[group] }
    }
    return row
  }
}
