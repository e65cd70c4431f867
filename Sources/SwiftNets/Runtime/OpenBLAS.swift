import Glibc
import Synchronization

/// Every call of OpenBLAS and its LAPACK goes through here.
///
/// Most of them get a buffer under a lock of OpenBLAS's own. A thread that held it as another one forked would leave it
/// shut in the child for ever, so a fork waits until no call is under way, and new calls wait for the fork.
enum OpenBLAS {
  private static let underWay = Atomic<Int>(0)
  private static let forks = Atomic<Int>(0)

  @inline(__always)
  static func call<Result>(_ body: @autoclosure () -> Result) -> Result {
    enter()
    defer { underWay.subtract(1, ordering: .releasing) }
    return body()
  }

  @inline(__always)
  private static func enter() {
    underWay.add(1, ordering: .sequentiallyConsistent)
    if forks.load(ordering: .sequentiallyConsistent) > 0 { waitForFork() }
  }

  @inline(never)
  private static func waitForFork() {
    repeat {
      underWay.subtract(1, ordering: .sequentiallyConsistent)
      while forks.load(ordering: .sequentiallyConsistent) > 0 { usleep(50) }
      underWay.add(1, ordering: .sequentiallyConsistent)
    } while forks.load(ordering: .sequentiallyConsistent) > 0
  }

  /// Before a fork. Calls are short; after ten seconds the calling thread must be inside one itself, in a handler of
  /// a signal, and goes on.
  static func pause() {
    forks.add(1, ordering: .sequentiallyConsistent)
    var waits = 200_000
    while waits > 0 && underWay.load(ordering: .sequentiallyConsistent) > 0 {
      usleep(50)
      waits -= 1
    }
  }

  /// After it, in the parent.
  static func resume() { forks.subtract(1, ordering: .sequentiallyConsistent) }

  /// After it, in the child, where no other thread is.
  static func restart() {
    underWay.store(0, ordering: .relaxed)
    forks.store(0, ordering: .relaxed)
  }
}
