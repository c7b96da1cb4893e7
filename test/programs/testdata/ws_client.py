import asyncio
import sys

import websockets


async def main():
    async with websockets.connect(sys.argv[1], subprotocols=["echo"], max_size=None) as ws:
        print(ws.subprotocol, ws.response.headers.get("sec-websocket-extensions"))
        for n in 1, 125, 126, 65536, 1000000:
            await ws.send("z" * n)
            print(len(await ws.recv()))
        await asyncio.gather(*(ws.send(str(i)) for i in range(100)))
        print([await ws.recv() for _ in range(100)][-1])
        await (await ws.ping())
        await asyncio.sleep(0.5)
        await ws.send("bye")
        try:
            await ws.recv()
        except websockets.ConnectionClosed as e:
            print(e.code, e.reason)


asyncio.run(main())
