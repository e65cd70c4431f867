import CKernels
import COpenBLAS
import Glibc

/// The real and the imaginary parts of an array, apart; without imaginary ones where the numbers are real.
struct Planes {
  let real: UnsafeMutablePointer<Double>
  let imaginary: UnsafeMutablePointer<Double>?

  /// The real parts for 0, the imaginary ones for 1.
  @inline(__always)
  subscript(part: Int) -> UnsafeMutablePointer<Double> { part == 0 ? real : imaginary! }

  @inline(__always)
  static func + (planes: Planes, offset: Int) -> Planes {
    Planes(real: planes.real + offset, imaginary: planes.imaginary.map { $0 + offset })
  }
}

/// The numbers that a symmetric matrix to be factored may have: real, or complex and never conjugated.
protocol FactorScalar: Sendable {
  /// How many real numbers one is.
  static var parts: Int { get }
  init(_ real: Double)
  static func + (a: Self, b: Self) -> Self
  static func - (a: Self, b: Self) -> Self
  static func * (a: Self, b: Self) -> Self
  static func / (a: Self, b: Self) -> Self
  var isFinite: Bool { get }
  /// The absolute value.
  var magnitude: Double { get }
  var conjugate: Self { get }
  var realPart: Double { get }
  init(_ number: Complex)

  /// LAPACK's panel of the Bunch–Kaufman factorisation U D Uᵀ of a column-major matrix, at its end; the whole of a
  /// matrix that is no larger than a panel.
  /// - Returns: columns done, and LAPACK's `info`.
  static func bunchKaufmanPanel(
    order: Int, width: Int, _ a: UnsafeMutablePointer<Self>, _ lda: Int, _ pivots: UnsafeMutablePointer<Int32>,
    work: UnsafeMutablePointer<Self>, _ ldw: Int
  ) -> (columns: Int, info: Int)

  /// b = M⁻¹ b or M⁻ᵀ b for the columns of b [n, count], with M [n, n] unit lower triangular. b is read up to three
  /// numbers past its end.
  static func solveColumns(
    isTransposed: Bool, _ n: Int, _ m: UnsafePointer<Self>, _ ldm: Int, _ b: UnsafeMutablePointer<Self>, _ ldb: Int,
    count: Int)
  /// The same for the rows of b [count, n].
  static func solveRows(
    isTransposed: Bool, _ n: Int, _ m: UnsafePointer<Self>, _ ldm: Int, _ b: UnsafeMutablePointer<Self>, _ ldb: Int,
    count: Int)

  /// y = x g, or y − x gᵀ where `isTransposed`, for x [count, ·], g [rows, columns] and y [count, ·].
  static func multiplyRows(
    isTransposed: Bool, count: Int, _ x: UnsafePointer<Self>, _ g: UnsafePointer<Self>, rows: Int, columns: Int,
    _ y: UnsafeMutablePointer<Self>)

  /// Subtracts hᵀ g, for h [k, m] and g [k, n] with rows of `stride`, from c [m, n].
  static func subtractProduct(
    _ m: Int, _ n: Int, _ k: Int, _ h: UnsafePointer<Self>, _ g: UnsafePointer<Self>, stride: Int, from c: Planes,
    _ ldc: Int, work: UnsafeMutablePointer<Self>)

  /// c [m, n] = α op(a) op(b) + β c, with op(a) [m, k] the matrix itself or its transpose. Nothing is conjugated.
  static func multiply(
    _ transposesA: Bool, _ transposesB: Bool, _ m: Int, _ n: Int, _ k: Int, _ alpha: Double, _ a: UnsafePointer<Self>,
    _ lda: Int, _ b: UnsafePointer<Self>, _ ldb: Int, _ beta: Double, _ c: UnsafeMutablePointer<Self>, _ ldc: Int)

