extension GraphDerivatives {
  /// The whole matrix, or for `block` = (upper, lower) the part between two layers' parameters: products with unit
  /// vectors, or where that is less work for a Gauss–Newton or Fisher matrix the sum over samples of RᵀR. What is
  /// symmetric is so to the last bit.
  func dense(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>, block: (upper: Int, lower: Int)?,
    into out: Matrix<Element>, interruption: Interruption
  ) throws(EngineError) {
    let all = 0..<length
    let (rows, columns) = block.map { (graph.blocks[$0.upper], graph.blocks[$0.lower]) } ?? (all, all)
    if kind != .hessian, rootsAreCheaper(kind, rows, columns) {
      try rootProducts(kind, w, samples, rows, columns, into: out, interruption: interruption)
    } else {
      try unitProducts(kind, w, samples, rows, interruption: interruption) { index, product in
        out.row(index - rows.lowerBound).update(from: product + columns.lowerBound, count: columns.count)
      }
    }
    guard rows == columns else { return }
    // Numbers far apart, each of a line of memory of its own.
    try inSlices(of: rows.count, weight: saturating(4, copied, rows.count), interruption: interruption) {
      for row in $0 { for column in 0..<row { out[column, row] = out[row, column] } }
    }
  }

  /// Calls `body` with each of the matrix's rows `range`.
  private func unitProducts(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ range: Range<Int>,
    interruption: Interruption, _ body: (Int, UnsafeMutablePointer<Element>) throws(EngineError) -> Void
  ) throws(EngineError) {
    let slab = max(1, min(32, (64 << 20) / max(saturating(length, MemoryLayout<Element>.stride), 1)))
    let units = try Matrix<Element>(rows: slab, columns: length)
    let products = try Matrix<Element>(rows: slab, columns: length)
    for first in Swift.stride(from: range.lowerBound, to: range.upperBound, by: slab) {
      let count = min(slab, range.upperBound - first)
      for k in 0..<count { units[k, first + k] = 1 }
      try self.products(kind, w, samples, units.base, count, into: products.base, interruption: interruption)
      for k in 0..<count {
        units[k, first + k] = 0
        try body(first + k, products.row(k))
      }
    }
  }

  func diagonal(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>,
    into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    switch kind {
    case .hessian:
      try unitProducts(kind, w, samples, 0..<length, interruption: interruption) { index, product in
        out[index] = product[index]
      }
    case .gaussNewton, .empiricalFisher:
      let algebra = TaylorAlgebra.series(order: 1)
      let lanes = self.lanes(samples.count, algebra, sums: 1)
      let parts = min(threads(samples.count, saturating(4, rootCount(kind))), lanes.lanes)
      try withTeam(algebra, rows: lanes.rows, parts: parts, w, hasRow: true, interruption: interruption) {
        team throws(EngineError) in
        try team.addUp(lanes, length: length, into: [out], parts: parts, interruption: interruption) {
          worker, block, sums, member in
          _ = worker.run(
            team.weights, samples, lanes.samples(block), keeping: .curvature, into: worker.block, member)
          guard let row = worker.row?.base else { return }
          roots(kind, worker, team.weights, samples, member, at: { _, _ in row }) {
            Element.multiplyAdd(length, row, row, sums[0])
          }
        }
      }
    }
  }

  // MARK: Roots

  /// Rows of R a sample.
  private func rootCount(_ kind: CurvatureKind) -> Int { kind == .empiricalFisher ? 1 : graph.outputs }

  private func rootsAreCheaper(_ kind: CurvatureKind, _ rows: Range<Int>, _ columns: Range<Int>) -> Bool {
    // Multiplications a sample: of R's rows and their products, and of products with unit vectors.
    let entries = saturating(rows.count, columns.count) / (rows == columns ? 2 : 1)
    let own = saturating(rootCount(kind), saturating(sum: saturating(4, graph.work), entries))
    return own < saturating(4, graph.work, rows.count)
  }

