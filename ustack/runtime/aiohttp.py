"""aiohttp's client over a `Network` (extra `http`).

A server needs nothing of this: `await network.create_server(runner.server, port=80)` after
`runner = web.AppRunner(app)` and `await runner.setup()`.
"""

import asyncio
import ssl as tls
from collections.abc import Callable
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler

from ustack.runtime.network import Network

if TYPE_CHECKING:
    from aiohappyeyeballs import AddrInfoType
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest


class UStackConnector(aiohttp.TCPConnector):
    """Makes the connections of an `aiohttp.ClientSession` on `network`.

    >>> async def fetch(network: Network) -> str:
    ...     async with aiohttp.ClientSession(connector=UStackConnector(network)) as session:
    ...         async with session.get("http://10.9.0.1/") as response:
    ...             return await response.text()

    Names are resolved as aiohttp always does it; `resolver` is for another way.
    """

    def __init__(
        self,
        network: Network,
        *,
        resolver: AbstractResolver | None = None,
        ssl: bool | aiohttp.Fingerprint | tls.SSLContext = True,
        limit: int = 100,
        force_close: bool = False,
    ) -> None:
        super().__init__(resolver=resolver, ssl=ssl, limit=limit, force_close=force_close)
        self._network = network

    async def _wrap_create_connection(  # type: ignore[override]  # aiohttp's has *args: Any
        self,
        protocol_factory: Callable[[], ResponseHandler],
        *,
        addr_infos: "list[AddrInfoType]",
        req: "ClientRequest",
        timeout: "ClientTimeout",
        client_error: type[Exception] = aiohttp.ClientConnectorError,
        ssl: tls.SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        """The one place where aiohttp makes a socket.

        Only the first address is tried: aiohttp comes back with the others.
        """
        host, port = addr_infos[0][4][:2]
        assert isinstance(host, str) and isinstance(port, int)
        try:
            async with asyncio.timeout(timeout.sock_connect):
                if ssl is None:
                    return await self._network.create_connection(protocol_factory, host, port)
                return await self._open_tls(protocol_factory(), host, port, ssl, server_hostname)
        except tls.CertificateError as error:
            raise aiohttp.ClientConnectorCertificateError(req.connection_key, error) from error
        except tls.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(req.connection_key, error) from error
        except TimeoutError as error:
            if error.errno is None:  # ours, not the connection's
                raise
            raise client_error(req.connection_key, error) from error
        except OSError as error:
            raise client_error(req.connection_key, error) from error

    async def _open_tls(
        self,
        protocol: ResponseHandler,
        host: str,
        port: int,
        context: tls.SSLContext,
        server_hostname: str | None,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        raw, _ = await self._network.create_connection(asyncio.Protocol, host, port)
        # Closes the connection when the handshake fails or is cancelled.
        transport = await self._loop.start_tls(
            raw, protocol, context, server_hostname=server_hostname
        )
        assert transport is not None
        protocol.connection_made(transport)
        return transport, protocol
