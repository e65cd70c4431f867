extension NetworkDerivatives {
  /// Coefficients of the gradient along numbers of the algebra: coefficient `kept[q]` goes to row q of `out`. Returns
  /// the loss.
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
          if first == 0 {
            pass.load(0, w, member)
            for (index, direction) in directions.enumerated() { pass.load(index + 1, direction, member) }
            member.barrier()
          }
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

  private func takeTaylor(_ algebra: TaylorAlgebra, rows: Int, parts: Int) throws(EngineError) -> TaylorWork<Element> {
    if let found = spareTaylor.take(where: {
      $0.pass.algebra == algebra && $0.pass.capacity >= rows && $0.scratches.count >= parts
    }) {
      return found
    }
    var scratches: [TaylorScratch<Element>] = []
    for _ in 0..<parts { scratches.append(try .init(algebra)) }
    return TaylorWork(pass: try TaylorPass(net, algebra, capacity: rows), scratches: scratches)
  }
}

/// A pass, and what its threads work in.
final class TaylorWork<Element: KernelScalar>: @unchecked Sendable {
  let pass: TaylorPass<Element>
  let scratches: [TaylorScratch<Element>]

  init(pass: TaylorPass<Element>, scratches: [TaylorScratch<Element>]) {
    self.pass = pass
    self.scratches = scratches
  }
}
