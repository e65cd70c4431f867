/// Where the arrays of a net are, of one Taylor coefficient over a block of samples.
struct PlyLayout: Sendable {
  /// Numbers a sample of each array: values, their cotangents, then the nodes' states and costates.
  let sizes: [Int]
  let valueCount: Int
  /// The first of each node's states and costates in `sizes`.
  let states: [Int]
  let costates: [Int]
  /// All of it, a sample.
  let perSample: Int

  init(_ graph: NetworkGraph) {
    // Tokens have no numbers here.
    var sizes = graph.shapes.map { $0.kind == .tokens ? 0 : $0.count }
    valueCount = sizes.count
    sizes += sizes
    var states: [Int] = []
    var costates: [Int] = []
    for node in graph.nodes {
      states.append(sizes.count)
      sizes += node.layer.stateSizes
      costates.append(sizes.count)
      sizes += node.layer.costateSizes
    }
    self.sizes = sizes
    self.states = states
    self.costates = costates
    perSample = sizes.reduce(0) { saturating(sum: $0, $1) }
  }
}

/// The arrays of one Taylor coefficient of a net over a block of samples, each [samples, size] without padding.
final class Ply<Element: KernelScalar> {
  let capacity: Int
  private let storage: Storage<Element>
  private let bases: [UnsafeMutablePointer<Element>]

  init(_ layout: PlyLayout, capacity: Int) throws(EngineError) {
    self.capacity = capacity
    var offsets: [Int] = []
    var end = 0
    for size in layout.sizes {
      offsets.append(end)
      end = saturating(sum: end, roundedUp(saturating(size, capacity), to: 64 / MemoryLayout<Element>.stride))
    }
    storage = try Storage(count: end)
    let base = storage.base
    bases = offsets.map { base + $0 }
  }

  /// Array `index` of the layout.
  @inline(__always)
  func array(_ index: Int) -> UnsafeMutablePointer<Element> { bases[index] }
}

/// A flat parameter vector or a direction, with slack for kernels behind it, and the matrices of it transposed that the
/// way back wants.
final class LayerParameters<Element: KernelScalar> {
  private let graph: NetworkGraph
  let flat: Storage<Element>
  private let transposed: Storage<Element>
  private let firsts: [[Int]]

  init(_ graph: NetworkGraph) throws(EngineError) {
    self.graph = graph
    var firsts: [[Int]] = []
    var end = 0
    for node in graph.nodes {
      var own: [Int] = []
      for matrix in node.layer.transposes {
        own.append(end)
        end = saturating(sum: end, roundedUp(matrix.count, to: Element.lanes))
      }
      firsts.append(own)
    }
    self.firsts = firsts
    flat = try Storage(count: graph.parameterCount)
    transposed = try Storage(count: end)
  }

  /// Takes them from a flat vector.
  func load(_ source: UnsafePointer<Element>, _ member: ThreadTeam.Member) {
    member.copy(source, to: flat.base, count: graph.parameterCount)
    for (index, node) in graph.nodes.enumerated() {
      for (number, matrix) in node.layer.transposes.enumerated() {
        let size = matrix.rows * matrix.columns  // bounded: part of the parameters
        for block in 0..<matrix.blocks where !member.isStopped {
          member.transpose(
            matrix.rows, matrix.columns, flat.base + node.offset + matrix.offset + block * size, matrix.columns,
            transposed.base + firsts[index][number] + (matrix.blocks - 1 - block) * size, matrix.rows)
        }
      }
    }
  }

  /// Matrix `number` of those that node `index` wants transposed.
  func transposed(_ index: Int, _ number: Int) -> UnsafeMutablePointer<Element> {
    transposed.base + firsts[index][number]
  }
}

/// What a thread works in.
final class LayerScratch<Element: KernelScalar> {
  /// Ones, as many as any sum here is long.
  let ones: UnsafeMutablePointer<Element>
  let taylor: TaylorScratch<Element>
  private let storage: Storage<Element>
  private let arrays: [[UnsafeMutablePointer<Element>]]  // by node
  private let onesStorage: Storage<Element>

  init(_ graph: NetworkGraph, _ algebra: TaylorAlgebra, rows: Int) throws(EngineError) {
    let longest = graph.shapes.reduce(1) { max($0, $1.positions, $1.channels) }
    onesStorage = try Storage(count: saturating(longest, rows))
    ones = onesStorage.base
    ones.update(repeating: 1, count: onesStorage.count)
    // One array a coefficient, which all nodes share.
    let sizes = graph.nodes.map { $0.layer.scratchSizes.map { roundedUp($0, to: 64 / MemoryLayout<Element>.stride) } }
    let most = sizes.map { $0.reduce(0) { saturating(sum: $0, saturating(algebra.count, $1)) } }.max() ?? 0
    storage = try Storage(count: most)
    let base = storage.base
    arrays = sizes.map { sizes in
      var found: [UnsafeMutablePointer<Element>] = []
      var end = 0
      for size in sizes {
        for _ in 0..<algebra.count {
          found.append(base + end)
          end += size  // bounded: the storage's size
        }
      }
      return found
    }
    taylor = try TaylorScratch(algebra)
    count = algebra.count
  }

  private let count: Int

