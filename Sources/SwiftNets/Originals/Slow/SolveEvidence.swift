/// What proves a solve of A s = g: norms, with the residual recomputed from s.
public struct SolveEvidence: Equatable, Sendable {
  /// ‖A s − g‖
  public let residual: Double
  /// ‖g‖
  public let gradient: Double
  /// ‖H s‖ + λ ‖s‖, the size of the terms that the residual is the small difference of.
  public let image: Double

  /// The relative residual that a solve must reach.
  public static let tolerance = 1e-13

  /// ‖A s − g‖ / ‖g‖; 0 for g = 0 solved by s = 0.
  public var relative: Double { gradient > 0 ? residual / gradient : residual }

  /// Whether the residual is below `tolerance`, or else as small as float64 can tell: within the rounding of its own
  /// terms, whose dot products run over `length` numbers.
  public func isSolved(length: Int) -> Bool {
    relative <= Self.tolerance || residual <= Double(length).squareRoot() * 0x1p-52 * (image + gradient)
  }
}
