/// Every derivative of a net's loss over any number of samples, in chunks of bounded memory.
///
/// A chunk is as many samples as fit in `chunkBytes`, at least 32 (or what a gigabyte holds) and at most 1024, so that
/// working memory does not grow with the batch. The sums over samples are taken in one order: the same thread count
/// gives the same bits, and only a loss's last bits depend on that count. Calls from several threads work side by side,
/// each in memory of its own.
final class NetworkDerivatives<Element: KernelScalar>: @unchecked Sendable {
  let net: MultilayerPerceptron
  let spareTaylor = Spares<TaylorWork<Element>>(4)
  private let spare = Spares<Linearization<Element>>(2)
  /// Of points that are gone: fresh memory takes as long as a pass.
  let sparePoints = Spares<Linearization<Element>>(1)

  /// Each chunk reads all weights and adds to a sum as long as they are: its own arrays are not much smaller.
  private func bytes(atLeast least: Int, perParameter: Int) -> Int {
    max(least, min(64 << 20, saturating(perParameter, net.parameterCount, MemoryLayout<Element>.stride)))
  }

  var chunkBytes: Int { bytes(atLeast: 4 << 20, perParameter: 4) }

  init(_ net: MultilayerPerceptron) { self.net = net }

  // MARK: Chunks

  func chunkRows(_ bytesPerSample: Int, _ samples: Int, bytes: Int? = nil) -> Int {
    let bytes = bytes ?? chunkBytes
    let bytesPerSample = max(bytesPerSample, 1)
    let least = max(1, min(32, (1 << 30) / bytesPerSample))
    return min(max(samples, 1), max(least, min(1024, bytes / bytesPerSample)))
  }

  /// Rows that one thread takes along a direction at a time.
  var piece: Int {
    let bytes = bytes(atLeast: 2 << 20, perParameter: 2)
    return chunkRows(NetworkPass<Element>.bytesPerSample(net), 1 << 20, bytes: bytes)
  }

  /// Runs `body` on each chunk, with a workspace for it: (workspace, first sample, samples).
  func inChunks(
    _ samples: Int, interruption: Interruption,
    _ body: (Linearization<Element>, Int, Int) throws(EngineError) -> Void
  ) throws(EngineError) {
    let rows = chunkRows(NetworkPass<Element>.bytesPerSample(net), samples)
    var found = spare.take { _ in true }
    if let workspace = found, workspace.pass.capacity < rows { found = nil }
    let workspace: Linearization<Element>
    if let found { workspace = found } else { workspace = try Linearization(net, capacity: rows, piece: piece) }
    defer { spare.give(workspace) }
    for first in Swift.stride(from: 0, to: samples, by: rows) {
      try interruption.check()
      try body(workspace, first, min(rows, samples - first))
    }
  }

  /// Bytes that a point on so many samples keeps, and that a call works in.
  func memory(_ samples: Int) -> (point: Int, working: Int) {
    let sample = NetworkPass<Element>.bytesPerSample(net)
    let parameters = saturating(net.parameterCount, MemoryLayout<Element>.stride)
    let rows = saturating(sum: chunkRows(sample, samples), saturating(Threads.count, min(piece, max(samples, 1))))
    let working = saturating(sum: saturating(sample, rows), saturating(saturating(sum: Threads.count, 1), parameters))
    return (saturating(NetworkPass<Element>.bytesPerSample(net, keepsImages: true), samples), working)
  }

  // MARK: Values and gradients

  func loss(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, interruption: Interruption
  ) throws(EngineError) -> Double {
    var sum = 0.0
    try inChunks(samples.count, interruption: interruption) { (workspace, first, count) throws(EngineError) in
      sum += try workspace.load(w, samples, first, count, keeping: .outputs, interruption: interruption)
    }
    return sum
  }

  func predict(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    try inChunks(samples.count, interruption: interruption) { (workspace, first, count) throws(EngineError) in
      try workspace.load(w, samples, first, count, keeping: .outputs, hasTargets: false, interruption: interruption)
      let outputs = workspace.pass.inputs[net.depth]
      for row in 0..<count { (out + (first + row) * net.outputs).update(from: outputs.row(row), count: net.outputs) }
    }
  }

