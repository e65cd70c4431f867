import CKernels
import Glibc
import Testing

@testable import SwiftNets

/// The vector activations and losses against extended precision.
@Suite struct ActivationKernelTests {
  /// 0, the smallest and large numbers, and a grid that is fine where the functions bend.
  static let points: [Double] =
    [0, -0.0, 1e-300, -1e-300, 1e-8, -1e-8] + stride(from: -30.0, through: 30, by: 0.37).map { $0 }

  private func derivatives(_ kind: Activation.Kind, _ a: [Double], order: Int, parameter: Double = 0.5) -> [[Double]] {
    var out = [[Double]](repeating: [Double](repeating: .nan, count: a.count), count: 5)
    a.withUnsafeBufferPointer { a in
      withPointers(&out) {
        swk_activation_f64(
          kind.rawValue, parameter, Int32(order), a.count, a.baseAddress!, $0[0], $0[1], $0[2], $0[3], $0[4])
      }
    }
    return out
  }

  private func withPointers(_ rows: inout [[Double]], _ body: ([UnsafeMutablePointer<Double>]) -> Void) {
    let count = rows[0].count
    let memory = UnsafeMutablePointer<Double>.allocate(capacity: rows.count * count)
    defer { memory.deallocate() }
    for index in rows.indices { for k in 0..<count { memory[index * count + k] = rows[index][k] } }
    body(rows.indices.map { memory + $0 * count })
    for index in rows.indices { for k in 0..<count { rows[index][k] = memory[index * count + k] } }
  }

  @Test(arguments: Activation.Kind.allCases)
  func `values are right to a few units in the last place`(kind: Activation.Kind) {
    let activation = Activation(kind, parameter: 0.5)
    for (a, value) in zip(Self.points, derivatives(kind, Self.points, order: 4)[0]) {
      let exact = MultilayerPerceptronTests.activated(activation, Float80(a))
      // The tails of GELU and the zeros of the sine lose a few more, relative to the argument's size.
      let size = max(abs(exact), kind == .gelu || kind == .geluTanh || kind == .sine ? abs(Float80(a)) / 16 : 0)
      #expect(abs(Float80(value) - exact) <= 8 * 0x1p-53 * size + 0x1p-1070, "at \(a)")
    }
  }

  @Test(arguments: Activation.Kind.allCases)
  func `derivatives are differences of the values`(kind: Activation.Kind) {
    let activation = Activation(kind, parameter: 0.5)
    func s(_ a: Float80) -> Float80 { MultilayerPerceptronTests.activated(activation, a) }
    let points = stride(from: -6.05, through: 6, by: 0.3).map { $0 }  // none within a step of a kink
    let d = derivatives(kind, points, order: 4)
    for (index, point) in points.enumerated() {
      let a = Float80(point)
      // Stencils with errors of order h⁴ times a higher derivative of a few units, and of rounding 2^-64 / h^k.
      let h: Float80 = 1e-3
      let first = (s(a - 2 * h) - 8 * s(a - h) + 8 * s(a + h) - s(a + 2 * h)) / (12 * h)
      let second = (-s(a - 2 * h) + 16 * s(a - h) - 30 * s(a) + 16 * s(a + h) - s(a + 2 * h)) / (12 * h * h)
      let g: Float80 = 1e-2
      let outer = s(a + 3 * g) - s(a - 3 * g)
      let third = (-outer + 8 * (s(a + 2 * g) - s(a - 2 * g)) - 13 * (s(a + g) - s(a - g))) / (8 * g * g * g)
      let around = s(a + 3 * g) + s(a - 3 * g)
      let middle = 12 * (s(a + 2 * g) + s(a - 2 * g)) - 39 * (s(a + g) + s(a - g)) + 56 * s(a)
      let fourth = (-around + middle) / (6 * g * g * g * g)
      #expect(abs(Float80(d[1][index]) - first) <= 1e-10)
      #expect(abs(Float80(d[2][index]) - second) <= 1e-9)
      #expect(abs(Float80(d[3][index]) - third) <= 1e-5)
      #expect(abs(Float80(d[4][index]) - fourth) <= 1e-4)
    }
  }

  @Test(arguments: Activation.Kind.allCases)
  func `lengths and orders change nothing and nothing past them is written`(kind: Activation.Kind) {
    let full = derivatives(kind, Self.points, order: 4)
    for length in 0..<34 {
      for order in 0...4 {
        var out = [[Double]](repeating: [Double](repeating: 7.25, count: length + 4), count: 5)
        Self.points.withUnsafeBufferPointer { a in
          withPointers(&out) {
            swk_activation_f64(
              kind.rawValue, 0.5, Int32(order), length, a.baseAddress!, $0[0], $0[1], $0[2], $0[3], $0[4])
          }
        }
        for k in 0...4 {
          let written = k <= order ? length : 0
          #expect(out[k][..<written].map(\.bitPattern) == full[k][..<written].map(\.bitPattern))
          #expect(out[k][written...].allSatisfy { $0 == 7.25 })
        }
      }
    }
  }

