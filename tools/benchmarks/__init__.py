"""The measurements behind the numbers in README.md; `tools/bench` runs them.

Owns: a neutral client on kernel sockets, the same services on the kernel and on ustack, and the
table that puts the two beside each other. A figure without its kernel figure of the same minute
means little, because machines and minutes differ; the ratio is what to compare.
"""
