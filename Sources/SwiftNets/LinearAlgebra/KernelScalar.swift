import CKernels
import Glibc

/// The scalars that the small kernels are compiled for. The kernels are documented in CKernels.h.
protocol KernelScalar: Scalar {
  /// Scalars in a 32-byte vector: padded rows are a multiple of it.
  static var lanes: Int { get }
  static func gemm(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Self>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Self>, _ ldb: Int, _ scale: UnsafePointer<Self>?, _ lds: Int, _ update: Update, _ isExact: Bool,
    _ c: UnsafeMutablePointer<Self>, _ ldc: Int)
  static func gemmPieces(
    _ m: Int, _ n: Int, _ k: Int, _ pieces: Int, _ piece: Int, _ a: UnsafePointer<Self>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Self>, _ ldb: Int, _ c: UnsafeMutablePointer<Self>, _ ldc: Int)
  static func transpose(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Self>, _ lda: Int, _ b: UnsafeMutablePointer<Self>, _ ldb: Int)
  static func multiply(
    _ n: Int, _ x: UnsafePointer<Self>, _ y: UnsafePointer<Self>, _ z: UnsafeMutablePointer<Self>)
  static func multiplyAdd(
    _ n: Int, _ x: UnsafePointer<Self>, _ y: UnsafePointer<Self>, _ z: UnsafeMutablePointer<Self>)
  static func mixedTangent(
    _ n: Int, _ factor: Self, _ slope: UnsafePointer<Self>, _ second: UnsafePointer<Self>, _ u: UnsafePointer<Self>,
    _ v: UnsafePointer<Self>, _ uv: UnsafePointer<Self>, _ out: UnsafeMutablePointer<Self>)
  static func mixedDelta(
    _ n: Int, _ factor: Self, states: [UnsafePointer<Self>?], images: [UnsafePointer<Self>?],
    cotangents: [UnsafePointer<Self>?], _ out: UnsafeMutablePointer<Self>)
  static func scaleRows(
    _ m: Int, _ n: Int, _ x: UnsafePointer<Self>, _ xStep: Int, _ a: UnsafePointer<Self>, _ lda: Int,
    _ y: UnsafePointer<Self>?, _ yStep: Int, _ b: UnsafePointer<Self>?, _ ldb: Int, _ c: UnsafeMutablePointer<Self>,
    _ ldc: Int)
  static func scaleColumns(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Self>, _ v: UnsafePointer<Self>, adding: Bool,
    _ c: UnsafeMutablePointer<Self>)
  static func affineColumns(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Self>, _ v: UnsafePointer<Self>?, _ b: UnsafePointer<Self>,
    _ c: UnsafeMutablePointer<Self>)
  static func columnDots(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Self>, _ b: UnsafePointer<Self>?, _ sums: UnsafeMutablePointer<Self>)
  static func dot(_ n: Int, _ x: UnsafePointer<Self>, _ y: UnsafePointer<Self>) -> Self
  static func axpy(_ n: Int, _ a: Self, _ x: UnsafePointer<Self>, _ y: UnsafeMutablePointer<Self>)
  static func xpby(_ n: Int, _ x: UnsafePointer<Self>, _ b: Self, _ y: UnsafeMutablePointer<Self>)
  /// Derivatives 0 to `order` of an activation; see Activations.h.
  static func activation(
    _ kind: Int32, _ parameter: Double, order: Int, _ n: Int, _ a: UnsafePointer<Self>,
    _ d: [UnsafeMutablePointer<Self>?])
  /// Derivatives 0 to `order` in z of an elementwise loss; see Activations.h.
  static func loss(
    _ kind: Int32, _ parameter: Double, order: Int, _ n: Int, _ z: UnsafePointer<Self>, _ y: UnsafePointer<Self>,
    _ d: [UnsafeMutablePointer<Self>?])
  static func softmaxRows(_ m: Int, _ n: Int, _ s: UnsafePointer<Self>, _ p: UnsafeMutablePointer<Self>)
  static func exponential(_ x: Self) -> Self
  static func descend(
    _ n: Int, _ rate: Double, _ w: UnsafePointer<Self>, _ gradient: UnsafePointer<Self>,
    _ newW: UnsafeMutablePointer<Self>, _ squares: UnsafeMutablePointer<Double>)
  static func momentum(
    _ n: Int, _ rate: Double, _ beta: Double, _ isNesterov: Bool, _ w: UnsafePointer<Self>,
    _ gradient: UnsafePointer<Self>, _ velocity: UnsafePointer<Self>, _ newW: UnsafeMutablePointer<Self>,
    _ newVelocity: UnsafeMutablePointer<Self>, _ squares: UnsafeMutablePointer<Double>)
  static func adam(
    _ n: Int, _ factors: swk_adam, _ w: UnsafePointer<Self>, _ gradient: UnsafePointer<Self>,
    _ mean: UnsafePointer<Self>, _ square: UnsafePointer<Self>, _ newW: UnsafeMutablePointer<Self>,
    _ newMean: UnsafeMutablePointer<Self>, _ newSquare: UnsafeMutablePointer<Self>,
    _ squares: UnsafeMutablePointer<Double>)
  static func squareSum(_ n: Int, _ x: UnsafePointer<Self>) -> Double
}

