extension GraphDerivatives {
  /// The whole matrix, or for `block` = (upper, lower) the part between two layers' parameters: products with unit
  /// vectors. What is symmetric is so to the last bit.
  func dense(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>, block: (upper: Int, lower: Int)?,
    into out: Matrix<Element>, interruption: Interruption
  ) throws(EngineError) {
    let all = 0..<length
    let (rows, columns) = block.map { (graph.blocks[$0.upper], graph.blocks[$0.lower]) } ?? (all, all)
    try unitProducts(kind, w, samples, rows, interruption: interruption) { index, product in
      out.row(index - rows.lowerBound).update(from: product + columns.lowerBound, count: columns.count)
    }
    guard rows == columns else { return }
    for row in 0..<rows.count {
      for column in 0..<row { out[column, row] = out[row, column] }
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
    case .gaussNewton: try gaussNewtonDiagonal(w, samples, into: out, interruption: interruption)
    case .empiricalFisher: try fisherDiagonal(w, samples, into: out, interruption: interruption)
    }
  }

  /// Sums over lanes of what `body` adds for each block, after its pass.
  private func sum(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    passes: Int, interruption: Interruption,
    _ body: (GraphTeam<Element>, GraphWorker<Element>, UnsafeMutablePointer<Element>, ThreadTeam.Member) -> Void
  ) throws(EngineError) {
    let algebra = TaylorAlgebra.series(order: 1)
    let lanes = self.lanes(samples.count, algebra, sums: 1)
    let parts = min(threads(samples.count, passes), lanes.lanes)
    try withTeam(algebra, rows: lanes.rows, parts: parts, w, hasRows: true) { team throws(EngineError) in
      try team.addUp(lanes, length: length, into: [out], parts: parts, interruption: interruption) {
        worker, block, sums, member in
        _ = worker.run(
          team.weights, samples, lanes.samples(block), keeping: .curvature, into: worker.block, member)
        body(team, worker, sums[0], member)
      }
    }
  }

  /// Σ weight · gradient², from each sample's weighted gradient.
  private func fisherDiagonal(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    try sum(w, samples, into: out, passes: 4, interruption: interruption) { team, worker, target, member in
      guard let row = worker.row?.base else { return }
      for sample in 0..<worker.block.rows where !member.isStopped {
        row.update(repeating: 0, count: length)
        worker.gradient(worker.block, team.weights, samples, sample..<sample + 1, into: row, member)
        let weight = worker.block.loss.weights.base[sample]
        guard weight != 0 else { continue }
        // Squared last: the weighted gradient over the root of the weight is in range where its square is.
        let factor = 1 / weight.squareRoot()
        for index in 0..<length { row[index] *= factor }
        Element.multiplyAdd(length, row, row, target)
      }
    }
  }

  /// Σ Jᵀ C J's diagonal: for elementwise losses Σ C J², for softmax p times the squares of J less their mean.
  private func gaussNewtonDiagonal(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    let outputs = graph.outputs
    let isElementwise = graph.loss.isElementwise
    try sum(w, samples, into: out, passes: saturating(4, outputs), interruption: interruption) {
      team, worker, target, member in
      guard let row = worker.row?.base, let mean = worker.mean?.base else { return }
      let block = worker.block
      for sample in 0..<block.rows where !member.isStopped {
        let p = block.loss.hessian.row(sample)
        func pull(_ cotangent: (Int) -> Element, into flat: UnsafeMutablePointer<Element>) {
          let all = worker.cotangent(block)
          all.base.update(repeating: 0, count: block.rows * outputs)  // bounded: the cotangents
          for output in 0..<outputs { all[sample, output] = cotangent(output) }
          worker.pullBack(block, team.weights, samples, member)
          flat.update(repeating: 0, count: length)
          worker.pulledGradient(block, team.weights, samples, sample..<sample + 1, into: flat, member)
        }
        if !isElementwise { pull({ p[$0] }, into: mean) }
        for output in 0..<outputs where !member.isStopped {
          pull({ $0 == output ? 1 : 0 }, into: row)
          if !isElementwise { Element.axpy(length, -1, mean, row) }
          Element.multiply(length, row, row, row)
          Element.axpy(length, isElementwise ? p[output] : p[output] * block.loss.scales.base[sample], row, target)
        }
      }
    }
  }
}
