#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Print the items of a queue in a loop of asyncio, until one says "end".

    ./wait_asyncio.py QUEUE

Calls the C library by ctypes: the loop needs no more than the descriptor.
"""
import asyncio
import ctypes
import errno
import sys

READABLE, ANY_LANE, NOWAIT = 1, -1, 0

lib = ctypes.CDLL('libshmq.so.0')
lib.shmq_pop.restype = ctypes.c_ssize_t
lib.shmq_pop.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t,
                         ctypes.c_void_p, ctypes.c_int64]
lib.shmq_pollfd.argtypes = [ctypes.c_void_p, ctypes.c_uint]
lib.shmq_open.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint]
lib.shmq_close.argtypes = [ctypes.c_void_p]
lib.shmq_close.restype = None


def open_queue(name):
    q = ctypes.c_void_p()
    err = lib.shmq_open(ctypes.byref(q), name.encode(), 0)
    if err < 0:
        sys.exit(f'{name}: error {err}')
    return q


async def main():
    q = open_queue(sys.argv[1])
    buf = ctypes.create_string_buffer(4096)
    done = asyncio.Event()

    # README: asyncio
    def on_items():
        n = lib.shmq_pop(q, ANY_LANE, buf, len(buf), None, NOWAIT)
        if n >= 0:
            work(buf.raw[:n])  # what is left wakes us again
        elif n != -errno.EAGAIN:
            fail(n)

    fd = lib.shmq_pollfd(q, READABLE)
    asyncio.get_running_loop().add_reader(fd, on_items)
    # end

    def work(item):
        print(item.decode(), flush=True)
        if item == b'end':
            done.set()

    def fail(n):
        sys.exit(f'error {n}')

    await done.wait()
    asyncio.get_running_loop().remove_reader(fd)
    lib.shmq_close(q)  # after the loop has forgotten it

asyncio.run(main())
