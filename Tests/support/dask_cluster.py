"""A Dask cluster of real processes: a scheduler and workers, each in a network of its own.

Where root may make network namespaces, workers live in them and see each other over a bridge, as
machines do; elsewhere they are plain processes on the loopback.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys

QUIET = ("--no-dashboard",)


class Networks:
    """Namespaces on a bridge, or None in place of them."""

    def __init__(self):
        self.name, self.made = f"swd{os.getpid() % 10**6}", []
        self.host, self._bridged = "127.0.0.1", False
        self._tried = os.geteuid() == 0 and shutil.which("ip") is not None
        if self._tried:
            self._bridged = self._bridge()

    def _bridge(self):
        prefix = f"10.{201 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
        try:
            self._ip("link", "add", self.name, "type", "bridge")
            self._ip("addr", "add", f"{prefix}.1/24", "dev", self.name)
            self._ip("link", "set", self.name, "up")
            self._prefix, self.host = prefix, f"{prefix}.1"
            self.add()  # that it works shows here
        except (OSError, subprocess.CalledProcessError):
            self.close()
            self.host = "127.0.0.1"
            return False
        return True

    def add(self):
        """A new namespace: what a command in it begins with, and its address."""
        index = len(self.made) + 2
        space, outer, inner = f"{self.name}n{index}", f"{self.name}o{index}", f"{self.name}i{index}"
        self._ip("netns", "add", space)
        self.made.append(space)
        self._ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", space)
        self._ip("link", "set", outer, "master", self.name, "up")
        for words in (("addr", "add", f"{self._prefix}.{index}/24", "dev", inner),
                      ("link", "set", inner, "up"), ("link", "set", "lo", "up")):  # fmt: skip
            self._ip("-n", space, *words)
        return ["ip", "netns", "exec", space], f"{self._prefix}.{index}"

    def place(self):
        return self.add() if self._bridged else ([], self.host)

    def close(self):
        if not self._tried:
            return
        for index, space in enumerate(self.made, 2):
            # The pair goes with the namespace some time later, when the next may have its name.
            for words in (("link", "del", f"{self.name}o{index}"), ("netns", "del", space)):
                with contextlib.suppress(subprocess.CalledProcessError):
                    self._ip(*words)
        self.made = []
        with contextlib.suppress(subprocess.CalledProcessError):
            self._ip("link", "del", self.name)

    @staticmethod
    def _ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


class ProcessCluster:
    """A scheduler and workers, which have as many threads as it says."""

    def __init__(self, folder, threads=(1, 1, 2), environment=()):
        self.folder, self.environment = folder, dict(environment)
        self.processes, self.workers = [], {}
        self.networks = Networks()
        with socket.create_server((self.networks.host, 0)) as free:
            port = free.getsockname()[1]
        self.address = f"tcp://{self.networks.host}:{port}"
        self._start(
            [],
            "scheduler",
            "--host",
            self.networks.host,
            "--port",
            str(port),
            "--idle-timeout",
            "300",
        )
        for count in threads:
            self.add(count)

    def add(self, threads=1):
        """A new worker; returns its name."""
        name = f"worker-{len(self.workers)}"
        within, host = self.networks.place()
        options = ("--host", host, "--name", name, "--nthreads", str(threads), "--no-nanny")
        limits = (
            "--memory-limit",
            "0",
            "--death-timeout",
            "30",
            "--local-directory",
            str(self.folder),
        )
        self.workers[name] = self._start(within, "worker", self.address, *options, *limits)
        return name

    def _start(self, within, *words):
        environment = {**os.environ, **self.environment, "DASK_LOGGING__DISTRIBUTED": "error"}
        # `ip netns exec` becomes the program that it starts: a signal reaches that.
        process = subprocess.Popen(
            [*within, sys.executable, "-m", "dask", *words, *QUIET],
            env=environment,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.processes.append(process)
        return process

    def stop(self, name):
        """A worker that stands still, as one whose machine hangs."""
        self.workers[name].send_signal(signal.SIGSTOP)

    def kill(self, name):
        self.workers[name].send_signal(signal.SIGKILL)
        self.workers[name].wait(10)

    def close(self):
        """Ends all of it at once: there is nothing to save."""
        for process in reversed(self.processes):
            process.kill()
        for process in self.processes:
            process.wait(10)
        self.networks.close()
