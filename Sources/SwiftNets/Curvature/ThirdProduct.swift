/// What third derivatives at the point of a `NetworkPass` need besides it: second derivatives of the activations, third
/// ones times ∂L/∂Z, and the diagonal of the loss's third derivative in the outputs.
final class ThirdTerms<Element: KernelScalar>: Sendable {
  /// s″(A) and s‴(A) ∘ ∂L/∂Z, of layers that are curved.
  let seconds: [Matrix<Element>?]
  let thirds: [Matrix<Element>?]
  /// Of losses that are elementwise and not quadratic.
  let output: Matrix<Element>?

  /// Room for those of a pass that keeps its images; `fill` makes them.
  init(_ pass: NetworkPass<Element>) throws(EngineError) {
    let net = pass.net
    var arrays: [[Matrix<Element>?]] = [[], []]
    for index in 0..<net.depth {
      for list in arrays.indices {
        arrays[list].append(
          pass.isCurved(index) ? try .padded(pass.rows, NetworkPass<Element>.columns(net, index)) : nil)
      }
    }
    seconds = arrays[0]
    thirds = arrays[1]
    output = net.loss.isElementwise && !pass.output.isQuadratic ? try .padded(pass.rows, net.outputs) : nil
  }

  /// What its memory takes.
  var bytes: Int { totalBytes((seconds + thirds + [output]).compactMap { $0 }) }

  func fill(_ pass: NetworkPass<Element>, _ part: Range<Int>) {
    for (index, layer) in pass.net.layers.enumerated() {
      guard let second = seconds[index], let third = thirds[index] else { continue }
      let count = part.count * second.stride
      let target = third.row(part.lowerBound)
      layer.activation.evaluate(
        order: 3, count, pass.images[index].row(part.lowerBound), [nil, nil, second.row(part.lowerBound), target])
      Element.multiply(count, target, pass.cotangents[index].row(part.lowerBound), target)
    }
    if let output { pass.output.third(part, pass.inputs[pass.net.depth], into: output) }
  }
}

/// Third derivatives along two directions, T[u, v], of a chunk of samples: tangents along u, along v and mixed ones.
///
/// The R-pass differentiated once more: with tangents of images A, outputs Z, deltas D and G = ∂L/∂Z marked by the
/// direction, Zᵘᵛ = S ∘ Aᵘᵛ + s″ ∘ Aᵘ ∘ Aᵛ and Dᵘᵛ = S ∘ Gᵘᵛ + K ∘ Aᵘᵛ + s″ ∘ (Aᵘ ∘ Gᵛ + Aᵛ ∘ Gᵘ) + s‴ ∘ G ∘ Aᵘ ∘ Aᵛ. Along one
/// direction twice the mixed tangents are half of these, and the result is half of T[u, u].
///
/// Rows of the tangents are rows of the pass less `origin`, as in `CurvatureProduct`.
final class ThirdProduct<Element: KernelScalar> {
  private let net: MultilayerPerceptron
  let capacity: Int
  private let thread: Int
  /// Tangents along single directions; a pair is of two of these places.
  private(set) var places: [CurvatureProduct<Element>] = []
  /// The direction that each place has, and whether its tangents are there.
  private var held: [(direction: Int, isDone: Bool)?] = []
  /// Mixed tangents of the images (those of the first layer are 0), of the outputs, and of the deltas.
  private let images: [Matrix<Element>]
  private let tangents: [Matrix<Element>]
  private let deltas: [Matrix<Element>]

  init(_ net: MultilayerPerceptron, capacity: Int, thread: Int) throws(EngineError) {
    self.net = net
    self.capacity = capacity
    self.thread = thread
    var arrays: [[Matrix<Element>]] = [[], [], []]
    for index in 0..<net.depth {
      let columns = NetworkPass<Element>.columns(net, index)
      for list in arrays.indices { arrays[list].append(try .padded(capacity, columns)) }
    }
    images = arrays[0]
    tangents = arrays[1]
    deltas = arrays[2]
  }

  /// What its memory takes.
  var bytes: Int { places.reduce(totalBytes(images, tangents, deltas)) { $0 + $1.bytes } }

