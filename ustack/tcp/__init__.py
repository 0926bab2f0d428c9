"""RFC 9293. Knows no IP header, no device, no clock and no event loop."""
