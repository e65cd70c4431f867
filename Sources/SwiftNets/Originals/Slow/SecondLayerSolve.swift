import CKernels
import COpenBLAS

/// Solves (H₂₂ + λ) s = dW₂ for a `TwoLayerPass`, exactly: one small Cholesky factorisation an output.
///
/// H₂₂ is one block an output o: h₁ᵀ diag(D₂[:, o]²) h₁. With fewer samples than hidden units its dual is smaller, and
/// (HᵀD²H + λ)⁻¹ HᵀD r = HᵀD (D H Hᵀ D + λ)⁻¹ r, whose matrix needs no product an output.
/// Four outputs are factored at once, one to a vector lane. Orders above `batchedLimit` go to LAPACK one by one.
/// - Complexity: out · min(n, hid)³ / 3 operations.
final class SecondLayerSolve {
  /// Above this order four interleaved matrices no longer fit the cache.
  static let batchedLimit = 192
  /// With more of them at once nobody could stop the product for a while.
  private static let samplesAtOnce = 4096

  let solution: Matrix<Double>  // [hid, out]
  private let dual: Bool
  private let order: Int  // min(n, hid)
  private let padded: Int  // its next multiple of 4
  private let h1t: Matrix<Double>
  private let kernel: Matrix<Double>  // h₁ h₁ᵀ, in the dual
  private let dualImage: Matrix<Double>
  private let weightedHidden: Matrix<Double>  // D₂[:, o] ∘ h₁, for LAPACK in the primal
  private let weighted: Matrix<Double>  // D₂ ∘ u in the dual, [n, out]; D₂² ∘ (h₁ s) in the check
  private let projected: Matrix<Double>  // D₂ ∘ (h₁ r), a correction's right-hand side in the dual
  private let excess: Matrix<Double>  // (H₂₂ + λ) s − dW₂ as the check found it, [hid, out]
  private let scratch: [Storage<Double>]  // each member's matrices, pivots, right-hand sides and slopes
  private let gramParts: [Storage<Double>]  // each member's matrices of some of many samples
  private let sums: Storage<Double>

  init(net: TwoLayerPerceptron, samples: Int, threads: Int) throws(EngineError) {
    dual = samples <= net.hidsize
    order = min(samples, net.hidsize)
    padded = roundedUp(order, to: 4)
    solution = try .padded(net.hidsize, net.outsize)
    kernel = try .padded(dual ? samples : 0, samples)
    h1t = try .padded(dual ? net.hidsize : 0, samples)
    weighted = try .padded(samples, net.outsize)
    projected = try .padded(dual ? samples : 0, net.outsize)
    excess = try .padded(net.hidsize, net.outsize)
    let batched = order <= Self.batchedLimit
    dualImage = try .padded(dual ? net.hidsize : 0, net.outsize)
    weightedHidden = try Matrix(rows: batched || dual ? 0 : samples, columns: net.hidsize)
    var scratch: [Storage<Double>] = []
    for _ in 0..<(batched ? threads : 1) {
      let perLane = saturating(sum: saturating(padded, padded + 2), samples)
      scratch.append(try Storage(count: batched ? saturating(perLane, lanes) : saturating(order, order + 1)))
    }
    self.scratch = scratch
    var gramParts: [Storage<Double>] = []
    for _ in 0..<(batched && !dual && samples > Self.samplesAtOnce ? threads : 0) {
      gramParts.append(try Storage(count: saturating(padded, padded, lanes)))
    }
    self.gramParts = gramParts
    sums = try Storage(count: 8 * 64 * 4)
  }

  /// Whether the solve is done by the team, in `solve(_:damping:member:)`; else by `solveLarge`.
  var isBatched: Bool { order <= Self.batchedLimit }

  /// Solves, or with `correcting` refines the solution by what the check found. Every member calls it, after
  /// `gradients`, or `check`, and a barrier.
  func solve(_ pass: TwoLayerPass, damping: Double, correcting: Bool, member: ThreadTeam.Member) {
    let source = prepare(pass, correcting: correcting, member: member)
    let matrix = scratch[member.index].base
    let inverse = matrix + padded * padded * lanes
    let right = inverse + padded * lanes
    let slopes = right + padded * lanes
    let outputs = member.share(of: solution.stride, grain: lanes)
    for first in stride(from: outputs.lowerBound, to: outputs.upperBound, by: lanes) where !member.isStopped {
      for sample in 0..<pass.samples {
        (slopes + sample * lanes).update(from: pass.slope2.row(sample) + first, count: lanes)
      }
      if dual {
        swk_batched_scaled_kernel(padded, order, kernel.base, kernel.stride, slopes, damping, matrix)
      } else {
        formGram(pass, slopes, damping: damping, into: matrix, member)
      }
      for row in 0..<order { (right + row * lanes).update(from: source.row(row) + first, count: lanes) }
      for entry in order * lanes..<padded * lanes { right[entry] = 0 }
      swk_batched_cholesky_factor(padded, matrix, inverse)
      swk_batched_cholesky_solve(padded, matrix, inverse, right)
      for lane in 0..<lanes {
        accept(pass, output: first + lane, values: right + lane, step: lanes, correcting: correcting)
      }
    }
    member.barrier()
    if dual { leaveDual(pass, damping: damping, correcting: correcting, member: member) }
  }

