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

  @Test func `members agree on what the first of them says, every time`() {
    let rounds = 2000
    let parted = Atomic<Int>(0)
    let told = Mutex([Int: [Bool]]())
    ThreadTeam.run(parts: 3) { member in
      var heard: [Bool] = []
      for round in 0..<rounds { heard.append(member.agree(round * round % 7 == 2)) }
      let mine = heard
      told.withLock { $0[member.index] = mine }
    }
    for heard in told.withLock({ $0 }).values where heard != (0..<rounds).map({ $0 * $0 % 7 == 2 }) {
      parted.add(1, ordering: .relaxed)
    }
    #expect(parted.load(ordering: .relaxed) == 0)
  }

  @Test func `a thread that holds a gate for itself is told so, and may read again where it reads`() throws {
    let gate = Gate()
    let patient = Interruption { false }
    try gate.write(patient) { () throws(EngineError) in
      #expect(throws: EngineError.self) { try gate.read(patient) { () throws(EngineError) in } }
      #expect(throws: EngineError.self) { try gate.write(patient) { () throws(EngineError) in } }
    }
    try gate.read(patient) { () throws(EngineError) in
      #expect(throws: EngineError.self) { try gate.write(patient) { () throws(EngineError) in } }
      #expect(try gate.read(patient) { () throws(EngineError) in 5 } == 5)
    }
    #expect(try gate.write(patient) { () throws(EngineError) in 7 } == 7)
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

private final class Counter: Sendable {
  let total = Atomic<Int>(0)

  @Test func `a fork waits for calls of OpenBLAS, and new ones wait for the fork`() {
    let seen = Seen()
    // Threads of their own: members of a team may be one and the same.
    let caller = thread {
      OpenBLAS.call(seen.stay())
      Seen.wait(for: seen.isPaused)
      OpenBLAS.call(seen.hasCalledAgain.store(true, ordering: .releasing))
    }
    Seen.wait(for: seen.isInside)
    let forker = thread {
      OpenBLAS.pause()
      seen.isPaused.store(true, ordering: .releasing)
      Seen.wait(for: seen.mayResume)
      OpenBLAS.resume()
    }
    usleep(20_000)
    let isEarly = seen.isPaused.load(ordering: .acquiring)
    #expect(!isEarly)
    seen.mayReturn.store(true, ordering: .releasing)
    Seen.wait(for: seen.isPaused)
    usleep(20_000)
    let isBeside = seen.hasCalledAgain.load(ordering: .acquiring)
    #expect(!isBeside)
    seen.mayResume.store(true, ordering: .releasing)
    pthread_join(forker, nil)
    pthread_join(caller, nil)
    let isDone = seen.hasCalledAgain.load(ordering: .acquiring)
    #expect(isDone)
  }
}

private final class Seen: Sendable {
  let isInside = Atomic(false)
  let mayReturn = Atomic(false)
  let isPaused = Atomic(false)
  let mayResume = Atomic(false)
  let hasCalledAgain = Atomic(false)

  func stay() {
    isInside.store(true, ordering: .releasing)
    Seen.wait(for: mayReturn)
  }

  static func wait(for flag: borrowing Atomic<Bool>) { while !flag.load(ordering: .acquiring) { usleep(100) } }
}

private final class Body {
  let run: @Sendable () -> Void
  init(_ run: @escaping @Sendable () -> Void) { self.run = run }
}

private func thread(_ run: @escaping @Sendable () -> Void) -> pthread_t {
  var made = pthread_t()
  pthread_create(
    &made, nil,
    {
      Unmanaged<Body>.fromOpaque($0!).takeRetainedValue().run()
      return nil
    }, Unmanaged.passRetained(Body(run)).toOpaque())
  return made
}
