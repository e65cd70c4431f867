import CKernels
import Glibc
import Synchronization

/// Threads that work on one small problem together and meet at barriers.
///
/// For work of a few hundred microseconds, where waking OpenBLAS's pool for every product would cost more than the
/// product. Helpers are made on first use, spin for a moment between jobs and then sleep. One job runs at a time in a
/// process; a second caller waits. After `fork` the child makes helpers of its own.
///
/// A job is cut into a fixed number of parts. Usually each has a thread of its own, but when other programs keep the
/// processors busy, so that barriers take long, the caller does all parts itself for a while. What a part computes is
/// the same either way: the bits of a result depend on the number of parts, not on who did them.
enum ThreadTeam {
  /// One of the threads that run a job.
  struct Member {
    /// 0 for the caller.
    let index: Int
    /// The parts that this member does; the members' parts follow one another.
    let parts: Range<Int>
    let partCount: Int
    /// Members of the team.
    let count: Int
    fileprivate let barrierState: Barrier?
    fileprivate let stop: Stop?
    /// Of forks, when the job began.
    fileprivate let generation = Fork.generation

    /// The caller without a team, whom nobody stops.
    static var alone: Member { Member(index: 0, parts: 0..<1, partCount: 1, count: 1, barrierState: nil, stop: nil) }

    /// Returns when every member of the team has come here.
    func barrier() { barrierState?.wait(count, since: generation) }

    /// A barrier that tells every member the same: what member 0 says. A flag read on its own may have changed between
    /// two members' looks, and members that part wait for each other for ever.
    func agree(_ value: @autoclosure () -> Bool) -> Bool {
      guard let barrierState else { return value() }
      return barrierState.agree(index == 0 ? value() : nil, count, since: generation)
    }

    /// Whether to skip what is left to do, but for the meetings: members that part wait for each other for ever. The
    /// caller's own thread asks whether to stop, and the others hear of it.
    var isStopped: Bool { stop?.isRequested(asking: index == 0) ?? false }

    /// Runs `body` on pieces of `range`, of about 10⁸ units of weight but no fewer than `grain` items, until the job is
    /// stopped. The pieces are the same whether anybody may stop it or not.
    @inline(__always)
    func inPieces(_ range: Range<Int>, weight: Int, grain: Int = 8, _ body: (Range<Int>) -> Void) {
      // bounded: by 10⁸
      let size = max(grain, 100_000_000 / max(weight, 1) / grain * grain)
      var first = range.lowerBound
      while first < range.upperBound {
        if isStopped { return }
        // No small rest: kernels treat few rows in another way.
        let end = range.upperBound - first < size + grain ? range.upperBound : first + size
        body(first..<end)
        first = end
      }
    }

    /// This member's share of 0..<total, in units of `grain`.
    func share(of total: Int, grain: Int = 1) -> Range<Int> { share(of: total, grain: grain, parts: parts) }

    /// One part's share: contiguous, in the order of the parts, the same every time.
    func share(of total: Int, grain: Int = 1, part: Int) -> Range<Int> {
      share(of: total, grain: grain, parts: part..<part + 1)
    }

    private func share(of total: Int, grain: Int, parts: Range<Int>) -> Range<Int> {
      let units = (total + grain - 1) / grain
      let first = units * parts.lowerBound / partCount * grain
      let last = units * parts.upperBound / partCount * grain
      return min(first, total)..<min(last, total)
    }
  }

  /// Runs `body` on up to `parts` threads, the caller among them, which do `parts` parts; returns when all are done.
  static func run(parts: Int, _ body: (Member) -> Void) { run(parts: parts, stop: nil, body) }

  /// The same for work of more than a few milliseconds: members look at `isStopped`, and skip what is left.
  /// - Throws: `cancelled` where the caller asked to stop; what was computed then means nothing.
  static func run(
    parts: Int, _ interruption: Interruption, _ body: (Member) -> Void
  ) throws(EngineError) {
    let stop = interruption.requested == nil ? nil : Stop(interruption)
    run(parts: parts, isAlone: interruption.isAlone, stop: stop, body)
    if stop?.isSet ?? false { throw .cancelled }
  }

