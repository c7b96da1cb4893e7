import { isNode } from './figures.ts';
import type { Edge, Resource, Secured } from './types.ts';

/** Protocols that an agent reads: what has no mTLS was in plaintext for it. */
const read = ['http1', 'http2', 'grpc'];

/**
 * How the mesh secures something, in a word or two. Of bytes that no agent reads it does not
 * know whether their ends encrypt them: they are not said to be plaintext.
 */
export function securedWord(secured: Secured, protocol = ''): string {
  switch (secured) {
    case 'true': return 'mTLS';
    case 'same-node': return 'same node';
    case 'not-proxied': return 'not proxied';
    case 'no-identity':
    case 'agent-down': {
      const how = protocol === 'tls' ? 'own TLS' : read.includes(protocol) ? 'plaintext' : 'no mTLS';
      return secured === 'agent-down' ? `${how}: agent down` : how;
    }
  }
  return secured || 'unknown';
}

/** What to do about an edge without mTLS, in a sentence or two. */
export function advice(e: Edge, source: Resource | undefined, destination: Resource | undefined): string {
  const outside = (r: Resource | undefined) => r?.kind === 'external';
  switch (e.secured) {
    case 'not-proxied':
      if (source && isNode(source)) return 'Nothing: every policy lets in the kubelet and other processes of the node itself.';
      return outside(source)
        ? "Nothing, if it is the kubelet or another process of the node itself: every policy lets these in. Otherwise see which ports are skipped."
        : 'No agent reads it, so whether it is encrypted is not known. If no setting skips the port, restart the client: a connection from before stays as it is.';
    case 'agent-down':
      return 'See the agents. Without underlane.io/plaintext-fallback: allowed on both sides it is refused instead.';
    case 'no-identity':
      if (outside(source)) return 'Nothing, if it is meant to be called from outside. The policy strict refuses it.';
      if (outside(destination)) return 'The mesh ends here: whether it is encrypted is up to its ends.';
      if (!source?.meshed || !destination?.meshed) return 'Label the namespace or the pod that is outside: underlane.io/mesh: enabled.';
      return 'Both have pods in the mesh. If no setting skips the port, and all pods are labelled, restart the client: a connection from before stays as it is.';
  }
  return '';
}
