/// How many eigenvalues of a symmetric matrix are positive, negative and zero.
public struct Inertia: Equatable, Sendable {
  public var positive: Int
  public var negative: Int
  public var zero: Int

  public init(positive: Int = 0, negative: Int = 0, zero: Int = 0) {
    self.positive = positive
    self.negative = negative
    self.zero = zero
  }
}

/// The Bunch–Kaufman factorisation (1977) of a symmetric matrix, real or complex, definite or not: A = P U D Uᵀ Pᵀ with
/// D of 1×1 and 2×2 blocks. A complex A is symmetric, not Hermitian: nothing is conjugated.
///
/// U takes the place of A: with Uᵀ = M, row-major, unit lower triangular. LAPACK leaves its interchanges undone in the
/// columns that came before them; here they are done, so that half a solve is one triangular solve:
/// A⁻¹ b = P M⁻¹ D⁻¹ M⁻ᵀ Pᵀ b.
struct SymmetricFactor<Element: FactorScalar> {
  let order: Int
  /// M [order, order]; before `factor`, the lower triangle of A.
  let base: UnsafeMutablePointer<Element>
  let stride: Int
  /// Row i of Pᵀ b is row places[i] of b.
  let places: UnsafeMutablePointer<Int32>
  let pivots: UnsafeMutablePointer<Int32>
  // D⁻¹: its diagonal, and at k its entry (k, k + 1), 0 except at the first row of a 2×2 block.
  let inverse: UnsafeMutablePointer<Element>
  let coupling: UnsafeMutablePointer<Element>
  let work: UnsafeMutablePointer<Element>
  let scratch: UnsafeMutablePointer<Element>  // of large orders

  /// Room for a matrix of `order`, or for the factors of the one at `base`.
  init(order: Int, in arena: inout Arena, base: UnsafeMutablePointer<Element>? = nil, stride: Int? = nil) {
    self.order = order
    self.base = base ?? arena.take(saturating(order, order))
    self.stride = stride ?? order
    places = arena.take(order)
    pivots = arena.take(order)
    inverse = arena.take(order)
    coupling = arena.take(order)
    work = arena.take(saturating(order, Self.panel(order)))
    scratch = arena.take(order > Self.largeOrder ? saturating(Self.tile, Self.tile) : 0)
  }

  /// Measured: LAPACK's 64 is too wide for matrices of a hundred rows.
  private static func panel(_ order: Int) -> Int { order < 1024 ? min(24, order) : 64 }

  /// Replaces A by its factors.
  /// - Returns: false where A is singular or not finite, so that the factors are of no use.
  /// - Throws: `cancelled`.
  /// - Complexity: n³/3 operations, four times that many for complex numbers.
  func factor(interruption: Interruption = Interruption()) throws(EngineError) -> Bool {
    var left = order
    while left > 0 {
      try interruption.check()
      let width = Self.panel(order)
      if left > Self.largeOrder {
        let columns = try largePanel(left, width: width, interruption: interruption)
        guard columns > 0 else { return false }
        left -= columns
        continue
      }
      let (columns, info) = Element.bunchKaufmanPanel(
        order: left, width: width, base, stride, pivots, work: work, order)
      guard info == 0, columns > 0 else { return false }
      left -= columns
    }
    try interchange(interruption)
    return invertBlocks()
  }

  /// Carries the interchanges of rows of U through the columns right of them: columns of M, rows below.
  private func interchange(_ interruption: Interruption) throws(EngineError) {
    for index in 0..<order { places[index] = Int32(index) }
    var exchanges: [(last: Int, own: Int, partner: Int)] = []
    var index = order - 1
    while index >= 0 {
      let isSingle = pivots[index] > 0
      let partner = Int(isSingle ? pivots[index] : -pivots[index]) - 1
      let own = isSingle ? index : index - 1
      if partner != own {
        exchanges.append((index, own, partner))
        (places[own], places[partner]) = (places[partner], places[own])
      }
      index = own - 1
    }
    // Row by row, each in the order of the elimination: a row stays in the cache, columns would not.
    try exchanges.withUnsafeBufferPointer { exchanges throws(EngineError) in
      var first = exchanges.count
      try inSlices(of: order, least: 64, weight: saturating(2, order), interruption: interruption) { rows in
        for row in rows {
          let entries = base + row * stride
          while first > 0 && exchanges[first - 1].last < row { first -= 1 }
          for place in first..<exchanges.count {
            let (own, partner) = (exchanges[place].own, exchanges[place].partner)
            (entries[own], entries[partner]) = (entries[partner], entries[own])
          }
        }
      }
    }
  }

