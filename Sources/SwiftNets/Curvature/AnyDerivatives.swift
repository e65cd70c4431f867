/// The derivatives of a net: of a chain of dense layers, which has passes of its own, or of any other.
enum AnyDerivatives<Element: KernelScalar>: Sendable {
  case chain(NetworkDerivatives<Element>)
  case graph(GraphDerivatives<Element>)

  func memory(_ samples: Int) -> (point: Int, working: Int) {
    switch self {
    case .chain(let d): d.memory(samples)
    case .graph(let d): d.memory(samples)
    }
  }

  func loss(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, interruption: Interruption
  ) throws(EngineError) -> Double {
    switch self {
    case .chain(let d): try d.loss(w, samples, interruption: interruption)
    case .graph(let d): try d.loss(w, samples, interruption: interruption)
    }
  }

  func predict(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    switch self {
    case .chain(let d): try d.predict(w, samples, into: out, interruption: interruption)
    case .graph(let d): try d.predict(w, samples, into: out, interruption: interruption)
    }
  }

  func gradient(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) -> Double {
    switch self {
    case .chain(let d): try d.gradient(w, samples, into: out, interruption: interruption)
    case .graph(let d): try d.gradient(w, samples, into: out, interruption: interruption)
    }
  }

  func perSampleGradients(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    switch self {
    case .chain(let d): try d.perSampleGradients(w, samples, into: out, interruption: interruption)
    case .graph(let d): try d.perSampleGradients(w, samples, into: out, interruption: interruption)
    }
  }

  func products(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ v: UnsafePointer<Element>,
    _ count: Int, into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    switch self {
    case .chain(let d): try d.products(kind, w, samples, v, count, into: out, interruption: interruption)
    case .graph(let d): try d.products(kind, w, samples, v, count, into: out, interruption: interruption)
    }
  }

  func dense(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>, block: (upper: Int, lower: Int)?,
    into out: Matrix<Element>, interruption: Interruption
  ) throws(EngineError) {
    switch self {
    case .chain(let d): try d.dense(kind, w, samples, block: block, into: out, interruption: interruption)
    case .graph(let d): try d.dense(kind, w, samples, block: block, into: out, interruption: interruption)
    }
  }

  func diagonal(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>,
    into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    switch self {
    case .chain(let d): try d.diagonal(kind, w, samples, into: out, interruption: interruption)
    case .graph(let d): try d.diagonal(kind, w, samples, into: out, interruption: interruption)
    }
  }

  func linearize(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, gradient: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) -> (AnyPoint<Element>, Double) {
    switch self {
    case .chain(let d):
      let (point, loss) = try d.linearize(w, samples, gradient: gradient, interruption: interruption)
      return (.chain(point, home: d.sparePoints), loss)
    case .graph(let d):
      let point = try GraphPoint(d, w, samples, gradient: gradient, interruption: interruption)
      return (.graph(point), point.loss)
    }
  }

  func jvp(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ v: UnsafePointer<Element>, _ count: Int,
    into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    switch self {
    case .chain(let d): try d.jvp(w, samples, v, count, into: out, interruption: interruption)
    case .graph(let d): try d.jvp(w, samples, v, count, into: out, interruption: interruption)
    }
  }

  func vjp(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ u: UnsafePointer<Element>, _ count: Int,
    into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    switch self {
    case .chain(let d): try d.vjp(w, samples, u, count, into: out, interruption: interruption)
    case .graph(let d): try d.vjp(w, samples, u, count, into: out, interruption: interruption)
    }
  }

  func jacobian(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    switch self {
    case .chain(let d): try d.jacobian(w, samples, into: out, interruption: interruption)
    case .graph(let d): try d.jacobian(w, samples, into: out, interruption: interruption)
    }
  }

  func taylor(
    _ algebra: TaylorAlgebra, _ w: UnsafePointer<Element>, _ samples: Samples<Element>,
    directions: [UnsafePointer<Element>], keeping kept: [Int], into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) -> Double {
    switch self {
    case .chain(let d):
      try d.taylor(
        algebra, w, samples, directions: directions, keeping: kept, into: out, interruption: interruption)
    case .graph(let d):
      try d.taylor(
        algebra, w, samples, directions: directions, keeping: kept, into: out, interruption: interruption)
    }
  }

