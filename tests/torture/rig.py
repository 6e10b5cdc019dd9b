"""A pastcam with a supervisor that starts it again, a client that never stops saving, and the proof of what was acknowledged."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

FPS = 10
WIDTH, HEIGHT = 640, 480
# Nothing recovers within this time [s]: the fault counts as not survived. Longer than every pause that the program documents.
PATIENCE = 90


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ask(port, line, timeout=20):
    """One line, its answer; an empty one where the connection ends without."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as s:
        s.sendall(line.encode() + b"\n")
        answer = b""
        while chunk := s.recv(65536):
            answer += chunk
    return answer.decode(errors="replace").strip()


def merged(base, over):
    for key, value in over.items():
        base[key] = merged(base.get(key, {}), value) if isinstance(value, dict) else value
    return base


class Program:
    """pastcam in a scratch folder, started again whenever it ends, as systemd does."""

    def __init__(self, binary, config=None, env=None):
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="pastcam-torture-"))
        self.captures = self.scratch / "captures"
        self.captures.mkdir()
        self.port = free_port()
        self.config = merged({
            "camera": {"source": "pattern:noise=3", "width": WIDTH, "height": HEIGHT, "framerate": FPS},
            "ring": {"size": 50},
            "export": {"base_dir": str(self.captures), "formats": ["jpg"], "stack_count": 4, "save_before_s": 1},
            "network": {"bind": ["127.0.0.1"], "trigger_port": self.port},
            "logging": {"dir": str(self.scratch / "logs")},
        }, config or {})
        self.binary, self.env = binary, env or {}
        self.process, self.codes, self.wanted = None, [], False
        self.lock = threading.Lock()

    def write(self):
        (self.scratch / "config.json").write_text(json.dumps(self.config))

    def start(self):
        self.write()
        self.log = open(self.scratch / "output.txt", "ab")
        self.wanted = True
        self._spawn()
        threading.Thread(target=self._supervise, daemon=True).start()
        return self

    def _spawn(self):
        command = [self.binary, "--config", "config.json"]
        with self.lock:
            self.process = subprocess.Popen(command, cwd=self.scratch, env=os.environ | self.env, stdin=subprocess.DEVNULL,
                                            stdout=self.log, stderr=self.log)

    def _supervise(self):
        while self.wanted:
            code = self.process.wait()
            if not self.wanted:
                return
            self.codes.append(code)
            time.sleep(0.1)
            self._spawn()

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        with self.lock:
            self.process.send_signal(number)

    def ask(self, line, timeout=20):
        return ask(self.port, line, timeout)

    def until(self, line, begins, seconds=PATIENCE):
        end = time.monotonic() + seconds
        answer = ""
        while time.monotonic() < end:
            try:
                answer = self.ask(line)
                if answer.startswith(begins):
                    return answer
            except OSError:
                pass
            time.sleep(0.02)
        raise TimeoutError(f"{line}: no answer that begins with {begins}, but {answer!r}; the program says: {self.output()[-1500:]}")

    def status(self):
        return json.loads(self.ask("status json"))

    def output(self):
        return (self.scratch / "output.txt").read_text(errors="replace")

    def stop(self):
        self.wanted = False
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(8)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()

    def remove(self):
        shutil.rmtree(self.scratch, ignore_errors=True)


class Saver(threading.Thread):
    """A client that saves without end. `saved`: begun, answered, file, instant of its frame."""

    def __init__(self, program, line="save jpg", pause=0.1):
        super().__init__(daemon=True)
        self.program, self.line, self.pause = program, line, pause
        self.saved, self.refused, self.silent, self.on = [], [], 0, True
        self.start()

    def run(self):
        while self.on:
            begun = time.monotonic()
            try:
                answer = self.program.ask(self.line)
            except OSError:
                answer = ""
            if found := re.match(r"Saved [^:]*: (\S+\.\w+) .*?timestamp: ([\d.]+)", answer):
                self.saved.append((begun, time.monotonic(), pathlib.Path(found[1]), float(found[2])))
            elif answer:
                self.refused.append(answer)
            else:
                self.silent += 1
            time.sleep(self.pause)

    def after(self, instant, wall=None, seconds=PATIENCE):
        """Seconds from `instant` to the first acknowledged picture that was asked for after it, or taken after `wall`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for begun, answered, _, taken in list(self.saved):
                if answered >= instant and (begun >= instant if wall is None else taken >= wall):
                    return answered - instant
            time.sleep(0.01)
        return None

    def stop(self):
        self.on = False
        self.join(30)


def broken(files):
    """Those of the acknowledged files that are missing, cut or cannot be decoded to their end."""
    bad = [f for f in files if not f.is_file()]
    there = [f for f in files if f.is_file()]
    pictures = [f for f in there if f.suffix == ".jpg"]
    if pictures:
        # All at once; one by one only where one of them is bad: a process each takes 0.1 s.
        whole = b"".join(f.read_bytes() for f in pictures)
        done = subprocess.run(["ffmpeg", "-v", "error", "-f", "image2pipe", "-c:v", "mjpeg", "-i", "-", "-f", "framecrc", "-"],
                              input=whole, capture_output=True)
        frames = sum(1 for line in done.stdout.splitlines() if line[:1].isdigit())
        if done.stderr or frames != len(pictures):
            bad += [f for f in pictures if not plays(f)]
    return bad + [f for f in there if f.suffix != ".jpg" and not plays(f)]


def plays(file):
    done = subprocess.run(["ffmpeg", "-v", "error", "-xerror", "-i", str(file), "-f", "null", "-"], capture_output=True)
    return done.returncode == 0 and not done.stderr


def seconds_of(film):
    out = subprocess.run(["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", str(film)],
                         capture_output=True, text=True).stdout.strip()
    return float(out or 0)
