"""Lists kept by hand in three languages agree: names and numbers are those of swiftnets.h."""

import re
from pathlib import Path

import pytest

from swiftnets import nets
from swiftnets.curvature.kinds import Kind
from swiftnets.nets import activations, graph, losses
from swiftnets.nets.layer import Value
from swiftnets.solve.layered import FORMS

SOURCES = Path(__file__).resolve().parents[1] / "Sources"

pytestmark = pytest.mark.skipif(not SOURCES.exists(), reason="needs a source tree")


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)


def read(*folders, name):
    (path,) = SOURCES.joinpath(*folders).rglob(name)
    return without_comments(path.read_text())


def c_enum(text, first):
    """{name: number} of the C enumeration that begins with `first`; names in lower case."""
    (body,) = re.findall(rf"\benum\s*{{\s*({first}\b[^}}]*)}}", text)
    numbers, last = {}, -1
    for entry in filter(None, (part.strip() for part in body.split(","))):
        name, _, value = entry.partition("=")
        last = int(value) if value else last + 1
        numbers[re.sub(r"^(swn|swk)_", "", name.strip().lower())] = last
    return numbers


def header(first):
    return c_enum(read("CSwiftNets", name="swiftnets.h"), first)


def swift_enum(text, name):
    """{case: number}, in lower case: Swift writes leakyReLU for leaky_relu."""
    (body,) = re.findall(rf"\benum {name}: Int32[^{{]*{{(.*?)}}", text, re.DOTALL)
    cases = ",".join(re.findall(r"\bcase ([^\n]*)", body)).split(",")
    return {case.strip().lower(): number for number, case in enumerate(cases)}


def in_swift(kinds):
    return {name.replace("_", ""): number for name, number in kinds.items()}


def test_activations_have_the_numbers_of_the_header():
    kinds = header("SWN_IDENTITY")
    assert {name: activations.Activation(name)._code[0] for name in kinds} == kinds
    # Python alone has a name for the leaky ReLU of slope 0.
    assert set(activations._NAMES) == {*kinds, "relu"}
    assert activations.ReLU()._code == (kinds["leaky_relu"], 0.0)
    assert swift_enum(read("SwiftNets", name="Activation.swift"), "Kind") == in_swift(kinds)
    assert c_enum(read("CKernels", name="Activations.h"), "swk_identity") == kinds


def test_losses_have_the_numbers_of_the_header():
    kinds = header("SWN_SQUARED_ERROR")
    assert {name: losses.resolve(name, "loss")._code[0] for name in kinds} == kinds
    assert set(losses._KINDS) == set(kinds)
    assert swift_enum(read("SwiftNets", name="LossFunction.swift"), "Kind") == in_swift(kinds)
    # The kernels have those that are sums over outputs.
    elementwise = {
        name: kind for name, kind in kinds.items() if losses.resolve(name, "loss").is_elementwise
    }
    assert c_enum(read("CKernels", name="Activations.h"), "swk_squared_error") == elementwise


def test_every_kind_has_its_kernel():
    kernels = read("CKernels", name="typed_activations.h")
    for first in ("SWN_IDENTITY", "SWN_SQUARED_ERROR"):
        for name in header(first):
            assert (f"CASE({name})" in kernels) == (name != "softmax_cross_entropy"), name


def test_every_kind_has_its_constructor():
    made = {getattr(activations, name) for name in activations.__all__ if "Activation" not in name}
    assert {one().name for one in made} | {"gelu_tanh"} == set(activations._NAMES)
    made = {getattr(losses, name) for name in losses.__all__ if "Loss" not in name}
    assert {one().name for one in made} == set(losses._KINDS)


def test_messages_of_the_interface_name_the_last_number():
    interface = read("SwiftNetsABI", name="Mlp.swift")
    for first, label in [
        ("SWN_IDENTITY", r"activations\["),
        ("SWN_SQUARED_ERROR", "loss is"),
        ("SWN_HESSIAN", "kind is"),
    ]:
        (last,) = re.findall(rf'"{label}[^\n]*it must be from 0 to (\d+)"', interface)
        assert int(last) == max(header(first).values())


def test_layers_have_the_numbers_of_the_header():
    kinds = {name.removeprefix("layer_"): n for name, n in header("SWN_LAYER_DENSE").items()}
    assert list(kinds.values()) == list(range(15))
    image, sequence = Value("image", (2, 4, 4)), Value("sequence", (4, 2))
    made = {
        "dense": (nets.Dense(2, 2), sequence),
        "convolution": (nets.Conv2d(2, 2, 1), image),
        "activation": (nets.Tanh(), image),
        "average_pool": (nets.AvgPool2d(2), image),
        "max_pool": (nets.MaxPool2d(2), image),
        "global_average_pool": (nets.GlobalAvgPool2d(), image),
        "flatten": (nets.Flatten(), image),
        "layer_norm": (nets.LayerNorm(2), sequence),
        "group_norm": (nets.GroupNorm(1, 2), image),
        "frozen_batch_norm": (nets.BatchNorm([0.0], [1.0]), image),
        "embedding": (nets.Embedding(2, 2), Value("tokens", (4,))),
        "position_embedding": (nets.PositionEmbedding(4, 2), sequence),
        "attention": (nets.SelfAttention(2, 1), sequence),
        "mean": (nets.MeanOverPositions(), sequence),
    }
    codes = {name: layer.code(x).kind for name, (layer, x) in made.items()}
    assert {**codes, "add": graph._ADD} == kinds
    swift = re.sub(r",\s+", ", ", read("SwiftNets", name="NetworkGraph.swift"))
    assert swift_enum(swift, "Kind") == in_swift(kinds)


def test_matrices_have_the_numbers_of_the_header():
    kinds = header("SWN_HESSIAN")
    assert kinds == {
        name: Kind[name.upper()].code for name in ("hessian", "gauss_newton", "empirical_fisher")
    }
    # For likelihoods the exact Fisher matrix is the Gauss–Newton matrix.
    assert Kind.FISHER.code == kinds["gauss_newton"] and len(Kind) == len(kinds) + 1
    engine = swift_enum(read("SwiftNets", name="CurvatureProduct.swift"), "CurvatureKind")
    assert engine == in_swift(kinds)


def test_forms_and_scalars_have_the_numbers_of_the_header():
    forms = header(r"SWN_FORM_AUTO\w*")
    names = [name.removeprefix("form_").removesuffix("matic") for name in forms]
    assert names == list(FORMS) and list(forms.values()) == list(range(len(FORMS)))
    scalars = header("SWN_FLOAT64")
    assert swift_enum(read("SwiftNets", name="NetworkEngine.swift"), "Scalars") == scalars
    assert scalars == {"float64": 0, "float32": 1}
