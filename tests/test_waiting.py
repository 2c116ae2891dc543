#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every way of waiting that README.md shows is run, as the example it is taken from.

test_waiting.py README TOOLS WITHOUT EXAMPLE...

A recipe stands in examples/waiting/* between 'README: NAME' and 'end', in comments; the
same lines must be in the README. Each EXAMPLE is started, sleeps, and has to print what
shmq-push then sends, in order; once more where inotify and futex_waitv are refused.
"""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time

readme, tools, without, *examples = sys.argv[1:]
sources = pathlib.Path(readme).parent / 'examples/waiting'
PATIENCE = 60  # seconds: longer is a stall
nr = bad = 0


def report(ok, what, why=''):
    global nr, bad
    nr += 1
    bad += not ok
    for line in why.splitlines():
        print('#', line)
    print(f"{'ok' if ok else 'not ok'} {nr} - {what}", flush=True)


def recipes(path):
    text = path.read_text()
    for m in re.finditer(r'^\s*(?:/\*|#) README: ([^*\n]*?)(?: \*/)?\n(.*?)'
                         r'^\s*(?:/\*|#) end(?: \*/)?\n', text, re.S | re.M):
        yield m[1], textwrap.dedent(m[2].replace('\t', ' ' * 8)).strip('\n')


def check_readme():
    text = pathlib.Path(readme).read_text()
    for path in sorted(sources.glob('wait_*')):
        found = list(recipes(path))
        missing = [name for name, body in found if body not in text]
        report(found and not missing, f'the README has what {path.name} does',
               '\n'.join(f'not there as it is in {path.name}: {name}' for name in missing))


class Run:
    """One example at work on its queues, in a directory of its own."""

    def __init__(self, example, prefix, env):
        self.name = os.path.basename(example)
        self.queues = ['a', 'b'] if self.name in ('wait_epoll', 'wait_any', 'wait_uring') else ['a']
        self.dir = tempfile.mkdtemp(dir='/dev/shm', prefix='waiting.')
        self.socket = f'{self.dir}/socket'
        self.sent = {q: [] for q in self.queues}
        os.environ['SHMQ_DIR'] = self.dir
        for q in self.queues:
            subprocess.run([f'{tools}/shmq-create', q, '--lane', 'only:1K', '-q'], check=True)
        self.push('a', ['early'])
        args = prefix + [example] + self.queues
        if self.name == 'wait_uring':
            args.append(self.socket)
        self.out = open(f'{self.dir}/out', 'w')
        self.process = subprocess.Popen(args, env={**os.environ, **env}, stdout=self.out,
                                        stderr=subprocess.STDOUT)

    def push(self, q, lines):
        self.sent[q] += lines
        subprocess.run([f'{tools}/shmq-push', q], input='\n'.join(lines) + '\n', text=True,
                       check=True, timeout=PATIENCE)

    def lines(self):
        return pathlib.Path(self.out.name).read_text().splitlines()

    def until(self, what, true):
        end = time.monotonic() + PATIENCE
        while not true():
            if time.monotonic() > end or self.process.poll() is not None:
                raise RuntimeError(f'{what}: exit status {self.process.poll()}, ' +
                                   f'last lines {self.lines()[-3:]}')
            time.sleep(0.01)

    def datagram(self):
        self.until('no socket', lambda: os.path.exists(self.socket))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.connect(self.socket)
            s.send(b'hello')
        self.until('no datagram', lambda: 'socket: hello' in self.lines())
        self.until('no tick', lambda: 'tick' in self.lines())

    def work(self):
        for i in range(10):
            time.sleep(0.02)  # it falls asleep
            for q in self.queues:
                self.push(q, [f'{q} {i} {k}' for k in range(i * i)] + [f'{q} {i}'])
        if self.name == 'wait_uring':
            self.datagram()
        # Between queues there is no order: all else is to be out before the end.
        for q in self.queues:
            self.until('an item is missing', lambda q=q: self.sent[q][-1] in self.lines())
        self.push('a', ['end'])
        if self.process.wait(PATIENCE) != 0:
            raise RuntimeError(f'exit status {self.process.returncode}')
        for q in self.queues:
            got = [x for x in self.lines() if x[:1] == q or x in ('early', 'end')]
            if q != 'a':
                got = [x for x in got if x[:1] == q]
            if got != self.sent[q]:
                i = next(i for i, x in enumerate(got + [None]) if x != (self.sent[q] + [''])[i])
                raise RuntimeError(f'queue {q}: {len(got)} of {len(self.sent[q])} items, not the '
                                   f'same from {i} on: {got[i:i + 3]}, {self.sent[q][i:i + 3]}')

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.out.close()
        shutil.rmtree(self.dir)


def check_example(example, how, prefix, env):
    name = os.path.basename(example)
    what = f'{name} prints what comes{how}'
    run = Run(example, prefix, env)
    try:
        run.work()
        report(True, what)
    except (RuntimeError, subprocess.SubprocessError, OSError) as e:
        if run.process.poll() == 77:
            report(True, f'{what} # SKIP no io_uring here')
        else:
            report(False, what, str(e))
    finally:
        run.close()


check_readme()
for path in examples:
    check_example(path, '', [], {})
    if path.endswith('uring'):
        check_example(path, ', by POLL_ADD', [], {'SHMQ_URING': 'poll'})
    check_example(path, ', where the kernel gives less', [without, 'inotify,futex_waitv'], {})
print(f'1..{nr}')
sys.exit(bad > 0)
