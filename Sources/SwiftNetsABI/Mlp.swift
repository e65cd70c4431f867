import CSwiftNets
import SwiftNets

func engine(_ net: OpaquePointer?) throws -> NetworkEngine {
  guard let net else { throw EngineError.invalidArgument("net is NULL") }
  return Unmanaged<NetworkEngine>.fromOpaque(UnsafeRawPointer(net)).takeUnretainedValue()
}

func point(_ linearization: OpaquePointer?) throws -> NetworkEngine.Point {
  guard let linearization else { throw EngineError.invalidArgument("linearization is NULL") }
  return Unmanaged<NetworkEngine.Point>.fromOpaque(UnsafeRawPointer(linearization)).takeUnretainedValue()
}

/// The caller's poll function, for what may evaluate a net: where there are functions of the caller's own, on its thread.
private func interruption(_ control: UnsafePointer<swn_control>?, _ net: OpaquePointer?) throws -> Interruption {
  Interruption(control, isAlone: try engine(net).isAlone)
}

/// The same for products at a point.
private func interruption(_ control: UnsafePointer<swn_control>?, _ point: NetworkEngine.Point) -> Interruption {
  Interruption(control, isAlone: point.isAlone && point.evaluates)
}

/// The caller's own function in place of activation `index`, if there is one.
func function(_ functions: UnsafePointer<swn_function>?, _ index: Int) -> ForeignFunction? {
  guard let given = functions?[index], let evaluate = given.evaluate else { return nil }
  return ForeignFunction(evaluate, context: given.context)
}

private func batch(_ samples: UnsafePointer<swn_samples>?) throws -> NetworkEngine.Batch {
  let given = try require(samples, "samples").pointee
  return .init(
    count: try size(given.n, "n"), inputs: try memory(given.x, "x"), targets: given.targets, labels: given.labels,
    weights: given.weights, scale: given.scale)
}

func scalars(_ dtype: Int32) throws -> NetworkEngine.Scalars {
  guard let found = NetworkEngine.Scalars(rawValue: dtype) else {
    throw EngineError.invalidArgument("dtype is \(dtype); it must be 0 (float64) or 1 (float32)")
  }
  return found
}

func lossFunction(_ kind: Int32, _ parameter: Double) throws -> LossFunction {
  guard let found = LossFunction.Kind(rawValue: kind) else {
    throw EngineError.invalidArgument("loss is \(kind); it must be from 0 to 3")
  }
  guard found != .huber || (parameter > 0 && parameter.isFinite) else {
    throw EngineError.invalidArgument("delta is \(parameter); it must be positive")
  }
  return LossFunction(found, parameter: parameter)
}

private func curvature(_ kind: Int32) throws -> CurvatureKind {
  guard let found = CurvatureKind(rawValue: kind) else {
    throw EngineError.invalidArgument("kind is \(kind); it must be from 0 to 2")
  }
  return found
}

@_cdecl("swn_mlp_create")
public func swnMlpCreate(
  _ shape: UnsafePointer<swn_mlp_shape>?, _ net: UnsafeMutablePointer<OpaquePointer?>?
) -> swn_status {
  status {
    let handle = try require(net, "net")
    let shape = try require(shape, "shape").pointee
    let depth = try size(shape.depth, "depth")
    let sizes = try require(shape.sizes, "sizes")
    let given = try require(shape.activations, "activations")
    let scalars = try scalars(shape.dtype)
    let loss = try lossFunction(shape.loss, shape.loss_parameter)
    let activations = try (0..<depth).map { index in
      guard let kind = Activation.Kind(rawValue: given[index].kind) else {
        throw EngineError.invalidArgument("activations[\(index)] is \(given[index].kind); it must be from 0 to 9")
      }
      return Activation(
        kind, parameter: given[index].parameter, function: function(shape.functions, index))
    }
    let found = try MultilayerPerceptron(
      sizes: (0...depth).map { try size(sizes[$0], "sizes[\($0)]") }, activations: activations,
      hasBias: shape.bias != 0, loss: loss)
    handle.pointee = OpaquePointer(Unmanaged.passRetained(NetworkEngine(found, scalars)).toOpaque())
  }
}

@_cdecl("swn_mlp_destroy")
public func swnMlpDestroy(_ net: OpaquePointer?) {
  guard let net else { return }
  Unmanaged<NetworkEngine>.fromOpaque(UnsafeRawPointer(net)).release()
}

@_cdecl("swn_mlp_parameter_count")
public func swnMlpParameterCount(_ net: OpaquePointer?) -> Int {
  (try? engine(net))?.parameterCount ?? 0
}

@_cdecl("swn_mlp_input_count")
public func swnMlpInputCount(_ net: OpaquePointer?) -> Int {
  (try? engine(net))?.inputs ?? 0
}

@_cdecl("swn_mlp_output_count")
public func swnMlpOutputCount(_ net: OpaquePointer?) -> Int {
  (try? engine(net))?.outputs ?? 0
}

