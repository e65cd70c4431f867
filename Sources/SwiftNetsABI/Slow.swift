import CSwiftNets
import SwiftNets

private func network(_ shape: swn_slow_shape) throws -> TwoLayerPerceptron {
  TwoLayerPerceptron(
    insize: try size(shape.insize, "insize"), hidsize: try size(shape.hidsize, "hidsize"),
    outsize: try size(shape.outsize, "outsize"))
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

@_cdecl("swn_slow_loss")
public func swnSlowLoss(
  _ shape: swn_slow_shape, _ n: Int, _ xs: UnsafePointer<Double>?, _ ys: UnsafePointer<Double>?,
  _ w1: UnsafePointer<Double>?, _ w2: UnsafePointer<Double>?, _ loss: UnsafeMutablePointer<Double>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let net = try network(shape)
    let n = try size(n, "n")
    try require(loss, "loss").pointee = net.loss(
      matrix(xs, "xs", n, net.insize), matrix(ys, "ys", n, net.outsize),
      w1: matrix(w1, "w1", net.insize, net.hidsize), w2: matrix(w2, "w2", net.hidsize, net.outsize),
      interruption: Interruption(control))
  }
}

@_cdecl("swn_slow_predict")
public func swnSlowPredict(
  _ shape: swn_slow_shape, _ n: Int, _ xs: UnsafePointer<Double>?, _ w1: UnsafePointer<Double>?,
  _ w2: UnsafePointer<Double>?, _ h2: UnsafeMutablePointer<Double>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let net = try network(shape)
    let n = try size(n, "n")
    try net.predict(
      matrix(xs, "xs", n, net.insize), w1: matrix(w1, "w1", net.insize, net.hidsize),
      w2: matrix(w2, "w2", net.hidsize, net.outsize), into: output(h2, "h2", n, net.outsize),
      interruption: Interruption(control))
  }
}

@_cdecl("swn_slow_gradient")
public func swnSlowGradient(
  _ shape: swn_slow_shape, _ n: Int, _ xs: UnsafePointer<Double>?, _ ys: UnsafePointer<Double>?,
  _ w1: UnsafePointer<Double>?, _ w2: UnsafePointer<Double>?, _ dw1: UnsafeMutablePointer<Double>?,
  _ dw2: UnsafeMutablePointer<Double>?, _ loss: UnsafeMutablePointer<Double>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let net = try network(shape)
    let n = try size(n, "n")
    try require(loss, "loss").pointee = net.gradient(
      matrix(xs, "xs", n, net.insize), matrix(ys, "ys", n, net.outsize),
      w1: matrix(w1, "w1", net.insize, net.hidsize), w2: matrix(w2, "w2", net.hidsize, net.outsize),
      into: output(dw1, "dw1", net.insize, net.hidsize), output(dw2, "dw2", net.hidsize, net.outsize),
      interruption: Interruption(control))
  }
}

@_cdecl("swn_slow_hessian_block")
public func swnSlowHessianBlock(
  _ shape: swn_slow_shape, _ n: Int, _ xs: UnsafePointer<Double>?, _ w1: UnsafePointer<Double>?,
  _ w2: UnsafePointer<Double>?, _ layer: Int32, _ block: UnsafeMutablePointer<Double>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let net = try network(shape)
    let n = try size(n, "n")
    let side = layer == 1 ? net.insize * net.hidsize : net.hidsize * net.outsize
    try net.hessianBlock(
      layer: Int(layer), matrix(xs, "xs", n, net.insize), w1: matrix(w1, "w1", net.insize, net.hidsize),
      w2: matrix(w2, "w2", net.hidsize, net.outsize),
      into: output(block, "block", try size(side, "the block's order"), side),
      interruption: Interruption(control))
  }
}

@_cdecl("swn_slow_workspace_create")
public func swnSlowWorkspaceCreate(_ workspace: UnsafeMutablePointer<OpaquePointer?>?) -> swn_status {
  status {
    try require(workspace, "workspace").pointee = OpaquePointer(
      Unmanaged.passRetained(SlowStep()).toOpaque())
  }
}

@_cdecl("swn_slow_workspace_destroy")
public func swnSlowWorkspaceDestroy(_ workspace: OpaquePointer?) {
  guard let workspace else { return }
  Unmanaged<SlowStep>.fromOpaque(UnsafeRawPointer(workspace)).release()
}

@_cdecl("swn_slow_step")
public func swnSlowStep(
  _ workspace: OpaquePointer?, _ shape: swn_slow_shape, _ n: Int, _ xs: UnsafePointer<Double>?,
  _ ys: UnsafePointer<Double>?, _ w1: UnsafePointer<Double>?, _ w2: UnsafePointer<Double>?, _ alpha: Double,
  _ damping: Double, _ method: Int32, _ w1Out: UnsafeMutablePointer<Double>?,
  _ w2Out: UnsafeMutablePointer<Double>?, _ report: UnsafeMutablePointer<swn_slow_report>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    guard let workspace else { throw EngineError.invalidArgument("workspace is NULL") }
    let slow = Unmanaged<SlowStep>.fromOpaque(UnsafeRawPointer(workspace)).takeUnretainedValue()
    let net = try network(shape)
    let n = try size(n, "n")
    let report = try require(report, "report")
    let chosen: SlowStep.Method
    switch Int(method) {
    case Int(SWN_SLOW_STRUCTURED): chosen = .structured
    case Int(SWN_SLOW_DENSE): chosen = .dense
    default: throw EngineError.invalidArgument("method is \(method); it must be 0 (structured) or 1 (dense)")
    }
    let found = try slow.step(
      net, matrix(xs, "xs", n, net.insize), matrix(ys, "ys", n, net.outsize),
      w1: matrix(w1, "w1", net.insize, net.hidsize), w2: matrix(w2, "w2", net.hidsize, net.outsize),
      alpha: alpha, damping: damping, method: chosen,
      newW1: output(w1Out, "w1_out", net.insize, net.hidsize),
      newW2: output(w2Out, "w2_out", net.hidsize, net.outsize), interruption: Interruption(control))
    report.pointee = swn_slow_report(
      loss: found.loss, residual1: found.first.relative, residual2: found.second.relative,
      iterations: Int32(clamping: found.iterations), refinements: Int32(clamping: found.rounds))
    guard found.isSolved else {
      let wanted = chosen == .dense ? SlowStep.denseTolerance : SolveEvidence.tolerance
      throw EngineError.notConverged(
        "relative residuals \(found.first.relative) (layer 1, after \(found.iterations) products) and "
          + "\(found.second.relative) (layer 2), wanted \(wanted)")
    }
  }
}