  private static func run(parts: Int, isAlone: Bool = false, stop: Stop?, _ body: (Member) -> Void) {
    let alone = Member(index: 0, parts: 0..<parts, partCount: parts, count: 1, barrierState: nil, stop: stop)
    guard parts > 1, !isAlone else { return body(alone) }
    let pool = Pool.shared
    // A job may ask its caller whether to stop, and the answer may start a job: that one is done alone. So is one that
    // would wait long for another caller's: nobody could stop it meanwhile.
    guard !pool.isCallerBusy, pool.lock() else { return body(alone) }
    defer { pool.unlock() }
    guard pool.isWorthwhile(), pool.hire(parts - 1) else { return body(alone) }
    // By another name, as the length of this file's whole path would be in the code.
    #sourceLocation(file:"team",line:1)
    withoutActuallyEscaping(body) { body in
      let generation = Fork.generation
      let held = references(to: body)
      pool.perform(parts: parts, stop, body)
      // A member may ask its caller, whose signal handler may fork: in the child the helpers are gone, and what they
      // held of the body stays held, which the language takes for an escape and ends the process.
      if Fork.generation != generation { release(body, downTo: held) }
    }
    #sourceLocation()
  }

  /// Keeps the compiler from wrapping the closure in another, which it would for a generic function.
  private struct Held { let body: (Member) -> Void }

  /// What a closure captured, as the language counts it. Nil for one that captured nothing.
  private static func context(of body: @escaping (Member) -> Void) -> Unmanaged<AnyObject>? {
    unsafeBitCast(Held(body: body), to: (code: UnsafeRawPointer, context: UnsafeRawPointer?).self).context.map {
      .fromOpaque($0)
    }
  }

  @inline(never)
  private static func references(to body: @escaping (Member) -> Void) -> UInt {
    context(of: body).map { _getRetainCount($0.takeUnretainedValue()) } ?? 0
  }

  @inline(never)
  private static func release(_ body: @escaping (Member) -> Void, downTo count: UInt) {
    for _ in 0..<max(references(to: body), count) - count { context(of: body)?.release() }
  }

  /// In the child of a fork: the helpers are the parent's.
  static func forgetHelpers() { Pool.shared.reset() }
}

/// Whether the members of a job are to skip what is left of it.
private final class Stop: @unchecked Sendable {
  private let interruption: Interruption
  private let flag = Atomic<Bool>(false)

  init(_ interruption: Interruption) { self.interruption = interruption }

  var isSet: Bool { flag.load(ordering: .relaxed) }

  func isRequested(asking: Bool) -> Bool {
    if isSet { return true }
    guard asking, interruption.isRequested else { return false }
    flag.store(true, ordering: .relaxed)
    return true
  }
}

/// A barrier that threads can use again and again.
private final class Barrier: Sendable {
  private let arrived = Atomic<Int>(0)
  private let phase = Atomic<Int>(0)
  private let waited = Atomic<Int>(0)
  // By parity of the phase: the next one is written while members still read the last one.
  private let even = Atomic<Bool>(false)
  private let odd = Atomic<Bool>(false)

  func agree(_ value: Bool?, _ count: Int, since generation: Int) -> Bool {
    let isEven = phase.load(ordering: .relaxed) & 1 == 0
    if let value { isEven ? even.store(value, ordering: .relaxed) : odd.store(value, ordering: .relaxed) }
    wait(count, since: generation)
    return isEven ? even.load(ordering: .relaxed) : odd.load(ordering: .relaxed)
  }

  func wait(_ count: Int, since generation: Int) {
    let now = phase.load(ordering: .relaxed)
    if arrived.add(1, ordering: .acquiringAndReleasing).newValue == count {
      arrived.store(0, ordering: .relaxed)
      phase.store(now &+ 1, ordering: .releasing)
    } else {
      // In a child, where a member's caller forked since the job began, nobody else comes: the job runs out, and its
      // call fails.
      waited.add(
        spin { phase.load(ordering: .acquiring) != now || Fork.generation != generation }, ordering: .relaxed)
    }
  }

  func reset() {
    arrived.store(0, ordering: .relaxed)
    phase.store(0, ordering: .relaxed)
    waited.store(0, ordering: .relaxed)
  }

  /// Nanoseconds that members waited here since the last look.
  func takeWaited() -> Int { waited.exchange(0, ordering: .relaxed) }
}

