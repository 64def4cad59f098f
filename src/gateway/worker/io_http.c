/*
 * io_http.c
 *	  libmicrohttpd: one daemon without threads and without a listening socket, whose epoll the worker's
 *	  loop waits for; connections are handed to it.
 *
 * Its callbacks may allocate by malloc and make answers, and nothing else; whoever calls them is between two
 * steps of the loop, in which no ERROR can be raised.
 */
#include "gateway/worker/io.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "gateway/worker/io_count.h"

#define POOL_BYTES (32 * 1024)	/* of a connection: the head of a request must fit */

struct gwi_conns gwi_conns = TAILQ_HEAD_INITIALIZER(gwi_conns);
int			gwi_n_conns = 0;
struct gwi_requests gwi_waiting = TAILQ_HEAD_INITIALIZER(gwi_waiting);
struct gwi_requests gwi_pending = TAILQ_HEAD_INITIALIZER(gwi_pending);
gwi_request *gwi_in_box[GWI_MAX_BOXES];
int			gwi_n_waiting = 0;
int			gwi_n_streams = 0;
int			gwi_idle = 0;
int64_t		gwi_memory = 0;
gwi_settings gwi_set;
gwi_book   *gwi_current;

static struct MHD_Daemon *daemon_;
static void (*panic_) (const char *what);
static uint64_t last_serial = 0;
static gwi_conn *taking;		/* by gwi_http_take() */
static bool resumed = false;	/* since the daemon ran */

int64_t
gwi_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* The next thing that the client is to do must be done within so long. */
void
gwi_expect(gwi_conn *conn, int64_t ms)
{
	conn->deadline_us = ms < 0 ? 0 : gwi_now_us() + ms * 1000;
}

/* ---- connections */

static void
on_connection(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode what)
{
	gwi_conn   *conn = *context;

	if (what == MHD_CONNECTION_NOTIFY_STARTED)
	{
		*context = taking;
		taking->mhd = mhd;
		TAILQ_INSERT_TAIL(&gwi_conns, taking, node);
		gwi_n_conns++;
		gwi_events[GWI_CONNECTIONS]++;
		gwi_expect(taking, gwi_set.header_timeout_ms);
		taking = NULL;
	}
	else if (conn)
	{
		if (conn->linger && !conn->cut)
			gwi_linger(conn->fd);
		TAILQ_REMOVE(&gwi_conns, conn, node);
		gwi_n_conns--;
		free(conn);
		*context = NULL;
	}
}

void
gwi_http_take(int fd, const struct sockaddr *addr, socklen_t len, int listener, uint64_t address)
{
	taking = calloc(1, sizeof(gwi_conn));
	if (taking == NULL)
	{
		close(fd);
		return;
	}
	taking->fd = fd;
	taking->listener = listener;
	taking->address = address;
	(void) MHD_add_connection(daemon_, fd, addr, len);	/* which closes it where it fails */
	free(taking);
	taking = NULL;
}

/* ---- requests */

/* Its first line came.  What this returns is the request's context; NULL: there is no memory. */
static void *
on_line(void *cls, const char *uri, struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	gwi_conn   *conn = info->socket_context;
	gwi_request *r = calloc(1, sizeof(gwi_request));

	if (r == NULL || (r->target = strdup(uri ? uri : "")) == NULL)
	{
		free(r);
		return NULL;
	}
	r->conn = conn;
	r->serial = ++last_serial;
	r->came_us = gwi_now_us();
	r->box = -1;
	r->book = gwi_current;
	r->book->refs++;
	conn->request = r;
	gwi_expect(conn, gwi_set.header_timeout_ms);
	return r;
}

/* Queue the answer.  Its reader has as long as for a head, and then must read GWI_SLOWEST. */
static enum MHD_Result
send_answer(gwi_request *r, struct MHD_Connection *mhd)
{
	if (r->stream == NULL)
		r->state = GWI_ANSWERED;
	r->queued = true;
	gwi_expect(r->conn, r->stream ? -1 : gwi_set.header_timeout_ms + (int64_t) (r->answer_len / (GWI_SLOWEST / 1000)));
	return MHD_queue_response(mhd, (unsigned) r->status, r->answer);
}

