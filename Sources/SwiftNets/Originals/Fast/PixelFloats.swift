import CKernels

/// The scalars that bytes of pixels become.
protocol PixelScalar: KernelScalar, BinaryFloatingPoint {
  /// y = bytes − 128.
  static func fromPixels(_ count: Int, _ bytes: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Self>)
}

extension Float: PixelScalar {
  static func fromPixels(_ count: Int, _ bytes: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Float>) {
    swk_pixels_to_floats(count, bytes, y)
  }
}

extension Double: PixelScalar {
  static func fromPixels(_ count: Int, _ bytes: UnsafePointer<UInt8>, _ y: UnsafeMutablePointer<Double>) {
    swk_pixels_to_doubles(count, bytes, y)
  }
}

extension PixelProducts {
  /// `product` in arithmetic of type T: tiles of pixels become T in the cache and are multiplied there.
  ///
  /// Memory gives bytes, an eighth of the float64 batch. Columns of b are scaled by powers of two, so that float32
  /// holds any of them. A tile is done the same way by whichever thread.
  func floatingProduct<T: PixelScalar>(
    _: T.Type, _ alpha: Double, _ transposed: Bool, _ b: Matrix<Double>, _ beta: Double, into c: Matrix<Double>,
    _ interruption: Interruption
  ) throws(EngineError) {
    let base = transposed ? transpose.base : pixels.bytes.base
    let stride = transposed ? transposeStride : pixels.stride
    let (rows, deep) = transposed ? (pixels.columns, pixels.rows) : (pixels.rows, pixels.columns)
    let (tile, depth, width) = (64, 128, 112)
    let threads = Threads.forWork(of: saturating(rows, stride))
    let widest = min(width, b.columns)
    // Panels of b narrow enough for the kernel to take them as they are.
    let vectors = (widest + T.lanes - 1) / T.lanes
    let panels = (vectors + 8) / 9
    let panelWidth = (vectors + panels - 1) / panels * T.lanes
    let factor = try (0..<panels).map { _ throws(EngineError) in try Matrix<T>.padded(deep, panelWidth) }
    let scales: Storage<Double> = try Storage(count: saturating(panels, panelWidth))
    let scratch = try (0..<threads).map { _ throws(EngineError) in
      (left: try Matrix<T>.padded(tile, depth), sums: try Matrix<T>.padded(tile, scales.count))
    }
    let tiles = (rows + tile - 1) / tile
    let weight = saturating(tile, stride, widest)
    for first in Swift.stride(from: 0, to: b.columns, by: width) {
      let count = min(b.columns - first, width)
      func columns(_ panel: Int) -> Range<Int> { panel * panelWidth..<min(count, (panel + 1) * panelWidth) }
      let used = (count + panelWidth - 1) / panelWidth
      try interruption.check()
      let splits = Queue(0)
      ThreadTeam.run(parts: threads) { _ in
        while let panel = splits.next(below: used) {
          let own = columns(panel)
          scale(
            b.view(0..<deep, first + own.lowerBound..<first + own.upperBound), into: factor[panel],
            scales.base + own.lowerBound)
        }
      }
      try inSlices(of: tiles, least: threads, weight: weight, interruption: interruption) { slice in
        let tasks = Queue(slice.lowerBound)
        ThreadTeam.run(parts: threads) { member in
          let (left, sums) = scratch[member.index]
          while let task = tasks.next(below: slice.upperBound) {
            let top = task * tile
            let height = min(tile, rows - top)
            for p in Swift.stride(from: 0, to: deep, by: depth) {
              let part = min(depth, deep - p)
              for row in 0..<height { T.fromPixels(part, base + (top + row) * stride + p, left.row(row)) }
              for panel in 0..<used {
                let own = columns(panel)
                T.gemm(
                  height, own.count, part, left.base, left.stride, 1, factor[panel].row(p), factor[panel].stride, nil,
                  0, p == 0 ? .set : .add, false, sums.base + own.lowerBound, sums.stride)
              }
            }
            for row in 0..<height {
              let (source, target) = (sums.row(row), c.row(top + row) + first)
              for column in 0..<count {
                let value = Double(source[column]) * (alpha * scales.base[column])
                target[column] = beta == 0 ? value : target[column] + value
              }
            }
          }
        }
      }
    }
  }

  /// The columns of b, each divided by a power of two near its largest entry.
  ///
  /// `scales` gets those powers, over 256 for the pixels' denominator; NaN for a column that is not finite.
  private func scale<T: PixelScalar>(
    _ b: Matrix<Double>, into factor: Matrix<T>, _ scales: UnsafeMutablePointer<Double>
  ) {
    let columns = 0..<b.columns
    for column in columns { scales[column] = 0 }
    for row in 0..<b.rows {
      let entries = b.row(row)
      for column in columns {
        let size = abs(entries[column])
        // A NaN comes in and stays.
        scales[column] = size <= scales[column] || scales[column].isNaN ? scales[column] : size
      }
    }
    var units = [Double](repeating: 0, count: b.columns)
    for column in columns {
      let largest = scales[column]
      // The power of two must be finite, and so must its inverse.
      let exponent = largest.isFinite && largest > 0 ? max(Int(largest.exponent), -960) : 0
      units[column] = largest.isFinite ? Double(sign: .plus, exponent: -exponent, significand: 1) : 0
      scales[column] = largest.isFinite ? Double(sign: .plus, exponent: exponent - 8, significand: 1) : .nan
    }
    units.withUnsafeBufferPointer { units in
      for row in 0..<b.rows {
        let (entries, target) = (b.row(row), factor.row(row))
        for column in columns {
          target[column] = units[column] == 0 ? 0 : T(entries[column] * units[column])
        }
      }
    }
  }
}
