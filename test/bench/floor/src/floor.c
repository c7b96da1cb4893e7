// SPDX-License-Identifier: Apache-2.0
// The floor of the benchmark: a forwarder that only moves bytes, with one thread,
// epoll, and OpenSSL for mutual TLS. It has no parser, no pools and no timeouts.
// The cost of a proxy above the floor is the cost of its features.
//
// Usage: floor [-c CERT -k KEY -a ANCHORS] LISTEN=CONNECT[+in|+out]...
// LISTEN and CONNECT are IPv4:PORT. +in: TLS on the listening side; +out: TLS on
// the connecting side.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CHUNK = 64 << 10, EVENTS = 256 };

struct pair;

// One end of a forwarded connection, or a listener (pair is NULL).
struct end {
	int fd;
	uint32_t events; // registered with epoll
	SSL *ssl;
	struct pair *pair;
	struct route *route;
	int ready; // connected, and the handshake is complete
	int eof;   // the peer has ended its direction
	int shut;  // our direction to the peer is shut down
	char *out; // bytes that still have to be written to it
	size_t len;
};

struct pair {
	struct end a, b; // client, server
	int dead;
	struct pair *next; // next pair to free
};

struct route {
	struct end listener;
	struct sockaddr_in to;
	SSL_CTX *in, *out;
};

static int ep;
static char chunk[CHUNK];
static struct pair *graves;

static void die(const char *what) {
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct end *other(struct end *e) { return e == &e->pair->a ? &e->pair->b : &e->pair->a; }

static void want(struct end *e, uint32_t events) {
	if (e->events == events)
		return;
	struct epoll_event ev = {.events = events, .data.ptr = e};
	if (epoll_ctl(ep, e->events == ~0u ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, e->fd, &ev) < 0)
		die("epoll_ctl");
	e->events = events;
}

static void end_close(struct end *e) {
	if (e->ssl)
		SSL_free(e->ssl);
	if (e->fd >= 0)
		close(e->fd);
	free(e->out);
}

// bury closes a pair. Its memory is freed after the current batch of events, which
// may still refer to it.
static void bury(struct pair *p) {
	if (p->dead)
		return;
	p->dead = 1;
	end_close(&p->a);
	end_close(&p->b);
	p->next = graves;
	graves = p;
}

// again returns the event that an unfinished TLS call waits for, 0 after a failure.
static uint32_t again(struct end *e, int ret) {
	switch (SSL_get_error(e->ssl, ret)) {
	case SSL_ERROR_WANT_READ: return EPOLLIN;
	case SSL_ERROR_WANT_WRITE: return EPOLLOUT;
	}
	ERR_clear_error();
	return 0;
}

// put is like write(2). If nothing was written it returns -1, with errno EAGAIN if
// the caller may try again later.
static ssize_t put(struct end *e, const char *p, size_t n) {
	if (!e->ssl)
		return write(e->fd, p, n);
	int ret = SSL_write(e->ssl, p, (int)n);
	if (ret > 0)
		return ret;
	errno = again(e, ret) ? EAGAIN : EPIPE;
	return -1;
}

// get is like read(2).
static ssize_t get(struct end *e, char *p, size_t n) {
	if (!e->ssl)
		return read(e->fd, p, n);
	int ret = SSL_read(e->ssl, p, (int)n);
	if (ret > 0)
		return ret;
	if (SSL_get_error(e->ssl, ret) == SSL_ERROR_ZERO_RETURN)
		return 0;
	errno = again(e, ret) ? EAGAIN : EPIPE;
	return -1;
}

// settle registers the events that both ends wait for, and shuts down directions
// that are complete.
static void settle(struct pair *p) {
	struct end *ends[] = {&p->a, &p->b};
	for (int i = 0; i < 2; i++) {
		struct end *e = ends[i], *o = ends[1 - i];
		if (o->eof && !e->len && !e->shut) {
			e->shut = 1;
			if (e->ssl)
				SSL_shutdown(e->ssl);
			shutdown(e->fd, SHUT_WR);
		}
	}
	if (p->a.shut && p->b.shut) {
		bury(p);
		return;
	}
	for (int i = 0; i < 2; i++) {
		struct end *e = ends[i], *o = ends[1 - i];
		uint32_t events = 0;
		if (e->len)
			events |= EPOLLOUT;
		if (!e->eof && !o->len && o->ready && e->ready)
			events |= EPOLLIN;
		if (e->ready)
			want(e, events);
	}
}

// forward writes n bytes to an end and keeps those that cannot be written yet.
static int forward(struct end *to, const char *p, size_t n) {
	while (n) {
		ssize_t w = put(to, p, n);
		if (w < 0) {
			if (errno != EAGAIN)
				return -1;
			if (!(to->out = realloc(to->out, n)))
				die("memory");
			memmove(to->out, p, n);
			to->len = n;
			return 0;
		}
		p += w, n -= (size_t)w;
	}
	to->len = 0;
	return 0;
}

// advance continues connecting and the handshake. It returns 0 until both are done.
static int advance(struct end *e) {
	if (e->ready)
		return 1;
	if (e->ssl) {
		int ret = SSL_do_handshake(e->ssl);
		if (ret != 1) {
			uint32_t events = again(e, ret);
			if (events)
				want(e, events);
			else
				bury(e->pair);
			return 0;
		}
	} else {
		int err = 0;
		socklen_t len = sizeof err;
		getsockopt(e->fd, SOL_SOCKET, SO_ERROR, &err, &len);
		if (err) {
			bury(e->pair);
			return 0;
		}
	}
	e->ready = 1;
	settle(e->pair);
	return !e->pair->dead;
}

// flows reports whether bytes can be moved from an end to the other now.
static int flows(struct end *e) { return e->ready && !e->eof && other(e)->ready && !other(e)->len; }

// pull moves received bytes from an end to the other.
static int pull(struct end *e) {
	do {
		ssize_t n = get(e, chunk, sizeof chunk);
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 || (n > 0 && forward(other(e), chunk, (size_t)n) < 0))
			return -1;
		e->eof = n == 0;
	} while (e->ssl && SSL_has_pending(e->ssl) && flows(e));
	return 0;
}

