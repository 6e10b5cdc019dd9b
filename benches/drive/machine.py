"""Reads /proc: what the machine is, what a process costs. Never starts anything."""
import os
import platform
import re


def read(path, default=""):
    try:
        with open(path) as f:
            return f.read()
    except OSError:
        return default


def describe():
    cpu = re.search(r"^(?:model name|Model)\s*:\s*(.*)$", read("/proc/cpuinfo"), re.M)
    memory = int(re.search(r"MemTotal:\s+(\d+)", read("/proc/meminfo")).group(1)) // 1024
    return {"cpu": cpu.group(1) if cpu else platform.machine(), "cores": os.cpu_count(), "memory_mib": memory,
            "kernel": platform.release(), "load_at_start": os.getloadavg(),
            "huge_pages": read("/sys/kernel/mm/transparent_hugepage/enabled").strip()}


def cpu_ns(pid, without=()):
    """CPU time [ns] by thread name, of all living threads but those named in `without`."""
    total = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        at = f"/proc/{pid}/task/{task}"
        name, stat = read(f"{at}/comm").strip(), read(f"{at}/schedstat").split()
        if stat and name not in without:
            total[name] = total.get(name, 0) + int(stat[0])
    return total


def resident_bytes(pid):
    """Rss as the page tables have it; VmRSS in `status` lags behind by some pages a processor."""
    return int(re.search(r"^Rss:\s+(\d+) kB", read(f"/proc/{pid}/smaps_rollup"), re.M).group(1)) * 1024


def status_rss_bytes(pid):
    """VmRSS, the number the program itself and the old service go by."""
    return int(re.search(r"VmRSS:\s+(\d+)", read(f"/proc/{pid}/status")).group(1)) * 1024


def busy_s():
    """Time all processors together have not been idle [s]."""
    f = [int(x) for x in read("/proc/stat").splitlines()[0].split()[1:9]]
    return (sum(f) - f[3] - f[4]) / os.sysconf("SC_CLK_TCK")