private func nanoseconds() -> Int {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// Waits for `condition`, giving the processor away when it takes long: the other thread may not be running at all.
/// - Returns: nanoseconds it took, or 0 for the few that make no difference.
@discardableResult
private func spin(until condition: () -> Bool) -> Int {
  var turns = 0
  var start = 0
  while !condition() {
    turns += 1
    if turns == 100 { start = nanoseconds() }
    if turns < 4000 { swk_pause() } else { sched_yield() }
  }
  return turns < 100 ? 0 : nanoseconds() - start
}

private final class Pool: @unchecked Sendable {
  static let shared = Pool()

  private let callers = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let owner = Atomic<UInt>(0)  // the thread that holds `callers`
  private let sleepLock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
  private let wake = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
  private let barrier = Barrier()

  // Written by the caller that holds `callers`, before it publishes a new `generation`.
  private var job: ((ThreadTeam.Member) -> Void)?
  private var stop: Stop?
  private var helpers = 0
  private let generation = Atomic<Int>(0)  // counts jobs, with the number of parts in the low byte
  private let finished = Atomic<Int>(0)
  private let sleepers = Atomic<Int>(0)

  // Until when the caller does jobs alone, and for how long it will after the next two contended ones.
  private var aloneUntil = 0
  private var pause = Pool.shortestPause
  private var wasLate = false
  private static let shortestPause = 1_000_000, longestPause = 64_000_000  // nanoseconds

  private init() {
    reset()
    Fork.watch()
  }

  /// The state of a process without helpers: at the start, and in the child of a fork.
  func reset() {
    pthread_mutex_init(callers, nil)
    pthread_mutex_init(sleepLock, nil)
    pthread_cond_init(wake, nil)
    owner.store(0, ordering: .relaxed)
    barrier.reset()
    stop = nil
    helpers = 0
    aloneUntil = 0
    pause = Self.shortestPause
    wasLate = false
    generation.store(0, ordering: .relaxed)
    finished.store(0, ordering: .relaxed)
    sleepers.store(0, ordering: .relaxed)
  }

  /// Whether this thread is in a job that it called itself.
  var isCallerBusy: Bool { owner.load(ordering: .relaxed) == UInt(pthread_self()) }

  /// False where another caller's job keeps the team for longer than most take.
  func lock() -> Bool {
    if pthread_mutex_trylock(callers) != 0 {
      var end = timespec()
      clock_gettime(CLOCK_REALTIME, &end)
      end.tv_nsec += Self.patience
      if end.tv_nsec >= 1_000_000_000 { (end.tv_sec, end.tv_nsec) = (end.tv_sec + 1, end.tv_nsec - 1_000_000_000) }
      guard pthread_mutex_timedlock(callers, &end) == 0 else { return false }
    }
    owner.store(UInt(pthread_self()), ordering: .relaxed)
    return true
  }
  private static let patience = 2_000_000  // nanoseconds

  func unlock() {
    guard isCallerBusy else { return }  // a fork came between
    owner.store(0, ordering: .relaxed)
    pthread_mutex_unlock(callers)
  }

  /// Whether to try a team: not for a while after the processors were found busy, each time longer.
  func isWorthwhile() -> Bool {
    guard aloneUntil > 0 else { return true }
    guard nanoseconds() >= aloneUntil else { return false }
    aloneUntil = 0
    return true
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
      let failed = pthread_create(
        &thread, nil,
        { argument in
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

  func perform(parts: Int, _ stop: Stop?, _ body: @escaping (ThreadTeam.Member) -> Void) {
    job = body
    self.stop = stop
    finished.store(0, ordering: .relaxed)
    let next = ((generation.load(ordering: .relaxed) >> 8) &+ 1) << 8 | parts
    generation.store(next, ordering: .sequentiallyConsistent)
    let isWaking = sleepers.load(ordering: .sequentiallyConsistent) > 0
    if isWaking {
      pthread_mutex_lock(sleepLock)
      pthread_cond_broadcast(wake)
      pthread_mutex_unlock(sleepLock)
    }
    let fork = Fork.generation
    let start = nanoseconds()
    body(member(0, of: parts))
    let waited =
      spin { finished.load(ordering: .acquiring) == parts - 1 || Fork.generation != fork } + barrier.takeWaited()
    job = nil
    self.stop = nil
    guard Fork.generation == fork else {
      // A child: at the barrier nobody but this thread came, and the next job's members must not meet what it left.
      barrier.reset()
      return
    }
    // A helper that had to be woken says nothing about the processors, nor does a single job that was mostly waiting;
    // two in a row are processors that do something else.
    let now = nanoseconds()
    let isLate = 2 * waited > now - start
    guard !isWaking else { return }
    if isLate && wasLate {
      aloneUntil = now + pause
      pause = min(2 * pause, Self.longestPause)
      wasLate = false
      return
    }
    if !isLate { pause = Self.shortestPause }
    wasLate = isLate
  }

  private func member(_ index: Int, of parts: Int) -> ThreadTeam.Member {
    .init(index: index, parts: index..<index + 1, partCount: parts, count: parts, barrierState: barrier, stop: stop)
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
      let parts = seen & 0xff
      if index < parts {
        job?(member(index, of: parts))
        finished.add(1, ordering: .releasing)
      }
    }
  }
}
