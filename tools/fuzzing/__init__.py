"""The fuzzers: a stack in virtual time, what is thrown at it, and what must hold all the same."""
