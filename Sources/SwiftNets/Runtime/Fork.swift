import CKernels
import Glibc
import Synchronization

/// What a fork leaves behind. In a child only the thread that forked goes on: locks that other threads held, and counts
/// of what they did, are of an older generation and count as free.
public enum Fork {
  private static let count = Atomic<Int>(0)

  /// How many forks lie between the first process and this one.
  public static var generation: Int { count.load(ordering: .relaxed) }

  /// Sees to it that children know what they are. Called when the library is loaded: later a fork may come first.
  public static func watch() { _ = isWatching }

  private static let isWatching: Bool =
    pthread_atfork(
      { OpenBLAS.pause() }, { OpenBLAS.resume() },
      {
        swk_forget_thread_id()  // before anything that may take a lock of the runtime's
        Fork.count.add(1, ordering: .relaxed)
        OpenBLAS.restart()
        ThreadTeam.forgetHelpers()
      }) == 0
}
