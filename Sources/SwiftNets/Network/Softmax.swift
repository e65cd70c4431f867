import Glibc

/// Softmax cross-entropy of one sample, −Σ y log softmax(z), centred at the most probable class c.
///
/// A confident net's numbers are small: its loss and derivatives are of the size of 1 − p_c. They are formed from the
/// other classes' probabilities and from differences against class c, never as differences of numbers near 1.
struct Softmax<Element: KernelScalar> {
  /// The most probable class, c; NaN counts as that.
  let top: Int
  /// R, the sum of exp(z − z_c) over the other classes: p_c = 1 / (1 + R).
  private let others: Double

  /// Sets `p` to the probabilities of `width` classes.
  init(_ z: UnsafePointer<Element>, _ width: Int, into p: UnsafeMutablePointer<Element>) {
    var top = 0
    for column in 1..<max(width, 1) where !(z[column] <= z[top]) && !z[top].isNaN { top = column }
    let largest = z[top]
    for column in 0..<width {
      let (difference, rest) = Self.subtract(z[column], largest)
      let e = Element.exponential(difference)
      p[column] = rest.isFinite ? e + e * rest : e
    }
    p[top] = largest - largest  // 0, or NaN where z is not finite
    var sum = 0.0
    for column in 0..<width { sum += Double(p[column]) }
    p[top] += 1
    let factor = Element(1 / (1 + sum))
    for column in 0..<width { p[column] *= factor }
    self.top = top
    others = sum
  }

  /// a − b in two parts: what is rounded off a large margin counts in its exponential (Knuth, TAOCP 2, 4.2.2).
  private static func subtract(_ a: Element, _ b: Element) -> (Element, Element) {
    let difference = a - b
    let part = difference - a
    return (difference, (a - (difference - part)) - (b + part))
  }

  /// The loss, and ∂loss/∂z times `scale` in `cotangent`, for any targets y that are not negative; returns Σ y as well.
  ///
  /// With Y = Σ y: the loss is Y log(1 + R) + Σ y (z_c − z), a sum of terms of one sign, and the derivative Y p − y is
  /// p Σ' y − y Σ' p, each Σ' over the other classes.
  func evaluate(
    _ z: UnsafePointer<Element>, _ p: UnsafePointer<Element>, _ width: Int, _ targets: Samples<Element>.Targets,
    _ sample: Int, scale: Element, into cotangent: UnsafeMutablePointer<Element>
  ) -> (loss: Double, total: Element) {
    let logarithm = log1p(others)
    let rest = Element(others / (1 + others))
    switch targets {
    case .labels(let labels):
      let label = Int(labels.base[sample])
      for column in 0..<width { cotangent[column] = scale * p[column] }
      cotangent[label] = -(scale * (label == top ? rest : 1 - p[label]))
      return (logarithm + (Double(z[top]) - Double(z[label])), 1)
    case .rows(let rows):
      let y = rows.row(sample)
      // Only the largest target can be most of the sum.
      var main = 0
      for column in 1..<max(width, 1) where y[column] > y[main] { main = column }
      var sum = 0.0
      for column in 0..<width where column != main { sum += Double(y[column]) }
      let total = sum + Double(y[main])
      var loss = total * logarithm
      for column in 0..<width {
        if y[column] != 0 { loss += Double(y[column]) * (Double(z[top]) - Double(z[column])) }
        let remainder = Element(column == main ? sum : total - Double(y[column]))
        cotangent[column] = scale * (p[column] * remainder - y[column] * (column == top ? rest : 1 - p[column]))
      }
      return (loss, Element(total))
    case .none: return (0, 1)
    }
  }

  /// out = scale (diag(p) − p pᵀ) u, from differences against u_c.
  static func multiply(
    _ p: UnsafePointer<Element>, _ top: Int, _ scale: Element, _ u: UnsafePointer<Element>, _ width: Int,
    into out: UnsafeMutablePointer<Element>
  ) {
    let centre = u[top]
    for column in 0..<width { out[column] = u[column] - centre }
    let mean = Element.dot(width, p, out)
    for column in 0..<width { out[column] = scale * p[column] * (out[column] - mean) }
  }
  /// out += scale ∂³/∂z³ log Σ exp z [u, v], from differences against u_c and v_c: p_i ((u_i − ū) (v_i − v̄) − cov(u, v)),
  /// with the means and the covariance under p.
  static func addThird(
    _ p: UnsafePointer<Element>, _ top: Int, _ scale: Element, _ u: UnsafePointer<Element>, _ v: UnsafePointer<Element>,
    _ width: Int, into out: UnsafeMutablePointer<Element>
  ) {
    let (firstCentre, secondCentre) = (u[top], v[top])
    var (first, second, covariance): (Element, Element, Element) = (0, 0, 0)
    for column in 0..<width {
      first += p[column] * (u[column] - firstCentre)
      second += p[column] * (v[column] - secondCentre)
    }
    for column in 0..<width {
      covariance += p[column] * ((u[column] - firstCentre - first) * (v[column] - secondCentre - second))
    }
    for column in 0..<width {
      let product = (u[column] - firstCentre - first) * (v[column] - secondCentre - second)
      out[column] += scale * p[column] * (product - covariance)
    }
  }
}
