import CKernels
import Glibc
import Synchronization

/// Threads that work on one small problem together and meet at barriers.
///
/// For work of a few hundred microseconds, where waking OpenBLAS's pool for every product would cost more than the
/// product. Helpers are made on first use, spin for a moment between jobs and then sleep. One job runs at a time in a
/// process; a second caller waits. After `fork` the child makes helpers of its own.
enum ThreadTeam {
  /// One of the threads that run a job.
  struct Member {
    let index: Int
    let count: Int
    fileprivate let barrierState: Barrier?

    /// Returns when every member of the team has come here.
    func barrier() { barrierState?.wait(count) }

    /// This member's share of 0..<total, in units of `grain`: contiguous, in member order, the same every time.
    func share(of total: Int, grain: Int = 1) -> Range<Int> {
      let units = (total + grain - 1) / grain
      let first = units * index / count * grain
      let last = units * (index + 1) / count * grain
      return min(first, total)..<min(last, total)
    }
  }

  /// Runs `body` once on each of `threads` threads, the caller among them, and returns when all are done.
  static func run(threads: Int, _ body: (Member) -> Void) {
    guard threads > 1 else {
      body(Member(index: 0, count: 1, barrierState: nil))
      return
    }
    let pool = Pool.shared
    pthread_mutex_lock(pool.callers)
    defer { pthread_mutex_unlock(pool.callers) }
    guard pool.hire(threads - 1) else {
      // No threads to be had: the same partition, run by a team of one, would deadlock at a barrier.
      body(Member(index: 0, count: 1, barrierState: nil))
      return
    }
    withoutActuallyEscaping(body) { pool.perform(threads: threads, $0) }
  }
}

/// A barrier that threads can use again and again.
private final class Barrier: Sendable {
  private let arrived = Atomic<Int>(0)
  private let phase = Atomic<Int>(0)

  func wait(_ count: Int) {
    let now = phase.load(ordering: .relaxed)
    if arrived.add(1, ordering: .acquiringAndReleasing).newValue == count {
      arrived.store(0, ordering: .relaxed)
      phase.store(now &+ 1, ordering: .releasing)
    } else {
      spin { phase.load(ordering: .acquiring) != now }
    }
  }
}

/// Waits for `condition`, giving the processor away when it takes long: the other thread may not be running at all.
private func spin(until condition: () -> Bool) {
  var turns = 0
  while !condition() {
    turns += 1
    if turns < 4000 { swk_pause() } else { sched_yield() }
  }
}

private final class Pool: @unchecked Sendable {
  static let shared = Pool()

  let callers = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let sleepLock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let wake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let barrier = Barrier()

  // Written by the caller that holds `callers`, before it publishes a new `generation`.
  private var job: ((ThreadTeam.Member) -> Void)?
  private var helpers = 0
  private let generation = Atomic<Int>(0)  // counts jobs, with the number of threads in the low byte
  private let finished = Atomic<Int>(0)
  private let sleepers = Atomic<Int>(0)

  private init() {
    reset()
    pthread_atfork(nil, nil) { Pool.shared.reset() }
  }

  /// The state of a process without helpers: at the start, and in the child of a fork.
  private func reset() {
    pthread_mutex_init(callers, nil)
    pthread_mutex_init(sleepLock, nil)
    pthread_cond_init(wake, nil)
    job = nil
    helpers = 0
    generation.store(0, ordering: .relaxed)
    finished.store(0, ordering: .relaxed)
    sleepers.store(0, ordering: .relaxed)
  }

  /// Makes sure of `count` helpers.
  func hire(_ count: Int) -> Bool {
    while helpers < count {
      // Signals are for the caller's threads: Python expects them on its main one.
      var all = sigset_t()
      var before = sigset_t()
      sigfillset(&all)
      pthread_sigmask(SIG_SETMASK, &all, &before)
      defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
      let start = Unmanaged.passRetained(Start(index: helpers + 1, seen: generation.load(ordering: .relaxed)))
      var thread = pthread_t()
      let failed = pthread_create(&thread, nil, { argument in
        let start = Unmanaged<Start>.fromOpaque(argument!).takeRetainedValue()
        Pool.shared.help(index: start.index, since: start.seen)
        return nil
      }, start.toOpaque())
      if failed != 0 {
        start.release()
        return false
      }
      pthread_detach(thread)
      helpers += 1
    }
    return true
  }

  private final class Start {
    let index: Int
    let seen: Int
    init(index: Int, seen: Int) {
      self.index = index
      self.seen = seen
    }
  }

  func perform(threads: Int, _ body: @escaping (ThreadTeam.Member) -> Void) {
    job = body
    finished.store(0, ordering: .relaxed)
    let next = ((generation.load(ordering: .relaxed) >> 8) &+ 1) << 8 | threads
    generation.store(next, ordering: .sequentiallyConsistent)
    if sleepers.load(ordering: .sequentiallyConsistent) > 0 {
      pthread_mutex_lock(sleepLock)
      pthread_cond_broadcast(wake)
      pthread_mutex_unlock(sleepLock)
    }
    body(.init(index: 0, count: threads, barrierState: barrier))
    spin { finished.load(ordering: .acquiring) == threads - 1 }
    job = nil
  }

  private func help(index: Int, since start: Int) {
    var seen = start
    while true {
      var turns = 0
      while generation.load(ordering: .acquiring) == seen {
        turns += 1
        if turns < 4000 {
          swk_pause()
          continue
        }
        pthread_mutex_lock(sleepLock)
        sleepers.add(1, ordering: .sequentiallyConsistent)
        while generation.load(ordering: .sequentiallyConsistent) == seen {
          pthread_cond_wait(wake, sleepLock)
        }
        sleepers.subtract(1, ordering: .sequentiallyConsistent)
        pthread_mutex_unlock(sleepLock)
      }
      seen = generation.load(ordering: .acquiring)
      let threads = seen & 0xff
      if index < threads {
        job?(.init(index: index, count: threads, barrierState: barrier))
        finished.add(1, ordering: .releasing)
      }
    }
  }
}
