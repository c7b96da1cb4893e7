'use strict';
const http = require('http');
const http2 = require('http2');
const WebSocket = require('/usr/share/nodejs/ws');

const [, , kind, host, port] = process.argv;
const authority = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
const shown = (h) => h && { seen: h['x-seen'], length: h['content-length'], encoding: h['transfer-encoding'] };

function request(agent, method, path, headers, body) {
  return new Promise((resolve) => {
    const events = [];
    const req = http.request({ agent, host, port, method, path, headers });
    req.on('continue', () => { events.push('100'); req.end(body); });
    req.on('information', (i) => events.push(`${i.statusCode} ${i.headers.link || ''}`));
    req.on('error', (e) => { events.push(e.code); resolve(events); });
    req.on('response', (res) => {
      let size = 0;
      events.push(res.statusCode, shown(res.headers));
      res.on('data', (d) => { size += d.length; });
      res.on('error', (e) => events.push(e.code));
      res.on('close', () => { events.push(size, res.complete, res.trailers); resolve(events); });
    });
    if (headers.expect) req.flushHeaders(); else req.end(body);
  });
}

async function http1() {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 3 });
  const show = async (...args) => console.log(args[0], args[1], JSON.stringify(await request(agent, ...args)));
  await show('GET', '/a', {}, undefined);
  await show('POST', '/b', {}, Buffer.alloc(300000));
  await show('POST', '/continue', { expect: '100-continue', 'content-length': 5 }, 'hello');
  await show('POST', '/refuse', { expect: '100-continue', 'content-length': 5 }, 'hello');
  await show('GET', '/trailers', { te: 'trailers' });
  await show('GET', '/hints', {});
  await show('GET', '/big', {});
  await show('HEAD', '/big', {});
  const all = await Promise.all([...Array(30).keys()].map((i) => request(agent, 'GET', `/n${i}`, {})));
  console.log(all.filter((e) => e[0] === 200).length);
  agent.destroy();
}

async function abort() {
  console.log(JSON.stringify(await request(undefined, 'GET', '/abort', {})));
}

function stream(session, headers, body) {
  return new Promise((resolve) => {
    const events = [];
    let size = 0;
    const s = session.request(headers, { endStream: body === undefined });
    s.on('headers', (h) => events.push(h[':status']));
    s.on('response', (h) => events.push(h[':status'], shown(h)));
    s.on('trailers', (h) => events.push(`trailers ${h['x-sum']}`));
    s.on('data', (d) => { size += d.length; });
    s.on('error', (e) => events.push(e.code));
    s.on('close', () => { events.push(size, s.rstCode); resolve(events); });
    if (body !== undefined) s.end(body);
  });
}

async function two() {
  const session = http2.connect(`http://${authority}`);
  session.on('error', (e) => console.log('session', e.code));
  const show = async (h, body) => console.log(h[':path'], JSON.stringify(await stream(session, h, body)));
  await show({ ':path': '/a' });
  await show({ ':path': '/b', ':method': 'POST' }, Buffer.alloc(300000));
  await show({ ':path': '/trailers', te: 'trailers' });
  await show({ ':path': '/hints' });
  await show({ ':path': '/big' });
  await show({ ':path': '/abort' });
  const all = await Promise.all([...Array(50).keys()].map((i) => stream(session, { ':path': `/n${i}` })));
  console.log(all.filter((e) => e[0] === 200).length);
  await new Promise((resolve) => { session.ping((err, ms, payload) => { console.log('ping', err, payload.length); resolve(); }); });
  session.close();
}

function ws() {
  const sizes = [0, 125, 126, 65536, 500000];
  const w = new WebSocket(`ws://${authority}/`);
  w.on('open', () => { console.log('open', w.extensions); sizes.forEach((n) => w.send(Buffer.alloc(n, 'q'))); });
  w.on('message', (m) => { console.log(m.length); if (sizes.shift() === 500000) w.send('bye'); });
  w.on('close', (code, reason) => console.log('close', code, String(reason)));
  w.on('error', (e) => console.log('error', e.message));
}

async function withFetch() {
  for (const [path, options] of [['/a', {}], ['/b', { method: 'POST', body: 'hello' }], ['/big', {}], ['/trailers', {}]]) {
    const r = await fetch(`http://${authority}${path}`, options);
    console.log(r.status, r.headers.get('x-seen'), (await r.text()).length);
  }
  const body = new ReadableStream({ start(c) { for (let i = 0; i < 10; i++) c.enqueue(Buffer.alloc(1000)); c.close(); } });
  const r = await fetch(`http://${authority}/chunked`, { method: 'POST', body, duplex: 'half' });
  console.log(r.status, r.headers.get('x-seen'));
}

({ http: http1, http2: two, abort, ws, fetch: withFetch })[kind]();
