import Glibc
import Synchronization

/// Runs one long LAPACK call on a thread of its own, while the caller's thread asks every 20 ms whether to stop.
///
/// LAPACK cannot be stopped: when the caller gives up, the call runs on in the background until it ends, on memory
/// that `body` keeps alive, and its result is dropped.
func interruptible<Result>(
  _ interruption: Interruption, _ body: @escaping () throws(EngineError) -> Result
) throws(EngineError) -> Result {
  guard interruption.requested != nil else { return try body() }
  let call = Call(body)
  _ = waitsAtExit
  running.add(1, ordering: .relaxed)
  let retained = Unmanaged.passRetained(call as any Runnable as AnyObject)
  var all = sigset_t()
  var before = sigset_t()
  sigfillset(&all)
  pthread_sigmask(SIG_SETMASK, &all, &before)
  var thread = pthread_t()
  let failed = pthread_create(
    &thread, nil,
    { argument in
      (Unmanaged<AnyObject>.fromOpaque(argument!).takeRetainedValue() as? any Runnable)?.run()
      running.subtract(1, ordering: .releasing)
      return nil
    }, retained.toOpaque())
  pthread_sigmask(SIG_SETMASK, &before, nil)
  if failed != 0 {
    running.subtract(1, ordering: .relaxed)
    retained.release()
    return try body()
  }
  pthread_detach(thread)
  let generation = Fork.generation
  while !call.isDone {
    try interruption.check()
    // In a child, where the interruption forked, nobody is at the call any more.
    guard Fork.generation == generation else { throw .cancelled }
    usleep(call.patience())
  }
  return try call.outcome()
}

/// Calls under way, abandoned ones among them.
private let running = Atomic<Int>(0)

/// In the child of a fork: the threads that would count them out are the parent's.
func forgetCallsUnderWay() { running.store(0, ordering: .relaxed) }

/// A process must not end under a call: OpenBLAS frees its memory and stops its threads at exit.
private let waitsAtExit: Void = {
  atexit { while running.load(ordering: .acquiring) > 0 { usleep(1000) } }
}()

private protocol Runnable: AnyObject {
  func run()
}

private final class Call<Result>: Runnable, @unchecked Sendable {
  private let body: () throws(EngineError) -> Result
  private var value: Result?
  private var error: EngineError?
  private let done = Atomic<Bool>(false)
  private var waits: UInt32 = 0

  init(_ body: @escaping () throws(EngineError) -> Result) { self.body = body }

  var isDone: Bool { done.load(ordering: .acquiring) }

  func run() {
    do throws(EngineError) { value = try body() } catch { self.error = error }
    done.store(true, ordering: .releasing)
  }

  /// Microseconds until the next look: short at first, as most calls are.
  func patience() -> UInt32 {
    waits += 1
    return min(20_000, 200 * waits)
  }

  func outcome() throws(EngineError) -> Result {
    if let value { return value }
    throw error ?? .numerical("the computation gave no result")
  }
}