@_cdecl("swn_mlp_memory")
public func swnMlpMemory(
  _ net: OpaquePointer?, _ n: Int, _ pointBytes: UnsafeMutablePointer<Int>?, _ workingBytes: UnsafeMutablePointer<Int>?
) -> swn_status {
  status {
    let found = try engine(net).memory(samples: size(n, "n"))
    try require(pointBytes, "point_bytes").pointee = found.point
    try require(workingBytes, "working_bytes").pointee = found.working
  }
}

@_cdecl("swn_mlp_loss")
public func swnMlpLoss(
  _ net: OpaquePointer?, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?,
  _ loss: UnsafeMutablePointer<Double>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try require(loss, "loss").pointee = engine(net).loss(
      memory(w, "w"), batch(samples), interruption: interruption(control, net))
  }
}

@_cdecl("swn_mlp_predict")
public func swnMlpPredict(
  _ net: OpaquePointer?, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?,
  _ out: UnsafeMutableRawPointer?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try engine(net).predict(
      memory(w, "w"), batch(samples), into: memory(out, "out"), interruption: interruption(control, net))
  }
}

@_cdecl("swn_mlp_gradient")
public func swnMlpGradient(
  _ net: OpaquePointer?, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?,
  _ gradient: UnsafeMutableRawPointer?, _ loss: UnsafeMutablePointer<Double>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try require(loss, "loss").pointee = engine(net).gradient(
      memory(w, "w"), batch(samples), into: memory(gradient, "gradient"), interruption: interruption(control, net))
  }
}

@_cdecl("swn_mlp_sample_gradients")
public func swnMlpSampleGradients(
  _ net: OpaquePointer?, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?,
  _ out: UnsafeMutableRawPointer?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try engine(net).sampleGradients(
      memory(w, "w"), batch(samples), into: memory(out, "out"), interruption: interruption(control, net))
  }
}

@_cdecl("swn_mlp_product")
public func swnMlpProduct(
  _ net: OpaquePointer?, _ kind: Int32, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?, _ k: Int,
  _ v: UnsafeRawPointer?, _ out: UnsafeMutableRawPointer?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try engine(net).products(
      curvature(kind), memory(w, "w"), batch(samples), memory(v, "v"), size(k, "k"), into: memory(out, "out"),
      interruption: interruption(control, net))
  }
}

@_cdecl("swn_mlp_dense")
public func swnMlpDense(
  _ net: OpaquePointer?, _ kind: Int32, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?, _ upper: Int32,
  _ lower: Int32, _ out: UnsafeMutableRawPointer?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try engine(net).dense(
      curvature(kind), memory(w, "w"), batch(samples), block: upper < 0 ? nil : (Int(upper), Int(lower)),
      into: memory(out, "out"), interruption: interruption(control, net))
  }
}

@_cdecl("swn_mlp_block_shape")
public func swnMlpBlockShape(
  _ net: OpaquePointer?, _ upper: Int32, _ lower: Int32, _ rows: UnsafeMutablePointer<Int>?,
  _ columns: UnsafeMutablePointer<Int>?
) -> swn_status {
  status {
    let blocks = try engine(net).blocks
    guard blocks.indices.contains(Int(upper)), blocks.indices.contains(Int(lower)), lower <= upper else {
      throw EngineError.invalidArgument("the block is (\(upper), \(lower)) of \(blocks.count) layers; lower ≤ upper")
    }
    try require(rows, "rows").pointee = blocks[Int(upper)].count
    try require(columns, "columns").pointee = blocks[Int(lower)].count
  }
}

@_cdecl("swn_mlp_diagonal")
public func swnMlpDiagonal(
  _ net: OpaquePointer?, _ kind: Int32, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?,
  _ out: UnsafeMutableRawPointer?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try engine(net).diagonal(
      curvature(kind), memory(w, "w"), batch(samples), into: memory(out, "out"),
      interruption: interruption(control, net))
  }
}

@_cdecl("swn_mlp_jvp")
public func swnMlpJvp(
  _ net: OpaquePointer?, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?, _ k: Int,
  _ v: UnsafeRawPointer?, _ out: UnsafeMutableRawPointer?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try engine(net).jvp(
      memory(w, "w"), batch(samples), memory(v, "v"), size(k, "k"), into: memory(out, "out"),
      interruption: interruption(control, net))
  }
}

@_cdecl("swn_mlp_vjp")
public func swnMlpVjp(
  _ net: OpaquePointer?, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?, _ k: Int,
  _ u: UnsafeRawPointer?, _ out: UnsafeMutableRawPointer?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try engine(net).vjp(
      memory(w, "w"), batch(samples), memory(u, "u"), size(k, "k"), into: memory(out, "out"),
      interruption: interruption(control, net))
  }
}

@_cdecl("swn_mlp_jacobian")
public func swnMlpJacobian(
  _ net: OpaquePointer?, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?,
  _ out: UnsafeMutableRawPointer?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try engine(net).jacobian(
      memory(w, "w"), batch(samples), into: memory(out, "out"), interruption: interruption(control, net))
  }
}

