import CKernels
import COpenBLAS
import Glibc

/// A batch of images whose entries are all k/256 − ½ with integers k from 0 to 255, as bytes k.
struct Pixels {
  let rows: Int
  let columns: Int
  let stride: Int
  let bytes: Integers<UInt8>

  /// Bytes from row to row: an odd number of cache lines keeps rows from competing for the same cache sets.
  static func stride(for columns: Int) -> Int { roundedUp(columns, to: 64) | 64 }

  /// The pixels of `xs`, or nil where an entry is not a pixel.
  init?(_ xs: Matrix<Double>, interruption: Interruption) throws(EngineError) {
    rows = xs.rows
    columns = xs.columns
    stride = Self.stride(for: columns)
    // Most data that are not pixels show it in the first row.
    let probe = try Integers<UInt8>(count: stride)
    guard swk_pixels_from_doubles(columns, xs.row(0), probe.base) == 1 else { return nil }
    bytes = try Integers(count: saturating(rows, stride))
    let (base, columns, stride) = (bytes.base, columns, stride)
    let isPixels = Flag(true)
    try inSlices(of: rows, weight: saturating(16, stride), interruption: interruption) { slice in
      ThreadTeam.run(parts: Threads.forWork(of: saturating(slice.count, stride))) { member in
        for index in member.share(of: slice.count) where isPixels.value {
          let row = base + (slice.lowerBound + index) * stride
          memset(row + columns, 128, stride - columns)
          if swk_pixels_from_doubles(columns, xs.row(slice.lowerBound + index), row) == 0 { isPixels.value = false }
        }
      }
    }
    guard isPixels.value else { return nil }
  }

  /// x xᵀ, every entry exact, in the lower triangle of `gram`; what is above the diagonal is not specified.
  ///
  /// Sums of integers times 2⁻¹⁶ below 2⁵³ have no rounding error in any order.
  /// - Complexity: n² d integer operations, of bytes with AVX-512 VNNI and of 16 bits with AVX2; else float32.
  func gram(into gram: Matrix<Double>, interruption: Interruption) throws(EngineError) {
    if swk_pixels_gram_supported() == 1, stride <= 1 << 16 {
      try gramInIntegers(into: gram, interruption: interruption)
    } else {
      try gramInFloats(into: gram, interruption: interruption)
    }
  }

  func gramInIntegers(into gram: Matrix<Double>, interruption: Interruption) throws(EngineError) {
    let (base, rows, stride) = (bytes.base, rows, stride)
    let width = Int(swk_pixels_panel)
    let panels = (rows + width - 1) / width
    let threads = Threads.forWork(of: saturating(rows, stride))
    let scratch = try Integers<UInt8>(count: saturating(3, threads, width, stride))
    // A panel is the stripe of the triangle below 32 diagonal entries; whoever is free takes the next.
    try inSlices(of: panels, least: threads, weight: saturating(width, stride / 16, rows), interruption: interruption) {
      slice in
      let queue = Queue(slice.lowerBound)
      ThreadTeam.run(parts: threads) { member in
        while let panel = queue.next(below: slice.upperBound) {
          swk_pixels_gram_panel(
            rows, stride, base, panel * width, scratch.base + member.index * 3 * width * stride, gram.base, gram.stride)
        }
      }
    }
  }

  /// The same through float32 products: bytes squared are at most 2¹⁴, so 1024 of them stay within 24 bits.
  func gramInFloats(into gram: Matrix<Double>, interruption: Interruption) throws(EngineError) {
    let block = 512
    let depth = 1024
    let starts = Array(Swift.stride(from: 0, to: rows, by: block))
    let blocks = starts.flatMap { i in starts.filter { $0 <= i }.map { (i, $0) } }
    let threads = Threads.forWork(of: saturating(rows, columns))
    let scratches = try (0..<threads).map { _ throws(EngineError) in
      (
        left: try Matrix<Float>(rows: block, columns: depth), right: try Matrix<Float>(rows: block, columns: depth),
        partial: try Matrix<Float>(rows: block, columns: block)
      )
    }
    let weight = saturating(block, block / 16, columns)
    try inSlices(of: blocks.count, least: threads, weight: weight, interruption: interruption) { slice in
      let queue = Queue(slice.lowerBound)
      ThreadTeam.run(parts: threads) { member in
        let (left, right, partial) = scratches[member.index]
        while let index = queue.next(below: slice.upperBound) {
          addBlock(blocks[index], block, depth, left, right, partial, into: gram)
        }
      }
    }
  }

  /// Rows from i times rows from j, `depth` columns at a time.
  private func addBlock(
    _ corner: (i: Int, j: Int), _ block: Int, _ depth: Int, _ left: Matrix<Float>, _ right: Matrix<Float>,
    _ partial: Matrix<Float>, into gram: Matrix<Double>
  ) {
    let base = bytes.base
    let (i, j) = corner
    let (height, width) = (min(block, rows - i), min(block, rows - j))
    for p in Swift.stride(from: 0, to: columns, by: depth) {
      let count = min(depth, columns - p)
      for row in 0..<height { swk_pixels_to_floats(count, base + (i + row) * stride + p, left.row(row)) }
      for row in 0..<width { swk_pixels_to_floats(count, base + (j + row) * stride + p, right.row(row)) }
      OpenBLAS.call(
        scipy_cblas_sgemm(
          CblasRowMajor, CblasNoTrans, CblasTrans, Int32(height), Int32(width), Int32(count), 1, left.base,
          Int32(depth), right.base, Int32(depth), 0, partial.base, Int32(block)))
      for row in 0..<height {
        let target = gram.row(i + row) + j
        let source = partial.row(row)
        for column in 0..<width {
          let value = Double(source[column]) * 0x1p-16
          target[column] = p == 0 ? value : target[column] + value
        }
      }
    }
  }
}
