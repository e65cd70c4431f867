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

/// An error that names the array where its sizes are more than can be addressed: nobody has such an array, and what is
/// computed of its sizes would overflow.
public func requireAddressable(_ name: String, _ sizes: Int...) throws(EngineError) {
  var count = 1
  for size in sizes {
    let (next, isOverflow) = count.multipliedReportingOverflow(by: size)
    guard !isOverflow, next <= 1 << 44 else {
      let text = sizes.map { "\($0)" }.joined(separator: "×")
      throw .invalidArgument("\(name) would have \(text) numbers, more than can be addressed")
    }
    count = next
  }
}

/// A dense row-major matrix: a view of memory that it owns together with its copies, or that it borrows.
///
/// Copying a `Matrix` copies the view, not the numbers. A borrowed one is valid as long as the memory it was made from.
/// `stride` is the distance between rows, at least `columns`; the scalars between `columns` and `stride` are padding
/// and are zero in a matrix that owns its memory.
public struct Matrix<Element: Scalar>: @unchecked Sendable {
  public let rows: Int
  public let columns: Int
  public let stride: Int
  public let base: UnsafeMutablePointer<Element>
  let storage: Storage<Element>?

  /// A matrix of zeros that owns its memory, rows padded to a multiple of `alignment` scalars.
  public init(rows: Int, columns: Int, alignment: Int = 1) throws(EngineError) {
    let stride = roundedUp(columns, to: alignment)
    let storage = try Storage<Element>(count: saturating(rows, stride))
    self.rows = rows
    self.columns = columns
    self.stride = stride
    self.base = storage.base
    self.storage = storage
  }

  /// A view of borrowed memory.
  public init(
    borrowing base: UnsafeMutablePointer<Element>, rows: Int, columns: Int, stride: Int? = nil
  ) {
    self.rows = rows
    self.columns = columns
    self.stride = stride ?? columns
    self.base = base
    self.storage = nil
  }

  /// A view of some of this matrix's numbers, which keeps their memory.
  func view(_ base: UnsafeMutablePointer<Element>, rows: Int, columns: Int) -> Matrix {
    Matrix(base: base, rows: rows, columns: columns, stride: stride, storage: storage)
  }

  private init(base: UnsafeMutablePointer<Element>, rows: Int, columns: Int, stride: Int, storage: Storage<Element>?) {
    self.rows = rows
    self.columns = columns
    self.stride = stride
    self.base = base
    self.storage = storage
  }

  /// A view of borrowed memory that the engine only reads.
  public init(reading base: UnsafePointer<Element>, rows: Int, columns: Int, stride: Int? = nil) {
    self.init(borrowing: UnsafeMutablePointer(mutating: base), rows: rows, columns: columns, stride: stride)
  }

  @inlinable
  public subscript(row: Int, column: Int) -> Element {
    get { base[row * stride + column] }
    nonmutating set { base[row * stride + column] = newValue }
  }

  /// What its memory takes, padding included.
  var bytes: Int { saturating(rows, stride, MemoryLayout<Element>.stride) }

  /// The first element of `row`.
  @inlinable
  public func row(_ row: Int) -> UnsafeMutablePointer<Element> { base + row * stride }
}
