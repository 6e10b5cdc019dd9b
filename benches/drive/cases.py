"""The cases, one function a target. Each returns rows of the table and leaves all its numbers in `bench.raw`."""
import json
import shutil
import subprocess
import time

from . import instructions, machine, past, video
from .report import of_spread, row, spread
from .service import FPS, HEIGHT, RING, WIDTH, Pastcam

SHM = "/dev/shm"
FRAME = WIDTH * HEIGHT * 3 // 2
# What the old service was measured to need, for runs without it. Another machine has other numbers: only a guide.
DOCUMENTED = {"cpu_ms_per_frame": 1.18, "pastStack jpg": {"p50": 8.4, "cpu_ms": 9.9}, "pastStack png": {"p50": 31.0, "cpu_ms": 26.8}}
NOT_HERE = "documented, not measured here"


class Bench:
    def __init__(self, programs, reference, disk, quick, films=()):
        self.programs, self.reference, self.disk, self.quick, self.films, self.raw = programs, reference, disk, quick, films, {}
        self.pair = None

    def both(self, captures_on):
        """(pastcam, the old service or None) side by side, with more than five seconds in their rings. The pair stays until
        another place for the pictures is asked for."""
        if self.pair and self.pair[0] == captures_on:
            return self.pair[1:]
        self.close()
        p = self.pastcam(captures_on)
        try:
            old = self.reference.start(captures_on) if self.reference else None
        except Exception:
            p.stop()
            raise
        self.pair = (captures_on, p, old)
        p.populated()
        time.sleep(7)  # the stack looks back 5 s; what a start sets in motion has come to rest
        return p, old

    def close(self):
        for service in filter(None, (self.pair or ())[1:]):
            service.stop()
        self.pair = None

    def pastcam(self, captures_on=SHM, **sections):
        return Pastcam(self.programs["pastcam"], captures_on, **sections)

    def client(self, *words):
        out = subprocess.run([self.programs["client"], *map(str, words)], stdout=subprocess.PIPE, text=True, check=True).stdout
        return json.loads(out)

    def frames(self, *words):
        quick = ["--quick"] if self.quick else []
        out = subprocess.run([self.programs["frames"], "--json", *quick, *words], stdout=subprocess.PIPE, text=True, check=True).stdout
        return json.loads(out)


def run(name, bench):
    return CASES[name](bench)


def ring(bench):
    """A frame into the ring: against a copy; allocations and page faults of the capture thread."""
    r = bench.raw["ring"] = bench.frames("--only", "put") | bench.frames("--only", "capture")
    put, cap = r["put"], r["capture"]
    if cap["allocations_before"] == 0:
        raise RuntimeError("the allocation counter counted nothing at the start either: it does not work")
    each = f"{put['ring_put_us']['median']:.0f} µs against {put['plain_copy_us']['median']:.0f} µs, {put['ratio']['n']} pairs, {put['pool_frames']} frames each"
    seen = f"{cap['frames']} frames on the thread capture at {cap['fps']:.0f} fps"
    return [of_spread("ring put / plain copy of the same bytes", put["ratio"], 1.10, "×", each),
            row("heap allocations per captured frame", cap["allocations_per_frame"], 0, "", f"{cap['allocations']} in {seen}", digits=4),
            row("page faults per captured frame", cap["page_faults_per_frame"], 0, "", f"{cap['page_faults']} in {seen}, getrusage", digits=4)]


def average(bench):
    """The mean of 8 frames against reading them once; instructions where valgrind is there."""
    r = bench.raw["average"] = bench.frames("--only", "average")["average"]
    note = f"{r['average_us']['median']:.0f} µs against {r['read_us']['median']:.0f} µs, {r['ratio']['n']} pairs over {r['pool_frames']} frames"
    rows = [of_spread("average of 8 frames / reading their bytes once", r["ratio"], 1.5, "×", note)]
    if shutil.which("valgrind") and not bench.quick:
        counts = {}
        for case in ("count-average", "count-read"):
            one, three = (_instructions(bench, case, n) for n in (1, 3))
            counts[case] = (three - one) / 2 / (8 * FRAME)
        r["instructions_per_byte"] = counts
        note = f"{counts['count-average']:.3f} and {counts['count-read']:.3f} instructions a byte (callgrind)"
        rows.append(row("  the same in instructions", counts["count-average"] / counts["count-read"], None, "×", note))
    return rows


