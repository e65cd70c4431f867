/// Every derivative of the loss of a net of any layers, over any number of samples, in blocks of bounded memory.
///
/// The bits of a result depend on the samples alone, not on the number of threads. Calls from several threads work side
/// by side, each in memory of its own.
final class GraphDerivatives<Element: KernelScalar>: @unchecked Sendable {
  let graph: NetworkGraph
  let layout: PlyLayout
  private let spare = Spares<GraphTeam<Element>>(4)

  init(_ graph: NetworkGraph) {
    self.graph = graph
    layout = PlyLayout(graph)
  }

  var length: Int { graph.parameterCount }

  // MARK: Teams

  /// Threads for so many passes over the samples.
  func threads(_ samples: Int, _ passes: Int) -> Int {
    Threads.forWork(of: saturating(6, graph.work, samples, passes))
  }

  func lanes(_ samples: Int, _ algebra: TaylorAlgebra, sums: Int) -> GraphLanes {
    let stride = MemoryLayout<Element>.stride
    return GraphLanes(
      samples: samples, bytesPerSample: saturating(layout.perSample, algebra.count, stride),
      sumBytes: saturating(sums, length, stride))
  }

  /// Runs `body` with workers for blocks of `rows` samples, one for each of `parts` members.
  func withTeam<Result>(
    _ algebra: TaylorAlgebra, rows: Int, parts: Int, _ w: UnsafePointer<Element>,
    hasRow: Bool = false, interruption: Interruption,
    _ body: (GraphTeam<Element>) throws(EngineError) -> Result
  ) throws(EngineError) -> Result {
    let found = spare.take {
      $0.algebra == algebra && $0.capacity >= rows && $0.capacity <= 2 * rows + 8 && $0.workers.count >= parts
    }
    let team: GraphTeam<Element>
    if let found {
      team = found
    } else {
      team = try GraphTeam(graph, layout, algebra, capacity: rows, parts: parts)
    }
    defer { spare.give(team) }
    if hasRow { for worker in team.workers { try worker.makeRow() } }
    try ThreadTeam.run(parts: 1, interruption) { team.weights.load(w, $0) }
    return try body(team)
  }

  /// Runs `body` on every block of samples, on as many threads as that is worth: (worker, block, samples, member).
  func inBlocks(
    _ w: UnsafePointer<Element>, _ samples: Int, passes: Int, hasRow: Bool = false, interruption: Interruption,
    _ body: (GraphTeam<Element>, GraphWorker<Element>, Int, Range<Int>, ThreadTeam.Member) -> Void
  ) throws(EngineError) {
    let algebra = TaylorAlgebra.series(order: 1)
    let lanes = self.lanes(samples, algebra, sums: 1)
    let parts = min(threads(samples, passes), max(lanes.blocks, 1))
    try withTeam(algebra, rows: lanes.rows, parts: parts, w, hasRow: hasRow, interruption: interruption) {
      team throws(EngineError) in
      try ThreadTeam.run(parts: parts, interruption) { member in
        for block in member.share(of: lanes.blocks) where !member.isStopped {
          body(team, team.workers[member.index], block, lanes.samples(block), member)
        }
      }
    }
  }

  /// Bytes that a point on so many samples keeps, and that a call works in.
  func memory(_ samples: Int) -> (point: Int, working: Int) {
    let stride = MemoryLayout<Element>.stride
    let lanes = self.lanes(samples, .series(order: 1), sums: 1)
    let sample = saturating(layout.perSample, stride)
    let passes = saturating(sample, samples)
    // Where not all passes are kept, the samples are.
    let inputs = saturating(graph.inputs, samples, stride)
    let point =
      passes <= GraphPoint<Element>.keptBytes ? passes : saturating(sum: GraphPoint<Element>.keptBytes, inputs)
    let parameters = saturating(length, stride)
    var stacked = 0
    if case .convolution(let layer) = graph.nodes[0].layer {
      stacked = ConvolutionStack<Element>.numbers(layer, rows: lanes.rows)
    }
    let working = saturating(
      sum: saturating(
        Threads.count,
        saturating(sum: saturating(2, sample, lanes.rows), saturating(2, parameters), saturating(stacked, stride))),
      saturating(lanes.lanes, parameters))
    return (point, working)
  }

  // MARK: Values and gradients

