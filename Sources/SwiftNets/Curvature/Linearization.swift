import Synchronization

/// A net at a point on a set of samples, with its forward and backward pass kept: products of curvature matrices with
/// vectors cost no more than their own arithmetic.
///
/// Memory: `NetworkPass.bytesPerSample` and the working memory of each thread. Calls from several threads take turns.
final class Linearization<Element: KernelScalar>: @unchecked Sendable {
  let net: MultilayerPerceptron
  let pass: NetworkPass<Element>
  private(set) var products: [CurvatureProduct<Element>] = []
  private var sums: [ChunkSum<Element>] = []  // one for each of these
  let capacity: Int
  /// For third derivatives, from the first one on.
  var thirds: ThirdWork<Element>?
  /// Most rows that one thread takes along one direction at a time: their tangents stay in its cache.
  let piece: Int

  init(_ net: MultilayerPerceptron, capacity: Int, piece: Int, keepsImages: Bool = false) throws(EngineError) {
    self.net = net
    self.capacity = capacity
    self.piece = min(piece, max(capacity, 1))
    pass = try NetworkPass(net, capacity: capacity, keepsImages: keepsImages)
  }

  /// What its memory takes, that of all threads' products included.
  var bytes: Int {
    let working = sums.reduce(products.reduce(0) { $0 + $1.bytes }) { $0 + $1.bytes }
    return pass.bytes + working + (thirds?.bytes ?? 0)
  }

  /// Threads for work on `samples` samples, `directions` times.
  func parts(_ samples: Int, _ directions: Int = 1) -> Int {
    Threads.forWork(of: saturating(6, net.parameterCount, samples, directions))
  }

  /// Makes sure of working memory for `count` threads, each for `rows` samples along one direction.
  func prepare(_ count: Int, rows: Int) throws(EngineError) {
    for thread in 0..<count {
      // First, as where memory ends in between there is to be one for each product.
      if sums.count == thread { sums.append(try ChunkSum(length: net.parameterCount, samples: capacity)) }
      if thread < products.count && products[thread].capacity >= rows { continue }
      let made = try CurvatureProduct<Element>(net, capacity: rows, thread: thread)
      if thread < products.count { products[thread] = made } else { products.append(made) }
    }
  }

  // MARK: The point

  /// Runs the passes over `count` samples from `first`, and with `gradient` sets or adds that; returns the loss.
  @discardableResult
  func load(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ first: Int, _ count: Int,
    keeping depth: NetworkPass<Element>.Depth, isCopying: Bool = false, hasTargets: Bool = true,
    gradient: UnsafeMutablePointer<Element>? = nil, _ update: Update = .set, interruption: Interruption
  ) throws(EngineError) -> Double {
    let parts = self.parts(count)
    thirds?.hasTerms = false
    try pass.begin(rows: count, parts: parts)
    var sums = Array(repeating: 0.0, count: parts)
    try sums.withUnsafeMutableBufferPointer { sums throws(EngineError) in
      nonisolated(unsafe) let sums = sums
      try ThreadTeam.run(parts: parts, interruption) { member in
        load(w, samples, first, count, keeping: depth, isCopying, hasTargets, member, sums)
        guard let gradient else { return }
        member.barrier()
        collectGradient(member, update, 0..<count, into: gradient)
      }
    }
    return sums.reduce(0, +)
  }

  /// One member's part of it.
  private func load(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ first: Int, _ count: Int,
    keeping depth: NetworkPass<Element>.Depth, _ isCopying: Bool, _ hasTargets: Bool, _ member: ThreadTeam.Member,
    _ sums: UnsafeMutableBufferPointer<Double>
  ) {
    pass.load(w, isCopying: isCopying, member)
    for part in member.parts {
      var sum = 0.0
      member.inPieces(member.share(of: count, part: part), weight: weight) { rows in
        pass.forward(samples, from: first, rows, keeping: depth, member)
        guard hasTargets else { return }
        sum +=
          depth == .outputs
          ? pass.loss(samples, from: first, rows)
          : pass.backward(samples, from: first, rows, keeping: depth, member)
      }
      sums[part] = sum
    }
  }

  private func collectGradient(
    _ member: ThreadTeam.Member, _ update: Update, _ samples: Range<Int>, into gradient: UnsafeMutablePointer<Element>
  ) {
    // Part by part, so that the kernels meet the same blocks whoever does them: the same bits.
    for part in member.parts {
      for (index, layer) in net.layers.enumerated() {
        let rows = member.share(of: layer.rows, part: part)
        member.inPieces(rows, weight: saturating(2, samples.count, layer.width)) { rows in
          pass.gradient(index, rows, samples, update, into: gradient)
        }
      }
    }
  }

