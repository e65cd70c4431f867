/// What decides which pivots are good: sizes relative to ‖H + λ‖, and how far rounding errors have grown.
struct LayeredMeasure {
  /// ‖H + λ‖, to a factor of two.
  let norm: Double
  /// ‖∂z/∂X‖ of each layer's outputs.
  let spreads: [Double]
  /// Sum over layers of ‖Cᵀ Q⁻¹ C‖ / norm.
  var growth = 1.0

  /// g: what an elimination may add to the cost-to-go, relative to the norm; nil for anything.
  let limit: Double?
  /// What is 0 relative to the norm, where rounding errors have hardly grown.
  let least: Double

  init(norm: Double, spreads: [Double], limit: Double?, least: Double) {
    (self.norm, self.spreads, self.limit, self.least) = (norm, spreads, limit, least)
  }

  /// What is 0 to working precision.
  var tolerance: Double { max(least, 4 * 0x1p-52 * growth) * norm }
  /// What is added to a pivot that is counted as 0.
  var zeroPivot: Double { norm > 0 ? norm : 1 }
  /// ‖∂z/∂X‖ of the layer's inputs; 0 for the first one.
  func spread(_ index: Int) -> Double { index == 0 ? 0 : spreads[index - 1] }

  /// Largest entry on the diagonal of |G|ᵀ |D⁻¹ G|, in units of the weights and relative to the norm.
  func growth<Element: FactorScalar>(
    _ index: Int, _ g: UnsafePointer<Element>, _ divided: UnsafePointer<Element>, rows: Int, columns: Int, stride: Int
  ) -> Double {
    let spread = spread(index)
    return withUnsafeTemporaryAllocation(of: Double.self, capacity: columns) { sums in
      sums.initialize(repeating: 0)
      guard let base = sums.baseAddress else { return 0 }
      for row in 0..<rows {
        let (a, b) = (g + row * stride, divided + row * stride)
        for column in 0..<columns { base[column] += (spread * a[column].magnitude) * (spread * b[column].magnitude) }
      }
      // NaN is no maximum.
      return sums.reduce(0) { $1.isNaN ? .infinity : max($0, $1) } / norm
    }
  }
}