def _instructions(bench, case, n):
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", bench.programs["frames"], case, str(n)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return int(said.split("Collected :")[1].split()[0])


def boards(bench):
    """Instructions a frame on the boards' processors, against what was kept; skipped where they cannot be built for."""
    try:
        counted = instructions.measure()
    except instructions.Skip as why:
        bench.raw["boards"] = {"skipped": str(why)}
        return [row("instructions a frame on the boards' processors", None, None, "", f"SKIP: {why}")]
    bench.raw["boards"] = counted
    what = {"frame": "a frame into the ring, with the night rule", "copy": "  the copy in it", "stack": "the mean of 8 frames", "steady": "steady of 8 frames at rest",
            "moving": "steady of 8 frames that move", "still": "the median of 8 frames"}
    rows = [row(f"{cpu}: {what[case]}", n / 1000, old * instructions.ROOM / 1000 if verdict != "-" else None, "k instr.",
                f"counted under qemu-user, kept {old or 0:,}; not the speed of a Pi", digits=1)
            for cpu, case, n, old, verdict in instructions.rows(counted)]
    for cpu, n in counted.items():
        limits = {"steady": 6, "moving": 6} if cpu == "arm1176" else {}
        rows += [row(f"{cpu}: {what[case]}, beyond the mean", (n[case] - n["stack"]) / (8 * FRAME), limits.get(case), "instr.", "a sample read")
                 for case in ("steady", "moving", "still")]
    return rows


def starts(bench):
    """From starting the process to the first answer and the first picture."""
    health, saved, old = [], [], []
    with bench.pastcam() as p:  # brings file caches and the plugin registry up to date; not counted
        p.until("save jpg", "Saved")
    for _ in range(5 if bench.quick else 21):
        with bench.pastcam() as p:
            p.until("health", "RSS=")
            health.append(p.since_start_ms())
        with bench.pastcam() as p:
            p.until("save jpg", "Saved")
            saved.append(p.since_start_ms())
            p.populated()  # so that the next start does not compete with this one
    if bench.reference and not bench.quick:
        for _ in range(3):
            with bench.reference.start(SHM) as s:
                s.until("save jpg", "Saved")
                old.append(s.since_start_ms())
    bench.raw["starts_ms"] = {"health": health, "saved": saved, "reference_saved": old}
    note = f"{len(health)} starts, ring of {RING}"
    beside = f"; the reference {spread(old)['median']:.0f} ms" if old else ""
    return [of_spread("start to the first health", spread(health), 200, "ms", note, 0),
            of_spread("start to the first saved picture", spread(saved), 500, "ms", f"{note}, captures on {SHM}{beside}", 0)]