  func loss(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, interruption: Interruption
  ) throws(EngineError) -> Double {
    let blocks = lanes(samples.count, .series(order: 1), sums: 1).blocks
    let losses = try Storage<Double>(count: blocks)
    try inBlocks(w, samples.count, passes: 1, interruption: interruption) { team, worker, block, range, member in
      losses.base[block] = worker.run(
        team.weights, samples, range, keeping: .outputs, into: worker.block, member)
    }
    return (0..<blocks).reduce(0) { $0 + losses.base[$1] }
  }

  func predict(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    nonisolated(unsafe) let out = out
    try inBlocks(w, samples.count, passes: 1, interruption: interruption) { team, worker, _, range, member in
      _ = worker.run(
        team.weights, samples, range, keeping: .outputs, into: worker.block, hasTargets: false, member)
      // bounded: places in `out`
      (out + range.lowerBound * graph.outputs).update(
        from: worker.outputs(worker.block).base, count: range.count * graph.outputs)
    }
  }

  /// Sets the gradient and returns the loss.
  func gradient(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) -> Double {
    let algebra = TaylorAlgebra.series(order: 1)
    let lanes = self.lanes(samples.count, algebra, sums: 1)
    let parts = min(threads(samples.count, 3), lanes.lanes)
    let losses = try Storage<Double>(count: lanes.blocks)
    try withTeam(algebra, rows: lanes.rows, parts: parts, w, interruption: interruption) { team throws(EngineError) in
      try team.addUp(lanes, length: length, into: [out], parts: parts, interruption: interruption) {
        worker, block, sums, member in
        losses.base[block] = worker.run(
          team.weights, samples, lanes.samples(block), keeping: .gradient, into: worker.block, member)
        worker.gradient(worker.block, team.weights, samples, into: sums[0], member)
      }
    }
    return (0..<lanes.blocks).reduce(0) { $0 + losses.base[$1] }
  }

  /// The gradient of every sample's own loss, rows of `out`.
  func perSampleGradients(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    nonisolated(unsafe) let out = out
    try inBlocks(w, samples.count, passes: 3, interruption: interruption) { team, worker, _, range, member in
      _ = worker.run(team.weights, samples, range, keeping: .gradient, into: worker.block, member)
      for row in 0..<range.count where !member.isStopped {
        let target = out + (range.lowerBound + row) * length  // bounded: a place in `out`
        member.clear(target, count: length)
        worker.gradient(worker.block, team.weights, samples, row..<row + 1, into: target, member)
      }
    }
  }

  // MARK: Products

  /// `count` products of the matrix with rows of `v`.
  func products(
    _ kind: CurvatureKind, _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ v: UnsafePointer<Element>,
    _ count: Int, into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let algebra = TaylorAlgebra.series(order: 1)
    let lanes = self.lanes(samples.count, algebra, sums: 1)
    try withTeam(algebra, rows: lanes.rows, parts: productParts(lanes, count), w, interruption: interruption) {
      team throws(EngineError) in
      try products(team, lanes, samples, count, { (v + $0 * length, out + $0 * length) }, interruption: interruption) {
        worker, block, member in
        _ = worker.run(
          team.weights, samples, lanes.samples(block), keeping: .curvature, into: worker.block, member)
        return worker.block
      } body: { worker, block, directions, targets, member in
        worker.products(kind, block, team.weights, samples, directions, into: targets, member)
      }
    }
  }

  /// As many of `count` directions at once as their lanes' sums have room for.
  func slice(of count: Int, _ lanes: GraphLanes) -> Int {
    // Of each the sums, and it and its matrices transposed.
    let bytes = saturating(saturating(sum: lanes.lanes, 1), length, MemoryLayout<Element>.stride)
    return max(1, min(count, 64, (256 << 20) / max(bytes, 1)))
  }

  func productParts(_ lanes: GraphLanes, _ count: Int) -> Int {
    min(threads(lanes.samples, saturating(3, count)), saturating(lanes.lanes, count))
  }

