"""Nets in files: what comes back, and what is refused."""

import copy
import io
import json
import pickle
import zipfile

import numpy as np
import pytest

from swiftnets import MLP, Network, nets
from swiftnets._support.checkpoints import CheckpointError
from swiftnets.nets import (
    ELU,
    GELU,
    AvgPool2d,
    BatchNorm,
    BatchNorm2d,
    Conv2d,
    Dense,
    Embedding,
    Flatten,
    GlobalAvgPool2d,
    GroupNorm,
    Huber,
    LayerNorm,
    LeakyReLU,
    MaxPool2d,
    MeanOverPositions,
    PositionEmbedding,
    Residual,
    SelfAttention,
)
from swiftnets.optimizers import SGD
from swiftnets.problems import Rosenbrock

NETS = {
    "mlp": lambda: MLP((2, 3, 1)),
    "mlp of all settings": lambda: MLP(
        (3, 4, 5, 2),
        activation=[LeakyReLU(0.1), "gelu_tanh"],
        output_activation="softplus",
        loss=Huber(1 / 3),
        bias=False,
        reduction="mean",
        l2=0.1 + 0.2,
        dtype="float32",
    ),
    "names of classes": lambda: MLP((2, 2), loss="cross_entropy", classes=("cat", "dog")),
    "names in a network": lambda: Network(
        [Dense(2, 1)], input_shape=2, loss="bce", classes=["no", "yes"]
    ),
    "one layer": lambda: MLP((2, 1), loss="bce"),
    "convolutions": lambda: Network(
        [
            Conv2d(2, 4, (3, 1), padding=(1, 0), bias=False),
            GroupNorm(2, 4),
            GELU("tanh"),
            AvgPool2d((2, 1)),
            Residual([Conv2d(4, 4, 3, padding=1), "relu"], shortcut=[Conv2d(4, 4, 1)]),
            BatchNorm2d([0.1, 0.2, 0.3, 1 / 3], [1.0, 2.0, 3.0, 0.7]),
            ELU(1 / 3),
            MaxPool2d(2),
            Residual([Residual([Conv2d(4, 4, 3, padding=1)])]),
            GlobalAvgPool2d(),
            BatchNorm([0.0] * 4, [1.0] * 4, affine=False),
            Dense(4, 3),
        ],
        input_shape=(2, 8, 6),
        loss="cross_entropy",
    ),
    "attention": lambda: Network(
        [
            Embedding(7, 4),
            PositionEmbedding(5, 4),
            Residual([LayerNorm(4), SelfAttention(4, 2, bias=False)]),
            MeanOverPositions(),
            Dense(4, 7),
        ],
        input_shape=5,
        loss="softmax_cross_entropy",
        reduction="mean",
    ),
    "flat": lambda: Network([Flatten(), Dense(4, 1)], input_shape=(1, 2, 2)),
}


def inputs(net):
    random = np.random.default_rng(0)
    if net.vocabulary:
        return random.integers(0, net.vocabulary, (3, *net.input_shape))
    return random.normal(size=(3, *net.input_shape))


@pytest.mark.parametrize("name", NETS)
def test_a_net_comes_back_as_it_was(name, tmp_path):
    net, path = NETS[name](), tmp_path / "a net"
    w = net.initial(seed=0)
    net.save(path, w)
    assert [file.name for file in tmp_path.iterdir()] == ["a net"]
    again, found = Network.load(path)
    assert type(again) is type(net) and again.settings() == net.settings()
    assert repr(again) == repr(net) and again.parameter_table == net.parameter_table
    assert found.tobytes() == w.tobytes() and found.dtype == w.dtype and found.flags.writeable
    np.testing.assert_array_equal(again.predict(found, inputs(net)), net.predict(w, inputs(net)))


def test_weights_come_back_to_the_last_bit_whatever_they_are(tmp_path):
    net = MLP((1, 2), bias=False)
    for w in ([np.nextafter(1, 2), -0.0], [np.nan, np.inf], [5e-324, 1e308]):
        net.save(tmp_path / "net.npz", w)
        assert MLP.load(tmp_path / "net.npz")[1].tobytes() == np.array(w).tobytes()


