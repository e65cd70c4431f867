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

  let solution: Matrix<Double>  // [hid, out]
  private let dual: Bool
  private let order: Int  // min(n, hid)
  private let padded: Int  // its next multiple of 4
  private let h1t: Matrix<Double>
  private let kernel: Matrix<Double>  // h₁ h₁ᵀ, in the dual
  private let weightedHidden: Matrix<Double>  // D₂[:, o] ∘ h₁, for LAPACK in the primal
  private let weighted: Matrix<Double>  // D₂ ∘ u in the dual, [n, out]; D₂² ∘ (h₁ s) in the check
  private let image: Matrix<Double>  // [hid, out]
  private let scratch: [Storage<Double>]  // each member's matrices, pivots, right-hand sides and slopes
  private let sums: Storage<Double>

  init(net: TwoLayerPerceptron, samples: Int, threads: Int) throws(EngineError) {
    dual = samples <= net.hidsize
    order = min(samples, net.hidsize)
    padded = (order + 3) / 4 * 4
    solution = try .padded(net.hidsize, net.outsize)
    kernel = try .padded(dual ? samples : 0, samples)
    h1t = try .padded(dual ? net.hidsize : 0, samples)
    weighted = try .padded(samples, net.outsize)
    image = try .padded(net.hidsize, net.outsize)
    let batched = order <= Self.batchedLimit
    weightedHidden = try Matrix(rows: batched || dual ? 0 : samples, columns: net.hidsize)
    var scratch: [Storage<Double>] = []
    for _ in 0..<(batched ? threads : 1) {
      let perLane = batched ? padded * (padded + 2) + samples : 0
      scratch.append(try Storage(count: batched ? perLane * lanes : order * (order + 1)))
    }
    self.scratch = scratch
    sums = try Storage(count: 8 * 64 * 4)
  }

  /// Whether the solve is done by the team, in `solve(_:damping:member:)`; else by `solveLarge`.
  var isBatched: Bool { order <= Self.batchedLimit }

  /// Every member calls it, after `gradients` and a barrier.
  func solve(_ pass: TwoLayerPass, damping: Double, member: ThreadTeam.Member) {
    let net = pass.net
    if dual { formKernel(pass, member: member) }
    let matrix = scratch[member.index].base
    let inverse = matrix + padded * padded * lanes
    let right = inverse + padded * lanes
    let slopes = right + padded * lanes
    let outputs = member.share(of: solution.stride, grain: lanes)
    for first in stride(from: outputs.lowerBound, to: outputs.upperBound, by: lanes) {
      for sample in 0..<pass.samples {
        (slopes + sample * lanes).update(from: pass.slope2.row(sample) + first, count: lanes)
      }
      if dual {
        swk_batched_scaled_kernel(padded, order, kernel.base, kernel.stride, slopes, damping, matrix)
      } else {
        swk_batched_gram(padded, order, pass.samples, pass.h1.base, pass.h1.stride, slopes, damping, matrix)
      }
      let source = dual ? pass.error : pass.dw2
      for row in 0..<order { (right + row * lanes).update(from: source.row(row) + first, count: lanes) }
      for entry in order * lanes..<padded * lanes { right[entry] = 0 }
      swk_batched_cholesky_factor(padded, matrix, inverse)
      swk_batched_cholesky_solve(padded, matrix, inverse, right)
      for row in 0..<order {
        let target = (dual ? weighted : solution).row(row) + first
        for lane in 0..<lanes {
          target[lane] = right[row * lanes + lane] * (dual ? slopes[row * lanes + lane] : 1)
        }
      }
    }
    member.barrier()
    if dual { multiply(pass.h1.transposed, weighted, into: solution, rows: member.share(of: net.hidsize)) }
  }

  /// The same for orders too large for the batched kernels, one LAPACK factorisation an output.
  func solveLarge(_ pass: TwoLayerPass, damping: Double, interruption: Interruption) throws(EngineError) {
    let net = pass.net
    if dual {
      ThreadTeam.run(threads: Threads.count) { formKernel(pass, member: $0) }
    }
    let matrix = Matrix(borrowing: scratch[0].base, rows: order, columns: order)
    let right = matrix.row(order)
    for output in 0..<net.outsize {
      try interruption.check()
      if dual {
        for i in 0..<order {
          let factor = pass.slope2[i, output]
          for j in 0...i { matrix[i, j] = kernel[i, j] * factor * pass.slope2[j, output] }
          right[i] = pass.error[i, output]
        }
      } else {
        for sample in 0..<pass.samples {
          let factor = pass.slope2[sample, output]
          let target = weightedHidden.row(sample)
          for unit in 0..<net.hidsize { target[unit] = factor * pass.h1[sample, unit] }
        }
        scipy_cblas_dsyrk(
          CblasRowMajor, CblasLower, CblasTrans, Int32(order), Int32(pass.samples), 1, weightedHidden.base,
          Int32(weightedHidden.stride), 0, matrix.base, Int32(matrix.stride))
        for i in 0..<order { right[i] = pass.dw2[i, output] }
      }
      for i in 0..<order { matrix[i, i] += damping }
      let info = scipy_LAPACKE_dposv(
        LAPACK_ROW_MAJOR, CChar(UInt8(ascii: "L")), Int32(order), 1, matrix.base, Int32(matrix.stride), right, 1)
      guard info == 0 else {
        throw .numerical("the second layer's block of output \(output) is not positive definite")
      }
      for i in 0..<order {
        if dual { weighted[i, output] = right[i] * pass.slope2[i, output] } else { solution[i, output] = right[i] }
      }
    }
    if dual {
      ThreadTeam.run(threads: Threads.count) {
        multiply(pass.h1.transposed, weighted, into: solution, rows: $0.share(of: net.hidsize))
      }
    }
  }

  /// h₁ h₁ᵀ, which the dual needs of all samples.
  private func formKernel(_ pass: TwoLayerPass, member: ThreadTeam.Member) {
    let rows = member.share(of: pass.samples)
    for row in rows {
      for unit in 0..<pass.net.hidsize { h1t[unit, row] = pass.h1[row, unit] }
    }
    member.barrier()
    multiply(pass.h1.operand, h1t, into: kernel, rows: rows)
    member.barrier()
  }

  /// First half of the check: D₂² ∘ (h₁ s) on the member's samples. Every member's solve must be done.
  func prepareCheck(_ pass: TwoLayerPass, member: ThreadTeam.Member) {
    let rows = member.share(of: pass.samples)
    multiply(pass.h1.operand, solution, scale: pass.slope2, into: weighted, rows: rows)
    for row in rows {
      let target = weighted.row(row)
      let slope = pass.slope2.row(row)
      for output in 0..<weighted.stride { target[output] *= slope[output] }
    }
  }

  /// Second half: the squared norms of the residual, the gradient, H s and s over the member's rows.
  func check(_ pass: TwoLayerPass, damping: Double, member: ThreadTeam.Member) {
    let rows = member.share(of: pass.net.hidsize)
    multiply(pass.h1.transposed, weighted, into: image, rows: rows)
    let mine = sums.base + 32 * member.index
    for slot in 0..<4 { mine[slot] = 0 }
    for row in rows {
      let s = solution.row(row)
      let hs = image.row(row)
      let g = pass.dw2.row(row)
      mine[2] += Double.dot(image.columns, hs, hs)
      for output in 0..<image.columns { hs[output] += damping * s[output] - g[output] }
      mine[0] += Double.dot(image.columns, hs, hs)
      mine[1] += Double.dot(image.columns, g, g)
      mine[3] += Double.dot(image.columns, s, s)
    }
  }

  /// What `check` found, over all members of a team of `threads`.
  func evidence(threads: Int, damping: Double) -> SolveEvidence {
    var total = (0.0, 0.0, 0.0, 0.0)
    for member in 0..<threads {
      let part = sums.base + 32 * member
      total = (total.0 + part[0], total.1 + part[1], total.2 + part[2], total.3 + part[3])
    }
    return SolveEvidence(
      residual: total.0.squareRoot(), gradient: total.1.squareRoot(),
      image: total.2.squareRoot() + damping * total.3.squareRoot())
  }
}

private let lanes = Int(swk_batch)
