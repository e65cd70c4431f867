/// The mean of each window of an image, channel by channel, as PyTorch's AvgPool2d.
struct AveragePoolLayer: NetworkLayer {
  let window: PatchWindow
  /// Whether zeros of the border count in the mean.
  let countsPadding: Bool

  var work: Int { saturating(window.outPositions, window.kernelHeight, window.kernelWidth, window.channels) }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let channels = window.channels
    step.linearly { k, x in
      let y = step.y(k)
      step.member.clear(y, count: step.rows * window.outPositions * channels)  // bounded: numbers of the value
      guard let x else { return }
      inWindows(step) { place, out, factor in
        for channel in 0..<channels { y[out + channel] += factor * x[place + channel] }
      }
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    let channels = window.channels
    step.clearInput(step.rows * window.size)  // bounded: numbers of the value
    for k in step.coefficients {
      let (g, gx) = (step.gy(k), step.gx(k))
      inWindows(step) { place, out, factor in
        for channel in 0..<channels { gx[place + channel] += factor * g[out + channel] }
      }
    }
  }

  /// Runs `body` for every pixel of every window: where it is, where the window's mean is, its weight there.
  @inline(__always)
  private func inWindows<T: KernelScalar>(_ step: LayerStep<T>, _ body: (Int, Int, T) -> Void) {
    // bounded: places in the arrays
    let channels = window.channels
    let each = step.lookEach(saturating(window.outWidth, channels, window.kernelHeight, window.kernelWidth))
    for row in 0..<step.rows {
      for outRow in 0..<window.outHeight {
        if outRow % each == each - 1 && step.member.isStopped { break }
        let (kernelRows, firstRow) = window.rows(outRow)
        for outColumn in 0..<window.outWidth {
          let (kernelColumns, firstColumn) = window.columns(outColumn)
          let counted =
            countsPadding ? window.kernelHeight * window.kernelWidth : kernelRows.count * kernelColumns.count
          let factor = 1 / T(counted)
          let out = ((row * window.outHeight + outRow) * window.outWidth + outColumn) * channels
          for offset in 0..<kernelRows.count {
            let first = ((row * window.height + firstRow + offset) * window.width + firstColumn) * channels
            for column in 0..<kernelColumns.count { body(first + column * channels, out, factor) }
          }
        }
      }
    }
  }
}
