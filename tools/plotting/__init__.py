"""Time-sequence graphs of captures and traces: `tools/plot-trace`."""
