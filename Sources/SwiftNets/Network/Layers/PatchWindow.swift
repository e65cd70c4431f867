/// A window that moves over an image, for convolutions and pools.
struct PatchWindow: Sendable {
  let height: Int
  let width: Int
  let channels: Int
  let kernelHeight: Int
  let kernelWidth: Int
  let strideHeight: Int
  let strideWidth: Int
  let paddingHeight: Int
  let paddingWidth: Int
  let outHeight: Int
  let outWidth: Int

  /// `sizes`: kernel, stride and padding, each of height and width.
  init(_ x: ValueShape, _ index: Int, _ sizes: [Int], isPool: Bool = false) throws(EngineError) {
    guard case .image(let height, let width) = x.kind else {
      throw .invalidArgument("layer \(index) is given \(x); it takes an image")
    }
    guard sizes[0...3].allSatisfy({ $0 >= 1 }) else {
      throw .invalidArgument("layer \(index) has kernel and stride \(sizes[0...3]); each must be at least 1")
    }
    // bounded: all are below 2³¹
    if isPool, sizes[4] * 2 > sizes[0] || sizes[5] * 2 > sizes[1] {
      throw .invalidArgument("layer \(index) has padding \(sizes[4...5]); at most half of its kernel")
    }
    // Which pixel of a window is the largest is kept as one of the net's scalars.
    if isPool, saturating(sizes[0], sizes[1]) > 1 << 24 {
      throw .invalidArgument("layer \(index) pools \(sizes[0]) by \(sizes[1]) pixels, more than fits")
    }
    guard sizes[0] <= height + 2 * sizes[4], sizes[1] <= width + 2 * sizes[5] else {
      throw .invalidArgument("layer \(index) has kernel \(sizes[0...1]), larger than \(x) with its padding")
    }
    self.height = height
    self.width = width
    channels = x.channels
    kernelHeight = sizes[0]
    kernelWidth = sizes[1]
    strideHeight = sizes[2]
    strideWidth = sizes[3]
    paddingHeight = sizes[4]
    paddingWidth = sizes[5]
    outHeight = (height + 2 * sizes[4] - sizes[0]) / sizes[2] + 1
    outWidth = (width + 2 * sizes[5] - sizes[1]) / sizes[3] + 1
  }

  /// The window that the cotangents of `outputs` channels move under on their way back, where that is one: strides of
  /// 1, and borders no wider than the kernel.
  init?(flipping window: PatchWindow, outputs: Int) {
    guard window.strideHeight == 1, window.strideWidth == 1, window.paddingHeight < window.kernelHeight,
      window.paddingWidth < window.kernelWidth
    else { return nil }
    height = window.outHeight
    width = window.outWidth
    channels = outputs
    kernelHeight = window.kernelHeight
    kernelWidth = window.kernelWidth
    strideHeight = 1
    strideWidth = 1
    paddingHeight = window.kernelHeight - 1 - window.paddingHeight
    paddingWidth = window.kernelWidth - 1 - window.paddingWidth
    outHeight = window.height
    outWidth = window.width
  }

  var size: Int { saturating(height, width, channels) }
  var outPositions: Int { saturating(outHeight, outWidth) }
  var hasPadding: Bool { paddingHeight > 0 || paddingWidth > 0 }
  var paddedWidth: Int { width + 2 * paddingWidth }  // bounded: below 2³³
  var paddedSize: Int { saturating(saturating(sum: height, saturating(2, paddingHeight)), paddedWidth, channels) }

  /// The rows of the kernel and of the image that a window at `row` meets.
  func rows(_ row: Int) -> (kernel: Range<Int>, first: Int) {
    Self.part(row * strideHeight - paddingHeight, kernelHeight, height)
  }

  /// Likewise columns.
  func columns(_ column: Int) -> (kernel: Range<Int>, first: Int) {
    Self.part(column * strideWidth - paddingWidth, kernelWidth, width)
  }

  private static func part(_ start: Int, _ kernel: Int, _ size: Int) -> (kernel: Range<Int>, first: Int) {
    let from = max(0, -start)
    let to = max(from, min(kernel, size - start))
    return (from..<to, start + from)
  }

  /// One image with its borders of zeros: itself where there are none, else a copy in `memory`.
  func padded<T: KernelScalar>(
    _ image: UnsafeMutablePointer<T>, _ memory: UnsafeMutablePointer<T>
  ) -> UnsafeMutablePointer<T> {
    guard hasPadding else { return image }
    let row = paddedWidth * channels  // bounded: numbers of a sample
    let side = paddingWidth * channels
    memory.update(repeating: 0, count: paddingHeight * row)  // bounded: its size
    var target = memory + paddingHeight * row
    for y in 0..<height {
      target.update(repeating: 0, count: side)
      (target + side).update(from: image + y * width * channels, count: width * channels)
      (target + side + width * channels).update(repeating: 0, count: side)
      target += row
    }
    target.update(repeating: 0, count: paddingHeight * row)  // bounded: its size
    return memory
  }
}
