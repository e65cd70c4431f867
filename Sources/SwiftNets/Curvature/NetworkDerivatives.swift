/// Every derivative of a net's loss over any number of samples, in chunks of bounded memory.
///
/// A chunk is as many samples as fit in `chunkBytes`, at least 32 (or what a gigabyte holds) and at most 1024, so that
/// working memory does not grow with the batch. The sums over samples are taken in one order: the same thread count gives the same bits, and only a
/// loss's last bits depend on that count. Calls from several threads work side by side, each in memory of its own.
final class NetworkDerivatives<Element: KernelScalar>: @unchecked Sendable {
  let net: MultilayerPerceptron
  private let spare = Spares<Linearization<Element>>(2)

  static var chunkBytes: Int { 4 << 20 }

  init(_ net: MultilayerPerceptron) { self.net = net }

  // MARK: Chunks

  private func chunkRows(_ bytesPerSample: Int, _ samples: Int, bytes: Int = chunkBytes) -> Int {
    let bytesPerSample = max(bytesPerSample, 1)
    let least = max(1, min(32, (1 << 30) / bytesPerSample))
    return min(max(samples, 1), max(least, min(1024, bytes / bytesPerSample)))
  }

  /// Rows that one thread takes along a direction at a time.
  private var piece: Int { chunkRows(NetworkPass<Element>.bytesPerSample(net), 1 << 20, bytes: 2 << 20) }