  /// Makes sure of so many places.
  func reserve(_ count: Int) throws(EngineError) {
    while places.count < count {
      places.append(try CurvatureProduct(net, capacity: capacity, thread: thread, keepsCotangents: true))
      held.append(nil)
    }
  }

  /// Forgets the directions, which are the last caller's.
  func forget() { for place in held.indices { held[place] = nil } }

  /// Forgets their tangents, which are of other samples.
  func forgetTangents() { for place in held.indices { held[place]?.isDone = false } }

  /// Sees to it that `direction` is in `place`, by `load` if it is not there yet; returns whether its tangents are missing,
  /// which the caller is to make.
  func isNew(_ direction: Int, in place: Int, _ load: () -> Void) -> Bool {
    if held[place]?.direction != direction {
      load()
    } else if held[place]?.isDone == true {
      return false
    }
    held[place] = (direction, true)
    return true
  }

  /// The tangents of `part` along the direction in a place.
  func run(
    _ place: Int, _ pass: NetworkPass<Element>, _ part: Range<Int>, origin: Int, _ member: ThreadTeam.Member
  ) {
    guard !part.isEmpty else { return }
    places[place].forward(pass, part, origin: origin, member)
    places[place].backward(.hessian, pass, part, origin: origin, member)
  }

  /// The mixed tangents of `part`, after those along both directions.
  func run(
    _ pair: (Int, Int), _ pass: NetworkPass<Element>, _ terms: ThirdTerms<Element>, _ part: Range<Int>, origin: Int,
    _ member: ThreadTeam.Member
  ) {
    guard !part.isEmpty else { return }
    let rows = part.lowerBound - origin..<part.upperBound - origin
    forward(pair, pass, terms, part, rows, member)
    backward(pair, pass, terms, part, rows, member)
  }

  private func forward(
    _ pair: (Int, Int), _ pass: NetworkPass<Element>, _ terms: ThirdTerms<Element>, _ part: Range<Int>,
    _ rows: Range<Int>, _ member: ThreadTeam.Member
  ) {
    let (first, second, isOne) = (places[pair.0], places[pair.1], pair.0 == pair.1)
    for (index, layer) in net.layers.enumerated() where !member.isStopped {
      let isCurved = pass.isCurved(index)
      let piece = (isCurved ? images : tangents)[index].rows(rows)
      let scale = isCurved || !pass.hasSlopes(index) ? nil : pass.slopes[index].rows(part)
      if index > 0 {
        func below(_ arrays: [Matrix<Element>]) -> Operand<Element> {
          arrays[index - 1].prefix(layer.fanIn).rows(rows).operand
        }
        let all = 0..<part.count
        multiply(
          below(first.tangents), second.direction.natural[index].rows(0..<layer.fanIn), scale: scale, into: piece,
          rows: all)
        if !isOne {
          multiply(
            below(second.tangents), first.direction.natural[index].rows(0..<layer.fanIn), scale: scale, .add,
            into: piece, rows: all)
        }
        if hasTangent(pass, index - 1) {
          multiply(
            below(tangents), pass.weights(thread).natural[index].rows(0..<layer.fanIn), scale: scale, .add,
            into: piece, rows: all)
        }
      }
      guard isCurved, let seconds = terms.seconds[index] else { continue }
      Element.mixedTangent(
        part.count * piece.stride, isOne ? 0.5 : 1, pass.slopes[index].row(part.lowerBound),
        seconds.row(part.lowerBound), first.images[index].row(rows.lowerBound),
        second.images[index].row(rows.lowerBound), piece.base, tangents[index].row(rows.lowerBound))
    }
  }

  /// Whether the mixed tangent of a layer's outputs can differ from 0: the weights of the first are multiplied by none.
  private func hasTangent(_ pass: NetworkPass<Element>, _ index: Int) -> Bool { index > 0 || pass.isCurved(0) }

