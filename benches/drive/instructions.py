#!/usr/bin/env python3
"""Instructions a frame costs on the boards' processors, counted under qemu-user: python3 benches/drive/instructions.py [--write]

A count is the same in every run, so a few per cent more are a change of the code and not of the machine: benches/instructions.json
keeps the figures, and more than 3 % above them fails (exit 1). --write takes new ones over. It tells nothing of caches, memory
or how many instructions a processor does at once, and is never the speed of a Pi.

Cases (benches/frames): `frame` is what the capture does with one frame of 1024x768 (copy, sample of luma, night rule, ring);
`copy` the copy in it; `stack` the mean of 8 frames; `steady` and `still` those ways of stacking them where nothing moves,
`moving` the first where everything does. Each is the difference of two runs, so that the start does not count.
Exit: 0 within bounds, 1 beyond them, 77 (with SKIP) where it cannot be counted.
"""
import json
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
KEPT = TOP / "benches" / "instructions.json"
BUILT = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", TOP / "target"))
ROOM = 1.03
CASES = {"frame": "count-capture", "copy": "count-copy", "stack": "count-average", "steady": "count-steady", "moving": "count-steady-moving", "still": "count-still"}
# Processor: the words of scripts/target, the emulator.
BOARDS = {"arm1176": ("core", "qemu-arm"), "cortex-a53": ("arm64", "qemu-aarch64")}


class Skip(Exception):
    pass


def run(words, **more):
    return subprocess.run([str(w) for w in words], cwd=TOP, check=True, text=True, **more)


def plugin(emulator, program, root):
    """The counter for this QEMU, which says only by refusing which version of plugins it takes; the words that start it."""
    for version in (1, 2, 3, 4, 5):
        so = BUILT / f"count-{version}.so"
        run(["cc", "-shared", "-fPIC", "-O2", f"-DVERSION={version}", TOP / "benches/qemu/count.c", "-o", so])
        words = [emulator, *root, "-plugin", so]
        tried = subprocess.run([*map(str, words), program], cwd=TOP, capture_output=True, text=True)
        if tried.returncode == 0 and "instructions " in tried.stderr:
            return words
    raise Skip(f"{emulator} takes no plugins: {tried.stderr.strip().splitlines()[-1] if tried.stderr.strip() else tried.returncode}")


def build(target):
    """The program of benches/frames for a target; its path."""
    done = subprocess.run([str(TOP / "scripts/target"), target, "bench", "--locked", "--profile", "emulated", "--no-default-features", "--bench", "frames",
                           "--no-run", "--message-format=json"], cwd=TOP, stdout=subprocess.PIPE, text=True)
    if done.returncode == 77:
        raise Skip(f"{target} cannot be built here")
    done.check_returncode()
    found = [json.loads(line) for line in done.stdout.splitlines() if '"executable":"' in line]
    return [m["executable"] for m in found if m["target"]["name"] == "frames"][-1]


def count(words, program, case, passes):
    err = run([*words, program, case, passes], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).stderr
    return int(re.search(r"^instructions (\d+)$", err, re.M).group(1))


def per_pass(words, program, case):
    few, many = 4, 12
    return round((count(words, program, case, many) - count(words, program, case, few)) / (many - few))


def measure():
    """{processor: {case: instructions}}; Skip where nothing can be counted."""
    result = {}
    for cpu, (target, emulator) in BOARDS.items():
        program = build(target)
        root = []
        if target != "core":
            root = ["-L", subprocess.run([str(TOP / "scripts/sysroot"), target], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()]
        words = plugin(emulator, program, ["-cpu", cpu, *root])
        result[cpu] = {name: per_pass(words, program, case) for name, case in CASES.items()}
        # The promise that the bound stands on.
        again = per_pass(words, program, CASES["frame"])
        if abs(again - result[cpu]["frame"]) > 0.001 * again:
            raise SystemExit(f"instructions: {cpu}: two counts of the same program differ: {result[cpu]['frame']} and {again}")
    return result


def compiler():
    return run(["rustc", "--version"], stdout=subprocess.PIPE).stdout.split()[1]


def rows(result):
    """(processor, case, counted, kept or None, verdict): another compiler makes other code, and is shown without a verdict."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    same = kept.get("rustc") == compiler()
    for cpu, cases in result.items():
        for name, n in cases.items():
            old = kept.get("instructions", {}).get(cpu, {}).get(name)
            verdict = "-" if old is None or not same else "met" if n <= old * ROOM else "MISSED"
            yield cpu, name, n, old, verdict


def main():
    try:
        result = measure()
    except Skip as why:
        print(f"SKIP: instructions: {why}")
        return 77
    if "--write" in sys.argv[1:]:
        KEPT.write_text(json.dumps({"rustc": compiler(), "instructions": result}, indent=2) + "\n")
    missed = 0
    for cpu, name, n, old, verdict in rows(result):
        missed += verdict == "MISSED"
        print(f"{cpu:11} {name:6} {n:11,} instructions" + (f", kept {old:,} ({(n / old - 1) * 100:+.2f} %) {verdict}" if old else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
