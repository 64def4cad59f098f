/*
 * listen.c
 *	  millrace.http_listen, read.  See listen.h.
 */
#include "gateway/listen.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool
known_address(const char *text)
{
	struct in6_addr scratch;

	return strcmp(text, "*") == 0 || strcmp(text, "localhost") == 0 ||
		inet_pton(AF_INET, text, &scratch) == 1 || inet_pton(AF_INET6, text, &scratch) == 1;
}

/* One "[pipeline=]address:port" of len characters; what is wrong, or NULL. */
static const char *
parse_one(const char *text, size_t len, gw_listen *out)
{
	const char *end = text + len;
	const char *equals = memchr(text, '=', len);
	const char *colon = end;
	long		port = 0;

	memset(out, 0, sizeof(*out));
	if (equals)
	{
		if (equals == text || (size_t) (equals - text) >= sizeof(out->pipeline))
			return "a pipeline's name stands before =";
		memcpy(out->pipeline, text, (size_t) (equals - text));
		text = equals + 1;
	}
	while (colon > text && colon[-1] != ':')
		colon--;
	if (colon == text || colon == end)
		return "an address ends with :port";
	for (const char *p = colon; p < end; p++)
	{
		if (*p < '0' || *p > '9' || port > 65535)
			return "a port is a number from 1 to 65535";
		port = port * 10 + (*p - '0');
	}
	if (port < 1 || port > 65535)
		return "a port is a number from 1 to 65535";
	out->port = (int) port;
	end = colon - 1;
	if (end - text >= 2 && *text == '[' && end[-1] == ']')
	{
		text++;
		end--;
	}
	if ((size_t) (end - text) >= sizeof(out->address))
		return "an address is numeric, localhost or *";
	memcpy(out->address, text, (size_t) (end - text));
	return known_address(out->address) ? NULL : "an address is numeric, localhost or *";
}

int
gw_listen_parse(const char *text, gw_listen out[GW_MAX_LISTEN], const char **wrong)
{
	int			n = 0;

	*wrong = NULL;
	for (;;)
	{
		const char *comma = text + strcspn(text, ",");
		const char *end = comma;

		while (text < end && is_space(*text))
			text++;
		while (end > text && is_space(end[-1]))
			end--;
		if (text == end && *comma == '\0' && n == 0)
			return 0;
		if (n == GW_MAX_LISTEN)
			*wrong = "there are too many addresses";
		else
			*wrong = parse_one(text, (size_t) (end - text), &out[n]);
		if (*wrong)
			return -1;
		n++;
		if (*comma == '\0')
			return n;
		text = comma + 1;
	}
}
