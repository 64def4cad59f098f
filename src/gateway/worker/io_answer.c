/*
 * io_answer.c
 *	  Responses, and the headers that each has.
 */
#include "gateway/worker/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/utf8.h"

static const char nothing[] = "";

void
gwi_add(gwi_request *r, const char *name, const char *value)
{
	if (r->answer)
		(void) MHD_add_response_header(r->answer, name, value);
}

/* The function's, "Name: value\n" each; is a header of this name among them? */
static void
add_headers(gwi_request *r, const char *lines, bool *cache, char etag[200])
{
	while (*lines)
	{
		const char *end = strchr(lines, '\n');
		size_t		len = end ? (size_t) (end - lines) : strlen(lines);
		const char *colon = memchr(lines, ':', len);
		char		name[128];

		if (colon && (size_t) (colon - lines) < sizeof(name))
		{
			size_t		n = (size_t) (colon - lines);
			const char *p = colon + 1 + (colon[1] == ' ');
			char	   *value = strndup(p, len - (size_t) (p - lines));

			memcpy(name, lines, n);
			name[n] = '\0';
			if (value)
			{
				gwi_add(r, name, value);
				*cache |= strcasecmp(name, "cache-control") == 0;
				if (strcasecmp(name, "etag") == 0)
					snprintf(etag, 200, "%s", value);
			}
			free(value);
		}
		lines += len + (end != NULL);
	}
}

/* What every answer says. */
static void
add_common(gwi_request *r, bool cache)
{
	gwi_add(r, "X-Content-Type-Options", "nosniff");
	if (!cache)
		gwi_add(r, "Cache-Control", "no-store");
	if (r->origin[0])
	{
		gwi_add(r, "Access-Control-Allow-Origin", r->origin);
		if (strcmp(r->origin, "*") != 0)
			gwi_add(r, "Vary", "Origin");
	}
	if (r->close)
		gwi_add(r, "Connection", "close");
}

void
gwi_answer(gwi_request *r, int status, const char *type, const char *headers, char *body, size_t len)
{
	char		etag[200] = "";
	bool		cache = false;

	if (body == NULL || len == 0)
	{
		free(body);
		body = NULL;
		len = 0;
	}
	r->status = status < 200 || status > 599 ? 500 : status;
	r->answer = body ? MHD_create_response_from_buffer(len, body, MHD_RESPMEM_MUST_FREE) :
		MHD_create_response_from_buffer(0, (void *) (uintptr_t) nothing, MHD_RESPMEM_PERSISTENT);
	if (r->answer == NULL)
	{
		free(body);
		return;
	}
	r->answer_len = len;
	gwi_memory += (int64_t) len;
	if (headers)
		add_headers(r, headers, &cache, etag);
	/* What the client has already is not sent again. */
	if (etag[0] && r->etags && status == 200 && r->method == GW_GET &&
		(strcmp(r->etags, "*") == 0 || gw_listed(r->etags, etag) || (strncmp(etag, "W/", 2) == 0 && gw_listed(r->etags, etag + 2))))
		r->status = 304;
	else if (type && *type && body)
	{
		char		full[300];

		if (strncmp(type, "text/", 5) == 0 && strchr(type, ';') == NULL)
		{
			snprintf(full, sizeof(full), "%s; charset=utf-8", type);
			type = full;
		}
		gwi_add(r, "Content-Type", type);
	}
	add_common(r, cache);
}

void
gwi_answer_stream(gwi_request *r, struct MHD_Response *answer)
{
	r->status = 200;
	r->answer = answer;
	gwi_add(r, "Content-Type", "text/event-stream");
	gwi_add(r, "X-Accel-Buffering", "no");	/* proxies pass it on at once */
	add_common(r, false);
}

char *
gwi_put_json(char *out, const char *text, size_t len, bool lower)
{
	bool		utf8 = mr_utf8(text, len);

	for (size_t i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if (c < 0x20 || c == 0x7f)
			out += sprintf(out, "\\u%04x", c);
		else if (c >= 0x80 && !utf8)
		{
			*out++ = (char) (0xc0 | c >> 6);
			*out++ = (char) (0x80 | (c & 0x3f));
		}
		else
		{
			if (c == '"' || c == '\\')
				*out++ = '\\';
			*out++ = lower && c >= 'A' && c <= 'Z' ? (char) (c + 32) : (char) c;
		}
	}
	return out;
}

/* A text with its quotes. */
static char *
quote(char *out, const char *text)
{
	*out++ = '"';
	out = gwi_put_json(out, text, strlen(text), false);
	*out++ = '"';
	return out;
}

void
gwi_error(gwi_request *r, int status, const char *message, const char *hint)
{
	char	   *body = malloc(100 + 6 * (strlen(message) + (hint ? strlen(hint) : 0)));
	char	   *p = body;

	if (body)
	{
		p += sprintf(p, "{\"code\":\"PT%03d\",\"message\":", status);
		p = quote(p, message);
		p = stpcpy(p, ",\"details\":null,\"hint\":");
		p = hint ? quote(p, hint) : stpcpy(p, "null");
		*p++ = '}';
	}
	gwi_answer(r, status, "application/json", NULL, body, (size_t) (p - body));
	if (status == 503)
		gwi_add(r, "Retry-After", "1");
}

void
gwi_reply_free(gwi_reply *reply)
{
	free(reply->type);
	free(reply->headers);
	free(reply->body);
	memset(reply, 0, sizeof(*reply));
}
