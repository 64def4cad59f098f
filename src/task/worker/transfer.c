/*
 * transfer.c
 *	  libcurl's multi interface: life of nets and transfers.  See transfer.h.
 *
 * What a single request is told and takes in is transfer_one.c.  libcurl's
 * sockets and its timer lie in an epoll of our own, whose descriptor the caller
 * sleeps on.
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
#include "task/worker/transfer_int.h"

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

#define EVENTS 64				/* of sockets at a time */

int64_t
tsk_now_us(const tsk_net *net)
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

/* ---- life of a tsk_one */

static void
unlink_from(tsk_one **list, tsk_one *t)
{
	for (; *list; list = &(*list)->next)
		if (*list == t)
		{
			*list = t->next;
			return;
		}
}

static void
append_to(tsk_one **list, tsk_one *t)
{
	while (*list)
		list = &(*list)->next;
	t->next = NULL;
	*list = t;
}

void
tsk_free(tsk_net *net, tsk_transfer *public)
{
	tsk_one    *t = (tsk_one *) public;
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
	for (struct curl_slist *h = t->headers; h; h = h->next)
		explicit_bzero(h->data, strlen(h->data));	/* keys among them */
	curl_slist_free_all(t->headers);
	free(t->t.body);
	free(t);
}

tsk_transfer *
tsk_start(tsk_net *net, const tsk_call *call, void *subject, char *error, size_t error_size)
{
	tsk_one    *t = calloc(1, sizeof(*t));
	sigset_t	before;
	bool		good = t != NULL;

	snprintf(error, error_size, "out of memory");
	if (!good)
		return NULL;
	t->net = net;
	t->t.subject = subject;
	t->timeout_ms = call->timeout_ms > 0 ? call->timeout_ms : net->o.timeout_ms;
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
	good = good && (t->easy = curl_easy_init()) != NULL && tsk_configure(t, call) && curl_multi_add_handle(net->multi, t->easy) == CURLM_OK;
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
	t->started = t->window = tsk_now_us(net);
	return &t->t;
}

/* It has ended; what has gone over the wire is noted. */
static void
finish(tsk_one *t)
{
	tsk_net    *net = t->net;
	long		status = 0;
	curl_off_t	n = 0;

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	t->t.status = (int) status;
	if (t->t.retry_after_ms == 0 && curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &n) == CURLE_OK)
		t->t.retry_after_ms = n < INT32_MAX ? n * 1000 : INT32_MAX * INT64_C(1000);
	n = 0;
	curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &n);
	t->t.sent = n;
	t->t.duration_us = tsk_now_us(net) - t->started;
	curl_multi_remove_handle(net->multi, t->easy);
	curl_easy_cleanup(t->easy);
	t->easy = NULL;
	unlink_from(&net->active, t);
	t->finished = true;
	append_to(&net->done, t);
}

/* Bytes of bodies that have come and gone. */
static int64_t
moved(const tsk_one *t)
{
	curl_off_t	n = 0;

	curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &n);
	return t->received + n;
}

typedef enum time_limit
{
	CONNECT,
	WHOLE,
	SPEED
} time_limit;

/* Microseconds until the first of a transfer's limits of time, and which one that is. */
static int64_t
left_us(const tsk_one *t, int64_t now, time_limit *limit)
{
	const tsk_net_options *o = &t->net->o;
	int64_t		whole = t->started + t->timeout_ms * INT64_C(1000) - now;
	int64_t		connect = t->connected ? INT64_MAX : t->started + o->connect_timeout_ms * INT64_C(1000) - now;
	int64_t		speed = t->connected && o->low_speed_bytes > 0 ? t->window + o->low_speed_ms * INT64_C(1000) - now : INT64_MAX;

	*limit = connect < whole && connect < speed ? CONNECT : whole <= speed ? WHOLE : SPEED;
	return *limit == CONNECT ? connect : *limit == WHOLE ? whole : speed;
}

/* Give it up for that limit. */
static void
finish_slow(tsk_one *t, time_limit limit)
{
	const tsk_net_options *o = &t->net->o;

	t->t.cut = TSK_SLOW;
	if (limit == CONNECT)
		snprintf(t->t.error, sizeof(t->t.error), "no connection within %d ms", o->connect_timeout_ms);
	else if (limit == WHOLE)
		snprintf(t->t.error, sizeof(t->t.error), "no whole answer within %d ms", t->timeout_ms);
	else
		snprintf(t->t.error, sizeof(t->t.error), "less than %lld bytes a second for %d ms", (long long) o->low_speed_bytes, o->low_speed_ms);
	finish(t);
}

int
tsk_net_wait_ms(const tsk_net *net)
{
	int64_t		least = INT64_MAX;
	int64_t		now = tsk_now_us(net);
	time_limit	limit;

	for (const tsk_one *t = net->active; t; t = t->next)
	{
		int64_t		left = left_us(t, now, &limit);

		least = left < least ? left : least;
	}
	return least == INT64_MAX ? -1 : least <= 0 ? 0 : (int) (least / 1000 + 1);
}

/* Give up those that are past a limit of time; let those go on that waited for room. */
static void
look_after(tsk_net *net)
{
	int64_t		now = tsk_now_us(net);
	time_limit	limit;

	for (tsk_one *t = net->active, *next; t; t = next)
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
		if (left_us(t, now, &limit) > 0)
			continue;
		if (limit == SPEED &&
			moved(t) - t->window_bytes >= net->o.low_speed_bytes * net->o.low_speed_ms / 1000)
		{
			t->window = now;
			t->window_bytes = moved(t);
		}
		else
			finish_slow(t, limit);
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
			tsk_one    *t = NULL;

			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &t);
			tsk_note_result(t, result);
			finish(t);
		}
	look_after(net);
	restore_signals(&before);
}

tsk_transfer *
tsk_net_done(tsk_net *net)
{
	tsk_one    *t = net->done;

	if (t == NULL)
		return NULL;
	net->done = t->next;
	t->next = NULL;
	return &t->t;
}
