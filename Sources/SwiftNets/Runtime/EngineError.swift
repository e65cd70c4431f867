/// What can go wrong in the engine. Nothing in it traps: every failure that an argument can cause is one of these.
public enum EngineError: Error, Equatable {
  /// A size, a pointer or a parameter is out of its range.
  case invalidArgument(String)
  /// An allocation of `bytes` failed.
  case outOfMemory(bytes: Int)
  /// The numbers overflowed, or a NaN came in.
  case notFinite(String)
  /// An iterative solve stopped short of its tolerance.
  case notConverged(String)
  /// The caller asked to stop.
  case cancelled
  /// An object is in use where this call cannot wait for it.
  case busy(String)
  /// A factorisation broke down.
  case numerical(String)
}