def test_names_of_a_module_come_back(tmp_path):
    torch = pytest.importorskip("torch")

    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(1, 2, 3)
            self.last = torch.nn.Linear(8, 1)

        def forward(self, x):
            return self.last(torch.tanh(self.first(x)).flatten(1))

    net, w = Network.from_torch(Own(), torch.zeros(1, 1, 4, 4))
    net.save(tmp_path / "net", w)
    again, _ = Network.load(tmp_path / "net")
    assert again.parameter_table[0].torch_name == "first.weight"
    assert again.parameter_table == net.parameter_table


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "net.npz"
    net = MLP((2, 1))
    net.save(path, np.zeros(3))
    before = path.read_bytes()

    def full(stream, **arrays):
        stream.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        net.save(path, np.ones(3))
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_file_can_be_read_by_numpy_alone(tmp_path):
    net = MLP((2, 3, 1))
    net.save(tmp_path / "net.npz", np.arange(13.0))
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["w"], np.arange(13))
        assert json.loads(file["header"].tobytes())["settings"]["net"]["sizes"] == [2, 3, 1]


# What is refused ----------------------------------------------------------------------------------


def parts(net, w):
    """The header and arrays of a file."""
    stream = io.BytesIO()
    names = [row.torch_name for row in net.parameter_table]
    header = {
        "format": "swiftnets net",
        "version": 1,
        "settings": {"net": net.settings(), "torch names": names},
        "arrays": ["w"],
    }
    del stream
    return header, {"w": w}


def written(path, header, arrays):
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with open(path, "wb") as file:
        np.savez(file, header=text, **arrays)


def a_chain():
    return MLP((2, 3, 1), loss="huber")


def a_network():
    layers = [Conv2d(1, 2, 3), "tanh", Residual([Conv2d(2, 2, 1)]), Flatten(), Dense(8, 1)]
    return Network(layers, input_shape=(1, 4, 4))


def test_the_file_made_here_is_one(tmp_path):
    for net in (a_chain(), a_network()):
        w = net.initial(seed=0)
        written(tmp_path / "net", *parts(net, w))
        assert Network.load(tmp_path / "net")[0].settings() == net.settings()


def nested(depth):
    layer = ["Flatten", {}]
    for _ in range(depth):
        layer = ["Residual", {"body": [layer], "shortcut": []}]
    return layer


