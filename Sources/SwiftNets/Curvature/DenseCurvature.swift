/// The Hessian or Gauss–Newton matrix of a chunk of samples, entry by entry, from its structure.
///
/// With M = ∂²L/∂A′∂A, one small matrix a sample for layers l′ ≥ l, the block between their weights is
/// Σ (Z′ ⊗ I)ᵀ M (Z ⊗ I), and where l′ > l the Hessian has Σ D′ ⊗ ∂Z′/∂A ⊗ Z besides. A row of the block, for the
/// weight (i′, k′), is one product Zᵀ B of the size of layer l's weights, with row n of B equal to
/// Z′[n, i′] M[n, k′, ·] + D′[n, k′] J[n, i′, ·]: a third of a Hessian-vector product's work at most, written where it
/// belongs at once.
final class DenseCurvature<Element: KernelScalar> {
  let net: MultilayerPerceptron
  let capacity: Int
  private let kind: CurvatureKind
  /// ∂²L/∂A∂A of each layer, [sample][width, padded width]; of the last layer only the diagonal where it is one.
  private let own: [Matrix<Element>]
  /// For each sample and layer, after `prepareDiagonals`: 1 where 0 times the diagonal is 0.
  private let isFinite: Matrix<Element>
  /// For the pair of layers in hand: ∂A′/∂A, ∂Z′/∂A and ∂²L/∂A′∂A, [sample][width′ or fanIn′, padded width].
  private let images: Matrix<Element>
  private let jacobian: Matrix<Element>
  private let cross: Matrix<Element>

  /// Working memory of one thread.
  final class Scratch {
    fileprivate let product: Matrix<Element>
    fileprivate let row: Matrix<Element>

    init(_ net: MultilayerPerceptron, capacity: Int) throws(EngineError) {
      let widest = net.layers.map { max($0.rows, $0.width) }.max() ?? 1
      product = try .padded(widest, widest)
      row = try .padded(capacity, widest)
    }
  }

  init(_ net: MultilayerPerceptron, _ kind: CurvatureKind, capacity: Int) throws(EngineError) {
    self.net = net
    self.kind = kind
    self.capacity = capacity
    var own: [Matrix<Element>] = []
    for (index, layer) in net.layers.enumerated() {
      let isDiagonal = index == net.depth - 1 && net.loss.isElementwise
      own.append(
        try Matrix(rows: capacity, columns: saturating(Self.padded(layer.width), isDiagonal ? 1 : layer.width)))
    }
    self.own = own
    isFinite = try Matrix(rows: capacity, columns: net.depth)
    let largest = Self.largestPair(net)
    images = try Matrix(rows: capacity, columns: largest)
    jacobian = try Matrix(rows: capacity, columns: largest)
    cross = try Matrix(rows: capacity, columns: largest)
  }

  private static func padded(_ width: Int) -> Int { roundedUp(width, to: Element.lanes) }

  private static func largestPair(_ net: MultilayerPerceptron) -> Int {
    var largest = 0
    for upper in net.layers.indices {
      for lower in 0..<upper {
        let (above, below) = (net.layers[upper], net.layers[lower])
        largest = max(largest, saturating(max(above.width, above.fanIn), padded(below.width)))
      }
    }
    return largest
  }

  static func bytesPerSample(_ net: MultilayerPerceptron) -> Int {
    let own = net.layers.reduce(0) { saturating(sum: $0, saturating($1.width, padded($1.width))) }
    return saturating(saturating(sum: own, saturating(3, largestPair(net))), MemoryLayout<Element>.stride)
  }

  private func hasDiagonal(_ index: Int) -> Bool { index == net.depth - 1 && net.loss.isElementwise }

  /// A sample's matrix in one of the arrays.
  private func matrix(_ array: Matrix<Element>, _ sample: Int, _ rows: Int, _ columns: Int) -> Matrix<Element> {
    Matrix(borrowing: array.row(sample), rows: rows, columns: columns, stride: Self.padded(columns))
  }