  /// The multilinear form of the loss's derivatives in `directions` and each of `count` rows of v. Along one vector
  /// alone it is the coefficient of a series, which has 3 in place of 4, or 4 in place of 8.
  func multilinear(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, directions: [UnsafePointer<Element>],
    _ v: UnsafePointer<Element>, _ count: Int, into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let order = directions.count + 1
    var isOne = count == 1
    for direction in directions where isOne { isOne = try isSame(direction, v, count: parameterCount, interruption) }
    if isOne {
      _ = try taylor(
        .series(order: order), w, samples, directions: [v], keeping: [order], into: out, interruption: interruption)
      let factorial = Element(order == 3 ? 6 : order)
      try inSlices(of: parameterCount, weight: copied, interruption: interruption) { slice in
        for index in slice { out[index] *= factorial }
      }
      return
    }
    switch self {
    case .chain(let d):
      try d.multilinear(w, samples, directions: directions, v, count, into: out, interruption: interruption)
    case .graph(let d):
      try d.multilinear(w, samples, directions: directions, v, count, into: out, interruption: interruption)
    }
  }

  private var parameterCount: Int {
    switch self {
    case .chain(let d): d.net.parameterCount
    case .graph(let d): d.length
    }
  }
}

/// Whether two vectors are one, bit by bit but for the sign of 0.
func isSame<Element: KernelScalar>(
  _ u: UnsafePointer<Element>, _ v: UnsafePointer<Element>, count: Int, _ interruption: Interruption
) throws(EngineError) -> Bool {
  var isSame = true
  guard u != v else { return isSame }
  try inSlices(of: count, weight: copied, interruption: interruption) { slice in
    isSame = isSame && slice.allSatisfy { u[$0] == v[$0] }
  }
  return isSame
}

/// Either net at a point, its passes kept.
enum AnyPoint<Element: KernelScalar>: Sendable {
  /// With where its memory goes for the next one.
  case chain(Linearization<Element>, home: Spares<Linearization<Element>>)
  case graph(GraphPoint<Element>)

  var rows: Int {
    switch self {
    case .chain(let point, _): point.pass.rows
    case .graph(let point): point.rows
    }
  }

  /// Whether products evaluate the net: of passes that are made anew.
  var evaluates: Bool {
    switch self {
    case .chain: false
    case .graph(let point): point.evaluates
    }
  }

  /// Leaves the memory to the next point, if that is not much; nobody uses this one any more.
  func giveBack() {
    guard case .chain(let point, let home) = self, point.bytes <= 64 << 20 else { return }
    home.give(point)
  }

  /// The passes of a chain of dense layers.
  func requireChain() throws(EngineError) -> Linearization<Element> {
    guard case .chain(let point, _) = self else {
      throw .invalidArgument("the net is no chain of dense layers, which alone have layers' states")
    }
    return point
  }

  func products(
    _ kind: CurvatureKind, _ v: UnsafePointer<Element>, _ count: Int, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    switch self {
    case .chain(let point, _): try point.products(kind, v, count, .set, into: out, interruption: interruption)
    case .graph(let point): try point.products(kind, v, count, into: out, interruption: interruption)
    }
  }

  /// The third derivatives along pairs of directions; of a chain of dense layers.
  func thirds(
    _ wanted: ThirdPairs<Element>, into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    guard case .chain(let point, _) = self else {
      throw .invalidArgument("the net is no chain of dense layers, which alone keep what third derivatives need")
    }
    try point.thirds(wanted, into: out, interruption: interruption)
  }

  func lanczos(
    _ kind: CurvatureKind, shift: Element, _ starts: UnsafePointer<Element>, _ count: Int, steps: Int,
    diagonal: UnsafeMutablePointer<Element>, offDiagonal: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    switch self {
    case .chain(let point, _):
      try point.lanczos(
        kind, shift: shift, starts, count, steps: steps, diagonal: diagonal, offDiagonal: offDiagonal,
        interruption: interruption)
    case .graph(let point):
      try point.lanczos(
        kind, shift: shift, starts, count, steps: steps, diagonal: diagonal, offDiagonal: offDiagonal,
        interruption: interruption)
    }
  }
}
