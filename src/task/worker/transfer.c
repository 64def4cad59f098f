/*
 * transfer.c
 *	  libcurl's multi interface, and nothing else.  See transfer.h.
 *
 * HTTP and HTTPS only, no redirects, no proxy, no .netrc, no decompression, no
 * cookies; TLS 1.2 at least; the address is checked where it is connected to,
 * whatever its name resolved to.  libcurl's sockets and its timer lie in an
 * epoll of our own, whose descriptor the caller sleeps on.
 *
 * The limits of time are our own, not libcurl's: while the caller is at
 * something else, a server is not to blame for bytes that nobody took
 * (tsk_net_forgive).
 *
 * libcurl resolves names in threads of its own, which inherit the mask: all
 * signals are blocked around every call that may start one.
 *
 * Memory: malloc'd; a transfer belongs to its net until tsk_net_done().
 */
#include "task/worker/transfer.h"

#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MAX_HEADERS (64 << 10)	/* bytes of an answer's */
#define MAX_TOLD (8 << 10)		/* kept of the body of an error */
#define MAX_UNTOLD (1 << 20)	/* of it in all */
#define EVENTS 64

/* A transfer as we see it; the caller sees its first member. */
typedef struct transfer
{
	tsk_transfer t;
	tsk_net    *net;
	struct transfer *next;		/* of active, in the order of starting, or of done */
	CURL	   *easy;
	struct curl_slist *headers;
	bool		finished;
	bool		connected;
	bool		refused;
	bool		paused;			/* for want of budget */
	size_t		room;			/* of body */
	size_t		header_bytes;
	int64_t		received;		/* of the body */
	int64_t		started;		/* microseconds of our clock, which stands still while nobody turns */
	int64_t		window;			/* when the average speed began to count ... */
	int64_t		window_bytes;	/* ... and what had come and gone by then */
	char		curl_error[CURL_ERROR_SIZE];
} transfer;

struct tsk_net
{
	tsk_net_options o;
	CURLM	   *multi;
	int			epoll;
	int			timer;
	transfer   *active;
	transfer   *done;
	int64_t		buffered;		/* bytes of bodies */
	int64_t		forgiven;		/* microseconds that did not count */
};

static int64_t
now_us(const tsk_net *net)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000 - net->forgiven;
}

static void
block_signals(sigset_t *before)
{
	sigset_t	all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, before);
}

