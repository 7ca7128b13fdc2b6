# SPDX-License-Identifier: Apache-2.0
"""Verdict: figures of a run, and every criterion that it missed, in words.

1. memory: the slope of the resident memory after the warm-up, over the rest of the run, is less
   than ``max_growth`` of its median. Theil–Sen: the median of the slopes of all pairs of looks, so
   that a garbage collection decides nothing
2. threads and open files are the same number at every look after the warm-up
3. counters: received = processed + dropped + in flight (at most 2) in every message, nothing was
   received that was not sent, and the labels of processed clouds arrive
4. age: the median age of the labels is at most that of one frame in work, the frame's own work and
   one period, and the last third is no older than the first. A queue would be
5. the node is alive at the end, ends in order, and never logged a traceback
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tools.soak.record import Look, Record

MIN_HEARD = 0.98
"""Share of the processed clouds whose labels must arrive: the output keeps only the newest."""
MAX_AGEING = 1.5
"""Median age of the last third over that of the first."""
MIN_LOOKS, MIN_TOLD = 10, 6


def figures(record: Record, warm_up: float) -> dict[str, Any]:
    """What is worth knowing of a run, for people and JSON."""
    kept = record.settled(warm_up)
    last = record.told[-1] if record.told else None
    found: dict[str, Any] = {
        "sent": record.sent,
        "sent late": record.late,
        "seconds": round(record.seconds, 1),
        "asked Hz": round(1 / record.period, 3),
        "sent Hz": round(record.sent / record.seconds, 3) if record.seconds else 0.0,
    }
    if last is not None:
        first = record.first
        received, dropped = last.received - first.received, last.dropped - first.dropped
        found |= {
            "received": received,
            "lost before the node": record.sent - received,
            "processed": last.processed - first.processed,
            "dropped": dropped,
            "dropped of received": round(dropped / max(received, 1), 4),
            "labels heard": len(record.ages),
        }
    if kept.told:
        found["work ms"] = percentiles([told.total for told in kept.told])
        found["age at publishing ms"] = percentiles([told.age for told in kept.told])
        found["labelled Hz"] = round(len(kept.told) / max(record.seconds - warm_up, 1e-9), 3)
    if record.ages:
        found["age at a subscriber ms"] = percentiles(record.ages)
    if kept.looks:
        memory = [look.state.resident / 2**20 for look in kept.looks]
        span = kept.looks[-1].at - kept.looks[0].at
        found["resident MiB"] = [round(memory[0], 1), round(max(memory), 1), round(memory[-1], 1)]
        found["own MiB"] = [
            round(kept.looks[i].state.private / 2**20, 1) for i in (0, len(kept.looks) // 2, -1)
        ]
        found["memory growth"] = round(growth(kept.looks), 5)
        found["threads"] = _ends([look.state.threads for look in kept.looks])
        found["open files"] = _ends([look.state.handles for look in kept.looks])
        used = kept.looks[-1].state.cpu - kept.looks[0].state.cpu
        found["cores used by the node"] = round(used / max(span, 1e-9), 2)
    return found


def failures(record: Record, warm_up: float, max_growth: float) -> list[str]:
    """One sentence per criterion that was missed; empty where all are met."""
    kept = record.settled(warm_up)
    missed = [record.ending] if record.ending else []
    if "Traceback" in record.log:
        missed.append("the node logged a traceback")
    if len(kept.looks) < MIN_LOOKS or len(kept.told) < MIN_TOLD:
        return [
            *missed,
            f"only {len(kept.looks)} looks at the process and {len(kept.told)} labelled clouds "
            f"after the warm-up of {warm_up:g} s; let it run longer",
        ]
    if (grown := growth(kept.looks)) >= max_growth:
        missed.append(
            f"memory grows by {100 * grown:.2f} % over the run; at most {100 * max_growth:g} %"
        )
    for name in ("threads", "handles"):
        counts = sorted({getattr(look.state, name) for look in kept.looks})
        if len(counts) > 1:
            missed.append(f"{name} vary between {counts[0]} and {counts[-1]}; expected one number")
    return missed + _wrong_counters(record) + _old_labels(kept)


def _wrong_counters(record: Record) -> list[str]:
    missed = []
    odd = [t for t in record.told if not 0 <= t.received - t.processed - t.dropped <= 2]
    if odd:
        missed.append(
            f"{len(odd)} messages count wrong, first: received {odd[0].received}, processed "
            f"{odd[0].processed}, dropped {odd[0].dropped}"
        )
    last = record.told[-1]
    if last.received - record.first.received > record.sent:
        missed.append(f"{last.received - record.first.received} received of {record.sent} sent")
    if len(record.ages) < MIN_HEARD * len(record.told):
        missed.append(f"labels of only {len(record.ages)} of {len(record.told)} clouds arrived")
    return missed


def _old_labels(kept: Record) -> list[str]:
    ages = np.array([told.age for told in kept.told])
    work = float(np.median([told.total for told in kept.told]))
    bound = 2 * work + kept.period
    missed = []
    if np.median(ages) > bound:
        missed.append(
            f"labels are {1e3 * np.median(ages):.0f} ms old (median); work takes "
            f"{1e3 * work:.0f} ms and a cloud comes every {1e3 * kept.period:.0f} ms, so that "
            f"{1e3 * bound:.0f} ms are enough: something queues"
        )
    third = len(ages) // 3
    first, last = np.median(ages[:third]), np.median(ages[-third:])
    if last > MAX_AGEING * first + kept.period:
        missed.append(f"labels get older: {1e3 * first:.0f} ms at first, {1e3 * last:.0f} at last")
    return missed


def growth(looks: Sequence[Look]) -> float:
    """Slope of the resident memory times the time seen, as a share of the median."""
    at = np.array([look.at for look in looks])
    memory = np.array([look.state.resident for look in looks], np.float64)
    if len(at) > 600:  # 180 000 pairs are enough
        chosen = np.linspace(0, len(at) - 1, 600).astype(int)
        at, memory = at[chosen], memory[chosen]
    early, late = np.triu_indices(len(at), 1)
    apart = at[late] - at[early]
    slopes = (memory[late] - memory[early])[apart > 0] / apart[apart > 0]
    return float(np.median(slopes) * (at[-1] - at[0]) / np.median(memory)) if len(slopes) else 0.0


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Milliseconds."""
    values = 1e3 * np.asarray(seconds)
    found = {f"p{p}": round(float(np.percentile(values, p)), 1) for p in (50, 95, 99)}
    return {**found, "max": round(float(values.max()), 1)}


def _ends(counts: Sequence[int]) -> list[int]:
    return sorted({min(counts), max(counts)})
