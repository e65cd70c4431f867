import Glibc
import Synchronization

/// Memory for `count` integers and some slack, not set to zero, freed with its last owner.
final class Integers<Element: FixedWidthInteger>: @unchecked Sendable {
  let base: UnsafeMutablePointer<Element>
  let count: Int

  init(count: Int) throws(EngineError) {
    let bytes = saturating(count, MemoryLayout<Element>.stride)
    var raw: UnsafeMutableRawPointer?
    guard count >= 0, bytes < Int.max - slackBytes, posix_memalign(&raw, 64, bytes + slackBytes) == 0, let raw else {
      throw .outOfMemory(bytes: bytes)
    }
    base = raw.bindMemory(to: Element.self, capacity: max(count, 1))
    self.count = count
  }

  deinit { free(base) }
}

/// A truth value that the members of a team share.
final class Flag: Sendable {
  private let atomic: Atomic<Bool>

  init(_ value: Bool) { atomic = Atomic(value) }

  var value: Bool {
    get { atomic.load(ordering: .relaxed) }
    set { atomic.store(newValue, ordering: .relaxed) }
  }
}

/// Numbers handed out one by one to the members of a team.
final class Queue: Sendable {
  private let upcoming: Atomic<Int>

  init(_ first: Int) { upcoming = Atomic(first) }

  func next(below end: Int) -> Int? {
    let value = upcoming.add(1, ordering: .relaxed).oldValue
    return value < end ? value : nil
  }
}

/// The weight of a number that is copied: the system may have to make its page first.
let copied = 256

/// Runs `body` on consecutive slices of 0..<total, `least` items or about 10⁹ units of weight each, with a look at the
/// interruption before each.
func inSlices(
  of total: Int, least: Int = 1, weight: Int, interruption: Interruption,
  _ body: (Range<Int>) throws(EngineError) -> Void
) throws(EngineError) {
  let slice = max(least, 1_000_000_000 / max(weight, 1))
  var first = 0
  while first < total {
    try interruption.check()
    let end = min(total, first + slice)
    try body(first..<end)
    first = end
  }
}