  /// Sets the gradient and returns the loss.
  func gradient(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) -> Double {
    var loss = 0.0
    let sum = try ChunkSum(length: net.parameterCount, samples: samples.count, into: out)
    try inChunks(samples.count, interruption: interruption) { (workspace, first, count) throws(EngineError) in
      let (target, update) = sum.next(count)
      loss += try workspace.load(
        w, samples, first, count, keeping: .gradient, gradient: target, update, interruption: interruption)
    }
    sum.finish()
    return loss
  }

  /// The gradient of every sample's own loss, rows of `out`.
  func perSampleGradients(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    try inChunks(samples.count, interruption: interruption) { (workspace, first, count) throws(EngineError) in
      try workspace.load(w, samples, first, count, keeping: .gradient, interruption: interruption)
      try ThreadTeam.run(parts: workspace.parts(count), interruption) { member in
        member.inPieces(member.share(of: count), weight: saturating(copied / 8, net.parameterCount), grain: 1) { rows in
          for row in rows { workspace.pass.sampleGradient(row, into: out + (first + row) * net.parameterCount) }
        }
      }
    }
  }

  // MARK: Products

  func products(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ v: UnsafePointer<Element>,
    _ count: Int, into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let sum = try ChunkSum(length: saturating(count, net.parameterCount), samples: samples.count, into: out)
    try inChunks(samples.count, interruption: interruption) { (workspace, first, rows) throws(EngineError) in
      let (target, update) = sum.next(rows)
      if count == 1 {
        return try workspace.loadAndMultiply(
          kind, w, samples, first, rows, v, update, into: target, interruption: interruption)
      }
      try workspace.load(w, samples, first, rows, keeping: .curvature, interruption: interruption)
      try workspace.products(kind, v, count, update, into: target, interruption: interruption)
    }
    sum.finish()
  }

  /// A linearisation that keeps the passes of all samples, with the gradient and the loss there.
  func linearize(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, gradient: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) -> (Linearization<Element>, Double) {
    let capacity = max(samples.count, 1)
    let kept: Linearization<Element>
    if let spare = sparePoints.take(where: { $0.capacity == capacity }) {
      kept = spare
    } else {
      kept = try Linearization(net, capacity: capacity, piece: piece, keepsImages: true)
    }
    let isBlocked = ChunkSum<Element>.isBlocked(samples.count)
    let loss = try kept.load(
      w, samples, 0, samples.count, keeping: .curvature, isCopying: true, gradient: isBlocked ? nil : gradient,
      interruption: interruption)
    if isBlocked { try kept.gradient(into: gradient, interruption: interruption) }
    return (kept, loss)
  }

  // MARK: Jacobians

  /// J v for `count` rows of v: [count, samples, outputs].
  func jvp(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ v: UnsafePointer<Element>, _ count: Int,
    into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    nonisolated(unsafe) let out = out
    try inChunks(samples.count, interruption: interruption) { (workspace, first, rows) throws(EngineError) in
      try workspace.load(w, samples, first, rows, keeping: .gradient, hasTargets: false, interruption: interruption)
      try workspace.tangents(v, count, interruption: interruption) { k, row in
        out + (k * samples.count + first + row) * net.outputs
      }
    }
  }

  /// Jᵀ u for `count` cotangents [count, samples, outputs].
  func vjp(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ u: UnsafePointer<Element>, _ count: Int,
    into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    nonisolated(unsafe) let u = u
    let sum = try ChunkSum(length: saturating(count, net.parameterCount), samples: samples.count, into: out)
    try inChunks(samples.count, interruption: interruption) { (workspace, first, rows) throws(EngineError) in
      let (target, update) = sum.next(rows)
      try workspace.load(w, samples, first, rows, keeping: .gradient, hasTargets: false, interruption: interruption)
      try workspace.cotangents(count, update, into: target, interruption: interruption) { k, row in
        u + (k * samples.count + first + row) * net.outputs
      }
    }
    sum.finish()
  }

  /// ∂outputs/∂w: [samples, outputs, parameters].
  func jacobian(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    nonisolated(unsafe) let out = out
    try inChunks(samples.count, interruption: interruption) { (workspace, first, rows) throws(EngineError) in
      try workspace.load(w, samples, first, rows, keeping: .gradient, hasTargets: false, interruption: interruption)
      try workspace.jacobians(interruption: interruption) { row in
        out + (first + row) * net.outputs * net.parameterCount
      }
    }
  }
}
