"""This build beside another one, such as the last release's: `scripts/bench --against PROGRAM`. Each figure is a ratio of two
things measured in turn or side by side in one run; below 1 this build needs less."""
import pathlib
import time

from . import machine
from .report import of_spread, row, spread
from .service import Pastcam

# Noise of a shared machine between two runs of one and the same program; what is beyond is a change.
ROOM = 1.10
SHM = "/dev/shm"


def _start_ms(program):
    with Pastcam(program, SHM) as p:
        p.until("health", "RSS=")
        took = p.since_start_ms()
        p.populated()  # so that the next start does not compete with this one
    return took


def case(bench, other):
    """CPU a frame, memory, starts, latencies and size of both programs."""
    bench.close()
    ours = bench.programs["pastcam"]
    starts = [(_start_ms(ours), _start_ms(other)) for _ in range(5 if bench.quick else 15)]
    with Pastcam(ours, SHM) as a, Pastcam(other, SHM) as b:
        a.populated(), b.populated()
        time.sleep(7)  # pastStack looks back 5 s
        memory = [machine.resident_bytes(p.pid) - p.status()["ring"]["bytes"] for p in (a, b)]
        windows = []
        for _ in range(3 if bench.quick else 7):
            before = [p.frames_and_cpu() for p in (a, b)]
            time.sleep(4 if bench.quick else 12)
            # The CPU first, then the frames: answering `status` is not part of a frame.
            cpu = [p.cpu_ns() for p in (a, b)]
            frames = [p.frames_and_cpu()[0] for p in (a, b)]
            windows.append([(c - x[1]) / (f - x[0]) / 1e6 for c, f, x in zip(cpu, frames, before)])
        # No `save`: it waits for the next frame, and two cameras' frames do not come at the same time.
        asked = ["health", "status", "pastStack jpg count=1", "pastStack jpg", "pastStack png"]
        took = bench.client("ask", "--port", f"{a.port},{b.port}", "--rounds", 15 if bench.quick else 60, "--pause", "5-40", *asked)["ports"]
    bench.raw["against"] = {"program": str(other), "starts_ms": starts, "memory_bytes": memory, "cpu_ms_per_frame": windows,
                            "answers": {port: {c: {k: v for k, v in x.items() if k != "raw"} for c, x in of.items()} for port, of in took.items()}}

    def ratio(what, pairs, unit):
        s, (x, y) = spread([x / y for x, y in pairs]), ([p[i] for p in pairs] for i in (0, 1))
        note = f"{spread(x)['median']:.3f} against {spread(y)['median']:.3f} {unit}, {len(pairs)} pairs"
        return of_spread(f"{what} / the other's", s, ROOM, "×", note)
    rows = [ratio("CPU per captured frame", windows, "ms"), ratio("start to the first health", starts, "ms"),
            row("memory beyond the ring / the other's", memory[0] / memory[1], ROOM, "×", f"{memory[0] / 2**20:.1f} against {memory[1] / 2**20:.1f} MiB, idle")]
    for command in asked:
        x, y = (took[str(p.port)][command] for p in (a, b))
        if x["errors"] or y["errors"]:
            raise RuntimeError(f"{command}: {x['said']} {y['said']}")
        rows.append(row(f"{command} p50 / the other's", x["p50"] / y["p50"], ROOM, "×", f"{x['p50']:.2f} against {y['p50']:.2f} ms, {x['n']} each in turn"))
    size = [pathlib.Path(p).stat().st_size for p in (ours, other)]
    rows.append(row("size of the program / the other's", size[0] / size[1], 1.03, "×", f"{size[0]:,} against {size[1]:,} bytes", digits=3))
    return rows
