"""The faults, one function each. `t` gives the programs and keeps the score; see `Score`."""
import contextlib
import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import tempfile
import time

from . import cameras, disks
from .rig import PATIENCE, Program, Saver, broken, free_port, seconds_of

FAULTS = []


def fault(what, tries):
    def take(run):
        FAULTS.append((run.__name__, what, tries, run))
        return run
    return take


class Score:
    """What one fault cost."""

    def __init__(self, binary, tries, shims):
        self.binary, self.count, self.shims = binary, tries, shims
        self.acknowledged, self.lost, self.recovery, self.failed, self.notes = 0, [], [], [], []

    @property
    def tries(self):
        return range(self.count)

    def recovered(self, seconds):
        if seconds is None:
            self.failed.append(f"no picture within {PATIENCE} s")
        else:
            self.recovery.append(seconds)

    def must(self, holds, words):
        if not holds:
            self.failed.append(words)

    @contextlib.contextmanager
    def program(self, env=None, line="save jpg", disk=None, ends=False, **config):
        """A program that runs and a client that saves. Afterwards every acknowledged file is decoded; unless it `ends`, the program must
        still be the first one."""
        p = Program(self.binary, config, env)
        medium = disk(p.captures) if disk else None
        saver = None
        try:
            p.start()
            p.until(line, "Saved")
            saver = Saver(p, line)
            yield (p, saver, medium) if disk else (p, saver)
            self.must(ends or not p.codes, f"ended with {p.codes}")
        finally:
            if saver:
                saver.stop()
            p.stop()
            if saver:
                self.proof(p, [path for _, _, path, _ in saver.saved])
            if medium:
                medium.close()
            p.remove()

    def proof(self, p, files):
        self.acknowledged += len(files)
        bad = broken(files)
        self.lost += bad
        if bad:
            print(f"  lost: {bad[:5]}; the program said:\n{p.output()[-1500:]}")

    @contextlib.contextmanager
    def rtsp_camera(self, **config):
        """Another pastcam that plays the network camera, and its address."""
        port = free_port()
        camera = Program(self.binary, {"rtsp": {"enable": True, "port": port, "bind": ["127.0.0.1"]},
                                       "video": {"keyframe_s": 1.0}, **config}).start()
        try:
            camera.until("save jpg", "Saved")
            yield camera, f"rtsp://127.0.0.1:{port}/stream"
        finally:
            camera.stop()
            camera.remove()

    def pictures(self, count=10):
        """JPEGs for HTTP cameras."""
        p = Program(self.binary).start()
        try:
            p.until("save jpg", "Saved")
            files = [p.until("save jpg", "Saved").split(": ", 1)[1].split(" (")[0] for _ in range(count)]
            return [pathlib.Path(f).read_bytes() for f in files]
        finally:
            p.stop()
            p.remove()


# The program

@fault("`kill -9` while pictures are saved", 100)
def kill_saving(t):
    with t.program(ends=True) as (p, saver):
        for _ in t.tries:
            time.sleep(random.uniform(0.05, 0.8))
            now = time.monotonic()
            p.signal(signal.SIGKILL)
            t.recovered(saver.after(now))


@fault("`kill -9` while a recording and a clip are written", 20)
def kill_recording(t):
    with t.program(ends=True) as (p, saver):
        films, cut = [], []
        for _ in t.tries:
            p.until("record start", "OK recording")
            begun = time.monotonic()
            time.sleep(random.uniform(0.5, 3))
            films.append(p.until("clip 1", "Saved clip").split(": ", 1)[1].split(" (")[0])
            before = set(p.captures.glob("*.mp4"))
            now = time.monotonic()
            p.signal(signal.SIGKILL)
            t.recovered(saver.after(now))
            end = time.monotonic() + 30
            while not (new := set(p.captures.glob("*.mp4")) - before) and time.monotonic() < end:
                time.sleep(0.05)
            t.must(new, "a cut recording was not mended")
            cut += [now - begun - seconds_of(f) for f in new]
            films += new
        t.proof(p, [pathlib.Path(f) for f in films])
        t.notes.append(f"the cut recording ends up to {max(cut):.1f} s early")


