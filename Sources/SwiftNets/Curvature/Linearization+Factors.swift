// Kronecker factors of the layers' Gauss–Newton blocks (Martens & Grosse 2015). Each sample's Hessian in the outputs,
// R Rᵀ, is propagated back as one random combination of the columns of R, whose outer product it is on average
// (Martens, Sutskever & Swersky 2012).

extension MultilayerPerceptron {
  /// How many numbers the factors of all layers are.
  var factorCount: Int {
    layers.reduce(0) { saturating(sum: $0, saturating($1.rows, $1.rows), saturating($1.width, $1.width)) }
  }
}

extension Linearization {
  /// For each layer Σ s z zᵀ / Σ s over samples of weights s with inputs z, then Σ δ δᵀ, with δ the deltas for cotangents
  /// R ε of the outputs; `mix` has a row of ε for each sample.
  func factors(
    _ mix: UnsafePointer<Element>, into out: UnsafeMutablePointer<Element>, interruption: Interruption
  ) throws(EngineError) {
    let parts = self.parts(pass.rows)
    let step = piece * parts
    // A member may have to do all parts.
    try prepare(parts, rows: min(step, pass.rows))
    var next = out
    var places: [(inputs: Matrix<Element>, deltas: Matrix<Element>)] = []
    for layer in net.layers {
      let inputs = Matrix(borrowing: next, rows: layer.rows, columns: layer.rows)
      next += layer.rows * layer.rows
      places.append((inputs, Matrix(borrowing: next, rows: layer.width, columns: layer.width)))
      next += layer.width * layer.width
    }
    for (index, layer) in net.layers.enumerated() {
      let inputs = pass.inputs[index].prefix(layer.rows).rows(0..<pass.rows)
      let shares = try weighted(inputs, interruption)
      try ThreadTeam.run(parts: parts, interruption) {
        triangle(inputs, shares ?? inputs, .set, into: places[index].inputs, $0)
      }
      let factor = shares == nil ? 1 / Element(max(pass.rows, 1)) : 1
      try places[index].inputs.mirror(times: factor, interruption)
    }
    for first in Swift.stride(from: 0, to: pass.rows, by: step) {
      try interruption.check()
      let rows = first..<min(first + step, pass.rows)
      try ThreadTeam.run(parts: parts, interruption) { deltaFactors(mix, rows, into: places.map(\.deltas), $0) }
    }
    for place in places { try place.deltas.mirror(times: 1, interruption) }
  }

  /// Rows times their samples' weights over the sum of these; nil where all are the same.
  private func weighted(
    _ rows: Matrix<Element>, _ interruption: Interruption
  ) throws(EngineError) -> Matrix<Element>? {
    let weights = UnsafeBufferPointer(start: pass.output.weights.base, count: rows.rows)
    guard let first = weights.first, weights.contains(where: { $0 != first }) else { return nil }
    let total = weights.reduce(0) { $0 + Double($1) }
    let result = try Matrix<Element>.padded(rows.rows, rows.columns)
    try inSlices(of: rows.rows, weight: saturating(copied, rows.columns), interruption: interruption) { slice in
      for row in slice {
        let share = Element(Double(weights[row]) / total)
        for column in 0..<rows.columns { result[row, column] = share * rows[row, column] }
      }
    }
    return result
  }

  /// One member's part of Σ δ δᵀ over `rows` of the pass.
  private func deltaFactors(
    _ mix: UnsafePointer<Element>, _ rows: Range<Int>, into out: [Matrix<Element>], _ member: ThreadTeam.Member
  ) {
    func samples(_ part: Int) -> Range<Int> {
      let share = member.share(of: rows.count, part: part)
      return rows.lowerBound + share.lowerBound..<rows.lowerBound + share.upperBound
    }
    // A member that does all parts keeps them side by side.
    func origin(_ part: Int) -> Int { member.count == 1 ? rows.lowerBound : samples(part).lowerBound }
    for part in member.parts {
      member.inPieces(samples(part), weight: weight) { piece in
        products[member.index].pullBack(pass, piece, origin: origin(part), member) { row, target in
          pass.output.mixRoots(row, mix + row * net.outputs, into: target)
        }
      }
    }
    member.barrier()
    for part in 0..<member.partCount where !samples(part).isEmpty {
      let source = products[member.count == 1 ? 0 : part]
      let first = samples(part).lowerBound - origin(part)
      let isFirst = rows.lowerBound == 0 && part == 0
      for (index, layer) in net.layers.enumerated() {
        let deltas = source.deltas[index].prefix(layer.width).rows(first..<first + samples(part).count)
        triangle(deltas, deltas, isFirst ? .set : .add, into: out[index], member)
      }
    }
  }

  /// A member's rows of aᵀ b, which is symmetric, from the diagonal on.
  private func triangle(
    _ a: Matrix<Element>, _ b: Matrix<Element>, _ update: Update, into c: Matrix<Element>, _ member: ThreadTeam.Member
  ) {
    let block = 64  // a multiple of all vectors
    for first in Swift.stride(from: 0, to: c.rows, by: block) where !member.isStopped {
      let rows = min(first + block, c.rows) - first
      let left = a.view(a.base + first, rows: a.rows, columns: rows).transposed
      let right = b.view(b.base + first, rows: b.rows, columns: b.columns - first)
      let corner = c.view(c.row(first) + first, rows: rows, columns: c.columns - first)
      // Part by part, so that the kernels meet the same blocks whoever does them: the same bits.
      for part in member.parts {
        let share = member.share(of: rows, part: part)
        member.inPieces(share, weight: saturating(2, a.rows, corner.columns)) {
          multiply(left, right, update, isExact: true, into: corner, rows: $0)
        }
      }
    }
  }
}

extension OutputLoss {
  /// R ε for a row, with R Rᵀ its Hessian in the outputs: for softmax R is √(scale p) (e − p).
  func mixRoots(_ row: Int, _ mix: UnsafePointer<Element>, into out: UnsafeMutablePointer<Element>) {
    let (width, h) = (hessian.columns, hessian.row(row))
    guard !loss.isElementwise else {
      for column in 0..<width { out[column] = max(h[column], 0).squareRoot() * mix[column] }
      return
    }
    var sum: Element = 0
    for column in 0..<width {
      out[column] = (scales.base[row] * h[column]).squareRoot() * mix[column]
      sum += out[column]
    }
    for column in 0..<width { out[column] -= sum * h[column] }
  }
}

extension Matrix where Element: KernelScalar {
  /// The lower triangle as the upper one, all times a factor.
  fileprivate func mirror(times factor: Element, _ interruption: Interruption) throws(EngineError) {
    try inSlices(of: rows, weight: saturating(copied, columns), interruption: interruption) { slice in
      for row in slice {
        for column in row..<columns {
          self[row, column] *= factor
          self[column, row] = self[row, column]
        }
      }
    }
  }
}
