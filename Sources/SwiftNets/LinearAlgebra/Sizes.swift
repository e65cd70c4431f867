// How large things are: arithmetic that ends at the largest integer, which no allocation grants and which as an amount
// of work is simply much. `*` and `+` would end the process instead. tools/check_sizes.py sees to their use.

/// The product, or the largest integer where it would overflow.
func saturating(_ factors: Int...) -> Int {
  var product = 1
  for factor in factors {
    let (next, overflow) = product.multipliedReportingOverflow(by: factor)
    if overflow { return Int.max }
    product = next
  }
  return product
}

/// The sum, or the largest integer where it would overflow.
func saturating(sum terms: Int...) -> Int {
  var sum = 0
  for term in terms {
    let (next, overflow) = sum.addingReportingOverflow(term)
    if overflow { return Int.max }
    sum = next
  }
  return sum
}

/// The next multiple of `unit`, or the largest integer where there is none.
func roundedUp(_ size: Int, to unit: Int) -> Int { size > Int.max - unit ? Int.max : (size + unit - 1) / unit * unit }
