"""ustack: a TCP/IP stack in user space."""
