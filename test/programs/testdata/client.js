'use strict';
const http = require('http');
const http2 = require('http2');
const WebSocket = require('ws');

const [, , kind, host, port, file = '/slow'] = process.argv;
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

// More requests at once than the server allows: they wait.
async function few() {
  const session = http2.connect(`http://${authority}`);
  session.on('error', (e) => console.log('session', e.code));
  await new Promise((resolve) => { session.on('remoteSettings', resolve); });
  const all = await Promise.all([...Array(100).keys()].map((i) => stream(session, { ':path': `${file}?${i}` })));
  const count = {};
  all.forEach((e) => { count[e[0]] = (count[e[0]] || 0) + 1; });
  console.log(count);
  session.close();
}

// Uploads that are answered early, each followed by a request of another connection.
async function early() {
  for (let i = 0; i < 20; i++) {
    await request(false, 'POST', '/early', {}, Buffer.alloc([400000, 1000000, 2000000, 4000000][i % 4]));
    console.log(JSON.stringify(await request(false, 'POST', '/b', {}, 'ab')));
  }
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// Prints how many requests still hang at the server, a moment after.
async function told(ask) {
  let hanging;
  for (let i = 0; i < 100 && hanging !== '0'; i++) {
    await pause(20);
    hanging = await ask();
  }
  console.log('still hanging', hanging);
}

// Clients that go before the answer, or in its midst.
async function leave() {
  for (let i = 0; i < 10; i++) {
    const req = http.request({ agent: false, host, port, path: '/hang', headers: i % 2 ? { 'x-part': 1 } : {} });
    req.on('error', () => {});
    if (i % 2) req.on('response', (res) => { res.on('error', () => {}); res.resume(); });
    req.end();
    setTimeout(() => req.destroy(), 300);
  }
  await pause(400);
  await told(async () => (await fetch(`http://${authority}/hanging`)).text());
}

async function leaveHttp2() {
  const session = http2.connect(`http://${authority}`);
  const other = http2.connect(`http://${authority}`);
  for (const s of [session, other]) s.on('error', (e) => console.log('session', e.code));
  for (let i = 0; i < 20; i++) {
    const s = (i < 10 ? session : other).request({ ':path': '/hang', ...(i % 2 ? { 'x-part': 1 } : {}) });
    s.on('error', () => {});
    s.resume();
    if (i < 10) setTimeout(() => s.close(http2.constants.NGHTTP2_CANCEL), 300);
  }
  setTimeout(() => other.destroy(), 300);
  await pause(400);
  await told(() => new Promise((resolve) => {
    let text = '';
    const s = session.request({ ':path': '/hanging' });
    s.setEncoding('utf8');
    s.on('data', (d) => { text += d; });
    s.on('error', (e) => { text = e.code; });
    s.on('close', () => resolve(text));
  }));
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

({ http: http1, http2: two, abort, few, early, leave, leaveHttp2, ws, fetch: withFetch })[kind]();
