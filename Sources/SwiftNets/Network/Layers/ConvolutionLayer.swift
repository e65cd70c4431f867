/// y = P(x) W + b: a convolution as PyTorch's Conv2d, W [kernel h, kernel w, channels / groups, outputs], then b.
///
/// No patches are copied together: with its borders an image is, for each row of the kernel, a matrix whose rows overlap
/// (row step: the stride's channels), and the products of these with the kernel's rows are added.
///
/// The way back is such a convolution as well, with the kernel flipped and transposed, where that does not compute much
/// more than it keeps; else patches of cotangents are spread over the image.
struct ConvolutionLayer: NetworkLayer {
  let window: PatchWindow
  /// For the way back, where that is a convolution.
  private let flipped: PatchWindow?
  let outputs: Int
  let groups: Int
  let hasBias: Bool

  init(window: PatchWindow, outputs: Int, groups: Int, hasBias: Bool) {
    self.window = window
    self.outputs = outputs
    self.groups = groups
    self.hasBias = hasBias
    // A product as narrow as the input's channels takes as long as one of whole vectors.
    let narrow = saturating(window.height, window.width, roundedUp(window.channels, to: 8))
    let isCheap = groups == 1 && narrow <= saturating(2, window.outPositions, window.channels)
    flipped = isCheap ? PatchWindow(flipping: window, outputs: outputs) : nil
  }

  private var groupChannels: Int { window.channels / groups }
  private var groupOutputs: Int { outputs / groups }
  /// Rows of W.
  var patch: Int { saturating(window.kernelHeight, window.kernelWidth, groupChannels) }
  var outSize: Int { saturating(window.outPositions, outputs) }
  var weightCount: Int { saturating(patch, outputs) }

