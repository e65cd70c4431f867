/// Directions, and the pairs of them that third derivatives are wanted along, in this order.
struct ThirdPairs<Element: KernelScalar>: @unchecked Sendable {
  let directions: [UnsafePointer<Element>]
  let pairs: [(Int, Int)]
  /// Whether each direction has a place of its own, as most are in several pairs; else two places serve all.
  private let isShared: Bool

  /// More directions than this take the tangents of the second one of a pair anew: memory.
  private static var few: Int { 8 }

  /// u and each of `count` rows of v.
  init(
    _ u: UnsafePointer<Element>, _ v: UnsafePointer<Element>, _ count: Int, length: Int, _ interruption: Interruption
  ) throws(EngineError) {
    var pairs: [(Int, Int)] = []
    for k in 0..<count {
      pairs.append((0, try isSame(u, v + k * length, count: length, interruption) ? 0 : k + 1))
    }
    directions = [u] + (0..<count).map { v + $0 * length }
    self.pairs = pairs
    isShared = false
  }

  /// All pairs i ≤ j of `count` rows of u.
  init(_ u: UnsafePointer<Element>, _ count: Int, length: Int) {
    directions = (0..<count).map { u + $0 * length }
    pairs = (0..<count).flatMap { i in (i..<count).map { (i, $0) } }
    isShared = count <= Self.few
  }

  var placeCount: Int { isShared ? directions.count : 2 }

  /// Where the directions of a pair have their tangents.
  func places(_ pair: (Int, Int)) -> (Int, Int) { isShared ? pair : (0, pair.0 == pair.1 ? 0 : 1) }
}

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

  /// Makes sure of memory for `count` threads, each for `rows` samples along so many directions, and of `sums`.
  fileprivate func prepare(
    _ pass: NetworkPass<Element>, _ count: Int, rows: Int, places: Int, sums wanted: Int
  ) throws(EngineError) {
    while sums.count < wanted { sums.append(try ChunkSum(length: pass.net.parameterCount, samples: pass.rows)) }
    for thread in 0..<count {
      if thread == products.count || products[thread].capacity < rows {
        let made = try ThirdProduct<Element>(pass.net, capacity: rows, thread: thread)
        if thread < products.count { products[thread] = made } else { products.append(made) }
      }
      try products[thread].reserve(places)
    }
  }
}

