extension NetworkDerivatives {
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
            let weight = workspace.pass.output.weights.base[row]
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
