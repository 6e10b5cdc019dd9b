"""The stream's targets: what viewers and a recorder cost, how late a picture is, what rude viewers do. Ratios of one run."""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from . import machine, passing
from .report import of_spread, row, spread
from .rtsp import Viewer
from .service import FPS, HEIGHT, WIDTH, free_port

SHM = "/dev/shm"
KBPS, KEYFRAME_S = 2000, 2
# As in src/video/encode.rs.
X264 = (f"x264enc tune=zerolatency speed-preset=ultrafast threads=1 byte-stream=true key-int-max={FPS * KEYFRAME_S} bitrate={KBPS}"
        " ! video/x-h264,profile=constrained-baseline")
GSTSIDE = os.path.join(os.path.dirname(__file__), "gstside.py")
NO_GI = "python3-gi, gir1.2-gst-rtsp-server-1.0 and gir1.2-gst-plugins-base-1.0 are needed"


def python_with_gi():
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    for python in ("/usr/bin/python3", "python3"):
        if shutil.which(python) and subprocess.run([python, "-c", probe], capture_output=True).returncode == 0:
            return python
    return None


class Stream:
    """pastcam with its stream open."""

    def __init__(self, bench, video=None, rtsp=None, **sections):
        self.port = free_port()
        stream = {"enable": True, "port": self.port, "bind": ["127.0.0.1"], "max_clients": 16} | (rtsp or {})
        coder = {"encoder": "x264", "bitrate_kbps": KBPS, "keyframe_s": KEYFRAME_S} | (video or {})
        self.p = bench.pastcam(rtsp=stream, video=coder, export={"keep": {"mp4": {"max_bytes": 64 << 20}}}, **sections)

    def __enter__(self):
        self.p.populated()
        return self

    def __exit__(self, *_):
        self.p.stop()

    def viewers(self):
        return self.p.status()["video"]["viewers"]

    def empty(self):
        """Waits until nobody watches and nothing is encoded."""
        while self.viewers() or self.p.status()["video"]["encoder"]:
            time.sleep(0.05)

    def cost(self, seconds):
        """CPU [ms] per captured frame, drawing left out."""
        time.sleep(1)
        a, x = self.p.frames_and_cpu()
        time.sleep(seconds)
        cpu = self.p.cpu_ns() - x
        return cpu / 1e6 / (self.p.frames_and_cpu()[0] - a)

    def watched(self, n, seconds):
        viewers = [Viewer(self.port) for _ in range(n)]
        try:
            return self.cost(seconds)
        finally:
            for v in viewers:
                v.close()
            self.empty()


def case(bench):
    """The stream: its cost, beside test-launch's, its lateness, first pictures, rude viewers."""
    bench.close()
    raw = bench.raw["video"] = {}
    rows, seconds = [], 4 if bench.quick else 10
    with Stream(bench) as s:
        time.sleep(3)
        rows += _costs(bench, s, raw, seconds)
        rows.append(_first(s, raw, "by day", 20 if bench.quick else 100))
        rows += _churns(s, raw, 80 if bench.quick else 400)
    # The light of a moonless night: the longest exposure, 2 s.
    with Stream(bench, night={"min_dark_frames": 1}, camera={"source": "pattern:lux=0.02"}) as s:
        while s.p.status()["mode"] != "NIGHT" or s.p.status()["frame"]["fps"] > 0.6:
            time.sleep(0.5)
        rows.append(_first(s, raw, "at 0.5 frames a second", 10 if bench.quick else 40))
    rows.append(_stalled(bench, raw))
    return [*rows, *passing.measure(bench)]


