/// Lets a caller stop a long computation, and keep it on its own thread.
///
/// The engine calls `check()` every few milliseconds of work, always on the thread that called it.
public struct Interruption {
  let requested: (() -> Bool)?
  /// Whether the thread that calls does all parts itself.
  let isAlone: Bool

  /// - Parameter requested: answers whether to stop; nil for a computation that nobody interrupts.
  public init(isAlone: Bool = false, requested: (() -> Bool)? = nil) {
    self.isAlone = isAlone
    self.requested = requested
  }

  /// Throws `EngineError.cancelled` when the caller asked to stop.
  public func check() throws(EngineError) {
    if isRequested { throw .cancelled }
  }

  /// Whether the caller asked to stop.
  var isRequested: Bool { requested?() ?? false }
}

/// The weight of a number that is copied: the system may have to make its page first.
let copied = 256

/// Runs `body` on consecutive slices of 0..<total, `least` items or about 10⁹ units of weight each, with a look at the
/// interruption before each.
func inSlices(
  of total: Int, least: Int = 1, weight: Int, interruption: Interruption,
  _ body: (Range<Int>) throws(EngineError) -> Void
) throws(EngineError) {
  let slice = max(least, 1_000_000_000 / max(weight, 1))
  var first = 0
  while first < total {
    try interruption.check()
    let end = min(total, first + slice)
    try body(first..<end)
    first = end
  }
}
