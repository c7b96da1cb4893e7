"""An HTTP/1.1 and WebSocket server on aiohttp."""
import asyncio
import sys

from aiohttp import WSMsgType, web


async def echo(request):
    body = await request.read()
    text = f"{request.method} {request.path_qs} {len(body)} {request.headers.get('cookie')} {request.remote}\n"
    response = web.Response(text=text)
    response.set_cookie("a", "b")
    return response


async def redirect(request):
    raise web.HTTPFound("/echo")


async def no_content(request):
    return web.Response(status=204)


async def stream(request):
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b"head\n")
    for i in range(5):
        await response.write(b"%d\n" % i)
        await asyncio.sleep(0.02)
    return response


async def ws(request):
    ws = web.WebSocketResponse(protocols=["echo"])
    await ws.prepare(request)
    async for message in ws:
        if message.type == WSMsgType.TEXT:
            if message.data == "bye":
                await ws.close(code=4000, message=b"asked for")
            else:
                await ws.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await ws.send_bytes(message.data)
    return ws


app = web.Application(client_max_size=10**7)
app.router.add_route("*", "/echo", echo)
app.router.add_get("/redirect", redirect)
app.router.add_get("/status/204", no_content)
app.router.add_get("/stream", stream)
app.router.add_get("/ws", ws)
web.run_app(app, port=int(sys.argv[1]), print=None)