  /// V as rows, unitary, and μ ≥ 0 or of both signs, with V F Vᵀ = diag(μ) up to rounding: eigenvectors of a real F,
  /// Takagi's vectors of a complex symmetric one.
  static func diagonalized(
    _ f: UnsafePointer<Self>, order: Int, interruption: Interruption
  ) throws(EngineError) -> (rows: [Self], values: [Double])

  /// Puts `count` numbers together from their parts, or takes them apart.
  static func join(_ planes: Planes, into target: UnsafeMutablePointer<Self>, count: Int)
  static func split(_ source: UnsafePointer<Self>, into planes: Planes, count: Int)
}

private let upper = [CChar(UInt8(ascii: "U"))]

extension Double: FactorScalar {
  static var parts: Int { 1 }
  var conjugate: Double { self }
  var realPart: Double { self }
  init(_ number: Complex) { self = number.real }

  static func bunchKaufmanPanel(
    order: Int, width: Int, _ a: UnsafeMutablePointer<Double>, _ lda: Int, _ pivots: UnsafeMutablePointer<Int32>,
    work: UnsafeMutablePointer<Double>, _ ldw: Int
  ) -> (columns: Int, info: Int) {
    var (n, nb, lda, ldw, columns, info) = (Int32(order), Int32(width), Int32(lda), Int32(ldw), Int32(order), Int32(0))
    if order > width {
      OpenBLAS.call(scipy_dlasyf_(upper, &n, &nb, &columns, a, &lda, pivots, work, &ldw, &info, 1))
    } else {
      OpenBLAS.call(scipy_dsytf2_(upper, &n, a, &lda, pivots, &info, 1))
    }
    return (Int(columns), Int(info))
  }

  static func solveColumns(
    isTransposed: Bool, _ n: Int, _ m: UnsafePointer<Double>, _ ldm: Int, _ b: UnsafeMutablePointer<Double>, _ ldb: Int,
    count: Int
  ) {
    guard n <= 256 && isTransposed else {
      inParts(partsOfLarge(n, n, count), of: count, grain: 8) { columns in
        OpenBLAS.call(
          scipy_cblas_dtrsm(
            CblasRowMajor, CblasLeft, CblasLower, isTransposed ? CblasTrans : CblasNoTrans, CblasUnit, Int32(n),
            Int32(columns.count), 1, m, Int32(ldm), b + columns.lowerBound, Int32(ldb)))
      }
      return
    }
    // Twice as fast as OpenBLAS for small matrices: a few rows at a time, less all rows below them in one deep product.
    let block = 6
    for end in stride(from: n, to: 0, by: -block) {
      let first = max(end - block, 0)
      Double.gemm(
        end - first, count, n - end, m + end * ldm + first, 1, ldm, b + end * ldb, ldb, nil, 0, .subtract, true,
        b + first * ldb, ldb)
      for row in stride(from: end - 2, through: first, by: -1) {
        for below in row + 1..<end { Double.axpy(count, -m[below * ldm + row], b + below * ldb, b + row * ldb) }
      }
    }
  }

  static func solveRows(
    isTransposed: Bool, _ n: Int, _ m: UnsafePointer<Double>, _ ldm: Int, _ b: UnsafeMutablePointer<Double>, _ ldb: Int,
    count: Int
  ) {
    if count == 1 {
      OpenBLAS.call(
        scipy_cblas_dtrsv(
          CblasRowMajor, CblasLower, isTransposed ? CblasTrans : CblasNoTrans, CblasUnit, Int32(n), m, Int32(ldm), b, 1)
      )
    } else {
      inParts(partsOfLarge(n, n, count), of: count, grain: 8) { rows in
        OpenBLAS.call(
          scipy_cblas_dtrsm(
            CblasRowMajor, CblasRight, CblasLower, isTransposed ? CblasNoTrans : CblasTrans, CblasUnit,
            Int32(rows.count), Int32(n), 1, m, Int32(ldm), b + rows.lowerBound * ldb, Int32(ldb)))
      }
    }
  }

