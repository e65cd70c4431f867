/// y = γ ∘ h + β with h = (x − μ) / √(σ² + ε) channel by channel: batch normalisation with its statistics frozen.
struct FrozenNormLayer: NetworkLayer {
  private let positions: Int
  private let channels: Int
  private let isAffine: Bool
  private let means: [Double]
  /// 1 / √(σ² + ε).
  private let factors: [Double]

  /// `statistics`: means, then variances.
  init(input: ValueShape, _ statistics: [Double], _ epsilon: Double, isAffine: Bool) {
    positions = input.positions
    channels = input.channels
    self.isAffine = isAffine
    means = Array(statistics.prefix(input.channels))
    factors = statistics.suffix(input.channels).map { 1 / ($0 + epsilon).squareRoot() }
  }

  private var size: Int { saturating(positions, channels) }

  var parameterCount: Int { isAffine ? saturating(2, channels) : 0 }
  var work: Int { saturating(4, size) }
  var stateSizes: [Int] { [size] }
  /// The factors in the net's scalars, then products of them with γ.
  var scratchSizes: [Int] { [channels, channels] }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let (factors, row) = (step.scratch(0), step.scratch(1))
    let count = step.rows * positions  // bounded: numbers of the value, here and below
    for channel in 0..<channels { factors[channel] = T(self.factors[channel]) }
    for k in step.coefficients {
      let h = step.state(0, k)
      guard let x = step.x(k) else {
        step.member.clear(h, count: count * channels)  // bounded: the value
        continue
      }
      if k == 0 {
        // Centred, then scaled: μ may be much larger than the spread.
        for channel in 0..<channels { row[channel] = T(-means[channel]) }
        step.affineColumns(count, channels, x, nil, row, h)
        step.scaleColumns(count, channels, h, factors, adding: false, h)
      } else {
        step.scaleColumns(count, channels, x, factors, adding: false, h)
      }
    }
    normAffine(step, count, channels, isAffine, h: 0)
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    let (factors, row) = (step.scratch(0), step.scratch(1))
    let count = step.rows * positions  // bounded: positions of the value
    for channel in 0..<channels { factors[channel] = T(self.factors[channel]) }
    for k in step.coefficients {
      var isAdding = step.node.addsInput
      for (i, j) in step.algebra.products[k] {
        guard let gamma = isAffine ? step.w(j) : j == 0 ? step.scratch.ones : nil else { continue }
        for channel in 0..<channels { row[channel] = factors[channel] * gamma[channel] }
        step.scaleColumns(count, channels, step.gy(i), row, adding: isAdding, step.gx(k))
        isAdding = true
      }
    }
  }

  func gradient<T: KernelScalar>(
    _ step: LayerStep<T>, _ rows: Range<Int>, into weights: [UnsafeMutablePointer<T>?]
  ) {
    if isAffine { normGradient(step, rows, positions, channels, h: 0, into: weights) }
  }
}