@_cdecl("swn_mlp_taylor")
public func swnMlpTaylor(
  _ net: OpaquePointer?, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?, _ order: Int32,
  _ v: UnsafeRawPointer?, _ out: UnsafeMutableRawPointer?, _ loss: UnsafeMutablePointer<Double>?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try require(loss, "loss").pointee = engine(net).taylor(
      memory(w, "w"), batch(samples), order: Int(order), memory(v, "v"), into: memory(out, "out"),
      interruption: interruption(control, net))
  }
}

@_cdecl("swn_mlp_multilinear")
public func swnMlpMultilinear(
  _ net: OpaquePointer?, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?, _ u: UnsafeRawPointer?,
  _ s: UnsafeRawPointer?, _ k: Int, _ v: UnsafeRawPointer?, _ out: UnsafeMutableRawPointer?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    try engine(net).multilinear(
      memory(w, "w"), batch(samples), directions: [memory(u, "u")] + (s.map { [$0] } ?? []), memory(v, "v"),
      size(k, "k"), into: memory(out, "out"), interruption: interruption(control, net))
  }
}

@_cdecl("swn_linearize")
public func swnLinearize(
  _ net: OpaquePointer?, _ w: UnsafeRawPointer?, _ samples: UnsafePointer<swn_samples>?,
  _ gradient: UnsafeMutableRawPointer?, _ loss: UnsafeMutablePointer<Double>?,
  _ linearization: UnsafeMutablePointer<OpaquePointer?>?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let handle = try require(linearization, "linearization")
    let loss = try require(loss, "loss")
    let (point, value) = try engine(net).linearize(
      memory(w, "w"), batch(samples), gradient: memory(gradient, "gradient"), interruption: interruption(control, net))
    loss.pointee = value
    handle.pointee = OpaquePointer(Unmanaged.passRetained(point).toOpaque())
  }
}

@_cdecl("swn_linearization_destroy")
public func swnLinearizationDestroy(_ linearization: OpaquePointer?) {
  guard let linearization else { return }
  Unmanaged<NetworkEngine.Point>.fromOpaque(UnsafeRawPointer(linearization)).release()
}

@_cdecl("swn_linearization_product")
public func swnLinearizationProduct(
  _ linearization: OpaquePointer?, _ kind: Int32, _ k: Int, _ v: UnsafeRawPointer?, _ out: UnsafeMutableRawPointer?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let point = try point(linearization)
    try point.products(
      curvature(kind), memory(v, "v"), size(k, "k"), into: memory(out, "out"),
      interruption: interruption(control, point))
  }
}

@_cdecl("swn_linearization_third")
public func swnLinearizationThird(
  _ linearization: OpaquePointer?, _ u: UnsafeRawPointer?, _ k: Int, _ v: UnsafeRawPointer?,
  _ out: UnsafeMutableRawPointer?, _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let point = try point(linearization)
    try point.third(
      memory(u, "u"), memory(v, "v"), size(k, "k"), into: memory(out, "out"),
      interruption: Interruption(control, isAlone: point.isAlone))
  }
}

@_cdecl("swn_linearization_thirds")
public func swnLinearizationThirds(
  _ linearization: OpaquePointer?, _ k: Int, _ u: UnsafeRawPointer?, _ out: UnsafeMutableRawPointer?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let point = try point(linearization)
    try point.thirds(
      memory(u, "u"), size(k, "k"), into: memory(out, "out"),
      interruption: Interruption(control, isAlone: point.isAlone))
  }
}

@_cdecl("swn_linearization_factor_counts")
public func swnLinearizationFactorCounts(
  _ linearization: OpaquePointer?, _ mix: UnsafeMutablePointer<Int>?, _ factors: UnsafeMutablePointer<Int>?
) -> swn_status {
  status {
    let (mix, factors) = try (require(mix, "mix"), require(factors, "factors"))
    (mix.pointee, factors.pointee) = try point(linearization).factorCounts
  }
}

@_cdecl("swn_linearization_factors")
public func swnLinearizationFactors(
  _ linearization: OpaquePointer?, _ mix: UnsafeRawPointer?, _ out: UnsafeMutableRawPointer?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let point = try point(linearization)
    try point.factors(
      memory(mix, "mix"), into: memory(out, "out"), interruption: Interruption(control, isAlone: point.isAlone))
  }
}

@_cdecl("swn_linearization_lanczos")
public func swnLinearizationLanczos(
  _ linearization: OpaquePointer?, _ kind: Int32, _ shift: Double, _ k: Int, _ steps: Int,
  _ starts: UnsafeRawPointer?, _ diagonal: UnsafeMutableRawPointer?, _ offDiagonal: UnsafeMutableRawPointer?,
  _ control: UnsafePointer<swn_control>?
) -> swn_status {
  status {
    let point = try point(linearization)
    try point.lanczos(
      curvature(kind), shift: shift, memory(starts, "starts"), size(k, "k"), steps: size(steps, "steps"),
      diagonal: memory(diagonal, "diagonal"), offDiagonal: memory(offDiagonal, "off_diagonal"),
      interruption: interruption(control, point))
  }
}
