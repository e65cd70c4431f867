import Glibc
import Testing

@testable import SwiftNets

/// One row of softmax cross-entropy against extended precision, which has the range that sure nets need.
@Suite struct SoftmaxTests {
  private func evaluate<T: KernelScalar>(
    _ z: [T], _ targets: [T]?, label: Int64 = 0
  ) -> (p: [T], loss: Double, slope: [T], product: [T], top: Int) {
    var (z, y) = (z, targets ?? [])
    let labels = try! Integers<Int64>(count: 1)
    labels.base[0] = label
    let width = z.count
    var (p, slope, product) = ([T](repeating: 0, count: width), [T](repeating: 0, count: width), z)
    let directions = (0..<width).map { T($0 * $0) - 1 }
    var (loss, top) = (0.0, 0)
    z.withUnsafeMutableBufferPointer { z in
      y.withUnsafeMutableBufferPointer { y in
        let given: Samples<T>.Targets =
          targets == nil ? .labels(labels) : .rows(Matrix(borrowing: y.baseAddress!, rows: 1, columns: width))
        let softmax = Softmax(z.baseAddress!, width, into: &p)
        loss = softmax.evaluate(z.baseAddress!, p, width, given, 0, scale: 1, into: &slope).loss
        top = softmax.top
        Softmax.multiply(p, top, 1, directions, width, into: &product)
      }
    }
    return (p, loss, slope, product, top)
  }

  private func check<T: KernelScalar>(_ type: T.Type, margin: Double) {
    let z = [0.25, margin, -1.5].map { T($0) }
    let exponentials = z.map { expl(Float80($0) - Float80(margin)) }
    let others = exponentials[0] + exponentials[2]
    let p = exponentials.map { $0 / (1 + others) }
    let ulp = Float80(T.ulpOfOne) / 2
    let targets: [[T]?] = [nil, [1, 0, 0], [0.25, 0.5, 0.5]]
    for target in targets {
      let found = evaluate(z, target)
      let y = (target ?? [1, 0, 0]).map { Float80($0) }
      let total = y.reduce(0, +)
      var loss = total * log1pl(others)
      for k in 0..<3 { loss += y[k] * (Float80(margin) - Float80(z[k])) }
      #expect(found.top == 1)
      #expect(abs(Float80(found.loss) - loss) <= 4 * ulp * loss)
      for k in 0..<3 {
        let (rest, targetRest) = (
          (0..<3).filter { $0 != k }.reduce(Float80(0)) { $0 + p[$1] },
          (0..<3).filter { $0 != k }.reduce(Float80(0)) { $0 + y[$1] }
        )
        #expect(abs(Float80(found.p[k]) - p[k]) <= 4 * ulp * p[k])
        let terms = p[k] * targetRest + y[k] * rest
        #expect(abs(Float80(found.slope[k]) - (p[k] * targetRest - y[k] * rest)) <= 6 * ulp * terms)
        // Directions −1, 0, 3: differences against class 1 are these.
        let mean = 3 * p[2] - p[0]
        let product = p[k] * ([-1, 0, 3][k] - mean)
        #expect(abs(Float80(found.product[k]) - product) <= 8 * ulp * p[k] * 4 * (k == 1 ? others : 1))
      }
    }
    let (labels, rows) = (evaluate(z, nil, label: 1), evaluate(z, [0, 1, 0]))
    #expect(labels.slope == rows.slope && labels.loss == rows.loss)
    #expect(abs(Float80(labels.loss) - log1pl(others)) <= 4 * ulp * others)
    #expect(abs(Float80(labels.slope[1]) + others / (1 + others)) <= 4 * ulp * others)
  }

  @Test(arguments: [2.0, 12, 30, 40, 60, 80])
  func `small numbers keep their digits at any margin`(margin: Double) {
    check(Double.self, margin: margin)
    check(Float.self, margin: margin)
  }

  @Test func `a NaN anywhere is everywhere`() {
    for place in 0..<3 {
      var z: [Double] = [1, 2, 0]
      z[place] = .nan
      let found = evaluate(z, nil, label: 2)
      #expect(found.p.allSatisfy { $0.isNaN } && found.loss.isNaN && found.slope.allSatisfy { $0.isNaN })
      #expect(found.product.allSatisfy { $0.isNaN })
    }
    #expect(evaluate([Double.nan], nil).loss.isNaN)
  }
}
