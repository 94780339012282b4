"""Names of parametrised tests."""

import re


def name_of(value: object) -> str:
    """What a parameter is, without addresses in memory: each process of a run has others."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))[:60]