extension Linearization {
  /// The third derivatives along pairs, as rows of `out`; of a point that keeps images.
  func thirds(
    _ wanted: ThirdPairs<Element>, into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let (length, count) = (net.parameterCount, wanted.pairs.count)
    let work = try thirdWork(interruption)
    let parts = self.parts(pass.rows, saturating(2, count))
    if count < parts {
      try sharedThirds(work, wanted, parts, into: out, interruption)
    } else {
      try wholeThirds(work, wanted, parts, into: out, interruption)
    }
    // They were half of what they are to be.
    for (k, pair) in wanted.pairs.enumerated() where pair.0 == pair.1 {
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

  /// Each thread takes some of the pairs, and tangents along one direction once for all of these.
  private func wholeThirds(
    _ work: ThirdWork<Element>, _ wanted: ThirdPairs<Element>, _ parts: Int, into out: UnsafeMutablePointer<Element>,
    _ interruption: Interruption
  ) throws(EngineError) {
    let (length, pairs, pieces) = (net.parameterCount, wanted.pairs, self.pieces(pass.rows))
    // Sums of many samples in float32 take memory, and a thread has one.
    let isBlocked = ChunkSum<Element>.isBlocked(pass.rows)
    try work.prepare(
      pass, parts, rows: min(piece, pass.rows), places: wanted.placeCount, sums: isBlocked ? parts : pairs.count)
    try ThreadTeam.run(parts: parts, interruption) { member in
      let own = work.products[member.index]
      own.forget()
      let share = member.share(of: pairs.count)
      for first in Swift.stride(from: share.lowerBound, to: share.upperBound, by: isBlocked ? 1 : max(share.count, 1)) {
        let some = first..<(isBlocked ? first + 1 : share.upperBound)
        func sum(_ k: Int) -> ChunkSum<Element> { work.sums[isBlocked ? member.index : k] }
        for k in some { sum(k).begin(into: out + k * length) }
        for rows in pieces where !member.isStopped {
          if pieces.count > 1 { own.forgetTangents() }
          for k in some where !member.isStopped {
            let places = tangents(work, wanted, pairs[k], [rows], { _ in rows.lowerBound }, member) { place, v in
              own.places[place].load(v)
            }
            let (target, update) = sum(k).next(rows.count)
            for (index, layer) in net.layers.enumerated() {
              member.inPieces(0..<layer.rows, weight: saturating(8, rows.count, layer.width)) {
                own.collect(places, index, $0, pass, rows, origin: rows.lowerBound, update, into: target)
              }
            }
          }
        }
        for k in some where !member.isStopped { sum(k).finish() }
      }
    }
  }

  /// All threads work on each: each takes some samples, then some rows of every layer's result.
  private func sharedThirds(
    _ work: ThirdWork<Element>, _ wanted: ThirdPairs<Element>, _ parts: Int, into out: UnsafeMutablePointer<Element>,
    _ interruption: Interruption
  ) throws(EngineError) {
    let length = net.parameterCount
    let step = piece * parts
    // A member may have to do all parts; and there is a sum for each result, as there are fewer than parts.
    try work.prepare(pass, parts, rows: min(step, pass.rows), places: wanted.placeCount, sums: wanted.pairs.count)
    for k in wanted.pairs.indices { work.sums[k].begin(into: out + k * length) }
    for first in Swift.stride(from: 0, to: pass.rows, by: step) {
      try interruption.check()
      let rows = first..<min(first + step, pass.rows)
      let targets = wanted.pairs.indices.map { work.sums[$0].next(rows.count) }
      try ThreadTeam.run(parts: parts, interruption) { member in
        work.products[member.index].forget()
        for (k, pair) in wanted.pairs.enumerated() {
          sharedThird(work, wanted, pair, rows, targets[k].1, into: targets[k].0, member)
          // The next one's tangents may be in the place of these.
          member.barrier()
        }
      }
    }
    for k in wanted.pairs.indices { work.sums[k].finish() }
  }

  /// One member's part of it over `rows` of the pass.
  private func sharedThird(
    _ work: ThirdWork<Element>, _ wanted: ThirdPairs<Element>, _ pair: (Int, Int), _ rows: Range<Int>,
    _ update: Update, into out: UnsafeMutablePointer<Element>, _ member: ThreadTeam.Member
  ) {
    let (start, own) = (rows.lowerBound, work.products[member.index])
    func samples(_ part: Int) -> Range<Int> {
      let share = member.share(of: rows.count, part: part)
      return start + share.lowerBound..<start + share.upperBound
    }
    // A member that does all parts keeps them side by side.
    func origin(_ samples: Range<Int>) -> Int { member.count == 1 ? start : samples.lowerBound }
    let places = tangents(work, wanted, pair, member.parts.map(samples), origin, member) { place, v in
      guard pass.isShared else { return own.places[place].load(v) }
      own.places[place].load(v, sharing: work.products[0].places[place], member)
      member.barrier()
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
            source.collect(places, index, $0, pass, samples(part), origin: origin(samples(part)), now, into: out)
          }
        }
        now = .add
      }
    }
  }

  /// A member's tangents of ranges of samples along both directions, where they are missing, and the mixed ones; returns
  /// the places. All members come to `load` for the same places, stopped or not.
  private func tangents(
    _ work: ThirdWork<Element>, _ wanted: ThirdPairs<Element>, _ pair: (Int, Int), _ parts: [Range<Int>],
    _ origin: (Range<Int>) -> Int, _ member: ThreadTeam.Member,
    _ load: (Int, UnsafePointer<Element>) -> Void
  ) -> (Int, Int) {
    let (own, places) = (work.products[member.index], wanted.places(pair))
    func along(_ direction: Int, _ place: Int) {
      guard own.isNew(direction, in: place, { load(place, wanted.directions[direction]) }) else { return }
      for part in parts {
        member.inPieces(part, weight: saturating(2, weight)) {
          own.run(place, pass, $0, origin: origin(part), member)
        }
      }
    }
    along(pair.0, places.0)
    if pair.0 != pair.1 { along(pair.1, places.1) }
    for part in parts {
      member.inPieces(part, weight: saturating(3, weight)) {
        own.run(places, pass, work.terms, $0, origin: origin(part), member)
      }
    }
    return places
  }
}