static enum MHD_Result
on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
		   const char *data, size_t *len, void **context)
{
	gwi_request *r = *context;

	if (r == NULL)
		return MHD_NO;			/* no memory: the connection is closed */
	if (r->state == GWI_HEAD)
	{
		gwi_head(r, mhd, method);
		r->state = GWI_BODY;
		r->body_since_us = gwi_now_us();
		if (r->status && r->answer == NULL)
			return MHD_NO;		/* no memory */
		/* Where a body follows that is not wanted, nor small enough to be thrown away: refused, and the connection closed. */
		if (r->answer && r->announced && !r->discard)
		{
			r->conn->linger = true;
			return send_answer(r, mhd);
		}
		return MHD_YES;
	}
	if (*len > 0)
	{
		gwi_body_more(r, data, *len);
		*len = 0;
		r->conn->deadline_us = r->body_since_us + gwi_set.header_timeout_ms * INT64_C(1000) +
			(int64_t) (r->received * 1000000 / GWI_SLOWEST);
		return MHD_YES;
	}
	if (r->state == GWI_BODY && r->status == 0)
	{
		gwi_body_end(r);
		if (r->status == 0)
		{
			r->state = GWI_WAITING;
			gwi_expect(r->conn, -1);
			TAILQ_INSERT_TAIL(&gwi_waiting, r, node);
			gwi_n_waiting++;
			MHD_suspend_connection(mhd);
			return MHD_YES;
		}
	}
	if (r->answer == NULL)
		return r->status ? MHD_NO : MHD_YES;
	if (r->queued)
		return MHD_YES;
	return send_answer(r, mhd);
}

/* It is over: sent, or the connection is. */
static void
on_end(void *cls, struct MHD_Connection *mhd, void **context, enum MHD_RequestTerminationCode why)
{
	gwi_request *r = *context;

	if (r == NULL)
		return;
	*context = NULL;
	gwi_leave(r);
	if (r->box >= 0)
		gwi_in_box[r->box] = NULL;
	if (r->stream)
		gwi_stream_free(r);
	if (r->status)
		gwi_count(r);
	if (r->answer)
		MHD_destroy_response(r->answer);
	gwi_memory -= (int64_t) r->answer_len;
	gwi_body_free(r);
	gwi_reply_free(&r->later);
	free(r->poll);
	free(r->headers);
	free(r->etags);
	free(r->work);
	free(r->target);
	r->book->refs--;
	r->conn->request = NULL;
	gwi_expect(r->conn, gwi_set.idle_timeout_ms);
	free(r);
}

/* Out of the list that it is in. */
void
gwi_leave(gwi_request *r)
{
	if (r->state == GWI_WAITING)
	{
		TAILQ_REMOVE(&gwi_waiting, r, node);
		gwi_n_waiting--;
	}
	else if (r->state == GWI_PENDING)
		TAILQ_REMOVE(&gwi_pending, r, node);
	else
		return;
	r->state = GWI_RUNNING;
}

void
gwi_resume(gwi_request *r)
{
	MHD_resume_connection(r->conn->mhd);
	resumed = true;
}

/* ---- the daemon */

/* Segments are unescaped by gw_path_parse(), not before. */
static size_t
as_it_is(void *cls, struct MHD_Connection *mhd, char *text)
{
	return strlen(text);
}

static void
on_panic(void *cls, const char *file, unsigned line, const char *reason)
{
	panic_(reason ? reason : "?");
}

static char last_words[512];

static void __attribute__((format(printf, 2, 0)))
on_log(void *cls, const char *format, va_list args)
{
	vsnprintf(last_words, sizeof(last_words), format, args);
}

const char *
gwi_http_open(const char *certificate, const char *key, void (*panic) (const char *what))
{
	unsigned	flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls[] = {
		{MHD_OPTION_HTTPS_MEM_CERT, 0, (void *) (uintptr_t) certificate},
		{MHD_OPTION_HTTPS_MEM_KEY, 0, (void *) (uintptr_t) key},
		{MHD_OPTION_HTTPS_PRIORITIES, 0, (void *) (uintptr_t) "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
		{MHD_OPTION_END, 0, NULL}
	};

	panic_ = panic;
	MHD_set_panic_func(on_panic, NULL);
	last_words[0] = '\0';
	if (certificate)
		flags |= MHD_USE_TLS;
	else
		tls[0].option = MHD_OPTION_END;
	daemon_ = MHD_start_daemon(flags, 0, NULL, NULL, on_request, NULL,
							   MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
							   MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL,
							   MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL,
							   MHD_OPTION_URI_LOG_CALLBACK, on_line, NULL,
							   MHD_OPTION_UNESCAPE_CALLBACK, as_it_is, NULL,
							   MHD_OPTION_CONNECTION_LIMIT, (unsigned) gwi_set.connections + 16,
							   MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t) POOL_BYTES,
							   MHD_OPTION_STRICT_FOR_CLIENT, 1,
							   MHD_OPTION_CONNECTION_TIMEOUT, 0u,
							   MHD_OPTION_ARRAY, tls,
							   MHD_OPTION_END);
	if (daemon_ == NULL)
		return last_words[0] ? last_words : strerror(errno);
	return NULL;
}

int
gwi_http_fd(void)
{
	return MHD_get_daemon_info(daemon_, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

void
gwi_http_run(void)
{
	do
	{
		resumed = false;
		(void) MHD_run(daemon_);
	} while (resumed);
}

int
gwi_http_wait_ms(void)
{
	MHD_UNSIGNED_LONG_LONG ms;

	if (MHD_get_timeout(daemon_, &ms) != MHD_YES)
		return -1;
	return ms > 10000 ? 10000 : (int) ms;
}