def idle(bench):
    """CPU per captured frame, and memory: both services side by side."""
    p, old = bench.both(SHM)
    status = p.status()
    resident = machine.resident_bytes(p.pid)
    beyond = (resident - status["ring"]["bytes"]) / 2**20
    windows = []
    for _ in range(3 if bench.quick else 5):
        seconds = 4 if bench.quick else 20
        busy, threads = machine.busy_s(), machine.cpu_ns(p.pid)
        a, b = p.frames_and_cpu(), old and old.frames_and_cpu()
        time.sleep(seconds)
        # The CPU first, then the frames: answering `status` is not part of a frame.
        cpu, after = p.cpu_ns(), machine.cpu_ns(p.pid)
        c, d = (p.frames_and_cpu()[0], cpu), old and old.frames_and_cpu()
        ours = (c[1] - a[1]) / 1e6 / (c[0] - a[0])
        theirs = (d[1] - b[1]) / 1e6 / (d[0] - b[0]) if old else DOCUMENTED["cpu_ms_per_frame"]
        windows.append({"ours_ms": ours, "theirs_ms": theirs, "ratio": ours / theirs, "frames": c[0] - a[0],
                        "machine_busy_cores": (machine.busy_s() - busy) / seconds,
                        "threads_us_per_frame": {n: round((after[n] - threads.get(n, 0)) / 1e3 / (c[0] - a[0]), 1) for n in after}})
    bench.raw["idle"] = {"windows": windows, "rss_bytes": resident, "vm_rss_bytes": machine.status_rss_bytes(p.pid), "ring": status["ring"]}
    if old:
        bench.raw["idle"]["reference_rss_bytes"] = machine.resident_bytes(old.pid)
    ms, ref, ratio = (spread([w[k] for w in windows]) for k in ("ours_ms", "theirs_ms", "ratio"))
    beside = f"{ref['median']:.3f} ms" + (f" (documented elsewhere: {DOCUMENTED['cpu_ms_per_frame']})" if bench.reference else "") + ("" if bench.reference else f", {NOT_HERE}")
    return [of_spread("CPU per captured frame / the reference's", ratio, 1 / 8, "×", f"{ms['median']:.3f} ms against {beside}; without drawing", 3, elsewhere=not bench.reference),
            of_spread("  CPU per captured frame", ms, None, "ms", f"all threads but {', '.join(Pastcam.drawing)}", 3),
            row("memory beyond the ring, idle, GStreamer loaded", beyond, 24, "MiB", f"Rss {resident / 2**20:.1f} less {status['ring']['bytes'] / 2**20:.1f} MiB; about 7 of them the synthetic camera's", digits=1),
            row("bytes per frame / the reference's", FRAME / (WIDTH * HEIGHT * 3), 0.5, "×", f"{FRAME} bytes a slot; {status['ring']['bytes'] / RING:.0f} with the spare slots")]


def commands(bench):
    """A thousand commands of all kinds, then memory again."""
    bench.close()
    keep = {kind: {"max_bytes": 128 << 20} for kind in ("jpg", "png", "npy")}
    mix = ["pastStack jpg", "pastStack png", "health", "pastStack npy", "night_level", "save jpg", "pastStack", "pastStack jpg", "health", "status json"]
    mix += ["pastStack jpg", "pastStack png", "ping", "pastStack npy", "night_level", "save png npy", "pastStack count=8 jpg", "pastStack png", "health", "status"]
    with bench.pastcam(export={"keep": keep}) as p:
        p.populated()
        time.sleep(2 if bench.quick else 6)
        before = (machine.resident_bytes(p.pid) - p.status()["ring"]["bytes"]) / 2**20
        took = bench.client("ask", "--port", p.port, "--rounds", 50, *mix)
        status = p.status()
        after = (machine.resident_bytes(p.pid) - status["ring"]["bytes"]) / 2**20
        time.sleep(2)
        rest = (machine.resident_bytes(p.pid) - p.status()["ring"]["bytes"]) / 2**20
    answers = took["ports"][str(p.port)]
    n = sum(a["n"] for a in answers.values())
    bench.raw["commands"] = {"before_mib": before, "after_mib": after, "two_seconds_later_mib": rest, "answers": {c: {k: v for k, v in a.items() if k != "raw"} for c, a in answers.items()}}
    if n < 1000:
        raise RuntimeError(f"only {n} of 1000 commands were carried out: {answers}")
    return [row("memory beyond the ring after 1000 commands", after, 24, "MiB", f"{before:.1f} before; {rest:.1f} two seconds later", digits=1)]


