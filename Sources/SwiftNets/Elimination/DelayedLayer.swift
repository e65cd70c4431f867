// bounded: `LayeredShape` grants no size from 2³⁰ on, and no more than 2⁵⁰ bytes together.

/// A layer of which some unknowns may have been left to the layer below, and some taken over from the layer above.
///
/// Its unknowns are f = (Y, t), t those taken over; f = Vaᵀ yₐ + V_dᵀ y_d with unitary (Vₐ; V_d), and yₐ is eliminated.
final class DelayedLayer<Element: FactorScalar> {
  /// The layer itself, in the form that was factored.
  let layer: EliminatedLayer<Element>
  /// Unknowns t.
  let carried: Int
  let accepted: Int
  let delayed: Int
  /// Vₐ [accepted, order]; nil for 1.
  let acceptedRows: FactorBuffer<Element>?
  /// Rows of Vₐ counted as eigenvectors of 0, whose pivots stand in for it.
  let zeros: [Int]
  /// V_d [delayed, order].
  let delayedRows: FactorBuffer<Element>
  let pivot: SymmetricFactor<Element>
  /// G [accepted, below + delayed].
  let coupling: FactorBuffer<Element>
  let bytes: Int
  private let memory: ArenaMemory

  var order: Int { layer.shape.order + carried }
  var width: Int { layer.shape.below + delayed }

  /// Factors F [accepted, accepted], and reduces its coupling C [accepted, below + delayed].
  /// - Returns: nil where F is singular.
  init?(
    _ layer: EliminatedLayer<Element>, carried: Int, acceptedRows: FactorBuffer<Element>?, accepted: Int,
    zeros: [Int] = [], delayedRows: FactorBuffer<Element>, delayed: Int, f: FactorBuffer<Element>,
    coupling c: FactorBuffer<Element>, interruption: Interruption
  ) throws(EngineError) {
    self.layer = layer
    self.carried = carried
    self.accepted = accepted
    self.delayed = delayed
    self.acceptedRows = acceptedRows
    self.zeros = zeros
    self.delayedRows = delayedRows
    var arena = Arena.measuring
    _ = SymmetricFactor<Element>(order: accepted, in: &arena)
    memory = try ArenaMemory(bytes: arena.bytes)
    let held = arena.bytes
    arena = Arena(memory)
    pivot = SymmetricFactor(order: accepted, in: &arena)
    pivot.base.update(from: f.base, count: accepted * accepted)
    let width = layer.shape.below + delayed
    coupling = try FactorBuffer(accepted * width)
    let order = layer.shape.order + carried
    bytes =
      held + MemoryLayout<Element>.stride
      * (accepted * width + (acceptedRows == nil ? 0 : accepted * order) + delayed * order)
    guard try pivot.factor(interruption: interruption) else { return nil }
    guard width > 0 else { return }
    for row in 0..<accepted {
      (coupling.base + row * width).update(from: c.base + Int(pivot.places[row]) * width, count: width)
    }
    guard accepted > 0 else { return }
    let weight = saturating(accepted, accepted, Element.parts)
    try inSlices(of: width, least: 8, weight: weight, interruption: interruption) { columns in
      Element.solveColumns(
        isTransposed: true, accepted, pivot.base, pivot.stride, coupling.base + columns.lowerBound, width,
        count: columns.count)
    }
  }

  /// D⁻¹ G.
  func divided() throws(EngineError) -> FactorBuffer<Element> {
    let result = try FactorBuffer<Element>(accepted * width)
    if width > 0 { pivot.divideColumns(coupling.base, into: result.base, width) }
    return result
  }
}

/// Unknowns on their way down: their coupling to the outputs of a layer, and their own matrix.
struct LayeredFront<Element: FactorScalar> {
  let count: Int
  /// Eᵀ S [count, N n].
  let coupling: FactorBuffer<Element>
  /// T [count, count].
  let block: FactorBuffer<Element>
}
