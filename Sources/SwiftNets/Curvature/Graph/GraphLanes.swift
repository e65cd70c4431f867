/// How samples are cut up: into blocks whose arrays stay near a processor, and the blocks into lanes, each of which adds
/// its gradients up in memory of its own.
///
/// This depends on the net and the number of samples alone, and lanes are added in their order: the bits of a result do
/// not depend on the number of threads.
struct GraphLanes {
  let samples: Int
  let rows: Int
  let blocks: Int
  let lanes: Int

  /// Bytes of a block's arrays, and of all lanes' sums.
  private static var blockBytes: Int { 8 << 20 }
  private static var sumBytes: Int { 256 << 20 }
  private static var most: Int { 16 }

  /// For `samples` samples of `bytesPerSample`, and sums of `sumBytes` in each lane.
  init(samples: Int, bytesPerSample: Int, sumBytes: Int) {
    self.samples = samples
    let fit = max(1, Self.blockBytes / max(bytesPerSample, 1))
    rows = max(1, min(fit, max(8, (samples + Self.most - 1) / Self.most), max(samples, 1)))
    blocks = (samples + rows - 1) / rows
    lanes = max(1, min(blocks, Self.most, max(2, Self.sumBytes / max(sumBytes, 1))))
  }

  /// The blocks of a lane.
  func blocks(_ lane: Int) -> Range<Int> { blocks * lane / lanes..<blocks * (lane + 1) / lanes }

  /// The samples of a block.
  func samples(_ block: Int) -> Range<Int> { block * rows..<min((block + 1) * rows, samples) }
}

/// A sum for each lane: the first is where the whole is wanted, the others in memory that is used again and again.
struct LaneSums<Element: KernelScalar> {
  private let out: UnsafeMutablePointer<Element>
  private let length: Int
  private let others: UnsafeMutablePointer<Element>
  private let lanes: Int

  /// `others` has room for what `room` says.
  init(
    _ lanes: Int, length: Int, into out: UnsafeMutablePointer<Element>, others: UnsafeMutablePointer<Element>
  ) {
    self.out = out
    self.length = length
    self.lanes = lanes
    self.others = others
  }

  /// Numbers that the lanes but the first add up in.
  static func room(_ lanes: Int, length: Int) -> Int { saturating(max(lanes - 1, 0), length) }

  /// Where a lane adds, zeros at first.
  func lane(_ lane: Int) -> UnsafeMutablePointer<Element> {
    lane == 0 ? out : others + (lane - 1) * length  // bounded: its room
  }

  /// Zeros a lane's sum.
  func clear(_ lane: Int, _ member: ThreadTeam.Member) { member.clear(self.lane(lane), count: length) }

  /// Adds the lanes up, all members of the team a share, after they have met.
  func finish(_ member: ThreadTeam.Member) {
    for part in member.parts {
      let range = member.share(of: length, grain: 64, part: part)
      for lane in 1..<max(lanes, 1) where !member.isStopped {
        member.add(self.lane(lane) + range.lowerBound, to: out + range.lowerBound, count: range.count)
      }
    }
  }
}
