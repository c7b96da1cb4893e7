'use strict';
const grpc = require('@grpc/grpc-js');

const client = new grpc.Client(process.argv[2], grpc.credentials.createInsecure());
const same = (m) => m;
const soon = () => ({ deadline: Date.now() + 10000 });

function unary(method, request, metadata = new grpc.Metadata(), options = soon()) {
  return new Promise((resolve) => {
    const seen = {};
    const call = client.makeUnaryRequest(`/test.Test/${method}`, same, same, request, metadata, options, (err, answer) => {
      seen.answer = err ? [err.code, err.details] : answer;
    });
    call.on('metadata', (m) => { seen.head = m.getMap(); });
    call.on('status', (s) => { seen.trailer = s.metadata.getMap(); setImmediate(() => resolve(seen)); });
  });
}

async function main() {
  for (const size of [0, 1000, 1000000, 4000000]) console.log((await unary('Echo', Buffer.alloc(size))).answer.length);
  for (const code of ['5', '16']) console.log((await unary('Fail', Buffer.from(code))).answer);
  console.log((await unary('None', Buffer.alloc(0))).answer);
  const metadata = new grpc.Metadata();
  metadata.add('some-bin', Buffer.from([0, 1, 255, 10]));
  metadata.add('some', 'a');
  metadata.add('some', 'b, c');
  const meta = await unary('Meta', Buffer.alloc(0), metadata);
  console.log(String(meta.answer).replace(/^user-agent.*\n/m, ''), meta.head['head-bin'], meta.head.head, meta.trailer['trailer-bin'], meta.trailer.trailer);
  const all = await Promise.all([...Array(100).keys()].map(() => unary('Sleep', Buffer.from('10ms'))));
  console.log(all.filter((s) => String(s.answer) === '10ms').length);
  const [code] = (await unary('Sleep', Buffer.from('3000ms'), undefined, { deadline: Date.now() + 200 })).answer;
  console.log([1, 4].includes(code)); // of the client, or of the server, which had the same deadline
  await new Promise((resolve) => {
    const call = client.makeBidiStreamRequest('/test.Test/Echo', same, same, soon());
    let messages = 0;
    call.on('data', () => { messages += 1; if (messages === 500) call.end(); });
    call.on('status', (s) => { console.log(messages, s.code); resolve(); });
    for (let i = 0; i < 500; i++) call.write(Buffer.alloc(100));
  });
  client.close();
}
main();
