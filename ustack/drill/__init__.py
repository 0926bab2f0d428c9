"""packetdrill scripts, played on ustack: lexer, parser, player on a virtual clock, matcher."""
