extension GraphDerivatives {
  /// Coefficients of the gradient along numbers of the algebra: coefficient `kept[q]` goes to row q of `out`. Returns
  /// the loss.
  func taylor(
    _ algebra: TaylorAlgebra, _ w: UnsafePointer<Element>, _ samples: Samples<Element>,
    directions: [UnsafePointer<Element>], keeping kept: [Int], into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) -> Double {
    let lanes = self.lanes(samples.count, algebra, sums: kept.count)
    let parts = min(threads(samples.count, saturating(2, algebra.count)), lanes.lanes)
    let losses = try Storage<Double>(count: lanes.blocks)
    try withTeam(algebra, rows: lanes.rows, parts: parts, w, interruption: interruption) { team throws(EngineError) in
      try team.load(directions, interruption)
      // bounded: rows of `out`
      try team.addUp(
        lanes, length: length, into: kept.indices.map { out + $0 * length }, parts: parts, interruption: interruption
      ) { worker, block, sums, member in
        var places = [UnsafeMutablePointer<Element>?](repeating: nil, count: algebra.count)
        for (q, k) in kept.enumerated() { places[k] = sums[q] }
        losses.base[block] = worker.series(team.weights, samples, lanes.samples(block), into: places, member)
      }
    }
    return (0..<lanes.blocks).reduce(0) { $0 + losses.base[$1] }
  }

  /// The multilinear form of the loss's derivatives in `directions` and each of `count` rows of `v`, as rows of `out`.
  func multilinear(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, directions: [UnsafePointer<Element>],
    _ v: UnsafePointer<Element>, _ count: Int, into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let algebra = TaylorAlgebra.multilinear(directions: directions.count + 1)
    let lanes = self.lanes(samples.count, algebra, sums: 1)
    let parts = min(
      threads(samples.count, saturating(2, algebra.count, count)), saturating(lanes.lanes, count))
    nonisolated(unsafe) let v = v
    try withTeam(algebra, rows: lanes.rows, parts: parts, w, interruption: interruption) { team throws(EngineError) in
      try team.load(directions, interruption)
      let slice = slice(of: count, lanes)
      for first in Swift.stride(from: 0, to: count, by: slice) {
        let number = min(slice, count - first)
        // bounded: rows of `out`
        let places = (first..<first + number).map { out + $0 * length }
        let all = try team.sums(lanes.lanes, length: length, into: places)
        try ThreadTeam.run(parts: parts, interruption) { member in
          let worker = team.workers[member.index]
          for task in member.share(of: saturating(lanes.lanes, number)) where !member.isStopped {
            let (k, lane) = (task / lanes.lanes, task % lanes.lanes)
            worker.directions[directions.count].load(v + (first + k) * length, member)  // bounded: a row of v
            all[k].clear(lane, member)
            var places = [UnsafeMutablePointer<Element>?](repeating: nil, count: algebra.count)
            places[algebra.count - 1] = all[k].lane(lane)
            for block in lanes.blocks(lane) where !member.isStopped {
              _ = worker.series(team.weights, samples, lanes.samples(block), into: places, member)
            }
          }
          member.barrier()
          for sum in all { sum.finish(member) }
        }
      }
    }
  }
}
