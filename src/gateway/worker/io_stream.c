/*
 * io_stream.c
 *	  Streams of events (text/event-stream): what the route's function gives is sent when it changed.
 *
 * The response's reader suspends the connection when everything is sent; news resume it.  A client that does
 * not read is cut after a while, and spared further news until then.
 */
#include "gateway/worker/io.h"

#include <stdlib.h>
#include <string.h>

#include "core/sha256.h"

#define HEARTBEAT_US (15 * 1000000)
#define MAX_UNSENT (1024 * 1024)

typedef struct gwi_stream
{
	char	   *out;			/* malloc'd */
	size_t		len;
	size_t		sent;
	size_t		room;
	bool		suspended;		/* the connection, for want of news */
	bool		ended;
	int64_t		moved_us;		/* when something was sent last, or there was nothing to send */
	uint8_t		last[32];		/* hash of the last event */
} gwi_stream;

static ssize_t
reader(void *cls, uint64_t at, char *out, size_t most)
{
	gwi_request *r = cls;
	gwi_stream *s = r->stream;
	size_t		n = s->len - s->sent < most ? s->len - s->sent : most;

	s->moved_us = gwi_now_us();
	if (n == 0)
	{
		if (s->ended)
			return MHD_CONTENT_READER_END_OF_STREAM;
		s->suspended = true;
		MHD_suspend_connection(r->conn->mhd);
		return 0;
	}
	memcpy(out, s->out + s->sent, n);
	s->sent += n;
	if (s->sent == s->len)
		s->sent = s->len = 0;
	return (ssize_t) n;
}

static void
wake(gwi_request *r)
{
	if (r->stream->suspended)
	{
		r->stream->suspended = false;
		r->stream->moved_us = gwi_now_us();
		gwi_resume(r);
	}
}

/* More to send; where there is no room it is left out. */
static void
append(gwi_stream *s, const char *text, size_t len)
{
	if (s->len + len > s->room)
	{
		size_t		room = s->room ? s->room : 1024;
		char	   *out;

		while (room < s->len + len)
			room *= 2;
		out = realloc(s->out, room);
		if (out == NULL)
			return;
		gwi_memory += (int64_t) (room - s->room);
		s->out = out;
		s->room = room;
	}
	memcpy(s->out + s->len, text, len);
	s->len += len;
}

void
gwi_stream_news(gwi_request *r, const char *body, size_t len)
{
	gwi_stream *s = r->stream;
	const char *end = body + len;
	uint8_t		hash[32];

	mr_sha256_of(body, len, hash);
	if (memcmp(hash, s->last, sizeof(hash)) == 0 || s->len - s->sent + len > MAX_UNSENT)
		return;
	memcpy(s->last, hash, sizeof(hash));
	do
	{
		const char *line = memchr(body, '\n', (size_t) (end - body));
		const char *stop = line ? line : end;

		append(s, "data: ", 6);
		append(s, body, (size_t) (stop - body));
		append(s, "\n", 1);
		body = stop + 1;
	} while (body < end);
	append(s, "\n", 1);
	wake(r);
}

void
gwi_stream_open(gwi_request *r, const char *body, size_t len)
{
	struct MHD_Response *answer;

	r->stream = calloc(1, sizeof(gwi_stream));
	answer = r->stream ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, reader, r, NULL) : NULL;
	if (answer == NULL)
	{
		free(r->stream);
		r->stream = NULL;
		gwi_error(r, 503, "out of memory", NULL);
		return;
	}
	gwi_n_streams++;
	r->stream->moved_us = gwi_now_us();
	gwi_answer_stream(r, answer);
	gwi_stream_news(r, body, len);
}

void
gwi_stream_end(gwi_request *r)
{
	r->stream->ended = true;
	wake(r);
}

void
gwi_stream_look(gwi_request *r, int64_t now)
{
	gwi_stream *s = r->stream;

	if (!s->suspended && now - s->moved_us > gwi_set.header_timeout_ms * INT64_C(1000))
		r->conn->deadline_us = 1;	/* at once */
	else if (s->suspended && now - s->moved_us > HEARTBEAT_US)
	{
		append(s, ":\n\n", 3);
		wake(r);
	}
}

void
gwi_stream_free(gwi_request *r)
{
	gwi_n_streams--;
	gwi_memory -= (int64_t) r->stream->room;
	free(r->stream->out);
	free(r->stream);
	r->stream = NULL;
}
