"""ustack beside the kernel over one bad link, in real time: `tools/compare-goodput`."""