  /// Runs `body` on each chunk, with a workspace for it: (workspace, first sample, samples).
  private func inChunks(
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
    let kept = try Linearization<Element>(net, capacity: max(samples.count, 1), piece: piece)
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

  // MARK: Dense matrices

  /// The whole matrix [P, P], or the block of layers (upper ≥ lower) alone, symmetric to the last bit.
  func dense(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>, block: (upper: Int, lower: Int)?,
    into out: Matrix<Element>, interruption: Interruption
  ) throws(EngineError) {
    if kind == .empiricalFisher {
      return try empiricalFisher(w, samples, block: block, into: out, interruption: interruption)
    }
    let bytes = saturating(
      sum: NetworkPass<Element>.bytesPerSample(net), DenseCurvature<Element>.bytesPerSample(net))
    let rows = chunkRows(bytes, samples.count, bytes: 64 << 20)
    let workspace = try Linearization<Element>(net, capacity: rows, piece: piece)
    let dense = try DenseCurvature<Element>(net, kind, capacity: rows)
    let parts = Threads.forWork(of: saturating(net.parameterCount, samples.count, 16))
    var scratches: [DenseCurvature<Element>.Scratch] = []
    for _ in 0..<parts { scratches.append(try .init(net, capacity: rows)) }
    var work = DenseWork(
      net: net, pass: workspace.pass, dense: dense, scratches: scratches, out: out, isWhole: block == nil,
      interruption: interruption)
    let sum = try ChunkSum(length: saturating(out.rows, out.columns), samples: samples.count, into: out.base)
    for first in Swift.stride(from: 0, to: samples.count, by: rows) {
      try interruption.check()
      let count = min(rows, samples.count - first)
      let (target, update) = sum.next(count)
      try workspace.load(w, samples, first, count, keeping: .curvature, interruption: interruption)
      work.out = Matrix(borrowing: target, rows: out.rows, columns: out.columns)
      try work.add(block, update)
    }
    sum.finish()
    work.out = out
    try work.finish(block)
  }

  /// The diagonal of the Hessian or Gauss–Newton matrix, or of the empirical Fisher matrix.
  func diagonal(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>,
    into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let bytes = saturating(
      sum: NetworkPass<Element>.bytesPerSample(net), DenseCurvature<Element>.bytesPerSample(net))
    let rows = chunkRows(bytes, samples.count, bytes: 64 << 20)
    let workspace = try Linearization<Element>(net, capacity: rows, piece: piece)
    let dense = try DenseCurvature<Element>(net, kind, capacity: kind == .empiricalFisher ? 0 : rows)
    let parts = Threads.forWork(of: saturating(net.parameterCount, samples.count, 16))
    var scratches: [DenseCurvature<Element>.Scratch] = []
    for _ in 0..<parts { scratches.append(try .init(net, capacity: rows)) }
    let sum = try ChunkSum(length: net.parameterCount, samples: samples.count, into: out)
    for first in Swift.stride(from: 0, to: samples.count, by: rows) {
      try interruption.check()
      let count = min(rows, samples.count - first)
      let (target, update) = sum.next(count)
      try workspace.load(w, samples, first, count, keeping: .curvature, interruption: interruption)
      let pass = workspace.pass
      try ThreadTeam.run(parts: parts, interruption) { member in
        if kind != .empiricalFisher {
          dense.prepareDiagonals(pass, member.share(of: count), scratches[member.index], member)
        }
        member.barrier()
        for (index, layer) in net.layers.enumerated() {
          member.inPieces(member.share(of: layer.rows), weight: saturating(8, count, layer.width), grain: 1) { rows in
            if kind == .empiricalFisher {
              pass.squaredGradients(index, rows, update, into: target)
            } else {
              dense.diagonal(index, rows, pass, update, into: target)
            }
          }
        }
      }
    }
    sum.finish()
  }

  /// Σ g gᵀ from the samples' gradients, a chunk of them at a time.
  private func empiricalFisher(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, block: (upper: Int, lower: Int)?,
    into out: Matrix<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    let length = net.parameterCount
    let rows = chunkRows(saturating(length, MemoryLayout<Element>.stride), samples.count, bytes: 64 << 20)
    let gradients: Matrix<Element> = try .padded(rows, length)
    let upper = block.map { net.layers[$0.upper].parameters } ?? 0..<length
    let lower = block.map { net.layers[$0.lower].parameters } ?? 0..<length
    let isSymmetric = upper == lower
    let sum = try ChunkSum(length: saturating(out.rows, out.columns), samples: samples.count, into: out.base)
    for first in Swift.stride(from: 0, to: samples.count, by: rows) {
      let count = min(rows, samples.count - first)
      let (base, update) = sum.next(count)
      let target = Matrix(borrowing: base, rows: out.rows, columns: out.columns)
      try inChunks(count, interruption: interruption) { (workspace, start, number) throws(EngineError) in
        try workspace.load(w, samples, first + start, number, keeping: .gradient, interruption: interruption)
        try ThreadTeam.run(parts: workspace.parts(number), interruption) { member in
          for row in member.share(of: number) where !member.isStopped {
            let target = gradients.row(start + row)
            workspace.pass.sampleGradient(row, into: target)
            // The weighted gradient over the root of the weight.
            let weight = workspace.pass.sampleWeights.base[row]
            let factor = weight > 0 ? 1 / weight.squareRoot() : 0
            if factor != 1 { for index in 0..<length { target[index] *= factor } }
          }
        }
      }
      // Rows of the result in bands; of a symmetric one the part from the diagonal on.
      let band = 48
      let bands = (upper.count + band - 1) / band
      let columns = gradients.rows(0..<count)
      let left = columns.view(columns.base + upper.lowerBound, rows: count, columns: upper.count)
      try inSlices(
        of: bands, least: Threads.count, weight: saturating(2, band, lower.count, saturating(sum: count, copied / 2)),
        interruption: interruption
      ) { slice throws(EngineError) in
        let parts = Threads.forWork(of: saturating(slice.count, band, lower.count, count))
        try ThreadTeam.run(parts: parts, interruption) { member in
          for index in member.share(of: slice.count) where !member.isStopped {
            let start = (slice.lowerBound + index) * band
            let range = start..<min(start + band, upper.count)
            // Whole vectors of the padded rows.
            let skip = isSymmetric ? start / Element.lanes * Element.lanes : 0
            let b = columns.view(
              columns.base + lower.lowerBound + skip, rows: count, columns: lower.count - skip)
            let c = Matrix(
              borrowing: target.base + skip, rows: upper.count, columns: lower.count - skip, stride: target.stride)
            multiply(left.transposed, b, update, isExact: true, into: c, rows: range)
          }
        }
      }
    }
    sum.finish()
    guard isSymmetric else { return }
    try mirrorUpper(out, interruption: interruption)
  }

  // MARK: Taylor series

  /// Coefficients of the gradient along numbers of the algebra: coefficient `kept[q]` goes to row q of `out`. Returns the
  /// loss.
  func taylor(
    _ algebra: TaylorAlgebra, _ w: UnsafePointer<Element>, _ samples: Samples<Element>,
    directions: [UnsafePointer<Element>], keeping kept: [Int], into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) -> Double {
    let rows = chunkRows(TaylorPass<Element>.bytesPerSample(net, algebra), samples.count)
    let length = net.parameterCount
    let parts = Threads.forWork(of: saturating(6, length, samples.count, algebra.count))
    let work = try takeTaylor(algebra, rows: rows, parts: parts)
    defer { spareTaylor.give(work) }
    let pass = work.pass
    pass.load(0, w)
    for (index, direction) in directions.enumerated() { pass.load(index + 1, direction) }
    var loss = 0.0
    let sum = try ChunkSum(length: saturating(kept.count, length), samples: samples.count, into: out)
    for first in Swift.stride(from: 0, to: samples.count, by: rows) {
      try interruption.check()
      let count = min(rows, samples.count - first)
      let (target, update) = sum.next(count)
      pass.begin(rows: count)
      var sums = Array(repeating: 0.0, count: parts)
      try sums.withUnsafeMutableBufferPointer { sums throws(EngineError) in
        nonisolated(unsafe) let sums = sums
        try ThreadTeam.run(parts: parts, interruption) { member in
          for part in member.parts {
            sums[part] = pass.run(
              samples, from: first, member.share(of: count, part: part), work.scratches[member.index], member)
          }
          member.barrier()
          for (index, layer) in net.layers.enumerated() {
            for (q, k) in kept.enumerated() {
              member.inPieces(member.share(of: layer.rows), weight: saturating(8, count, layer.width)) { rows in
                pass.gradient(index, rows, k, update, into: target + q * length)
              }
            }
          }
        }
      }
      loss += sums.reduce(0, +)
    }
    sum.finish()
    return loss
  }

  /// The multilinear form of the loss's derivatives in `directions` and each of `count` rows of `v`, as rows of `out`:
  /// H v, T[u, v], Q[u, s, v] for none, one and two directions.
  func multilinear(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, directions: [UnsafePointer<Element>],
    _ v: UnsafePointer<Element>, _ count: Int, into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let algebra = TaylorAlgebra.multilinear(directions: directions.count + 1)
    let rows = chunkRows(TaylorPass<Element>.bytesPerSample(net, algebra), samples.count)
    let length = net.parameterCount
    let weight = saturating(6, length, samples.count, algebra.count)
    let parts = min(count, Threads.forWork(of: saturating(weight, count)))
    guard parts > 1 else {
      for k in 0..<count {
        _ = try taylor(
          algebra, w, samples, directions: directions + [v + k * length], keeping: [algebra.count - 1],
          into: out + k * length, interruption: interruption)
      }
      return
    }
    // A pass for each thread, which takes whole directions.
    var works: [TaylorWork<Element>] = []
    for _ in 0..<parts { works.append(try takeTaylor(algebra, rows: rows, parts: 1)) }
    defer { for work in works { spareTaylor.give(work) } }
    var sums: [ChunkSum<Element>] = []
    for work in works {
      sums.append(try ChunkSum(length: length, samples: samples.count))
      work.pass.load(0, w)
      for (index, direction) in directions.enumerated() { work.pass.load(index + 1, direction) }
    }
    let spare = sums
    try inSlices(of: count, least: parts, weight: weight, interruption: interruption) { slice throws(EngineError) in
      try ThreadTeam.run(parts: parts, interruption) { member in
        let work = works[member.index]
        for offset in member.share(of: slice.count) {
          let k = slice.lowerBound + offset
          work.pass.load(directions.count + 1, v + k * length)
          let sum = spare[member.index]
          sum.begin(into: out + k * length)
          for first in Swift.stride(from: 0, to: samples.count, by: rows) where !member.isStopped {
            let number = min(rows, samples.count - first)
            let (target, update) = sum.next(number)
            work.pass.begin(rows: number)
            _ = work.pass.run(samples, from: first, 0..<number, work.scratches[0], member)
            for (index, layer) in net.layers.enumerated() {
              member.inPieces(0..<layer.rows, weight: saturating(8, number, layer.width)) { rows in
                work.pass.gradient(index, rows, algebra.count - 1, update, into: target)
              }
            }
          }
          sum.finish()
        }
      }
    }
  }

  private let spareTaylor = Spares<TaylorWork<Element>>(4)

  private func takeTaylor(_ algebra: TaylorAlgebra, rows: Int, parts: Int) throws(EngineError) -> TaylorWork<Element> {
    if let found = spareTaylor.take(where: {
      $0.pass.algebra == algebra && $0.pass.capacity >= rows && $0.scratches.count >= parts
    }) {
      return found
    }
    var scratches: [TaylorPass<Element>.Scratch] = []
    for _ in 0..<parts { scratches.append(try .init(algebra)) }
    return TaylorWork(pass: try TaylorPass(net, algebra, capacity: rows), scratches: scratches)
  }
}

private final class TaylorWork<Element: KernelScalar>: @unchecked Sendable {
  let pass: TaylorPass<Element>
  let scratches: [TaylorPass<Element>.Scratch]