def _costs(bench, s, raw, seconds):
    def threads():
        return sum(v for k, v in machine.cpu_ns(s.p.pid).items() if k in ("video", "rtsp", "recorder"))

    python, rounds, late, idle = python_with_gi(), [], [], []
    with tempfile.TemporaryDirectory(prefix="pastcam-bench-raw-") as scratch:
        picture = python and _frames(s, scratch)
        for _ in range(2 if bench.quick else 6):
            x = threads()
            time.sleep(seconds)
            idle.append((threads() - x) / 1e7 / seconds)
            r = {"none": s.cost(seconds), "one": s.watched(1, seconds), "four": s.watched(4, seconds)}
            s.p.ask("record start")
            r["recorded"] = _recorded(s, seconds)
            if picture:
                r["beside it"], r["test-launch"] = _beside_test_launch(python, s, picture, seconds)
                late.append(_late(python, s, picture, seconds))
            rounds.append(r)
    raw["cpu_ms_per_frame"], raw["idle_percent"], raw["late_ms"] = rounds, idle, late
    per = ", ".join(f"{k} {spread([r[k] for r in rounds])['median']:.2f}" for k in rounds[0])
    ratio = lambda a, b: spread([r[a] / r[b] for r in rounds])  # noqa: E731
    rows = [of_spread("CPU with four viewers / with one", ratio("four", "one"), 1.05, "×", f"ms per frame: {per}; TCP"),
            of_spread("CPU with a recorder and a viewer / with a viewer", ratio("recorded", "one"), 1.10, "×", f"captures on {SHM}"),
            of_spread("CPU of the video threads with nobody there", spread(idle), 0.1, "%", "threads video, rtsp, recorder", 3)]
    if not picture:
        return rows + [row("CPU per frame / test-launch's", None, None, "", f"not measured: {NO_GI}")]
    own = spread([(r["beside it"] - r["none"]) / r["test-launch"] for r in rounds])
    rows += [of_spread("CPU per frame with a viewer / test-launch's", own, 1.05, "×", f"what a viewer adds to the ring's {per.split(',')[0][5:]} ms; the same encoder, settings and pictures, at the same time"),
             of_spread("  the same with the ring's part", ratio("beside it", "test-launch"), None, "×", "all threads but the pattern's; of test-launch all but the reader of its pictures")]
    over = spread([l["watched"]["median"] - l["alone"]["median"] for l in late])
    note = f"p50 of a viewer from the frame's instant {spread([l['watched']['median'] for l in late])['median']:.1f} ms, drawing included; of encoding and decoding alone {spread([l['alone']['median'] for l in late])['median']:.1f} ms; in turn"
    return rows + [of_spread("picture in a viewer after encoding and decoding alone", over, 2, "ms", note, 1)]


def _recorded(s, seconds):
    v = Viewer(s.port)
    try:
        return s.cost(seconds)
    finally:
        v.close()
        s.p.ask("record stop")
        s.empty()


def _frames(s, scratch):
    """A raw file of the pattern's own pictures."""
    raw = os.path.join(scratch, "raw")
    for n in range(10):
        answer = s.p.ask("save png")
        shutil.copy(answer.split(": ")[1].split(" (")[0], os.path.join(scratch, f"{n:02}.png"))
    subprocess.run(["gst-launch-1.0", "-q", "multifilesrc", f"location={scratch}/%02d.png", "start-index=0", "stop-index=9",
                    f"caps=image/png,framerate={FPS}/1", "!", "pngdec", "!", "videoconvert", "!",
                    "video/x-raw,format=I420,colorimetry=1:4:5:1", "!", "filesink", f"location={raw}"], check=True)
    return raw


def _beside_test_launch(python, s, picture, seconds):
    """CPU [ms] per frame with one viewer, of pastcam and of a plain server, in the same seconds."""
    port = free_port()
    server = subprocess.Popen([python, GSTSIDE, "serve", str(port), picture, str(WIDTH), str(HEIGHT), str(FPS), X264], stdout=subprocess.PIPE)
    try:
        server.stdout.readline()
        viewers = [Viewer(port), Viewer(s.port)]

        def cpu():
            return sum(t for name, t in machine.cpu_ns(server.pid).items() if not name.startswith("multifilesrc"))
        time.sleep(1)
        x, began = cpu(), time.monotonic()
        own = s.cost(seconds)
        theirs = (cpu() - x) / 1e6 / (FPS * (time.monotonic() - began))
        for v in viewers:
            v.close()
        s.empty()
        return own, theirs
    finally:
        server.kill()
        server.wait()


