import CSwiftNets
import SwiftNets

private let codeLength = Int(SWN_CODE_LENGTH)

@_cdecl("swn_network_create")
public func swnNetworkCreate(
  _ shape: UnsafePointer<swn_network_shape>?, _ net: UnsafeMutablePointer<OpaquePointer?>?
) -> swn_status {
  status {
    let handle = try require(net, "net")
    let shape = try require(shape, "shape").pointee
    let scalars = try scalars(shape.dtype)
    let graph = try NetworkGraph(
      input: input(shape), layers: descriptions(shape), loss: lossFunction(shape.loss, shape.loss_parameter))
    handle.pointee = OpaquePointer(Unmanaged.passRetained(NetworkEngine(graph, scalars)).toOpaque())
  }
}

private func input(_ shape: swn_network_shape) throws -> NetworkGraph.Input {
  func given(_ value: Int, _ index: Int) throws -> Int { try size(value, "input[\(index)]") }
  let sizes = shape.input
  switch shape.input_kind {
  case Int32(SWN_INPUT_VECTOR): return .vector(try given(sizes.0, 0))
  case Int32(SWN_INPUT_IMAGE):
    return .image(channels: try given(sizes.0, 0), height: try given(sizes.1, 1), width: try given(sizes.2, 2))
  case Int32(SWN_INPUT_SEQUENCE): return .sequence(length: try given(sizes.0, 0), channels: try given(sizes.1, 1))
  case Int32(SWN_INPUT_TOKENS): return .tokens(try given(sizes.0, 0))
  default: throw EngineError.invalidArgument("input_kind is \(shape.input_kind); it must be from 0 to 3")
  }
}

private func descriptions(_ shape: swn_network_shape) throws -> [NetworkGraph.Description] {
  let count = try size(shape.layers, "layers")
  let codes = try require(shape.codes, "codes")
  let numbers = try require(shape.numbers, "numbers")
  let given = try size(shape.statistics_count, "statistics_count", from: 0)
  var taken = 0
  let found = try (0..<count).map { index in
    let code = UnsafeBufferPointer(start: codes + index * codeLength, count: codeLength).map(Int.init)
    guard let kind = Int32(exactly: code[0]).flatMap(NetworkGraph.Description.Kind.init(rawValue:)) else {
      throw EngineError.invalidArgument("the kind of layer \(index) is \(code[0]); it must be from 0 to 14")
    }
    let integers = Array(code[4...])
    var statistics: [Double] = []
    if kind == .frozenBatchNorm {
      let wanted = 2 * (try size(integers[1], "the number of channels of layer \(index)"))
      guard wanted <= given - taken else {
        throw EngineError.invalidArgument("there are \(given) statistics, too few for layer \(index)")
      }
      statistics = Array(UnsafeBufferPointer(start: try require(shape.statistics, "statistics") + taken, count: wanted))
      taken += wanted
    }
    return NetworkGraph.Description(
      kind: kind, input: code[1], second: code[2], offset: code[3], integers: integers, number: numbers[index],
      statistics: statistics, function: function(shape.functions, index))
  }
  guard taken == given else {
    throw EngineError.invalidArgument("there are \(given) statistics; the layers take \(taken)")
  }
  return found
}
