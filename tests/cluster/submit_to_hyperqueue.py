"""Starts a command so many times through a HyperQueue of its own, and waits for all of them: `submit_to_hyperqueue.py 3 command ..`.

Without a number it is what a network of its own takes: with the loopback interface up, the command is run in place of this.
HyperQueue listens on all interfaces, and there is no other one there.
"""

import fcntl
import os
import socket
import struct
import sys


def bring_up_loopback():
    set_flags, is_up_and_running = 0x8914, 0x1 | 0x40
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh", b"lo", is_up_and_running))


def run(count, command):
    from hyperqueue import Job
    from hyperqueue.cluster import LocalCluster, WorkerConfig

    with LocalCluster(worker_config=WorkerConfig(cores=count)) as cluster:
        client = cluster.client()
        job = Job()
        for _ in range(count):
            job.program(command, stdout=None, stderr=None)
        client.wait_for_jobs([client.submit(job)], raise_on_error=False)


if __name__ == "__main__":
    if sys.argv[1].isdigit():
        run(int(sys.argv[1]), sys.argv[2:])
    else:
        bring_up_loopback()
        os.execvp(sys.argv[1], sys.argv[1:])
