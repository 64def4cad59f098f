/*
 * io_request_pg.c
 *	  A request as executors read it: written behind one another into a piece of shared memory.
 *
 * Memory: the caller's.  Locks: none.
 */
#include "postgres.h"

#include "gateway/worker/io_pg.h"

static char *
put_bytes(gw_request *q, uint64 *at, const char *bytes, size_t len, gw_slice *slice)
{
	slice->at = *at;
	slice->len = len;
	if (len > 0)
		memcpy((char *) q + *at, bytes, len);
	*at += len;
	return (char *) q + slice->at;
}

static void
put_value(gw_request *q, uint64 *at, const gw_field *f, gw_value *v)
{
	v->source = f->source;
	put_bytes(q, at, f->name.p, f->name.len, &v->name);
	put_bytes(q, at, f->value.p, f->value.len, &v->value);
	put_bytes(q, at, f->filename.p, f->filename.len, &v->filename);
	put_bytes(q, at, f->type.p, f->type.len, &v->type);
}

Size
gwi_request_size(const gwi_request *r, const char *function)
{
	Size		size = offsetof(gw_request, value) + strlen(function) + strlen(r->method_name) + r->path_len + r->headers_len;

	if (r->kind == GW_POLL)
		return size + strlen(r->poll);
	if (r->body_kind != GW_NO_BODY)
		size += r->body_len;
	for (int i = 0; r->fields && i < r->fields->n; i++)
	{
		const gw_field *f = &r->fields->field[i];

		size += sizeof(gw_value) + f->name.len + f->value.len + f->filename.len + f->type.len;
	}
	return size;
}

void
gwi_request_write(const gwi_request *r, const char *function, gw_request *q, Size size)
{
	const gwi_route *route = r->route;
	uint64		at;

	memset(q, 0, offsetof(gw_request, value));
	q->size = size;
	q->serial = r->serial;
	q->kind = r->kind;
	q->method = r->method;
	q->read_only = route->read_only;
	q->anonymous = r->anonymous;
	q->role = r->role;
	q->timeout_ms = (int) Max(1, (r->deadline_us - gwi_now_us()) / 1000);
	q->max_response = (int) gwi_set.max_response;
	q->n_values = r->fields && r->kind != GW_POLL ? r->fields->n : 0;
	at = offsetof(gw_request, value) + sizeof(gw_value) * q->n_values;
	put_bytes(q, &at, function, strlen(function), &q->function);
	put_bytes(q, &at, r->method_name, strlen(r->method_name), &q->method_name);
	put_bytes(q, &at, r->target + r->path_at, r->path_len, &q->path);
	put_bytes(q, &at, r->headers, r->headers_len, &q->headers);
	if (r->kind == GW_POLL)
		put_bytes(q, &at, r->poll, strlen(r->poll), &q->poll);
	else if (r->body_kind != GW_NO_BODY)
	{
		q->body_kind = r->body_kind;
		put_bytes(q, &at, r->body, r->body_len, &q->body);
	}
	for (int i = 0; i < q->n_values; i++)
		put_value(q, &at, &r->fields->field[i], &q->value[i]);
	Assert(at == size);
}
