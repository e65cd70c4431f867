import CSwiftNets
import SwiftNets

private func steps(_ dtype: Int32, _ n: Int, _ control: UnsafePointer<swn_control>?) throws -> VectorSteps {
  guard let scalars = NetworkEngine.Scalars(rawValue: dtype) else {
    throw EngineError.invalidArgument("dtype is \(dtype); it must be 0 (float64) or 1 (float32)")
  }
  // As many as can be addressed.
  guard n >= 0, n <= Int.max >> 4 else {
    throw EngineError.invalidArgument("n is \(n); it must be from 0 to \(Int.max >> 4)")
  }
  return VectorSteps(scalars, count: n, interruption: Interruption(control))
}

/// Where the sums of squares of a step go.
private struct Place {
  private let squares: UnsafeMutablePointer<Double>

  init(_ squares: UnsafeMutablePointer<Double>?) throws {
    self.squares = try require(squares, "squares")
    take(.none)
  }

  func take(_ found: VectorSteps.Squares?) {
    squares[0] = found?.gradient ?? 0
    squares[1] = found?.w ?? 0
  }
}

@_cdecl("swn_descend")
public func swnDescend(
  _ dtype: Int32, _ n: Int, _ rate: Double, _ w: UnsafeRawPointer?, _ gradient: UnsafeRawPointer?,
  _ newW: UnsafeMutableRawPointer?, _ squares: UnsafeMutablePointer<Double>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let steps = try steps(dtype, n, control)
    let place = try Place(squares)
    if n == 0 { return }
    place.take(try steps.descend(memory(w, "w"), memory(gradient, "gradient"), rate: rate, into: memory(newW, "new_w")))
  }
}

@_cdecl("swn_momentum")
public func swnMomentum(
  _ dtype: Int32, _ n: Int, _ rate: Double, _ beta: Double, _ isNesterov: Int32, _ w: UnsafeRawPointer?,
  _ gradient: UnsafeRawPointer?, _ velocity: UnsafeRawPointer?, _ newW: UnsafeMutableRawPointer?,
  _ newVelocity: UnsafeMutableRawPointer?, _ squares: UnsafeMutablePointer<Double>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let steps = try steps(dtype, n, control)
    let place = try Place(squares)
    if n == 0 { return }
    place.take(
      try steps.momentum(
        memory(w, "w"), memory(gradient, "gradient"), memory(velocity, "velocity"), rate: rate, beta: beta,
        isNesterov: isNesterov != 0, into: memory(newW, "new_w"), memory(newVelocity, "new_velocity")))
  }
}

@_cdecl("swn_adam")
public func swnAdam(
  _ dtype: Int32, _ n: Int, _ factors: UnsafePointer<swn_adam_factors>?, _ w: UnsafeRawPointer?,
  _ gradient: UnsafeRawPointer?, _ mean: UnsafeRawPointer?, _ square: UnsafeRawPointer?,
  _ newW: UnsafeMutableRawPointer?, _ newMean: UnsafeMutableRawPointer?, _ newSquare: UnsafeMutableRawPointer?,
  _ squares: UnsafeMutablePointer<Double>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let steps = try steps(dtype, n, control)
    let given = try require(factors, "factors").pointee
    let place = try Place(squares)
    if n == 0 { return }
    place.take(
      try steps.adam(
        VectorSteps.AdamFactors(
          beta1: given.beta1, rest1: given.rest1, beta2: given.beta2, rest2: given.rest2, correction: given.correction,
          epsilon: given.epsilon, rate: given.rate, decay: given.decay),
        memory(w, "w"), memory(gradient, "gradient"), memory(mean, "mean"), memory(square, "square"),
        into: memory(newW, "new_w"), memory(newMean, "new_mean"), memory(newSquare, "new_square")))
  }
}

@_cdecl("swn_square_sum")
public func swnSquareSum(
  _ dtype: Int32, _ n: Int, _ v: UnsafeRawPointer?, _ sum: UnsafeMutablePointer<Double>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let steps = try steps(dtype, n, control)
    let place = try require(sum, "sum")
    place.pointee = n == 0 ? 0 : try steps.squareSum(memory(v, "v"))
  }
}
