/// A sum over samples that comes chunk by chunk, each chunk set or added where `next` says.
///
/// float64 adds one chunk after the other. float32 would lose more of each the longer it takes: its chunks are added up
/// in blocks of about √(1024 n) of the n samples, and the blocks to the sum, so that rounding grows with √n only.
final class ChunkSum<Element: KernelScalar> {
  private let length: Int
  private let block: Int
  private let partial: Storage<Element>?
  private var out: UnsafeMutablePointer<Element>?
  private var update = Update.set
  private var inBlock = 0
  private var isFirst = true

  /// Up to so many samples float32 is added like float64.
  static var few: Int { 1 << 14 }
  /// Samples that one product adds up at a time where there are more.
  static var chunk: Int { 1024 }

  static func isBlocked(_ samples: Int) -> Bool { Element.self == Float.self && samples > few }

  /// For `length` numbers from up to `samples` samples.
  init(length: Int, samples: Int) throws(EngineError) {
    self.length = length
    block = Int((Double(Self.chunk) * Double(samples)).squareRoot())
    partial = Self.isBlocked(samples) ? try Storage(count: length) : nil
  }

  convenience init(
    length: Int, samples: Int, into out: UnsafeMutablePointer<Element>
  ) throws(EngineError) {
    try self.init(length: length, samples: samples)
    begin(into: out)
  }

  /// What its memory takes.
  var bytes: Int { partial.map { saturating($0.count, MemoryLayout<Element>.stride) } ?? 0 }

  /// Starts a sum that replaces what is in `out`, or adds to it.
  func begin(_ update: Update = .set, into out: UnsafeMutablePointer<Element>) {
    self.out = out
    self.update = update
    inBlock = 0
    isFirst = true
  }

  /// Where the next chunk, of `samples` samples, is to be set or added.
  func next(_ samples: Int) -> (UnsafeMutablePointer<Element>, Update) {
    guard let partial, let out else {
      defer { isFirst = false }
      return (out!, isFirst ? update : .add)
    }
    if inBlock >= block { fold(out) }
    defer { inBlock += samples }
    return (partial.base, inBlock == 0 ? .set : .add)
  }

  /// Completes the sum; without chunks it is 0.
  func finish() {
    guard let out else { return }
    if partial != nil && inBlock > 0 { fold(out) }
    if isFirst && update == .set { out.update(repeating: 0, count: length) }
    self.out = nil
  }

  private func fold(_ out: UnsafeMutablePointer<Element>) {
    guard let partial else { return }
    if isFirst && update == .set {
      out.update(from: partial.base, count: length)
    } else {
      Element.axpy(length, 1, partial.base, out)
    }
    isFirst = false
    inBlock = 0
  }
}
