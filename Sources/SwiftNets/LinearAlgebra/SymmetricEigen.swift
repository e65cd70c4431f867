import COpenBLAS
import Glibc

/// Replaces a symmetric matrix by its eigenvectors, as rows, and returns the eigenvalues in ascending order.
///
/// LAPACK's divide and conquer (`dsyevd`, `ssyevd`); only one triangle is read.
/// - Throws: `numerical` when it does not converge, which takes a matrix with entries that are not finite.
/// - Complexity: about 9 n³ operations.
func symmetricEigen<T: KernelScalar>(_ matrix: Matrix<T>) throws(EngineError) -> [T] {
  let n = matrix.rows
  var values = [T](repeating: 0, count: max(n, 1))
  guard n > 0 else { return [] }
  for row in 0..<n {
    for column in 0...row where !matrix[row, column].isFinite {
      throw .notFinite("a matrix to be diagonalised has entries that are not finite")
    }
  }
  // Column-major eigenvectors as columns are row-major eigenvectors as rows, and the matrix is its own transpose.
  let info = values.withUnsafeMutableBufferPointer { values in
    if let base = matrix.base as? UnsafeMutablePointer<Double> {
      return scipy_LAPACKE_dsyevd(
        LAPACK_COL_MAJOR, CChar(UInt8(ascii: "V")), CChar(UInt8(ascii: "L")), Int32(n), base, Int32(matrix.stride),
        UnsafeMutableRawPointer(values.baseAddress!).assumingMemoryBound(to: Double.self))
    }
    return scipy_LAPACKE_ssyevd(
      LAPACK_COL_MAJOR, CChar(UInt8(ascii: "V")), CChar(UInt8(ascii: "L")), Int32(n),
      UnsafeMutableRawPointer(matrix.base).assumingMemoryBound(to: Float.self), Int32(matrix.stride),
      UnsafeMutableRawPointer(values.baseAddress!).assumingMemoryBound(to: Float.self))
  }
  guard info == 0 else { throw .numerical("the symmetric eigenvalue solver did not converge (LAPACK info \(info))") }
  return values
}
