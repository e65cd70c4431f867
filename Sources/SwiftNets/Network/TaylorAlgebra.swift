/// Numbers a₀ + Σ aₖ εₖ whose small parts εₖ multiply by a table and vanish beyond the third degree.
///
/// Two kinds serve: truncated power series in t, εₖ = tᵏ; and multilinear parts in up to three directions, where k is
/// the set of directions as bits and a direction times itself is left out. Their coefficients in a function of the
/// weights are its Taylor coefficients along a line, and its mixed derivative in several directions.
struct TaylorAlgebra: Equatable {
  /// Coefficients of a number.
  let count: Int
  /// The largest p with ε^p ≠ 0.
  let degree: Int
  /// Coefficients of the weights that are not 0: 0 for the weights themselves, then one for each direction.
  let weightCoefficients: [Int]
  /// products[k]: all (i, j) with εᵢ εⱼ = εₖ.
  let products: [[(Int, Int)]]

  static func == (a: TaylorAlgebra, b: TaylorAlgebra) -> Bool {
    a.count == b.count && a.weightCoefficients == b.weightCoefficients
  }

  /// Series along one direction, to `order` from 0 to 3.
  static func series(order: Int) -> TaylorAlgebra {
    TaylorAlgebra(count: order + 1, degree: order, weightCoefficients: order > 0 ? [0, 1] : [0]) { i, j in
      i + j <= order ? i + j : nil
    }
  }

  /// The part linear in each of `directions` directions, from 1 to 3.
  static func multilinear(directions: Int) -> TaylorAlgebra {
    TaylorAlgebra(
      count: 1 << directions, degree: directions, weightCoefficients: [0] + (0..<directions).map { 1 << $0 }
    ) { i, j in i & j == 0 ? i | j : nil }
  }

  private init(count: Int, degree: Int, weightCoefficients: [Int], _ product: (Int, Int) -> Int?) {
    self.count = count
    self.degree = degree
    self.weightCoefficients = weightCoefficients
    var products: [[(Int, Int)]] = Array(repeating: [], count: count)
    for i in 0..<count { for j in 0..<count { if let k = product(i, j) { products[k].append((i, j)) } } }
    self.products = products
  }
}
