import Synchronization

/// A net at a point on a set of samples, with its forward and backward pass kept: products of curvature matrices with
/// vectors cost no more than their own arithmetic.
///
/// Memory: `NetworkPass.bytesPerSample` and the working memory of each thread. Calls from several threads take turns.
final class Linearization<Element: KernelScalar>: @unchecked Sendable {
  let net: MultilayerPerceptron
  let pass: NetworkPass<Element>
  private var products: [CurvatureProduct<Element>] = []
  private let capacity: Int
  /// Most rows that one thread takes along one direction at a time: their tangents stay in its cache.
  private let piece: Int

  init(_ net: MultilayerPerceptron, capacity: Int, piece: Int) throws(EngineError) {
    self.net = net
    self.capacity = capacity
    self.piece = min(piece, max(capacity, 1))
    pass = try NetworkPass(net, capacity: capacity)
  }

  /// Threads for work on `samples` samples, `directions` times.
  func parts(_ samples: Int, _ directions: Int = 1) -> Int {
    Threads.forWork(of: saturating(6 * net.parameterCount, samples, directions))
  }

  private func product(_ index: Int, rows: Int) throws(EngineError) -> CurvatureProduct<Element> {
    while products.count <= index { products.append(try CurvatureProduct(net, capacity: min(piece, capacity))) }
    if products[index].capacity < rows { products[index] = try CurvatureProduct(net, capacity: rows) }
    return products[index]
  }

  // MARK: The point

  /// Runs the passes over `count` samples from `first`, and with `gradient` sets or adds that; returns the loss.
  @discardableResult
  func load(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ first: Int, _ count: Int,
    keeping depth: NetworkPass<Element>.Depth, isCopying: Bool = false, hasTargets: Bool = true,
    gradient: UnsafeMutablePointer<Element>? = nil, _ update: Update = .set
  ) -> Double {
    pass.weights.load(w, isCopying: isCopying)
    pass.begin(rows: count)
    let parts = self.parts(count)
    var sums = Array(repeating: 0.0, count: parts)
    sums.withUnsafeMutableBufferPointer { sums in
      nonisolated(unsafe) let sums = sums
      ThreadTeam.run(parts: parts) { member in
        for part in member.parts {
          let rows = member.share(of: count, part: part)
          pass.forward(samples, from: first, rows, keeping: depth)
          guard hasTargets else { continue }
          sums[part] =
            depth == .outputs
            ? pass.loss(samples, from: first, rows) : pass.backward(samples, from: first, rows, keeping: depth)
        }
        guard let gradient else { return }
        member.barrier()
        collectGradient(member, update, into: gradient)
      }
    }
    return sums.reduce(0, +)
  }

  private func collectGradient(
    _ member: ThreadTeam.Member, _ update: Update, into gradient: UnsafeMutablePointer<Element>
  ) {
    for (index, layer) in net.layers.enumerated() {
      pass.gradient(index, member.share(of: layer.rows), update, into: gradient)
    }
  }

  /// The gradient at the point loaded.
  func gradient(_ update: Update, into gradient: UnsafeMutablePointer<Element>) {
    ThreadTeam.run(parts: parts(pass.rows)) { collectGradient($0, update, into: gradient) }
  }

  // MARK: Products

  /// `count` products of the matrix with rows of `v`, set or added in the rows of `out`.
  func products(
    _ kind: CurvatureKind, _ v: UnsafePointer<Element>, _ count: Int, _ update: Update,
    into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let length = net.parameterCount
    let parts = self.parts(pass.rows, count)
    if count < parts {
      for k in 0..<count {
        try product(kind, v + k * length, parts, update, into: out + k * length, interruption: interruption)
      }
      return
    }
    for part in 0..<parts { _ = try product(part, rows: min(piece, pass.rows)) }
    try inSlices(
      of: count, least: parts, weight: saturating(12 * length, pass.rows), interruption: interruption
    ) { slice in
      ThreadTeam.run(parts: parts) { member in
        let own = products[member.index]
        for k in member.share(of: slice.count) {
          let direction = slice.lowerBound + k
          own.load(v + direction * length)
          var update = update
          for rows in pieces(pass.rows) {
            along(kind, own, rows, origin: rows.lowerBound)
            for (index, layer) in net.layers.enumerated() {
              own.collect(
                index, 0..<layer.rows, kind, pass, rows, origin: rows.lowerBound, update,
                into: out + direction * length)
            }
            update = .add
          }
        }
      }
    }
  }

