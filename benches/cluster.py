"""What `benches/cluster` compares with: Python's own pool on this machine, and executorlib behind srun.

`cluster.py first_result` or `cluster.py rates WORKERS`. Each figure is a line: whose it is, its name, its value; times in
seconds, or `now` for the time since this was started.
"""

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor


def double(n):
    return 2 * n


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


def python_rate(workers):
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(busy, [0.05] * workers))
        rate(pool, 1000)
        say("python", f"rate{workers}", rate(pool, 5000))
        if workers == 8:
            say("python", "round_trip", round_trip(pool, 500))


def executorlib_pool(workers):
    from executorlib import SlurmJobExecutor

    return SlurmJobExecutor(max_workers=workers, block_allocation=True, hostname_localhost=True)


def executorlib_first_result():
    with executorlib_pool(1) as pool:
        assert pool.submit(double, 1).result() == 2
        say("executorlib", "first_result", "now")
        say("executorlib", "round_trip", round_trip(pool, 50))


def executorlib_rate(workers):
    start = time.perf_counter()
    with executorlib_pool(workers) as pool:
        for future in [pool.submit(busy, 0.2) for _ in range(workers)]:
            future.result()
        say("executorlib", f"up{workers}", time.perf_counter() - start)
        say("executorlib", f"rate{workers}", rate(pool, 400))


def main(what, *workers):
    try:
        if what == "first_result":
            executorlib_first_result()
        else:
            python_rate(int(workers[0]))
            executorlib_rate(int(workers[0]))
    except ImportError as error:
        print(f"executorlib is left out: {error!r}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