HOSTILE = {
    "other sizes": (a_chain, ("net", "sizes"), [2, 4, 1]),
    "huge sizes": (a_chain, ("net", "sizes"), [2**31 - 1] * 3),
    "sizes beyond": (a_chain, ("net", "sizes"), [2, 2**63, 1]),
    "truth as size": (a_chain, ("net", "sizes"), [2, 3, True]),
    "no sizes": (a_chain, ("net", "sizes"), None),
    "sizes of text": (a_chain, ("net", "sizes"), "231"),
    "no such activation": (a_chain, ("net", "activations"), [["exec", 0.0], ["identity", 0.0]]),
    "too few activations": (a_chain, ("net", "activations"), [["identity", 0.0]]),
    "no such loss": (a_chain, ("net", "loss"), ["os.system", 0.0]),
    "a loss without delta": (a_chain, ("net", "loss"), ["huber", 0.0]),
    "no such reduction": (a_chain, ("net", "reduction"), "none"),
    "l2 below 0": (a_chain, ("net", "l2"), -1.0),
    "l2 is none": (a_chain, ("net", "l2"), float("nan")),
    "another dtype": (a_chain, ("net", "dtype"), "float32"),
    "dtype of objects": (a_chain, ("net", "dtype"), "object"),
    "more settings": (a_chain, ("net", "hooks"), ["import os"]),
    "no names": (a_chain, ("torch names",), []),
    "names of numbers": (a_chain, ("torch names",), [1, 2, 3, 4]),
    "no such layer": (a_network, ("net", "layers"), [["Popen", {"args": "ls"}]]),
    "a layer by path": (a_network, ("net", "layers"), [["subprocess.Popen", {}]]),
    "no arguments": (a_network, ("net", "layers"), [["Dense", {}]]),
    "more arguments": (
        a_network,
        ("net", "layers"),
        [["Dense", {"in_features": 16, "out_features": 1, "bias": True, "hook": 1}]],
    ),
    "no layers": (a_network, ("net", "layers"), []),
    "layers that do not fit": (
        a_network,
        ("net", "layers"),
        [["Dense", {"in_features": 5, "out_features": 1, "bias": True}]],
    ),
    "deeper than there may be": (a_network, ("net", "layers"), [nested(150)]),
    "huge shape": (a_network, ("net", "input_shape"), [2**31 - 1] * 3),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_settings_that_are_no_nets_are_refused(case, tmp_path):
    make, path, value = HOSTILE[case]
    net = make()
    header, arrays = parts(net, net.initial(seed=0))
    inner = header["settings"]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    written(tmp_path / "net.npz", header, arrays)
    with pytest.raises(CheckpointError, match=r"^path: .*net\.npz is damaged or no saved net \("):
        Network.load(tmp_path / "net.npz")


def test_json_without_an_end_is_refused(tmp_path):
    net = a_network()
    header, arrays = parts(net, net.initial(seed=0))
    text = json.dumps(header).replace('"layers": [', '"layers": [' + "[" * 100_000)
    with open(tmp_path / "net.npz", "wb") as file:
        np.savez(file, header=np.frombuffer(text.encode(), np.uint8), **arrays)
    with pytest.raises(CheckpointError, match="is damaged or no saved net"):
        Network.load(tmp_path / "net.npz")


class Bomb:
    def __reduce__(self):
        raise AssertionError("unpickled")


@pytest.mark.parametrize(
    "w",
    [
        np.zeros(12),
        np.zeros((13, 1)),
        np.zeros(13, "f4"),
        np.zeros(13, ">f8"),
        np.array(["x"] * 13),
        np.zeros(13, complex),
    ],
    ids=str,
)
def test_weights_that_do_not_fit_are_refused(w, tmp_path):
    header, _ = parts(a_chain(), None)
    written(tmp_path / "net", header, {"w": w})
    with pytest.raises(CheckpointError, match="is damaged or no saved net"):
        MLP.load(tmp_path / "net")


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "net"
    header, _ = parts(a_chain(), None)
    content = io.BytesIO()
    np.lib.format.write_array(content, np.array([print], dtype=object), allow_pickle=True)
    a_chain().save(path, np.zeros(13))
    with zipfile.ZipFile(path) as archive:
        text = archive.read("header.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", text)
        archive.writestr("w.npy", content.getvalue())
    with pytest.raises(CheckpointError, match="allow_pickle"):
        MLP.load(path)
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(CheckpointError, match="is damaged or no saved net"):
        MLP.load(path)


def test_a_small_file_does_not_unpack_to_a_large_one(tmp_path):
    path = tmp_path / "net"
    a_chain().save(path, np.zeros(13))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("more.npy", b"\0" * 10**7)
    with pytest.raises(CheckpointError, match="its members are larger than the file"):
        MLP.load(path)


def test_every_damaged_byte_is_noticed_or_does_not_count(tmp_path):
    path, net = tmp_path / "net", a_chain()
    w = net.initial(seed=0)
    net.save(path, w)
    whole = path.read_bytes()
    noticed = 0
    for index in range(0, len(whole), 7):
        bent = bytearray(whole)
        bent[index] ^= 0x5A
        path.write_bytes(bent)
        try:
            again, found = MLP.load(path)
        except CheckpointError:
            noticed += 1
            continue
        assert again.settings() == net.settings() and found.tobytes() == w.tobytes()
    assert noticed > len(whole) / 7 / 2
    for length in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="is damaged or no saved net"):
            MLP.load(path)


def test_files_of_other_kinds_and_versions_are_named(tmp_path):
    path = tmp_path / "file"
    SGD().minimize(Rosenbrock(2), [0.0, 0.0], max_iterations=1, checkpoint=path)
    with pytest.raises(CheckpointError, match="is an optimizer's checkpoint, not a saved net"):
        Network.load(path)
    header, arrays = parts(a_chain(), np.zeros(13))
    written(path, header | {"version": 2}, arrays)
    with pytest.raises(CheckpointError, match="is of version 2; this swiftnets reads 1: read it"):
        Network.load(path)
    a_chain().save(path, np.zeros(13))
    with pytest.raises(CheckpointError, match="is a saved net, not an optimizer's checkpoint"):
        SGD().minimize(Rosenbrock(2), [0.0, 0.0], checkpoint=path)
    a_network().save(path, a_network().initial(seed=0))
    with pytest.raises(CheckpointError, match="has a net of class Network, not MLP; see Network.l"):
        MLP.load(path)


