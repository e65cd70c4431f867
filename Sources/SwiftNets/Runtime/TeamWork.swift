import Synchronization

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
