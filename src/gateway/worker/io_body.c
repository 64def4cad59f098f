/*
 * io_body.c
 *	  A request's body: kept as it comes, within what may be kept, and taken apart when it is there.
 */
#include "gateway/worker/io_count.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/utf8.h"

#define FIRST_ROOM 4096
#define MAX_DISCARD (1024 * 1024)	/* of a body whose answer is made already */

/* The answer is made; what still comes is thrown away, and the connection cut where it is too much. */
static void
refuse(gwi_request *r, int status, const char *message, const char *hint)
{
	gwi_body_free(r);
	r->discard = true;
	r->close = true;
	gwi_error(r, status, message, hint);
}

void
gwi_body_more(gwi_request *r, const char *data, size_t len)
{
	size_t		room = r->body_room ? r->body_room : FIRST_ROOM;
	char	   *body;

	r->received += len;
	if (r->discard)
	{
		if (r->received > (uint64_t) r->discard_most)
			r->conn->deadline_us = 1;	/* at once */
		return;
	}
	if (r->body_len + len > (uint64_t) r->route->max_body)
	{
		r->discard_most = (int64_t) r->received + MAX_DISCARD;
		refuse(r, 413, "the request's body is too large", NULL);
		return;
	}
	while (room < r->body_len + len + 1)
		room *= 2;
	if (room != r->body_room)
	{
		body = gwi_memory + (int64_t) (room - r->body_room) > GWI_MEMORY ? NULL : realloc(r->body, room);
		if (body == NULL)
		{
			r->discard_most = (int64_t) r->received + MAX_DISCARD;
			gwi_events[GWI_REFUSED_FULL]++;
			refuse(r, 503, "too many large requests are under way", NULL);
			return;
		}
		gwi_memory += (int64_t) (room - r->body_room);
		r->body = body;
		r->body_room = room;
	}
	memcpy(r->body + r->body_len, data, len);
	r->body_len += len;
	r->body[r->body_len] = '\0';
}

void
gwi_body_free(gwi_request *r)
{
	free(r->body);
	free(r->fields);
	gwi_memory -= (int64_t) r->body_room;
	r->body = NULL;
	r->fields = NULL;
	r->body_len = r->body_room = 0;
}

/* Parameters of the query, then of the form, then of the path: whoever takes them minds names that come again. */
static const char *
read_fields(gwi_request *r)
{
	const gw_pattern *pattern = r->pattern;
	gw_bytes	boundary = {r->boundary, strlen(r->boundary)};
	const char *wrong = NULL;

	if (r->query && *r->query)
		wrong = gw_fields_read(r->query, strlen(r->query), GW_QUERY, r->fields);
	if (wrong == NULL && r->media == GW_MEDIA_FORM)
		wrong = gw_fields_read(r->body, r->body_len, GW_FIELD, r->fields);
	if (wrong == NULL && r->media == GW_MEDIA_MULTIPART)
		wrong = gw_multipart_read(r->body, r->body_len, boundary, r->fields);
	for (int i = 0; i < pattern->n && wrong == NULL; i++)
		if (pattern->names >> i & 1)
		{
			gw_field	field = {.source = GW_PATH,.name = pattern->segment[i],.value = r->path.segment[i]};

			wrong = gw_fields_add(r->fields, &field);
		}
	return wrong;
}

void
gwi_body_end(gwi_request *r)
{
	const char *wrong = NULL;

	if (r->body_len == 0)
		r->media = GW_MEDIA_NONE;
	if (r->media == GW_MEDIA_JSON)
		r->body_kind = GW_JSON;
	else if (r->media == GW_MEDIA_OTHER)
		r->body_kind = GW_RAW;
	if (r->media == GW_MEDIA_JSON && !mr_utf8(r->body, r->body_len))
		wrong = "the request's body is not UTF-8";
	else if (r->query || r->media == GW_MEDIA_FORM || r->media == GW_MEDIA_MULTIPART || r->pattern->names)
	{
		r->fields = malloc(sizeof(gw_fields));
		if (r->fields == NULL)
		{
			gwi_error(r, 503, "out of memory", NULL);
			return;
		}
		r->fields->n = 0;
		wrong = read_fields(r);
	}
	if (wrong)
		gwi_error(r, 400, wrong, NULL);
	else if (gwi_n_waiting >= gwi_set.queue + gwi_idle)
	{
		gwi_events[GWI_REFUSED_FULL]++;
		gwi_error(r, 503, "too many requests wait", NULL);
	}
	else if (r->route->interval_ms > 0 && gwi_n_streams >= gwi_set.streams)
		gwi_error(r, 503, "too many streams of events are open", NULL);
	r->deadline_us = gwi_now_us() + r->route->timeout_ms * INT64_C(1000);
}
