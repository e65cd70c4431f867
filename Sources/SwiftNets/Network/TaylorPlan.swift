/// Which coefficients of a Taylor pass can differ from 0, whatever the numbers: the others are neither computed nor
/// multiplied. The inputs are constant and weights have no squares, so the first images have no higher coefficients, and
/// a piecewise linear activation (s″ = 0) makes none and has constant slopes.
struct TaylorPlan {
  /// A coefficient of a product: those of the factors that make it.
  typealias Pairs = [(Int, Int)]

  struct Layer {
    /// For coefficient k of the images: the coefficient of the inputs, and the index of the weights.
    var images: [Pairs]
    /// Of ½ δ² and δ³ / 6 of the images, for activations that have such terms.
    var powers: TaylorPowers
    /// For coefficient k of the outputs whether it is there.
    var outputs: [Bool]
    /// For coefficient k of the deltas: the coefficients of slopes and cotangents.
    var deltas: [Pairs] = []
    /// For coefficient k of the cotangents of the layer below: the coefficient of the deltas, and the weights.
    var cotangents: [Pairs] = []
    /// For coefficient k of the gradient: the coefficients of inputs and deltas.
    var gradients: [Pairs] = []
  }

  private(set) var layers: [Layer] = []
  /// Of the small part of the outputs, for elementwise losses.
  let lossPowers: TaylorPowers

  init(_ net: MultilayerPerceptron, _ algebra: TaylorAlgebra) {
    let all = Array(0..<algebra.count)
    func weightPairs(_ there: [Bool]) -> [Pairs] {
      algebra.products.map { pairs in
        pairs.compactMap { pair in
          there[pair.0] ? algebra.weightCoefficients.firstIndex(of: pair.1).map { (pair.0, $0) } : nil
        }
      }
    }
    func pairs(_ first: [Bool], _ second: [Bool]) -> [Pairs] {
      algebra.products.map { $0.filter { first[$0.0] && second[$0.1] } }
    }
    let constant = all.map { $0 == 0 }
    var inputs = constant
    for layer in net.layers {
      let images = weightPairs(inputs)
      let powers = TaylorPowers(
        algebra, images.map { !$0.isEmpty }, isLinear: layer.activation.isPiecewiseLinear)
      layers.append(Layer(images: images, powers: powers, outputs: powers.any))
      inputs = powers.any
    }
    let loss = net.loss.kind
    lossPowers = TaylorPowers(algebra, inputs, isLinear: loss == .squaredError || loss == .huber)
    var cotangents = net.loss.isElementwise ? lossPowers.any : all.map { _ in true }
    for index in net.layers.indices.reversed() {
      let slopes = net.layers[index].activation.isPiecewiseLinear ? constant : layers[index].outputs
      layers[index].deltas = pairs(slopes, cotangents)
      let deltas = layers[index].deltas.map { !$0.isEmpty }
      layers[index].gradients = pairs(index > 0 ? layers[index - 1].outputs : constant, deltas)
      layers[index].cotangents = weightPairs(deltas)
      cotangents = layers[index].cotangents.map { !$0.isEmpty }
    }
  }
}

/// The powers of a small part δ and the coefficients that they have.
struct TaylorPowers {
  /// Coefficients of δ, and the constant.
  let linear: [Bool]
  /// What coefficient k of ½ δ² and of δ³ / 6 is made of, empty where it is 0.
  let squares: [TaylorPlan.Pairs]
  let cubes: [TaylorPlan.Pairs]
  /// Coefficients of a function of δ.
  let any: [Bool]

  init(_ algebra: TaylorAlgebra, _ there: [Bool], isLinear: Bool) {
    let none = algebra.products.map { _ in TaylorPlan.Pairs() }
    let squares =
      isLinear || algebra.degree < 2
      ? none
      : algebra.products.map { $0.filter { $0.0 > 0 && $0.1 > 0 && there[$0.0] && there[$0.1] } }
    let cubes =
      isLinear || algebra.degree < 3
      ? none
      : algebra.products.map { $0.filter { $0.0 > 0 && $0.1 > 0 && there[$0.0] && !squares[$0.1].isEmpty } }
    linear = there
    self.squares = squares
    self.cubes = cubes
    any = there.indices.map { there[$0] || !squares[$0].isEmpty || !cubes[$0].isEmpty }
  }
}
