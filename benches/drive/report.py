"""Turns results into rows and rows into a table. Judges nothing but `value` against `limit`."""


def spread(values):
    """Least, median, largest."""
    v = sorted(values)
    return {"min": v[0], "median": v[len(v) // 2], "max": v[-1], "n": len(v)}


def row(target, value, limit, unit, note="", least=None, most=None, digits=2, elsewhere=False):
    """One line of the table; met when `value` is at most `limit`. Without a limit it only informs, and a ratio to a figure
    from another machine (`elsewhere`) is shown but judged neither way."""
    verdict = "-" if limit is None else "open" if elsewhere else "met" if value <= limit else "MISSED"
    return {"target": target, "value": value, "limit": limit, "unit": unit, "min": least, "max": most, "verdict": verdict, "note": note, "digits": digits}


def of_spread(target, s, limit, unit, note="", digits=2, elsewhere=False):
    """A row of the median of a spread, with its ends."""
    return row(target, s["median"], limit, unit, note, s["min"], s["max"], digits, elsewhere)


def show(result):
    def number(v, r):
        return "" if v is None else f"{v:.{r['digits']}f}"
    head = ("what", "value", "target", "unit", "min … max", "", "how")
    lines = [head]
    for r in result["rows"]:
        ends = f"{number(r['min'], r)} … {number(r['max'], r)}" if r["min"] is not None else ""
        limit = "" if r["limit"] is None else f"≤ {number(r['limit'], r)}"
        lines.append((r["target"], number(r["value"], r), limit, r["unit"], ends, r["verdict"], r["note"]))
    widths = [max(len(line[k]) for line in lines) for k in range(6)]
    m = result["machine"]
    print(f"\n{m['cpu']}, {m['cores']} cores, {m['memory_mib']} MiB, linux {m['kernel']}; load {m['load_at_start'][0]:.1f} at the start, {result['load_at_end'][0]:.1f} at the end")
    print(f"reference: {result['reference']}\n")
    for k, line in enumerate(lines):
        print("  ".join(cell.ljust(w) if c in (0, 5, 4, 3) else cell.rjust(w) for c, (cell, w) in enumerate(zip(line, widths))) + "  " + line[6])
        if k == 0:
            print("-" * (sum(widths) + 2 * 6 + 20))
    verdicts = [r["verdict"] for r in result["rows"]]
    print(f"\n{verdicts.count('met')} met, {verdicts.count('MISSED')} missed, {verdicts.count('open')} open (the reference was not measured); {result['seconds']:.0f} s" + (f"; did not run: {', '.join(result['failed_to_run'])}" if result["failed_to_run"] else ""))
