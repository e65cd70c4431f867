/// A vector of all numbers of a sample, channel by channel as PyTorch has them.
struct FlattenLayer: NetworkLayer {
  private let positions: Int
  private let channels: Int
  private let isImage: Bool

  init(input: ValueShape) {
    positions = input.positions
    channels = input.channels
    if case .image = input.kind { isImage = true } else { isImage = false }
  }

  var work: Int { saturating(positions, channels) }
  var scratchSizes: [Int] { isImage ? [saturating(positions, channels)] : [] }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let size = positions * channels  // bounded: numbers of a sample
    step.linearly { k, x in
      let y = step.y(k)
      guard let x else { return step.member.clear(y, count: step.rows * size) }  // bounded: the value
      guard isImage else { return step.member.copy(x, to: y, count: step.rows * size) }  // bounded: the value
      for row in 0..<step.rows {
        step.member.transpose(positions, channels, x + row * size, channels, y + row * size, positions)
      }
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    let size = positions * channels  // bounded: numbers of a sample
    guard isImage else { return addCotangents(step, step.rows * size) }
    for k in step.coefficients {
      for row in 0..<step.rows {
        let (g, gx) = (step.gy(k) + row * size, step.gx(k) + row * size)
        if step.node.addsInput {
          step.member.transpose(channels, positions, g, positions, step.scratch(0), channels)
          step.member.add(step.scratch(0), to: gx, count: size)
        } else {
          step.member.transpose(channels, positions, g, positions, gx, channels)
        }
      }
    }
  }
}
