/// Working memory for third derivatives at a point: what they share, and each thread's own.
final class ThirdWork<Element: KernelScalar>: @unchecked Sendable {
  let terms: ThirdTerms<Element>
  /// Whether those of the point are there.
  var hasTerms = false
  fileprivate var products: [ThirdProduct<Element>] = []
  fileprivate var sums: [ChunkSum<Element>] = []

  fileprivate init(_ terms: ThirdTerms<Element>) { self.terms = terms }

  /// What its memory takes.
  var bytes: Int { sums.reduce(products.reduce(terms.bytes) { $0 + $1.bytes }) { $0 + $1.bytes } }

  /// Makes sure of memory for `count` threads, each for `rows` samples.
  fileprivate func prepare(_ pass: NetworkPass<Element>, _ count: Int, rows: Int) throws(EngineError) {
    for thread in 0..<count {
      // First, as in `Linearization.prepare`.
      if sums.count == thread { sums.append(try ChunkSum(length: pass.net.parameterCount, samples: pass.rows)) }
      if thread < products.count && products[thread].capacity >= rows { continue }
      let made = try ThirdProduct<Element>(pass.net, capacity: rows, thread: thread)
      if thread < products.count { products[thread] = made } else { products.append(made) }
    }
  }
}

extension Linearization {
  /// The third derivative applied to u and each of `count` rows of v, as rows of `out`; of a point that keeps images.
  func third(
    _ u: UnsafePointer<Element>, _ v: UnsafePointer<Element>, _ count: Int, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    let length = net.parameterCount
    let work = try thirdWork(interruption)
    var isOne: [Bool] = []
    for k in 0..<count { isOne.append(try isSame(u, v + k * length, count: length, interruption)) }
    let parts = self.parts(pass.rows, saturating(2, count))
    if count < parts {
      try sharedThirds(work, u, v, isOne, parts, into: out, interruption)
    } else {
      try wholeThirds(work, u, v, isOne, parts, into: out, interruption)
    }
    // They were half of what they are to be.
    for k in 0..<count where isOne[k] {
      try inSlices(of: length, weight: copied, interruption: interruption) { slice in
        for index in slice { out[k * length + index] *= 2 }
      }
    }
  }

  /// What third derivatives need besides the passes, made when first asked for.
  private func thirdWork(_ interruption: Interruption) throws(EngineError) -> ThirdWork<Element> {
    let work: ThirdWork<Element>
    if let thirds { work = thirds } else { work = try ThirdWork(ThirdTerms(pass)) }
    thirds = work
    if work.hasTerms { return work }
    let terms = work.terms
    try ThreadTeam.run(parts: parts(pass.rows), interruption) { member in
      member.inPieces(member.share(of: pass.rows), weight: weight) { terms.fill(pass, $0) }
    }
    // An activation that failed left no numbers.
    try interruption.check()
    work.hasTerms = true
    return work
  }

  /// Each thread takes some of the rows of v.
  private func wholeThirds(
    _ work: ThirdWork<Element>, _ u: UnsafePointer<Element>, _ v: UnsafePointer<Element>, _ isOne: [Bool],
    _ parts: Int, into out: UnsafeMutablePointer<Element>, _ interruption: Interruption
  ) throws(EngineError) {
    let (length, pieces) = (net.parameterCount, self.pieces(pass.rows))
    try work.prepare(pass, parts, rows: min(piece, pass.rows))
    try inSlices(
      of: isOne.count, least: parts, weight: saturating(24, length, pass.rows), interruption: interruption
    ) { slice throws(EngineError) in
      try ThreadTeam.run(parts: parts, interruption) { member in
        let (own, sum) = (work.products[member.index], work.sums[member.index])
        own.first.load(u)
        var hasFirst = false
        for place in member.share(of: slice.count) {
          let k = slice.lowerBound + place
          if !isOne[k] { own.second.load(v + k * length) }
          sum.begin(into: out + k * length)
          for rows in pieces where !member.isStopped {
            let (target, update) = sum.next(rows.count)
            member.inPieces(rows, weight: saturating(6, weight)) {
              own.run(
                pass, work.terms, $0, origin: rows.lowerBound, isOne: isOne[k], hasFirst: hasFirst, member)
            }
            for (index, layer) in net.layers.enumerated() {
              member.inPieces(0..<layer.rows, weight: saturating(8, rows.count, layer.width)) {
                own.collect(
                  index, $0, pass, rows, origin: rows.lowerBound, isOne: isOne[k], update, into: target)
              }
            }
          }
          sum.finish()
          hasFirst = pieces.count == 1
        }
      }
    }
  }

