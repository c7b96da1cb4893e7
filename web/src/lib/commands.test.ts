import { expect, test } from 'vitest';
import { commands } from './commands.ts';
import { parse } from './flags.ts';

const c = { command: 'underlane', scope: 'cluster', window: '5m' };

test.each([
  [commands.overview(c), 'underlane stat ns -t 5m'],
  [commands.namespace(c, 'shop'), 'underlane stat all -n shop -t 5m'],
  [commands.workload(c, { kind: 'statefulset', namespace: 'shop', name: 'db' }), 'underlane stat sts/db -n shop -t 5m'],
  [commands.workload(c, { kind: 'deployment', namespace: 'a b', name: `x';reboot` }), `underlane stat 'deploy/x'"'"';reboot' -n 'a b' -t 5m`],
  [commands.edges(c, 'ns', ''), 'underlane edges ns -A -t 5m'],
  [commands.edges(c, 'deploy', 'shop'), 'underlane edges deploy -n shop -t 5m'],
  [commands.pods(c, 'shop'), 'underlane stat pod -n shop -o wide -t 5m'],
  [commands.connections(c, ''), 'underlane connections -A'],
  [commands.connections(c, 'shop', { kind: 'deployment', name: 'web' }), 'underlane connections deploy/web -n shop'],
  [commands.connections({ ...c, command: 'bin/lab', scope: 'lab' }, ''), 'bin/lab agent node-1 -- connections -A'],
  [commands.tap(c, ''), 'underlane tap ns'],
  [commands.tap(c, '--method POST'), 'underlane tap ns --method POST'],
  [commands.tap(c, 'deploy/web -n shop'), 'underlane tap deploy/web -n shop'],
  [commands.check({ ...c, command: 'agent', scope: 'node' }), 'agent check'],
  [commands.check({ ...c, command: 'bin/lab', scope: 'lab' }), 'bin/lab agent node-1 -- check'],
  [commands.routes(c, ''), 'underlane routes -A -o wide'],
  [commands.routes({ ...c, command: 'agent', scope: 'node' }, ''), ''],
  [commands.logs({ ...c, command: 'bin/lab', scope: 'lab' }, 'node-1'), 'bin/lab logs node-1'],
])('%s', (got, want) => expect(got).toBe(want));

test('what stands for everything is read as everything', () => expect(parse('ns --method POST')).toEqual({ filter: { method: 'POST' } }));
