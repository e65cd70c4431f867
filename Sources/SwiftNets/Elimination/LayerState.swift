/// What the second derivatives of a net's loss are made of at one layer, for a batch of N samples.
///
/// The layer takes Z to s(Z W). With G the loss's derivative in its outputs, samples' weights and the reduction
/// included:
public struct LayerState {
  /// Z [N, m]: what comes in, with the column of ones last if there is a bias.
  public var inputs: Matrix<Double>
  /// W [m, n], the bias row last.
  public var weights: Matrix<Double>
  public var hasBias: Bool
  /// s′(Z W) [N, n].
  public var slopes: Matrix<Double>
  /// s″(Z W) ∘ G [N, n].
  public var curvatures: Matrix<Double>
  /// s′(Z W) ∘ G [N, n].
  public var deltas: Matrix<Double>

  public init(
    inputs: Matrix<Double>, weights: Matrix<Double>, hasBias: Bool, slopes: Matrix<Double>, curvatures: Matrix<Double>,
    deltas: Matrix<Double>
  ) {
    self.inputs = inputs
    self.weights = weights
    self.hasBias = hasBias
    self.slopes = slopes
    self.curvatures = curvatures
    self.deltas = deltas
  }

  /// Inputs without the column of ones.
  var fanIn: Int { weights.rows - (hasBias ? 1 : 0) }
}

/// The loss's second derivatives in the net's outputs: a matrix for each sample, weights included.
public enum OutputHessian {
  /// Its diagonal [N, outputs]; zero off it.
  case diagonal(Matrix<Double>)
  /// All of it [N, outputs · outputs].
  case blocks(Matrix<Double>)
}

/// Which unknowns stand for a layer's weights in the elimination.
public enum LayerForm: Sendable {
  /// `dual` where there are fewer samples than rows of weights.
  case automatic
  /// The weights themselves, m n of them.
  case primal
  /// Their parts in the span of the layer's inputs, min(N, m) n of them; the parts outside it are solved for on paper.
  case dual
}
