"""asyncio around the stack: the event loop, transports, streams, whole networks.

Logs below "ustack", and is silent until the application configures logging.
"""

import logging

logging.getLogger("ustack").addHandler(logging.NullHandler())