  /// Fills in D⁻¹, and takes the 2×2 blocks' entries off the diagonal out of M.
  private func invertBlocks() -> Bool {
    var index = 0
    while index < order {
      let first = base[index * stride + index]
      if pivots[index] > 0 {
        inverse[index] = Element(1) / first
        coupling[index] = Element(0)
        guard first.isFinite, inverse[index].isFinite else { return false }
        index += 1
        continue
      }
      let entry = base + (index + 1) * stride + index
      let middle = entry[0]
      entry[0] = Element(0)
      // Relative to the entry off the diagonal, the largest of the block.
      let (a, b) = (first / middle, entry[1] / middle)
      let scale = middle * (a * b - Element(1))
      inverse[index] = b / scale
      inverse[index + 1] = a / scale
      coupling[index] = Element(-1) / scale
      coupling[index + 1] = Element(0)
      guard inverse[index].isFinite, inverse[index + 1].isFinite, coupling[index].isFinite else { return false }
      index += 2
    }
    return true
  }

  /// Of the factored matrix: a bound from below on the absolute eigenvalues of D.
  var smallestPivot: Double {
    var largest = 0.0
    for index in 0..<order {
      let middle = coupling[index].magnitude + (index > 0 ? coupling[index - 1].magnitude : 0)
      largest = max(largest, inverse[index].magnitude + middle)
    }
    return 1 / largest
  }

  /// target = D⁻¹ source for the columns of both [order, count], unless it is to stop: it asks every 10⁹ units of weight.
  func divideColumns(
    _ source: UnsafePointer<Element>, into target: UnsafeMutablePointer<Element>, _ count: Int,
    unless isStopped: () -> Bool = { false }
  ) {
    var index = 0
    var next = 0
    let step = max(1, 1_000_000_000 / max(saturating(copied, count, Element.parts), 1))
    while index < order {
      if index >= next {
        if isStopped() { return }
        next = index + step
      }
      let (x, y) = (source + index * count, target + index * count)
      let own = inverse[index]
      if pivots[index] > 0 {
        for column in 0..<count { y[column] = own * x[column] }
        index += 1
        continue
      }
      let (other, middle) = (inverse[index + 1], coupling[index])
      let (x1, y1) = (x + count, y + count)
      for column in 0..<count {
        let (a, b) = (x[column], x1[column])
        y[column] = own * a + middle * b
        y1[column] = middle * a + other * b
      }
      index += 2
    }
  }

  /// Replaces the rows of b [count, order] by D⁻¹ times them.
  func divideRows(_ b: UnsafeMutablePointer<Element>, count: Int) {
    for row in 0..<count {
      let x = b + row * order
      var index = 0
      while index < order {
        if pivots[index] > 0 {
          x[index] = inverse[index] * x[index]
          index += 1
        } else {
          let (a, b) = (x[index], x[index + 1])
          x[index] = inverse[index] * a + coupling[index] * b
          x[index + 1] = coupling[index] * a + inverse[index + 1] * b
          index += 2
        }
      }
    }
  }
}

extension SymmetricFactor where Element == Double {
  /// Counts A's eigenvalues by sign (Sylvester's law: those of D), and multiplies |det A| into `determinant`.
  func tally(_ inertia: inout Inertia, _ determinant: inout LogarithmOfProduct) {
    var index = 0
    while index < order {
      if pivots[index] > 0 {
        if inverse[index] > 0 { inertia.positive += 1 } else { inertia.negative += 1 }
        determinant.multiply(base[index * stride + index])
        index += 1
        continue
      }
      // Bunch and Kaufman choose a 2×2 block only where its determinant is negative.
      inertia.positive += 1
      inertia.negative += 1
      // det D⁻¹ = (a b − 1) / scale², and coupling = −1 / scale.
      let middle = coupling[index]
      let (a, b) = (inverse[index + 1] / middle, inverse[index] / middle)
      determinant.divide(middle)
      determinant.divide(middle)
      determinant.divide(a * b - 1)
      index += 2
    }
  }
}

/// log|∏ x|, without a logarithm for each factor and without overflow. A factor 0 makes it −∞.
struct LogarithmOfProduct {
  private var significand = 1.0
  private var exponent = 0

  mutating func multiply(_ x: Double) {
    if x.isFinite && x != 0 {
      significand *= x.significand
      exponent += Int(x.exponent)
    } else {
      significand *= abs(x)
    }
    normalize()
  }

  mutating func divide(_ x: Double) {
    if x.isFinite && x != 0 {
      significand /= x.significand
      exponent -= Int(x.exponent)
    } else {
      significand /= abs(x)
    }
    normalize()
  }

  private mutating func normalize() {
    // 0, ∞ and NaN, which have no exponent, stay as they are.
    if significand.isFinite && significand != 0 && (significand < 0x1p-500 || significand > 0x1p500) {
      exponent += Int(significand.exponent)
      significand = significand.significand
    }
  }

  var value: Double { Double.logarithm(significand) + Double(exponent) * Double.logarithm(2) }
}