  init(pass: TaylorPass<Element>, scratches: [TaylorPass<Element>.Scratch]) {
    self.pass = pass
    self.scratches = scratches
  }
}

/// The team's work on a dense matrix: the blocks on and below the diagonal, then what symmetry gives.
private struct DenseWork<Element: KernelScalar> {
  let net: MultilayerPerceptron
  let pass: NetworkPass<Element>
  let dense: DenseCurvature<Element>
  let scratches: [DenseCurvature<Element>.Scratch]
  var out: Matrix<Element>
  let isWhole: Bool
  let interruption: Interruption

  private var parts: Int { scratches.count }

  private func place(_ upper: Int, _ lower: Int) -> UnsafeMutablePointer<Element> {
    isWhole ? out.row(net.layers[upper].offset) + net.layers[lower].offset : out.base
  }

  func add(_ block: (upper: Int, lower: Int)?, _ update: Update) throws(EngineError) {
    let (pass, dense, scratches) = (self.pass, self.dense, self.scratches)
    try ThreadTeam.run(parts: parts, interruption) {
      dense.prepare(pass, $0.share(of: pass.rows), scratches[$0.index], $0)
    }
    for lower in net.layers.indices where block == nil || block!.lower == lower {
      for upper in lower..<net.depth where block == nil || block!.upper >= upper {
        if upper > lower {
          try ThreadTeam.run(parts: parts, interruption) {
            dense.prepareCross(upper, lower, pass, $0.share(of: pass.rows), $0)
          }
        }
        if block != nil && block!.upper != upper { continue }
        try add(upper, lower, update)
      }
    }
  }

