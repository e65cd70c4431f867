/// The largest of each window of an image, channel by channel, as PyTorch's MaxPool2d: the first of equal ones, and NaN
/// before any number. Borders never win.
///
/// Keeps which pixel of its window each output is: derivatives of all orders follow that one.
struct MaxPoolLayer: NetworkLayer {
  let window: PatchWindow

  private var outSize: Int { saturating(window.outPositions, window.channels) }
  var work: Int { saturating(outSize, window.kernelHeight, window.kernelWidth) }
  var stateSizes: [Int] { [outSize] }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    if step.first == 0, let x = step.x(0) { choose(step, x) }
    // What is chosen for half of the windows only is another block's for the rest, and may lie outside of this image.
    if step.member.isStopped { return }
    for k in step.coefficients where k > 0 {
      let y = step.y(k)
      guard let x = step.x(k) else {
        step.member.clear(y, count: step.rows * outSize)  // bounded: numbers of the value
        continue
      }
      inChosen(step) { place, out in y[out] = x[place] }
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    step.clearInput(step.rows * window.size)  // bounded: numbers of the value
    for k in step.coefficients {
      let (g, gx) = (step.gy(k), step.gx(k))
      inChosen(step) { place, out in gx[place] += g[out] }
    }
  }

  private func choose<T: KernelScalar>(_ step: LayerStep<T>, _ x: UnsafeMutablePointer<T>) {
    // bounded: places in the arrays
    let (y, chosen, channels) = (step.y(0), step.state(0, 0), window.channels)
    let each = step.lookEach(saturating(window.outWidth, channels, window.kernelHeight, window.kernelWidth))
    for row in 0..<step.rows {
      for outRow in 0..<window.outHeight {
        if outRow % each == each - 1 && step.member.isStopped { break }
        let (kernelRows, firstRow) = window.rows(outRow)
        for outColumn in 0..<window.outWidth {
          let (kernelColumns, firstColumn) = window.columns(outColumn)
          let out = ((row * window.outHeight + outRow) * window.outWidth + outColumn) * channels
          for channel in 0..<channels {
            var best = -T.infinity
            var number = kernelRows.lowerBound * window.kernelWidth + kernelColumns.lowerBound
            for (offset, kernelRow) in kernelRows.enumerated() {
              let first = ((row * window.height + firstRow + offset) * window.width + firstColumn) * channels + channel
              for (place, kernelColumn) in kernelColumns.enumerated() {
                let value = x[first + place * channels]
                if value > best || (value.isNaN && !best.isNaN) {
                  best = value
                  number = kernelRow * window.kernelWidth + kernelColumn
                }
              }
            }
            y[out + channel] = best
            chosen[out + channel] = T(number)
          }
        }
      }
    }
  }

  /// Runs `body` for every output: where the pixel is that it is, and where it is itself.
  @inline(__always)
  private func inChosen<T: KernelScalar>(_ step: LayerStep<T>, _ body: (Int, Int) -> Void) {
    // bounded: places in the arrays
    let (chosen, channels) = (step.state(0, 0), window.channels)
    let each = step.lookEach(saturating(8, window.outWidth, channels))
    for row in 0..<step.rows {
      for outRow in 0..<window.outHeight {
        if outRow % each == each - 1 && step.member.isStopped { break }
        for outColumn in 0..<window.outWidth {
          let out = ((row * window.outHeight + outRow) * window.outWidth + outColumn) * channels
          for channel in 0..<channels {
            let number = Int(chosen[out + channel])
            let pixelRow = outRow * window.strideHeight - window.paddingHeight + number / window.kernelWidth
            let column = outColumn * window.strideWidth - window.paddingWidth + number % window.kernelWidth
            let place = ((row * window.height + pixelRow) * window.width + column) * channels + channel
            body(place, out + channel)
          }
        }
      }
    }
  }
}
