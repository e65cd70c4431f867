import Testing

@testable import SwiftNets

@Suite struct ChunkSumTests {
  /// The sum of `chunks` chunks of 1024 samples, each of which adds 0.1 to one number and 1 to another.
  private func sum<T: KernelScalar>(_ type: T.Type, chunks: Int, before: T? = nil) throws -> [T] {
    var out: [T] = [before ?? 7, before ?? 7]
    let sum = try ChunkSum<T>(length: 2, samples: 1024 * chunks)
    out.withUnsafeMutableBufferPointer { out in
      sum.begin(before == nil ? .set : .add, into: out.baseAddress!)
      for _ in 0..<chunks {
        let (target, update) = sum.next(1024)
        for (index, value) in [0.1, 1].enumerated() {
          target[index] = update == .set ? T(value) : target[index] + T(value)
        }
      }
      sum.finish()
    }
    return out
  }

  @Test func `a sum replaces or adds to what was there, and of nothing is 0`() throws {
    for chunks in [1, 2, 15, 16, 17, 40, 1000] {
      let count = Float(chunks)
      #expect(try sum(Float.self, chunks: chunks)[1] == count)
      #expect(try sum(Float.self, chunks: chunks, before: 3)[1] == count + 3)
      #expect(try sum(Double.self, chunks: chunks, before: 3)[1] == Double(count) + 3)
    }
    #expect(try sum(Float.self, chunks: 0) == [0, 0])
    #expect(try sum(Double.self, chunks: 0) == [0, 0])
    #expect(try sum(Float.self, chunks: 0, before: 3) == [3, 3])
  }

  @Test func `rounding of many equal chunks in float32 grows with the root of their number`() throws {
    for chunks in [1000, 100_000] {
      let exact = Double(chunks) * Double(Float(0.1))
      let error = abs(Double(try sum(Float.self, chunks: chunks)[0]) - exact)
      #expect(error <= 2 * Double(chunks).squareRoot() * 0x1p-24 * exact)
    }
  }
}