  // MARK: The small matrices

  /// ∂²L/∂A∂A of every layer for `part` of the pass's rows.
  func prepare(_ pass: NetworkPass<Element>, _ part: Range<Int>, _ scratch: Scratch, _ member: ThreadTeam.Member) {
    for sample in part where !member.isStopped {
      for index in net.layers.indices.reversed() { prepare(index, pass, sample, scratch, member) }
    }
  }

  /// The same, of which only the diagonals are kept, at the front of each matrix.
  func prepareDiagonals(
    _ pass: NetworkPass<Element>, _ part: Range<Int>, _ scratch: Scratch, _ member: ThreadTeam.Member
  ) {
    for sample in part where !member.isStopped {
      for index in net.layers.indices.reversed() { prepare(index, pass, sample, scratch, member) }
      for (index, layer) in net.layers.enumerated() {
        let row = own[index].row(sample)
        let step = hasDiagonal(index) ? 1 : Self.padded(layer.width) + 1
        var zero: Element = 0
        for column in 0..<layer.width {
          row[column] = row[column * step]
          zero += 0 * row[column]
        }
        isFinite[sample, index] = zero == 0 ? 1 : 0
      }
    }
  }

  private func prepare(
    _ index: Int, _ pass: NetworkPass<Element>, _ sample: Int, _ scratch: Scratch, _ member: ThreadTeam.Member
  ) {
    let layer = net.layers[index]
    let width = layer.width
    let slopes = pass.hasSlopes(index) ? pass.slopes[index].row(sample) : nil
    let curvatures = kind == .hessian && pass.isCurved(index) ? pass.curvatures[index].row(sample) : nil
    if hasDiagonal(index) {
      let out = own[index].row(sample)
      for column in 0..<width {
        let slope = slopes?[column] ?? 1
        out[column] = slope * slope * pass.output.hessian[sample, column] + (curvatures?[column] ?? 0)
      }
      return
    }
    let out = matrix(own[index], sample, width, width)
    if index == net.depth - 1 {
      let p = pass.output.hessian.row(sample)
      let scale = pass.output.scales.base[sample]
      for row in 0..<width {
        for column in 0..<width { out[row, column] = -scale * p[row] * p[column] }
      }
      for row in 0..<width {
        // p (1 − p) with 1 − p as the sum of the others.
        var others: Element = 0
        for column in 0..<width where column != row { others += p[column] }
        out[row, row] = scale * p[row] * others
      }
    } else {
      // W M Wᵀ of the layer above.
      let upper = net.layers[index + 1]
      let transposed = pass.weights().transposed[index + 1]
      let half = Matrix(
        borrowing: scratch.product.base, rows: upper.width, columns: width, stride: Self.padded(width))
      apply(index + 1, sample, transposed, into: half, member)
      member.inPieces(0..<width, weight: saturating(2, width, upper.width)) { rows in
        multiply(pass.weights().natural[index + 1].rows(0..<width).operand, half, into: out, rows: rows)
      }
    }
    for row in 0..<width {
      for column in row..<width {
        var value = out[row, column]
        if let slopes { value *= slopes[row] * slopes[column] }
        if row == column, let curvatures { value += curvatures[row] }
        out[row, column] = value
        out[column, row] = value
      }
    }
  }

  /// out = M b with M the sample's own matrix of layer `index`.
  private func apply(
    _ index: Int, _ sample: Int, _ b: Matrix<Element>, into out: Matrix<Element>, _ member: ThreadTeam.Member
  ) {
    let width = net.layers[index].width
    if hasDiagonal(index) {
      Element.scaleRows(
        width, b.columns, own[index].row(sample), 1, b.base, b.stride, nil, 0, nil, 0, out.base, out.stride)
    } else {
      member.inPieces(0..<width, weight: saturating(2, width, b.columns)) { rows in
        multiply(matrix(own[index], sample, width, width).operand, b, into: out, rows: rows)
      }
    }
  }

