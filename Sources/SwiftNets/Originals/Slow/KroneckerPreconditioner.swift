/// (SᵀS ⊗ B + λ)⁻¹ with B = mean(D₁ᵀD₁) ∘ (w₂ mean(D₂²) w₂ᵀ), the Kronecker-factored Gauss–Newton block of a first
/// layer (Martens and Grosse, 2015) with exact damping: both factors are diagonalised.
///
/// The iteration runs in the eigenbasis V of SᵀS, with S V for S, where applying it takes two products with the
/// eigenvectors of B. B is positive semidefinite by Schur's product theorem.
final class KroneckerPreconditioner<T: KernelScalar> {
  private let net: TwoLayerPerceptron
  private let samples: Int
  /// S V, what the iteration uses in place of S.
  let inputs: Matrix<T>
  /// Vᵀ r, the right-hand side that `rotate` was given.
  let right: Matrix<T>
  /// What `apply` writes.
  let result: Matrix<T>
  private let v: Matrix<T>
  private let vt: Matrix<T>
  private let q: Matrix<T>
  private let qt: Matrix<T>
  private let inverse: Matrix<T>  // 1 / (μᵢ νⱼ + λ)
  private let scratch: Matrix<T>

  init(net: TwoLayerPerceptron, samples: Int) throws(EngineError) {
    self.net = net
    self.samples = samples
    inputs = try .padded(samples, net.insize)
    right = try .padded(net.insize, net.hidsize)
    result = try .padded(net.insize, net.hidsize)
    v = try .padded(net.insize, net.insize)
    vt = try .padded(net.insize, net.insize)
    q = try .padded(net.hidsize, net.hidsize)
    qt = try .padded(net.hidsize, net.hidsize)
    inverse = try .padded(net.insize, net.hidsize)
    scratch = try .padded(net.insize, net.hidsize)
  }

  func form(
    xs: Matrix<T>, w2: Matrix<T>, w2t: Matrix<T>, slope1: Matrix<T>, slope2Squared: Matrix<T>, damping: T,
    _ interruption: Interruption
  ) throws(EngineError) {
    let inNet = net.insize
    let hid = net.hidsize
    // Symmetric factors: vt and qt hold them until their eigenvectors take their place.
    try inSlices(of: inNet, least: 8, weight: saturating(2, samples, inNet), interruption: interruption) {
      multiply(xs.transposed, xs, into: vt, rows: $0)
    }
    var mean = [T](repeating: 0, count: net.outsize)
    for row in 0..<samples {
      for column in 0..<net.outsize { mean[column] += slope2Squared[row, column] / T(samples) }
    }
    let weighted: Matrix<T> = try .padded(net.outsize, hid)
    for output in 0..<net.outsize {
      for unit in 0..<hid { weighted[output, unit] = mean[output] * w2t[output, unit] }
    }
    let agreement: Matrix<T> = try .padded(hid, hid)
    try inSlices(of: hid, least: 8, weight: saturating(2, samples, hid), interruption: interruption) {
      multiply(slope1.transposed, slope1, into: agreement, rows: $0)
    }
    for row in 0..<hid {
      for column in 0..<hid { agreement[row, column] /= T(samples) }
    }
    multiply(w2.operand, weighted, scale: agreement, into: qt, rows: 0..<hid)

    let inputValues = try symmetricEigen(vt, interruption: interruption)
    let hiddenValues = try symmetricEigen(qt, interruption: interruption)
    for row in 0..<inNet { for column in 0..<inNet { v[column, row] = vt[row, column] } }
    for row in 0..<hid { for column in 0..<hid { q[column, row] = qt[row, column] } }
    for row in 0..<inNet {
      for column in 0..<hid {
        inverse[row, column] = 1 / (max(inputValues[row], 0) * max(hiddenValues[column], 0) + damping)
      }
    }
    try inSlices(of: samples, least: 8, weight: saturating(2, inNet, inNet), interruption: interruption) {
      multiply(xs.operand, v, into: inputs, rows: $0)
    }
  }

  /// Sets `right` to Vᵀ r.
  func rotate(_ r: Matrix<T>) { multiply(vt.operand, r, into: right, rows: 0..<net.insize) }

  /// V x, into `target`.
  func rotateBack(_ x: Matrix<T>, into target: Matrix<T>) {
    multiply(v.operand, x, into: target, rows: 0..<net.insize)
  }

  /// Writes the preconditioned rows of `r` into `result`.
  func apply(to r: Matrix<T>, rows: Range<Int>) {
    multiply(r.operand, q, scale: inverse, into: scratch, rows: rows)
    multiply(scratch.operand, qt, into: result, rows: rows)
  }
}
