import asyncio
import sys

import aiohttp

base = sys.argv[1]


async def chunks():
    for i in range(20):
        yield b"x" * 1000
        await asyncio.sleep(0.005)


async def main():
    async with aiohttp.ClientSession() as s:
        answers = await asyncio.gather(*(get(s, i) for i in range(50)))
        print(sorted(answers)[:2], len(set(answers)))
        async with s.post(base + "/echo", data=chunks()) as r:
            print(r.status, (await r.text()).split()[:3])
        async with s.get(base + "/stream") as r:
            print(await r.text())
        async with s.ws_connect(base + "/ws", protocols=["echo"]) as ws:
            for n in 0, 125, 126, 70000, 300000:
                await ws.send_bytes(b"y" * n)
                print(len((await ws.receive()).data))
            await ws.send_str("bye")
            m = await ws.receive()
            print(m.type, m.data, m.extra, ws.protocol)


async def get(s, i):
    async with s.get(f"{base}/echo?{i}") as r:
        return await r.text()


asyncio.run(main())
