import CSwiftNets
import SwiftNets

private func network(_ shape: swn_fast_shape) throws -> Perceptron {
  Perceptron(insize: try size(shape.insize, "insize"), outsize: try size(shape.outsize, "outsize"))
}

private func matrix(_ base: UnsafePointer<Double>?, _ name: String, _ rows: Int, _ columns: Int) throws
  -> Matrix<Double>
{
  try requireAddressable(name, rows, columns)
  return Matrix(reading: try require(base, name), rows: rows, columns: columns)
}

private func output(_ base: UnsafeMutablePointer<Double>?, _ name: String, _ rows: Int, _ columns: Int) throws
  -> Matrix<Double>
{
  try requireAddressable(name, rows, columns)
  return Matrix(borrowing: try require(base, name), rows: rows, columns: columns)
}

private func require(_ factorization: OpaquePointer?) throws -> MinimumNorm {
  guard let factorization else { throw EngineError.invalidArgument("factorization is NULL") }
  return Unmanaged<MinimumNorm>.fromOpaque(UnsafeRawPointer(factorization)).takeUnretainedValue()
}

@_cdecl("swn_fast_loss")
public func swnFastLoss(
  _ shape: swn_fast_shape, _ n: Int, _ xs: UnsafePointer<Double>?, _ ys: UnsafePointer<Double>?,
  _ w: UnsafePointer<Double>?, _ loss: UnsafeMutablePointer<Double>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let net = try network(shape)
    let n = try size(n, "n")
    try require(loss, "loss").pointee = net.loss(
      matrix(xs, "xs", n, net.insize), matrix(ys, "ys", n, net.outsize), w: matrix(w, "w", net.insize, net.outsize),
      interruption: Interruption(control))
  }
}

@_cdecl("swn_fast_predict")
public func swnFastPredict(
  _ shape: swn_fast_shape, _ n: Int, _ xs: UnsafePointer<Double>?, _ w: UnsafePointer<Double>?,
  _ h: UnsafeMutablePointer<Double>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let net = try network(shape)
    let n = try size(n, "n")
    try net.predict(
      matrix(xs, "xs", n, net.insize), w: matrix(w, "w", net.insize, net.outsize), into: output(h, "h", n, net.outsize),
      interruption: Interruption(control))
  }
}

@_cdecl("swn_fast_factorize")
public func swnFastFactorize(
  _ n: Int, _ insize: Int, _ xs: UnsafePointer<Double>?, _ tolerance: Double, _ control: UnsafePointer<swn_control>?,
  _ factorization: UnsafeMutablePointer<OpaquePointer?>?, _ info: UnsafeMutablePointer<swn_fast_factorization_info>?
) -> swn_status {
  status {
    let handle = try require(factorization, "factorization")
    let info = try require(info, "info")
    guard tolerance < 1 else {
      throw EngineError.invalidArgument(
        "tolerance is \(tolerance); it must be less than 1, or negative for the default")
    }
    let found = try MinimumNorm(
      matrix(xs, "xs", size(n, "n"), size(insize, "insize")), tolerance: tolerance < 0 ? nil : tolerance,
      interruption: Interruption(control))
    info.pointee = swn_fast_factorization_info(
      route: Int32(found.route == .cholesky ? SWN_FAST_CHOLESKY : SWN_FAST_ORTHOGONAL),
      pixels: found.isPixels ? 1 : 0, rank: found.rank, tolerance: found.tolerance, condition: found.condition,
      bytes: found.bytes)
    handle.pointee = OpaquePointer(Unmanaged.passRetained(found).toOpaque())
  }
}

@_cdecl("swn_fast_factorization_destroy")
public func swnFastFactorizationDestroy(_ factorization: OpaquePointer?) {
  guard let factorization else { return }
  Unmanaged<MinimumNorm>.fromOpaque(UnsafeRawPointer(factorization)).release()
}

@_cdecl("swn_fast_minimum_norm")
public func swnFastMinimumNorm(
  _ factorization: OpaquePointer?, _ xs: UnsafePointer<Double>?, _ k: Int, _ b: UnsafePointer<Double>?,
  _ w: UnsafeMutablePointer<Double>?, _ residual: UnsafeMutablePointer<Double>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let factorization = try require(factorization)
    let k = try size(k, "k")
    try require(residual, "residual").pointee = factorization.solve(
      matrix(xs, "xs", factorization.rows, factorization.columns), matrix(b, "b", factorization.rows, k),
      into: output(w, "w", factorization.columns, k), interruption: Interruption(control))
  }
}

@_cdecl("swn_fast_step")
public func swnFastStep(
  _ factorization: OpaquePointer?, _ shape: swn_fast_shape, _ n: Int, _ xs: UnsafePointer<Double>?,
  _ ys: UnsafePointer<Double>?, _ w: UnsafePointer<Double>?, _ alpha: Double, _ r: Double,
  _ wOut: UnsafeMutablePointer<Double>?, _ report: UnsafeMutablePointer<swn_fast_report>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let factorization = try require(factorization)
    let net = try network(shape)
    let n = try size(n, "n")
    let report = try require(report, "report")
    let found = try FastStep.step(
      net, factorization, matrix(xs, "xs", n, net.insize), matrix(ys, "ys", n, net.outsize),
      w: matrix(w, "w", net.insize, net.outsize), alpha: alpha, r: r,
      newW: output(wOut, "w_out", net.insize, net.outsize), interruption: Interruption(control))
    report.pointee = swn_fast_report(
      loss: found?.loss ?? .nan, residual: found?.residual ?? .nan, stale: found?.isSolved == true ? 0 : 1)
  }
}