  static func multiplyRows(
    isTransposed: Bool, count: Int, _ x: UnsafePointer<Double>, _ g: UnsafePointer<Double>, rows: Int, columns: Int,
    _ y: UnsafeMutablePointer<Double>
  ) {
    let alpha: Double = isTransposed ? -1 : 1
    let beta: Double = isTransposed ? 1 : 0
    if count == 1 {
      OpenBLAS.call(
        scipy_cblas_dgemv(
          CblasRowMajor, isTransposed ? CblasNoTrans : CblasTrans, Int32(rows), Int32(columns), alpha, g,
          Int32(columns),
          x, 1, beta, y, 1))
    } else {
      let (from, to) = isTransposed ? (columns, rows) : (rows, columns)
      multiply(false, isTransposed, count, to, from, alpha, x, from, g, columns, beta, y, to)
    }
  }

  static func subtractProduct(
    _ m: Int, _ n: Int, _ k: Int, _ h: UnsafePointer<Double>, _ g: UnsafePointer<Double>, stride: Int, from c: Planes,
    _ ldc: Int, work: UnsafeMutablePointer<Double>
  ) {
    product(m, n, k, h, 1, stride, g, stride, .subtract, c.real, ldc)
  }

  static func multiply(
    _ transposesA: Bool, _ transposesB: Bool, _ m: Int, _ n: Int, _ k: Int, _ alpha: Double,
    _ a: UnsafePointer<Double>, _ lda: Int, _ b: UnsafePointer<Double>, _ ldb: Int, _ beta: Double,
    _ c: UnsafeMutablePointer<Double>, _ ldc: Int
  ) {
    guard m > 0, n > 0 else { return }
    inParts(partsOfLarge(m, n, k), of: n, grain: 8) { columns in
      OpenBLAS.call(
        scipy_cblas_dgemm(
          CblasRowMajor, transposesA ? CblasTrans : CblasNoTrans, transposesB ? CblasTrans : CblasNoTrans, Int32(m),
          Int32(columns.count), Int32(k), alpha, a, Int32(max(lda, 1)),
          b + columns.lowerBound * (transposesB ? ldb : 1), Int32(max(ldb, 1)), beta, c + columns.lowerBound, Int32(ldc)
        ))
    }
  }

  static func diagonalized(
    _ f: UnsafePointer<Double>, order: Int, interruption: Interruption
  ) throws(EngineError) -> (rows: [Double], values: [Double]) {
    let matrix = try Matrix<Double>(rows: order, columns: order)
    matrix.base.update(from: f, count: order * order)
    let values = try symmetricEigen(matrix, interruption: interruption)
    return (Array(UnsafeBufferPointer(start: matrix.base, count: order * order)), values)
  }

  static func join(_ planes: Planes, into target: UnsafeMutablePointer<Double>, count: Int) {
    if planes.real != target { target.update(from: planes.real, count: count) }
  }

  static func split(_ source: UnsafePointer<Double>, into planes: Planes, count: Int) {
    if UnsafePointer(planes.real) != source { planes.real.update(from: source, count: count) }
  }
}

extension Complex: FactorScalar {
  static var parts: Int { 2 }
  init(_ real: Double) { self.init(real, 0) }
  init(_ number: Complex) { self = number }
  var magnitude: Double { hypotenuse(abs(real), abs(imaginary)) }
  var conjugate: Complex { Complex(real, -imaginary) }
  var realPart: Double { real }

  static func bunchKaufmanPanel(
    order: Int, width: Int, _ a: UnsafeMutablePointer<Complex>, _ lda: Int, _ pivots: UnsafeMutablePointer<Int32>,
    work: UnsafeMutablePointer<Complex>, _ ldw: Int
  ) -> (columns: Int, info: Int) {
    var (n, nb, lda, ldw, columns, info) = (Int32(order), Int32(width), Int32(lda), Int32(ldw), Int32(order), Int32(0))
    if order > width {
      OpenBLAS.call(scipy_zlasyf_(upper, &n, &nb, &columns, a, &lda, pivots, work, &ldw, &info, 1))
    } else {
      OpenBLAS.call(scipy_zsytf2_(upper, &n, a, &lda, pivots, &info, 1))
    }
    return (Int(columns), Int(info))
  }

