extension Linearization {
  /// Coefficients of `count` runs of Lanczos's method (Lanczos 1950) on the matrix plus `shift`.
  ///
  /// The three-term recurrence alone, without orthogonalisation against earlier vectors: what quadrature for a spectral
  /// density wants (Ubaru, Chen & Saad 2017). As Ritz values converge, copies of them appear.
  /// - Parameters:
  ///   - starts: rows [count, P], not 0; they need not be normalised.
  ///   - diagonal: [count, steps].
  ///   - offDiagonal: [count, steps]: the last column belongs to the vector after the last. Where a run ends early, its
  ///     space being invariant to rounding, this entry and everything after it are 0.
  /// - Throws: `notFinite`, `invalidArgument` for a start that is 0, `outOfMemory`, `cancelled`.
  func lanczos(
    _ kind: CurvatureKind, shift: Element, _ starts: UnsafePointer<Element>, _ count: Int, steps: Int,
    diagonal: UnsafeMutablePointer<Element>, offDiagonal: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let length = net.parameterCount
    let threads = self.parts(pass.rows, count)
    let runsAtOnce = min(threads, count)
    let vectors = try Matrix<Element>(rows: saturating(3, runsAtOnce), columns: length)
    try prepare(threads, rows: min(piece, pass.rows))
    let stepsAtOnce = max(1, 1_000_000_000 / max(saturating(12, length, pass.rows), 1))
    for first in Swift.stride(from: 0, to: count, by: runsAtOnce) {
      var runs: [LanczosRun<Element>] = []
      for index in 0..<min(runsAtOnce, count - first) {
        let run = first + index
        runs.append(
          try LanczosRun(
            memory: vectors.rows(3 * index..<3 * index + 3), start: starts + run * length, shift: shift,
            diagonal: diagonal + run * steps, offDiagonal: offDiagonal + run * steps))
      }
      // A run for each thread; the last one alone is for all of them together.
      let isShared = runs.count == 1 && threads > 1
      for step in Swift.stride(from: 0, to: steps, by: isShared ? 1 : stepsAtOnce) {
        try interruption.check()
        if isShared {
          let run = runs[0]
          try product(kind, run.vector, threads, .set, into: run.image, interruption: interruption)
          run.advance(step)
          continue
        }
        let last = min(step + stepsAtOnce, steps)
        let now = runs
        try ThreadTeam.run(parts: now.count, interruption) { member in
          for run in member.share(of: now.count) {
            for step in step..<last where !member.isStopped {
              wholeProduct(kind, now[run].vector, .set, into: now[run].image, member)
              now[run].advance(step)
            }
          }
        }
      }
      for run in runs where !run.isFinite { throw .notFinite("a Lanczos coefficient is not finite") }
    }
  }
}

/// One run under way.
final class LanczosRun<Element: KernelScalar> {
  private let length: Int
  private let shift: Element
  private let diagonal: UnsafeMutablePointer<Element>
  private let offDiagonal: UnsafeMutablePointer<Element>
  private var previous: UnsafeMutablePointer<Element>
  /// The vector whose product comes next, and the place for that.
  private(set) var vector: UnsafeMutablePointer<Element>
  private(set) var image: UnsafeMutablePointer<Element>
  private var beta: Element = 0
  private var scale: Element = 0  // of the tridiagonal matrix, as far as it is known
  private(set) var isFinite = true

  init(
    memory: Matrix<Element>, start: UnsafePointer<Element>, shift: Element, diagonal: UnsafeMutablePointer<Element>,
    offDiagonal: UnsafeMutablePointer<Element>
  ) throws(EngineError) {
    length = memory.columns
    self.shift = shift
    self.diagonal = diagonal
    self.offDiagonal = offDiagonal
    (previous, vector, image) = (memory.row(0), memory.row(1), memory.row(2))
    previous.update(repeating: 0, count: length)
    // Scaled before it is squared: no overflow, and no underflow to 0.
    var largest: Element = 0
    for index in 0..<length {
      guard start[index].isFinite else { throw .notFinite("a start of a Lanczos run is not finite") }
      largest = max(largest, abs(start[index]))
    }
    guard largest > 0 else { throw .invalidArgument("a start of a Lanczos run is 0") }
    for index in 0..<length { vector[index] = start[index] / largest }
    let norm = Element.dot(length, vector, vector).squareRoot()
    for index in 0..<length { vector[index] /= norm }
  }

  /// Takes the product in `image`; another run's step does nothing once the space is invariant.
  func advance(_ step: Int) {
    guard scale.isFinite, step == 0 || beta > 0 else {
      diagonal[step] = 0
      offDiagonal[step] = 0
      return
    }
    if shift != 0 { Element.axpy(length, shift, vector, image) }
    if step > 0 { Element.axpy(length, -beta, previous, image) }
    let alpha = Element.dot(length, vector, image)
    Element.axpy(length, -alpha, vector, image)
    let norm = Self.norm(length, image)
    beta = norm.value
    scale = max(scale, abs(alpha), beta)
    guard alpha.isFinite, beta.isFinite else {
      isFinite = false
      scale = .infinity
      diagonal[step] = alpha
      offDiagonal[step] = beta
      return
    }
    // Below this the direction is the rounding of the product.
    if beta <= Element(length) * Element.ulpOfOne * scale { beta = 0 }
    diagonal[step] = alpha
    offDiagonal[step] = beta
    guard beta > 0 else { return }
    let factor = 1 / norm.scaled
    for index in 0..<length { image[index] *= factor }
    (previous, vector, image) = (vector, image, previous)
  }

  /// The norm of `v`: as it is, and as that of what `v` holds afterwards, scaled by a power of two where squares of the
  /// numbers leave the range or its inverse does. Rounds as if the range had no end.
  private static func norm(_ length: Int, _ v: UnsafeMutablePointer<Element>) -> (value: Element, scaled: Element) {
    let square = Element.dot(length, v, v)
    // A quarter of the exponents at either end: what underflows within is below the rounding of the sum.
    let limit = Element(sign: .plus, exponent: Element.greatestFiniteMagnitude.exponent * 3 / 4, significand: 1)
    if square > 1 / limit && square < limit { return (square.squareRoot(), square.squareRoot()) }
    var largest: Element = 0
    for index in 0..<length {
      guard v[index].isFinite else { return (square, square) }
      largest = max(largest, abs(v[index]))
    }
    guard largest > 0 else { return (0, 0) }
    // In two steps, as 2⁻ᵉ itself may be out of range.
    let half = largest.exponent / 2
    let first = Element(sign: .plus, exponent: -half, significand: 1)
    let second = Element(sign: .plus, exponent: half - largest.exponent, significand: 1)
    for index in 0..<length { v[index] = v[index] * first * second }
    let scaled = Element.dot(length, v, v).squareRoot()
    return (scaled / first / second, scaled)
  }
}
