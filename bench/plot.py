#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A picture of one file of JSON lines of bench_throughput: plot.py FILE.jsonl > FILE.svg

Bars are medians in millions of items per second, thin lines go from the least to the most.
"""
import html
import json
import sys

BAR, GAP, LEFT, RIGHT, TOP, WIDTH = 13, 14, 150, 60, 40, 760
KEYS = ['size', 'lanes', 'capacity', 'depth', 'idle', 'batch']
COLOURS = {'shmq': '#c0392b', 'ring': '#2c3e50'}
OTHERS = '#95a5a6'


def groups(rows):
    """[(title, rows)]: a group for each shape and whatever else differs."""
    varied = [key for key in KEYS if len({row[key] for row in rows}) > 1]
    found = {}
    for row in rows:
        title = ', '.join([f'{row["producers"]}x{row["consumers"]}'] +
                          [f'{key} {row[key]}' for key in varied])
        found.setdefault(title, []).append(row)
    return list(found.items())


def draw(rows, machine):
    parts = groups(rows)
    most = max(max(row['rates']) for row in rows)
    scale = (WIDTH - LEFT - RIGHT) / most
    height = TOP + sum(len(group) * BAR + GAP + BAR for _, group in parts)
    yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
           'font-family="sans-serif" font-size="11">')
    yield f'<rect width="{WIDTH}" height="{height}" fill="white"/>'
    yield (f'<text x="8" y="18">millions of items per second; {html.escape(machine["cpu"])}, '
           f'{machine["cpus"]} processors</text>')
    y = TOP
    for title, group in parts:
        yield f'<text x="8" y="{y + 10}" font-weight="bold">{html.escape(title)}</text>'
        y += BAR
        for row in group:
            least, middle, top = (LEFT + scale * rate for rate in
                                  (min(row['rates']), row['median'], max(row['rates'])))
            name = row['contender']
            yield (f'<text x="{LEFT - 6}" y="{y + 10}" text-anchor="end">{name}</text>'
                   f'<rect x="{LEFT}" y="{y + 1}" width="{middle - LEFT:.1f}" '
                   f'height="{BAR - 3}" fill="{COLOURS.get(name, OTHERS)}"/>'
                   f'<path d="M{least:.1f} {y + BAR / 2 - 0.5}H{top:.1f}" stroke="black"/>'
                   f'<text x="{top + 4:.1f}" y="{y + 10}">{row["median"] / 1e6:.1f}</text>')
            y += BAR
        y += GAP
    yield '</svg>'


def main():
    with open(sys.argv[1], encoding='utf-8') as lines:
        machine, *rows = [json.loads(line) for line in lines]
    rows = [row for row in rows if row.get('status', 'ok') == 'ok']
    print('\n'.join(draw(rows, machine)))


main()
