/// The net of fast_net: one dense layer without bias, leaky ReLU of slope ½, half the sum of squared errors.
///
/// Weights are `[in, out]`, samples are rows. At a kink the slope is ½, as in the original.
public struct Perceptron: Equatable, Sendable {
  public let insize: Int
  public let outsize: Int

  public init(insize: Int, outsize: Int) {
    self.insize = insize
    self.outsize = outsize
  }

  /// ½ Σ (h − Y)².
  public func loss(
    _ xs: Matrix<Double>, _ ys: Matrix<Double>, w: Matrix<Double>, interruption: Interruption = .init()
  ) throws(EngineError) -> Double {
    let h: Matrix<Double> = try Matrix(rows: xs.rows, columns: outsize)
    try predict(xs, w: w, into: h, interruption: interruption)
    var sum = 0.0
    try inSlices(of: h.rows, weight: saturating(copied, outsize), interruption: interruption) { rows in
      for row in rows {
        var part = 0.0
        for column in 0..<outsize {
          let error = h[row, column] - ys[row, column]
          part += error * error
        }
        sum += part
      }
    }
    return sum / 2
  }

  /// The output activations, `[n, outsize]`, written to `h`.
  public func predict(
    _ xs: Matrix<Double>, w: Matrix<Double>, into h: Matrix<Double>, interruption: Interruption = .init()
  ) throws(EngineError) {
    guard xs.fitsLAPACK, w.fitsLAPACK else {
      throw .invalidArgument("a dimension of xs or w is larger than \(Int32.max)")
    }
    try product(1, xs, w, 0, into: h, interruption: interruption)
    try inSlices(of: h.rows, weight: saturating(copied, outsize), interruption: interruption) { rows in
      for row in rows {
        let entries = h.row(row)
        for column in 0..<outsize { entries[column] = Self.activation(entries[column]) }
      }
    }
  }

  static func activation(_ net: Double) -> Double { net > 0 ? net : 0.5 * net }

  static func slope(_ net: Double) -> Double { net > 0 ? 1 : 0.5 }

  static func inverseActivation(_ h: Double) -> Double { h > 0 ? h : 2 * h }

  static func inverseSlope(_ h: Double) -> Double { h > 0 ? 1 : 2 }
}
