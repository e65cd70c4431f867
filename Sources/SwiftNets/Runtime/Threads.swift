import COpenBLAS
import Glibc
import Synchronization

/// How many threads one call may use. All of them are the engine's own team: OpenBLAS stays on the thread that calls
/// it, as its count holds for the whole process: a call that changed it would change the bits of another one beside it,
/// and a fork would wait for its threads.
public enum Threads {
  /// The processors this process may run on, as OpenBLAS counted them at the start.
  private static let available: Int = {
    let count = max(1, Int(scipy_openblas_get_num_threads()))
    scipy_openblas_set_num_threads(1)
    Fork.watch()
    return count
  }()
  private static let chosen = Atomic<Int>(0)

  /// Before anything else: OpenBLAS has threads of its own until then.
  public static func prepare() { _ = available }

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
    chosen.store(count, ordering: .relaxed)
  }
}