/// What a product does with what is in its target before.
enum Update {
  case set, add, subtract

  fileprivate var code: swk_update { self == .set ? swk_set : self == .add ? swk_add : swk_subtract }
}

extension Float: KernelScalar {
  static var lanes: Int { 8 }
  static func gemm(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Float>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Float>, _ ldb: Int, _ scale: UnsafePointer<Float>?, _ lds: Int, _ update: Update,
    _ isExact: Bool,
    _ c: UnsafeMutablePointer<Float>, _ ldc: Int
  ) { swk_gemm_f32(m, n, k, a, aRow, aColumn, b, ldb, scale, lds, update.code, isExact ? 1 : 0, c, ldc) }
  static func gemmPieces(
    _ m: Int, _ n: Int, _ k: Int, _ pieces: Int, _ piece: Int, _ a: UnsafePointer<Float>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Float>, _ ldb: Int, _ c: UnsafeMutablePointer<Float>, _ ldc: Int
  ) { swk_gemm_pieces_f32(m, n, k, pieces, piece, a, aRow, aColumn, b, ldb, c, ldc) }
  static func transpose(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Float>, _ lda: Int, _ b: UnsafeMutablePointer<Float>, _ ldb: Int
  ) { swk_transpose_f32(m, n, a, lda, b, ldb) }
  static func multiply(
    _ n: Int, _ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ z: UnsafeMutablePointer<Float>
  ) { swk_multiply_f32(n, x, y, z) }
  static func multiplyAdd(
    _ n: Int, _ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>, _ z: UnsafeMutablePointer<Float>
  ) { swk_multiply_add_f32(n, x, y, z) }
  static func mixedTangent(
    _ n: Int, _ factor: Float, _ slope: UnsafePointer<Float>, _ second: UnsafePointer<Float>, _ u: UnsafePointer<Float>,
    _ v: UnsafePointer<Float>, _ uv: UnsafePointer<Float>, _ out: UnsafeMutablePointer<Float>
  ) { swk_mixed_tangent_f32(n, factor, slope, second, u, v, uv, out) }
  static func mixedDelta(
    _ n: Int, _ factor: Float, states: [UnsafePointer<Float>?], images: [UnsafePointer<Float>?],
    cotangents: [UnsafePointer<Float>?], _ out: UnsafeMutablePointer<Float>
  ) { swk_mixed_delta_f32(n, factor, states, images, cotangents, out) }
  static func scaleRows(
    _ m: Int, _ n: Int, _ x: UnsafePointer<Float>, _ xStep: Int, _ a: UnsafePointer<Float>, _ lda: Int,
    _ y: UnsafePointer<Float>?, _ yStep: Int, _ b: UnsafePointer<Float>?, _ ldb: Int, _ c: UnsafeMutablePointer<Float>,
    _ ldc: Int
  ) { swk_scale_rows_f32(m, n, x, xStep, a, lda, y, yStep, b, ldb, c, ldc) }
  static func scaleColumns(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Float>, _ v: UnsafePointer<Float>, adding: Bool,
    _ c: UnsafeMutablePointer<Float>
  ) { swk_scale_columns_f32(m, n, a, v, adding ? 1 : 0, c) }
  static func affineColumns(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Float>, _ v: UnsafePointer<Float>?, _ b: UnsafePointer<Float>,
    _ c: UnsafeMutablePointer<Float>
  ) { swk_affine_columns_f32(m, n, a, v, b, c) }
  static func columnDots(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Float>, _ b: UnsafePointer<Float>?, _ sums: UnsafeMutablePointer<Float>
  ) { swk_column_dots_f32(m, n, a, b, sums) }
  static func dot(_ n: Int, _ x: UnsafePointer<Float>, _ y: UnsafePointer<Float>) -> Float {
    swk_dot_f32(n, x, y)
  }
  static func axpy(_ n: Int, _ a: Float, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) {
    swk_axpy_f32(n, a, x, y)
  }
  static func xpby(_ n: Int, _ x: UnsafePointer<Float>, _ b: Float, _ y: UnsafeMutablePointer<Float>) {
    swk_xpby_f32(n, x, b, y)
  }
  static func activation(
    _ kind: Int32, _ parameter: Double, order: Int, _ n: Int, _ a: UnsafePointer<Float>,
    _ d: [UnsafeMutablePointer<Float>?]
  ) {
    swk_activation_f32(kind, Float(parameter), Int32(order), n, a, d.at(0), d.at(1), d.at(2), d.at(3), d.at(4))
  }
  static func loss(
    _ kind: Int32, _ parameter: Double, order: Int, _ n: Int, _ z: UnsafePointer<Float>, _ y: UnsafePointer<Float>,
    _ d: [UnsafeMutablePointer<Float>?]
  ) {
    swk_loss_f32(kind, Float(parameter), Int32(order), n, z, y, d.at(0), d.at(1), d.at(2), d.at(3), d.at(4))
  }
  static func softmaxRows(_ m: Int, _ n: Int, _ s: UnsafePointer<Float>, _ p: UnsafeMutablePointer<Float>) {
    swk_softmax_rows_f32(m, n, s, p)
  }
  static func exponential(_ x: Float) -> Float { expf(x) }
  static func descend(
    _ n: Int, _ rate: Double, _ w: UnsafePointer<Float>, _ gradient: UnsafePointer<Float>,
    _ newW: UnsafeMutablePointer<Float>, _ squares: UnsafeMutablePointer<Double>
  ) { swk_descend_f32(n, Float(rate), w, gradient, newW, squares) }
  static func momentum(
    _ n: Int, _ rate: Double, _ beta: Double, _ isNesterov: Bool, _ w: UnsafePointer<Float>,
    _ gradient: UnsafePointer<Float>, _ velocity: UnsafePointer<Float>, _ newW: UnsafeMutablePointer<Float>,
    _ newVelocity: UnsafeMutablePointer<Float>, _ squares: UnsafeMutablePointer<Double>
  ) {
    swk_momentum_f32(
      n, Float(rate), Float(beta), isNesterov ? 1 : 0, w, gradient, velocity, newW, newVelocity, squares)
  }
  static func adam(
    _ n: Int, _ factors: swk_adam, _ w: UnsafePointer<Float>, _ gradient: UnsafePointer<Float>,
    _ mean: UnsafePointer<Float>, _ square: UnsafePointer<Float>, _ newW: UnsafeMutablePointer<Float>,
    _ newMean: UnsafeMutablePointer<Float>, _ newSquare: UnsafeMutablePointer<Float>,
    _ squares: UnsafeMutablePointer<Double>
  ) {
    withUnsafePointer(to: factors) {
      swk_adam_f32(n, $0, w, gradient, mean, square, newW, newMean, newSquare, squares)
    }
  }
  static func squareSum(_ n: Int, _ x: UnsafePointer<Float>) -> Double { swk_square_sum_f32(n, x) }
}

