import COpenBLAS
import Glibc
import Synchronization

/// The engine's version.
public let engineVersion = "0.1.0"

/// How many threads one call may use: OpenBLAS's in large products, the engine's own team in small ones.
public enum Threads {
  /// The processors this process may run on, as OpenBLAS counted them at the start.
  private static let available = max(1, Int(scipy_openblas_get_num_threads()))
  private static let chosen = Atomic<Int>(0)
  private static let lock = Mutex<Int>(0)  // calls in `alone` now

  /// The count in force.
  public static var count: Int {
    let value = chosen.load(ordering: .relaxed)
    return value > 0 ? value : available
  }

  /// The threads that a piece of work is worth: a team meets in about a microsecond.
  static func forWork(of operations: Int) -> Int { operations < 500_000 ? 1 : count }

  /// - Throws: `invalidArgument` unless `count` is from 1 to 64.
  public static func set(_ count: Int) throws(EngineError) {
    guard (1...64).contains(count) else {
      throw .invalidArgument("threads is \(count); it must be from 1 to 64")
    }
    _ = available
    lock.withLock { alone in
      chosen.store(count, ordering: .relaxed)
      if alone == 0 { scipy_openblas_set_num_threads(Int32(count)) }
    }
  }

  /// Runs `body` with OpenBLAS on the calling thread alone.
  ///
  /// For small matrices between jobs of the team: OpenBLAS's own threads spin for some 20 ms after each product they
  /// took part in, and would take the processors from the team.
  static func alone<Result>(_ body: () throws(EngineError) -> Result) throws(EngineError) -> Result {
    _ = available
    lock.withLock { alone in
      if alone == 0 { scipy_openblas_set_num_threads(1) }
      alone += 1
    }
    defer {
      lock.withLock { alone in
        alone -= 1
        if alone == 0 { scipy_openblas_set_num_threads(Int32(count)) }
      }
    }
    return try body()
  }
}
