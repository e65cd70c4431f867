import CKernels
import Glibc

/// Products of a batch of pixels, or of its transpose, with float64 matrices.
///
/// Processors with byte instructions (AVX-512 VNNI) multiply integers: the float64 factor is split column by column into
/// digits of base 256 (as in Ozaki, Ogita, Oishi and Rump, *Numer. Algorithms* 59, 2012); all sums are exact integers.
/// With seven digits the only errors are the rounding of the factor to 2⁻⁵⁴ of the largest entry of its column and four
/// roundings of the result: no larger than those of a float64 product, at less than its cost. Others multiply in
/// floating point; see `floatingProduct`.
final class PixelProducts: @unchecked Sendable {
  let pixels: Pixels
  let transpose: Integers<UInt8>
  let transposeStride: Int
  private let inBytes: Bool

  /// Digits that the factor is rounded to.
  enum Precision: Int {
    /// 22 bits: for a correction of relative size ε κ², whose own error then stays below ε κ for κ up to 4 · 10⁶.
    case low = 3
    /// 46 bits: for what is corrected afterwards.
    case medium = 6
    /// 54 bits: at least those of float64.
    case full = 7
  }

  /// - Parameter inBytes: whether to use byte instructions, where the processor has them and no row is too long.
  init(_ pixels: Pixels, inBytes: Bool = true, interruption: Interruption) throws(EngineError) {
    let (rows, columns, stride) = (pixels.rows, pixels.columns, pixels.stride)
    transposeStride = Pixels.stride(for: rows)
    self.inBytes = inBytes && swk_pixels_supported() == 1 && max(stride, transposeStride) <= 1 << 16
    self.pixels = pixels
    transpose = try Integers(count: saturating(columns, transposeStride))
    let (source, target, targetStride) = (pixels.bytes.base, transpose.base, transposeStride)
    let block = 64
    try inSlices(of: (columns + block - 1) / block, weight: saturating(64, block, rows), interruption: interruption) {
      slice in
      ThreadTeam.run(parts: Threads.forWork(of: saturating(rows, columns))) { member in
        for index in member.share(of: slice.count) {
          let first = (slice.lowerBound + index) * block
          let end = min(columns, first + block)
          for column in first..<end { memset(target + column * targetStride + rows, 128, targetStride - rows) }
          for top in Swift.stride(from: 0, to: rows, by: block) {
            for column in first..<end {
              let row = target + column * targetStride
              for sample in top..<min(rows, top + block) { row[sample] = source[sample * stride + column] }
            }
          }
        }
      }
    }
  }

  /// Memory held.
  var bytes: Int { pixels.bytes.count + transpose.count }

  /// Whether `xs` are these pixels, entry by entry.
  func match(_ xs: Matrix<Double>, interruption: Interruption = Interruption()) throws(EngineError) -> Bool {
    let (columns, stride, base) = (pixels.columns, pixels.stride, pixels.bytes.base)
    let threads = Threads.forWork(of: saturating(pixels.rows, columns))
    let scratch: Integers<UInt8> = try Integers(count: saturating(threads, stride))
    let isSame = Flag(true)
    try ThreadTeam.run(parts: threads, interruption) { member in
      let row = scratch.base + member.index * stride
      for index in member.share(of: xs.rows) where isSame.value {
        if index % 64 == 0 && member.isStopped { return }
        if swk_pixels_from_doubles(columns, xs.row(index), row) == 0 || memcmp(row, base + index * stride, columns) != 0
        {
          isSame.value = false
        }
      }
    }
    return isSame.value
  }

  /// c = β c + α x b, or α xᵀ b; β is 0 or 1. Entries of b that are not finite make their column NaN.
  func product(
    _ alpha: Double, transposed: Bool = false, _ b: Matrix<Double>, _ beta: Double, into c: Matrix<Double>,
    precision: Precision = .full, interruption: Interruption
  ) throws(EngineError) {
    guard inBytes else {
      if precision == .low {
        try floatingProduct(Float.self, alpha, transposed, b, beta, into: c, interruption)
      } else {
        try floatingProduct(Double.self, alpha, transposed, b, beta, into: c, interruption)
      }
      return
    }
    let base = transposed ? transpose.base : pixels.bytes.base
    let stride = transposed ? transposeStride : pixels.stride
    let rows = transposed ? pixels.columns : pixels.rows
    let width = Int(swk_pixels_columns)
    let count = precision.rawValue
    let perBlock = saturating(count, width)
    let batch = min(16, (b.columns + width - 1) / width)
    let digits: Integers<Int8> = try Integers(count: saturating(batch, perBlock, stride))
    let sums: Integers<Int32> = try Integers(count: saturating(batch, perBlock))
    let scales: Storage<Double> = try Storage(count: saturating(batch, width))
    let threads = Threads.forWork(of: saturating(rows, stride))
    let tile = 128
    for first in Swift.stride(from: 0, to: b.columns, by: batch * width) {
      let blocks = (min(b.columns - first, batch * width) + width - 1) / width
      try interruption.check()
      let splits = Queue(0)
      ThreadTeam.run(parts: threads) { _ in
        while let block = splits.next(below: blocks) {
          let column = first + block * width
          swk_pixels_split(
            b.rows, min(width, b.columns - column), stride, b.base + column, b.stride, Int32(count),
            digits.base + block * perBlock * stride, scales.base + block * width, sums.base + block * perBlock)
        }
      }
      let tiles = (rows + tile - 1) / tile
      try inSlices(of: tiles, weight: saturating(tile, stride / 8, blocks, perBlock), interruption: interruption) {
        slice in
        let tasks = Queue(0)
        ThreadTeam.run(parts: threads) { _ in
          // All rows of one block of columns, then the next: its digits stay in the cache.
          while let task = tasks.next(below: blocks * slice.count) {
            let block = task / slice.count
            let column = first + block * width
            let top = (slice.lowerBound + task % slice.count) * tile
            swk_pixels_product(
              min(tile, rows - top), min(width, b.columns - column), stride, base + top * stride, Int32(count),
              digits.base + block * perBlock * stride, scales.base + block * width, sums.base + block * perBlock,
              alpha, beta, c.row(top) + column, c.stride)
          }
        }
      }
    }
  }
}