extension Double: KernelScalar {
  static var lanes: Int { 4 }
  static func gemm(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Double>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Double>, _ ldb: Int, _ scale: UnsafePointer<Double>?, _ lds: Int, _ update: Update,
    _ isExact: Bool,
    _ c: UnsafeMutablePointer<Double>, _ ldc: Int
  ) { swk_gemm_f64(m, n, k, a, aRow, aColumn, b, ldb, scale, lds, update.code, isExact ? 1 : 0, c, ldc) }
  static func gemmPieces(
    _ m: Int, _ n: Int, _ k: Int, _ pieces: Int, _ piece: Int, _ a: UnsafePointer<Double>, _ aRow: Int, _ aColumn: Int,
    _ b: UnsafePointer<Double>, _ ldb: Int, _ c: UnsafeMutablePointer<Double>, _ ldc: Int
  ) { swk_gemm_pieces_f64(m, n, k, pieces, piece, a, aRow, aColumn, b, ldb, c, ldc) }
  static func transpose(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Double>, _ lda: Int, _ b: UnsafeMutablePointer<Double>, _ ldb: Int
  ) { swk_transpose_f64(m, n, a, lda, b, ldb) }
  static func multiply(
    _ n: Int, _ x: UnsafePointer<Double>, _ y: UnsafePointer<Double>, _ z: UnsafeMutablePointer<Double>
  ) { swk_multiply_f64(n, x, y, z) }
  static func multiplyAdd(
    _ n: Int, _ x: UnsafePointer<Double>, _ y: UnsafePointer<Double>, _ z: UnsafeMutablePointer<Double>
  ) { swk_multiply_add_f64(n, x, y, z) }
  static func mixedTangent(
    _ n: Int, _ factor: Double, _ slope: UnsafePointer<Double>, _ second: UnsafePointer<Double>,
    _ u: UnsafePointer<Double>,
    _ v: UnsafePointer<Double>, _ uv: UnsafePointer<Double>, _ out: UnsafeMutablePointer<Double>
  ) { swk_mixed_tangent_f64(n, factor, slope, second, u, v, uv, out) }
  static func mixedDelta(
    _ n: Int, _ factor: Double, states: [UnsafePointer<Double>?], images: [UnsafePointer<Double>?],
    cotangents: [UnsafePointer<Double>?], _ out: UnsafeMutablePointer<Double>
  ) { swk_mixed_delta_f64(n, factor, states, images, cotangents, out) }
  static func scaleRows(
    _ m: Int, _ n: Int, _ x: UnsafePointer<Double>, _ xStep: Int, _ a: UnsafePointer<Double>, _ lda: Int,
    _ y: UnsafePointer<Double>?, _ yStep: Int, _ b: UnsafePointer<Double>?, _ ldb: Int,
    _ c: UnsafeMutablePointer<Double>,
    _ ldc: Int
  ) { swk_scale_rows_f64(m, n, x, xStep, a, lda, y, yStep, b, ldb, c, ldc) }
  static func scaleColumns(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Double>, _ v: UnsafePointer<Double>, adding: Bool,
    _ c: UnsafeMutablePointer<Double>
  ) { swk_scale_columns_f64(m, n, a, v, adding ? 1 : 0, c) }
  static func affineColumns(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Double>, _ v: UnsafePointer<Double>?, _ b: UnsafePointer<Double>,
    _ c: UnsafeMutablePointer<Double>
  ) { swk_affine_columns_f64(m, n, a, v, b, c) }
  static func columnDots(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Double>, _ b: UnsafePointer<Double>?, _ sums: UnsafeMutablePointer<Double>
  ) { swk_column_dots_f64(m, n, a, b, sums) }
  static func dot(_ n: Int, _ x: UnsafePointer<Double>, _ y: UnsafePointer<Double>) -> Double {
    swk_dot_f64(n, x, y)
  }
  static func axpy(_ n: Int, _ a: Double, _ x: UnsafePointer<Double>, _ y: UnsafeMutablePointer<Double>) {
    swk_axpy_f64(n, a, x, y)
  }
  static func xpby(_ n: Int, _ x: UnsafePointer<Double>, _ b: Double, _ y: UnsafeMutablePointer<Double>) {
    swk_xpby_f64(n, x, b, y)
  }
  static func activation(
    _ kind: Int32, _ parameter: Double, order: Int, _ n: Int, _ a: UnsafePointer<Double>,
    _ d: [UnsafeMutablePointer<Double>?]
  ) {
    swk_activation_f64(kind, parameter, Int32(order), n, a, d.at(0), d.at(1), d.at(2), d.at(3), d.at(4))
  }
  static func loss(
    _ kind: Int32, _ parameter: Double, order: Int, _ n: Int, _ z: UnsafePointer<Double>, _ y: UnsafePointer<Double>,
    _ d: [UnsafeMutablePointer<Double>?]
  ) {
    swk_loss_f64(kind, parameter, Int32(order), n, z, y, d.at(0), d.at(1), d.at(2), d.at(3), d.at(4))
  }
  static func softmaxRows(_ m: Int, _ n: Int, _ s: UnsafePointer<Double>, _ p: UnsafeMutablePointer<Double>) {
    swk_softmax_rows_f64(m, n, s, p)
  }
  static func exponential(_ x: Double) -> Double { exp(x) }
  static func logarithm(_ x: Double) -> Double { log(x) }
  static func descend(
    _ n: Int, _ rate: Double, _ w: UnsafePointer<Double>, _ gradient: UnsafePointer<Double>,
    _ newW: UnsafeMutablePointer<Double>, _ squares: UnsafeMutablePointer<Double>
  ) { swk_descend_f64(n, rate, w, gradient, newW, squares) }
  static func momentum(
    _ n: Int, _ rate: Double, _ beta: Double, _ isNesterov: Bool, _ w: UnsafePointer<Double>,
    _ gradient: UnsafePointer<Double>, _ velocity: UnsafePointer<Double>, _ newW: UnsafeMutablePointer<Double>,
    _ newVelocity: UnsafeMutablePointer<Double>, _ squares: UnsafeMutablePointer<Double>
  ) {
    swk_momentum_f64(
      n, rate, beta, isNesterov ? 1 : 0, w, gradient, velocity, newW, newVelocity, squares)
  }
  static func adam(
    _ n: Int, _ factors: swk_adam, _ w: UnsafePointer<Double>, _ gradient: UnsafePointer<Double>,
    _ mean: UnsafePointer<Double>, _ square: UnsafePointer<Double>, _ newW: UnsafeMutablePointer<Double>,
    _ newMean: UnsafeMutablePointer<Double>, _ newSquare: UnsafeMutablePointer<Double>,
    _ squares: UnsafeMutablePointer<Double>
  ) {
    withUnsafePointer(to: factors) {
      swk_adam_f64(n, $0, w, gradient, mean, square, newW, newMean, newSquare, squares)
    }
  }
  static func squareSum(_ n: Int, _ x: UnsafePointer<Double>) -> Double { swk_square_sum_f64(n, x) }
}