  /// Makes the cross matrices of `upper` > `lower` from those of `upper` − 1, for `part`.
  func prepareCross(
    _ upper: Int, _ lower: Int, _ pass: NetworkPass<Element>, _ part: Range<Int>, _ member: ThreadTeam.Member
  ) {
    let (above, below) = (net.layers[upper], net.layers[lower])
    for sample in part where !member.isStopped {
      let image = matrix(images, sample, above.width, below.width)
      let transposed = pass.weights().transposed[upper]
      if upper == lower + 1 {
        for row in 0..<above.width {
          if pass.hasSlopes(lower) {
            Element.multiply(below.width, transposed.row(row), pass.slopes[lower].row(sample), image.row(row))
          } else {
            image.row(row).update(from: transposed.row(row), count: below.width)
          }
        }
      } else {
        let tangent = matrix(jacobian, sample, above.fanIn, below.width)
        let previous = matrix(images, sample, above.fanIn, below.width)
        if pass.hasSlopes(upper - 1) {
          Element.scaleRows(
            above.fanIn, below.width, pass.slopes[upper - 1].row(sample), 1, previous.base, previous.stride, nil, 0,
            nil,
            0, tangent.base, tangent.stride)
        } else {
          tangent.base.update(from: previous.base, count: above.fanIn * previous.stride)
        }
        member.inPieces(0..<above.width, weight: saturating(2, above.fanIn, below.width)) { rows in
          multiply(transposed.operand, tangent, into: image, rows: rows)
        }
      }
      apply(upper, sample, image, into: matrix(cross, sample, above.width, below.width), member)
    }
  }

  // MARK: Rows of blocks

  /// Weights (i′, k′) of layer `upper`, numbered k′ · rows + i′, against all of layer `lower`: set or added at `block`,
  /// the block's first entry in a matrix of rows of `stride`. Of a diagonal block, only i ≥ i′.
  func rows(
    _ upper: Int, _ lower: Int, _ range: Range<Int>, _ pass: NetworkPass<Element>, _ scratch: Scratch,
    _ update: Update, into block: UnsafeMutablePointer<Element>, stride: Int
  ) {
    let (above, below) = (net.layers[upper], net.layers[lower])
    let samples = pass.rows
    let b = Matrix(
      borrowing: scratch.row.base, rows: samples, columns: below.width, stride: Self.padded(below.width))
    let inputs = pass.inputs[lower].prefix(below.rows).rows(0..<samples)
    let matrices = upper == lower ? own[lower] : cross
    let hasJacobian = upper > lower && kind == .hessian
    for number in range {
      let (k, i) = (number / above.rows, number % above.rows)
      let row = block + (i * above.width + k) * stride
      let hasTangent = hasJacobian && i < above.fanIn
      let isDiagonal = hasTangent && upper == lower + 1
      Element.scaleRows(
        samples, below.width, pass.inputs[upper].base + i, pass.inputs[upper].stride,
        matrices.base + k * b.stride, matrices.stride,
        hasTangent && !isDiagonal ? pass.deltas[upper].base + k : nil, pass.deltas[upper].stride,
        hasTangent && !isDiagonal ? jacobian.base + i * b.stride : nil, jacobian.stride, b.base, b.stride)
      if isDiagonal {
        for sample in 0..<samples {
          let slope = pass.hasSlopes(lower) ? pass.slopes[lower][sample, i] : 1
          b[sample, i] += pass.deltas[upper][sample, k] * slope
        }
      }
      let out = Matrix(borrowing: row, rows: below.rows, columns: below.width)
      multiply(
        inputs.transposed, b, update, isExact: true, into: out, rows: upper == lower ? i..<below.rows : 0..<below.rows)
    }
  }

  /// Whether layer `index`'s own block is made of one matrix an output, from `outputRows`.
  func isBlockDiagonal(_ index: Int) -> Bool { hasDiagonal(index) }

