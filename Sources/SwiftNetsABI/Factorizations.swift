import CSwiftNets
import SwiftNets

private func layered(_ handle: OpaquePointer?) throws -> NetworkFactorization {
  guard let handle else { throw EngineError.invalidArgument("factorization is NULL") }
  return Unmanaged<NetworkFactorization>.fromOpaque(UnsafeRawPointer(handle)).takeUnretainedValue()
}

private func dense(_ handle: OpaquePointer?) throws -> DenseFactorization {
  guard let handle else { throw EngineError.invalidArgument("factorization is NULL") }
  return Unmanaged<DenseFactorization>.fromOpaque(UnsafeRawPointer(handle)).takeUnretainedValue()
}

private func layerForm(_ form: Int32) throws -> LayerForm {
  switch Int(form) {
  case Int(SWN_FORM_AUTOMATIC): return .automatic
  case Int(SWN_FORM_PRIMAL): return .primal
  case Int(SWN_FORM_DUAL): return .dual
  default: throw EngineError.invalidArgument("form is \(form); it must be 0 (automatic), 1 (primal) or 2 (dual)")
  }
}

private func shift(_ isComplex: Int32, _ real: Double, _ imaginary: Double) -> NetworkFactorization.Shift {
  (real, isComplex != 0 ? imaginary : nil)
}

private func info(_ summary: FactorSummary, isPositiveDefinite: Bool = false) -> swn_factor_info {
  swn_factor_info(
    known: summary.inertia == nil ? 0 : 1, positive_definite: isPositiveDefinite ? 1 : 0,
    positive: summary.inertia?.positive ?? 0, negative: summary.inertia?.negative ?? 0,
    zero: summary.inertia?.zero ?? 0, log_determinant: summary.logDeterminant,
    log_determinant_error: summary.logDeterminantError, certificate: summary.certificate ?? -1,
    bytes: summary.bytes)
}

private func rows(_ base: UnsafePointer<Double>?, _ name: String, _ k: Int, _ columns: Int) throws -> Matrix<Double> {
  try requireAddressable(name, k, columns)
  return Matrix(reading: try require(base, name), rows: k, columns: columns)
}

private func rows(_ base: UnsafeMutablePointer<Double>?, _ name: String, _ k: Int, _ columns: Int) throws
  -> Matrix<Double>
{
  try requireAddressable(name, k, columns)
  return Matrix(borrowing: try require(base, name), rows: k, columns: columns)
}

// MARK: - States of layers

@_cdecl("swn_linearization_states_count")
public func swnLinearizationStatesCount(_ linearization: OpaquePointer?) -> Int {
  (try? point(linearization))?.statesCount ?? 0
}

@_cdecl("swn_linearization_states")
public func swnLinearizationStates(
  _ linearization: OpaquePointer?, _ out: UnsafeMutablePointer<Double>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try point(linearization).copyStates(into: require(out, "out"), interruption: Interruption(control))
  }
}

// MARK: - Layered

@_cdecl("swn_layered_plan")
public func swnLayeredPlan(
  _ net: OpaquePointer?, _ n: Int, _ isComplex: Int32, _ form: Int32,
  _ plan: UnsafeMutablePointer<swn_layered_sizes>?
) -> swn_status {
  status {
    let place = try require(plan, "plan")
    guard let chain = try engine(net).chain else {
      throw EngineError.invalidArgument("the net is no chain of dense layers, which alone have layered solves")
    }
    let found = try LayeredPlan(
      chain, samples: size(n, "n"), isComplex: isComplex != 0, form: layerForm(form))
    place.pointee = swn_layered_sizes(
      bytes: found.bytes, operations: found.operations, solve_operations: found.operationsOfSolve)
  }
}

@_cdecl("swn_layered_create")
public func swnLayeredCreate(
  _ linearization: OpaquePointer?, _ form: Int32, _ isComplex: Int32, _ real: Double, _ imaginary: Double,
  _ factorization: UnsafeMutablePointer<OpaquePointer?>?, _ out: UnsafeMutablePointer<swn_factor_info>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let handle = try require(factorization, "factorization")
    let place = try require(out, "info")
    let found = try NetworkFactorization(
      point(linearization), shift: shift(isComplex, real, imaginary), form: layerForm(form),
      interruption: Interruption(control))
    place.pointee = info(found.summary)
    handle.pointee = OpaquePointer(Unmanaged.passRetained(found).toOpaque())
  }
}

@_cdecl("swn_layered_destroy")
public func swnLayeredDestroy(_ factorization: OpaquePointer?) {
  guard let factorization else { return }
  Unmanaged<NetworkFactorization>.fromOpaque(UnsafeRawPointer(factorization)).release()
}