static void moved(struct end *e, uint32_t events) {
	struct pair *p = e->pair;
	int was = e->ready;
	if (p->dead || !advance(e))
		return;
	if (events & EPOLLOUT && e->len && forward(e, e->out, e->len) < 0) {
		bury(p);
		return;
	}
	if (was && events & (EPOLLIN | EPOLLHUP | EPOLLERR) && flows(e) && pull(e) < 0) {
		bury(p);
		return;
	}
	// epoll reports no event for bytes that OpenSSL has already read.
	struct end *ends[] = {&p->a, &p->b};
	for (int i = 0; i < 2; i++)
		if (ends[i]->ssl && flows(ends[i]) && SSL_has_pending(ends[i]->ssl) && pull(ends[i]) < 0) {
			bury(p);
			return;
		}
	settle(p);
}

static SSL *session(SSL_CTX *ctx, int fd, int server) {
	SSL *s = SSL_new(ctx);
	if (!s || !SSL_set_fd(s, fd))
		die("TLS session");
	if (server)
		SSL_set_accept_state(s);
	else
		SSL_set_connect_state(s);
	return s;
}

static void arrive(struct route *r) {
	int one = 1, fd = accept4(r->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	struct pair *p = calloc(1, sizeof *p);
	if (!p)
		die("memory");
	p->a = (struct end){.fd = fd, .pair = p, .events = ~0u, .ready = !r->in};
	p->b = (struct end){.pair = p, .events = ~0u};
	p->b.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (p->b.fd < 0)
		die("socket");
	setsockopt(p->a.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(p->b.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (connect(p->b.fd, (struct sockaddr *)&r->to, sizeof r->to) < 0 && errno != EINPROGRESS) {
		bury(p);
		return;
	}
	if (r->in)
		p->a.ssl = session(r->in, p->a.fd, 1);
	if (r->out)
		p->b.ssl = session(r->out, p->b.fd, 0);
	want(&p->a, r->in ? EPOLLIN : 0);
	want(&p->b, EPOLLOUT);
}

static SSL_CTX *context(int server, const char *cert, const char *key, const char *anchors) {
	SSL_CTX *c = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
	if (!c || !cert || !key || !anchors || SSL_CTX_use_certificate_chain_file(c, cert) != 1 ||
	    SSL_CTX_use_PrivateKey_file(c, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_load_verify_locations(c, anchors, NULL) != 1) {
		ERR_print_errors_fp(stderr);
		exit(1);
	}
	SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION);
	SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_num_tickets(c, 0);
	SSL_CTX_set_read_ahead(c, 1); // a record is one read
	SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	return c;
}

static struct sockaddr_in address(char *text) {
	struct sockaddr_in a = {.sin_family = AF_INET};
	char *colon = strchr(text, ':');
	if (!colon || (*colon = 0, inet_pton(AF_INET, text, &a.sin_addr) != 1) || !(a.sin_port = htons((uint16_t)atoi(colon + 1)))) {
		fprintf(stderr, "floor: %s is no IPv4:PORT\n", text);
		exit(2);
	}
	return a;
}

int main(int argc, char **argv) {
	const char *cert = NULL, *key = NULL, *anchors = NULL;
	signal(SIGPIPE, SIG_IGN);
	for (int o; (o = getopt(argc, argv, "c:k:a:")) != -1;) {
		switch (o) {
		case 'c': cert = optarg; break;
		case 'k': key = optarg; break;
		case 'a': anchors = optarg; break;
		default: return 2;
		}
	}
	if ((ep = epoll_create1(EPOLL_CLOEXEC)) < 0)
		die("epoll");
	for (; optind < argc; optind++) {
		char *plus = strchr(argv[optind], '+'), *equal = strchr(argv[optind], '=');
		struct route *r = calloc(1, sizeof *r);
		int one = 1;
		if (!r || !equal) {
			fprintf(stderr, "floor: %s is no LISTEN=CONNECT\n", argv[optind]);
			return 2;
		}
		if (plus) {
			if (!strcmp(plus, "+in"))
				r->in = context(1, cert, key, anchors);
			else
				r->out = context(0, cert, key, anchors);
			*plus = 0;
		}
		*equal = 0;
		r->to = address(equal + 1);
		struct sockaddr_in at = address(argv[optind]);
		r->listener = (struct end){.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), .events = ~0u, .route = r};
		setsockopt(r->listener.fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		if (bind(r->listener.fd, (struct sockaddr *)&at, sizeof at) < 0 || listen(r->listener.fd, 4096) < 0)
			die("listen");
		want(&r->listener, EPOLLIN);
	}
	for (;;) {
		struct epoll_event events[EVENTS];
		int n = epoll_wait(ep, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			struct end *e = events[i].data.ptr;
			if (e->pair)
				moved(e, events[i].events);
			else
				arrive(e->route);
		}
		for (struct pair *p; (p = graves);) {
			graves = p->next;
			free(p);
		}
	}
}
