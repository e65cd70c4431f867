// How large things are: arithmetic that ends at the largest integer, which no allocation grants and which as an amount
// of work is simply much. `*` and `+` would end the process instead. tools/check_sizes.py sees to their use.

/// The product, or the largest integer where it would overflow.
@inline(__always)
func saturating(_ a: Int, _ b: Int) -> Int {
  let (product, overflow) = a.multipliedReportingOverflow(by: b)
  return overflow ? Int.max : product
}

@inline(__always)
func saturating(_ a: Int, _ b: Int, _ c: Int) -> Int { saturating(saturating(a, b), c) }

@inline(__always)
func saturating(_ a: Int, _ b: Int, _ c: Int, _ d: Int) -> Int { saturating(saturating(a, b, c), d) }

/// The sum, or the largest integer where it would overflow.
@inline(__always)
func saturating(sum a: Int, _ b: Int) -> Int {
  let (sum, overflow) = a.addingReportingOverflow(b)
  return overflow ? Int.max : sum
}

@inline(__always)
func saturating(sum a: Int, _ b: Int, _ c: Int) -> Int { saturating(sum: saturating(sum: a, b), c) }

/// The next multiple of `unit`, or the largest integer where there is none.
@inline(__always)
func roundedUp(_ size: Int, to unit: Int) -> Int {
  size > Int.max - unit ? Int.max : (size + unit - 1) / unit * unit
}

/// An error that names the array where its sizes are more than can be addressed: nobody has such an array, and what is
/// computed of its sizes would overflow.
public func requireAddressable(_ name: String, _ sizes: Int...) throws(EngineError) {
  var count = 1
  for size in sizes {
    let (next, isOverflow) = count.multipliedReportingOverflow(by: size)
    guard !isOverflow, next <= 1 << 44 else {
      let text = sizes.map { "\($0)" }.joined(separator: "×")
      throw .invalidArgument("\(name) would have \(text) numbers, more than can be addressed")
    }
    count = next
  }
}
