// HTTP/1.1 and WebSocket at 8000, HTTP/2 without TLS at 8001, and at 8002 and 8003
// with few streams at once.
'use strict';
const http = require('http');
const http2 = require('http2');
const { WebSocketServer } = require('ws');

const hanging = { 1: 0, 2: 0 }; // by the version of HTTP

function answer(req, res) {
  let size = 0;
  if (req.url === '/early') { res.writeHead(413); res.end(); return; }
  if (req.url === '/hang') {
    hanging[req.httpVersionMajor] += 1;
    res.on('close', () => { hanging[req.httpVersionMajor] -= 1; });
    if (req.headers['x-part']) res.write('part');
    return;
  }
  req.on('data', (d) => { size += d.length; });
  req.on('end', () => {
    res.setHeader('x-seen', `${req.method} ${req.url} ${size}`);
    if (req.url === '/trailers') {
      if (req.httpVersion === '1.1') {
        res.setHeader('trailer', 'x-sum');
        res.write('body');
        res.addTrailers({ 'x-sum': '7' });
      } else {
        res.write('body');
        res.addTrailers({ 'x-sum': '7' });
      }
      res.end();
    } else if (req.url === '/hints') {
      res.writeEarlyHints({ link: '</a.css>; rel=preload' });
      setTimeout(() => res.end('after hints'), 50);
    } else if (req.url === '/hanging') {
      res.end(`${hanging[req.httpVersionMajor]}`);
    } else if (req.url.startsWith('/slow')) {
      setTimeout(() => res.end('slow'), 20);
    } else if (req.url === '/big') {
      res.end('b'.repeat(2000000));
    } else if (req.url === '/abort') {
      res.write('part');
      setTimeout(() => (res.stream ? res.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR) : res.destroy()), 100);
    } else {
      res.end(`from ${req.socket.remoteAddress.replace('::ffff:', '')}`);
    }
  });
}

const one = http.createServer(answer);
one.on('checkContinue', (req, res) => {
  if (req.url === '/refuse') { res.writeHead(417); res.end(); return; }
  res.writeContinue();
  answer(req, res);
});
const wss = new WebSocketServer({ server: one, perMessageDeflate: true });
wss.on('connection', (ws) => {
  ws.on('message', (m, binary) => (String(m) === 'bye' ? ws.close(4000, 'asked for') : ws.send(m, { binary })));
});
one.listen(8000, '::');
http2.createServer(answer).listen(8001, '::');
http2.createServer({ settings: { maxConcurrentStreams: 1 } }, answer).listen(8002, '::');
http2.createServer({ settings: { maxConcurrentStreams: 20 } }, answer).listen(8003, '::');
