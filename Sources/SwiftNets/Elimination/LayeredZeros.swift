import COpenBLAS

/// What proves the inertia where eigenvalues of A = H + λ are counted as 0.
///
/// With the norm N, and orthonormal rows v for what is counted as 0, the factors are those of A′ = A + N Σ v vᵀ. Their
/// certificate proves the inertia of A′, p + z and n for z rows. Without the z positive terms no fewer than p
/// eigenvalues are positive, and no fewer than n negative. X = A′⁻¹ N Vᵀ would be a basis of the kernel with V X = 1:
/// where A X is 0 to rounding, so are z eigenvalues, and the counts are exact.
extension LayeredElimination where Element == Double {
  /// - Returns: whether the counts of the last factorisation are proved.
  func provesZeros(
    _ measure: LayeredMeasure, _ product: LayeredProduct, _ interruption: Interruption
  ) throws(EngineError) -> Bool {
    guard try certify(measure.zeroPivot, product, interruption).isAccepted else { return false }
    let (count, tries) = (shape.parameters, 3)
    let (b, x) = (try Matrix<Double>(rows: tries, columns: count), try Matrix<Double>(rows: tries, columns: count))
    let (rest, image) = (try Matrix<Double>(rows: tries, columns: count), try Matrix<Double>(rows: 1, columns: count))
    var noise = Noise()
    for row in 0..<tries {
      for index in 0..<count { image.base[index] = noise.next() }
      b.row(row).update(repeating: 0, count: count)
      x.row(row).update(repeating: 0, count: count)
      try addZeros(of: image.base, to: b.row(row))
    }
    rest.base.update(from: b.base, count: tries * count)
    // Refined, so that the residual is that of A and not of its factors.
    var error = 0.0
    for _ in 0..<3 {
      try solveScaled((rest, nil), into: (rest, nil), interruption: interruption)
      error = 0
      for row in 0..<tries {
        let (vector, left) = (x.row(row), rest.row(row))
        Double.axpy(count, 1, left, vector)
        try product.multiply(layers, output, vector, into: image.base, interruption)
        Double.axpy(count, shift.real, vector, image.base)
        // Frobenius' norm of A X, the largest of three tries: one eigenvalue must not hide among many zeros.
        let size = OpenBLAS.call(scipy_cblas_dnrm2(Int32(count), image.base, 1))
        error = size.isNaN ? .infinity : max(error, size)
        try addZeros(of: vector, to: image.base)
        left.update(from: b.row(row), count: count)
        Double.axpy(count, -1, image.base, left)
      }
    }
    // What the rounding of the product alone may be grows with ‖X‖.
    return error <= (1e-13 + 0x1p-50 * Double(zeros).squareRoot()) * measure.norm
  }

  /// y += N Σ v (v · x).
  func addZeros(of x: UnsafePointer<Double>, to y: UnsafeMutablePointer<Double>) throws(EngineError) {
    let pivot = zeroPivot
    var offsets = [0]
    for layer in shape.layers { offsets.append(offsets.last! + layer.parameters) }
    // f = (B x, t) of each layer, t what the layer above leaves to it.
    var unknowns: [[Double]] = layers.map { _ in [] }
    var carried: [Double] = []
    for index in layers.indices.reversed() {
      let layer = delays[index]?.layer ?? layers[index]
      let size = layer.shape
      var f = [Double](repeating: 0, count: size.order) + carried
      let source = x + offsets[index]
      for component in 0..<size.rank {
        for unit in 0..<size.width {
          var sum = layer.basis == nil ? source[component * size.width + unit] : 0
          if let basis = layer.basis {
            for row in 0..<size.rows { sum += basis[component * size.rows + row] * source[row * size.width + unit] }
          }
          f[component * size.width + unit] = sum
        }
      }
      carried = []
      if let delayed = delays[index] {
        for place in 0..<delayed.delayed { carried.append(dot(delayed.delayedRows.base + place * f.count, f)) }
      }
      unknowns[index] = f
    }
    // Their images, from the first layer up.
    for index in layers.indices {
      let layer = delays[index]?.layer ?? layers[index]
      let size = layer.shape
      var g = [Double](repeating: 0, count: unknowns[index].count)
      if let delayed = delays[index] {
        for (place, value) in carried.enumerated() {
          add(value, delayed.delayedRows.base + place * g.count, to: &g)
        }
        for place in delayed.zeros {
          let row = delayed.acceptedRows!.base + place * g.count
          add(pivot * dot(row, unknowns[index]), row, to: &g)
        }
      }
      let target = y + offsets[index]
      if index == 0 && isRestZero {
        // Weights outside the span of the inputs: all of x but Bᵀ f.
        for entry in 0..<size.parameters { target[entry] += pivot * x[entry] }
        for entry in 0..<size.order { g[entry] -= pivot * unknowns[index][entry] }
      }
      for component in 0..<size.rank {
        for unit in 0..<size.width {
          let value = g[component * size.width + unit]
          guard value != 0 else { continue }
          guard let basis = layer.basis else {
            target[component * size.width + unit] += value
            continue
          }
          for row in 0..<size.rows { target[row * size.width + unit] += basis[component * size.rows + row] * value }
        }
      }
      carried = Array(g[size.order...])
    }
  }

  private func dot(_ row: UnsafePointer<Double>, _ vector: [Double]) -> Double {
    var sum = 0.0
    for (index, entry) in vector.enumerated() { sum += row[index] * entry }
    return sum
  }

  private func add(_ factor: Double, _ row: UnsafePointer<Double>, to vector: inout [Double]) {
    for index in vector.indices { vector[index] += factor * row[index] }
  }
}
