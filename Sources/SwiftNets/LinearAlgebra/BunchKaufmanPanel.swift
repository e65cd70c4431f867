/// Panels of the Bunch–Kaufman factorisation of large matrices: LAPACK's dlasyf ('U', by columns) with the update of
/// what is left on the team, and with looks at the interruption. LAPACK's own would take a second for a panel of a
/// matrix of order 10,000, on one thread.
extension SymmetricFactor {
  /// Orders from which on it is taken.
  static var largeOrder: Int { 2048 }
  /// Rows of what is left that are updated at once.
  static var tile: Int { 128 }

  /// Factors the last columns of the leading `n`, up to `width` of them.
  /// - Returns: columns done, fewer than 1 where a pivot is 0 or not finite.
  func largePanel(_ n: Int, width: Int, interruption: Interruption) throws(EngineError) -> Int {
    let alpha = (1 + 17.0.squareRoot()) / 8
    var k = n - 1
    while k > n - width {
      let w = column(k, n, width)
      w.update(from: base + k * stride, count: k + 1)
      updateColumn(w, row: k, k, n, width)
      var (step, pivot) = (1, k)
      let size = w[k].magnitude
      let (other, largest) = Self.largest(w, 0..<k)
      guard max(size, largest) > 0, size.isFinite, largest.isFinite else { return 0 }
      if size < alpha * largest {
        // The column of the largest entry, and the largest one beside the diagonal there.
        let next = column(k - 1, n, width)
        next.update(from: base + other * stride, count: other + 1)
        for row in other + 1..<k + 1 { next[row] = base[row * stride + other] }
        updateColumn(next, row: other, k, n, width)
        let most = max(Self.largest(next, other + 1..<k + 1).size, Self.largest(next, 0..<other).size)
        guard most.isFinite else { return 0 }
        if size < alpha * largest * (largest / most) {
          pivot = other
          if next[other].magnitude >= alpha * most {
            w.update(from: next, count: k + 1)
          } else {
            step = 2
          }
        }
      }
      let own = k - step + 1
      if pivot != own { exchange(own, pivot, k, n, width) }
      if step == 1 {
        let target = base + k * stride
        target.update(from: w, count: k + 1)
        let reciprocal = Element(1) / target[k]
        for row in 0..<k { target[row] = reciprocal * target[row] }
        pivots[k] = Int32(pivot + 1)
      } else {
        setPair(k, w, column(k - 1, n, width))
        pivots[k] = -Int32(pivot + 1)
        pivots[k - 1] = -Int32(pivot + 1)
      }
      k -= step
    }
    try updateRest(k + 1, n, width, interruption)
    restoreOrder(k + 1, n)
    return n - 1 - k
  }

  /// Place of the updated column k in the workspace.
  private func column(_ k: Int, _ n: Int, _ width: Int) -> UnsafeMutablePointer<Element> {
    work + (width - n + k) * order
  }

  /// w [k + 1] less what the columns done of this panel, k + 1…n − 1, have in it: their entries of `row`.
  private func updateColumn(_ w: UnsafeMutablePointer<Element>, row: Int, _ k: Int, _ n: Int, _ width: Int) {
    let count = n - 1 - k
    guard count > 0 else { return }
    for index in 0..<count { scratch[index] = column(k + 1 + index, n, width)[row] }
    Element.multiply(
      false, false, 1, k + 1, count, -1, scratch, count, base + (k + 1) * stride, stride, 1, w, k + 1)
  }

  private static func largest(_ w: UnsafePointer<Element>, _ range: Range<Int>) -> (place: Int, size: Double) {
    var (place, size) = (range.lowerBound, 0.0)
    for index in range {
      let magnitude = w[index].magnitude
      // NaN is the largest of all: it ends the factorisation.
      if magnitude > size || magnitude.isNaN { (place, size) = (index, magnitude) }
      if magnitude.isNaN { break }
    }
    return (place, size)
  }

  /// Rows and columns `own` and `pivot` < `own` change places: in what is not updated yet, in the columns done and in
  /// the workspace.
  private func exchange(_ own: Int, _ pivot: Int, _ k: Int, _ n: Int, _ width: Int) {
    let (from, to) = (base + own * stride, base + pivot * stride)
    to[pivot] = from[own]
    for index in pivot + 1..<own { base[index * stride + pivot] = from[index] }
    to.update(from: from, count: pivot)
    for index in k + 1..<n {
      let row = base + index * stride
      (row[own], row[pivot]) = (row[pivot], row[own])
    }
    for index in own..<n {
      let w = column(index, n, width)
      (w[own], w[pivot]) = (w[pivot], w[own])
    }
  }

  /// Columns k − 1 and k of U and of D's block there.
  private func setPair(_ k: Int, _ w: UnsafePointer<Element>, _ before: UnsafePointer<Element>) {
    let (first, second) = (base + (k - 1) * stride, base + k * stride)
    let middle = w[k - 1]
    let (d11, d22) = (w[k] / middle, before[k - 1] / middle)
    let scale = Element(1) / (d11 * d22 - Element(1)) / middle
    for row in 0..<k - 1 {
      first[row] = scale * (d11 * before[row] - w[row])
      second[row] = scale * (d22 * w[row] - before[row])
    }
    first[k - 1] = before[k - 1]
    second[k - 1] = w[k - 1]
    second[k] = w[k]
  }

  /// What is left [left, left] less U D Uᵀ of the columns done; nothing right of the diagonal is touched.
  private func updateRest(_ left: Int, _ n: Int, _ width: Int, _ interruption: Interruption) throws(EngineError) {
    let count = n - left
    let (u, w) = (base + left * stride, work + (width - count) * order)
    for first in Swift.stride(from: 0, to: left, by: Self.tile) {
      try interruption.check()
      let rows = min(Self.tile, left - first)
      Element.multiply(
        true, false, rows, first, count, -1, w + first, order, u, stride, 1, base + first * stride, stride)
      Element.multiply(true, false, rows, rows, count, 1, w + first, order, u + first, stride, 0, scratch, rows)
      for row in 0..<rows {
        let target = base + (first + row) * stride + first
        for index in 0...row { target[index] = target[index] - scratch[row * rows + index] }
      }
    }
  }

  /// The interchanges undone in the columns that came before them, as LAPACK leaves them.
  private func restoreOrder(_ left: Int, _ n: Int) {
    var index = left
    while index < n {
      let first = index
      let pivot = Int(abs(pivots[index])) - 1
      if pivots[index] < 0 { index += 1 }
      index += 1
      guard pivot != first, index < n else { continue }
      for other in index..<n {
        let row = base + other * stride
        (row[first], row[pivot]) = (row[pivot], row[first])
      }
    }
  }
}
