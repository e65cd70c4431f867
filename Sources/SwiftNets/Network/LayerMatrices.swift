/// The matrices of a flat parameter vector, or of a direction, laid out for the kernels.
final class LayerMatrices<Element: KernelScalar> {
  private let net: MultilayerPerceptron
  /// Layer l as [rows, width], rows padded and aligned: a copy, or a view of the flat vector where that is so by
  /// itself.
  private(set) var natural: [Matrix<Element>]
  /// Layer l, without its bias, transposed: [width, fanIn]. Empty for the first layer, which nothing needs transposed.
  private(set) var transposed: [Matrix<Element>]
  private let copies: [Matrix<Element>]

  init(_ net: MultilayerPerceptron) throws(EngineError) {
    self.net = net
    var natural: [Matrix<Element>] = []
    var transposed: [Matrix<Element>] = []
    for (index, layer) in net.layers.enumerated() {
      natural.append(try .padded(layer.rows, layer.width))
      transposed.append(index == 0 ? try .padded(0, 0) : try .padded(layer.width, layer.fanIn))
    }
    copies = natural
    self.natural = natural
    self.transposed = transposed
  }

  /// What its memory takes.
  var bytes: Int { totalBytes(copies, transposed) }

  /// Takes the layers' matrices from `flat`, which must stay valid while they are used unless `isCopying`. Where it
  /// `isShared` all members call this, each does its share, and they meet before any uses them.
  func load(
    _ flat: UnsafePointer<Element>, isCopying: Bool = false, _ member: ThreadTeam.Member = .alone,
    isShared: Bool = false
  ) {
    func share(_ rows: Int) -> Range<Int> { isShared ? member.share(of: rows, grain: 8) : 0..<rows }
    let isOwner = !isShared || member.index == 0
    for (index, layer) in net.layers.enumerated() {
      let source = Matrix(reading: flat + layer.offset, rows: layer.rows, columns: layer.width)
      // A view only where whole vectors lie within cache lines.
      let isAligned = UInt(bitPattern: source.base) % 32 == 0
      if layer.width % Element.lanes == 0 && isAligned && !isCopying {
        if isOwner { natural[index] = source }
      } else {
        if isOwner { natural[index] = copies[index] }
        member.inPieces(share(layer.rows), weight: saturating(copied / 8, layer.width)) { rows in
          for row in rows { copies[index].row(row).update(from: source.row(row), count: layer.width) }
        }
      }
      if index > 0 {
        let target = transposed[index]
        member.inPieces(share(layer.fanIn), weight: saturating(copied / 8, layer.width)) { rows in
          Element.transpose(
            rows.count, layer.width, source.row(rows.lowerBound), source.stride, target.base + rows.lowerBound,
            target.stride)
        }
      }
    }
  }
}
