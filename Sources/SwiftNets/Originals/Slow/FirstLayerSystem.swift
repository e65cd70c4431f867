import Glibc

/// (H₁₁ + λ) x = r in the arithmetic of T, for `FirstLayerSolve`.
///
/// The team splits the samples. Each member keeps the whole iterate and updates it alike, so that one meeting a step
/// is enough, and all members take every decision alike.
final class FirstLayerSystem<T: KernelScalar> {
  private let net: TwoLayerPerceptron
  private let samples: Int
  private let threads: Int
  private var damping: T = 0

  private let xs: Matrix<T>
  private let w2: Matrix<T>
  private let w2t: Matrix<T>
  private let slope1: Matrix<T>
  private let slope2Squared: Matrix<T>
  private let hidden: Matrix<T>
  private let output: Matrix<T>
  private let right: Matrix<T>
  private let correction: Matrix<T>  // x in the caller's basis
  private let members: [Member]
  private let partials: [[Matrix<T>]]  // by parity of the step, by part: their shares of H p
  private var preconditioner: KroneckerPreconditioner<T>?
  private var isPrepared = false  // the preconditioner belongs to the numbers that were loaded last

  private struct Member {
    let x: Matrix<T>
    let r: Matrix<T>
    let p: Matrix<T>
    let q: Matrix<T>
  }

  init(net: TwoLayerPerceptron, samples: Int, threads: Int) throws(EngineError) {
    self.net = net
    self.samples = samples
    self.threads = threads
    xs = try .padded(samples, net.insize)
    w2 = try .padded(net.hidsize, net.outsize)
    w2t = try .padded(net.outsize, net.hidsize)
    slope1 = try .padded(samples, net.hidsize)
    slope2Squared = try .padded(samples, net.outsize)
    hidden = try .padded(samples, net.hidsize)
    output = try .padded(samples, net.outsize)
    right = try .padded(net.insize, net.hidsize)
    correction = try .padded(net.insize, net.hidsize)
    var members: [Member] = []
    var partials: [[Matrix<T>]] = [[], []]
    for _ in 0..<threads {
      members.append(
        Member(
          x: try .padded(net.insize, net.hidsize), r: try .padded(net.insize, net.hidsize),
          p: try .padded(net.insize, net.hidsize), q: try .padded(net.insize, net.hidsize)))
      for parity in 0..<2 { partials[parity].append(try .padded(net.insize, net.hidsize)) }
    }
    self.members = members
    self.partials = partials
  }

  /// Takes over the numbers of a pass.
  func load(
    _ pass: TwoLayerPass, _ source: Matrix<Double>, damping: Double, _ interruption: Interruption
  ) throws(EngineError) {
    self.damping = T(damping)
    isPrepared = false
    let weight = saturating(16, saturating(sum: net.insize, net.hidsize, net.outsize))
    try inSlices(of: samples, weight: weight, interruption: interruption) { rows in
      for row in rows {
        for column in 0..<net.insize { xs[row, column] = T(source[row, column]) }
        for column in 0..<net.hidsize { slope1[row, column] = T(pass.slope1[row, column]) }
        for column in 0..<net.outsize {
          let slope = T(pass.slope2[row, column])
          slope2Squared[row, column] = slope * slope
        }
      }
    }
    for row in 0..<net.hidsize {
      for column in 0..<net.outsize { w2[row, column] = T(pass.w2[row, column]) }
    }
    for row in 0..<net.outsize {
      for column in 0..<net.hidsize { w2t[row, column] = T(pass.w2t[row, column]) }
    }
  }

  /// Solves for `residual`, scaled to unit norm, to the relative `tolerance`, and adds the solution to `total`.
  /// - Returns: products with H₁₁.
  func solve(
    _ residual: Matrix<Double>, norm: Double, tolerance: Double, limit: Int, adding total: Matrix<Double>,
    _ interruption: Interruption
  ) throws(EngineError) -> Int {
    for row in 0..<net.insize {
      for column in 0..<net.hidsize { right[row, column] = T(residual[row, column] / norm) }
    }
    var used = 0
    if !isPrepared {
      let outcome = try iterate(operand: xs, preconditioner: nil, tolerance: tolerance, limit: limit, interruption)
      used = outcome.iterations
      if !outcome.abandoned {
        correction.base.update(from: members[0].x.base, count: correction.rows * correction.stride)
        add(norm, to: total)
        return used
      }
      try prepare(interruption)
    }
    guard let preconditioner else { return used }
    preconditioner.rotate(right)
    let outcome = try iterate(
      operand: preconditioner.inputs, preconditioner: preconditioner, tolerance: tolerance, limit: limit - used,
      interruption)
    preconditioner.rotateBack(members[0].x, into: correction)
    add(norm, to: total)
    return used + outcome.iterations
  }

  private func add(_ scale: Double, to total: Matrix<Double>) {
    for row in 0..<net.insize {
      let source = correction.row(row)
      let target = total.row(row)
      for column in 0..<net.hidsize { target[column] += scale * Double(source[column]) }
    }
  }

