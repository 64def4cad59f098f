/*
 * json.c
 *	  Pieces of a JSON message: what core/json.c reads, its failures as faults of
 *	  the message.  See json.h.
 */
#include "stream/worker/json.h"

#include <string.h>

/* What a step of core/json.h said of itself, as the message's fault: false. */
static __attribute__((cold)) bool
told(kfk_json *ps)
{
	const mr_status *st = ps->in.st;

	return kfk_fail(ps->fault, st->code == MR_LIMIT ? "54001" : st->code == MR_UNSUPPORTED ? "22P05" : "22P02", "%s", st->message);
}

bool
kfk_json_syntax(kfk_json *ps, const char *expected)
{
	mr_status	st;

	ps->in.st = &st;
	mr_json_syntax(&ps->in, expected);
	return told(ps);
}

bool
kfk_json_scan(kfk_json *ps, const char **content, size_t *len, bool *escaped)
{
	mr_status	st;

	ps->in.st = &st;
	return mr_json_string(&ps->in, content, len, escaped) || told(ps);
}

bool
kfk_json_unescape(kfk_json *ps, const char *p, size_t len, char *out, size_t *out_len)
{
	mr_status	st;

	ps->in.st = &st;
	return mr_json_unescape(&ps->in, p, len, out, out_len) || told(ps);
}

bool
kfk_json_skip(kfk_json *ps)
{
	mr_status	st;

	ps->in.st = &st;
	return mr_json_skip(&ps->in) || told(ps);
}

bool
kfk_json_string(kfk_json *ps, size_t reserve, char **data, size_t *len)
{
	const char *content;
	size_t		content_len;
	bool		escaped;
	char	   *piece;

	if (!kfk_json_scan(ps, &content, &content_len, &escaped))
		return false;
	piece = kfk_take(ps->decoder->arena, reserve + content_len + 1);
	if (piece == NULL)
		return kfk_fail_memory(ps->fault);
	*data = piece + reserve;
	if (!escaped)
	{
		memcpy(*data, content, content_len);
		*len = content_len;
	}
	else if (!kfk_json_unescape(ps, content, content_len, *data, len))
		return false;
	(*data)[*len] = '\0';
	return true;
}

bool
kfk_json_raw(kfk_json *ps, size_t reserve, char **data, size_t *len)
{
	const char *from = ps->in.p;
	char	   *piece;

	if (!kfk_json_skip(ps))
		return false;
	*len = (size_t) (ps->in.p - from);
	piece = kfk_take(ps->decoder->arena, reserve + *len + 1);
	if (piece == NULL)
		return kfk_fail_memory(ps->fault);
	*data = piece + reserve;
	memcpy(*data, from, *len);
	(*data)[*len] = '\0';
	return true;
}