  /// The gradient at the point loaded, a chunk at a time.
  func gradient(
    into gradient: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let sum = try ChunkSum(length: net.parameterCount, samples: pass.rows, into: gradient)
    for first in Swift.stride(from: 0, to: pass.rows, by: ChunkSum<Element>.chunk) {
      let rows = first..<min(first + ChunkSum<Element>.chunk, pass.rows)
      let (target, update) = sum.next(rows.count)
      try ThreadTeam.run(parts: parts(rows.count), interruption) { collectGradient($0, update, rows, into: target) }
    }
    sum.finish()
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
    try prepare(parts, rows: min(piece, pass.rows))
    try inSlices(
      of: count, least: parts, weight: saturating(12, length, pass.rows), interruption: interruption
    ) { slice throws(EngineError) in
      try ThreadTeam.run(parts: parts, interruption) { member in
        for k in member.share(of: slice.count) {
          let offset = (slice.lowerBound + k) * length
          wholeProduct(kind, v + offset, update, into: out + offset, member)
        }
      }
    }
  }

  /// A product by one member, beside others that do other products.
  func wholeProduct(
    _ kind: CurvatureKind, _ v: UnsafePointer<Element>, _ update: Update, into out: UnsafeMutablePointer<Element>,
    _ member: ThreadTeam.Member
  ) {
    let own = products[member.index]
    let sum = sums[member.index]
    own.load(v)
    sum.begin(update, into: out)
    for rows in pieces(pass.rows) {
      if member.isStopped { break }
      let (target, now) = sum.next(rows.count)
      along(kind, own, rows, origin: rows.lowerBound, member)
      for (index, layer) in net.layers.enumerated() {
        member.inPieces(0..<layer.rows, weight: saturating(4, rows.count, layer.width)) { range in
          own.collect(index, range, kind, pass, rows, origin: rows.lowerBound, now, into: target)
        }
      }
    }
    sum.finish()
  }

  /// One product by all threads: each takes some samples, then some rows of every layer's result.
  func product(
    _ kind: CurvatureKind, _ v: UnsafePointer<Element>, _ parts: Int, _ update: Update,
    into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let step = piece * parts
    // A member may have to do all parts.
    try prepare(parts, rows: min(step, pass.rows))
    let sum = sums[0]
    sum.begin(update, into: out)
    for first in Swift.stride(from: 0, to: pass.rows, by: step) {
      try interruption.check()
      let rows = first..<min(first + step, pass.rows)
      let (target, now) = sum.next(rows.count)
      try ThreadTeam.run(parts: parts, interruption) { multiply(kind, v, rows, now, into: target, $0) }
    }
    sum.finish()
  }

  /// One member's part of a product over `rows` of the pass.
  private func multiply(
    _ kind: CurvatureKind, _ v: UnsafePointer<Element>, _ rows: Range<Int>, _ update: Update,
    into out: UnsafeMutablePointer<Element>, _ member: ThreadTeam.Member
  ) {
    let own = products[member.index]
    if pass.isShared {
      own.load(v, sharing: products[0], member)
      member.barrier()
    } else {
      own.load(v)
    }
    let start = rows.lowerBound
    func samples(_ part: Int) -> Range<Int> {
      let share = member.share(of: rows.count, part: part)
      return start + share.lowerBound..<start + share.upperBound
    }
    // A member that does all parts keeps them side by side.
    func origin(_ part: Int) -> Int { member.count == 1 ? start : samples(part).lowerBound }
    for part in member.parts { along(kind, own, samples(part), origin: origin(part), member) }
    member.barrier()
    for share in member.parts {
      var now = update
      for part in 0..<member.partCount where !samples(part).isEmpty {
        let source = products[member.count == 1 ? 0 : part]
        for (index, layer) in net.layers.enumerated() {
          let range = member.share(of: layer.rows, part: share)
          member.inPieces(range, weight: saturating(4, samples(part).count, layer.width)) { range in
            source.collect(index, range, kind, pass, samples(part), origin: origin(part), now, into: out)
          }
        }
        now = .add
      }
    }
  }

