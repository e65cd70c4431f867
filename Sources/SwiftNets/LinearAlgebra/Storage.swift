import Glibc

/// The scalars that the engine computes with.
public protocol Scalar: BinaryFloatingPoint & Sendable {}
extension Double: Scalar {}
extension Float: Scalar {}

/// What lies behind the last element of any memory that kernels read: they read whole vectors.
let slackBytes = 64

/// Memory for `count` scalars and some slack, aligned to a cache line and set to zero, freed with its last owner.
final class Storage<Element: Scalar>: @unchecked Sendable {
  let base: UnsafeMutablePointer<Element>
  let count: Int
  private let mappedBytes: Int  // 0 where the memory is the allocator's

  init(count: Int) throws(EngineError) {
    let bytes = saturating(count, MemoryLayout<Element>.stride)
    guard count >= 0, bytes < Int.max - slackBytes else { throw .outOfMemory(bytes: Int.max) }
    let all = bytes + slackBytes
    var raw: UnsafeMutableRawPointer?
    if bytes >= Self.largeBytes {
      // Fresh pages are zero already, and are then made by the threads that fill them.
      raw = mmap(nil, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
      // MAP_FAILED, spelt out: the constant would link in all of Swift's Glibc module, which asks for glibc 2.35.
      if raw == UnsafeMutableRawPointer(bitPattern: -1) { raw = nil }
      if let raw { madvise(raw, all, MADV_HUGEPAGE) }
      mappedBytes = all
    } else {
      if posix_memalign(&raw, 64, all) == 0, let raw { memset(raw, 0, all) } else { raw = nil }
      mappedBytes = 0
    }
    guard let raw else { throw .outOfMemory(bytes: bytes) }
    base = raw.bindMemory(to: Element.self, capacity: max(count, 1))
    self.count = count
  }

  var bytes: Int { saturating(count, MemoryLayout<Element>.stride) }

  deinit {
    if mappedBytes > 0 { munmap(base, mappedBytes) } else { free(base) }
  }

  private static var largeBytes: Int { 4 << 20 }
}

/// Memory for `count` integers and some slack, not set to zero, freed with its last owner.
final class Integers<Element: FixedWidthInteger>: @unchecked Sendable {
  let base: UnsafeMutablePointer<Element>
  let count: Int

  init(count: Int) throws(EngineError) {
    let bytes = saturating(count, MemoryLayout<Element>.stride)
    var raw: UnsafeMutableRawPointer?
    guard count >= 0, bytes < Int.max - slackBytes, posix_memalign(&raw, 64, bytes + slackBytes) == 0, let raw else {
      throw .outOfMemory(bytes: bytes)
    }
    base = raw.bindMemory(to: Element.self, capacity: max(count, 1))
    self.count = count
  }

  deinit { free(base) }
}