  static func solveColumns(
    isTransposed: Bool, _ n: Int, _ m: UnsafePointer<Complex>, _ ldm: Int, _ b: UnsafeMutablePointer<Complex>,
    _ ldb: Int, count: Int
  ) {
    inParts(partsOfLarge(4, n, n, count), of: count, grain: 8) { columns in
      var one = Complex(1)
      OpenBLAS.call(
        scipy_cblas_ztrsm(
          CblasRowMajor, CblasLeft, CblasLower, isTransposed ? CblasTrans : CblasNoTrans, CblasUnit, Int32(n),
          Int32(columns.count), &one, m, Int32(ldm), b + columns.lowerBound, Int32(ldb)))
    }
  }

  static func solveRows(
    isTransposed: Bool, _ n: Int, _ m: UnsafePointer<Complex>, _ ldm: Int, _ b: UnsafeMutablePointer<Complex>,
    _ ldb: Int, count: Int
  ) {
    if count == 1 {
      OpenBLAS.call(
        scipy_cblas_ztrsv(
          CblasRowMajor, CblasLower, isTransposed ? CblasTrans : CblasNoTrans, CblasUnit, Int32(n), m, Int32(ldm), b, 1)
      )
    } else {
      inParts(partsOfLarge(4, n, n, count), of: count, grain: 8) { rows in
        var one = Complex(1)
        OpenBLAS.call(
          scipy_cblas_ztrsm(
            CblasRowMajor, CblasRight, CblasLower, isTransposed ? CblasNoTrans : CblasTrans, CblasUnit,
            Int32(rows.count), Int32(n), &one, m, Int32(ldm), b + rows.lowerBound * ldb, Int32(ldb)))
      }
    }
  }

  static func multiplyRows(
    isTransposed: Bool, count: Int, _ x: UnsafePointer<Complex>, _ g: UnsafePointer<Complex>, rows: Int, columns: Int,
    _ y: UnsafeMutablePointer<Complex>
  ) {
    if count == 1 {
      var alpha = Complex(isTransposed ? -1 : 1)
      var beta = Complex(isTransposed ? 1 : 0)
      OpenBLAS.call(
        scipy_cblas_zgemv(
          CblasRowMajor, isTransposed ? CblasNoTrans : CblasTrans, Int32(rows), Int32(columns), &alpha, g,
          Int32(columns),
          x, 1, &beta, y, 1))
    } else {
      let (from, to) = isTransposed ? (columns, rows) : (rows, columns)
      multiply(
        false, isTransposed, count, to, from, isTransposed ? -1 : 1, x, from, g, columns, isTransposed ? 1 : 0, y, to)
    }
  }

  static func subtractProduct(
    _ m: Int, _ n: Int, _ k: Int, _ h: UnsafePointer<Complex>, _ g: UnsafePointer<Complex>, stride: Int, from c: Planes,
    _ ldc: Int, work: UnsafeMutablePointer<Complex>
  ) {
    multiply(true, false, m, n, k, 1, h, stride, g, stride, 0, work, n)
    for row in 0..<m {
      let (real, imaginary, product) = (c[0] + row * ldc, c[1] + row * ldc, work + row * n)
      for column in 0..<n {
        real[column] -= product[column].real
        imaginary[column] -= product[column].imaginary
      }
    }
  }

