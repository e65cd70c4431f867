/// The mean over all positions: of an image's pixels, or of a sequence's steps.
struct MeanLayer: NetworkLayer {
  private let positions: Int
  private let channels: Int

  init(input: ValueShape) {
    positions = input.positions
    channels = input.channels
  }

  var work: Int { saturating(positions, channels) }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let factor = 1 / T(positions)
    step.linearly { k, x in
      let y = step.y(k)
      y.update(repeating: 0, count: step.rows * channels)  // bounded: numbers of the value
      guard let x else { return }
      for row in 0..<step.rows {
        let target = y + row * channels
        step.addRows(x + row * positions * channels, positions, channels, into: target)
        for column in 0..<channels { target[column] *= factor }
      }
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    let factor = 1 / T(positions)
    step.clearInput(step.rows * positions * channels)  // bounded: numbers of the value
    for k in step.coefficients {
      for row in 0..<step.rows {
        let g = step.gy(k) + row * channels
        step.inPieces(positions, of: channels) { part in
          var target = step.gx(k) + (row * positions + part.lowerBound) * channels
          for _ in part {
            for column in 0..<channels { target[column] += factor * g[column] }
            target += channels
          }
        }
      }
    }
  }
}