  @Test func `NaN and infinity give NaN and the limits`() {
    for kind in Activation.Kind.allCases {
      #expect(derivatives(kind, [.nan], order: 4).allSatisfy { $0[0].isNaN || kind == .identity || kind == .leakyReLU })
      #expect(derivatives(kind, [.nan], order: 0)[0][0].isNaN)
    }
    #expect(derivatives(.leakyReLU, [.nan], order: 1)[1][0].isNaN)
    #expect(derivatives(.tanh, [.infinity, -.infinity], order: 1)[0] == [1, -1])
    #expect(derivatives(.tanh, [.infinity, -.infinity], order: 1)[1] == [0, 0])
    #expect(derivatives(.sigmoid, [.infinity, -.infinity], order: 1)[0] == [1, 0])
    #expect(derivatives(.softplus, [.infinity, -.infinity], order: 1)[0] == [.infinity, 0])
    #expect(derivatives(.leakyReLU, [0, -0.0], order: 1)[1] == [0.5, 0.5])
    #expect(derivatives(.elu, [.infinity, -.infinity], order: 2)[...2] == [[.infinity, -0.5], [1, 0], [0, 0]])
    #expect(derivatives(.elu, [0, -0.0], order: 4)[1...] == Array(repeating: [0.5, 0.5], count: 4)[...])
    #expect(derivatives(.elu, [0, -0.0], order: 0)[0].map(\.sign) == [.plus, .minus])
  }

  @Test(arguments: [Activation.Kind.tanh, .sigmoid, .softplus, .silu, .elu])
  func `tails are right as long as they are normal numbers`(kind: Activation.Kind) {
    // Beyond ±40 the functions are their limits and one exponential: e⁻⁴⁰ is below the rounding of the rest.
    let rate: Double = kind == .tanh ? 2 : 1
    let sizes = [40, 100, 600, 707.9, 708.3, 710, 714].map { $0 / rate }
    let points = sizes.filter { rate * $0 < (kind == .silu ? 714.5 : 708.35) }.flatMap { [$0, -$0] }
    let derivatives = derivatives(kind, points, order: 4)
    for (index, point) in points.enumerated() {
      let (a, e) = (Float80(point), expl(-Float80(rate * abs(point))))
      let side: Float80 = point > 0 ? -1 : 1
      for order in 1...4 {
        let sign: Float80 = order % 2 == 1 ? 1 : side  // side^(order + 1)
        let exact: Float80 =
          switch kind {
          case .tanh: sign * Float80(2 << order) * e
          case .sigmoid: sign * e
          case .softplus: order == 1 && point > 0 ? 1 : sign * side * e
          case .elu: point > 0 ? (order == 1 ? 1 : 0) : 0.5 * e
          default: order == 1 && point > 0 ? 1 : sign * (a + side * Float80(order)) * e
          }
        #expect(abs(Float80(derivatives[order][index]) - exact) <= 8 * 0x1p-53 * abs(exact), "at \(point)")
      }
    }
  }

  @Test func `losses and their derivatives are the closed forms`() {
    let (z, y) = ([-3.0, -0.5, 0, 0.25, 2, 40, -40], [0.5, -0.25, 0, 1, 0, 1, 0])
    func loss(_ kind: LossFunction.Kind) -> [[Double]] {
      var out = [[Double]](repeating: [Double](repeating: .nan, count: z.count), count: 5)
      withPointers(&out) { swk_loss_f64(kind.rawValue, 1.5, 2, z.count, z, y, $0[0], $0[1], $0[2], $0[3], $0[4]) }
      return out
    }
    let (squares, logits, huber) = (loss(.squaredError), loss(.binaryCrossEntropy), loss(.huber))
    for (index, (z, y)) in zip(z, y).enumerated() {
      let r = z - y
      #expect(squares[0][index] == r * r / 2 && squares[1][index] == r && squares[2][index] == 1)
      let isInside = abs(r) < 1.5
      #expect(huber[0][index] == (isInside ? r * r / 2 : 1.5 * (abs(r) - 0.75)))
      #expect(huber[1][index] == (isInside ? r : copysign(1.5, r)) && huber[2][index] == (isInside ? 1 : 0))
      let (e, wide) = (expl(-abs(Float80(z))), Float80(z))
      let value = log1pl(e) + max(wide, 0) - Float80(y) * wide
      let p = 1 / (1 + expl(-wide))
      #expect(abs(Float80(logits[0][index]) - value) <= 8 * 0x1p-53 * (abs(value) + abs(wide * Float80(y))))
      #expect(abs(Float80(logits[1][index]) - (p - Float80(y))) <= 8 * 0x1p-53)
      #expect(abs(Float80(logits[2][index]) - p * (1 - p)) <= 8 * 0x1p-53 * p)
    }
  }
}