def pictures(bench):
    """pastStack and save on both services in turn, with the pictures in memory and on the disk."""
    rows = []
    for medium, where in (("memory", SHM), ("disk", bench.disk)):
        rows += _pictures(bench, medium, where)
    return rows


def _pictures(bench, medium, where):
    asked = {"pastStack jpg": 2, "pastStack png": 3}
    rounds = (10 if medium == "memory" else 7) if bench.quick else 60
    p, old = bench.both(where)
    r = bench.raw.setdefault("pictures", {})[medium] = {"folder": str(where)}
    services = [p, old] if old else [p]
    a = [s.cpu_ns() for s in services]
    t = time.time()
    time.sleep(2 if bench.quick else 10)
    rates = [(s.cpu_ns() - x) / (time.time() - t) for s, x in zip(services, a)]
    rows = []
    for command, factor in asked.items():
        a, t = [s.cpu_ns() for s in services], time.time()
        took = bench.client("ask", "--port", ",".join(str(s.port) for s in services), "--rounds", rounds, "--pause", "20-80", command)
        wall = time.time() - t
        cpu = [(s.cpu_ns() - x - rate * wall) / 1e6 / rounds for s, x, rate in zip(services, a, rates)]
        answers = [took["ports"][str(s.port)][command] for s in services]
        for one in answers:
            if one["errors"] or one["refused"]:
                raise RuntimeError(f"{command}: {one['said']}")
        kind = command.split()[1]
        sizes = [spread([f.stat().st_size for f in s.files(kind)])["median"] for s in services]
        theirs = {"p50": answers[1]["p50"], "cpu_ms": cpu[1]} if old else DOCUMENTED[command]
        r[command] = {"ours": answers[0], "ours_cpu_ms": cpu[0], "theirs": answers[1] if old else NOT_HERE, "theirs_cpu_ms": theirs["cpu_ms"], "file_bytes": sizes, "client_cpu_s": took["client_cpu_s"]}
        kib = " and ".join(f"{s / 1024:.0f}" for s in sizes)
        ratio = answers[0]["p50"] / theirs["p50"]
        note = f"{answers[0]['p50']:.1f} ms against {theirs['p50']:.1f} ms, {rounds} each in turn; files of {kib} KiB" + ("" if old else f"; {NOT_HERE}")
        ends = [answers[0][k] / theirs["p50"] for k in ("min", "max")]
        rows.append(row(f"{command} p50 / the reference's, {medium}", ratio, 1 / factor, "×", note, *ends, elsewhere=not old))
        rows.append(row(f"{command} server CPU / the reference's, {medium}", cpu[0] / theirs["cpu_ms"], 1 / factor, "×", f"{cpu[0]:.1f} ms against {theirs['cpu_ms']:.1f} ms a call", elsewhere=not old))
    # How long encoding and writing take without a wait for a frame, then the save that has one in it.
    took = bench.client("ask", "--port", p.port, "--rounds", rounds, "--pause", "20-120", "pastStack jpg count=1", "save jpg")["ports"][str(p.port)]
    encode, save = took["pastStack jpg count=1"], took["save jpg"]
    r["save jpg"] = {"save": save, "encoding": encode}
    limit = 1000 / FPS + encode["max"]
    note = f"p50 {save['p50']:.1f}; one frame time and the longest encoding ({encode['max']:.1f}, p50 {encode['p50']:.1f})"
    rows.append(row(f"save jpg, longest of {rounds}, {medium}", save["max"], limit, "ms", note, save["min"], save["max"], 1))
    return rows