@fault("`kill -9` with `ring.persist`", 20)
def kill_persist(t):
    with t.program(ends=True, ring={"persist": True}) as (p, saver):
        kept = 0
        for _ in t.tries:
            time.sleep(random.uniform(0.5, 1.5))
            newest = p.status()["frame"]["id"]
            now = time.monotonic()
            p.signal(signal.SIGKILL)
            t.recovered(saver.after(now))
            kept += p.status()["frame"]["id"] > newest
        t.notes.append(f"frame numbers go on in {kept} of {t.count}")


@fault("SIGTERM while pictures are saved", 20)
def terminate(t):
    with t.program(ends=True) as (p, saver):
        for _ in t.tries:
            time.sleep(random.uniform(0.05, 0.6))
            now = time.monotonic()
            p.signal(signal.SIGTERM)
            t.recovered(saver.after(now))
        t.must(set(p.codes) == {0}, f"exit codes {set(p.codes)}")


@fault("SIGSTOP for 3 s", 20)
def stopped(t):
    with t.program() as (p, saver):
        for _ in t.tries:
            p.signal(signal.SIGSTOP)
            time.sleep(3)
            now, wall = time.monotonic(), time.time()
            p.signal(signal.SIGCONT)
            t.recovered(saver.after(now, wall))


@fault("no more memory (RLIMIT_AS at what is in use)", 20)
def no_memory(t):
    with t.program(ends=True, line="save jpg png npy") as (p, saver):
        for _ in t.tries:
            used = int(pathlib.Path(f"/proc/{p.pid}/statm").read_text().split()[0]) * resource.getpagesize()
            resource.prlimit(p.pid, resource.RLIMIT_AS, (used, resource.RLIM_INFINITY))
            for _ in range(3):
                with contextlib.suppress(OSError):
                    p.ask("pastStack png count=16", 10)
            now = time.monotonic()
            with contextlib.suppress(OSError):
                resource.prlimit(p.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            t.recovered(saver.after(now))
        t.notes.append(f"ended {len(p.codes)} times, codes {sorted(set(p.codes))}")


@fault("more memory than `limits.max_rss_mib`", 10)
def too_much_memory(t):
    with t.program(ends=True) as (p, saver):
        rss = p.status()["rss_beyond_ring_bytes"] >> 20
        for _ in t.tries:
            p.config["limits"] = {"max_rss_mib": rss + 1}
            p.write()
            now = time.monotonic()
            ended = len(p.codes)
            p.signal(signal.SIGTERM)
            end = now + 30
            while len(p.codes) < ended + 2 and time.monotonic() < end:
                with contextlib.suppress(OSError):
                    p.ask("clip 2", 10)
            del p.config["limits"]
            p.write()
            now = time.monotonic()
            p.signal(signal.SIGTERM)
            t.recovered(saver.after(now))
        t.notes.append(f"exit codes {sorted(set(p.codes))}")


@fault("a second start beside it", 20)
def second_start(t):
    with t.program() as (p, saver):
        for _ in t.tries:
            now = time.monotonic()
            other = subprocess.run([t.binary, "--config", "config.json"], cwd=p.scratch, capture_output=True, timeout=60)
            t.must(other.returncode == 1, f"the second start ended with {other.returncode}")
            t.recovered(saver.after(now))
        t.must(not p.codes, f"the first ended with {p.codes}")


@fault("a broken configuration and SIGHUP", 20)
def broken_configuration(t):
    with t.program() as (p, saver):
        for n in t.tries:
            text = (p.scratch / "config.json").read_text()
            (p.scratch / "config.json").write_text(text[:n * 7 + 3])
            now = time.monotonic()
            p.signal(signal.SIGHUP)
            time.sleep(0.3)
            t.recovered(saver.after(now))
            (p.scratch / "config.json").write_text(text)


# Its disk

def refuses(t, kind, begin, end, after=lambda p, disk: None):
    """A disk that takes no picture from `begin` to `end`. With a floor of free space old pictures would make room for new ones."""
    with t.program(disk=kind, export={"min_free_mib": 0}) as (p, saver, disk):
        for _ in t.tries:
            begin(disk)
            refused = len(saver.refused)
            wait(lambda: len(saver.refused) > refused)
            now = time.monotonic()
            end(disk)
            t.recovered(saver.after(now))
        saver.stop()
        after(p, disk)


@fault("the disk is full", 20)
def disk_full(t):
    refuses(t, disks.Memory, disks.Memory.fill, disks.Memory.empty)


@fault("the disk is read-only", 20)
def disk_read_only(t):
    refuses(t, disks.Memory, lambda d: d.remount("ro"), lambda d: d.remount("rw"))


@fault("the disk is gone (unmounted) and comes back", 20)
def disk_gone(t):
    def nothing_beneath(p, disk):
        disk.detach()
        t.must(not os.listdir(p.captures), "files were written to the folder under the mount point")
        disk.attach()
    refuses(t, disks.Remote, disks.Remote.detach, disks.Remote.attach, nothing_beneath)


@fault("the disk hangs for 6 s (nothing is read or written)", 20)
def disk_hangs(t):
    with t.program(disk=disks.Remote, export={"min_free_mib": 1}) as (p, saver, disk):
        worst = 0
        for _ in t.tries:
            disk.hang()
            end = time.monotonic() + 6
            while time.monotonic() < end:
                begun = time.monotonic()
                p.ask("ping")
                p.ask("status")
                worst = max(worst, time.monotonic() - begun)
                time.sleep(0.05)
            now = time.monotonic()
            disk.go_on()
            t.recovered(saver.after(now))
        t.notes.append(f"meanwhile ping and status took {worst * 1e3:.0f} ms at most")


@fault("the disk takes 3 s for each flush", 10)
def disk_slow(t):
    switch = tempfile.NamedTemporaryFile("w", prefix="pastcam-torture-")
    with t.program(env={"LD_PRELOAD": t.shims["slow_disk"], "SLOW_FILE": switch.name, "SLOW_DIR": "/"}) as (p, saver):
        for _ in t.tries:
            switch.write("fsync=3 ")
            switch.flush()
            time.sleep(3.5)
            now = time.monotonic()
            switch.seek(0)
            switch.truncate()
            t.recovered(saver.after(now))


@fault("the log's disk is full", 10)
def log_full(t):
    with t.program() as (p, saver):
        logs = p.scratch / "logs"
        small = disks.Memory(logs, 1)
        try:
            for _ in t.tries:
                small.fill()
                now = time.monotonic()
                t.recovered(saver.after(now))
                small.empty()
        finally:
            small.close()


# The clock

def clock(t, steps):
    setting = tempfile.NamedTemporaryFile("w", prefix="pastcam-torture-")
    with t.program(env={"LD_PRELOAD": t.shims["clock"], "CLOCK_FILE": setting.name},
                   export={"keep": {"jpg": {"max_age_s": 3600}}}) as (p, saver):
        for n in t.tries:
            setting.seek(0)
            setting.truncate()
            setting.write(str(steps[n % len(steps)]))
            setting.flush()
            now = time.monotonic()
            time.sleep(1.5)
            t.recovered(saver.after(now))
        setting.seek(0)
        setting.truncate()


@fault("the clock steps ahead a day, a year, to 2037, and back (max_age_s = 1 h)", 20)
def clock_ahead(t):
    clock(t, [86400, 0, 31536000, 0, 320000000, 0])


@fault("the clock steps back a minute, a day, to 1971, and ahead again", 20)
def clock_back(t):
    clock(t, [-60, 0, -86400, 0, -1750000000, 0])


# Its clients

def flood(port, count, first=b""):
    held = []
    for _ in range(count):
        try:
            s = socket.create_connection(("127.0.0.1", port), timeout=5)
            if first:
                s.sendall(first)
            held.append(s)
        except OSError:
            break
    return held


@fault("2,000 silent connections to the line port", 5)
def connections(t):
    with t.program() as (p, saver):
        for _ in t.tries:
            held = flood(p.port, 2000)
            now = time.monotonic()
            t.recovered(saver.after(now))
            for s in held:
                s.close()


@fault("2,000 connections with half a request to the RTSP port", 5)
def rtsp_connections(t):
    port = free_port()
    with t.program(rtsp={"enable": True, "port": port, "bind": ["127.0.0.1"]}) as (p, saver):
        for _ in t.tries:
            held = flood(port, 2000, b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: ")
            now = time.monotonic()
            t.recovered(saver.after(now))
            for s in held:
                s.close()
            begun = time.monotonic()
            frames = viewer(port)
            t.must(frames, "no viewer was served afterwards")
            t.notes[:] = [f"a viewer sees its first picture {time.monotonic() - begun:.1f} s after the last flood"]


def viewer(port):
    done = subprocess.run(["ffmpeg", "-v", "error", "-rtsp_transport", "tcp", "-i", f"rtsp://127.0.0.1:{port}/stream", "-frames:v", "1",
                           "-f", "framecrc", "-"], capture_output=True, text=True, timeout=60)
    return sum(1 for line in done.stdout.splitlines() if line[:1].isdigit())


@fault("20,000 lines with a wrong token, from another address", 5)
def wrong_tokens(t):
    with t.program(network={"token": "river-stone-42", "bind": []}, line="save jpg token=river-stone-42") as (p, saver):
        for _ in t.tries:
            end = time.monotonic() + 5
            sent = 0
            while sent < 20000 and time.monotonic() < end:
                with contextlib.suppress(OSError), socket.socket() as s:
                    s.settimeout(0.2)
                    s.bind(("127.0.0.77", 0))
                    s.connect(("127.0.0.1", p.port))
                    s.sendall(b"save token=x\n" * 8)
                    sent += 8
            now = time.monotonic()
            t.recovered(saver.after(now))
        lines = len(p.output().splitlines())
        t.notes.append(f"{lines} lines in the log in all")


@fault("no more descriptors", 10)
def descriptors(t):
    with t.program() as (p, saver):
        for _ in t.tries:
            used = len(os.listdir(f"/proc/{p.pid}/fd"))
            old = resource.prlimit(p.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(p.pid, resource.RLIMIT_NOFILE, (used, old[1]))
            held = flood(p.port, 50)
            time.sleep(1)
            for s in held:
                s.close()
            now = time.monotonic()
            resource.prlimit(p.pid, resource.RLIMIT_NOFILE, old)
            t.recovered(saver.after(now))


# Its camera, over a network

@fault("RTSP camera: killed, away for 3 s, back", 20)
def camera_killed(t):
    with t.rtsp_camera() as (camera, url), t.program(camera={"source": url}) as (p, saver):
        for _ in t.tries:
            camera.wanted = False
            camera.process.kill()
            camera.process.wait()
            time.sleep(3)
            camera.start()
            camera.until("ping", "PONG")
            t.recovered(saver.after(time.monotonic(), time.time()))


@fault("RTSP camera: silent for 15 s, then goes on", 5)
def camera_silent(t):
    with t.rtsp_camera() as (camera, url), t.program(camera={"source": url}) as (p, saver):
        for _ in t.tries:
            camera.process.send_signal(signal.SIGSTOP)
            time.sleep(15)
            camera.process.send_signal(signal.SIGCONT)
            t.recovered(saver.after(time.monotonic(), time.time()))


@fault("RTSP camera: another size after each start", 10)
def camera_resized(t):
    with t.rtsp_camera() as (camera, url), t.program(camera={"source": url}) as (p, saver):
        for n in t.tries:
            camera.stop()
            camera.config["camera"] |= {"width": 320 if n % 2 == 0 else 640, "height": 240 if n % 2 == 0 else 480}
            camera.start()
            camera.until("ping", "PONG")
            t.recovered(saver.after(time.monotonic(), time.time()))


@fault("RTSP camera: another stands there, which wants a login, for 5 s", 3)
def camera_refuses(t):
    with t.rtsp_camera() as (camera, url), t.program(camera={"source": url}) as (p, saver):
        for _ in t.tries:
            camera.stop()
            camera.config["rtsp"] |= {"user": "door", "password": "river42"}
            camera.start()
            camera.until("ping", "PONG")
            time.sleep(5)
            camera.stop()
            camera.config["rtsp"] |= {"user": "", "password": ""}
            camera.start()
            camera.until("ping", "PONG")
            # A refusal is tried again after minutes; whoever has cured it says so.
            p.signal(signal.SIGHUP)
            t.recovered(saver.after(time.monotonic(), time.time(), 200))


@fault("stills: every 10th answer is 503, empty, text or cut", 40)
def bad_stills(t):
    pictures = t.pictures()

    def bad(number):
        if number % 10 or number < 20:
            return None
        whole = pictures[0]
        return [("503 Service Unavailable", b"busy"), b"", ("200 OK", b"hello"), whole[:len(whole) // 2]][number // 10 % 4]
    port = free_port()
    camera = cameras.Camera(port, cameras.stills(pictures, bad))
    with t.program(camera={"source": f"http://127.0.0.1:{port}/snap.jpg"}) as (p, saver):
        seen = camera.requests // 10
        begun, first = time.monotonic(), camera.requests
        for _ in t.tries:
            wait(lambda: camera.requests // 10 > seen, 30)
            seen = camera.requests // 10
            t.recovered(saver.after(time.monotonic(), time.time()))
        rate = (camera.requests - first) / (time.monotonic() - begun)
        t.notes.append(f"{rate:.1f} requests a second of {p.config['camera']['framerate']}, {camera.connections} connections")
    camera.close()


@fault("MJPEG: closes after 20 pictures each time", 20)
def mjpeg_closes(t):
    pictures = t.pictures()
    port = free_port()
    camera = cameras.Camera(port, cameras.mjpeg(pictures, closes_after=20))
    with t.program(camera={"source": f"http://127.0.0.1:{port}/"}) as (p, saver):
        for _ in t.tries:
            seen = camera.requests
            wait(lambda: camera.requests > seen, 60)
            t.recovered(saver.after(time.monotonic(), time.time()))
    camera.close()


@fault("MJPEG: a part of 400 MiB after 20 pictures", 5)
def mjpeg_endless(t):
    pictures = t.pictures()
    port = free_port()
    ends = []

    def serve(connection, number):
        try:
            return cameras.mjpeg(pictures, closes_after=20, then=cameras.endless)(connection, number)
        finally:
            ends.append(time.monotonic())
    camera = cameras.Camera(port, serve)
    with t.program(camera={"source": f"http://127.0.0.1:{port}/"}) as (p, saver):
        worst = 0
        for _ in t.tries:
            seen = len(ends)
            end = time.monotonic() + 60
            while len(ends) == seen and time.monotonic() < end:
                with contextlib.suppress(OSError):
                    worst = max(worst, p.status()["rss_beyond_ring_bytes"])
                time.sleep(0.1)
            t.recovered(saver.after(time.monotonic(), time.time()))
        t.notes.append(f"{worst >> 20} MiB beside the ring at most")
    camera.close()


def wait(holds, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("what the fault should do did not happen")
        time.sleep(0.01)
