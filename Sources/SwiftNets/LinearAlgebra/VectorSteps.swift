import CKernels

/// What optimisers do with whole vectors, number by number, and sums of squares, by the thread team where they are long.
///
/// Arrays are behind untyped pointers to scalars of one type. The same bits at every level and for every thread count.
public struct VectorSteps {
  /// Of a step of Adam: what multiplies the old means and what is new in them, the correction of the mean of squares'
  /// root, what is added to that, the step's length with the correction of the mean, and what multiplies w.
  public struct AdamFactors {
    let kernels: swk_adam

    public init(
      beta1: Double, rest1: Double, beta2: Double, rest2: Double, correction: Double, epsilon: Double, rate: Double,
      decay: Double
    ) {
      kernels = swk_adam(
        beta1: beta1, rest1: rest1, beta2: beta2, rest2: rest2, correction: correction, epsilon: epsilon, rate: rate,
        decay: decay)
    }
  }

  /// Sums of squares, in float64, of the gradient and of w after the step.
  public struct Squares {
    public fileprivate(set) var gradient: Double
    public fileprivate(set) var w: Double
  }

  private let scalars: NetworkEngine.Scalars
  private let count: Int
  private let interruption: Interruption

  public init(_ scalars: NetworkEngine.Scalars, count: Int, interruption: Interruption = Interruption()) {
    self.scalars = scalars
    self.count = count
    self.interruption = interruption
  }

  /// newW = w - rate · gradient.
  public func descend(
    _ w: UnsafeRawPointer, _ gradient: UnsafeRawPointer, rate: Double, into newW: UnsafeMutableRawPointer
  ) throws(EngineError) -> Squares {
    try inBlocks { first, n, squares in
      switch scalars {
      case .float64: Double.descend(n, rate, at(w, first), at(gradient, first), at(newW, first), squares)
      case .float32: Float.descend(n, rate, at(w, first), at(gradient, first), at(newW, first), squares)
      }
    }
  }

  /// newVelocity = beta · velocity + gradient, and w less rate times that, or times gradient + beta · newVelocity.
  public func momentum(
    _ w: UnsafeRawPointer, _ gradient: UnsafeRawPointer, _ velocity: UnsafeRawPointer, rate: Double, beta: Double,
    isNesterov: Bool, into newW: UnsafeMutableRawPointer, _ newVelocity: UnsafeMutableRawPointer
  ) throws(EngineError) -> Squares {
    try inBlocks { first, n, squares in
      switch scalars {
      case .float64:
        Double.momentum(
          n, rate, beta, isNesterov, at(w, first), at(gradient, first), at(velocity, first), at(newW, first),
          at(newVelocity, first), squares)
      case .float32:
        Float.momentum(
          n, rate, beta, isNesterov, at(w, first), at(gradient, first), at(velocity, first), at(newW, first),
          at(newVelocity, first), squares)
      }
    }
  }

  /// A step of Adam; see `swk_adam`.
  public func adam(
    _ factors: AdamFactors, _ w: UnsafeRawPointer, _ gradient: UnsafeRawPointer, _ mean: UnsafeRawPointer,
    _ square: UnsafeRawPointer, into newW: UnsafeMutableRawPointer, _ newMean: UnsafeMutableRawPointer,
    _ newSquare: UnsafeMutableRawPointer
  ) throws(EngineError) -> Squares {
    try inBlocks { first, n, squares in
      switch scalars {
      case .float64:
        Double.adam(
          n, factors.kernels, at(w, first), at(gradient, first), at(mean, first), at(square, first), at(newW, first),
          at(newMean, first), at(newSquare, first), squares)
      case .float32:
        Float.adam(
          n, factors.kernels, at(w, first), at(gradient, first), at(mean, first), at(square, first), at(newW, first),
          at(newMean, first), at(newSquare, first), squares)
      }
    }
  }

  /// Σ v², summed in float64: inf where that overflows, 0 where it underflows.
  public func squareSum(_ v: UnsafeRawPointer) throws(EngineError) -> Double {
    try inBlocks { first, n, squares in
      squares[0] =
        switch scalars {
        case .float64: Double.squareSum(n, at(v, first))
        case .float32: Float.squareSum(n, at(v, first))
        }
      squares[1] = 0
    }.gradient
  }

  private static let block = 1 << 12

  /// Runs `body` on all numbers, a block at a time: (the first one, how many, where two sums over them go). Blocks are
  /// the same for every thread count, and their sums are added up in their order.
  private func inBlocks(
    _ body: (Int, Int, UnsafeMutablePointer<Double>) -> Void
  ) throws(EngineError) -> Squares {
    let blocks = max(1, count / Self.block)
    let sums = try Storage<Double>(count: saturating(2, blocks))
    func run(_ block: Int) {
      // The last one takes the rest.
      let first = block * Self.block
      body(first, block + 1 == blocks ? count - first : Self.block, sums.base + 2 * block)
    }
    // A number weighs as much as some operations: it comes from memory.
    try ThreadTeam.run(parts: Threads.forWork(of: saturating(16, count)), interruption) { member in
      member.inPieces(member.share(of: blocks), weight: saturating(copied / 8, Self.block)) { $0.forEach(run) }
    }
    var squares = Squares(gradient: 0, w: 0)
    for block in 0..<blocks {
      squares.gradient += sums.base[2 * block]
      squares.w += sums.base[2 * block + 1]
    }
    return squares
  }
}

private func at<T: KernelScalar>(_ pointer: UnsafeRawPointer, _ index: Int) -> UnsafePointer<T> {
  pointer.assumingMemoryBound(to: T.self) + index
}

private func at<T: KernelScalar>(_ pointer: UnsafeMutableRawPointer, _ index: Int) -> UnsafeMutablePointer<T> {
  pointer.assumingMemoryBound(to: T.self) + index
}