  /// All threads work on each: each takes some samples, then some rows of every layer's result.
  private func sharedThirds(
    _ work: ThirdWork<Element>, _ u: UnsafePointer<Element>, _ v: UnsafePointer<Element>, _ isOne: [Bool],
    _ parts: Int, into out: UnsafeMutablePointer<Element>, _ interruption: Interruption
  ) throws(EngineError) {
    let length = net.parameterCount
    let step = piece * parts
    // A member may have to do all parts; and there is a sum for each result, as there are fewer than parts.
    try work.prepare(pass, parts, rows: min(step, pass.rows))
    for k in isOne.indices { work.sums[k].begin(into: out + k * length) }
    for first in Swift.stride(from: 0, to: pass.rows, by: step) {
      try interruption.check()
      let rows = first..<min(first + step, pass.rows)
      let places = isOne.indices.map { work.sums[$0].next(rows.count) }
      try ThreadTeam.run(parts: parts, interruption) { member in
        let own = work.products[member.index]
        take(u, own.first, from: work.products[0].first, member)
        for k in isOne.indices {
          if !isOne[k] { take(v + k * length, own.second, from: work.products[0].second, member) }
          sharedThird(work, rows, isOne[k], hasFirst: k > 0, places[k].1, into: places[k].0, member)
          // The next one's tangents are in the place of these.
          member.barrier()
        }
      }
    }
    for k in isOne.indices { work.sums[k].finish() }
  }

  private func take(
    _ flat: UnsafePointer<Element>, _ own: CurvatureProduct<Element>, from first: CurvatureProduct<Element>,
    _ member: ThreadTeam.Member
  ) {
    guard pass.isShared else { return own.load(flat) }
    own.load(flat, sharing: first, member)
    member.barrier()
  }

  /// One member's part of it over `rows` of the pass.
  private func sharedThird(
    _ work: ThirdWork<Element>, _ rows: Range<Int>, _ isOne: Bool, hasFirst: Bool, _ update: Update,
    into out: UnsafeMutablePointer<Element>, _ member: ThreadTeam.Member
  ) {
    let start = rows.lowerBound
    func samples(_ part: Int) -> Range<Int> {
      let share = member.share(of: rows.count, part: part)
      return start + share.lowerBound..<start + share.upperBound
    }
    // A member that does all parts keeps them side by side.
    func origin(_ part: Int) -> Int { member.count == 1 ? start : samples(part).lowerBound }
    for part in member.parts {
      member.inPieces(samples(part), weight: saturating(6, weight)) {
        work.products[member.index].run(
          pass, work.terms, $0, origin: origin(part), isOne: isOne, hasFirst: hasFirst, member)
      }
    }
    member.barrier()
    for share in member.parts {
      var now = update
      for part in 0..<member.partCount where !samples(part).isEmpty {
        let source = work.products[member.count == 1 ? 0 : part]
        for (index, layer) in net.layers.enumerated() {
          member.inPieces(
            member.share(of: layer.rows, part: share), weight: saturating(8, samples(part).count, layer.width)
          ) {
            source.collect(
              index, $0, pass, samples(part), origin: origin(part), isOne: isOne, now, into: out)
          }
        }
        now = .add
      }
    }
  }
}
