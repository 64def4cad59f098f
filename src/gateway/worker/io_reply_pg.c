/*
 * io_reply_pg.c
 *	  What becomes of a request by its executor's response: it is answered, called again in a while, or its
 *	  stream goes on.
 *
 * Memory: what is kept of a response is malloc'd.  Locks: none.
 */
#include "postgres.h"

#include "gateway/worker/io_pg.h"

#define MIN_AGAIN_MS 10

/* Answer it, and let its connection go on. */
void
gwi_refuse(gwi_request *r, int status, const char *message)
{
	gwi_leave(r);
	gwi_error(r, status, message, NULL);
	gwi_resume(r);
}

static void
call_again(gwi_request *r, int64 due_us)
{
	r->state = GWI_PENDING;
	r->due_us = due_us;
	TAILQ_INSERT_TAIL(&gwi_pending, r, node);
}

/* A call that came to nothing: a stream goes on, anything else is answered. */
void
gwi_fail(gwi_request *r, int status, const char *message)
{
	gwi_leave(r);
	if (r->stream)
		call_again(r, gwi_now_us() + r->route->interval_ms * INT64CONST(1000));
	else
		gwi_refuse(r, status, message);
}

static char *
copy_slice(const gw_response *p, gw_slice slice)
{
	char	   *copy = malloc(slice.len + 1);

	if (copy)
	{
		memcpy(copy, gw_text(p, slice), slice.len);
		copy[slice.len] = '\0';
	}
	return copy;
}

static void
keep_reply(gwi_request *r, const gw_response *p)
{
	gwi_reply_free(&r->later);
	r->later.status = p->status;
	r->later.type = copy_slice(p, p->type);
	r->later.headers = copy_slice(p, p->headers);
	r->later.body = copy_slice(p, p->body);
	r->later.len = r->later.body ? p->body.len : 0;
}

void
gwi_send_later(gwi_request *r)
{
	char	   *body = r->later.body;

	gwi_leave(r);
	r->later.body = NULL;
	gwi_answer(r, r->later.status, r->later.type, r->later.headers, body, r->later.len);
	gwi_resume(r);
}

/* Not yet: call the poll function in a while. */
static void
keep_polling(gwi_request *r, const gw_response *p)
{
	if (p->again_ms > 0)
	{
		keep_reply(r, p);
		free(r->poll);
		r->poll = copy_slice(p, p->poll);
		r->again_ms = Max(p->again_ms, MIN_AGAIN_MS);
		r->until_us = r->came_us + p->within_ms * INT64CONST(1000);
	}
	if (r->route->poll_function == NULL || r->poll == NULL || gwi_now_us() >= r->until_us)
	{
		gwi_send_later(r);
		return;
	}
	call_again(r, Min(r->until_us, gwi_now_us() + r->again_ms * INT64CONST(1000)));
}

static void
keep_streaming(gwi_request *r, const gw_response *p)
{
	const char *body = gw_text(p, p->body);

	if (r->stream == NULL)
	{
		gwi_stream_open(r, body, p->body.len);
		gwi_resume(r);
		if (r->stream == NULL)
			return;
	}
	else if (p->status == 200)
		gwi_stream_news(r, body, p->body.len);
	else if (p->status >= 400 && p->status != 503)
	{
		gwi_stream_end(r);
		return;
	}
	call_again(r, gwi_now_us() + r->route->interval_ms * INT64CONST(1000));
}

void
gwi_reply_take(gwi_request *r, const gw_response *p)
{
	if (r->stream || (r->route->interval_ms > 0 && !r->head && p->status == 200))
		keep_streaming(r, p);
	else if (p->again_ms > 0 || (p->status == 0 && r->kind == GW_POLL))
		keep_polling(r, p);
	else if (p->status >= 500 && p->body.len == 0)
		gwi_refuse(r, p->status, "the request was cancelled");
	else
	{
		char	   *type = copy_slice(p, p->type);
		char	   *headers = copy_slice(p, p->headers);

		gwi_answer(r, p->status, type, headers, p->body.len > 0 ? copy_slice(p, p->body) : NULL, p->body.len);
		if (p->status == 503)
			gwi_add(r, "Retry-After", "1");
		free(type);
		free(headers);
		gwi_resume(r);
	}
}
