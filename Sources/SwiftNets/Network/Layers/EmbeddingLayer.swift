/// Rows of a table [vocabulary, width] of parameters, by tokens.
struct EmbeddingLayer: NetworkLayer {
  let length: Int
  let vocabulary: Int
  let width: Int

  var parameterCount: Int { saturating(vocabulary, width) }
  var work: Int { saturating(length, width) }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    guard let tokens = step.tokens else { return }
    for k in step.coefficients {
      let y = step.y(k)
      guard let table = step.w(k) else {
        step.member.clear(y, count: step.rows * length * width)  // bounded: numbers of the value
        continue
      }
      // bounded: tokens are less than the vocabulary, as was checked
      step.inPieces(step.rows * length, of: width) { part in
        for place in part { (y + place * width).update(from: table + Int(tokens[place]) * width, count: width) }
      }
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {}

  func gradient<T: KernelScalar>(
    _ step: LayerStep<T>, _ rows: Range<Int>, into weights: [UnsafeMutablePointer<T>?]
  ) {
    guard let tokens = step.tokens else { return }
    for k in step.coefficients {
      guard let target = weights[k] else { continue }
      // bounded: as above
      let first = rows.lowerBound * length
      step.inPieces(rows.count * length, of: width) { part in
        for place in first + part.lowerBound..<first + part.upperBound {
          T.axpy(width, 1, step.gy(k) + place * width, target + Int(tokens[place]) * width)
        }
      }
    }
  }
}
