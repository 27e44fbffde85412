"""What `benches/cluster` compares with: Python's own pool on this machine, and executorlib behind srun.

Each figure is a line: whose it is, its name, its value; times in seconds.
"""

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor


def double(n):
    return 2 * n


def sleep(seconds):
    time.sleep(seconds)


def busy(seconds):
    """Keeps a worker for so long, so that others have to come."""
    time.sleep(seconds)
    return os.getpid()


def say(whose, name, value):
    print(whose, name, value, flush=True)


def rate(pool, tasks):
    start = time.perf_counter()
    futures = [pool.submit(double, n) for n in range(tasks)]
    for n, future in enumerate(futures):
        assert future.result() == 2 * n
    return tasks / (time.perf_counter() - start)


def round_trip(pool, rounds):
    times = []
    for n in range(rounds):
        start = time.perf_counter()
        assert pool.submit(double, n).result() == 2 * n
        times.append(time.perf_counter() - start)
    return sorted(times)[rounds // 2]


def python():
    for workers in (8, 32):
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(busy, [0.05] * workers))
            rate(pool, 1000)
            say("python", f"rate{workers}", rate(pool, 5000))
            if workers == 8:
                say("python", "round_trip", round_trip(pool, 500))


def executorlib():
    from executorlib import SlurmJobExecutor

    def pool(workers):
        return SlurmJobExecutor(max_workers=workers, block_allocation=True, hostname_localhost=True)

    start = time.perf_counter()
    with pool(1) as one:
        assert one.submit(double, 1).result() == 2
        say("executorlib", "first_result", time.perf_counter() - start)
        say("executorlib", "round_trip", round_trip(one, 50))
    start = time.perf_counter()
    with pool(8) as eight:
        for future in [eight.submit(busy, 0.2) for _ in range(8)]:
            future.result()
        say("executorlib", "rate8", rate(eight, 400))
    start = time.perf_counter()
    with pool(32) as all_of_them:
        for future in [all_of_them.submit(busy, 0.2) for _ in range(32)]:
            future.result()
        say("executorlib", "up32", time.perf_counter() - start)
        say("executorlib", "rate32", rate(all_of_them, 400))


if __name__ == "__main__":
    python()
    try:
        executorlib()
    except Exception as error:
        print(f"executorlib is left out: {error!r}", file=sys.stderr)
