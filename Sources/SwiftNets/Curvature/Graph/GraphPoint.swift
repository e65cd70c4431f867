/// A net of any layers at a point on a set of samples, with its passes kept: products with curvature matrices cost no
/// more than their own arithmetic. Of passes that take more than `keptBytes` the rest is made anew for each product.
/// Calls from several threads take turns.
final class GraphPoint<Element: KernelScalar>: @unchecked Sendable {
  private let derivatives: GraphDerivatives<Element>
  private let lanes: GraphLanes
  private let blocks: [GraphBlock<Element>?]
  /// Copies, so far as anything of them is read again.
  private let samples: Samples<Element>
  private let copies: [Storage<Element>]
  private let weights: Storage<Element>

  static var keptBytes: Int { 1 << 30 }

  var rows: Int { lanes.samples }
  var evaluates: Bool { blocks.contains { $0 == nil } }

  /// Runs the passes, sets the gradient and the loss.
  init(
    _ derivatives: GraphDerivatives<Element>, _ w: UnsafePointer<Element>, _ samples: Samples<Element>,
    gradient: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let algebra = TaylorAlgebra.series(order: 1)
    let lanes = derivatives.lanes(samples.count, algebra, sums: 1)
    var blocks: [GraphBlock<Element>?] = []
    let blockBytes = saturating(derivatives.layout.perSample, lanes.rows, MemoryLayout<Element>.stride)
    for block in 0..<lanes.blocks {
      // A block's pages are made here where it is small.
      try interruption.check()
      let isKept = saturating(block + 1, blockBytes) <= Self.keptBytes
      blocks.append(
        isKept
          ? try GraphBlock(derivatives.graph, derivatives.layout, capacity: lanes.samples(block).count) : nil)
    }
    (self.samples, copies) = try Self.kept(
      samples, derivatives.graph, copying: blocks.contains { $0 == nil }, interruption)
    let all = blocks
    let length = derivatives.length
    weights = try Storage(count: length)
    let weights = self.weights
    try ThreadTeam.run(parts: 1, interruption) { $0.copy(w, to: weights.base, count: length) }
    let parts = min(derivatives.threads(samples.count, 3), lanes.lanes)
    let losses = try Storage<Double>(count: lanes.blocks)
    try derivatives.withTeam(algebra, rows: lanes.rows, parts: parts, w, interruption: interruption) {
      team throws(EngineError) in
      try team.addUp(lanes, length: length, into: [gradient], parts: parts, interruption: interruption) {
        worker, block, sums, member in
        let place = all[block] ?? worker.block
        losses.base[block] = worker.run(
          team.weights, samples, lanes.samples(block), keeping: .curvature, into: place, member)
        worker.gradient(place, team.weights, samples, into: sums[0], member)
      }
    }
    self.derivatives = derivatives
    self.lanes = lanes
    self.blocks = blocks
    loss = (0..<lanes.blocks).reduce(0) { $0 + losses.base[$1] }
  }

  let loss: Double

  /// Samples to be read again after the call: all of them where some passes are, else only the tokens, a copy already.
  private static func kept(
    _ samples: Samples<Element>, _ graph: NetworkGraph, copying: Bool, _ interruption: Interruption
  ) throws(EngineError) -> (Samples<Element>, [Storage<Element>]) {
    guard copying else { return (samples, []) }
    var copies: [Storage<Element>] = []
    func copy(_ source: UnsafePointer<Element>, _ count: Int) throws(EngineError) -> UnsafeMutablePointer<Element> {
      let storage = try Storage<Element>(count: count)
      try ThreadTeam.run(parts: 1, interruption) { $0.copy(source, to: storage.base, count: count) }
      copies.append(storage)
      return storage.base
    }
    let (count, columns) = (samples.count, samples.inputs.columns)
    let inputs = Matrix(
      borrowing: try copy(samples.inputs.base, columns == 0 ? 0 : saturating(count, columns)), rows: count,
      columns: columns)
    var targets = samples.targets
    if case .rows(let rows) = targets {
      targets = .rows(
        Matrix(
          borrowing: try copy(rows.base, saturating(count, rows.columns)), rows: count, columns: rows.columns))
    }
    let weights = try samples.weights.map { weights throws(EngineError) in
      UnsafePointer(try copy(weights, count))
    }
    let found = Samples(
      inputs: inputs, tokens: samples.tokens, targets: targets, weights: weights, scale: samples.scale)
    return (found, copies)
  }

  /// `count` products of the matrix: `row` gives a direction, and where its product goes.
  private func products(
    _ kind: CurvatureKind, _ count: Int, _ row: (Int) -> (UnsafePointer<Element>, UnsafeMutablePointer<Element>),
    interruption: Interruption
  ) throws(EngineError) {
    let parts = derivatives.productParts(lanes, count)
    try derivatives.withTeam(
      .series(order: 1), rows: lanes.rows, parts: parts, weights.base, interruption: interruption
    ) { team throws(EngineError) in
      try derivatives.products(team, lanes, samples, count, row, interruption: interruption) {
        worker, block, member in
        if let kept = blocks[block] { return kept }
        _ = worker.run(
          team.weights, samples, lanes.samples(block), keeping: .curvature, into: worker.block, member)
        return worker.block
      } body: { worker, block, directions, targets, member in
        worker.products(kind, block, team.weights, samples, directions, into: targets, member)
      }
    }
  }

  func products(
    _ kind: CurvatureKind, _ v: UnsafePointer<Element>, _ count: Int, into out: UnsafeMutablePointer<Element>,
    interruption: Interruption
  ) throws(EngineError) {
    let length = derivatives.length
    // bounded: rows of both
    try products(kind, count, { (v + $0 * length, out + $0 * length) }, interruption: interruption)
  }

  /// Coefficients of `count` Lanczos runs; see `Linearization.lanczos`.
  func lanczos(
    _ kind: CurvatureKind, shift: Element, _ starts: UnsafePointer<Element>, _ count: Int, steps: Int,
    diagonal: UnsafeMutablePointer<Element>, offDiagonal: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let length = derivatives.length
    let atOnce = min(count, 8)
    let vectors = try Matrix<Element>(rows: saturating(3, max(atOnce, 1)), columns: length)
    for first in Swift.stride(from: 0, to: count, by: max(atOnce, 1)) {
      var runs: [LanczosRun<Element>] = []
      for index in 0..<min(atOnce, count - first) {
        let run = first + index  // bounded: rows of the arrays
        runs.append(
          try LanczosRun(
            memory: vectors.rows(3 * index..<3 * index + 3), start: starts + run * length, shift: shift,
            diagonal: diagonal + run * steps, offDiagonal: offDiagonal + run * steps))
      }
      for step in 0..<steps {
        let now = runs
        try products(
          kind, now.count, { (UnsafePointer(now[$0].vector), now[$0].image) }, interruption: interruption)
        for run in runs { run.advance(step) }
      }
      for run in runs where !run.isFinite { throw .notFinite("a Lanczos coefficient is not finite") }
    }
  }
}
