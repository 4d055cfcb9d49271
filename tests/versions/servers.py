"""Real servers on loopback, for remotes: S3 by moto, ssh by asyncssh."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

USER, KEY_FILE, BUCKET = "ada", "key", "lorweb-store"


@contextmanager
def s3_server(host: str = "127.0.0.1") -> Iterator[str]:
    """Address of an S3 server that has the bucket and nothing in it."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line per request
    server = ThreadedMotoServer(ip_address=host, port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        client.create_bucket(Bucket=BUCKET)
        yield address
    finally:
        server.stop()


@contextmanager
def ssh_server(folder: Path) -> Iterator[int]:
    """Port of an ssh server with SFTP, on which USER may log in with the key in `folder`/KEY_FILE."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(str(folder / KEY_FILE))
    (folder / KEY_FILE).chmod(0o600)
    allowed = asyncssh.import_authorized_keys(key.export_public_key().decode())
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def listen() -> Any:
        host_key = asyncssh.generate_private_key("ssh-ed25519")
        return await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[host_key], authorized_client_keys=allowed, sftp_factory=True
        )

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(30)

    async def close() -> None:
        server.close()
        await server.wait_closed()

    try:
        yield server.get_port()
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