  /// `load` with the curvature kept, and one product: all in one job.
  func loadAndMultiply(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ first: Int, _ count: Int,
    _ v: UnsafePointer<Element>, _ update: Update, into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let parts = self.parts(count)
    try pass.begin(rows: count, parts: parts)
    try prepare(parts, rows: count)
    let sums = try Storage<Double>(count: parts)
    let buffer = UnsafeMutableBufferPointer(start: sums.base, count: parts)
    nonisolated(unsafe) let places = buffer
    try ThreadTeam.run(parts: parts, interruption) { member in
      load(w, samples, first, count, keeping: .curvature, false, true, member, places)
      multiply(kind, v, 0..<count, update, into: out, member)
    }
  }

  private func along(
    _ kind: CurvatureKind, _ own: CurvatureProduct<Element>, _ rows: Range<Int>, origin: Int,
    _ member: ThreadTeam.Member
  ) {
    member.inPieces(rows, weight: saturating(2, weight)) { rows in
      if kind == .empiricalFisher { return own.projectOnGradients(pass, rows, origin: origin) }
      own.forward(pass, rows, origin: origin, member)
      own.backward(kind, pass, rows, origin: origin, member)
    }
  }

  /// About how many operations one pass over a sample takes.
  var weight: Int {
    net.layers.reduce(saturating(6, net.parameterCount)) { saturating(sum: $0, saturating(64, $1.width)) }
  }

  /// Ranges of at most `piece` rows.
  func pieces(_ rows: Int) -> [Range<Int>] {
    Swift.stride(from: 0, to: rows, by: piece).map { $0..<min($0 + piece, rows) }
  }

  // MARK: Jacobians

  /// `count` tangents of the outputs along rows of `v`; that of sample s goes to `place(k, s)`.
  func tangents(
    _ v: UnsafePointer<Element>, _ count: Int, interruption: Interruption,
    _ place: (Int, Int) -> UnsafeMutablePointer<Element>
  ) throws(EngineError) {
    try perDirection(count, interruption) { k, own, rows, member in
      if rows.lowerBound == 0 { own.load(v + k * net.parameterCount) }
      member.inPieces(rows, weight: weight) { own.forward(pass, $0, origin: rows.lowerBound, member) }
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
    try perDirection(count, interruption) { k, own, rows, member in
      member.inPieces(rows, weight: weight) { piece in
        own.pullBack(pass, piece, origin: rows.lowerBound, member) { row, target in
          target.update(from: cotangent(k, row), count: net.outputs)
        }
      }
      for (index, layer) in net.layers.enumerated() {
        member.inPieces(0..<layer.rows, weight: saturating(2, rows.count, layer.width)) { range in
          own.collect(
            index, range, .gaussNewton, pass, rows, origin: rows.lowerBound,
            rows.lowerBound == 0 ? update : .add, into: out + k * net.parameterCount)
        }
      }
    }
  }

  /// Every sample's Jacobian [outputs, parameters], at `place(s)`.
  func jacobians(
    interruption: Interruption, _ place: (Int) -> UnsafeMutablePointer<Element>
  ) throws(EngineError) {
    // With huge pages the first output's row makes the pages of all outputs' rows.
    let weight = max(weight, saturating(copied / 8, net.outputs, net.parameterCount))
    try perDirection(net.outputs, interruption) { output, own, rows, member in
      member.inPieces(rows, weight: weight) { piece in
        own.pullBack(pass, piece, origin: rows.lowerBound, member) { _, target in
          target.update(repeating: 0, count: net.outputs)
          target[output] = 1
        }
        for row in piece {
          own.outerProducts(row, pass, origin: rows.lowerBound, into: place(row) + output * net.parameterCount)
        }
      }
    }
  }

  /// Runs `body` for each direction and each piece of the rows, directions shared among the threads.
  private func perDirection(
    _ count: Int, _ interruption: Interruption,
    _ body: (Int, CurvatureProduct<Element>, Range<Int>, ThreadTeam.Member) -> Void
  ) throws(EngineError) {
    let parts = min(self.parts(pass.rows, count), max(count, 1))
    try prepare(parts, rows: min(piece, pass.rows))
    nonisolated(unsafe) let body = body
    try inSlices(
      of: count, least: parts, weight: saturating(8, net.parameterCount, pass.rows), interruption: interruption
    ) { slice throws(EngineError) in
      try ThreadTeam.run(parts: parts, interruption) { member in
        for k in member.share(of: slice.count) {
          for rows in pieces(pass.rows) where !member.isStopped {
            body(slice.lowerBound + k, products[member.index], rows, member)
          }
        }
      }
    }
  }
}