  /// Adds up over all blocks what `body` adds for `count` directions: `row` gives one, and where its sum goes.
  /// `prepare` gives a block with its pass.
  func products(
    _ team: GraphTeam<Element>, _ lanes: GraphLanes, _ samples: Samples<Element>, _ count: Int,
    _ row: (Int) -> (UnsafePointer<Element>, UnsafeMutablePointer<Element>), interruption: Interruption,
    _ prepare: (GraphWorker<Element>, Int, ThreadTeam.Member) -> GraphBlock<Element>,
    body: (
      GraphWorker<Element>, GraphBlock<Element>, ArraySlice<LayerParameters<Element>>, [UnsafeMutablePointer<Element>],
      ThreadTeam.Member
    ) -> Void
  ) throws(EngineError) {
    if count > 1 { for worker in team.workers { try worker.makeStack() } }
    let parts = min(productParts(lanes, count), team.workers.count)
    let slice = slice(of: count, lanes)
    let total = count
    for first in Swift.stride(from: 0, to: total, by: slice) {
      try interruption.check()
      let count = min(slice, total - first)
      nonisolated(unsafe) let rows = (first..<first + count).map(row)
      // Directions apart where lanes alone do not keep all threads busy.
      let groups = lanes.lanes >= 2 * parts ? 1 : min(count, (4 * parts + lanes.lanes - 1) / lanes.lanes)
      let all = try team.sums(lanes.lanes, length: length, into: rows.map(\.1))
      let directions = try team.directions(count)
      try ThreadTeam.run(parts: parts, interruption) { member in
        for k in member.share(of: count) where !member.isStopped { directions[k].load(rows[k].0, member) }
        member.barrier()
        let worker = team.workers[member.index]
        for task in member.share(of: lanes.lanes * groups) where !member.isStopped {  // bounded: a few hundred
          let (lane, group) = (task / groups, task % groups)
          let own = count * group / groups..<count * (group + 1) / groups
          for k in own { all[k].clear(lane, member) }
          let targets = own.map { all[$0].lane(lane) }
          for block in lanes.blocks(lane) where !member.isStopped {
            body(worker, prepare(worker, block, member), directions[own], targets, member)
          }
        }
        member.barrier()
        for sum in all { sum.finish(member) }
      }
    }
  }

  // MARK: Jacobians

  /// J v for `count` rows of v: [count, samples, outputs].
  func jvp(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ v: UnsafePointer<Element>, _ count: Int,
    into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    nonisolated(unsafe) let (v, out) = (v, out)
    let outputs = graph.outputs
    try inBlocks(w, samples.count, passes: saturating(2, count), interruption: interruption) {
      team, worker, _, range, member in
      _ = worker.run(
        team.weights, samples, range, keeping: .gradient, into: worker.block, hasTargets: false, member)
      for k in 0..<count where !member.isStopped {
        let direction = worker.directions[0]
        direction.load(v + k * length, member)  // bounded: rows of v and places in `out`
        let tangents = worker.tangent(worker.block, team.weights, along: direction, samples, member)
        (out + (k * samples.count + range.lowerBound) * outputs).update(
          from: tangents.base, count: range.count * outputs)
      }
    }
  }

  /// Jᵀ u for `count` cotangents [count, samples, outputs].
  func vjp(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, _ u: UnsafePointer<Element>, _ count: Int,
    into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    nonisolated(unsafe) let u = u
    let outputs = graph.outputs
    let algebra = TaylorAlgebra.series(order: 1)
    let lanes = self.lanes(samples.count, algebra, sums: 1)
    let parts = min(threads(samples.count, saturating(2, count)), lanes.lanes)
    let slice = slice(of: count, lanes)
    try withTeam(algebra, rows: lanes.rows, parts: parts, w, interruption: interruption) { team throws(EngineError) in
      for first in Swift.stride(from: 0, to: count, by: slice) {
        let all = first..<min(first + slice, count)
        // bounded: rows of `out`
        try team.addUp(
          lanes, length: length, into: all.map { out + $0 * length }, parts: parts, interruption: interruption
        ) { worker, block, sums, member in
          let range = lanes.samples(block)
          _ = worker.run(
            team.weights, samples, range, keeping: .gradient, into: worker.block, hasTargets: false, member)
          for k in all where !member.isStopped {
            // bounded: places in `u`
            worker.cotangent(worker.block).base.update(
              from: u + (k * samples.count + range.lowerBound) * outputs, count: range.count * outputs)
            worker.pullBack(worker.block, team.weights, samples, member)
            worker.pulledGradient(
              worker.block, team.weights, samples, 0..<range.count, into: sums[k - first], member)
          }
        }
      }
    }
  }

  /// ∂outputs/∂w: [samples, outputs, parameters].
  func jacobian(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    nonisolated(unsafe) let out = out
    try eachJacobian(w, samples, interruption: interruption) { sample, output, row, member in
      member.copy(row, to: out + (sample * graph.outputs + output) * length, count: length)  // bounded: a row of `out`
    }
  }

