/// Inputs with their targets and weights: borrowed memory but for labels, valid during one call.
struct Samples<Element: Scalar>: @unchecked Sendable {
  enum Targets: @unchecked Sendable {
    /// For calls that need none.
    case none
    /// One row a sample, as wide as the outputs.
    case rows(Matrix<Element>)
    /// A class each, from 0: a copy, as what was checked once is an index from then on.
    case labels(Integers<Int64>)
  }

  /// None where there are tokens.
  let inputs: Matrix<Element>
  /// For nets that begin with an embedding, [samples, length]: a copy, checked, as they are indices.
  var tokens: Integers<Int64>?
  let targets: Targets
  /// One weight a sample; nil for all 1.
  let weights: UnsafePointer<Element>?
  /// Multiplies every weight: 1, or what makes the sum a mean.
  let scale: Element

  var count: Int { inputs.rows }

  func weight(_ sample: Int) -> Element { (weights?[sample] ?? 1) * scale }
}