static void
restore_signals(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* ---- callbacks of libcurl */

static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	tsk_net    *net = arg;
	struct epoll_event e = {.data.fd = fd};

	if (what == CURL_POLL_REMOVE)
	{
		(void) epoll_ctl(net->epoll, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	e.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (epoll_ctl(net->epoll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e) != 0)
		(void) epoll_ctl(net->epoll, known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &e);
	(void) curl_multi_assign(net->multi, fd, net);
	return 0;
}

static int
set_timer(CURLM *multi, long ms, void *arg)
{
	tsk_net    *net = arg;
	struct itimerspec when = {0};

	if (ms >= 0)
	{
		when.it_value.tv_sec = ms / 1000;
		when.it_value.tv_nsec = ms % 1000 * 1000000 + (ms == 0);
	}
	return timerfd_settime(net->timer, 0, &when, NULL);
}

static curl_socket_t
open_checked(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	transfer   *t = arg;

	if (t->net->o.refuses && t->net->o.refuses(&address->addr))
	{
		t->refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int
note_connected(void *arg, char *remote, char *local, int remote_port, int local_port)
{
	transfer   *t = arg;

	t->connected = true;
	t->window = now_us(t->net);
	return CURL_PREREQFUNC_OK;
}

/* Give up from within a callback: the reason, which comes back as CURLE_WRITE_ERROR. */
static size_t
refuse(transfer *t, tsk_cut cut, const char *error)
{
	t->t.cut = cut;
	snprintf(t->t.error, sizeof(t->t.error), "%s", error);
	return 0;
}

static size_t
take_header(char *data, size_t size, size_t n, void *arg)
{
	transfer   *t = arg;

	t->header_bytes += size * n;
	if (t->header_bytes > MAX_HEADERS)
		return refuse(t, TSK_NO_HTTP, "the answer's headers are larger than 64 kB");
	return size * n;
}

/* Room for len bytes more of a body that shall have `expected` (-1: unknown). */
static bool
make_room(transfer *t, size_t len, int64_t expected)
{
	size_t		want = t->t.len + len;
	size_t		room = t->room ? t->room * 2 : 16384;
	char	   *body;

	if (want <= t->room)
		return true;
	if (expected >= (int64_t) want && (int64_t) room > expected)
		room = (size_t) expected;
	if (room < want)
		room = want;
	body = realloc(t->t.body, room);
	if (body == NULL)
		return false;
	t->t.body = body;
	t->room = room;
	return true;
}

static size_t
take_body(char *data, size_t size, size_t n, void *arg)
{
	transfer   *t = arg;
	size_t		len = size * n;
	size_t		keep = len;
	curl_off_t	expected = -1;
	long		status = 0;
	char		error[128];

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &expected);
	if (status < 200 || status > 299)
	{
		if (t->received + (int64_t) len > MAX_UNTOLD)
			return refuse(t, TSK_WHOLE, "");	/* the status says enough */
		keep = t->t.len >= MAX_TOLD ? 0 : len < MAX_TOLD - t->t.len ? len : MAX_TOLD - t->t.len;
	}
	else if (expected > t->net->o.max_bytes || t->received + (int64_t) len > t->net->o.max_bytes)
	{
		if (expected > t->net->o.max_bytes)
			snprintf(error, sizeof(error), "its %lld bytes are more than the %lld allowed", (long long) expected, (long long) t->net->o.max_bytes);
		else
			snprintf(error, sizeof(error), "it is larger than the %lld bytes allowed", (long long) t->net->o.max_bytes);
		return refuse(t, TSK_LARGE, error);
	}
	else if (t->net->buffered + (int64_t) len > t->net->o.budget && t != t->net->active)
	{
		t->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (keep > 0 && !make_room(t, keep, expected))
		return refuse(t, TSK_MEMORY, "out of memory");
	memcpy(t->t.body + t->t.len, data, keep);
	t->t.len += keep;
	t->net->buffered += (int64_t) keep;
	t->received += (int64_t) len;
	return len;
}

/* ---- life of a net */

tsk_net *
tsk_net_open(const tsk_net_options *options, char *error, size_t error_size)
{
	static bool initialized = false;
	tsk_net    *net = calloc(1, sizeof(*net));
	struct epoll_event e = {.events = EPOLLIN};

	snprintf(error, error_size, "out of memory");
	if (net == NULL)
		return NULL;
	net->o = *options;
	net->o.ca_pem = options->ca_pem ? strdup(options->ca_pem) : NULL;
	net->o.ca_location = options->ca_location ? strdup(options->ca_location) : NULL;
	net->epoll = epoll_create1(EPOLL_CLOEXEC);
	net->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	e.data.fd = net->timer;
	if (!initialized)
		initialized = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
	if (!initialized || net->epoll < 0 || net->timer < 0 || epoll_ctl(net->epoll, EPOLL_CTL_ADD, net->timer, &e) != 0 ||
		(net->multi = curl_multi_init()) == NULL ||
		curl_multi_setopt(net->multi, CURLMOPT_SOCKETFUNCTION, watch_socket) != CURLM_OK ||
		curl_multi_setopt(net->multi, CURLMOPT_SOCKETDATA, net) != CURLM_OK ||
		curl_multi_setopt(net->multi, CURLMOPT_TIMERFUNCTION, set_timer) != CURLM_OK ||
		curl_multi_setopt(net->multi, CURLMOPT_TIMERDATA, net) != CURLM_OK ||
		curl_multi_setopt(net->multi, CURLMOPT_MAXCONNECTS, (long) options->connections) != CURLM_OK)
	{
		tsk_net_close(net);
		return NULL;
	}
	return net;
}

void
tsk_net_close(tsk_net *net)
{
	if (net == NULL)
		return;
	while (net->active)
		tsk_free(net, &net->active->t);
	while (net->done)
		tsk_free(net, &net->done->t);
	if (net->multi)
		curl_multi_cleanup(net->multi);
	if (net->epoll > 0)
		close(net->epoll);
	if (net->timer > 0)
		close(net->timer);
	free((char *) net->o.ca_pem);	/* our copies */
	free((char *) net->o.ca_location);
	free(net);
}

int
tsk_net_fd(const tsk_net *net)
{
	return net->epoll;
}

void
tsk_net_forgive(tsk_net *net, int64_t us)
{
	net->forgiven += us;
}

/* ---- life of a transfer */

static void
unlink_from(transfer **list, transfer *t)
{
	for (; *list; list = &(*list)->next)
		if (*list == t)
		{
			*list = t->next;
			return;
		}
}

static void
append_to(transfer **list, transfer *t)
{
	while (*list)
		list = &(*list)->next;
	t->next = NULL;
	*list = t;
}

void
tsk_free(tsk_net *net, tsk_transfer *public)
{
	transfer   *t = (transfer *) public;
	sigset_t	before;

	if (t == NULL)
		return;
	block_signals(&before);
	unlink_from(t->finished ? &net->done : &net->active, t);
	if (t->easy)
	{
		if (!t->finished)
			curl_multi_remove_handle(net->multi, t->easy);
		curl_easy_cleanup(t->easy);
	}
	restore_signals(&before);
	net->buffered -= (int64_t) t->t.len;
	curl_slist_free_all(t->headers);
	free(t->t.body);
	free(t);
}

/* All that a request is told; false if libcurl refuses any of it. */
static bool
configure(transfer *t, const tsk_call *call)
{
	const tsk_net_options *o = &t->net->o;
	CURL	   *c = t->easy;
	bool		good = true;

#define SET(option, value) (good = good && curl_easy_setopt(c, (option), (value)) == CURLE_OK)
	SET(CURLOPT_URL, call->url);
	SET(CURLOPT_CUSTOMREQUEST, call->method);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTP_CONTENT_DECODING, 0L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);	/* never wait for a resolver's thread */
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, o->verify ? 1L : 0L);
	SET(CURLOPT_SSL_VERIFYHOST, o->verify ? 2L : 0L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, 3600000L);	/* ours come first */
	SET(CURLOPT_ERRORBUFFER, t->curl_error);
	SET(CURLOPT_HTTPHEADER, t->headers);
	SET(CURLOPT_HEADERFUNCTION, take_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, take_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_PREREQFUNCTION, note_connected);
	SET(CURLOPT_PREREQDATA, t);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_checked);
	SET(CURLOPT_OPENSOCKETDATA, t);
	SET(CURLOPT_PRIVATE, t);
	if (call->body)
	{
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) call->body_len);
		SET(CURLOPT_POSTFIELDS, call->body);
	}
	if (o->ca_pem)
	{
		struct curl_blob pem = {(void *) o->ca_pem, strlen(o->ca_pem), CURL_BLOB_NOCOPY};

		SET(CURLOPT_CAINFO_BLOB, &pem);
	}
	if (o->ca_location)
		SET(CURLOPT_CAINFO, o->ca_location);
