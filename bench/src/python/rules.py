"""Times the reference rules engine: {"context": …, "segment": …, "rounds": …} on each line in, a verdict and the
nanoseconds of one judgement on each line out."""

import json
import sys
import time

from flag_engine.segments.evaluator import get_enriched_context, is_context_in_segment

for line in sys.stdin:
    case = json.loads(line)
    context, segment, rounds = get_enriched_context(case["context"]), case["segment"], range(case["rounds"])
    verdict = is_context_in_segment(context, segment)
    began = time.perf_counter_ns()
    for _ in rounds:
        is_context_in_segment(context, segment)
    print(json.dumps({"verdict": verdict, "ns": (time.perf_counter_ns() - began) / case["rounds"]}), flush=True)
