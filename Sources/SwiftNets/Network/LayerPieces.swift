// What layers do to whole values, in pieces between which the work may be stopped: one sample may be as large as any.

/// The weight of a number that is read or written: the system may have to make its page.
private let touched = copied / 8

extension ThreadTeam.Member {
  /// y = x.
  func copy<T: KernelScalar>(_ x: UnsafePointer<T>, to y: UnsafeMutablePointer<T>, count: Int) {
    inPieces(0..<count, weight: touched, grain: 64) {
      (y + $0.lowerBound).update(from: x + $0.lowerBound, count: $0.count)
    }
  }

  /// y = 0.
  func clear<T: KernelScalar>(_ y: UnsafeMutablePointer<T>, count: Int) {
    inPieces(0..<count, weight: touched, grain: 64) { (y + $0.lowerBound).update(repeating: 0, count: $0.count) }
  }

  /// y += x.
  func add<T: KernelScalar>(_ x: UnsafePointer<T>, to y: UnsafeMutablePointer<T>, count: Int) {
    inPieces(0..<count, weight: touched, grain: 64) { T.axpy($0.count, 1, x + $0.lowerBound, y + $0.lowerBound) }
  }

  /// b [n, m] = aᵀ for a [m, n].
  func transpose<T: KernelScalar>(
    _ m: Int, _ n: Int, _ a: UnsafePointer<T>, _ lda: Int, _ b: UnsafeMutablePointer<T>, _ ldb: Int
  ) {
    inPieces(0..<m, weight: saturating(touched, n)) { rows in
      // bounded: a place in a
      T.transpose(rows.count, n, a + rows.lowerBound * lda, lda, b + rows.lowerBound, ldb)
    }
  }
}

extension LayerStep {
  /// Runs `body` on pieces of `count` items of `size` numbers each.
  @inline(__always)
  func inPieces(_ count: Int, of size: Int = 1, _ body: (Range<Int>) -> Void) {
    member.inPieces(0..<count, weight: saturating(touched, size), grain: 64, body)
  }

  /// x ∘= factor.
  func scale(_ x: Numbers, _ count: Int, _ factor: Element) {
    inPieces(count) { for index in $0 { x[index] *= factor } }
  }

  /// C = A diag(v), or that added.
  func scaleColumns(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Element>, _ v: UnsafePointer<Element>, adding: Bool, _ c: Numbers
  ) {
    inPieces(m, of: n) { rows in
      let place = rows.lowerBound * n  // bounded: in A and C, here and below
      Element.scaleColumns(rows.count, n, a + place, v, adding: adding, c + place)
    }
  }

  /// C = A diag(v) + 1 bᵀ.
  func affineColumns(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Element>, _ v: UnsafePointer<Element>?, _ b: UnsafePointer<Element>,
    _ c: Numbers
  ) {
    inPieces(m, of: n) { rows in
      let place = rows.lowerBound * n
      Element.affineColumns(rows.count, n, a + place, v, b, c + place)
    }
  }

  /// Adds the columns' sums of A ∘ B, or of A.
  func columnDots(
    _ m: Int, _ n: Int, _ a: UnsafePointer<Element>, _ b: UnsafePointer<Element>?, _ sums: Numbers
  ) {
    inPieces(m, of: n) { rows in
      let place = rows.lowerBound * n
      Element.columnDots(rows.count, n, a + place, b.map { $0 + place }, sums)
    }
  }

  /// Sets `rows` rows of y to those of a bias, if there is one; returns how to add to them.
  func fillRows(_ y: Numbers, _ rows: Int, _ width: Int, _ bias: Numbers?) -> Update {
    guard let bias else { return .set }
    inPieces(rows, of: width) { rows in
      var target = y + rows.lowerBound * width  // bounded: a place in y
      for _ in rows {
        for column in 0..<width { target[column] = bias[column] }
        target += width
      }
    }
    return .add
  }

  /// Adds the sum of `rows` rows to `sum`.
  func addRows(_ y: Numbers, _ rows: Int, _ width: Int, into sum: Numbers) {
    inPieces(rows, of: width) { rows in
      // bounded: a place in y
      Element.gemm(
        1, width, rows.count, scratch.ones, rows.count, 1, y + rows.lowerBound * width, width, nil, 0, .add, true, sum,
        width)
    }
  }

  /// Every `lookEach`-th of items that take `weight` each is a time to look whether to stop.
  func lookEach(_ weight: Int) -> Int { Self.lookEach(weight) }
  static func lookEach(_ weight: Int) -> Int { max(1, 10_000_000 / max(weight, 1)) }
}