  /// Calls `body` with rows of the Jacobian, all outputs of one sample after the other, on several threads.
  func eachJacobian(
    _ w: UnsafePointer<Element>, _ samples: Samples<Element>, interruption: Interruption,
    _ body: (Int, Int, UnsafeMutablePointer<Element>, ThreadTeam.Member) -> Void
  ) throws(EngineError) {
    let outputs = graph.outputs
    try inBlocks(w, samples.count, passes: saturating(3, outputs), hasRow: true, interruption: interruption) {
      team, worker, _, range, member in
      _ = worker.run(
        team.weights, samples, range, keeping: .gradient, into: worker.block, hasTargets: false, member)
      guard let row = worker.row else { return }
      for output in 0..<outputs where !member.isStopped {
        let cotangent = worker.cotangent(worker.block)
        cotangent.base.update(repeating: 0, count: range.count * outputs)  // bounded: the cotangents
        for sample in 0..<range.count { cotangent[sample, output] = 1 }
        worker.pullBack(worker.block, team.weights, samples, member)
        for sample in 0..<range.count where !member.isStopped {
          member.clear(row.base, count: length)
          worker.pulledGradient(worker.block, team.weights, samples, sample..<sample + 1, into: row.base, member)
          body(range.lowerBound + sample, output, row.base, member)
        }
      }
    }
  }
}

/// The weights, a worker for each thread, and room for their sums.
final class GraphTeam<Element: KernelScalar>: @unchecked Sendable {
  private let graph: NetworkGraph
  let algebra: TaylorAlgebra
  let capacity: Int
  let weights: LayerParameters<Element>
  let workers: [GraphWorker<Element>]

  init(
    _ graph: NetworkGraph, _ layout: PlyLayout, _ algebra: TaylorAlgebra, capacity: Int, parts: Int
  ) throws(EngineError) {
    self.graph = graph
    self.algebra = algebra
    self.capacity = capacity
    weights = try LayerParameters(graph)
    var workers: [GraphWorker<Element>] = []
    for _ in 0..<parts { workers.append(try GraphWorker(graph, layout, algebra, capacity: capacity)) }
    self.workers = workers
  }

  private var loaded: [LayerParameters<Element>] = []

  /// Room for `count` directions that all workers read.
  func directions(_ count: Int) throws(EngineError) -> [LayerParameters<Element>] {
    while loaded.count < count { loaded.append(try LayerParameters(graph)) }
    return Array(loaded.prefix(count))
  }

  /// Directions for every worker, the first of those of their algebra.
  func load(_ directions: [UnsafePointer<Element>], _ interruption: Interruption) throws(EngineError) {
    try ThreadTeam.run(parts: 1, interruption) { member in
      for worker in workers {
        for (number, direction) in directions.enumerated() where !member.isStopped {
          worker.directions[number].load(direction, member)
        }
      }
    }
  }

  private var room: Storage<Element>?

  /// Adds up what `body` adds for every block of samples, in a sum for each place in `out`: (worker, block, where the
  /// sums of its lane are, member). Lanes are shared among `parts` members, and added up in their order.
  func addUp(
    _ lanes: GraphLanes, length: Int, into out: [UnsafeMutablePointer<Element>], parts: Int,
    interruption: Interruption,
    _ body: (GraphWorker<Element>, Int, [UnsafeMutablePointer<Element>], ThreadTeam.Member) -> Void
  ) throws(EngineError) {
    let sums = try self.sums(lanes.lanes, length: length, into: out)
    try ThreadTeam.run(parts: parts, interruption) { member in
      for lane in member.share(of: lanes.lanes) {
        for sum in sums { sum.clear(lane, member) }
        let places = sums.map { $0.lane(lane) }
        for block in lanes.blocks(lane) where !member.isStopped {
          body(workers[member.index], block, places, member)
        }
      }
      member.barrier()
      for sum in sums { sum.finish(member) }
    }
  }

  /// Sums of lanes, one for each place in `out`; those before are done with.
  func sums(
    _ lanes: Int, length: Int, into out: [UnsafeMutablePointer<Element>]
  ) throws(EngineError) -> [LaneSums<Element>] {
    let each = LaneSums<Element>.room(lanes, length: length)
    let all = saturating(each, out.count)
    let found: Storage<Element>
    if let room, room.count >= all { found = room } else { found = try Storage(count: all) }
    room = found
    // bounded: the room's size
    return out.enumerated().map {
      LaneSums(lanes, length: length, into: $1, others: found.base + $0 * each)
    }
  }
}
