"""What several frames are worth as one picture, and what it costs: benches/past on films, the case `stack` of benches/frames."""
import json
import pathlib
import subprocess
import tempfile

from .report import of_spread, row

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
# Made scenes, and the verdict on them that is only shown, not judged. Leaves: fine structure that moves everywhere is a limit of
# `steady` (docs/guide.md). Colour: luma rests there, but is averaged only where the colour rests too: less clean than the mean.
MADE = [("made scenes", ("walk", "dim", "thin", "pan", "fade"), None), ("leaves in wind", ("leaf",), "in moving parts, worst moment"),
        ("a moving colour", ("tint",), "in still parts")]


def stack(bench):
    """`steady` of 8 frames against the mean and against reading the bytes; memory it asks for."""
    r = bench.raw["stack"] = bench.frames("--only", "stack")["stack"]
    rows = []
    for scene, s in r.items():
        how = f"{s['steady_us']['median']:.0f} µs against {s['mean_us']['median']:.0f} µs; {s['share'] * 100:.0f} % averaged, {s['steady_us']['n']} rounds"
        rows += [of_spread(f"steady of 8 frames / the plain mean, {scene.replace('_', ' ')}", s["steady_by_mean"], 3, "×", how),
                 of_spread("  the same / reading their bytes once", s["steady_by_read"], 4, "×", f"{s['read_us']['median']:.0f} µs"),
                 of_spread("  still (the median) / the plain mean", s["still_by_mean"], None, "×", f"{s['median_us']['median']:.0f} µs")]
    asked = [s["allocations_a_call"] for s in r.values()]
    rows.append(row("allocations of a steady picture beyond the mean's", max(a["steady"] - a["mean"] for a in asked), 0, "",
                    f"steady {asked[0]['steady']:.0f}, still {asked[0]['still']:.0f}, mean {asked[0]['mean']:.0f} a call, working memory kept"))
    return rows


def films(bench):
    """PSNR of single frame, mean and steady on films and made scenes."""
    had = subprocess.run([str(TOP / "scripts" / "films")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found = had.stdout.split() if had.returncode == 0 else []
    named = [str(pathlib.Path(f).resolve()) for f in bench.films]
    rows = [] if found else [row("films", None, None, "", had.stderr.strip().splitlines()[-1] if had.stderr.strip() else "SKIP: no films")]
    if found + named:
        rows += _films(bench, "films", found + named)
    for what, rules, shown in MADE:
        rows += _films(bench, what, [f"made:{rule}" for rule in rules], shown)
    return rows


def _films(bench, what, paths, shown=None):
    with tempfile.NamedTemporaryFile(suffix=".json") as kept:
        quick = ["--sigma", "6", "--steps", "1", "--moments", "30"] if bench.quick else []
        subprocess.run([bench.programs["past"], *quick, "--keep", kept.name, *paths], stdout=subprocess.PIPE, check=True)
        result = json.load(kept)
    bench.raw[f"past, {what}"] = result
    # A row is met when its value is small: gains are turned round.
    rows = []
    for v in filter(lambda v: v["value"] is not None, result["verdicts"]):
        loss = "steady - " in v["what"]
        value, target = (-v["value"], -v["target"]) if loss else (v["value"], v["target"])
        name = v["what"].replace("steady - ", "loss of steady against ") if loss else v["what"]
        limit = None if shown and shown in v["what"] else target
        rows.append(row(f"{what}: {name}", value, limit, "dB" if loss else "×", v["at"]))
    return rows
