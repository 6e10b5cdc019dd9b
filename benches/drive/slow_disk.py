"""What clients wait while the disk of the pictures takes its time: `python3 benches/drive/slow_disk.py PROGRAM [FOLDER]`.

Cases, each alone: readdir 5 s, stat 3 s, unlink 4 s, statfs 5 s, 100,000 pictures, 40,000 pictures past their age at start. In each two
clients ask `files` without end and one saves, while `ping`, `health` and `status` are timed. Prints per case their 50th and 99th of
100 and the worst [ms], and for the saves: how long after the first byte their frame was taken [ms], and how long the answer took.

The disk is slow through tests/program/slow_disk.c and LD_PRELOAD. With FOLDER the pictures lie there, and the disk is whatever it is:
give the file that steers it in SLOW_FILE.
"""

import json, os, re, socket, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
FRAME_MS = 100


def ask(port, line, patience=120):
    with socket.create_connection(("127.0.0.1", port), patience) as s:
        s.sendall(line.encode() + b"\n")
        out = b""
        while piece := s.recv(1 << 16):
            out += piece
        return out.decode()


class Program:
    def __init__(self, program, work, captures, slow_file, keep=None, preload=None):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        config = {
            "camera": {"width": 1024, "height": 768, "framerate": 1000 / FRAME_MS, "source": "pattern"},
            "ring": {"size": 30, "lock": False},
            "export": {"base_dir": captures, "auto_save_interval_s": 0.0, "min_free_mib": 0, "keep": keep or {}},
            "network": {"trigger_port": self.port, "bind": ["127.0.0.1"]},
            "logging": {"dir": ""},
        }
        path = os.path.join(work, "config.json")
        json.dump(config, open(path, "w"))
        env = dict(os.environ, SLOW_FILE=slow_file, SLOW_DIR=captures)
        if preload:
            env["LD_PRELOAD"] = preload
        self.log = open(os.path.join(work, "log"), "w+")
        self.begun = time.monotonic()
        self.process = subprocess.Popen([program, "--config", path], env=env, stdout=self.log, stderr=self.log)
        while True:
            try:
                if ask(self.port, "night_level") != "NO_DATA\n":
                    break
            except OSError:
                time.sleep(0.02)
        self.started = time.monotonic() - self.begun

    def end(self):
        self.process.terminate()
        self.process.wait(30)


def saved(port):
    sent, begun = time.time(), time.monotonic()
    answer = ask(port, "save jpg")
    frame = re.search(r"timestamp: ([\d.]+)", answer)
    return (float(frame.group(1)) - sent) * 1e3 if frame else None, (time.monotonic() - begun) * 1e3, answer


def measure(port, rounds, lists=2):
    over = threading.Event()
    shots, listed = [], []

    def files():
        while not over.is_set():
            listed.append(ask(port, "files").startswith("{"))

    def save():
        while not over.is_set():
            shots.append(saved(port))
            time.sleep(0.3)

    threads = [threading.Thread(target=files) for _ in range(lists)] + [threading.Thread(target=save)]
    for t in threads:
        t.start()
    times = {line: [] for line in ("ping", "health", "status")}
    for _ in range(rounds):
        for line in times:
            begun = time.monotonic()
            ask(port, line)
            times[line].append((time.monotonic() - begun) * 1e3)
            time.sleep(0.02)
    over.set()
    return times, shots, listed, threads


def report(name, program, rounds):
    times, shots, listed, threads = measure(program.port, rounds)
    quantile = lambda v, q: sorted(v)[int(len(v) * q) - 1]
    words = [f"{k} {quantile(v, 0.5):.1f}/{quantile(v, 0.99):.1f}/{max(v):.1f}" for k, v in times.items()]
    return name, words, shots, listed, threads


def show(case):
    name, words, shots, listed, threads = case
    for t in threads:
        t.join()
    frames = [f for f, _, _ in shots if f is not None]
    waits = [w for _, w, _ in shots]
    frame = f"frame {min(frames):.0f} to {max(frames):.0f} ms after the first byte" if frames else "no picture"
    failed = [a for f, _, a in shots if f is None]
    print(f"{name}: {', '.join(words)} ms; {len(shots)} saves, {frame}, answered in {min(waits):.0f} to {max(waits):.0f} ms; "
          f"{len(listed)} lists{'; failed: ' + failed[0].strip() if failed else ''}", flush=True)


def fill(folder, n, age_s):
    then = time.time() - age_s
    for i in range(n):
        path = os.path.join(folder, f"20250101_000000_f{i}.jpg")
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        os.utime(path, (then, then))


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as work:
        slow, preload = os.environ.get("SLOW_FILE"), None
        captures = sys.argv[2] if len(sys.argv) > 2 else os.path.join(work, "captures")
        os.makedirs(captures, exist_ok=True)
        if slow is None:
            slow, preload = os.path.join(work, "slow"), os.path.join(work, "slow_disk.so")
            source = os.path.join(HERE, "../../tests/program/slow_disk.c")
            subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", preload, source], check=True)
        steer = lambda words: open(slow, "w").write(words)
        steer("")
        for words in ("", "readdir=5", "stat=3", "unlink=4", "statfs=5"):
            # Where deleting is slow, each save makes the one before it go.
            keep = {"jpg": {"max_bytes": 1}} if "unlink" in words else None
            p = Program(program, work, captures, slow, keep=keep, preload=preload)
            steer(words)
            case = report(words or "a disk that answers", p, 100)
            steer("")
            show(case)
            p.end()
        fill(captures, 100_000, 0)
        p = Program(program, work, captures, slow, preload=preload)
        show(report(f"100,000 pictures (first frame {p.started:.1f} s after the start)", p, 100))
        p.end()
        subprocess.run(f"find {captures} -type f -delete", shell=True, check=True)
        fill(captures, 40_000, 86_400 * 365)
        p = Program(program, work, captures, slow, keep={"jpg": {"max_age_s": 86_400}}, preload=preload)
        first = [saved(p.port) for _ in range(20)]
        left = len(os.listdir(captures))
        while left > 60 and time.monotonic() - p.begun < 400:
            time.sleep(0.5)
            left = len(os.listdir(captures))
        gone = time.monotonic() - p.begun
        then = [saved(p.port) for _ in range(20)]
        wait = lambda v: f"{min(w for _, w, _ in v):.0f} to {max(w for _, w, _ in v):.0f}"
        print(f"40,000 pictures past their age (first frame {p.started:.1f} s after the start): saves answered in {wait(first)} ms while "
              f"they go, in {wait(then)} ms when they are gone, after {gone:.0f} s")
        p.end()
        p.log.seek(0)
        print("".join(l for l in p.log if "Deleted" in l), end="")


main()