#undef SET
	return good;
}

tsk_transfer *
tsk_start(tsk_net *net, const tsk_call *call, void *subject, char *error, size_t error_size)
{
	transfer   *t = calloc(1, sizeof(*t));
	sigset_t	before;
	bool		good = t != NULL;

	snprintf(error, error_size, "out of memory");
	if (!good)
		return NULL;
	t->net = net;
	t->t.subject = subject;
	append_to(&net->active, t);
	for (int i = 0; i < call->n_headers + 1 && good; i++)
	{
		/* An empty Expect: no round trip before a body. */
		const char *header = i < call->n_headers ? call->headers[i] : "Expect:";
		struct curl_slist *more = strpbrk(header, "\r\n") ? NULL : curl_slist_append(t->headers, header);

		good = more != NULL;
		t->headers = more ? more : t->headers;
	}
	block_signals(&before);
	good = good && (t->easy = curl_easy_init()) != NULL && configure(t, call) && curl_multi_add_handle(net->multi, t->easy) == CURLM_OK;
	restore_signals(&before);
	if (!good)
	{
		if (t->easy)
			snprintf(error, error_size, "libcurl refused the request");
		t->finished = true;		/* it was not added */
		unlink_from(&net->active, t);
		append_to(&net->done, t);
		tsk_free(net, &t->t);
		return NULL;
	}
	t->started = t->window = now_us(net);
	return &t->t;
}

/* It has ended; what has gone over the wire is noted. */
static void
finish(transfer *t)
{
	tsk_net    *net = t->net;
	long		status = 0;
	curl_off_t	n = 0;

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	t->t.status = (int) status;
	if (curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &n) == CURLE_OK)
		t->t.retry_after_s = n;
	n = 0;
	curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &n);
	t->t.sent = n;
	t->t.duration_us = now_us(net) - t->started;
	curl_multi_remove_handle(net->multi, t->easy);
	curl_easy_cleanup(t->easy);
	t->easy = NULL;
	unlink_from(&net->active, t);
	t->finished = true;
	append_to(&net->done, t);
}

static void
finish_cut(transfer *t, tsk_cut cut, const char *error)
{
	t->t.cut = cut;
	snprintf(t->t.error, sizeof(t->t.error), "%s", error);
	finish(t);
}

