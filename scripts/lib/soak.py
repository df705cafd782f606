# SPDX-License-Identifier: GPL-2.0-or-later
"""Says what the boots of scripts/rig-soak show, from meson's log of them.

    soak.py LOG

The last line has the number of boots, how many failed, and the largest
probability of a failure that a run like this one leaves possible: with a larger
one, so few failures would come by chance in less than 5 % of such runs.
"""

import json
import math
import sys
from collections import Counter
from pathlib import Path

DOUBT = 0.05


def chance(boots, failed, probability):
    """That at most FAILED of BOOTS fail when each does with PROBABILITY."""
    return sum(math.comb(boots, n) * probability ** n * (1 - probability) ** (boots - n)
               for n in range(failed + 1))


def largest_probability(boots, failed):
    low, high = failed / boots, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if chance(boots, failed, middle) < DOUBT:
            high = middle
        else:
            low = middle
    return high


def main(log):
    boots, failed, seconds = Counter(), Counter(), Counter()
    for line in log.read_text(encoding='utf-8').splitlines():
        test = json.loads(line)
        name = test['name'].split(' / ')[-1]
        boots[name] += 1
        seconds[name] += test['duration']
        if test['result'] != 'OK':
            failed[name] += 1
            print(f'{test["result"].lower()}: {name}')
            for remark in test.get('stdout', '').splitlines()[-40:]:
                print('    ' + remark)
    print(f'{"test":40} boots failed seconds each')
    for name, count in sorted(boots.items()):
        print(f'{name:40} {count:5} {failed[name]:6} {seconds[name] / count:12.1f}')
    most = largest_probability(boots.total(), failed.total())
    print(f'{boots.total()} boots, {failed.total()} failed: with 95 % confidence '
          f'fewer than {100 * most:.1f} % fail')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main(Path(sys.argv[1])))
