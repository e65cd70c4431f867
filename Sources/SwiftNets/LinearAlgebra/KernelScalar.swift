import CKernels

/// The scalars that the small kernels are compiled for.
protocol KernelScalar: Scalar {
  /// Scalars in a 32-byte vector: padded rows are a multiple of it.
  static var lanes: Int { get }
  static func gemm(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Self>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Self>, _ ldb: Int, _ scale: UnsafePointer<Self>?, _ lds: Int,
    _ c: UnsafeMutablePointer<Self>, _ ldc: Int)
  static func dot(_ n: Int, _ x: UnsafePointer<Self>, _ y: UnsafePointer<Self>) -> Self
  static func axpy(_ n: Int, _ a: Self, _ x: UnsafePointer<Self>, _ y: UnsafeMutablePointer<Self>)
  static func xpby(_ n: Int, _ x: UnsafePointer<Self>, _ b: Self, _ y: UnsafeMutablePointer<Self>)
}

extension Float: KernelScalar {
  static var lanes: Int { 8 }
  static func gemm(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Float>, _ ldb: Int, _ scale: UnsafePointer<Float>?, _ lds: Int,
    _ c: UnsafeMutablePointer<Float>, _ ldc: Int
  ) { swk_gemm_f32(m, n, k, a, aRow, aColumn, b, ldb, scale, lds, c, ldc) }
  static func dot(_ n: Int, _ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>) -> Float {
    swk_dot_f32(n, x, y)
  }
  static func axpy(_ n: Int, _ a: Float, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
    swk_axpy_f32(n, a, x, y)
  }
  static func xpby(_ n: Int, _ x: UnsafePointer<Float>, _ b: Float, _ y: UnsafeMutablePointer<Float>) {
    swk_xpby_f32(n, x, b, y)
  }
}

extension Double: KernelScalar {
  static var lanes: Int { 4 }
  static func gemm(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Double>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Double>, _ ldb: Int, _ scale: UnsafePointer<Double>?, _ lds: Int,
    _ c: UnsafeMutablePointer<Double>, _ ldc: Int
  ) { swk_gemm_f64(m, n, k, a, aRow, aColumn, b, ldb, scale, lds, c, ldc) }
  static func dot(_ n: Int, _ x: UnsafePointer<Double>, _ y: UnsafePointer<Double>) -> Double {
    swk_dot_f64(n, x, y)
  }
  static func axpy(_ n: Int, _ a: Double, _ x: UnsafePointer<Double>, _ y: UnsafeMutablePointer<Double>) {
    swk_axpy_f64(n, a, x, y)
  }
  static func xpby(_ n: Int, _ x: UnsafePointer<Double>, _ b: Double, _ y: UnsafeMutablePointer<Double>) {
    swk_xpby_f64(n, x, b, y)
  }
}

extension Matrix where Element: KernelScalar {
  /// A matrix of zeros whose rows are padded for the kernels.
  static func padded(_ rows: Int, _ columns: Int) throws(EngineError) -> Matrix {
    try Matrix(rows: rows, columns: columns, alignment: Element.lanes)
  }

  /// The transpose as an operand of `multiply`: a view, nothing moves.
  var transposed: Operand<Element> {
    Operand(base: base, rows: columns, columns: rows, rowStep: 1, columnStep: stride)
  }

  var operand: Operand<Element> {
    Operand(base: base, rows: rows, columns: columns, rowStep: stride, columnStep: 1)
  }
}

/// A left factor of a product: a matrix, or its transpose, without moving it.
struct Operand<Element: KernelScalar> {
  let base: UnsafeMutablePointer<Element>
  let rows: Int
  let columns: Int
  let rowStep: Int
  let columnStep: Int
}

/// c[rows] = ((a b) ∘ scale)[rows] with a small kernel on the calling thread; `b`, `c` and `scale` have padded rows.
@inline(__always)
func multiply<T: KernelScalar>(
  _ a: Operand<T>, _ b: Matrix<T>, scale: Matrix<T>? = nil, into c: Matrix<T>, rows: Range<Int>
) {
  T.gemm(
    rows.count, b.columns, a.columns, a.base + rows.lowerBound * a.rowStep, a.rowStep, a.columnStep, b.base, b.stride,
    scale.map { UnsafePointer($0.row(rows.lowerBound)) }, scale?.stride ?? 0, c.row(rows.lowerBound), c.stride)
}