/* libcurl has ended it. */
static void
judge(transfer *t, CURLcode result)
{
	const char *error = t->curl_error[0] ? t->curl_error : curl_easy_strerror(result);

	switch (result)
	{
		case CURLE_OK:
			finish(t);
			break;
		case CURLE_WRITE_ERROR:	/* one of our callbacks' refusals */
			if (t->t.error[0] == '\0' && t->received <= MAX_UNTOLD - CURL_MAX_WRITE_SIZE)
				finish_cut(t, TSK_LOST, error);
			else
				finish(t);
			break;
		case CURLE_PARTIAL_FILE:
			finish_cut(t, TSK_TRUNCATED, error);
			break;
		case CURLE_OPERATION_TIMEDOUT:
			finish_cut(t, TSK_SLOW, error);
			break;
		case CURLE_OUT_OF_MEMORY:
			finish_cut(t, TSK_MEMORY, error);
			break;
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_GOT_NOTHING:
			finish_cut(t, TSK_LOST, error);
			break;
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_HTTP2:
		case CURLE_BAD_CONTENT_ENCODING:
			finish_cut(t, TSK_NO_HTTP, error);
			break;
		default:
			if (t->refused)
				finish_cut(t, TSK_REFUSED, "the server's address is of a private network");
			else
				finish_cut(t, t->connected ? TSK_LOST : TSK_UNCONNECTED, error);
	}
}

/* Bytes of bodies that have come and gone. */
static int64_t
moved(const transfer *t)
{
	curl_off_t	n = 0;

	curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &n);
	return t->received + n;
}

/* Microseconds until the first of a transfer's limits of time; says which in error if that has passed. */
static int64_t
left_us(const transfer *t, int64_t now, char *error, size_t error_size)
{
	const tsk_net_options *o = &t->net->o;
	int64_t		whole = t->started + o->timeout_ms * INT64_C(1000) - now;
	int64_t		connect = t->connected ? INT64_MAX : t->started + o->connect_timeout_ms * INT64_C(1000) - now;
	int64_t		speed = t->connected && o->low_speed_bytes > 0 ? t->window + o->low_speed_ms * INT64_C(1000) - now : INT64_MAX;

	if (connect <= 0)
		snprintf(error, error_size, "no connection within %d ms", o->connect_timeout_ms);
	else if (whole <= 0)
		snprintf(error, error_size, "no whole answer within %d ms", o->timeout_ms);
	else
		snprintf(error, error_size, "less than %lld bytes a second for %d ms", (long long) o->low_speed_bytes, o->low_speed_ms);
	return connect < whole && connect < speed ? connect : whole < speed ? whole : speed;
}

int
tsk_net_wait_ms(const tsk_net *net)
{
	int64_t		least = INT64_MAX;
	int64_t		now = now_us(net);
	char		error[8];

	for (const transfer *t = net->active; t; t = t->next)
	{
		int64_t		left = left_us(t, now, error, sizeof(error));

		least = left < least ? left : least;
	}
	return least == INT64_MAX ? -1 : least <= 0 ? 0 : (int) (least / 1000 + 1);
}

/* Give up those that are past a limit of time; let those go on that waited for room. */
static void
look_after(tsk_net *net)
{
	int64_t		now = now_us(net);
	char		error[128];

	for (transfer *t = net->active, *next; t; t = next)
	{
		next = t->next;
		if (t->paused && (net->buffered < net->o.budget || t == net->active))
		{
			t->paused = false;
			t->window = now;
			(void) curl_easy_pause(t->easy, CURLPAUSE_CONT);
		}
		if (t->paused)
		{
			/* Our want of room is not the server's fault. */
			t->window = now;
			continue;
		}
		if (left_us(t, now, error, sizeof(error)) > 0)
			continue;
		if (t->connected && t->started + net->o.timeout_ms * INT64_C(1000) > now &&
			moved(t) - t->window_bytes >= net->o.low_speed_bytes * net->o.low_speed_ms / 1000)
		{
			t->window = now;
			t->window_bytes = moved(t);
		}
		else
			finish_cut(t, TSK_SLOW, error);
	}
}

void
tsk_net_turn(tsk_net *net)
{
	struct epoll_event events[EVENTS];
	sigset_t	before;
	CURLMsg    *message;
	int			n;
	int			left;

	block_signals(&before);
	do
	{
		n = epoll_wait(net->epoll, events, EVENTS, 0);
		for (int i = 0; i < n; i++)
		{
			int			fd = events[i].data.fd;
			int			what = 0;
			int			running;
			uint64_t	ticks;

			if (fd == net->timer)
			{
				(void) !read(net->timer, &ticks, sizeof(ticks));
				fd = CURL_SOCKET_TIMEOUT;
			}
			else
				what = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
					(events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
			(void) curl_multi_socket_action(net->multi, fd, what, &running);
		}
	} while (n == EVENTS);
	while ((message = curl_multi_info_read(net->multi, &left)) != NULL)
		if (message->msg == CURLMSG_DONE)
		{
			CURLcode	result = message->data.result;	/* the message goes with the handle */
			transfer   *t = NULL;

			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &t);
			judge(t, result);
		}
	look_after(net);
	restore_signals(&before);
}

tsk_transfer *
tsk_net_done(tsk_net *net)
{
	transfer   *t = net->done;

	if (t == NULL)
		return NULL;
	net->done = t->next;
	t->next = NULL;
	return &t->t;
}
