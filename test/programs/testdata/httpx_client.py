import asyncio
import collections
import sys

import httpx


async def main():
    async with httpx.AsyncClient(http1=False, http2=True, timeout=30, base_url=sys.argv[1], trust_env=False) as c:
        r = await c.get("/a")
        print(r.http_version, r.status_code, r.headers.get("x-seen"))
        r = await c.post("/b", content=b"x" * 300000)
        print(r.status_code, r.headers.get("x-seen"))
        answers = await asyncio.gather(*(c.get(f"/slow?{i}") for i in range(30)), return_exceptions=True)
        print(collections.Counter(getattr(r, "status_code", type(r).__name__) for r in answers))


asyncio.run(main())