def test_bad_arguments_are_named(tmp_path):
    net = a_chain()
    with pytest.raises(ValueError, match=r"^w has shape \(3,\); expected \(13,\)"):
        net.save(tmp_path / "net", np.zeros(3))
    with pytest.raises(TypeError, match="^path is 3"):
        net.save(3, np.zeros(13))
    with pytest.raises(FileNotFoundError, match="^path is .*there is no folder"):
        net.save(tmp_path / "no" / "net", np.zeros(13))
    with pytest.raises(IsADirectoryError, match="^path is the folder"):
        net.save(tmp_path, np.zeros(13))
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError, match="none"):
        MLP.load(tmp_path / "none")
    with pytest.raises(OSError, match="^path is /dev/zero, which is no regular file"):
        MLP.load("/dev/zero")
    with pytest.raises(OSError, match="which is no regular file"):
        MLP.load(tmp_path)
    with pytest.raises(TypeError, match="^path is None"):
        MLP.load(None)


# Equality -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETS)
def test_nets_of_the_same_settings_are_equal(name, tmp_path):
    net = NETS[name]()
    w = net.initial(seed=0)
    net.at(w, np.zeros((1, *net.input_shape), int if name == "attention" else float))
    net.save(tmp_path / "net.npz", w)
    loaded, _ = Network.load(tmp_path / "net.npz")
    others = [NETS[name](), loaded, pickle.loads(pickle.dumps(net)), copy.deepcopy(net)]
    for other in (*others, net.astype("float32").astype(net.dtype)):
        assert (other == net, other != net, hash(other)) == (True, False, hash(net))
    assert len({net, *others}) == 1
    renamed = copy.copy(net)
    renamed.name_for_torch([row.name * 2 for row in net.parameter_table])
    assert renamed == net


@pytest.mark.parametrize("name", NETS)
def test_what_is_shown_of_a_net_makes_it_again(name):
    names = {one: getattr(nets, one) for one in nets.__all__} | {"MLP": MLP, "Network": Network}
    for net in (NETS[name](), NETS[name]().astype("float32")):
        assert eval(repr(net), dict(names)) == net
        for part in (*net.layers, net.loss_function):
            assert eval(repr(part), dict(names)) == part


def test_nets_that_differ_in_a_setting_are_not_equal():
    layers = [Dense(2, 3), "tanh", Dense(3, 1)]
    several = [make() for make in NETS.values()]
    several += [
        Network(layers, input_shape=2),  # as the MLP, and of another class
        Network([Dense(2, 3), "tanh", Dense(3, 1, bias=False)], input_shape=2),
        Network([Dense(2, 3), LeakyReLU(0.1), Dense(3, 1)], input_shape=2),
        Network([Dense(2, 3), LeakyReLU(0.2), Dense(3, 1)], input_shape=2),
        Network([BatchNorm([0.0], [1.0]), Dense(1, 1)], input_shape=1),
        Network([BatchNorm([0.0], [2.0]), Dense(1, 1)], input_shape=1),
        Network([Flatten(), Dense(4, 1)], input_shape=(1, 1, 4)),
        MLP((2, 4, 1)),
        MLP((2, 3, 1), activation="relu"),
        MLP((2, 3, 1), output_activation="tanh"),
        MLP((2, 3, 1), bias=False),
        MLP((2, 2), loss="cross_entropy"),
        MLP((2, 2), loss="cross_entropy", classes=("dog", "cat")),
        *(
            kind(shape, **more, **settings)
            for kind, shape, more in (
                (MLP, (2, 3, 1), {}),
                (Network, layers, {"input_shape": 2}),
            )
            for settings in (
                {"loss": "huber"},
                {"loss": Huber(2.0)},
                {"loss": Huber(2.0, factor=3.0)},
                {"reduction": "mean"},
                {"l2": 0.1},
                {"dtype": "float32"},
            )
        ),
    ]
    assert len(set(several)) == len(several)
    assert [several.index(net) for net in several] == list(range(len(several)))
    assert several[0] != "MLP((2, 3, 1))" and several[0] != several[0].settings()