def storm(bench):
    """Short commands while 8 clients ask for PNGs back to back and 100 more say nothing."""
    bench.close()  # two more services would share the processors
    seconds, times = (3, 3) if bench.quick else (10, 6)
    with bench.pastcam(export={"keep": {"png": {"max_bytes": 128 << 20}}}) as p:
        p.populated()
        time.sleep(3 if bench.quick else 6)
        calm = bench.client("ask", "--port", p.port, "--rounds", 300, "--pause", "1-5", "health", "night_level")["ports"][str(p.port)]
        before, began, cpu = p.status(), time.time(), p.cpu_ns()
        storms = [bench.client("storm", "--port", p.port, "--seconds", seconds, "--hammer", 8, "--with", "pastStack png", "--silent", 100,
                               "--probe-every", 10, "--probe", "health", "--probe", "night_level") for _ in range(times)]
        cpu = p.cpu_ns() - cpu
        after, lasted = p.status(), time.time() - began
    lost = {"source": after["source"]["lost"] - before["source"]["lost"], "ring": after["ring"]["dropped"] - before["ring"]["dropped"]}
    frames = after["frame"]["id"] - before["frame"]["id"]
    rows, pooled = [], {}
    for command in ("health", "night_level"):
        took = [s["probes"][command] for s in storms]
        failed = sum(t["errors"] + t["refused"] for t in took)
        if failed:
            raise RuntimeError(f"{command} failed {failed} times in the storm: {[t['said'] for t in took]}")
        every = pooled[command] = sorted(ms for t in took for ms in t["raw"])
        whole = every[round((len(every) - 1) * 0.99)]
        note = f"median of {times} storms of {seconds} s; all {len(every)} answers: p50 {every[len(every) // 2]:.2f}, p99 {whole:.2f}, max {every[-1]:.1f}; calm p99 {calm[command]['p99']:.2f}"
        rows.append(of_spread(f"{command} p99 in the storm", spread([t["p99"] for t in took]), 5, "ms", note))
    late = spread([s["own_wake_up_late_ms"]["p99"] for s in storms])
    costs = sum(s["client_cpu_s"] for s in storms) / lasted
    hammer = {k: sum(s["hammer"][k] for s in storms) for k in ("n", "refused", "errors")}
    rows.append(of_spread("  the measuring client's own wake-up, p99", late, None, "ms", f"all clients took {costs:.2f} cores, the server {cpu / 1e9 / lasted:.2f}"))
    rows.append(row("frames lost in the storm", max(sum(lost.values()), int(lasted * FPS) - 1 - frames, 0), 0, "",
                    f"{frames} captured in {lasted:.1f} s; {hammer['n']} PNGs, {hammer['refused']} refused, {hammer['errors']} errors; {storms[-1]['silent_open_at_end']} silent clients open at the end", digits=0))
    for s in storms:
        for one in (*s["probes"].values(), s["own_wake_up_late_ms"]):
            del one["raw"]
    bench.raw["storm"] = {"calm": {c: {k: v for k, v in a.items() if k != "raw"} for c, a in calm.items()}, "storms": storms, "lost": lost,
                          "frames": frames, "seconds": lasted, "server_cpu_cores": cpu / 1e9 / lasted, "raw_ms": pooled}
    return rows


def camera(bench):
    """The one copy of a libcamera frame, by the camera's format, against a plain copy; the whole path where the library is."""
    feature = ["--features", "libcamera"] if subprocess.run(["pkg-config", "--exists", "libcamera"]).returncode == 0 else []
    command = ["cargo", "run", "--release", "--locked", "-q", "--example", "camera_cost", *feature]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = []
    for line in out.splitlines():
        if line.startswith("one copy from"):
            name, figures = line.split(": ")
            times, ratio = figures.split(", ")
            rows.append(row(f"camera: {name} / plain copy", float(ratio.split()[0]), None, "×", times))
        elif rows:
            rows.append(row("  " + line.split(":")[0], None, None, "", line.split(": ", 1)[-1]))
    bench.raw["camera"] = out.splitlines()
    return rows


# In this order: a pair of services serves `idle` and the first half of `pictures`.
CASES = {"ring": ring, "average": average, "stack": past.stack, "films": past.films, "camera": camera, "boards": boards, "starts": starts, "idle": idle, "pictures": pictures, "commands": commands, "storm": storm, "video": video.case}
NAMES = list(CASES)
