#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every benchmark runs, verifies what it moves, and prints what it should.

test_bench.py RUN_ALL BUILD
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

run_all, build = sys.argv[1:]
bench = pathlib.Path(build) / 'bench'
HERE = {'shmq', 'ring', 'mutex', 'pipe', 'mqueue'}
MAYBE = {'ck', 'rte', 'boost', 'moodycamel', 'segqueue', 'vecdeque'}
nr = bad = 0


def report(what, faults):
    global nr, bad
    nr += 1
    bad += bool(faults)
    for fault in faults:
        print('#', fault)
    print(f"{'not ok' if faults else 'ok'} {nr} - {what}", flush=True)


def run(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=False)


def faults_of(row):
    """A row is measured and verified, or skipped with a reason that may be."""
    name = row.get('contender')
    if row['status'] == 'skipped':
        why = row['why']
        if name in MAYBE and (why.startswith('not built (needs ') or 'only items' in why):
            return
        if name == 'mqueue' and 'mq_open is refused' in why:
            return
        yield f'skipped: {row}'
    elif row['status'] != 'ok':
        yield f'failed: {row}'
    elif row['checked'] < 1:
        yield f'nothing was checked: {row}'


def distinct(rows, *keys):
    return {tuple(row[key] for key in keys) if len(keys) > 1 else row[keys[0]] for row in rows}


# What every part must have measured.
EXPECTED = {
    'rivals': (('contender', 'producers', 'consumers', 'batch'),
               {(name, n, n, batch) for name in HERE | MAYBE for n in (1, 2)
                for batch in (1, 16)}),
    'shapes': (('producers', 'consumers'), {(1, 2), (2, 1)}),
    'sizes': (('contender', 'size'),
              {(name, size) for name in ('shmq', 'ring') for size in (8, 64, 65536)}),
    'depth': (('depth',), {10, 1000}),
    'idle': (('idle',), {0, 10}),
    'lanes': (('lanes', 'last_lane'), {(1, 0), (8, 0)}),
    'last-lane': (('lanes', 'batch', 'last_lane'), {(1, 1, 1), (1, 32, 1), (8, 1, 1), (8, 32, 1)}),
    'capacity': (('capacity',), {64, 4096}),
    'latency': (('contender',), HERE | MAYBE),
    'scenario': (('contender',), {'shmq', 'pipe', 'mqueue', 'boost'}),
}


def check_parts(directory):
    for part, (keys, expected) in EXPECTED.items():
        lines = (directory / f'{part}.jsonl').read_text().splitlines()
        machine, *rows = [json.loads(line) for line in lines]
        faults = [fault for row in rows for fault in faults_of(row)]
        if machine['type'] != 'machine' or machine['cpus'] != os.cpu_count():
            faults.append(f'not this machine: {machine}')
        if distinct(rows, *keys) != expected:
            faults.append(f'measured {distinct(rows, *keys)}, not {expected}')
        for row in rows:
            if row['status'] == 'ok' and 'p50_us' in row and \
                    not 0 < row['p50_us'] <= row['p99_us'] <= row['p999_us']:
                faults.append(f'no percentiles: {row}')
        report(part, faults)


def check_waits(directory):
    rows = [json.loads(line) for line in (directory / 'waits.jsonl').read_text().splitlines()]
    ways = {row['way'] for row in rows[1:] if row['p50_us'] > 0}
    missing = {'futex', 'eventfd', 'pop', 'wait_any', 'pollfd'} - ways
    report('waits', [f'no {way}' for way in missing])


def check_tables(directory):
    text = (directory / 'tables.md').read_text()
    faults = []
    for head in ('| shape | batch | contender | M/s |', '| shape | depth |', '| idle |',
                 '| shape | lanes |', '| shape | batch | lanes |', '| shape | capacity |',
                 '| shape | size |', '| contender | p50 us |', '| pause_us | way |',
                 '| contender | items/s |'):
        if head not in text:
            faults.append(f'no table that begins with {head}')
    for row in (json.loads(line) for line in (directory / 'rivals.jsonl').open()):
        if row.get('status') == 'skipped' and \
                f'{row["contender"]} skipped: {row["why"]}' not in text:
            faults.append(f'not said: {row}')
    report('tables', faults)


def check_plots(directory):
    faults = []
    for part in EXPECTED:
        if part in ('latency', 'scenario'):
            continue
        tree = xml.etree.ElementTree.parse(directory / f'{part}.svg')
        bars = len(tree.findall('{http://www.w3.org/2000/svg}rect')) - 1
        rows = [json.loads(line) for line in (directory / f'{part}.jsonl').open()]
        good = sum(row.get('status') == 'ok' for row in rows)
        if bars != good:
            faults.append(f'{part}: {bars} bars for {good} rows')
    report('plots', faults)


def check_text():
    faults = []
    for command, word in ((('bench_throughput', '--runs', 1, '--duration', 0.01, '-s', '1x1'),
                           'median'),
                          (('bench_latency', '--runs', 1, '--rounds', 100), 'p99.9'),
                          (('bench_scenario', '--runs', 1, '--duration', 0.01), 'all CPU'),
                          (('bench_waits', 1, 5), 'p99.9 us')):
        done = run(bench / command[0], *command[1:])
        for wanted in (word, 'shmq' if command[0] != 'bench_waits' else 'pollfd', 'machine  '):
            if done.returncode or wanted not in done.stdout:
                faults.append(f'{command}: status {done.returncode}, no {wanted}: {done}')
    report('tables for people', faults)


def check_refusals():
    faults = []
    for command in (('bench_throughput', '-c', 'nobody'), ('bench_throughput', '-z', 12),
                    ('bench_throughput', '-s', '0x1'), ('bench_throughput', '-s', '63x1'),
                    ('bench_throughput', '-s', '2x1', '--depth', 10),
                    ('bench_throughput', '--lanes', '1,9'),
                    ('bench_latency', '-z', 4), ('bench_latency', '--rounds', 0),
                    ('bench_scenario', '-z', 16), ('bench_scenario', '-s', '8x'),
                    ('bench_waits', 0)):
        done = run(bench / command[0], *command[1:])
        if done.returncode != 64 or done.stdout:
            faults.append(f'{command}: {done}')
    done = run(run_all, '--quick', '/nowhere', '/nowhere')
    if done.returncode != 64:
        faults.append(f'run-all.sh: {done}')
    report('wrong options are refused', faults)


def main():
    with tempfile.TemporaryDirectory(prefix='shmq-test.', dir='/dev/shm') as name:
        directory = pathlib.Path(name)
        os.environ['SHMQ_DIR'] = name
        done = run(run_all, '--blink', build, directory / 'out')
        report('run-all.sh', [done.stderr] if done.returncode else [])
        if not done.returncode:
            check_parts(directory / 'out')
            check_waits(directory / 'out')
            check_tables(directory / 'out')
            check_plots(directory / 'out')
        check_text()
        check_refusals()
        left = [path.name for path in directory.iterdir() if path.name != 'out']
        left += [path.name for path in pathlib.Path('/dev/shm').glob('shmq-bench-boost-*')]
        report('nothing is left behind', left)
    print(f'1..{nr}')
    return bad != 0


sys.exit(main())
