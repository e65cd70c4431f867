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

/// What the memory of all of them takes.
func totalBytes<Element>(_ matrices: [Matrix<Element>]...) -> Int { matrices.joined().reduce(0) { $0 + $1.bytes } }