def _late(python, s, picture, seconds):
    size = [str(WIDTH), str(HEIGHT)]
    asked = {"alone": ["alone", picture, *size, str(FPS), str(seconds), X264],
             "watched": ["watch", f"rtsp://127.0.0.1:{s.port}/stream", *size, str(seconds)]}
    out = {k: spread(json.loads(subprocess.run([python, GSTSIDE, *words], stdout=subprocess.PIPE, check=True).stdout)) for k, words in asked.items()}
    s.empty()
    return out


def _first(s, raw, when, n):
    first = []
    for k in range(n):
        # At any moment between two frames. Key frames for those who join are at most ten a second, so each comes alone.
        s.empty()
        time.sleep(k * 0.037 % 0.1)
        v = Viewer(s.port)
        first.append(v.first_ms)
        v.close()
    first.sort()
    raw[f"first_picture_ms {when}"] = first
    p95 = first[round((len(first) - 1) * 0.95)]
    note = f"{n} connections, the encoder started for each, up to the first packet of the first key frame; p50 {first[n // 2]:.0f}, longest {first[-1]:.0f}"
    return row(f"first picture p95, {when}", p95, 150, "ms", note, digits=0)


def _churns(s, raw, n):
    """Viewers that vanish with a reset, with their UDP port, in the middle of a word, or by `kill -9`."""
    def held():
        s.empty()
        fds = len(os.listdir(f"/proc/{s.p.pid}/fd"))
        return {"mib": machine.resident_bytes(s.p.pid) / 2**20, "threads": len(os.listdir(f"/proc/{s.p.pid}/task")), "fds": fds}

    def churn(k):
        if k % 4 == 0:
            Viewer(s.port).vanish()
        elif k % 4 == 1:
            Viewer(s.port, udp=True).vanish()
        elif k % 4 == 2:
            with socket.create_connection(("127.0.0.1", s.port)) as half:
                half.sendall(b"DESCRIBE rtsp://127.0.0.1/stream RTSP/1.0\r\nCSeq")
                time.sleep(0.02)
        else:
            child = os.fork()
            if child == 0:
                try:
                    Viewer(s.port)
                    time.sleep(60)
                finally:
                    os._exit(0)
            time.sleep(0.3)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    for k in range(40):  # threads of the server's pool, caches
        churn(k)
    s.empty()
    time.sleep(20)  # idle threads have ended
    before = held()
    for k in range(n):
        churn(k)
    s.empty()
    end = time.time() + 60
    after = held()
    while time.time() < end and (after["threads"] > before["threads"] or after["fds"] > before["fds"]):
        time.sleep(1)
        after = held()
    raw["churns"] = {"n": n, "before": before, "after": after}
    what = f"{n} viewers: reset, vanished UDP, half a request, kill -9"
    return [row(f"memory left behind by {n} churns", after["mib"] - before["mib"], 1, "MiB", what),
            row("  threads and descriptors left behind", max(0, after["threads"] - before["threads"]) + max(0, after["fds"] - before["fds"]), 0, "",
                f"{after['threads']} and {after['fds']}, {before['threads']} and {before['fds']} before", digits=0)]


def _stalled(bench, raw):
    """One viewer over TCP reads nothing; the longest time another one waits for a picture."""
    with Stream(bench, video={"bitrate_kbps": 40_000, "keyframe_s": 0.5}, camera={"source": "pattern:noise=40"}) as s:
        lost = s.p.status()["ring"]["dropped"]
        stalled = Viewer(s.port, drain=False)
        other = Viewer(s.port)
        began = time.time()
        while s.viewers() > 1 and time.time() - began < 120:
            time.sleep(0.1)
        took = time.time() - began
        worst = max(other.worst_s, time.monotonic() - other.last)
        stayed, lost = s.viewers() > 1, s.p.status()["ring"]["dropped"] - lost
        stalled.close()
        other.close()
    raw["stalled"] = {"worst_s": worst, "thrown_out_s": took, "stayed": stayed, "frames_lost": lost}
    if stayed:
        raise RuntimeError("the viewer that does not read was not thrown out in two minutes")
    return row("longest wait of a viewer beside a stalled one", worst, 6, "s", f"over TCP, thrown out after {took:.1f} s; {lost} frames lost in the ring", digits=1)