  var parameterCount: Int { saturating(sum: weightCount, hasBias ? outputs : 0) }
  var work: Int { saturating(window.outPositions, weightCount) }
  var transposes: [TransposedMatrix] {
    let pixels = saturating(window.kernelHeight, window.kernelWidth)
    return flipped == nil
      ? [TransposedMatrix(offset: 0, rows: patch, columns: outputs)]
      : [TransposedMatrix(offset: 0, rows: window.channels, columns: outputs, blocks: pixels)]
  }
  /// The image with its borders, then the cotangents of a row's patches of all groups, or those of the outputs with
  /// their borders.
  var scratchSizes: [Int] {
    [
      window.hasPadding ? window.paddedSize : 0,
      flipped.map { $0.hasPadding ? $0.paddedSize : 0 } ?? saturating(window.outWidth, patch, groups),
    ]
  }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let algebra = step.algebra
    for k in step.coefficients {
      let bias = hasBias ? step.w(k).map { $0 + weightCount } : nil
      let count = step.rows * window.outPositions  // bounded: numbers of the value
      if step.fillRows(step.y(k), count, outputs, bias) == .set {
        step.member.clear(step.y(k), count: count * outputs)  // bounded: as above
      }
    }
    for row in 0..<step.rows {
      for i in 0..<algebra.count {
        guard let x = step.x(i) else { continue }
        var image: UnsafeMutablePointer<T>?
        for k in step.coefficients {
          for (a, j) in algebra.products[k] where a == i {
            guard let w = step.w(j) else { continue }
            // bounded: a place in the value, here and below
            let source = image ?? window.padded(x + row * window.size, step.scratch(0, i))
            image = source
            Self.apply(step.member, window, groups, source, w, outputs, into: step.y(k) + row * outSize)
          }
        }
      }
    }
  }

  /// Adds a padded image's products with a kernel [patch, outputs].
  static func apply<T: KernelScalar>(
    _ member: ThreadTeam.Member, _ window: PatchWindow, _ groups: Int, _ image: UnsafeMutablePointer<T>,
    _ w: UnsafeMutablePointer<T>,
    _ outputs: Int, into y: UnsafeMutablePointer<T>
  ) {
    if member.isStopped { return }
    // bounded: places in the arrays
    let (channels, rowSize) = (window.channels, window.paddedWidth * window.channels)
    let (groupChannels, groupOutputs) = (channels / groups, outputs / groups)
    let step = window.strideWidth * channels
    let patch = saturating(window.kernelHeight, window.kernelWidth, groupChannels)
    let each = LayerStep<T>.lookEach(saturating(window.outWidth, patch, outputs))
    for outRow in 0..<window.outHeight {
      if outRow % each == each - 1 && member.isStopped { break }
      let source = image + outRow * window.strideHeight * rowSize
      let target = y + outRow * window.outWidth * outputs
      if groups == 1 {
        T.gemmPieces(
          window.outWidth, outputs, window.kernelWidth * channels, window.kernelHeight, rowSize, source, step, 1, w,
          outputs, target, outputs)
        continue
      }
      // With groups a row of the kernel is not in one piece in the image, but its pixels are.
      for kernelRow in 0..<window.kernelHeight {
        for group in 0..<groups {
          T.gemmPieces(
            window.outWidth, groupOutputs, groupChannels, window.kernelWidth, channels,
            source + kernelRow * rowSize + group * groupChannels, step, 1,
            w + kernelRow * window.kernelWidth * groupChannels * outputs + group * groupOutputs, outputs,
            target + group * groupOutputs, outputs)
        }
      }
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    step.clearInput(step.rows * window.size)  // bounded: numbers of the value
    for row in 0..<step.rows {
      if let flipped {
        turn(step, row, flipped)
      } else {
        for k in step.coefficients { spread(step, row, k) }
      }
    }
  }

  /// Adds one sample's cotangents of the outputs, convolved with the flipped kernel, to those of the input.
  private func turn<T: KernelScalar>(_ step: LayerStep<T>, _ row: Int, _ flipped: PatchWindow) {
    let algebra = step.algebra
    for i in 0..<algebra.count {
      var image: UnsafeMutablePointer<T>?
      for k in step.coefficients {
        for (a, j) in algebra.products[k] where a == i {
          guard let w = step.transposed(0, j) else { continue }
          // bounded: a place in the cotangents
          let source = image ?? flipped.padded(step.gy(i) + row * outSize, step.scratch(1, i))
          image = source
          Self.apply(step.member, flipped, 1, source, w, window.channels, into: step.gx(k) + row * window.size)
        }
      }
    }
  }

  /// Adds coefficient k of one sample's Pᵀ(g Wᵀ) to the cotangent of the input, a row of g at a time.
  private func spread<T: KernelScalar>(_ step: LayerStep<T>, _ row: Int, _ k: Int) {
    if step.member.isStopped { return }
    let gx = step.gx(k) + row * window.size
    let patches = step.scratch(1)
    let channels = window.channels
    let each = step.lookEach(saturating(step.algebra.products[k].count, window.outWidth, patch, outputs))
    for outRow in 0..<window.outHeight {
      if outRow % each == each - 1 && step.member.isStopped { break }
      var update = Update.set
      for (i, j) in step.algebra.products[k] {
        guard let transposed = step.transposed(0, j) else { continue }
        let g = step.gy(i) + row * outSize + outRow * window.outWidth * outputs
        for group in 0..<groups {
          T.gemm(
            window.outWidth, patch, groupOutputs, g + group * groupOutputs, outputs, 1,
            transposed + group * groupOutputs * patch, patch, nil, 0, update, true,
            patches + group * window.outWidth * patch, patch)
        }
        update = .add
      }
      let (kernelRows, firstRow) = window.rows(outRow)
      for outColumn in 0..<window.outWidth {
        let (kernelColumns, firstColumn) = window.columns(outColumn)
        guard !kernelColumns.isEmpty else { continue }
        for (offset, kernelRow) in kernelRows.enumerated() {
          let target = gx + ((firstRow + offset) * window.width + firstColumn) * channels
          if groups == 1 {
            let source =
              patches + outColumn * patch
              + (kernelRow * window.kernelWidth + kernelColumns.lowerBound) * channels
            add(kernelColumns.count * channels, source, to: target)
          } else {
            for group in 0..<groups {
              let own = patches + (group * window.outWidth + outColumn) * patch
              for (place, column) in kernelColumns.enumerated() {
                add(
                  groupChannels, own + (kernelRow * window.kernelWidth + column) * groupChannels,
                  to: target + place * channels + group * groupChannels)
              }
            }
          }
        }
      }
    }
  }

  func gradient<T: KernelScalar>(
    _ step: LayerStep<T>, _ rows: Range<Int>, into weights: [UnsafeMutablePointer<T>?]
  ) {
    let algebra = step.algebra
    for row in rows {
      for i in 0..<algebra.count {
        guard let x = step.x(i) else { continue }
        var image: UnsafeMutablePointer<T>?
        for k in step.coefficients {
          guard let target = weights[k] else { continue }
          for (a, j) in algebra.products[k] where a == i {
            // bounded: a place in the value
            let source = image ?? window.padded(x + row * window.size, step.scratch(0, i))
            image = source
            collect(step.member, source, step.gy(j) + row * outSize, outputs, into: target)
          }
        }
      }
      if hasBias {
        for k in step.coefficients {
          guard let target = weights[k] else { continue }
          step.addRows(step.gy(k) + row * outSize, window.outPositions, outputs, into: target + weightCount)
        }
      }
    }
  }

  /// Adds a padded image's part of the kernel's gradient, all rows of g at once: [patch, outputs] from g of as many
  /// columns.
  func collect<T: KernelScalar>(
    _ member: ThreadTeam.Member, _ image: UnsafeMutablePointer<T>, _ g: UnsafeMutablePointer<T>, _ outputs: Int,
    into target: UnsafeMutablePointer<T>
  ) {
    // bounded: places in the arrays
    let (channels, rowSize) = (window.channels, window.paddedWidth * window.channels)
    let step = window.strideWidth * channels
    let pieces = groups == 1 ? 1 : window.kernelWidth
    let depth = groups == 1 ? window.kernelWidth * channels : groupChannels
    let groupOutputs = outputs / groups
    for kernelRow in 0..<window.kernelHeight where !member.isStopped {
      for piece in 0..<pieces {
        for group in 0..<groups {
          let row = (kernelRow * window.kernelWidth + piece) * groupChannels
          let source = image + kernelRow * rowSize + piece * channels + group * groupChannels
          member.inPieces(0..<window.outHeight, weight: saturating(2, window.outWidth, depth, groupOutputs)) { rows in
            T.gemmPieces(
              depth, groupOutputs, window.outWidth, rows.count, window.strideHeight * rowSize,
              source + rows.lowerBound * window.strideHeight * rowSize, 1, step,
              g + rows.lowerBound * window.outWidth * outputs + group * groupOutputs, outputs,
              target + row * outputs + group * groupOutputs, outputs)
          }
        }
      }
    }
  }
}

/// y += x for a few numbers.
@inline(__always)
private func add<T: KernelScalar>(_ count: Int, _ x: UnsafeMutablePointer<T>, to y: UnsafeMutablePointer<T>) {
  for index in 0..<count { y[index] += x[index] }
}
