"""What killed processes leave on the way to a file."""

import numpy as np

from swiftnets import MLP
from swiftnets._support.files import lock
from swiftnets.optimizers import Newton
from swiftnets.problems import Rosenbrock


def test_a_run_that_is_done_removes_what_a_killed_one_left(tmp_path):
    """It writes nothing itself, so that it is not a new file that makes the old one go."""
    path, start = tmp_path / "run.npz", np.full(2, -1.0)

    def run():
        return Newton().minimize(Rosenbrock(2), start, checkpoint=path, checkpoint_every=1)

    first = run()
    left = [tmp_path / f".run.npz.{number}.part" for number in range(2)]
    for partial in left:
        partial.write_bytes(b"half")
    with open(left[1], "rb") as other:  # of one that writes now
        assert lock(other.fileno(), left[1])
        again = run()
        assert [partial.exists() for partial in left] == [False, True]
    assert (again.w == first.w).all()


def test_a_file_that_others_may_not_read_stays_so(tmp_path):
    net = MLP((2, 1))
    for mode in (0o600, 0o640, 0o664):
        path = tmp_path / f"{mode:o}.npz"
        path.touch()
        path.chmod(mode)
        net.save(path, net.initial(seed=0))
        assert path.stat().st_size > 0 and path.stat().st_mode & 0o777 == mode
