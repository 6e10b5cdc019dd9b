"""A network camera's own H.264 passed on, against the same stream encoded anew: both programs on one camera, in the same seconds."""
import time

from . import machine
from .report import of_spread, row, spread
from .rtsp import Viewer
from .service import free_port


def measure(bench):
    ports = [free_port() for _ in range(3)]

    def stream(port):
        return {"enable": True, "port": port, "bind": ["127.0.0.1"], "max_clients": 16}

    def in_front(port, passes):
        return bench.pastcam(camera={"source": f"rtsp://127.0.0.1:{ports[0]}/stream"}, rtsp=stream(port), video={"pass_through": passes})

    seconds, times = (4, 1) if bench.quick else (10, 4)
    with bench.pastcam(rtsp=stream(ports[0])) as camera, in_front(ports[1], True) as passes, in_front(ports[2], False) as encodes:
        services = (passes, encodes)
        for service in (camera, *services):
            service.populated()
        for service, wanted in ((passes, "yes"), (encodes, "off")):
            end = time.time() + 30
            while service.status()["video"]["pass_through"] != wanted or service.status()["ring"]["seconds"] < 3:
                if time.time() > end:
                    raise RuntimeError(f"pass_through is not {wanted}: {service.output()[-2000:]}")
                time.sleep(0.1)

        def cost():
            """CPU of each whole process [ms a second]: receiving, decoding and the ring are in it."""
            time.sleep(1.5)
            began, before = time.monotonic(), [sum(machine.cpu_ns(s.pid).values()) for s in services]
            time.sleep(seconds)
            after, lasted = [sum(machine.cpu_ns(s.pid).values()) for s in services], time.monotonic() - began
            return [(b - a) / 1e6 / lasted for a, b in zip(before, after)]

        def watched(n):
            viewers = [Viewer(port) for port in ports[1:] for _ in range(n)]
            try:
                if passes.status()["video"]["encoder"] or not encodes.status()["video"]["encoder"]:
                    raise RuntimeError("the wrong one encodes")
                return cost()
            finally:
                for v in viewers:
                    v.close()
                for s in services:
                    while s.status()["video"]["viewers"]:
                        time.sleep(0.05)

        rounds = []
        for _ in range(times):
            none, one, four = cost(), watched(1), watched(4)
            rounds.append({"none": none, "one": one, "four": four})
        first = []
        for _ in range(10 if bench.quick else 40):
            v = Viewer(ports[1])
            first.append(v.first_ms)
            v.close()
        encoder = encodes.output().split("Encoding ")[-1].splitlines()[0]
        connections = camera.status()["video"]["viewers"]
    bench.raw["pass_through"] = {"cpu_ms_per_second": rounds, "first_picture_ms": first, "encoder": encoder}
    if connections != 2:
        raise RuntimeError(f"{connections} connections to the camera instead of one of each")

    def of(when, which):
        return spread([r[when][which] for r in rounds])["median"]

    def added(r, which, when="one"):
        return r[when][which] - r["none"][which]

    first.sort()
    whole = f"whole process, ms a second: {of('none', 0):.1f} → {of('one', 0):.1f} → {of('four', 0):.1f} against {of('none', 1):.1f} → {of('one', 1):.1f} → {of('four', 1):.1f} with 0, 1, 4 viewers; {encoder}"
    return [of_spread("CPU a viewer adds: camera's stream passed on / encoded anew", spread([added(r, 0) / added(r, 1) for r in rounds]), 0.2, "×", whole, 3),
            of_spread("  four viewers: passed on / encoded anew", spread([added(r, 0, "four") / added(r, 1, "four") for r in rounds]), None, "×", "each viewer of a stream passed on has a media of its own", 3),
            of_spread("  whole process with a viewer: passed on / encoded anew", spread([r["one"][0] / r["one"][1] for r in rounds]), None, "×", "both decode the stream for the ring", 3),
            row("  first picture of a stream passed on, p95", first[round((len(first) - 1) * 0.95)], 150, "ms", f"{len(first)} connections; p50 {first[len(first) // 2]:.0f}, longest {first[-1]:.0f}", digits=0)]
