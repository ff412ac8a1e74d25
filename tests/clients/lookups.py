"""Looks names up by Python and prints for each: name, microseconds, addresses. `getaddrinfo` goes by the C library, `pycares` by
c-ares, as aiohttp does with aiodns: one channel, which keeps its sockets."""

import select
import socket
import sys
import time

import pycares

NONE = pycares.ARES_SOCKET_BAD


def by_libc(name):
    return [found[4][0] for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)]


def by_cares(channel, name):
    ended = []
    channel.getaddrinfo(name, None, lambda *end: ended.append(end), type=socket.SOCK_STREAM)
    while not ended:
        readers, writers = channel.getsock()
        readers, writers, _ = select.select(readers, writers, [], channel.timeout())
        # What has no time left is sent again, or given up.
        for socks in [(fd, NONE) for fd in readers] + [(NONE, fd) for fd in writers] or [(NONE, NONE)]:
            channel.process_fd(*socks)
    found, error = ended[0]
    if error:
        raise OSError(pycares.errno.strerror(error))
    return [node.addr[0].decode() for node in found.nodes]


def main():
    channel = pycares.Channel()
    ways = {"getaddrinfo": by_libc, "pycares": lambda name: by_cares(channel, name)}
    how, *names = sys.argv[1:]
    for name in names:
        start = time.monotonic()
        try:
            found = ways[how](name)
        except OSError as error:
            found = [str(error)]
        print(name, int((time.monotonic() - start) * 1e6), *found)


main()
