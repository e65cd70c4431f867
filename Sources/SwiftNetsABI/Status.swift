import CSwiftNets
import Glibc
import SwiftNets

/// The message of the last failure on each thread, as swn_last_error() hands it out.
private let messageKey: pthread_key_t = {
  var key = pthread_key_t()
  pthread_key_create(&key) { free($0) }
  return key
}()

func remember(_ message: String) {
  free(pthread_getspecific(messageKey))
  pthread_setspecific(messageKey, strdup(message))
}

@_cdecl("swn_last_error")
public func swnLastError() -> UnsafePointer<CChar>? {
  if let message = pthread_getspecific(messageKey) {
    return UnsafePointer(message.assumingMemoryBound(to: CChar.self))
  }
  return emptyMessage
}

nonisolated(unsafe) private let emptyMessage = UnsafePointer<CChar>(strdup("no error")!)

/// Runs `body` and turns what it throws into a status and a message.
func status(_ body: () throws -> Void) -> swn_status {
  Threads.prepare()
  let generation = Fork.generation
  let found = outcome(body)
  guard Fork.generation != generation else { return found }
  // The caller's poll forked: in the child the rest of the team is missing, and what was computed means nothing.
  remember("the process was forked in the middle of this call; in the child it has no result")
  return swn_status(SWN_BUSY)
}

private func outcome(_ body: () throws -> Void) -> swn_status {
  do {
    try body()
    return swn_status(SWN_OK)
  } catch let error as EngineError {
    switch error {
    case .invalidArgument(let message):
      remember(message)
      return swn_status(SWN_INVALID_ARGUMENT)
    case .outOfMemory(let bytes):
      remember(bytes == Int.max ? "more memory than can be addressed" : "\(bytes) bytes could not be allocated")
      return swn_status(SWN_OUT_OF_MEMORY)
    case .notFinite(let message):
      remember(message)
      return swn_status(SWN_NOT_FINITE)
    case .notConverged(let message):
      remember(message)
      return swn_status(SWN_NOT_CONVERGED)
    case .cancelled:
      remember("cancelled by the caller")
      return swn_status(SWN_CANCELLED)
    case .busy(let message):
      remember(message)
      return swn_status(SWN_BUSY)
    case .numerical(let message):
      remember(message)
      return swn_status(SWN_NUMERICAL)
    }
  } catch {
    remember("\(error)")
    return swn_status(SWN_NUMERICAL)
  }
}

/// The pointer, or an error that names the argument.
func require<Pointee>(_ pointer: UnsafePointer<Pointee>?, _ name: String) throws -> UnsafePointer<Pointee> {
  guard let pointer else { throw EngineError.invalidArgument("\(name) is NULL") }
  return pointer
}

func require<Pointee>(_ pointer: UnsafeMutablePointer<Pointee>?, _ name: String) throws
  -> UnsafeMutablePointer<Pointee>
{
  guard let pointer else { throw EngineError.invalidArgument("\(name) is NULL") }
  return pointer
}

func memory(_ pointer: UnsafeRawPointer?, _ name: String) throws -> UnsafeRawPointer {
  guard let pointer else { throw EngineError.invalidArgument("\(name) is NULL") }
  return pointer
}

func memory(_ pointer: UnsafeMutableRawPointer?, _ name: String) throws -> UnsafeMutableRawPointer {
  guard let pointer else { throw EngineError.invalidArgument("\(name) is NULL") }
  return pointer
}

/// A size that came over the C interface, or an error that names it. `limit` keeps products of two sizes, and LAPACK's
/// 32-bit integers, from overflowing.
func size(_ value: Int, _ name: String, from least: Int = 1) throws -> Int {
  let limit = Int(Int32.max)
  guard value >= least, value <= limit else {
    throw EngineError.invalidArgument("\(name) is \(value); it must be from \(least) to \(limit)")
  }
  return value
}

extension Interruption {
  /// The caller's poll function as the engine's interruption.
  init(_ control: UnsafePointer<swn_control>?, isAlone: Bool = false) {
    guard let control, let poll = control.pointee.poll else {
      self.init(isAlone: isAlone)
      return
    }
    let context = control.pointee.context
    let generation = Fork.generation
    self.init(isAlone: isAlone) { poll(context) != 0 || Fork.generation != generation }
  }
}
