/// What a layer does, for all orders of derivatives at once: its numbers are those of a Taylor algebra, with an array
/// for each coefficient, and every rule here is one of that algebra.
///
/// The verbs compute coefficients `step.first` and up: with `first` 1 those of a tangent, where coefficient 0 is kept
/// from an earlier pass. What a layer needs again on the way back it writes into arrays of its own: `states` forward,
/// `costates` backward.
protocol NetworkLayer: Sendable {
  var parameterCount: Int { get }
  /// Multiplications of a forward pass over one sample, about.
  var work: Int { get }
  /// Numbers a sample of each array that `forward` keeps, and of each that `backward` does.
  var stateSizes: [Int] { get }
  var costateSizes: [Int] { get }
  /// Matrices in the parameters that are wanted transposed.
  var transposes: [TransposedMatrix] { get }
  /// Numbers that a thread works in.
  var scratchSizes: [Int] { get }

  func forward<T: KernelScalar>(_ step: LayerStep<T>)
  /// The cotangents of the input, set or added as the step says.
  func backward<T: KernelScalar>(_ step: LayerStep<T>)
  /// Adds samples `rows` to the gradient, coefficients that `weights` has a place for.
  func gradient<T: KernelScalar>(
    _ step: LayerStep<T>, _ rows: Range<Int>, into weights: [UnsafeMutablePointer<T>?])
}

/// Matrices one after the other in the parameters, each of which is wanted transposed, the last one first.
struct TransposedMatrix: Sendable {
  let offset: Int
  let rows: Int
  let columns: Int
  var blocks = 1

  var count: Int { saturating(rows, columns, blocks) }
}

extension NetworkLayer {
  var parameterCount: Int { 0 }
  var stateSizes: [Int] { [] }
  var costateSizes: [Int] { [] }
  var transposes: [TransposedMatrix] { [] }
  var scratchSizes: [Int] { [] }
  func gradient<T: KernelScalar>(
    _ step: LayerStep<T>, _ rows: Range<Int>, into weights: [UnsafeMutablePointer<T>?]
  ) {}
}

/// Any of them, told apart once a verb and block of samples: every rule is compiled for its scalars.
enum Layer: Sendable {
  case dense(DenseLayer)
  case convolution(ConvolutionLayer)
  case activation(ActivationLayer)
  case averagePool(AveragePoolLayer)
  case maxPool(MaxPoolLayer)
  case flatten(FlattenLayer)
  case layerNorm(LayerNormLayer)
  case groupNorm(GroupNormLayer)
  case frozenNorm(FrozenNormLayer)
  case embedding(EmbeddingLayer)
  case position(PositionLayer)
  case attention(AttentionLayer)
  case mean(MeanLayer)
  case add(AddLayer)

  private var any: any NetworkLayer {
    switch self {
    case .dense(let layer): layer
    case .convolution(let layer): layer
    case .activation(let layer): layer
    case .averagePool(let layer): layer
    case .maxPool(let layer): layer
    case .flatten(let layer): layer
    case .layerNorm(let layer): layer
    case .groupNorm(let layer): layer
    case .frozenNorm(let layer): layer
    case .embedding(let layer): layer
    case .position(let layer): layer
    case .attention(let layer): layer
    case .mean(let layer): layer
    case .add(let layer): layer
    }
  }

  var parameterCount: Int { any.parameterCount }
  var work: Int { any.work }
  var stateSizes: [Int] { any.stateSizes }
  var costateSizes: [Int] { any.costateSizes }
  var transposes: [TransposedMatrix] { any.transposes }
  var scratchSizes: [Int] { any.scratchSizes }

  func forward<T: KernelScalar>(_ step: LayerStep<T>) {
    switch self {
    case .dense(let layer): layer.forward(step)
    case .convolution(let layer): layer.forward(step)
    case .activation(let layer): layer.forward(step)
    case .averagePool(let layer): layer.forward(step)
    case .maxPool(let layer): layer.forward(step)
    case .flatten(let layer): layer.forward(step)
    case .layerNorm(let layer): layer.forward(step)
    case .groupNorm(let layer): layer.forward(step)
    case .frozenNorm(let layer): layer.forward(step)
    case .embedding(let layer): layer.forward(step)
    case .position(let layer): layer.forward(step)
    case .attention(let layer): layer.forward(step)
    case .mean(let layer): layer.forward(step)
    case .add(let layer): layer.forward(step)
    }
  }

  func backward<T: KernelScalar>(_ step: LayerStep<T>) {
    switch self {
    case .dense(let layer): layer.backward(step)
    case .convolution(let layer): layer.backward(step)
    case .activation(let layer): layer.backward(step)
    case .averagePool(let layer): layer.backward(step)
    case .maxPool(let layer): layer.backward(step)
    case .flatten(let layer): layer.backward(step)
    case .layerNorm(let layer): layer.backward(step)
    case .groupNorm(let layer): layer.backward(step)
    case .frozenNorm(let layer): layer.backward(step)
    case .embedding(let layer): layer.backward(step)
    case .position(let layer): layer.backward(step)
    case .attention(let layer): layer.backward(step)
    case .mean(let layer): layer.backward(step)
    case .add(let layer): layer.backward(step)
    }
  }

  func gradient<T: KernelScalar>(
    _ step: LayerStep<T>, _ rows: Range<Int>, into weights: [UnsafeMutablePointer<T>?]
  ) {
    switch self {
    case .dense(let layer): layer.gradient(step, rows, into: weights)
    case .convolution(let layer): layer.gradient(step, rows, into: weights)
    case .layerNorm(let layer): layer.gradient(step, rows, into: weights)
    case .groupNorm(let layer): layer.gradient(step, rows, into: weights)
    case .frozenNorm(let layer): layer.gradient(step, rows, into: weights)
    case .embedding(let layer): layer.gradient(step, rows, into: weights)
    case .position(let layer): layer.gradient(step, rows, into: weights)
    case .attention(let layer): layer.gradient(step, rows, into: weights)
    case .activation, .averagePool, .maxPool, .flatten, .mean, .add: break
    }
  }
}
