"""What help, `import *` and completion show: public names alone, with nothing but NumPy there."""

import importlib
import json
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import swiftnets

ROOT = Path(swiftnets.__file__).parent
MODULES = sorted(
    ".".join(("swiftnets", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if not any(
        part.startswith("_") and part != "__init__.py" for part in path.relative_to(ROOT).parts
    )
)

PLAIN = """
import importlib.abc, json, sys

MISSING = {
    "dask", "distributed", "scipy", "torch", "jax", "onnx", "matplotlib", "sklearn", "tqdm", "zarr"
}

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import importlib, pydoc, rlcompleter
import swiftnets

def complete(text, names):
    completer = rlcompleter.Completer(names)
    found = []
    while (word := completer.complete(text, len(found))) is not None:
        found.append(word.removeprefix(text).rstrip("()"))
    return found

star = {}
exec("from swiftnets import *", star)
reported = {"star": sorted(set(star) - {"__builtins__"})}
reported["help"] = pydoc.render_doc(swiftnets, renderer=pydoc.plaintext)
reported["tab"] = complete("swiftnets.", {"swiftnets": swiftnets})
reported["modules"] = {}
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    reported["modules"][name] = {
        "dir": dir(module),
        "all": module.__all__,
        "pydoc": pydoc.render_doc(name, renderer=pydoc.plaintext),
        "tab": complete("module.", {"module": module}),
    }
errors = reported["errors"] = []
net = swiftnets.MLP((1, 1))
w = net.initial(seed=0)
for call in (
    lambda: net.at(w, [[1.0]], [[1.0]]).hessian.as_linear_operator(),
    lambda: swiftnets.interop.torch.to_torch(net, w),
    lambda: swiftnets.interop.as_torch(net, [[1.0]], [[1.0]]),
    lambda: swiftnets.Network.from_onnx("net.onnx"),
    lambda: swiftnets.dask.DaskProblem(net, [], None),
    lambda: swiftnets.sklearn.MLPClassifier(),
    lambda: swiftnets.dask.sweep(int, [{}]),
    lambda: swiftnets.optimizers.LBFGS().minimize(swiftnets.problems.Rosenbrock(2), [0.0, 0.0]),
    lambda: swiftnets.curvature.tensors.compute(
        net.at(w, [[1.0]], [[1.0]]), order=2, path="t.zarr"
    ),
    lambda: swiftnets.optimizers.SGD().minimize(
        swiftnets.problems.Rosenbrock(2), [0.0, 0.0], max_iterations=1
    ).history.plot(),
):
    try:
        call()
    except ImportError as error:
        errors.append(str(error))
print(json.dumps(reported))
"""


@pytest.fixture(scope="module")
def plain():
    """What a process with NumPy alone shows."""
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, *MODULES], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_package_shows_its_names_on_a_plain_install(plain):
    names = sorted(swiftnets.__all__)
    assert plain["star"] == names == dir(swiftnets)
    assert sorted(plain["tab"]) == [name for name in names if not name.startswith("_")]
    for name in ("MLP", "FastNet", "SlowNet", "ConvergenceError"):
        assert f"class {name}(" in plain["help"]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_shows_its_public_names_on_a_plain_install(plain, name):
    shown = plain["modules"][name]
    assert shown["dir"] == sorted(shown["all"])
    assert sorted(shown["tab"]) == sorted(set(shown["all"]) - {"__version__"})
    assert all(word in shown["pydoc"] for word in shown["all"] if word != "__version__")


def test_pydoc_shows_no_addresses(plain):
    """As of functions that are defaults: they would differ from process to process."""
    texts = {name: shown["pydoc"] for name, shown in plain["modules"].items()}
    assert not [name for name, text in texts.items() if re.search(r" at 0x[0-9a-f]{6}", text)]


def test_help_of_the_package_is_printed_without_a_word_on_standard_error():
    command = [sys.executable, "-W", "error", "-m", "pydoc", "swiftnets"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, input="")
    assert done.stdout.startswith("Help on package swiftnets") and not done.stderr


def test_what_needs_more_than_numpy_says_so_when_it_is_called(plain):
    assert plain["errors"] == [
        "operators need SciPy: pip install swiftnets[scipy]",
        "the conversion needs PyTorch: pip install torch, or see pytorch.org for your system",
        "the conversion needs PyTorch: pip install torch, or see pytorch.org for your system",
        "the conversion needs onnx: pip install swiftnets[onnx]",
        "clusters need Dask: pip install swiftnets[dask]",
        "the estimators need scikit-learn 1.6 or later: pip install swiftnets[sklearn]",
        "clusters need Dask: pip install swiftnets[dask]",
        "L-BFGS needs SciPy: pip install swiftnets[scipy]",
        "a path ending in .zarr needs zarr 3.1.3 or later: pip install swiftnets[zarr]",
        "plots need Matplotlib: pip install swiftnets[plot]",
    ]


def test_versions_that_are_too_old_are_told_as_what_is_not_there():
    code = (
        "import sys, types\n"
        "for name in ('zarr', 'sklearn', 'sklearn.utils', 'sklearn.utils.validation'):\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        "    sys.modules[name].__version__ = '1.5.2' if name == 'sklearn' else '3.1.2'\n"
        "import swiftnets\n"
        "from swiftnets.curvature import tensors\n"
        "point = swiftnets.MLP((1, 1)).at([1.0, 2.0], [[1.0]], [[1.0]])\n"
        "for call in (\n"
        "    lambda: swiftnets.sklearn.MLPRegressor(),\n"
        "    lambda: tensors.compute(point, order=2, path='t.zarr'),\n"
        "):\n"
        "    try:\n"
        "        call()\n"
        "    except ImportError as error:\n"
        "        print(error, '|', error.__cause__)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "the estimators need scikit-learn 1.6 or later: pip install swiftnets[sklearn] | "
        "scikit-learn is 1.5.2",
        "a path ending in .zarr needs zarr 3.1.3 or later: pip install swiftnets[zarr] | "
        "zarr is 3.1.2",
    ]


def test_completion_and_help_leave_out_what_only_the_package_uses():
    net = swiftnets.MLP((1, 1))
    point = net.at(net.initial(seed=0), [[1.0]], [[1.0]])
    factors = swiftnets.linalg.DenseFactorization([[1.0]])
    hidden = {
        net: "at_samples engine loss_on loss_and_gradient_on",
        point: "call call_on_pass counted elsewhere in_float64 passed solver whole with_all",
        point.hessian: "bare product products",
        factors: "summary trusted",
    }
    for thing, names in hidden.items():
        text = pydoc.render_doc(type(thing), renderer=pydoc.plaintext)
        for name in names.split():
            assert hasattr(thing, name) and name not in dir(thing) and name not in dir(type(thing))
            assert not re.search(rf"^ \|  {name}\b", text, re.M)
        assert {"solve", "l2", "loss", "shift"} & set(dir(thing))


def test_every_public_module_of_the_package_is_loaded_on_first_use():
    modules = {name.split(".")[1] for name in MODULES if "." in name}
    assert modules < set(swiftnets.__all__)
    for name in modules:
        assert getattr(swiftnets, name) is importlib.import_module(f"swiftnets.{name}")


@pytest.mark.parametrize("jedi", [True, False])
def test_ipython_completes_public_names_alone(jedi):
    completer = pytest.importorskip("IPython.core.completer")
    if jedi:
        pytest.importorskip("jedi")
    names = {"swiftnets": swiftnets}
    complete = completer.IPCompleter(namespace=names, global_namespace={}, use_jedi=jedi)
    for text, module in (
        ("swiftnets.", swiftnets),
        ("swiftnets.linalg.krylov.", swiftnets.linalg.krylov),
    ):
        with completer.provisionalcompleter():
            found = {word.text.rpartition(".")[2] for word in complete.completions(text, len(text))}
        assert {word for word in found if not word.startswith("_")} == {
            word for word in module.__all__ if not word.startswith("_")
        }


def test_the_package_alone_loads_neither_numpy_nor_the_engine():
    code = "import sys, swiftnets; dir(swiftnets); print([n for n in sys.modules if n in {!r}])"
    code = code.format({"numpy", "swiftnets._core", "torch", "scipy"})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
