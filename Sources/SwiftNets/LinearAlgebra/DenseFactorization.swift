import COpenBLAS
import Glibc

/// A symmetric matrix plus a shift, A + λ, factored for any number of solves: with Cholesky where it is positive
/// definite, else with Bunch and Kaufman's pivoting.
///
/// The factors are measured by products with A + λ (`FactorCertificate`): inertia and determinant are proved, or the
/// matrix is refused.
///
/// A stays in the upper triangle and its diagonal apart, the factors take the lower one: another λ needs no other
/// memory. Several threads may solve at once; one that factors has it for itself.
public final class DenseFactorization: @unchecked Sendable {
  public let order: Int
  /// The memory that it holds.
  public let bytes: Int
  private let memory: ArenaMemory
  private let factors: SymmetricFactor<Double>
  private let diagonal: UnsafeMutablePointer<Double>
  private let gate = Gate()
  private enum State { case none, definite, indefinite }
  private var state = State.none
  /// The factors are those of (A + λ) 2^−exponent; 0 unless squares of its entries would leave the numbers' range.
  private var exponent = 0
  /// Largest entry of A.
  private let largest: Double

  /// Takes the upper triangle of A [order, order]; `factor` comes next.
  /// - Throws: `notFinite`, `outOfMemory`, `cancelled`.
  public init(_ a: Matrix<Double>, interruption: Interruption = Interruption()) throws(EngineError) {
    order = a.rows
    guard order <= 1 << 20 else { throw .outOfMemory(bytes: saturating(order, order, 8)) }
    var measuring = Arena.measuring
    _ = Self.layOut(order, in: &measuring)
    bytes = measuring.bytes
    memory = try ArenaMemory(bytes: bytes)
    var arena = Arena(memory)
    (factors, diagonal) = Self.layOut(order, in: &arena)
    var sum = 0.0  // of zeros, and of NaN where a number is not finite
    var largest = 0.0
    let (count, base, places) = (order, factors.base, diagonal)
    try inSlices(of: count, weight: saturating(copied, count), interruption: interruption) { rows in
      for row in rows {
        let (source, target) = (a.row(row), base + row * count)
        for column in row..<count {
          target[column] = source[column]
          sum += 0 * source[column]
          largest = max(largest, abs(source[column]))
        }
        places[row] = source[row]
      }
    }
    self.largest = largest
    guard sum == 0 else { throw .notFinite("the matrix has numbers that are not finite") }
  }

  private static func layOut(
    _ order: Int, in arena: inout Arena
  ) -> (SymmetricFactor<Double>, UnsafeMutablePointer<Double>) {
    (SymmetricFactor<Double>(order: order, in: &arena), arena.take(order))
  }

  /// Factors A + shift.
  /// - Returns: what the factors say about the matrix, and whether A + shift is positive definite.
  /// - Throws: `numerical` where A + shift is singular to working precision, `cancelled`, `invalidArgument`.
  /// - Complexity: order³/3 operations, up to twice that where A + shift is indefinite with a positive diagonal.
  public func factor(
    shift: Double, interruption: Interruption = Interruption()
  ) throws(EngineError) -> (summary: FactorSummary, isPositiveDefinite: Bool) {
    guard shift.isFinite else { throw .invalidArgument("the shift is \(shift); it must be finite") }
    return try gate.write(interruption) { () throws(EngineError) in
      state = .none
      return try factorAlone(shift, interruption)
    }
  }

  private func factorAlone(
    _ shift: Double, _ interruption: Interruption
  ) throws(EngineError) -> (summary: FactorSummary, isPositiveDefinite: Bool) {
    let size = max(largest, abs(shift))
    // Even, as the roots of Cholesky are then scaled without rounding.
    exponent = size > 0x1p300 || size < 0x1p-300 && size > 0 ? Int(size.exponent) & ~1 : 0
    let norm = max(try restore(shift, interruption), scalbn(size, Int32(-exponent)))
    var found = State.definite
    if (0..<order).contains(where: { !(factors.base[$0 * (order + 1)] > 0) }) {
      found = .indefinite
    } else if try !factorLower(
      Matrix(borrowing: factors.base, rows: order, columns: order), interruption: interruption)
    {
      _ = try restore(shift, interruption)
      found = .indefinite
    }
    if found == .indefinite {
      let isRegular = try factors.factor(interruption: interruption)
      guard isRegular else { throw .numerical("the matrix is singular to working precision: a pivot is 0") }
    }
    state = found
    let certificate: FactorCertificate
    do throws(EngineError) {
      certificate = try certify(norm, shift, interruption)
    } catch {
      state = .none
      throw error
    }
    guard certificate.isAccepted else {
      state = .none
      throw .singular(certificate)
    }
    var inertia = Inertia()
    var determinant = LogarithmOfProduct()
    if found == .definite {
      inertia.positive = order
      for index in 0..<order {
        let pivot = factors.base[index * (order + 1)]
        determinant.multiply(pivot)
        determinant.multiply(pivot)
      }
    } else {
      factors.tally(&inertia, &determinant)
    }
    let summary = FactorSummary(
      inertia: inertia, logDeterminant: determinant.value + Double(order * exponent) * Double.logarithm(2),
      logDeterminantError: certificate.logDeterminantError, certificate: certificate.error, bytes: bytes)
    return (summary, found == .definite)
  }

