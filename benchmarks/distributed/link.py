"""Two network namespaces, 10.78.0.1 and 10.78.0.2, with a link of a given delay and rate between them.

A relay of packets between two tun devices: it holds each packet for the delay, and lets them leave at the rate, one direction
beside the other. Needs root.

    with Link(delay_ms=2, mbit=400) as link:
        subprocess.run(link.enter(0) + ["ping", "-c", "3", "10.78.0.2"])
"""
import fcntl
import heapq
import multiprocessing
import os
import select
import struct
import subprocess
import time

TUNSETIFF, IFF_TUN_NO_PI = 0x400454CA, 0x1001
MTU = 16_000  # Few, large packets: the relay shares the processors with those that it connects.


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


class Link:
    def __init__(self, delay_ms=0.0, mbit=1000.0):
        self.delay, self.bytes_per_sec = delay_ms / 1e3, mbit * 1e6 / 8
        self.hosts = [f"brt-link-{os.getpid()}-{i}" for i in range(2)]

    def __enter__(self):
        devices = []
        for i, host in enumerate(self.hosts):
            ip("netns", "add", host)
            name, device = f"brtl{i}", os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN_NO_PI))
            ip("link", "set", name, "netns", host)
            ip("-n", host, "address", "add", f"10.78.0.{i + 1}/24", "dev", name)
            ip("-n", host, "link", "set", name, "mtu", str(MTU), "up")
            ip("-n", host, "link", "set", "lo", "up")
            devices.append(device)
        self.relay = multiprocessing.Process(target=relay, args=(devices, self.delay, self.bytes_per_sec), daemon=True)
        self.relay.start()
        return self

    def __exit__(self, *_):
        self.relay.terminate()
        self.relay.join()
        for host in self.hosts:
            ip("netns", "delete", host)

    def enter(self, host):
        """The words before a command that runs on a host."""
        return ["ip", "netns", "exec", self.hosts[host]]


def relay(devices, delay, bytes_per_sec):
    waiting, free_at, number = [], [0.0, 0.0], 0
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, _, to, packet = heapq.heappop(waiting)
            try:
                os.write(devices[to], packet)
            except OSError:
                pass  # A full queue drops packets; TCP sends them again.
        timeout = max(0.0, waiting[0][0] - now) if waiting else 1.0
        readable, _, _ = select.select(devices, [], [], timeout)
        for device in readable:
            packet, to, now = os.read(device, MTU + 64), 1 - devices.index(device), time.monotonic()
            free_at[to] = max(now, free_at[to]) + len(packet) / bytes_per_sec
            heapq.heappush(waiting, (free_at[to] + delay, number, to, packet))
            number += 1