  /// h₁ᵀ diag(D₂²) h₁ + λ of four outputs; of many samples a part at a time.
  private func formGram(
    _ pass: TwoLayerPass, _ slopes: UnsafePointer<Double>, damping: Double, into matrix: UnsafeMutablePointer<Double>,
    _ member: ThreadTeam.Member
  ) {
    let count = saturating(padded, padded, lanes)
    for first in stride(from: 0, to: pass.samples, by: Self.samplesAtOnce) where !member.isStopped {
      let number = min(Self.samplesAtOnce, pass.samples - first)
      let target = first == 0 ? matrix : gramParts[member.index].base
      swk_batched_gram(
        padded, order, number, pass.h1.row(first), pass.h1.stride, slopes + first * lanes, first == 0 ? damping : 0,
        target)
      if first > 0 { Double.axpy(count, 1, target, matrix) }
    }
  }

  /// The right-hand sides of the order's systems, one an output.
  private func prepare(_ pass: TwoLayerPass, correcting: Bool, member: ThreadTeam.Member) -> Matrix<Double> {
    guard dual else { return correcting ? excess : pass.dw2 }
    if correcting {
      let weight = saturating(2, pass.net.hidsize, pass.net.outsize)
      member.inPieces(member.share(of: pass.samples), weight: weight) {
        multiply(pass.h1.operand, excess, scale: pass.slope2, into: projected, rows: $0)
      }
      member.barrier()
      return projected
    }
    formKernel(pass, member: member)
    return pass.error
  }

  /// Takes over one output's solution.
  private func accept(
    _ pass: TwoLayerPass, output: Int, values: UnsafePointer<Double>, step: Int, correcting: Bool
  ) {
    for row in 0..<order {
      let value = values[row * step]
      if dual {
        weighted[row, output] = value * pass.slope2[row, output]
      } else {
        solution[row, output] = correcting ? solution[row, output] - value : value
      }
    }
  }

  /// From the dual's u to the solution: s = h₁ᵀ(D₂ ∘ u), or for a right-hand side r that is no such image
  /// (H + λ)⁻¹ r = (r − h₁ᵀ(D₂ ∘ u)) / λ, which Woodbury's identity gives.
  private func leaveDual(_ pass: TwoLayerPass, damping: Double, correcting: Bool, member: ThreadTeam.Member) {
    let rows = member.share(of: pass.net.hidsize)
    let target = correcting ? dualImage : solution
    member.inPieces(rows, weight: saturating(2, pass.samples, pass.net.outsize)) {
      multiply(pass.h1.transposed, weighted, into: target, rows: $0)
    }
    guard correcting else { return }
    for row in rows {
      for output in 0..<solution.columns {
        solution[row, output] -= (excess[row, output] - dualImage[row, output]) / damping
      }
    }
  }

