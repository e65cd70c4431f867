// bounded: `LayeredShape` grants no size from 2³⁰ on, and no more than 2⁵⁰ bytes together.

/// Memory of a factorisation that is free again after it.
struct LayeredWorkspace<Element: FactorScalar> {
  let left: Planes  // Rᵀ P̂ [order, above]
  let wide: Planes  // (Rᵀ P̂)ᵀ [above, order], then P̂ Wᵀ [above, below]
  let coupling: Planes  // C [order, below]
  let divided: UnsafeMutablePointer<Element>  // D⁻¹ G [order, below]
  let product: UnsafeMutablePointer<Element>
  let spanning: UnsafeMutablePointer<Double>
  /// Rows of P_below that are updated at once.
  let block: Int
  private let first: Planes
  private let second: Planes
  private let pivot: Planes

  init(_ shape: LayeredShape, in arena: inout Arena) {
    func planes(_ count: Int) -> Planes {
      Planes(real: arena.take(count), imaginary: Element.parts > 1 ? arena.take(count) : nil)
    }
    func most(_ size: (LayerShape) -> Int) -> Int { shape.layers.map(size).max()! }
    first = planes(shape.largestAbove * shape.largestAbove)
    second = planes(shape.largestAbove * shape.largestAbove)
    left = planes(most { $0.order * $0.above })
    wide = planes(most { $0.above * max($0.order, $0.below) })
    coupling = planes(most { $0.order * $0.below })
    divided = arena.take(most { $0.order * $0.below })
    block = shape.largestAbove > 128 ? 192 : 12
    product = arena.take(Element.parts > 1 ? block * shape.largestAbove : 0)
    pivot = planes(Element.parts > 1 ? shape.largestOrder * shape.largestOrder : 0)
    spanning = arena.take(
      most { $0.isDual ? $0.rows * $0.samples + ($0.rows + $0.samples) * rowSpanBlock : 0 })
  }

  /// P̂ of the layer, and the place for that of the layer below: they change places from layer to layer.
  func costs(isOdd: Bool) -> (Planes, Planes) { isOdd ? (second, first) : (first, second) }

  /// Where Q is formed: real numbers in the factor's own place.
  func pivot(of layer: EliminatedLayer<Element>) -> Planes {
    Element.parts > 1
      ? pivot
      : Planes(
        real: UnsafeMutableRawPointer(layer.pivot.base).assumingMemoryBound(to: Double.self), imaginary: nil)
  }
}

/// The course of one factorisation: whether to stop.
final class LayeredControl {
  let isLarge: Bool
  let interruption: Interruption
  private(set) var isCancelled = false

  init(_ interruption: Interruption, isLarge: Bool) {
    self.interruption = interruption
    self.isLarge = isLarge
  }

  /// Whether to stop.
  func check() -> Bool {
    if !isCancelled { do throws(EngineError) { try interruption.check() } catch { isCancelled = true } }
    return isCancelled
  }

  /// c = a b, or c ± a b, in slices of rows; of columns where these are so long that eight rows take long.
  @inline(__always)
  func multiply(
    _ m: Int, _ n: Int, _ k: Int, _ a: UnsafePointer<Double>, _ aRow: Int, _ aColumn: Int, _ b: UnsafePointer<Double>,
    _ ldb: Int, _ update: Update, _ c: UnsafeMutablePointer<Double>, _ ldc: Int
  ) {
    guard isLarge else {
      product(m, n, k, a, aRow, aColumn, b, ldb, update, c, ldc)
      return
    }
    let each = saturating(2, saturating(sum: k, copied / 2))
    if saturating(8, each, n) > 2_000_000_000 {
      // Few rows: of each the system may have to make a large page.
      let height = 16
      let width = max(64, 1_000_000_000 / saturating(each, height) / 64 * 64)
      for row in stride(from: 0, to: m, by: height) {
        for first in stride(from: 0, to: n, by: width) {
          if check() { return }
          product(
            min(height, m - row), min(width, n - first), k, a + row * aRow, aRow, aColumn, b + first, ldb, update,
            c + row * ldc + first, ldc)
        }
      }
      return
    }
    inSlices(of: m, weight: saturating(each, n)) { rows in
      product(
        rows.count, n, k, a + rows.lowerBound * aRow, aRow, aColumn, b, ldb, update, c + rows.lowerBound * ldc, ldc)
    }
  }

  /// Runs `body` on slices of 0..<total of about 10⁹ units of weight, with a look at the interruption before each.
  func inSlices(of total: Int, weight: Int, _ body: (Range<Int>) -> Void) {
    let step = isLarge ? max(8, 1_000_000_000 / max(weight, 1)) : max(total, 1)
    for first in stride(from: 0, to: total, by: step) {
      if isLarge && check() { return }
      body(first..<min(first + step, total))
    }
  }
}
