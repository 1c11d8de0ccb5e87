"""The autoscalers users run today, each a policy by its published rule; a file each, listed in `policies.registry`.

They see what their originals see (counts, queues, KV use, latencies of a pool) and answer a count of replicas.
No forecasts of ours and no request predictions live here.
"""
