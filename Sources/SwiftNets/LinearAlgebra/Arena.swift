/// Hands out pieces of one allocation, each on a cache line of its own with some slack behind it: the small kernels
/// read whole vectors, up to three numbers past the end of what they need.
///
/// Pieces are laid out twice: first with `Arena.measuring`, which only counts, then in an arena of that size.
struct Arena {
  private let start: UnsafeMutableRawPointer
  private(set) var bytes = 0

  /// An arena without memory: what it hands out must not be touched.
  static var measuring: Arena { Arena(start: UnsafeMutableRawPointer(bitPattern: line)!) }

  private init(start: UnsafeMutableRawPointer) { self.start = start }

  /// An arena in memory that is valid as long as `memory`.
  init(_ memory: ArenaMemory) { start = memory.base }

  mutating func take<Element>(_ count: Int, of type: Element.Type = Element.self) -> UnsafeMutablePointer<Element> {
    let piece = (start + bytes).bindMemory(to: type, capacity: count)
    let needed = saturating(sum: saturating(count, MemoryLayout<Element>.stride), Self.slack)
    bytes = saturating(sum: bytes, roundedUp(needed, to: Self.line))
    return piece
  }

  private static let line = 64
  private static let slack = 32
}

/// The memory of an arena. What it holds at first is not defined.
final class ArenaMemory: Sendable {
  fileprivate nonisolated(unsafe) let base: UnsafeMutableRawPointer
  private let owner: any Sendable

  init(bytes: Int) throws(EngineError) {
    // Setting a small net's memory to zero, or mapping it anew each time, would take a tenth of the time of factoring
    // it. Large storage is mapped, given back at once, and zero for nothing.
    if bytes < 32 << 20 {
      let words = try Integers<UInt64>(count: bytes / 8 + 1)
      base = UnsafeMutableRawPointer(words.base)
      owner = words
    } else {
      let numbers = try Storage<Double>(count: bytes / 8 + 1)
      base = UnsafeMutableRawPointer(numbers.base)
      owner = numbers
    }
  }
}