  private func certify(
    _ norm: Double, _ shift: Double, _ interruption: Interruption
  ) throws(EngineError) -> FactorCertificate {
    let work = try Integers<UInt64>(count: order)
    let numbers = UnsafeMutableRawPointer(work.base).bindMemory(to: Double.self, capacity: work.count)
    return try FactorCertificate(order: order, norm: norm, isComplex: false) { b throws(EngineError) in
      try solve(b.real, into: b.real, from: 0, b.real.rows, numbers, interruption)
    } multiply: { x, y throws(EngineError) in
      try multiply(x.real, shift, into: y.real, interruption)
    }
  }

  /// (A + shift) 2^−exponent times the rows of x: from the upper triangle, which factors do not touch.
  private func multiply(
    _ x: Matrix<Double>, _ shift: Double, into y: Matrix<Double>, _ interruption: Interruption
  ) throws(EngineError) {
    for row in 0..<x.rows { y.row(row).update(repeating: 0, count: order) }
    let weight = saturating(exponent == 0 ? 8 : 64, order, x.rows)
    try inSlices(of: order, weight: weight, interruption: interruption) { indices in
      for index in indices {
        let entries = factors.base + index * (order + 1) + 1
        let count = order - index - 1
        for row in 0..<x.rows {
          let (source, target) = (x.row(row) + index, y.row(row) + index)
          if exponent == 0 {
            target[0] += Double.dot(count, entries, source + 1)
            Double.axpy(count, source[0], entries, target + 1)
          } else {
            for place in 0..<count {
              target[0] += scaled(entries[place]) * source[place + 1]
              target[place + 1] += scaled(entries[place]) * source[0]
            }
          }
        }
      }
    }
    for row in 0..<x.rows {
      for index in 0..<order { y[row, index] += (scaled(diagonal[index]) + scaled(shift)) * x[row, index] }
    }
  }

  private func scaled(_ number: Double) -> Double { exponent == 0 ? number : scalbn(number, Int32(-exponent)) }

  /// (A + shift) 2^−exponent into the lower triangle; returns the largest 2-norm of its rows, up to the diagonal, which
  /// that of the matrix is no less than.
  private func restore(_ shift: Double, _ interruption: Interruption) throws(EngineError) -> Double {
    let base = factors.base
    let tile = 32
    for first in stride(from: 0, to: order, by: tile) {
      try interruption.check()
      for left in stride(from: 0, through: first, by: tile) {
        for row in first..<min(first + tile, order) {
          for column in left..<min(left + tile, row) {
            base[row * order + column] = scaled(base[column * order + row])
          }
        }
      }
    }
    var largest = 0.0
    for index in 0..<order {
      if index % 1024 == 0 { try interruption.check() }
      base[index * (order + 1)] = scaled(diagonal[index]) + scaled(shift)
      largest = max(largest, OpenBLAS.call(scipy_cblas_dnrm2(Int32(index + 1), base + index * order, 1)))
    }
    return largest
  }

  // MARK: - Solves

  /// Solves (A + λ) x = b for rows of b [k, order]; x may be b.
  public func solve(
    _ b: Matrix<Double>, into x: Matrix<Double>, interruption: Interruption = Interruption()
  ) throws(EngineError) {
    guard b.columns == order, x.columns == order, b.rows == x.rows else {
      throw .invalidArgument("b is \(b.rows)×\(b.columns), x is \(x.rows)×\(x.columns); expected k×\(order) for both")
    }
    try gate.read(interruption) { () throws(EngineError) in
      guard state != .none else {
        throw .numerical("there is no factorisation: the last one failed or is still to come")
      }
      let work = try Integers<UInt64>(count: saturating(min(b.rows, Self.rows), order))
      let numbers = UnsafeMutableRawPointer(work.base).bindMemory(to: Double.self, capacity: work.count)
      for first in stride(from: 0, to: b.rows, by: Self.rows) {
        let count = min(Self.rows, b.rows - first)
        try solve(b, into: x, from: first, count, numbers, interruption)
      }
      // The exponent is the factors': once the gate is left it may be another one's.
      if exponent != 0 {
        for row in 0..<x.rows { for column in 0..<order { x[row, column] = scaled(x[row, column]) } }
      }
    }
    for row in 0..<x.rows {
      for column in 0..<order where !x[row, column].isFinite {
        throw .numerical("the solve overflowed, or its right-hand side is not finite")
      }
    }
  }

  /// Right-hand sides solved for at once.
  private static let rows = 64

  private func solve(
    _ b: Matrix<Double>, into x: Matrix<Double>, from first: Int, _ count: Int, _ work: UnsafeMutablePointer<Double>,
    _ interruption: Interruption
  ) throws(EngineError) {
    if state == .definite {
      for row in 0..<count { (work + row * order).update(from: b.row(first + row), count: order) }
      let rows = Matrix(borrowing: work, rows: count, columns: order)
      for isTransposed in [true, false] {
        try SwiftNets.solveRows(
          rows, by: factors.base, order, isTransposed: isTransposed, interruption: interruption)
      }
      for row in 0..<count { x.row(first + row).update(from: work + row * order, count: order) }
      return
    }
    for row in 0..<count {
      let (source, target) = (b.row(first + row), work + row * order)
      for place in 0..<order { target[place] = source[Int(factors.places[place])] }
    }
    try Double.solveRows(
      isTransposed: true, order, factors.base, order, work, count: count, interruption: interruption)
    factors.divideRows(work, count: count)
    try Double.solveRows(
      isTransposed: false, order, factors.base, order, work, count: count, interruption: interruption)
    for row in 0..<count {
      let (source, target) = (work + row * order, x.row(first + row))
      for place in 0..<order { target[Int(factors.places[place])] = source[place] }
    }
  }
}
