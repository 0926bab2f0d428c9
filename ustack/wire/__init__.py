"""Bytes to numbers and back: pure functions, one `struct.Struct` per header."""

Buffer = bytes | bytearray | memoryview
