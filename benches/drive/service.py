"""Starts, asks and stops a service in a scratch folder of its own: pastcam, or the Python service it replaces."""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from . import machine

WIDTH, HEIGHT, FPS, RING = 1024, 768, 10, 300
# Noise of both synthetic cameras [code values]: pictures of about the size a real camera's have.
NOISE = 3


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Service:
    """A running service. `captures` is where its pictures go; all it wrote is removed when it is stopped."""

    def __init__(self, captures_on, command, config, env):
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="pastcam-bench-"))
        self.captures = pathlib.Path(tempfile.mkdtemp(prefix="pastcam-bench-captures-", dir=captures_on))
        self.port = free_port()
        config["export"]["base_dir"] = str(self.captures)
        config["network"]["trigger_port"] = self.port
        (self.scratch / "config.json").write_text(json.dumps(config, indent=1))
        self.log = open(self.scratch / "output.txt", "wb")
        self.began = time.perf_counter()
        self.process = subprocess.Popen(command, cwd=self.scratch, env=os.environ | env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        self.pid = self.process.pid

    def since_start_ms(self):
        return (time.perf_counter() - self.began) * 1e3

    def ask(self, command, timeout=20):
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            s.sendall(command.encode() + b"\n")
            answer = b""
            while chunk := s.recv(65536):
                answer += chunk
        return answer.decode(errors="replace").strip()

    def until(self, command, begins, seconds=60):
        """Asks until the answer begins so; tries again at once where nothing listens yet."""
        end = time.time() + seconds
        while time.time() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"the service ended with {self.process.returncode}: {self.output()[-2000:]}")
            try:
                answer = self.ask(command)
                if answer.startswith(begins):
                    return answer
            except OSError:
                pass
            time.sleep(0.001)
        raise RuntimeError(f"no answer to {command} that begins with {begins}: {self.output()[-2000:]}")

    def output(self):
        return (self.scratch / "output.txt").read_text(errors="replace")

    def files(self, ending):
        return [p for p in sorted(self.captures.glob(f"*.{ending}")) if not p.is_symlink()]

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(6)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
        shutil.rmtree(self.captures, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Pastcam(Service):
    # The synthetic camera's own thread, which draws the picture.
    drawing = ("sensor",)

    def __init__(self, program, captures_on, **sections):
        config = {"camera": {"source": f"pattern:noise={NOISE}", "width": WIDTH, "height": HEIGHT, "framerate": FPS},
                  "ring": {"size": RING}, "export": {"stack_count": 4, "save_before_s": 5},
                  "network": {"bind": ["127.0.0.1"]}}
        for name, keys in sections.items():
            config.setdefault(name, {}).update(keys)
        super().__init__(captures_on, [program, "--config", "config.json"], config, {"TZ": "UTC"})

    def status(self):
        return json.loads(self.ask("status json"))

    def cpu_ns(self):
        return sum(machine.cpu_ns(self.pid, self.drawing).values())

    def frames_and_cpu(self):
        """(frames so far, CPU so far [ns] without drawing)."""
        return self.status()["frame"]["id"], self.cpu_ns()

    def populated(self):
        """Waits until the ring's memory is all there and the encoders' library is loaded."""
        end = time.time() + 60
        while "The ring is populated" not in self.output():
            if time.time() > end or self.process.poll() is not None:
                raise RuntimeError(f"the ring was not populated: {self.output()[-2000:]}")
            time.sleep(0.05)


class Old(Service):
    """The Python service under its stand-in for the camera."""

    def __init__(self, where, python, captures_on):
        config = json.loads((where / "pi_cam_service_py311" / "config.json").read_text())
        config["camera"] |= {"width": WIDTH, "height": HEIGHT, "framerate": FPS}
        config["ring"]["size"] = RING
        self.frame_log = pathlib.Path(tempfile.mkstemp(prefix="pastcam-bench-frames-")[1])
        env = {"PYTHONPATH": str(where / "fake"), "PYTHONDONTWRITEBYTECODE": "1", "FAKE_CAM_LOG": str(self.frame_log),
               "FAKE_CAM_NOISE": str(NOISE), "FAKE_LIFT_RSS_LIMIT": "1", "TZ": "UTC"}
        super().__init__(captures_on, [python, str(where / "pi_cam_service_py311" / "main.py")], config, env)

    def cpu_ns(self):
        return sum(machine.cpu_ns(self.pid).values())

    def frames_and_cpu(self):
        """(frames so far, CPU so far [ns] less what its camera says it took to draw)."""
        lines = [line.split() for line in self.frame_log.read_text().splitlines()]
        drawn = sum(float(f[5]) for f in lines if len(f) == 6)
        frames = sum(1 for f in lines if len(f) == 6 and f[3] == "MainThread")
        return frames, self.cpu_ns() - drawn * 1e9

    def stop(self):
        super().stop()
        self.frame_log.unlink(missing_ok=True)


class Reference:
    """Where the old service is and what runs it."""

    def __init__(self, where, python):
        self.where, self.python = where, python

    @staticmethod
    def find(folder, target):
        if not folder:
            return None
        where = pathlib.Path(folder).resolve()
        for needed in ("pi_cam_service_py311/main.py", "pi_cam_service_py311/config.json", "fake/picamera2.py"):
            if not (where / needed).is_file():
                raise SystemExit(f"--reference {folder}: {needed} is not there")
        for python in (os.environ.get("REFERENCE_PYTHON"), sys.executable):
            if python and Reference._works(python):
                return Reference(where, python)
        python = str(target / "reference-python" / "bin" / "python")
        if not Reference._works(python):
            subprocess.run([sys.executable, "-m", "venv", str(target / "reference-python")], check=True)
            subprocess.run([python, "-m", "pip", "install", "-q", "numpy", "opencv-python-headless", "psutil"], check=True)
        return Reference(where, python)

    @staticmethod
    def _works(python):
        try:
            return subprocess.run([python, "-c", "import cv2, numpy, psutil"], capture_output=True).returncode == 0
        except OSError:
            return False

    def describe(self):
        show = "import sys, numpy, cv2; print('python', sys.version.split()[0], 'numpy', numpy.__version__, 'opencv', cv2.__version__)"
        return subprocess.run([self.python, "-c", show], capture_output=True, text=True).stdout.strip()

    def start(self, captures_on):
        service = Old(self.where, self.python, captures_on)
        # A save before its first frame would end its trigger thread.
        service.until("night_level", "LEVEL")
        return service
