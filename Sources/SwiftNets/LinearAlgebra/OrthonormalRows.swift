/// Rows of numbers made orthonormal one after the other (Gram and Schmidt, twice).
struct OrthonormalRows<Element: FactorScalar> {
  let length: Int
  private(set) var numbers: [Element] = []
  private(set) var count = 0
  private var noise = Noise()

  init(length: Int) { self.length = length }

  /// Takes a row that is known to be of length 1 and orthogonal to the others.
  mutating func take(_ row: [Element]) {
    numbers += row
    count += 1
  }

  /// Appends what is orthogonal of a row of length 1; a row at random in place of one that depends on the others.
  mutating func append(_ row: [Element]) {
    var row = row
    var least = 0.1
    while true {
      let before = norm(row)
      for _ in 0..<2 { project(&row) }
      let after = norm(row)
      if after > least * before && after > 0 {
        let scale = Element(1 / after)
        take(row.map { $0 * scale })
        return
      }
      row = (0..<length).map { _ in Element(noise.next()) }
      // Where few dimensions are left this has little in them, and the second projection makes it orthogonal.
      least = 1e-6
    }
  }

  /// Appends rows until there are `length` of them.
  mutating func complete(interruption: Interruption) throws(EngineError) {
    while count < length {
      try interruption.check()
      append([Element](repeating: Element(0), count: length))
    }
  }

  private func project(_ row: inout [Element]) {
    let length = length
    numbers.withUnsafeBufferPointer { numbers in
      row.withUnsafeMutableBufferPointer { row in
        for place in 0..<count {
          let other = numbers.baseAddress! + place * length
          var overlap = Element(0)
          for index in 0..<length { overlap = overlap + other[index].conjugate * row[index] }
          for index in 0..<length { row[index] = row[index] - overlap * other[index] }
        }
      }
    }
  }

  private func norm(_ row: [Element]) -> Double {
    row.reduce(0) { $0 + $1.magnitude * $1.magnitude }.squareRoot()
  }
}

/// Numbers of mean 0 and variance 1, nearly normal, the same ones each time (Vigna's splitmix64).
struct Noise {
  private var state: UInt64 = 0x9e37_79b9_7f4a_7c15

  mutating func next() -> Double {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    z ^= z >> 31
    // The sum of four uniform numbers, of variance 1/3.
    let sum = (z & 0xffff) + (z >> 16 & 0xffff) + (z >> 32 & 0xffff) + (z >> 48)
    return (Double(sum) / 65536 - 2 + 0x1p-15) * 1.7320508075688772
  }
}
