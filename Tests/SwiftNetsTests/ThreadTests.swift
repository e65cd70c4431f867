import Glibc
import Synchronization
import Testing

@testable import SwiftNets

@Suite struct ThreadTests {
  @Test func `a thread count out of range is refused by name`() {
    #expect(throws: EngineError.invalidArgument("threads is 0; it must be from 1 to 64")) { try Threads.set(0) }
    #expect(throws: EngineError.invalidArgument("threads is 65; it must be from 1 to 64")) { try Threads.set(65) }
  }

  @Test(arguments: [1, 2, 3, 5], [0, 1, 7, 8, 50])
  func `shares cover a range once, in the order of the parts, in whole grains`(parts: Int, total: Int) {
    for grain in [1, 4] {
      let shares = Mutex([Int: Range<Int>]())
      ThreadTeam.run(parts: parts) { member in
        let share = member.share(of: total, grain: grain)
        shares.withLock { $0[member.parts.lowerBound] = share }
      }
      let found = shares.withLock { $0 }.sorted { $0.key < $1.key }.map(\.value)
      #expect(found.flatMap { Array($0) } == Array(0..<total))
      for share in found where !share.isEmpty && share.upperBound != total {
        #expect(share.upperBound % grain == 0)
      }
    }
  }

  @Test func `every part is done once, by however many threads`() {
    let done = Mutex([Int](repeating: 0, count: 4))
    ThreadTeam.run(parts: 4) { member in
      for part in member.parts { done.withLock { $0[part] += 1 } }
    }
    #expect(done.withLock { $0 } == [1, 1, 1, 1])
  }

  @Test func `no member passes a barrier before all have come to it`() {
    let rounds = 500
    let arrivals = Atomic<Int>(0)
    let early = Atomic<Int>(0)
    ThreadTeam.run(parts: 3) { member in
      for round in 1...rounds {
        arrivals.add(member.parts.count, ordering: .acquiringAndReleasing)
        member.barrier()
        if arrivals.load(ordering: .acquiring) < 3 * round { early.add(1, ordering: .relaxed) }
        member.barrier()
      }
    }
    #expect(early.load(ordering: .relaxed) == 0)
    #expect(arrivals.load(ordering: .relaxed) == 3 * rounds)
  }

  @Test func `a job started from within a job is done`() {
    let done = Mutex([Int](repeating: 0, count: 3))
    ThreadTeam.run(parts: 2) { member in
      guard member.index == 0 else { return }
      ThreadTeam.run(parts: 3) { inner in
        for part in inner.parts { done.withLock { $0[part] += 1 } }
      }
    }
    #expect(done.withLock { $0 } == [1, 1, 1])
  }

  @Test func `callers on several threads take turns`() async {
    let counter = Counter()
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<4 {
        group.addTask {
          for _ in 0..<200 { ThreadTeam.run(parts: 2) { counter.total.add($0.parts.count, ordering: .relaxed) } }
        }
      }
    }
    #expect(counter.total.load(ordering: .relaxed) == 4 * 200 * 2)
  }
}

@Suite struct InterruptionTests {
  @Test func `a call on its own thread hands over its result and its error`() throws {
    let patient = Interruption { false }
    #expect(try interruptible(patient) { () throws(EngineError) in 42 } == 42)
    #expect(throws: EngineError.numerical("broke")) {
      try interruptible(patient) { () throws(EngineError) -> Int in throw .numerical("broke") }
    }
  }

  @Test func `a caller that wants to stop is not kept until the call ends`() {
    let gate = Gate()
    // The call ends only when the gate opens, which is after it was given up.
    #expect(throws: EngineError.cancelled) {
      try interruptible(Interruption { true }) { () throws(EngineError) in gate.hold() }
    }
    gate.open()
  }
}

private final class Gate: Sendable {
  private let isOpen = Atomic<Bool>(false)
  func open() { isOpen.store(true, ordering: .releasing) }
  func hold() { while !isOpen.load(ordering: .acquiring) { usleep(1000) } }
}

private final class Counter: Sendable {
  let total = Atomic<Int>(0)
}
