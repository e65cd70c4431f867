/// What one sample is between two layers: `positions` rows of `channels` numbers, one after the other.
///
/// An image's positions are its pixels row by row, a sequence's its steps; a vector has one position.
public struct ValueShape: Equatable, Sendable, CustomStringConvertible {
  public enum Kind: Equatable, Sendable {
    case vector
    case image(height: Int, width: Int)
    case sequence
    /// Indices into a table: the input of a net that begins with an embedding.
    case tokens
  }

  public let kind: Kind
  public let positions: Int
  public let channels: Int

  static func vector(_ channels: Int) -> ValueShape { ValueShape(kind: .vector, positions: 1, channels: channels) }
  static func image(_ height: Int, _ width: Int, _ channels: Int) -> ValueShape {
    ValueShape(
      kind: .image(height: height, width: width), positions: saturating(height, width), channels: channels)
  }
  static func sequence(_ length: Int, _ channels: Int) -> ValueShape {
    ValueShape(kind: .sequence, positions: length, channels: channels)
  }
  static func tokens(_ length: Int) -> ValueShape { ValueShape(kind: .tokens, positions: length, channels: 1) }

  /// Numbers a sample.
  public var count: Int { saturating(positions, channels) }

  public var description: String {
    switch kind {
    case .vector: "a vector of \(channels)"
    case .image(let height, let width): "an image [\(channels), \(height), \(width)]"
    case .sequence: "a sequence [\(positions), \(channels)]"
    case .tokens: "\(positions) tokens"
    }
  }
}
