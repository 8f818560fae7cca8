"""From single durations to the figures that are printed. Milliseconds; sizes in MB of 1,000,000 bytes."""
from pathlib import Path

ATTACH_SERVICE_STEPS = ('CreateAttachment', 'UpdateAttachment', 'CompleteAttachment')
DETACH_SERVICE_STEPS = ('DeleteAttachment',)


def percentile(values, share):
    """Linear between the two nearest ranks."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * share
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def spread(values):
    return {'p50': round(percentile(values, 0.5), 2), 'p95': round(percentile(values, 0.95), 2)}


def median(values):
    return round(percentile(values, 0.5), 2)


def times(verb, prefix, operations, floors, service_floors, service_steps):
    """All times of one verb. `operations` as `bowline --json` shows them."""
    total = [operation['duration_us'] / 1000 for operation in operations]
    in_service = [
        sum(step['duration_us'] for step in operation['steps'] if step['name'] in service_steps) / 1000
        for operation in operations
    ]
    overhead = percentile(total, 0.5) - percentile(floors, 0.5)
    return {
        f'{verb}_ms': spread(total),
        f'{verb}_floor_ms': spread(floors),
        f'{verb}_overhead_ms': round(overhead, 2),
        f'{prefix}service_ms': spread(in_service),
        f'{prefix}service_floor_ms': spread(service_floors),
        f'{prefix}agent_own_overhead_ms': round(overhead - percentile(in_service, 0.5), 2),
    }


def steps(operations):
    """{step: spread}, in the order of the steps."""
    durations = {}
    for operation in operations:
        for step in operation['steps']:
            durations.setdefault(step['name'], []).append(step['duration_us'] / 1000)
    return {name: spread(values) for name, values in durations.items()}


def memory(pid):
    """Of one process: what is resident, the part that is its own memory, and its share of what it shares."""
    fields = {}
    for line in Path(f'/proc/{pid}/smaps_rollup').read_text().splitlines()[1:]:
        name, _, rest = line.partition(':')
        fields[name] = int(rest.split()[0]) * 1024 / 1e6
    return {f'{key}_mb': round(fields[name], 2) for key, name in (('rss', 'Rss'), ('rss_anon', 'Anonymous'), ('pss', 'Pss'))}
