extension NetworkEngine {
  /// A linearisation of either type.
  public final class Point: Sendable {
    let kept: Kept
    /// Parameters of the net.
    public let parameterCount: Int
    /// Whether calls that evaluate the net are to stay on the caller's thread.
    public let isAlone: Bool
    private let gate = Gate()

    enum Kept: Sendable {
      case float64(AnyPoint<Double>)
      case float32(AnyPoint<Float>)
    }

    init(_ kept: Kept, _ parameterCount: Int, isAlone: Bool) {
      self.kept = kept
      self.parameterCount = parameterCount
      self.isAlone = isAlone
    }

    deinit {
      switch kept {
      case .float64(let point): point.giveBack()
      case .float32(let point): point.giveBack()
      }
    }

    /// How many samples it is over.
    public var samples: Int {
      switch kept {
      case .float64(let point): point.rows
      case .float32(let point): point.rows
      }
    }

    /// Whether products evaluate the net.
    public var evaluates: Bool {
      switch kept {
      case .float64(let point): point.evaluates
      case .float32(let point): point.evaluates
      }
    }

    /// How many numbers `copyStates` writes: none for a net that is no chain of dense layers.
    public var statesCount: Int {
      guard let net = try? requireChain() else { return 0 }
      return NetworkStates.count(net, samples: samples)
    }

    /// The net where it is a chain of dense layers, which alone have layers' states.
    /// - Throws: `invalidArgument` for another net.
    public func requireChain() throws(EngineError) -> MultilayerPerceptron {
      switch kept {
      case .float64(let point): try point.requireChain().net
      case .float32(let point): try point.requireChain().net
      }
    }

    /// The layers' states, one dense array after the other; see `NetworkStates`. Calls from several threads take turns.
    /// - Throws: `invalidArgument` for a float32 net, `outOfMemory`, `cancelled`.
    public func copyStates(
      into out: UnsafeMutablePointer<Double>, interruption: Interruption = Interruption()
    ) throws(EngineError) {
      try withStates(interruption) { states throws(EngineError) in
        try states.copy(into: out, interruption: interruption)
      }
    }

    /// Runs `body` with the layers' states, which are valid until it returns.
    func withStates<Result>(
      _ interruption: Interruption, _ body: (NetworkStates) throws(EngineError) -> Result
    ) throws(EngineError) -> Result {
      guard case .float64(let kept) = kept else {
        throw .invalidArgument("the net is in float32; its layers' states are there for float64 nets")
      }
      let point = try kept.requireChain()
      return try gate.write(interruption) { () throws(EngineError) in
        try body(NetworkStates(point.pass, interruption: interruption))
      }
    }

    /// How many numbers `factors` takes and writes: none for a net that is no chain of dense layers.
    public var factorCounts: (mix: Int, factors: Int) {
      guard let net = try? requireChain() else { return (0, 0) }
      return (saturating(samples, net.outputs), net.factorCount)
    }

    /// Kronecker factors of the layers, one dense array after the other; see `Linearization`. Calls from several threads
    /// take turns.
    /// - Throws: `invalidArgument` for a net that is no chain of dense layers, `outOfMemory`, `cancelled`.
    public func factors(
      _ mix: UnsafeRawPointer, into out: UnsafeMutableRawPointer, interruption: Interruption
    ) throws(EngineError) {
      try gate.write(interruption) { () throws(EngineError) in
        switch kept {
        case .float64(let point):
          try point.requireChain().factors(reading(mix), into: writing(out), interruption: interruption)
        case .float32(let point):
          try point.requireChain().factors(reading(mix), into: writing(out), interruption: interruption)
        }
      }
    }

    /// `count` products of the matrix with rows of `v`. Calls from several threads take turns.
    public func products(
      _ kind: CurvatureKind, _ v: UnsafeRawPointer, _ count: Int, into out: UnsafeMutableRawPointer,
      interruption: Interruption
    ) throws(EngineError) {
      try requireAddressable("v", count, parameterCount)
      try gate.write(interruption) { () throws(EngineError) in
        switch kept {
        case .float64(let point):
          try point.products(kind, reading(v), count, into: writing(out), interruption: interruption)
        case .float32(let point):
          try point.products(kind, reading(v), count, into: writing(out), interruption: interruption)
        }
      }
    }

    /// The third derivative applied to u and each of `count` rows of v. Calls from several threads take turns.
    /// - Throws: `invalidArgument` for a net that is no chain of dense layers, `outOfMemory`, `cancelled`.
    public func third(
      _ u: UnsafeRawPointer, _ v: UnsafeRawPointer, _ count: Int, into out: UnsafeMutableRawPointer,
      interruption: Interruption
    ) throws(EngineError) {
      try requireAddressable("v", count, parameterCount)
      try gate.write(interruption) { () throws(EngineError) in
        switch kept {
        case .float64(let point):
          let wanted = try ThirdPairs<Double>(reading(u), reading(v), count, length: parameterCount, interruption)
          try point.thirds(wanted, into: writing(out), interruption: interruption)
        case .float32(let point):
          let wanted = try ThirdPairs<Float>(reading(u), reading(v), count, length: parameterCount, interruption)
          try point.thirds(wanted, into: writing(out), interruption: interruption)
        }
      }
    }

    /// The third derivatives along all pairs i ≤ j of `count` rows of u, in the order of an upper triangle's rows. What
    /// is of one direction is computed once. Calls from several threads take turns.
    /// - Throws: as `third`.
    public func thirds(
      _ u: UnsafeRawPointer, _ count: Int, into out: UnsafeMutableRawPointer, interruption: Interruption
    ) throws(EngineError) {
      // bounded: once the triangle of all entries is addressable
      try requireAddressable("out", count, saturating(sum: count, 1), parameterCount)
      try gate.write(interruption) { () throws(EngineError) in
        switch kept {
        case .float64(let point):
          let wanted = ThirdPairs<Double>(reading(u), count, length: parameterCount)
          try point.thirds(wanted, into: writing(out), interruption: interruption)
        case .float32(let point):
          let wanted = ThirdPairs<Float>(reading(u), count, length: parameterCount)
          try point.thirds(wanted, into: writing(out), interruption: interruption)
        }
      }
    }

    /// Coefficients of `count` Lanczos runs on the matrix plus `shift`. Calls from several threads take turns.
    public func lanczos(
      _ kind: CurvatureKind, shift: Double, _ starts: UnsafeRawPointer, _ count: Int, steps: Int,
      diagonal: UnsafeMutableRawPointer, offDiagonal: UnsafeMutableRawPointer, interruption: Interruption
    ) throws(EngineError) {
      try requireAddressable("starts", count, parameterCount)
      try requireAddressable("diagonal", count, steps)
      try gate.write(interruption) { () throws(EngineError) in
        switch kept {
        case .float64(let point):
          try point.lanczos(
            kind, shift: shift, reading(starts), count, steps: steps, diagonal: writing(diagonal),
            offDiagonal: writing(offDiagonal), interruption: interruption)
        case .float32(let point):
          try point.lanczos(
            kind, shift: Float(shift), reading(starts), count, steps: steps, diagonal: writing(diagonal),
            offDiagonal: writing(offDiagonal), interruption: interruption)
        }
      }
    }
  }
}
