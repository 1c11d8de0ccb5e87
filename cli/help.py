"""The first screen: what to type first, then every command by what it is for. Fits 80 x 24."""

OVERVIEW = """\
Analyse LLM-serving traces and test scaling and routing policies, all offline.

  lmaas analyze trace.parquet        what does my traffic look like?
  lmaas evaluate --policy preserve   at what cost, and would users have waited?

Understand  ingest     read a trace of any format into the workspace
            validate   can a trace be trusted, and what would make it better?
            analyze    load, lengths, latencies and reuse of a trace
            forecast   demand to come, with intervals and how far off it was
Decide      evaluate   replay a trace through policies and their baselines
            compare    two evaluations: what changed, and is it too much?
            report     stored runs' report again, names redacted where asked
Model       train      learn to predict output lengths, and how well that goes
            predict    the output length of every request, by such a model
            calibrate  a GPU profile from a log with observed latencies
            synth      draw a synthetic trace
Lists       policies  profile  runs  traces       Set-up  config  doctor  init

Options: -q -v --no-color --config FILE --version --install-completion
Without TRACE: the one last ingested or analysed, else the bundled sample.
One command: lmaas COMMAND --help. Exit codes: 0 done, 2 usage, 3 gate failed,
4 trace, 5 configuration, 6 infeasible, 7 partial, 8 environment, 1 a bug.
"""