  /// One product by all threads: each takes some samples, then some rows of every layer's result.
  private func product(
    _ kind: CurvatureKind, _ v: UnsafePointer<Element>, _ parts: Int, _ update: Update,
    into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let step = piece * parts
    let own = try product(0, rows: min(step, pass.rows))
    own.load(v)
    var update = update
    for first in Swift.stride(from: 0, to: pass.rows, by: step) {
      try interruption.check()
      let rows = first..<min(first + step, pass.rows)
      ThreadTeam.run(parts: parts) { member in
        let share = member.share(of: rows.count)
        along(kind, own, first + share.lowerBound..<first + share.upperBound, origin: first)
        member.barrier()
        for (index, layer) in net.layers.enumerated() {
          own.collect(index, member.share(of: layer.rows), kind, pass, rows, origin: first, update, into: out)
        }
      }
      update = .add
    }
  }

  private func along(_ kind: CurvatureKind, _ own: CurvatureProduct<Element>, _ rows: Range<Int>, origin: Int) {
    guard !rows.isEmpty else { return }
    if kind == .empiricalFisher { return own.projectOnGradients(pass, rows, origin: origin) }
    own.forward(pass, rows, origin: origin)
    own.backward(kind, pass, rows, origin: origin)
  }

  /// Ranges of at most `piece` rows.
  private func pieces(_ rows: Int) -> [Range<Int>] {
    Swift.stride(from: 0, to: rows, by: piece).map { $0..<min($0 + piece, rows) }
  }

  // MARK: Jacobians

  /// `count` tangents of the outputs along rows of `v`; that of sample s goes to `place(k, s)`.
  func tangents(
    _ v: UnsafePointer<Element>, _ count: Int, interruption: Interruption,
    _ place: (Int, Int) -> UnsafeMutablePointer<Element>
  ) throws(EngineError) {
    try perDirection(count, interruption) { k, own, rows in
      if rows.lowerBound == 0 { own.load(v + k * net.parameterCount) }
      own.forward(pass, rows, origin: rows.lowerBound)
      for row in rows {
        place(k, row).update(from: own.outputTangent(row - rows.lowerBound), count: net.outputs)
      }
    }
  }

  /// `count` products of the transposed Jacobian with cotangents; `cotangent(k, s)` is that of sample s.
  func cotangents(
    _ count: Int, _ update: Update, into out: UnsafeMutablePointer<Element>, interruption: Interruption,
    _ cotangent: (Int, Int) -> UnsafePointer<Element>
  ) throws(EngineError) {
    try perDirection(count, interruption) { k, own, rows in
      own.pullBack(pass, rows, origin: rows.lowerBound) { row, target in
        target.update(from: cotangent(k, row), count: net.outputs)
      }
      for (index, layer) in net.layers.enumerated() {
        own.collect(
          index, 0..<layer.rows, .gaussNewton, pass, rows, origin: rows.lowerBound,
          rows.lowerBound == 0 ? update : .add, into: out + k * net.parameterCount)
      }
    }
  }

  /// Every sample's Jacobian [outputs, parameters], at `place(s)`.
  func jacobians(
    interruption: Interruption, _ place: (Int) -> UnsafeMutablePointer<Element>
  ) throws(EngineError) {
    try perDirection(net.outputs, interruption) { output, own, rows in
      own.pullBack(pass, rows, origin: rows.lowerBound) { _, target in
        target.update(repeating: 0, count: net.outputs)
        target[output] = 1
      }
      for row in rows {
        own.outerProducts(row, pass, origin: rows.lowerBound, into: place(row) + output * net.parameterCount)
      }
    }
  }

  /// Runs `body` for each direction and each piece of the rows, directions shared among the threads.
  private func perDirection(
    _ count: Int, _ interruption: Interruption, _ body: (Int, CurvatureProduct<Element>, Range<Int>) -> Void
  ) throws(EngineError) {
    let parts = min(self.parts(pass.rows, count), max(count, 1))
    for part in 0..<parts { _ = try product(part, rows: min(piece, pass.rows)) }
    nonisolated(unsafe) let body = body
    try inSlices(
      of: count, least: parts, weight: saturating(8 * net.parameterCount, pass.rows), interruption: interruption
    ) { slice in
      ThreadTeam.run(parts: parts) { member in
        for k in member.share(of: slice.count) {
          for rows in pieces(pass.rows) { body(slice.lowerBound + k, products[member.index], rows) }
        }
      }
    }
  }
}

/// The product, or the largest integer where it would overflow.
func saturating(_ factors: Int...) -> Int {
  var product = 1
  for factor in factors {
    let (next, overflow) = product.multipliedReportingOverflow(by: factor)
    if overflow { return Int.max }
    product = next
  }
  return product
}
