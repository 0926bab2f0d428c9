"""Many connections, one host. No IO, no clock: frames and times come in as arguments."""
