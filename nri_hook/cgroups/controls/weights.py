"""Weights, of which cgroup v1, v2 and the I/O schedulers each have a scale of their own.

Everywhere here a weight is v2's: 1 to 10000, 100 by default. Sources: opencontainers/cgroups,
utils.go (ConvertCPUSharesToCgroupV2Value, the quadratic one of 2025, and
ConvertBlkIOToIOWeightValue); crun, src/libcrun/cgroup-internal.h, the same; for BFQ crun,
src/libcrun/cgroup-systemd.c (IO_WEIGHT), which undoes what systemd does.
"""

LEAST, DEFAULT, MOST = 1, 100, 10000
LEAST_SHARES, MOST_SHARES = 2, 262144


def from_shares(shares: int) -> int:
    """The weight that the runtimes give to a container with these cpu.shares."""
    if shares <= LEAST_SHARES:
        return LEAST
    if shares >= MOST_SHARES:
        return MOST
    power = _log2(shares)
    exponent: float = (power * power + 125 * power) / 612 - 7 / 34
    return -int(-(10**exponent) // 1)


def to_shares(weight: int) -> int:
    """The largest cpu.shares that from_shares() makes this weight of; 100 gives 1024."""
    low, high = LEAST_SHARES, MOST_SHARES
    while low < high:
        middle = (low + high + 1) // 2
        if from_shares(middle) <= weight:
            low = middle
        else:
            high = middle - 1
    return low


def from_blkio(weight: int) -> int:
    """The io.weight for a blkio.weight, 10 to 1000, of the schedulers before BFQ."""
    return 1 + (weight - 10) * 9999 // 990


def to_blkio(weight: int) -> int:
    """The largest blkio.weight that from_blkio() makes this weight of."""
    return 10 + (weight * 990 - 1) // 9999


def from_bfq(weight: int) -> int:
    """The io.weight for BFQ's weight, 1 to 1000 and 100 by default."""
    return weight if weight <= DEFAULT else DEFAULT + (weight - DEFAULT) * 11


def to_bfq(weight: int) -> int:
    """BFQ's weight for an io.weight, as systemd writes it."""
    return weight if weight <= DEFAULT else DEFAULT + (weight - DEFAULT) // 11


def _log2(number: int) -> float:
    """The binary logarithm, by squaring: the module math is more than this is worth."""
    whole = number.bit_length() - 1
    rest, result, step = number / (1 << whole), float(whole), 0.5
    for _ in range(52):  # the bits of a float
        rest *= rest
        if rest >= 2:
            rest /= 2
            result += step
        step /= 2
    return result
