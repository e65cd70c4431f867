/// Softmax self-attention with several heads over a sequence, as PyTorch's MultiheadAttention: [Q | K | V] = x A + a,
/// of each head P = softmax(Q Kᵀ / √(width of a head)) and O = P V, and y = O B + b. Parameters: A [d, 3 d], a, B, b.
///
/// Keeps Q, K, V, P and O; backward the cotangents of O, of P less their projection, of the scores, and of Q, K, V.
struct AttentionLayer: NetworkLayer {
  private let length: Int
  private let width: Int
  private let heads: Int
  private let hasBias: Bool

  init(input: ValueShape, heads: Int, hasBias: Bool) {
    length = input.positions
    width = input.channels
    self.heads = heads
    self.hasBias = hasBias
  }

  private var headWidth: Int { width / heads }
  private var size: Int { saturating(length, width) }
  private var scores: Int { saturating(heads, length, length) }
  private var inBias: Int { saturating(3, width, width) }
  private var outWeights: Int { saturating(sum: inBias, hasBias ? saturating(3, width) : 0) }
  private var outBias: Int { saturating(sum: outWeights, saturating(width, width)) }

  var parameterCount: Int { saturating(sum: outBias, hasBias ? width : 0) }
  var work: Int { saturating(sum: saturating(4, size, width), saturating(2, length, size)) }
  var stateSizes: [Int] { [saturating(3, size), scores, size] }
  var costateSizes: [Int] { [size, scores, scores, saturating(3, size)] }
  var transposes: [TransposedMatrix] {
    [
      TransposedMatrix(offset: 0, rows: width, columns: saturating(3, width)),
      TransposedMatrix(offset: outWeights, rows: width, columns: width),
    ]
  }
  /// Scores of a head, its keys or values transposed, sums of rows, and squares.
  var scratchSizes: [Int] { [saturating(length, length), saturating(headWidth, length), length, length] }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    let algebra = step.algebra
    // bounded: places in arrays, here and below
    let (m, wide) = (step.rows * length, 3 * width)
    for k in step.coefficients {
      let update = step.fillRows(step.state(0, k), m, wide, hasBias ? step.w(k).map { $0 + inBias } : nil)
      product(step, k, m, step.x, width, { step.w($0) }, wide, update, step.state(0, k))
    }
    for row in 0..<step.rows {
      for head in 0..<heads where !step.member.isStopped { attend(step, algebra, row, head) }
    }
    for k in step.coefficients {
      let update = step.fillRows(step.y(k), m, width, hasBias ? step.w(k).map { $0 + outBias } : nil)
      product(
        step, k, m, { step.state(2, $0) }, width, { step.w($0).map { $0 + outWeights } }, width, update, step.y(k))
    }
  }

  /// Coefficient k of c = a b for a [m, inner] and matrices b [inner, n] of the parameters.
  private func product<T: KernelScalar>(
    _ step: LayerStep<T>, _ k: Int, _ m: Int, _ a: (Int) -> UnsafeMutablePointer<T>?, _ inner: Int,
    _ b: (Int) -> UnsafeMutablePointer<T>?, _ n: Int, _ update: Update, _ c: UnsafeMutablePointer<T>
  ) {
    var update = update
    for (i, j) in step.algebra.products[k] {
      guard let a = a(i), let b = b(j) else { continue }
      step.product(m, n, inner, a, inner, 1, b, n, update, c, n)
      update = .add
    }
    if update == .set { step.member.clear(c, count: m * n) }  // bounded: numbers of c
  }

  /// P and O of one head of one sample.
  private func attend<T: KernelScalar>(_ step: LayerStep<T>, _ algebra: TaylorAlgebra, _ row: Int, _ head: Int) {
    let wide = 3 * width
    let (start, column) = (row * length * wide, head * headWidth)
    let place = (row * heads + head) * length * length
    for k in 0..<algebra.count {
      T.transpose(length, headWidth, step.state(0, k) + start + width + column, wide, step.scratch(1, k), length)
    }
    let factor = 1 / T(headWidth).squareRoot()
    for k in step.coefficients {
      let s = step.scratch(0, k)
      for (number, (i, j)) in algebra.products[k].enumerated() {
        step.product(
          length, length, headWidth, step.state(0, i) + start + column, wide, 1, step.scratch(1, j), length,
          number == 0 ? .set : .add, s, length)
      }
      step.scale(s, length * length, factor)
    }
    softmax(step, algebra, place)
    for k in step.coefficients {
      for (number, (i, j)) in algebra.products[k].enumerated() {
        step.product(
          length, headWidth, length, step.state(1, i) + place, length, 1,
          step.state(0, j) + start + 2 * width + column, wide, number == 0 ? .set : .add,
          step.state(2, k) + row * size + column, width)
      }
    }
  }

  /// P of the scores of one head, which are spent.
  private func softmax<T: KernelScalar>(_ step: LayerStep<T>, _ algebra: TaylorAlgebra, _ place: Int) {
    if step.first == 0 {
      step.inPieces(length, of: length) { rows in
        let first = rows.lowerBound * length
        T.softmaxRows(rows.count, length, step.scratch(0, 0) + first, step.state(1, 0) + place + first)
      }
    }
    guard algebra.count > 1 else { return }
    if algebra.count == 2 {
      // P₁ = P₀ ∘ (S₁ − P₀ · S₁).
      let (s, p, target) = (step.scratch(0, 1), step.state(1, 0) + place, step.state(1, 1) + place)
      let each = step.lookEach(saturating(4, length))
      for query in 0..<length {
        if query % each == each - 1 && step.member.isStopped { break }
        let first = query * length
        let mean = T.dot(length, p + first, s + first)
        for key in first..<first + length { target[key] = p[key] * (s[key] - mean) }
      }
      return
    }
    let each = step.lookEach(saturating(4, algebra.count, algebra.count, length))
    for query in 0..<length {
      if query % each == each - 1 && step.member.isStopped { break }
      let first = query * length
      let p = (0..<algebra.count).map { step.state(1, $0) + place + first }
      var largest = 0
      for key in 1..<max(length, 1) where p[0][key] > p[0][largest] { largest = key }
      algebra.softmax(
        (0..<algebra.count).map { step.scratch(0, $0) + first }, length, centre: largest, into: p,
        squares: (0..<algebra.count).map { step.scratch(3, $0) }, step.scratch.taylor)
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    let m = step.rows * length
    for k in step.coefficients {
      product(step, k, m, { step.gy($0) }, width, { step.transposed(1, $0) }, width, .set, step.costate(0, k))
    }
    for row in 0..<step.rows {
      for head in 0..<heads where !step.member.isStopped { pullBack(step, row, head) }
    }
    guard step.node.needsInput else { return }
    for k in step.coefficients {
      product(
        step, k, m, { step.costate(3, $0) }, 3 * width, { step.transposed(0, $0) }, width,
        step.node.addsInput ? .add : .set, step.gx(k))
    }
  }

  /// The cotangents of Q, K and V of one head of one sample.
  private func pullBack<T: KernelScalar>(_ step: LayerStep<T>, _ row: Int, _ head: Int) {
    let algebra = step.algebra
    let wide = 3 * width
    let (start, column) = (row * length * wide, head * headWidth)
    let place = (row * heads + head) * length * length
    let own = row * size + column
    for k in 0..<algebra.count {
      T.transpose(length, headWidth, step.state(0, k) + start + 2 * width + column, wide, step.scratch(1, k), length)
    }
    let factor = 1 / T(headWidth).squareRoot()
    // The cotangents of P.
    for k in step.coefficients {
      let e = step.costate(1, k) + place
      for (number, (i, j)) in algebra.products[k].enumerated() {
        let update: Update = number == 0 ? .set : .add
        step.product(
          length, length, headWidth, step.costate(0, i) + own, width, 1, step.scratch(1, j), length, update, e, length)
        step.product(
          length, headWidth, length, step.state(1, i) + place, 1, length, step.costate(0, j) + own, width, update,
          step.costate(3, k) + start + 2 * width + column, wide)
      }
    }
    // Less their projection on P: of all coefficients before it is subtracted from any.
    for k in step.coefficients {
      let sums = step.scratch(2, k)
      sums.update(repeating: 0, count: length)
      for (i, j) in algebra.products[k] {
        let (p, g) = (step.state(1, i) + place, step.costate(1, j) + place)
        // A cotangent that is kept has lost its projection: P's coefficients of order 0 see no difference but by 0.
        step.inPieces(length, of: length) { queries in
          for query in queries { sums[query] += T.dot(length, p + query * length, g + query * length) }
        }
      }
    }
    for k in step.coefficients {
      let e = step.costate(1, k) + place
      step.inPieces(length, of: length) { queries in
        for query in queries {
          let sum = step.scratch(2, k)[query]
          for key in query * length..<(query + 1) * length { e[key] -= sum }
        }
      }
    }
    for k in step.coefficients {
      let s = step.costate(2, k) + place
      step.multiply(length * length, into: s, k, { step.state(1, $0) + place }, { step.costate(1, $0) + place })
      step.scale(s, length * length, factor)
    }
    for k in step.coefficients {
      let target = step.costate(3, k) + start + column
      for (number, (i, j)) in algebra.products[k].enumerated() {
        let update: Update = number == 0 ? .set : .add
        let s = step.costate(2, i) + place
        step.product(
          length, headWidth, length, s, length, 1, step.state(0, j) + start + width + column, wide, update, target,
          wide)
        step.product(
          length, headWidth, length, s, 1, length, step.state(0, j) + start + column, wide, update, target + width,
          wide)
      }
    }
  }

  func gradient<T: KernelScalar>(
    _ step: LayerStep<T>, _ rows: Range<Int>, into weights: [UnsafeMutablePointer<T>?]
  ) {
    let first = rows.lowerBound * length
    let m = rows.count * length
    let wide = 3 * width
    for k in step.coefficients {
      guard let target = weights[k] else { continue }
      for (i, j) in step.algebra.products[k] {
        if let x = step.x(i) {
          step.product(
            width, wide, m, x + first * width, 1, width, step.costate(3, j) + first * wide, wide, .add, target, wide)
        }
        step.product(
          width, width, m, step.state(2, i) + first * width, 1, width, step.gy(j) + first * width, width, .add,
          target + outWeights, width)
      }
      guard hasBias else { continue }
      step.columnDots(m, wide, step.costate(3, k) + first * wide, nil, target + inBias)
      step.columnDots(m, width, step.gy(k) + first * width, nil, target + outBias)
    }
  }
}
