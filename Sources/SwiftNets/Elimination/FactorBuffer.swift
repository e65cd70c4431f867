// bounded: `LayeredShape` grants no size from 2³⁰ on, and no more than 2⁵⁰ bytes together.

/// Numbers of one step of the elimination, not set to zero, with room for the kernels that read past the end.
final class FactorBuffer<Element: FactorScalar> {
  let base: UnsafeMutablePointer<Element>
  private let words: Integers<UInt64>

  init(_ count: Int) throws(EngineError) {
    words = try Integers(count: count * Element.parts + 4)
    base = UnsafeMutableRawPointer(words.base).bindMemory(to: Element.self, capacity: count + 4)
  }

  convenience init(_ numbers: [Element]) throws(EngineError) {
    try self.init(numbers.count)
    for (index, number) in numbers.enumerated() { base[index] = number }
  }

  convenience init(_ numbers: UnsafePointer<Double>, count: Int) throws(EngineError) {
    try self.init(count)
    for index in 0..<count { base[index] = Element(numbers[index]) }
  }
}