  /// Array `number` of node `index`, for coefficient k.
  func array(_ index: Int, _ number: Int, _ k: Int) -> UnsafeMutablePointer<Element> {
    arrays[index][number * count + k]
  }
}

/// A layer of a net at work on a block of samples: where its numbers are.
struct LayerStep<Element: KernelScalar> {
  let algebra: TaylorAlgebra
  /// The first coefficient to compute: 1 where coefficient 0 is kept.
  let first: Int
  /// Samples of the block.
  let rows: Int
  let index: Int
  let node: NetworkGraph.Node
  let layout: PlyLayout
  /// Values and states by coefficient, and where cotangents and costates are.
  let plies: [Ply<Element>]
  let coplies: [Ply<Element>]
  /// By coefficient; nil where that of all weights is 0.
  let parameters: [LayerParameters<Element>?]
  let scratch: LayerScratch<Element>
  /// Tokens of the block, where the net takes such.
  let tokens: UnsafePointer<Int64>?
  /// Whether what second derivatives want is to be kept.
  let isCurved: Bool
  let powers: LayerPowers
  /// Who does it, and hears of it if that is to stop.
  let member: ThreadTeam.Member

  typealias Numbers = UnsafeMutablePointer<Element>

  var coefficients: Range<Int> { first..<algebra.count }

  /// Coefficient k of the input; nil where it is 0, as for all but the first of the net's own input.
  @inline(__always)
  func x(_ k: Int) -> Numbers? { value(node.input, k) }
  func second(_ k: Int) -> Numbers? { value(node.second, k) }
  func y(_ k: Int) -> Numbers { plies[k].array(node.output) }
  func gx(_ k: Int) -> Numbers { coplies[k].array(layout.valueCount + node.input) }
  func gsecond(_ k: Int) -> Numbers { coplies[k].array(layout.valueCount + node.second) }
  func gy(_ k: Int) -> Numbers { coplies[k].array(layout.valueCount + node.output) }
  func state(_ number: Int, _ k: Int) -> Numbers { plies[k].array(layout.states[index] + number) }
  func costate(_ number: Int, _ k: Int) -> Numbers { coplies[k].array(layout.costates[index] + number) }
  /// Coefficient k of the layer's parameters; nil where it is 0.
  func w(_ k: Int) -> Numbers? { parameters[k].map { $0.flat.base + node.offset } }
  func transposed(_ number: Int, _ k: Int) -> Numbers? { parameters[k].map { $0.transposed(index, number) } }
  func scratch(_ number: Int, _ k: Int = 0) -> Numbers { scratch.array(index, number, k) }

  private func value(_ value: Int, _ k: Int) -> Numbers? {
    k > 0 && value == 0 ? nil : plies[k].array(value)
  }

  // The rules that layers are made of.

  /// f(a)ₖ = f(aₖ): runs `body` for every coefficient, with nil for one that is 0.
  func linearly(_ body: (Int, Numbers?) -> Void) {
    for k in coefficients { body(k, x(k)) }
  }

  /// Coefficient k of c = a ∘ b, `count` numbers of arrays by coefficient, nil where that is 0.
  func multiply(
    _ count: Int, into c: Numbers, _ k: Int, adding: Bool = false, _ a: (Int) -> Numbers?, _ b: (Int) -> Numbers?
  ) {
    var isAdding = adding
    for (i, j) in algebra.products[k] {
      guard let a = a(i), let b = b(j) else { continue }
      inPieces(count) { part in
        let (a, b, c) = (a + part.lowerBound, b + part.lowerBound, c + part.lowerBound)
        if isAdding { Element.multiplyAdd(part.count, a, b, c) } else { Element.multiply(part.count, a, b, c) }
      }
      isAdding = true
    }
    if !isAdding { member.clear(c, count: count) }
  }

  /// C = A B or that added, as the kernels have it, in pieces between which the work may be stopped.
  func product(
    _ m: Int, _ n: Int, _ k: Int, _ a: Numbers, _ aRow: Int, _ aColumn: Int, _ b: Numbers, _ ldb: Int,
    _ update: Update, _ c: Numbers, _ ldc: Int
  ) {
    member.inPieces(0..<m, weight: saturating(2, n, k)) { rows in
      // bounded: places in A and C
      Element.gemm(
        rows.count, n, k, a + rows.lowerBound * aRow, aRow, aColumn, b, ldb, nil, 0, update, true,
        c + rows.lowerBound * ldc, ldc)
    }
  }

  /// Sets the cotangent of the input to 0 where nobody has set it.
  func clearInput(_ count: Int) {
    guard !node.addsInput else { return }
    for k in coefficients { member.clear(gx(k), count: count) }
  }
}

/// The powers that a function of numbers of an algebra is made of: of the net's input, and of all others.
struct LayerPowers {
  private let curved: [TaylorPowers]
  private let straight: [TaylorPowers]

  init(_ algebra: TaylorAlgebra) {
    let constant = (0..<algebra.count).map { $0 == 0 }
    let all = constant.map { _ in true }
    curved = [constant, all].map { TaylorPowers(algebra, $0, isLinear: false) }
    straight = [constant, all].map { TaylorPowers(algebra, $0, isLinear: true) }
  }

  func of(input: Bool, isLinear: Bool) -> TaylorPowers { (isLinear ? straight : curved)[input ? 0 : 1] }
}