  /// The same for orders too large for the batched kernels, one LAPACK factorisation an output.
  func solveLarge(
    _ pass: TwoLayerPass, damping: Double, correcting: Bool, interruption: Interruption
  ) throws(EngineError) {
    var source = pass.dw2
    try ThreadTeam.run(parts: Threads.count, interruption) { member in
      let right = prepare(pass, correcting: correcting, member: member)
      if member.index == 0 { source = right }
    }
    let matrix = Matrix(borrowing: scratch[0].base, rows: order, columns: order)
    let right = matrix.row(order)
    for output in 0..<pass.net.outsize {
      try interruption.check()
      if dual {
        for i in 0..<order {
          let factor = pass.slope2[i, output]
          for j in 0...i { matrix[i, j] = kernel[i, j] * factor * pass.slope2[j, output] }
        }
      } else {
        for sample in 0..<pass.samples {
          let factor = pass.slope2[sample, output]
          let target = weightedHidden.row(sample)
          for unit in 0..<order { target[unit] = factor * pass.h1[sample, unit] }
        }
        // So many samples at a time that a product takes no longer than the others.
        let step = max(64, 4_000_000_000 / saturating(order, order))
        for first in stride(from: 0, to: pass.samples, by: step) {
          try interruption.check()
          symmetricProduct(
            1, weightedHidden.view(first..<min(pass.samples, first + step), 0..<order), isTransposed: true,
            first == 0 ? 0 : 1, into: matrix)
        }
      }
      for i in 0..<order {
        matrix[i, i] += damping
        right[i] = source[i, output]
      }
      guard try factorLower(matrix, interruption: interruption) else {
        throw .numerical("the second layer's block of output \(output) is not positive definite")
      }
      let vector = Matrix(borrowing: right, rows: 1, columns: order)
      for isTransposed in [true, false] {
        try solveRows(vector, by: matrix.base, matrix.stride, isTransposed: isTransposed, interruption: interruption)
      }
      accept(pass, output: output, values: right, step: 1, correcting: correcting)
    }
    guard dual else { return }
    try ThreadTeam.run(parts: Threads.count, interruption) {
      leaveDual(pass, damping: damping, correcting: correcting, member: $0)
    }
  }

  /// h₁ h₁ᵀ, which the dual needs of all samples.
  private func formKernel(_ pass: TwoLayerPass, member: ThreadTeam.Member) {
    let rows = member.share(of: pass.samples)
    for row in rows where !member.isStopped {
      for unit in 0..<pass.net.hidsize { h1t[unit, row] = pass.h1[row, unit] }
    }
    member.barrier()
    member.inPieces(rows, weight: saturating(2, pass.samples, pass.net.hidsize)) {
      multiply(pass.h1.operand, h1t, into: kernel, rows: $0)
    }
    member.barrier()
  }

  /// First half of the check: D₂² ∘ (h₁ s) on the member's samples. Every member's solve must be done.
  func prepareCheck(_ pass: TwoLayerPass, member: ThreadTeam.Member) {
    member.inPieces(member.share(of: pass.samples), weight: saturating(2, solution.rows, solution.stride)) { rows in
      multiply(pass.h1.operand, solution, scale: pass.slope2, into: weighted, rows: rows)
      for row in rows {
        let target = weighted.row(row)
        let slope = pass.slope2.row(row)
        for output in 0..<weighted.stride { target[output] *= slope[output] }
      }
    }
  }

  /// Second half: the squared norms of the residual, the gradient, H s and s over the member's rows.
  func check(_ pass: TwoLayerPass, damping: Double, member: ThreadTeam.Member) {
    member.inPieces(member.share(of: pass.net.hidsize), weight: saturating(2, pass.samples, solution.stride)) {
      multiply(pass.h1.transposed, weighted, into: excess, rows: $0)
    }
    for part in member.parts {
      let found = sums.base + 32 * part
      for slot in 0..<4 { found[slot] = 0 }
      for row in member.share(of: pass.net.hidsize, part: part) {
        let s = solution.row(row)
        let hs = excess.row(row)
        let g = pass.dw2.row(row)
        found[2] += Double.dot(excess.columns, hs, hs)
        for output in 0..<excess.columns { hs[output] += damping * s[output] - g[output] }
        found[0] += Double.dot(excess.columns, hs, hs)
        found[1] += Double.dot(excess.columns, g, g)
        found[3] += Double.dot(excess.columns, s, s)
      }
    }
  }

  /// What `check` found, over all parts.
  func evidence(_ pass: TwoLayerPass, parts: Int, damping: Double) -> SolveEvidence {
    var total = (0.0, 0.0, 0.0, 0.0)
    for part in 0..<parts {
      let found = sums.base + 32 * part
      total = (total.0 + found[0], total.1 + found[1], total.2 + found[2], total.3 + found[3])
    }
    guard total.1 > 0x1p-800, total.0 + total.1 + total.2 + total.3 < 0x1p1000 else {
      // Squares under- or overflowed. H s is the residual, less λ s, plus dW₂: no larger than these together.
      let (residual, gradient, s) = (excess.norm, pass.dw2.norm, solution.norm)
      return SolveEvidence(residual: residual, gradient: gradient, image: residual + gradient + 2 * damping * s)
    }
    return SolveEvidence(
      residual: total.0.squareRoot(), gradient: total.1.squareRoot(),
      image: total.2.squareRoot() + damping * total.3.squareRoot())
  }
}

private let lanes = Int(swk_batch)
