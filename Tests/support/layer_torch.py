"""The outputs of a `swiftnets.Network` by PyTorch's own layers: the conventions of the two are one.

Weights are permuted from the layouts of swiftnets, as a conversion does.
"""

import numpy as np


def outputs(torch, net, w, x):
    """(N, outputs) at flat parameters w, which may want a gradient."""
    f, start = torch.nn.functional, 0

    def take(*shape):
        nonlocal start
        count = int(np.prod(shape))
        start += count
        return w[start - count : start].reshape(shape)

    def dense(z, inputs, outputs, bias):
        weights = take(inputs, outputs).T
        return f.linear(z, weights, take(outputs) if bias else None)

    def norm(affine, count):
        return (take(count), take(count)) if affine else (None, None)

    def attention(layer, z):
        d, heads = z.shape[-1], layer.heads
        joined = take(d, 3 * d).T, take(3 * d) if layer.bias else None
        last = take(d, d).T, take(d) if layer.bias else None
        z = z.transpose(0, 1)
        y, _ = f.multi_head_attention_forward(
            z, z, z, d, heads, *joined, None, None, False, 0.0, *last
        )
        return y.transpose(0, 1)

    def pool(layer):
        return layer.kernel_size, layer.stride, layer.padding

    def convolution(layer, z):
        size = layer.kernel_size
        kernel = (size, size) if isinstance(size, int) else size
        weights = take(*kernel, z.shape[1] // layer.groups, layer.out_channels)
        bias = take(layer.out_channels) if layer.bias else None
        weights = weights.permute(3, 2, 0, 1)
        return f.conv2d(z, weights, bias, layer.stride, layer.padding, groups=layer.groups)

    def frozen(layer, z):
        mean, var = (torch.tensor(np.array(a, float)) for a in (layer.mean, layer.var))
        last = z.ndim == 3  # a sequence has its channels last
        z = z.transpose(1, 2) if last else z
        y = f.batch_norm(z, mean, var, *norm(layer.affine, len(mean)), eps=layer.eps)
        return y.transpose(1, 2) if last else y

    def step(layer, z):
        match type(layer).__name__:
            case "Dense":
                return dense(z, layer.in_features, layer.out_features, layer.bias)
            case "Conv2d":
                return convolution(layer, z)
            case "AvgPool2d":
                include = layer.count_include_pad
                return f.avg_pool2d(z, *pool(layer), count_include_pad=include)
            case "MaxPool2d":
                return f.max_pool2d(z, *pool(layer))
            case "GlobalAvgPool2d":
                return f.adaptive_avg_pool2d(z, 1).flatten(1)
            case "MeanOverPositions":
                return z.mean(1)
            case "Flatten":
                return z.flatten(1)
            case "LayerNorm":
                size = z.shape[-1]
                return f.layer_norm(z, (size,), *norm(layer.affine, size), layer.eps)
            case "GroupNorm":
                scales = norm(layer.affine, z.shape[1])
                return f.group_norm(z, layer.num_groups, *scales, layer.eps)
            case "BatchNorm" | "BatchNorm2d":
                return frozen(layer, z)
            case "Embedding":
                return f.embedding(z, take(layer.num_embeddings, layer.embedding_dim))
            case "PositionEmbedding":
                return z + take(layer.length, layer.width)
            case "SelfAttention":
                return attention(layer, z)
            case "Residual":
                return sequence(layer.body, z) + sequence(layer.shortcut, z)
            case _:
                return activation(layer, z)

    def activation(layer, z):
        name = getattr(layer, "name", layer)
        functions = {
            "identity": lambda a: a,
            "leaky_relu": lambda a: f.leaky_relu(a, getattr(layer, "parameter", 0.01)),
            "elu": lambda a: f.elu(a, getattr(layer, "parameter", 1.0)),
            "gelu_tanh": lambda a: f.gelu(a, approximate="tanh"),
            "sine": torch.sin,
            "tanh": torch.tanh,
            "sigmoid": torch.sigmoid,
        }
        return functions.get(name, getattr(f, name, None))(z)

    def sequence(layers, z):
        for layer in layers:
            z = step(layer, z)
        return z

    shape = net.input_shape
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    z = sequence(net.layers, torch.as_tensor(np.asarray(x)).reshape(len(x), *shape))
    assert start == len(w), (start, len(w))
    return z


def losses(torch, loss, z, y):
    """Of each sample."""
    f, y = torch.nn.functional, torch.as_tensor(np.asarray(y))
    match loss.name:
        case "squared_error":
            return f.mse_loss(z, y, reduction="none").sum(-1) / 2
        case "softmax_cross_entropy":
            return f.cross_entropy(z, y, reduction="none")
        case "binary_cross_entropy":
            return f.binary_cross_entropy_with_logits(z, y, reduction="none").sum(-1)
        case "huber":
            return f.huber_loss(z, y, reduction="none", delta=loss.parameter).sum(-1)
    raise AssertionError(loss)