  /// The rows R of each sample of a worker's block, after its pass, whose Σ RᵀR is the matrix: the Jacobian's times a
  /// root of the loss's Hessian in the outputs, or the gradient. Row `number` of a sample of the block goes to
  /// `place(sample, number)`; `body` is called as it is there.
  private func roots(
    _ kind: CurvatureKind, _ worker: GraphWorker<Element>, _ w: LayerParameters<Element>, _ samples: Samples<Element>,
    _ member: ThreadTeam.Member, at place: (Int, Int) -> UnsafeMutablePointer<Element>, _ body: () -> Void = {}
  ) {
    let block = worker.block
    for number in 0..<rootCount(kind) where !member.isStopped {
      if kind == .gaussNewton {
        let cotangents = worker.cotangent(block)
        for sample in 0..<block.rows { block.loss.root(sample, number, into: cotangents.row(sample)) }
        worker.pullBack(block, w, samples, member)
      }
      for sample in 0..<block.rows where !member.isStopped {
        let row = place(sample, number)
        member.clear(row, count: length)
        if kind == .gaussNewton {
          worker.pulledGradient(block, w, samples, sample..<sample + 1, into: row, member)
        } else {
          worker.gradient(block, w, samples, sample..<sample + 1, into: row, member)
          // The weighted gradient over the root of the weight is in range where its square is.
          let weight = block.loss.weights.base[sample]
          let factor = weight == 0 ? 0 : 1 / weight.squareRoot()
          for index in 0..<length { row[index] *= factor }
        }
        body()
      }
    }
  }

  /// Rows and columns of Σ RᵀR; where these are the same, what is on and left of the diagonal.
  private func rootProducts(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ rows: Range<Int>,
    _ columns: Range<Int>, into out: Matrix<Element>, interruption: Interruption
  ) throws(EngineError) {
    let algebra = TaylorAlgebra.series(order: 1)
    let (lanes, count) = (self.lanes(samples.count, algebra, sums: 1), rootCount(kind))
    let blockRows = saturating(lanes.rows, count)
    let blockBytes = saturating(blockRows, length, MemoryLayout<Element>.stride)
    let parts = threads(samples.count, saturating(4, count))
    // Enough rows that reading and writing the matrix is little of the work.
    let wanted = max(parts, (512 + blockRows - 1) / blockRows)
    let atOnce = max(1, min(lanes.blocks, wanted, (128 << 20) / max(blockBytes, 1)))
    let all = try Matrix<Element>(rows: saturating(atOnce, blockRows), columns: length)
    try inSlices(of: rows.count, weight: saturating(copied, columns.count), interruption: interruption) {
      for row in $0 { out.row(row).update(repeating: 0, count: columns.count) }
    }
    // Narrow strips and wide ones in turns, as shares of a triangle.
    let strips = (rows.count + 31) / 32
    let order = (0..<strips).map { $0 % 2 == 0 ? $0 / 2 : strips - 1 - $0 / 2 }
    try withTeam(algebra, rows: lanes.rows, parts: parts, w, interruption: interruption) { team throws(EngineError) in
      for first in Swift.stride(from: 0, to: lanes.blocks, by: atOnce) {
        let blocks = first..<min(first + atOnce, lanes.blocks)
        let start = lanes.samples(first).lowerBound
        // bounded: rows of `all`, places in the matrices
        let used = (lanes.samples(blocks.upperBound - 1).upperBound - start) * count
        try ThreadTeam.run(parts: parts, interruption) { member in
          let worker = team.workers[member.index]
          for index in member.share(of: blocks.count) where !member.isStopped {
            let range = lanes.samples(first + index)
            _ = worker.run(team.weights, samples, range, keeping: .curvature, into: worker.block, member)
            roots(
              kind, worker, team.weights, samples, member,
              at: { all.row((range.lowerBound - start + $0) * count + $1) })
          }
          member.barrier()
          for strip in order[member.share(of: strips)] where !member.isStopped {
            let own = strip * 32..<min(strip * 32 + 32, rows.count)
            let width = rows == columns ? own.upperBound : columns.count
            member.inPieces(own, weight: saturating(2, width, used)) { piece in
              Element.gemm(
                piece.count, width, used, all.base + rows.lowerBound + piece.lowerBound, 1, all.stride,
                all.base + columns.lowerBound, all.stride, nil, 0, .add, true, out.row(piece.lowerBound), out.stride)
            }
          }
        }
      }
    }
  }
}
