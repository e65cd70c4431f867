import Testing

@testable import SwiftNets

@Suite struct PixelTests {
  @Test(arguments: [(1, 1), (2, 7), (12, 64), (33, 130), (45, 2100), (130, 1024)], [true, false])
  func `the Gram matrix of pixels is exact`(size: (Int, Int), inBytes: Bool) throws {
    let xs = try Matrix<Double>.pixels(size.0, size.1, seed: 5)
    // The largest sums there are.
    for column in 0..<size.1 { xs[size.0 - 1, column] = -0.5 }
    let pixels = try #require(try Pixels(xs, interruption: .init()))
    let gram = try Matrix<Double>(rows: size.0, columns: size.0)
    if inBytes {
      try pixels.gram(into: gram, interruption: .init())
    } else {
      try pixels.gramInFloats(into: gram, interruption: .init())
    }
    for i in 0..<size.0 {
      for j in 0...i {
        var sum = 0
        for p in 0..<size.1 { sum += Int(256 * xs[i, p]) * Int(256 * xs[j, p]) }
        #expect(gram[i, j] == Double(sum) / 65536)
      }
    }
  }

  @Test(arguments: [
    0.5, -0.5 - 1.0 / 256, 1.0 / 512, 1e-20, (0.25).nextUp, -.infinity, .infinity, .nan, 1e300, -1e300,
  ])
  func `an entry that is no pixel is noticed wherever it is`(value: Double) throws {
    for (row, column) in [(0, 0), (0, 69), (8, 3), (8, 69)] {
      let xs = try Matrix<Double>.pixels(9, 70, seed: 1)
      xs[row, column] = value
      #expect(try Pixels(xs, interruption: .init()) == nil)
    }
  }

  // Byte instructions, where the processor has them, and floating point.
  static let arithmetics = [(true, false), (true, true), (false, false), (false, true)]

  @Test(
    arguments: [(1, 1, 1), (9, 70, 16), (130, 40, 17), (20, 300, 100), (5, 9, 300), (70, 129, 113)], arithmetics)
  func `a product with pixels is exact but for the digits of the factor`(
    size: (Int, Int, Int), arithmetic: (inBytes: Bool, transposed: Bool)
  ) throws {
    let transposed = arithmetic.transposed
    let xs = try Matrix<Double>.pixels(size.0, size.1, seed: 2)
    let pixels = try #require(try Pixels(xs, interruption: .init()))
    let products = try PixelProducts(pixels, inBytes: arithmetic.inBytes, interruption: .init())
    let x = transposed ? ExtendedMatrix(xs).transpose : ExtendedMatrix(xs)
    let b = try Matrix<Double>.normal(x.width, size.2, seed: 3)
    // Columns of very different sizes, and one of zeros.
    for row in 0..<b.rows {
      b[row, 0] *= 0x1p-600
      b[row, b.columns - 1] *= b.columns == 1 ? 1 : 0x1p500
      if b.columns > 2 { b[row, 1] = 0 }
    }
    let exact = x * ExtendedMatrix(b)
    for (precision, bits) in [(PixelProducts.Precision.low, 22), (.medium, 46), (.full, 54)] {
      // Four roundings of whole results, or those of sums of 64 products whose errors are random in sign.
      let ofSums = Float80(sign: .plus, exponent: arithmetic.inBytes ? -51 : -49, significand: 1)
      for (alpha, beta) in [(1.0, 0.0), (-1.0, 1.0)] {
        let c = try Matrix<Double>.normal(x.height, size.2, seed: 4)
        let before = c.rowsAsArrays
        try products.product(
          alpha, transposed: transposed, b, beta, into: c, precision: precision, interruption: .init())
        for j in 0..<c.columns {
          let largest = (0..<b.rows).map { abs(b[$0, j]) }.max() ?? 0
          for i in 0..<c.rows {
            let wanted = Float80(beta) * before[i][j] + Float80(alpha) * exact.rows[i][j]
            let reach = x.rows[i].reduce(0) { $0 + abs($1) } * Float80(largest)
            let rounding = Float80(sign: .plus, exponent: -bits, significand: 1) * reach
            let terms = ofSums * (abs(Float80(beta) * before[i][j]) + reach)
            #expect(abs(Float80(c[i, j]) - wanted) <= rounding + terms)
          }
        }
      }
    }
  }

  @Test(arguments: [true, false])
  func `a factor that is not finite shows in its column of the product alone`(inBytes: Bool) throws {
    let pixels = try #require(try Pixels(try .pixels(4, 6, seed: 2), interruption: .init()))
    let products = try PixelProducts(pixels, inBytes: inBytes, interruption: .init())
    for (value, precision) in [(Double.nan, PixelProducts.Precision.full), (.infinity, .full), (.nan, .low)] {
      let b = try Matrix<Double>.normal(6, 3, seed: 3)
      b[2, 1] = value
      let c = try Matrix<Double>(rows: 4, columns: 3)
      try products.product(1, b, 0, into: c, precision: precision, interruption: .init())
      for i in 0..<4 { #expect(c[i, 0].isFinite && c[i, 1].isNaN && c[i, 2].isFinite) }
    }
  }

  @Test func `bytes match their own pixels only`() throws {
    let xs = try Matrix<Double>.pixels(40, 50, seed: 2)
    let pixels = try #require(try Pixels(xs, interruption: .init()))
    let products = try PixelProducts(pixels, interruption: .init())
    #expect(try products.match(xs, interruption: .init()))
    for value in [xs[39, 49] == 0 ? 0.25 : 0, 1e-3, .nan] {
      let other = try xs.copy()
      other[39, 49] = value
      #expect(try !products.match(other, interruption: .init()))
    }
  }
}