@_cdecl("swn_layered_update")
public func swnLayeredUpdate(
  _ factorization: OpaquePointer?, _ isComplex: Int32, _ real: Double, _ imaginary: Double,
  _ out: UnsafeMutablePointer<swn_factor_info>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let place = try require(out, "info")
    place.pointee = info(
      try layered(factorization).update(
        shift: shift(isComplex, real, imaginary), interruption: Interruption(control)))
  }
}

@_cdecl("swn_layered_solve")
public func swnLayeredSolve(
  _ factorization: OpaquePointer?, _ k: Int, _ b: UnsafePointer<Double>?, _ bImaginary: UnsafePointer<Double>?,
  _ x: UnsafeMutablePointer<Double>?, _ xImaginary: UnsafeMutablePointer<Double>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let factorization = try layered(factorization)
    let (k, count) = (try size(k, "k"), factorization.parameterCount)
    try factorization.solve(
      rows(b, "b", k, count), imaginary: bImaginary.map { Matrix(reading: $0, rows: k, columns: count) },
      into: rows(x, "x", k, count), imaginary: xImaginary.map { Matrix(borrowing: $0, rows: k, columns: count) },
      interruption: Interruption(control))
  }
}

@_cdecl("swn_layered_trace_of_inverse")
public func swnLayeredTraceOfInverse(
  _ factorization: OpaquePointer?, _ trace: UnsafeMutablePointer<Double>?,
  _ logDeterminant: UnsafeMutablePointer<Double>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let (trace, logDeterminant) = (try require(trace, "trace"), try require(logDeterminant, "log_determinant"))
    let found = try layered(factorization).traceOfInverse(interruption: Interruption(control))
    (trace.pointee, logDeterminant.pointee) = (found.trace, found.logDeterminant)
  }
}

// MARK: - Dense

@_cdecl("swn_dense_create")
public func swnDenseCreate(
  _ n: Int, _ matrix: UnsafePointer<Double>?, _ shift: Double, _ factorization: UnsafeMutablePointer<OpaquePointer?>?,
  _ out: UnsafeMutablePointer<swn_factor_info>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let handle = try require(factorization, "factorization")
    let place = try require(out, "info")
    let n = try size(n, "n")
    let interruption = Interruption(control)
    let made = try DenseFactorization(rows(matrix, "matrix", n, n), interruption: interruption)
    let found = try made.factor(shift: shift, interruption: interruption)
    place.pointee = info(found.summary, isPositiveDefinite: found.isPositiveDefinite)
    handle.pointee = OpaquePointer(Unmanaged.passRetained(made).toOpaque())
  }
}

@_cdecl("swn_dense_destroy")
public func swnDenseDestroy(_ factorization: OpaquePointer?) {
  guard let factorization else { return }
  Unmanaged<DenseFactorization>.fromOpaque(UnsafeRawPointer(factorization)).release()
}

@_cdecl("swn_dense_update")
public func swnDenseUpdate(
  _ factorization: OpaquePointer?, _ shift: Double, _ out: UnsafeMutablePointer<swn_factor_info>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let place = try require(out, "info")
    let found = try dense(factorization).factor(shift: shift, interruption: Interruption(control))
    place.pointee = info(found.summary, isPositiveDefinite: found.isPositiveDefinite)
  }
}

@_cdecl("swn_dense_solve")
public func swnDenseSolve(
  _ factorization: OpaquePointer?, _ k: Int, _ b: UnsafePointer<Double>?, _ x: UnsafeMutablePointer<Double>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let factorization = try dense(factorization)
    let k = try size(k, "k")
    try factorization.solve(
      rows(b, "b", k, factorization.order), into: rows(x, "x", k, factorization.order),
      interruption: Interruption(control))
  }
}

@_cdecl("swn_dense_trace_of_inverse")
public func swnDenseTraceOfInverse(
  _ n: Int, _ matrix: UnsafePointer<Double>?, _ shift: Double, _ step: Double, _ trace: UnsafeMutablePointer<Double>?,
  _ logDeterminant: UnsafeMutablePointer<Double>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let (trace, logDeterminant) = (try require(trace, "trace"), try require(logDeterminant, "log_determinant"))
    let n = try size(n, "n")
    let found = try TraceOfInverse(
      rows(matrix, "matrix", n, n), shift: shift, step: step, interruption: Interruption(control))
    (trace.pointee, logDeterminant.pointee) = (found.trace, found.logDeterminant)
  }
}

@_cdecl("swn_symmetric_eigen")
public func swnSymmetricEigen(
  _ n: Int, _ matrix: UnsafeMutablePointer<Double>?, _ values: UnsafeMutablePointer<Double>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let n = try size(n, "n")
    let values = try require(values, "values")
    let found = try eigenvalues(
      replacing: rows(try require(matrix, "matrix"), "matrix", n, n), interruption: Interruption(control))
    for (index, value) in found.enumerated() { values[index] = value }
  }
}