  private func prepare(_ interruption: Interruption) throws(EngineError) {
    if preconditioner == nil { preconditioner = try KroneckerPreconditioner(net: net, samples: samples) }
    try preconditioner?.form(
      xs: xs, w2: w2, w2t: w2t, slope1: slope1, slope2Squared: slope2Squared, damping: damping, interruption)
    isPrepared = true
  }

  private struct Outcome {
    var iterations = 0
    var abandoned = false
  }

  /// Conjugate gradients from x = 0. Without preconditioner it may give up early, when one would be quicker.
  private func iterate(
    operand: Matrix<T>, preconditioner: KroneckerPreconditioner<T>?, tolerance: Double, limit: Int,
    _ interruption: Interruption
  ) throws(EngineError) -> Outcome {
    let mayAbandon =
      preconditioner == nil && max(net.insize, net.hidsize) <= FirstLayerSolve.preconditionerLimit
    var outcome = Outcome()
    try ThreadTeam.run(parts: threads, interruption) { member in
      let found = conjugateGradients(member, operand, preconditioner, T(tolerance), limit, mayAbandon)
      if member.index == 0 { outcome = found }
    }
    return outcome
  }

  private func conjugateGradients(
    _ member: ThreadTeam.Member, _ operand: Matrix<T>, _ preconditioner: KroneckerPreconditioner<T>?,
    _ tolerance: T, _ limit: Int, _ mayAbandon: Bool
  ) -> Outcome {
    let own = members[member.index]
    let count = right.rows * right.stride
    let ownUnknowns = member.share(of: net.insize)
    let source = preconditioner?.right ?? right
    own.x.base.update(repeating: 0, count: count)
    own.r.base.update(from: source.base, count: count)
    var z = own.r
    if let preconditioner {
      preconditioner.apply(to: own.r, rows: ownUnknowns)
      member.barrier()
      z = preconditioner.result
    }
    own.p.base.update(from: z.base, count: count)
    var rz = T.dot(count, own.r.base, z.base)
    let start = T.dot(count, own.r.base, own.r.base)
    let target = tolerance * tolerance * start
    var outcome = Outcome()
    guard start > 0 else { return outcome }

    while outcome.iterations < limit {
      let shares = partials[outcome.iterations & 1]
      for part in member.parts {
        product(of: own.p, operand, into: shares[part], rows: member.share(of: samples, part: part), member)
      }
      outcome.iterations += 1
      if member.agree(member.isStopped) { break }

      own.q.base.update(from: shares[0].base, count: count)
      for other in 1..<member.partCount { T.axpy(count, 1, shares[other].base, own.q.base) }
      T.axpy(count, damping, own.p.base, own.q.base)
      let alpha = rz / T.dot(count, own.p.base, own.q.base)
      T.axpy(count, alpha, own.p.base, own.x.base)
      T.axpy(count, -alpha, own.q.base, own.r.base)
      let rr = T.dot(count, own.r.base, own.r.base)
      if !(rr > target) { break }  // a NaN ends it too: the caller measures the result
      if mayAbandon, isTooSlow(after: outcome.iterations, reduction: Double(rr / start)) {
        outcome.abandoned = true
        break
      }
      var next = rr
      if let preconditioner {
        // The result is shared: nobody may overwrite it while another member still reads the last one.
        member.barrier()
        preconditioner.apply(to: own.r, rows: ownUnknowns)
        member.barrier()
        next = T.dot(count, own.r.base, z.base)
      }
      T.xpby(count, z.base, next / rz, own.p.base)
      rz = next
    }
    return outcome
  }

  /// Whether a preconditioned solve would be quicker, set-up included, than to go on without: that takes about 65 steps
  /// in all and costs as much as 110 plain ones. The first steps decide most cases; the cap catches those that start
  /// well and then stall.
  private func isTooSlow(after steps: Int, reduction: Double) -> Bool {
    let trial = 12
    let cap = 40
    if steps == trial {
      let digitsInAll = -log(SolveEvidence.tolerance)
      let perStep = -0.5 * log(reduction) / Double(trial)
      return perStep * 110 < digitsInAll
    }
    return steps >= cap
  }

  /// One part's share of H₁₁ p: that of its samples.
  private func product(
    of p: Matrix<T>, _ operand: Matrix<T>, into result: Matrix<T>, rows: Range<Int>, _ member: ThreadTeam.Member
  ) {
    let weight = saturating(2, net.hidsize, saturating(sum: net.insize, saturating(2, net.outsize)))
    member.inPieces(rows, weight: weight) { rows in
      multiply(operand.operand, p, scale: slope1, into: hidden, rows: rows)
      multiply(hidden.operand, w2, scale: slope2Squared, into: output, rows: rows)
      multiply(output.operand, w2t, scale: slope1, into: hidden, rows: rows)
    }
    let mine = Operand(
      base: operand.row(rows.lowerBound), rows: net.insize, columns: rows.count, rowStep: 1,
      columnStep: operand.stride)
    let share = Matrix(
      borrowing: hidden.row(rows.lowerBound), rows: rows.count, columns: net.hidsize, stride: hidden.stride)
    member.inPieces(0..<net.insize, weight: saturating(2, rows.count, net.hidsize)) {
      multiply(mine, share, into: result, rows: $0)
    }
  }
}
