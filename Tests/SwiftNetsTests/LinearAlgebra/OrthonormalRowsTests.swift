import Testing

@testable import SwiftNets

@Suite struct OrthonormalRowsTests {
  /// Of a random row next to nothing is left where one dimension is; it must be taken nevertheless.
  @Test func `the last of many dimensions is found`() throws {
    let length = 1024
    // A reflection of the unit vectors, without the last.
    let v = try Matrix<Double>.normal(1, length, seed: 3)
    let square = Double.dot(length, v.base, v.base)
    var rows = OrthonormalRows<Double>(length: length)
    func reflected(_ i: Int) -> [Double] { (0..<length).map { ($0 == i ? 1 : 0) - 2 * v[0, i] * v[0, $0] / square } }
    for i in 0..<length - 1 { rows.take(reflected(i)) }
    try rows.complete(interruption: Interruption())
    #expect(rows.count == length)
    let (last, wanted) = (Array(rows.numbers.suffix(length)), reflected(length - 1))
    let product = zip(last, wanted).reduce(0) { $0 + $1.0 * $1.1 }
    for index in 0..<length { #expect(abs(last[index] - product * wanted[index]) <= 64 * 0x1p-52) }
    #expect(abs(abs(product) - 1) <= 64 * 0x1p-52)
  }

  @Test func `rows that depend on others are replaced`() throws {
    var rows = OrthonormalRows<Complex>(length: 3)
    let row = [Complex(0.6, 0), Complex(0, 0.8), Complex(0)]
    for _ in 0..<3 { rows.append(row) }
    for i in 0..<3 {
      for j in 0..<3 {
        var product = Complex(0)
        for k in 0..<3 { product = product + rows.numbers[3 * i + k].conjugate * rows.numbers[3 * j + k] }
        #expect((product - Complex(i == j ? 1 : 0)).magnitude <= 16 * 0x1p-52)
      }
    }
  }
}
