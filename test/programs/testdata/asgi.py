"""An ASGI application: HTTP and WebSocket."""
import asyncio


async def app(scope, receive, send):
    if scope["type"] == "http":
        await http(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)


async def http(scope, receive, send):
    size, more = 0, True
    while more:
        m = await receive()
        size, more = size + len(m.get("body", b"")), m.get("more_body", False)
    path = scope["raw_path"].decode()
    if path == "/redirect":
        await send({"type": "http.response.start", "status": 302, "headers": [(b"location", b"/echo")]})
        await send({"type": "http.response.body"})
        return
    if path == "/status/204":
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"set-cookie", b"a=b")]})
    cookie = dict(scope["headers"]).get(b"cookie")
    text = f"{scope['method']} {path} {scope['query_string']} {size} {cookie} {scope['client'][0]}\n"
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    for i in range(5):
        await send({"type": "http.response.body", "body": b"%d\n" % i, "more_body": True})
        await asyncio.sleep(0.02)
    await send({"type": "http.response.body"})


async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "echo"})
    while (m := await receive())["type"] == "websocket.receive":
        if m.get("text") == "bye":
            await send({"type": "websocket.close", "code": 4000})
            return
        await send({"type": "websocket.send", **{k: m[k] for k in ("text", "bytes") if m.get(k) is not None}})
