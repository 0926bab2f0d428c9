"""A network of two hosts in virtual time, and random scenarios on it: `tools/sim`, tests/netsim."""