  private func add(_ upper: Int, _ lower: Int, _ update: Update) throws(EngineError) {
    let (pass, dense, scratches, stride) = (self.pass, self.dense, self.scratches, out.stride)
    let place = self.place(upper, lower)
    let (above, below) = (net.layers[upper], net.layers[lower])
    let isOutputs = upper == lower && dense.isBlockDiagonal(upper)
    let total = isOutputs ? above.width : above.parameterCount
    let weight =
      isOutputs
      ? saturating(2, pass.rows, above.rows, saturating(sum: above.rows, above.width))
      : saturating(2, pass.rows, below.parameterCount)
    try inSlices(of: total, least: parts, weight: weight, interruption: interruption) { slice throws(EngineError) in
      try ThreadTeam.run(parts: parts, interruption) { member in
        let share = member.share(of: slice.count)
        let range = slice.lowerBound + share.lowerBound..<slice.lowerBound + share.upperBound
        let scratch = scratches[member.index]
        if isOutputs {
          dense.outputRows(range, pass, scratch, update, into: place, stride: stride, member)
        } else {
          for number in range where !member.isStopped {
            dense.rows(upper, lower, number..<number + 1, pass, scratch, update, into: place, stride: stride)
          }
        }
      }
    }
  }

  /// What symmetry gives, once all samples are in.
  func finish(_ block: (upper: Int, lower: Int)?) throws(EngineError) {
    let (dense, stride) = (self.dense, out.stride)
    for index in net.layers.indices where block == nil || block! == (index, index) {
      if dense.isBlockDiagonal(index) { continue }
      let place = self.place(index, index)
      try ThreadTeam.run(parts: parts, interruption) { member in
        dense.mirrorOwn(index, member.share(of: net.layers[index].width), block: place, stride: stride, member)
      }
    }
    guard block == nil else { return }
    for lower in net.layers.indices {
      let below = net.layers[lower]
      let first = below.offset + below.parameterCount
      let height = net.parameterCount - first
      guard height > 0 else { continue }
      let source = Matrix(
        borrowing: out.row(first) + below.offset, rows: height, columns: below.parameterCount, stride: stride)
      let target = Matrix(
        borrowing: out.row(below.offset) + first, rows: below.parameterCount, columns: height, stride: stride)
      try inSlices(
        of: height, least: 64 * parts, weight: saturating(copied, below.parameterCount), interruption: interruption
      ) {
        slice in
        ThreadTeam.run(parts: parts) { member in
          let share = member.share(of: slice.count, grain: 64)
          transposeTiled(
            source, slice.lowerBound + share.lowerBound..<slice.lowerBound + share.upperBound, into: target)
        }
      }
    }
  }
}

/// Copies the part of a square matrix right of the diagonal to the left of it.
private func mirrorUpper<T: KernelScalar>(_ a: Matrix<T>, interruption: Interruption) throws(EngineError) {
  let tile = 64
  let tiles = (a.rows + tile - 1) / tile
  try inSlices(of: tiles, least: 1, weight: saturating(copied, tile, a.columns), interruption: interruption) { slice in
    ThreadTeam.run(parts: Threads.forWork(of: saturating(slice.count, tile, a.columns))) { member in
      for index in member.share(of: slice.count) {
        let first = (slice.lowerBound + index) * tile
        let rows = first..<min(first + tile, a.rows)
        // The tile on the diagonal, entry by entry; then those below it from the rows of this band.
        for row in rows { for column in first..<row { a[row, column] = a[column, row] } }
        guard rows.upperBound < a.columns else { continue }
        let right = Matrix(
          borrowing: a.row(first) + rows.upperBound, rows: rows.count, columns: a.columns - rows.upperBound,
          stride: a.stride)
        let below = Matrix(
          borrowing: a.row(rows.upperBound) + first, rows: a.columns - rows.upperBound, columns: rows.count,
          stride: a.stride)
        transposeTiled(right, 0..<rows.count, into: below)
      }
    }
  }
}