  private func backward(
    _ pair: (Int, Int), _ pass: NetworkPass<Element>, _ terms: ThirdTerms<Element>, _ part: Range<Int>,
    _ rows: Range<Int>, _ member: ThreadTeam.Member
  ) {
    let (first, second, isOne) = (places[pair.0], places[pair.1], pair.0 == pair.1)
    let last = net.depth - 1
    outputCotangent(pair, pass, terms, part, rows)
    for index in net.layers.indices.reversed() where !member.isStopped {
      let piece = deltas[index].rows(rows)
      let isCurved = pass.isCurved(index)
      let slopes = pass.hasSlopes(index) ? pass.slopes[index].rows(part) : nil
      if index < last {
        let width = net.layers[index + 1].width
        let scale = isCurved ? nil : slopes
        func above(_ arrays: [Matrix<Element>]) -> Operand<Element> {
          arrays[index + 1].prefix(width).rows(rows).operand
        }
        let all = 0..<part.count
        multiply(above(deltas), pass.weights(thread).transposed[index + 1], scale: scale, into: piece, rows: all)
        multiply(
          above(first.deltas), second.direction.transposed[index + 1], scale: scale, .add, into: piece, rows: all)
        if !isOne {
          multiply(
            above(second.deltas), first.direction.transposed[index + 1], scale: scale, .add, into: piece, rows: all)
        }
      } else if !isCurved, let slopes {
        Element.multiply(part.count * piece.stride, slopes.base, piece.base, piece.base)
      }
      guard isCurved, let seconds = terms.seconds[index], let thirds = terms.thirds[index] else { continue }
      let (from, to) = (part.lowerBound, rows.lowerBound)
      Element.mixedDelta(
        part.count * piece.stride, isOne ? 0.5 : 1,
        states: [pass.slopes[index], seconds, pass.curvatures[index], thirds].map { UnsafePointer($0.row(from)) },
        images: [first.images[index], second.images[index], images[index]].map { UnsafePointer($0.row(to)) },
        cotangents: [first.cotangents[index], second.cotangents[index], deltas[index]].map {
          UnsafePointer($0.row(to))
        }, piece.base)
    }
  }

  /// The mixed tangent of ∂L/∂Z of the outputs, in the place of their deltas.
  private func outputCotangent(
    _ pair: (Int, Int), _ pass: NetworkPass<Element>, _ terms: ThirdTerms<Element>, _ part: Range<Int>,
    _ rows: Range<Int>
  ) {
    let last = net.depth - 1
    let target = deltas[last].rows(rows)
    let (u, v) = (places[pair.0].tangents[last].rows(rows), places[pair.1].tangents[last].rows(rows))
    let factor: Element = pair.0 == pair.1 ? 0.5 : 1
    if hasTangent(pass, last) {
      pass.output.multiply(part, tangents[last].rows(rows), into: target)
    } else {
      target.base.update(repeating: 0, count: part.count * target.stride)
    }
    if let output = terms.output {
      for row in 0..<part.count {
        let third = output.row(part.lowerBound + row)
        for column in 0..<net.outputs {
          target[row, column] += factor * third[column] * (u[row, column] * v[row, column])
        }
      }
    } else if !net.loss.isElementwise {
      pass.output.addThird(part, u, v, factor, into: target)
    }
  }

  /// Rows `range` of layer `index`'s part of the result, over `part`'s samples, set or added in the flat vector.
  func collect(
    _ pair: (Int, Int), _ index: Int, _ range: Range<Int>, _ pass: NetworkPass<Element>, _ part: Range<Int>,
    origin: Int, _ update: Update, into flat: UnsafeMutablePointer<Element>
  ) {
    let (first, second) = (places[pair.0], places[pair.1])
    let layer = net.layers[index]
    let rows = part.lowerBound - origin..<part.upperBound - origin
    let out = Matrix(borrowing: flat + layer.offset, rows: layer.rows, columns: layer.width)
    multiply(
      pass.inputs[index].prefix(layer.rows).rows(part).transposed, deltas[index].prefix(layer.width).rows(rows), update,
      isExact: true, into: out, rows: range)
    guard index > 0 else { return }
    let below = range.clamped(to: 0..<layer.fanIn)
    func add(_ tangents: [Matrix<Element>], _ deltas: Matrix<Element>) {
      multiply(
        tangents[index - 1].prefix(layer.fanIn).rows(rows).transposed, deltas.prefix(layer.width), .add, isExact: true,
        into: out, rows: below)
    }
    add(first.tangents, second.deltas[index].rows(rows))
    if pair.0 != pair.1 { add(second.tangents, first.deltas[index].rows(rows)) }
    if hasTangent(pass, index - 1) { add(tangents, pass.deltas[index].rows(part)) }
  }
}