  /// The last layer's block for outputs `range`, where outputs do not mix: Zᵀ diag(m) Z each, the rest set to 0.
  func outputRows(
    _ range: Range<Int>, _ pass: NetworkPass<Element>, _ scratch: Scratch, _ update: Update,
    into block: UnsafeMutablePointer<Element>, stride: Int, _ member: ThreadTeam.Member
  ) {
    let index = net.depth - 1
    let layer = net.layers[index]
    let samples = pass.rows
    let inputs = pass.inputs[index].prefix(layer.rows).rows(0..<samples)
    let b = Matrix(borrowing: scratch.row.base, rows: samples, columns: layer.rows, stride: Self.padded(layer.rows))
    let gram = Matrix(
      borrowing: scratch.product.base, rows: layer.rows, columns: layer.rows, stride: Self.padded(layer.rows))
    for k in range where !member.isStopped {
      Element.scaleRows(
        samples, layer.rows, own[index].base + k, own[index].stride, inputs.base, inputs.stride, nil, 0, nil, 0, b.base,
        b.stride)
      member.inPieces(0..<layer.rows, weight: saturating(2, samples, layer.rows)) { rows in
        multiply(inputs.transposed, b, into: gram, rows: rows)
      }
      for i in 0..<layer.rows where !member.isStopped {
        let row = block + (i * layer.width + k) * stride
        if update == .set { row.update(repeating: 0, count: layer.parameterCount) }
        for j in 0..<layer.rows {
          let value = i <= j ? gram[i, j] : gram[j, i]
          row[j * layer.width + k] = update == .set ? value : row[j * layer.width + k] + value
        }
      }
    }
  }

  /// Completes a diagonal block of which `rows` made i ≥ i′, for outputs `range`: swapping i and i′ changes nothing.
  func mirrorOwn(
    _ index: Int, _ range: Range<Int>, block: UnsafeMutablePointer<Element>, stride: Int, _ member: ThreadTeam.Member
  ) {
    let layer = net.layers[index]
    let tile = 16
    for k in range {
      for first in Swift.stride(from: 0, to: layer.rows, by: tile) where !member.isStopped {
        for left in Swift.stride(from: 0, through: first, by: tile) {
          for i in first..<min(first + tile, layer.rows) {
            let row = block + (i * layer.width + k) * stride
            for j in left..<min(left + tile, i) {
              let source = block + (j * layer.width + k) * stride + i * layer.width
              (row + j * layer.width).update(from: source, count: layer.width)
            }
          }
        }
      }
    }
  }

  /// The diagonals of the layers' own blocks after `prepareDiagonals`: `range` of layer `index`'s rows, set or added.
  func diagonal(
    _ index: Int, _ range: Range<Int>, _ pass: NetworkPass<Element>, _ update: Update,
    into flat: UnsafeMutablePointer<Element>
  ) {
    let layer = net.layers[index]
    pass.inBlocks(range, width: layer.width, update, into: flat + layer.offset) { row, sample, sum in
      let z = pass.inputs[index][sample, row]
      if z == 0 && isFinite[sample, index] == 1 { return }
      let m = own[index].row(sample)
      if (z * z).isNormal {
        Element.axpy(layer.width, z * z, m, sum)
      } else {  // in range where z² is not; and 0 times NaN is NaN, as in the matrix
        for column in 0..<layer.width { sum[column] += z * m[column] * z }
      }
    }
  }
}

/// b = aᵀ in tiles that stay in the cache; rows `range` of a.
func transposeTiled<T: KernelScalar>(_ a: Matrix<T>, _ range: Range<Int>, into b: Matrix<T>) {
  let tile = 64
  for first in Swift.stride(from: range.lowerBound, to: range.upperBound, by: tile) {
    let rows = min(tile, range.upperBound - first)
    for left in Swift.stride(from: 0, to: a.columns, by: tile) {
      T.transpose(
        rows, min(tile, a.columns - left), a.row(first) + left, a.stride, b.row(left) + first, b.stride)
    }
  }
}