extension Array {
  /// The pointer of one derivative, or NULL where it is not wanted.
  fileprivate func at<Pointee>(_ index: Int) -> UnsafeMutablePointer<Pointee>?
  where Element == UnsafeMutablePointer<Pointee>? { index < count ? self[index] : nil }
}

extension Matrix where Element: KernelScalar {
  /// A matrix of zeros whose rows are padded for the kernels.
  static func padded(_ rows: Int, _ columns: Int) throws(EngineError) -> Matrix {
    try Matrix(rows: rows, columns: columns, alignment: Element.lanes)
  }

  /// Whether each row can be read to the end of its last vector: within its padding or, where this is a view of memory
  /// that the engine owns, within that or the slack behind it.
  var hasWholeVectors: Bool {
    let end = roundedUp(columns, to: Element.lanes)
    if end <= stride || rows == 0 { return true }
    guard let storage else { return false }
    let last = row(rows - 1) + end
    return last <= storage.base + storage.count + slackBytes / MemoryLayout<Element>.stride
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

/// c[rows] = ((a b) ∘ scale)[rows], or that added or subtracted, with a small kernel on the calling thread.
///
/// `b` and `scale` are read in whole vectors, and `c` is written in such unless `isExact`: their rows are padded, or
/// views of rows with room behind them.
@inline(__always)
func multiply<T: KernelScalar>(
  _ a: Operand<T>, _ b: Matrix<T>, scale: Matrix<T>? = nil, _ update: Update = .set, isExact: Bool = false,
  into c: Matrix<T>, rows: Range<Int>
) {
  assert(a.columns <= b.rows && b.columns <= c.columns && rows.upperBound <= min(a.rows, c.rows))
  assert(b.hasWholeVectors && (scale?.hasWholeVectors ?? true) && (isExact || c.hasWholeVectors))
  T.gemm(
    rows.count, b.columns, a.columns, a.base + rows.lowerBound * a.rowStep, a.rowStep, a.columnStep, b.base, b.stride,
    scale.map { UnsafePointer($0.row(rows.lowerBound)) }, scale?.stride ?? 0, update, isExact, c.row(rows.lowerBound),
    c.stride)
}
