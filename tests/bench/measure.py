"""Measuring: everything in turn, so that whatever the machine does meanwhile meets all alike."""

import os
import random
import resource
import statistics
import time

WARM_UP = 2


class Quiet:
    """How quiet the machine was between two moments: what of its CPU time others had."""

    def __init__(self):
        self.load = os.getloadavg()[0]
        self.begin = _moment()

    def end(self):
        """What goes into the results."""
        passed, busy, own = (b - a for a, b in zip(self.begin, _moment()))
        cpus = os.cpu_count()
        others = max(0.0, busy - own) / (passed * cpus)
        return {"cpus": cpus, "load before": self.load, "others": others, "seconds": passed}


def in_turn(variants, rounds, warm_up=WARM_UP):
    """Name -> what each call of it has returned.

    variants: name -> a function that does the thing once and returns what was measured. Each round
    has an order of its own: what one leaves behind meets another one each time. The first rounds,
    which fill caches, do not count.
    """
    found = {name: [] for name in variants}
    order = random.Random(0)
    for round in range(-warm_up, rounds):
        for name in order.sample(list(variants), len(variants)):
            value = variants[name]()
            if round >= 0:
                found[name].append(value)
    return found


def middle(values):
    return statistics.median(values)


def high(values):
    """The 99th percentile."""
    return sorted(values)[min(len(values) - 1, len(values) * 99 // 100)]


def difference(values, others):
    """The middle of the differences within each round, which what others do disturbs least."""
    return middle([a - b for a, b in zip(values, others)])


def spread(values):
    """The middle half: first and third quartile."""
    first, _, third = statistics.quantiles(values, n=4)
    return first, third


def _moment():
    """Seconds: of the clock, of CPU that was used on this machine, and by us and our children."""
    with open("/proc/stat") as file:
        # proc_stat(5): user nice system idle iowait irq softirq steal
        ticks = [int(field) for field in file.readline().split()[1:9]]
    busy = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return time.monotonic(), busy, own