  static func multiply(
    _ transposesA: Bool, _ transposesB: Bool, _ m: Int, _ n: Int, _ k: Int, _ alpha: Double,
    _ a: UnsafePointer<Complex>, _ lda: Int, _ b: UnsafePointer<Complex>, _ ldb: Int, _ beta: Double,
    _ c: UnsafeMutablePointer<Complex>, _ ldc: Int
  ) {
    guard m > 0, n > 0 else { return }
    inParts(partsOfLarge(4, m, n, k), of: n, grain: 8) { columns in
      var (alpha, beta) = (Complex(alpha), Complex(beta))
      OpenBLAS.call(
        scipy_cblas_zgemm(
          CblasRowMajor, transposesA ? CblasTrans : CblasNoTrans, transposesB ? CblasTrans : CblasNoTrans, Int32(m),
          Int32(columns.count), Int32(k), &alpha, a, Int32(max(lda, 1)),
          b + columns.lowerBound * (transposesB ? ldb : 1), Int32(max(ldb, 1)), &beta, c + columns.lowerBound,
          Int32(ldc)))
    }
  }

  /// With F = A + iB, eigenvectors (x, y) of [A B; B −A] with eigenvalues μ ≥ 0: V = x − iy. Where μ is near 0 those of
  /// μ and −μ mix, and V is made unitary.
  static func diagonalized(
    _ f: UnsafePointer<Complex>, order n: Int, interruption: Interruption
  ) throws(EngineError) -> (rows: [Complex], values: [Double]) {
    let matrix = try Matrix<Double>(rows: saturating(2, n), columns: saturating(2, n))
    for row in 0..<n {
      for column in 0..<n {
        let entry = f[row * n + column]
        matrix[row, column] = entry.real
        matrix[row, n + column] = entry.imaginary
        matrix[n + row, column] = entry.imaginary
        matrix[n + row, n + column] = -entry.real
      }
    }
    let values = try symmetricEigen(matrix, interruption: interruption)
    let largest = values.last ?? 0
    var rows = OrthonormalRows<Complex>(length: n)
    for place in 0..<n {
      try interruption.check()
      let source = matrix.row(2 * n - 1 - place)
      let row = (0..<n).map { Complex(source[$0], -source[n + $0]) }
      if values[2 * n - 1 - place] > 1e-3 * largest { rows.take(row) } else { rows.append(row) }
    }
    return (rows.numbers, (0..<n).map { max(values[2 * n - 1 - $0], 0) })
  }

  static func join(_ planes: Planes, into target: UnsafeMutablePointer<Complex>, count: Int) {
    let (real, imaginary) = (planes[0], planes[1])
    for index in 0..<count { target[index] = Complex(real[index], imaginary[index]) }
  }

  static func split(_ source: UnsafePointer<Complex>, into planes: Planes, count: Int) {
    let (real, imaginary) = (planes[0], planes[1])
    for index in 0..<count {
      real[index] = source[index].real
      imaginary[index] = source[index].imaginary
    }
  }
}

/// c = a b, or c ± a b, with a small kernel or with OpenBLAS, whichever is faster.
///
/// A [m, k] has its elements at a[i·aRow + p·aColumn], and one of the steps is 1. B and C need no padding, but B is
/// read up to three numbers past its end.
@inline(__always)
func product(
  _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Double>, _ aRow: Int, _ aColumn: Int, _ b: UnsafePointer<Double>,
  _ ldb: Int, _ update: Update, _ c: UnsafeMutablePointer<Double>, _ ldc: Int
) {
  guard saturating(m, n, k) > 1 << 21 else {
    Double.gemm(m, n, k, a, aRow, aColumn, b, ldb, nil, 0, update, true, c, ldc)
    return
  }
  let isStraight = aColumn == 1 && aRow >= k
  Double.multiply(
    !isStraight, false, m, n, k, update == .subtract ? -1 : 1, a, isStraight ? aRow : aColumn, b, ldb,
    update == .set ? 0 : 1, c, ldc)
}

/// The parts of a product of so many operations: those of small matrices would wait for each other's memory longer than
/// they work.
private func partsOfLarge(_ sizes: Int...) -> Int {
  sizes.reduce(1) { saturating($0, $1) } > 1 << 23 ? Threads.count : 1
}
