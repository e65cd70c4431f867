import Glibc
import Synchronization

/// Locks of the engine that the calling thread has, the last one first: a signal handler may call for an object that
/// the call under it is working on, and would wait for itself.
private let heldKey: pthread_key_t = {
  var key = pthread_key_t()
  pthread_key_create(&key, nil)
  return key
}()

private struct Held {
  let lock: ObjectIdentifier
  let isShared: Bool
  let before: UnsafeMutablePointer<Held>?

  static var last: UnsafeMutablePointer<Held>? {
    pthread_getspecific(heldKey)?.assumingMemoryBound(to: Held.self)
  }
}

extension EngineError {
  /// What a call gets that waits for the very call that it interrupts.
  fileprivate static var reentered: EngineError {
    .busy("the object is in use by the call that this one interrupts; use another one in signal handlers")
  }
}

/// Lets through any number of readers at once, or one writer; those that wait still ask whether to stop. A writer that
/// waits keeps new readers out.
///
/// A thread that reads may read again; any other call for what the thread holds already throws `busy`.
final class Gate: Sendable {
  // The generation in the upper half; below it readers, or all ones for a writer.
  private let inside = Atomic<UInt64>(0)
  // The generation, and writers that wait.
  private let waiting = Atomic<UInt64>(0)
  private static let writer = UInt64(UInt32.max)

  private static var generation: UInt64 { UInt64(UInt32(truncatingIfNeeded: Fork.generation)) << 32 }

  /// What a counter says in this generation, as it stands and as a number.
  private static func look(_ counter: borrowing Atomic<UInt64>) -> (raw: UInt64, value: UInt64) {
    let raw = counter.load(ordering: .relaxed)
    return (raw, raw & ~Gate.writer == generation ? raw & Gate.writer : 0)
  }

  func read<Result>(
    _ interruption: Interruption, _ body: () throws(EngineError) -> Result
  ) throws(EngineError) -> Result {
    let isNested = try isHeld(asReader: true)
    while true {
      let (raw, value) = Gate.look(inside)
      if value != Gate.writer && (isNested || Gate.look(waiting).value == 0) {
        let next = Gate.generation | (value + 1)
        if inside.compareExchange(expected: raw, desired: next, ordering: .acquiring).exchanged { break }
      } else {
        try interruption.check()
        usleep(100)
      }
    }
    let generation = Gate.generation
    defer { Gate.leave(inside, generation) }
    return try holding(isShared: true, body)
  }

  func write<Result>(
    _ interruption: Interruption, _ body: () throws(EngineError) -> Result
  ) throws(EngineError) -> Result {
    _ = try isHeld(asReader: false)
    let generation = Gate.generation
    while true {
      let (raw, value) = Gate.look(waiting)
      let next = generation | (value + 1)
      if waiting.compareExchange(expected: raw, desired: next, ordering: .relaxed).exchanged { break }
    }
    defer { Gate.leave(waiting, generation) }
    while true {
      let (raw, value) = Gate.look(inside)
      if value == 0 {
        let next = Gate.generation | Gate.writer
        if inside.compareExchange(expected: raw, desired: next, ordering: .acquiring).exchanged { break }
      } else {
        try interruption.check()
        usleep(100)
      }
    }
    defer { _ = inside.compareExchange(expected: generation | Gate.writer, desired: generation, ordering: .releasing) }
    return try holding(isShared: false, body)
  }

  /// One less, unless a fork came between: the count is then another one.
  private static func leave(_ counter: borrowing Atomic<UInt64>, _ generation: UInt64) {
    while true {
      let raw = counter.load(ordering: .relaxed)
      guard raw & ~writer == generation, raw & writer > 0 else { return }
      if counter.compareExchange(expected: raw, desired: raw - 1, ordering: .releasing).exchanged { return }
    }
  }

  private func isHeld(asReader: Bool) throws(EngineError) -> Bool {
    var held = Held.last
    while let now = held {
      if now.pointee.lock == ObjectIdentifier(self) {
        guard asReader && now.pointee.isShared else { throw .reentered }
        return true
      }
      held = now.pointee.before
    }
    return false
  }

  private func holding<Result>(
    isShared: Bool, _ body: () throws(EngineError) -> Result
  ) throws(EngineError) -> Result {
    let before = Held.last
    var own = Held(lock: ObjectIdentifier(self), isShared: isShared, before: before)
    let outcome = withUnsafeMutablePointer(to: &own) { place -> Swift.Result<Result, EngineError> in
      pthread_setspecific(heldKey, place)
      defer { pthread_setspecific(heldKey, before) }
      do throws(EngineError) { return .success(try body()) } catch { return .failure(error) }
    }
    return try outcome.get()
  }
}
