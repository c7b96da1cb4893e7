import asyncio
import sys
import time

import nats


async def main():
    nc = await nats.connect(sys.argv[1])
    prefix = f"t{time.time_ns()}"
    sub = await nc.subscribe(f"{prefix}.*")
    for size in 0, 1, 1000, 1000000:
        await nc.publish(f"{prefix}.a", b"x" * size)
        print(len((await sub.next_msg(20)).data))

    async def answer(m):
        await m.respond(b"answer to " + m.data)

    other = await nats.connect(sys.argv[1])
    await other.subscribe(f"{prefix}-ask", queue="q", cb=answer)
    await other.flush()
    print(sorted((await asyncio.gather(*(nc.request(f"{prefix}-ask", b"%d" % i, timeout=20) for i in range(200))))[7].data.split()))
    try:
        await nc.request(f"{prefix}-nobody", b"", timeout=20)
    except nats.errors.NoRespondersError:
        print("no responders")

    js = nc.jetstream(timeout=20)
    await js.add_stream(name=prefix, subjects=[f"{prefix}-stream"])
    for i in range(100):
        await js.publish(f"{prefix}-stream", b"%d" % i)
    pull = await js.pull_subscribe(f"{prefix}-stream", "durable")
    messages = await pull.fetch(100, timeout=20)
    for m in messages:
        await m.ack()
    print(len(messages), messages[-1].data)
    await js.delete_stream(prefix)
    await other.drain()
    await nc.drain()


asyncio.run(main())
