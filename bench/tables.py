#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Markdown tables of what run-all.sh wrote: tables.py DIRECTORY > tables.md"""
import json
import pathlib
import sys

TITLES = {
    'rivals': 'Rivals, throughput',
    'shapes': 'Producers x consumers',
    'sizes': 'Size of an item',
    'depth': 'Items that stay in the queue (who pushes also pops, as many)',
    'idle': 'More processes that are attached and idle',
    'lanes': 'Lanes',
    'last-lane': 'Lanes, all items in the last one',
    'capacity': 'Capacity of a lane',
    'latency': 'Busy round trips through two queues',
    'waits': 'Round trips where both sides wait (futex, eventfd: without a queue)',
    'scenario': 'At work: items offered at a given rate, consumers sleep',
}


def us(value):
    return f'{value:.2f}'


def spread(least, most):
    return f'{us(least)} .. {us(most)}'


def hops(row):
    return f'{min(row["hop_ns"])} .. {max(row["hop_ns"])}'


def throughput(row):
    rates = [rate / 1e6 for rate in row['rates']]
    return {'M/s': us(row['median'] / 1e6), 'least .. most': spread(rates[0], rates[-1]),
            'to ring': row.get('to_ring', ''), 'hop ns': hops(row)}


def latency(row):
    return {'p50 us': us(row['p50_us']),
            'least .. most': spread(row['p50_least_us'], row['p50_most_us']),
            'p99 us': us(row['p99_us']), 'p99.9 us': us(row['p999_us']), 'hop ns': hops(row)}


def wait(row):
    return {'p50 us': us(row['p50_us']),
            'least .. most': spread(row['p50_least_us'], row['p50_most_us']),
            'p99 us': us(row['p99_us']), 'p99.9 us': us(row['p999_us'])}


def scenario(row):
    return {'items/s': round(row['rate']), 'CPU s/s': us(row['cpu']),
            'least .. most': spread(row['cpu_least'], row['cpu_most']),
            'producers': us(row['producers_cpu']), 'consumers': us(row['consumers_cpu']),
            'p50 us': us(row['p50_us']), 'p99 us': us(row['p99_us']),
            'p99.9 us': us(row['p999_us'])}


# What a row measured, and what was measured of it.
KEYS = ['shape', 'batch', 'size', 'lanes', 'capacity', 'depth', 'idle', 'offered', 'seconds',
        'pause_us', 'way', 'contender']
FIGURES = {'throughput': throughput, 'latency': latency, 'wait': wait, 'scenario': scenario}


def table(rows):
    """Keys that have one value in all rows go above the table."""
    for row in rows:
        if 'producers' in row:
            row['shape'] = f'{row["producers"]}x{row["consumers"]}'
    values = {key: {row[key] for row in rows if key in row} for key in KEYS}
    fixed = [key for key in KEYS if len(values[key]) == 1 and key not in ('way', 'contender')]
    columns = [key for key in KEYS if values[key] and key not in fixed]
    if fixed:
        yield ', '.join(f'{key} {min(values[key])}' for key in fixed)
        yield ''
    cells = [{**{key: row.get(key, '') for key in columns}, **FIGURES[row['type']](row)}
             for row in rows]
    heads = [head for head in cells[0] if any(cell[head] != '' for cell in cells)]
    yield '| ' + ' | '.join(heads) + ' |'
    yield '|' + '---|' * len(heads)
    for cell in cells:
        yield '| ' + ' | '.join(str(cell[head]) for head in heads) + ' |'


def complaints(rows):
    """Once for each contender and reason."""
    return sorted({f'{row["contender"]} {row["status"]}: {row["why"]}' for row in rows
                   if row.get('status', 'ok') != 'ok'})


def main():
    directory = pathlib.Path(sys.argv[1])
    print('# Benchmarks')
    for name, title in TITLES.items():
        lines = (directory / f'{name}.jsonl').read_text().splitlines()
        machine, *rows = [json.loads(line) for line in lines]
        good = [row for row in rows if row.get('status', 'ok') == 'ok']
        print(f'\n## {title}\n\n{machine["cpu"]}, {machine["cpus"]} processors, Linux '
              f'{machine["kernel"]}, {machine["arch"]}, load {machine["load"]}\n')
        for line in table(good) if good else ['Nothing could be measured.']:
            print(line)
        for line in complaints(rows):
            print(f'\n{line}')


main()
