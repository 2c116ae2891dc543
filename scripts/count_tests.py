#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Sum up test logs of meson: count_tests.py FILE

FILE has a line for each part: LABEL=testlog.json, or LABEL:pass|fail|skip=WORDS.
A program that speaks TAP counts with each of its points, any other as one test. A
program that ends badly without a failed point counts as one failure. Prints failed
and skipped tests with their reasons, a line for each label, and last
'N passed, N failed, N skipped'. Exit status 0: none failed and at least one passed.
"""
import json
import re
import sys

POINT = re.compile(r'^(not )?ok\b\s*\d*\s*(?:- ?)?(.*?)(?:\s*#\s*(skip|todo)\S*\s*(.*))?$', re.I)
OUTCOMES = {'pass': 'passed', 'fail': 'failed', 'skip': 'skipped'}
GOOD = {'OK', 'EXPECTEDFAIL'}


class Count:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, outcome, where, words=''):
        setattr(self, outcome, getattr(self, outcome) + 1)
        if outcome != 'passed':
            print(f'  {outcome:8} {where}' + (f': {words}' if words else ''))

    def text(self):
        return f'{self.passed} passed, {self.failed} failed, {self.skipped} skipped'


def last_line(test):
    text = (test.get('stderr') or '') + '\n' + (test.get('stdout') or '')
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix('1..0 # SKIP ') if lines else 'no reason given'


def count_points(test, points, where, count):
    bad = 0
    for failed, name, directive, words in points:
        directive = (directive or '').lower()
        if directive == 'skip':
            count.add('skipped', f'{where}: {name}', words or 'no reason given')
        elif failed and directive != 'todo':
            bad += 1
            count.add('failed', f'{where}: {name}')
        else:
            count.add('passed', where)
    if test['result'] not in GOOD | {'SKIP'} and not bad:
        count.add('failed', where, f"{test['result']}, exit status {test.get('returncode')}")


def count_test(label, test, count):
    name = test['name'].split(' / ')[-1]
    where = f'{label}: {name}'
    points = [m.groups() for m in map(POINT.match, (test.get('stdout') or '').splitlines()) if m]
    if points:
        count_points(test, points, where, count)
    elif test['result'] in GOOD:
        count.add('passed', where)
    elif test['result'] == 'SKIP':
        count.add('skipped', where, last_line(test))
    else:
        count.add('failed', where, f"{test['result']}, {last_line(test)}")


def count_log(label, path, count):
    try:
        with open(path, encoding='utf-8', errors='replace') as log:
            tests = [json.loads(line) for line in log if line.strip()]
    except OSError:
        tests = []
    if not tests:
        count.add('failed', label, f'no test was run ({path})')
    for test in tests:
        count_test(label, test, count)


def main(path):
    with open(path, encoding='utf-8') as results:
        parts = results.read().splitlines()
    total = Count()
    lines = []
    for part in parts:
        label, _, value = part.partition('=')
        count = Count()
        label, _, outcome = label.partition(':')
        if outcome:
            count.add(OUTCOMES[outcome], label, value)
        else:
            count_log(label, value, count)
        lines.append(f'  {label:8} {count.text()}')
        total.passed += count.passed
        total.failed += count.failed
        total.skipped += count.skipped
    print('\n'.join(lines))
    print(total.text())
    return 0 if total.passed and not total.failed else 1


sys.exit(main(sys.argv[1]))
