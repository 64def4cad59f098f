/*
 * route.c
 *	  Paths, patterns, and which of them match.  See route.h.
 */
#include "gateway/route.h"

#include <string.h>

#include "core/utf8.h"

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

long
gw_unescape(char *text, size_t len, bool plus)
{
	char	   *out = text;

	for (size_t i = 0; i < len; i++)
	{
		if (text[i] == '%')
		{
			int			high = len - i > 2 ? hex(text[i + 1]) : -1;
			int			low = len - i > 2 ? hex(text[i + 2]) : -1;

			if (high < 0 || low < 0)
				return -1;
			*out++ = (char) (high << 4 | low);
			i += 2;
		}
		else
			*out++ = plus && text[i] == '+' ? ' ' : text[i];
	}
	return mr_utf8(text, (size_t) (out - text)) ? out - text : -1;
}

static bool
is_dots(const gw_bytes *s)
{
	return (s->len == 1 && s->p[0] == '.') || (s->len == 2 && s->p[0] == '.' && s->p[1] == '.');
}

bool
gw_path_parse(char *text, size_t len, gw_path *out)
{
	char	   *end = text + len;
	char	   *p = text + 1;

	out->n = 0;
	if (len == 0 || text[0] != '/')
		return false;
	if (len == 1)
		return true;
	for (;;)
	{
		char	   *slash = memchr(p, '/', (size_t) (end - p));
		long		n = gw_unescape(p, (size_t) ((slash ? slash : end) - p), false);

		if (n < 0 || out->n == GW_MAX_SEGMENTS)
			return false;
		out->segment[out->n].p = p;
		out->segment[out->n].len = (size_t) n;
		if (is_dots(&out->segment[out->n]))
			return false;
		out->n++;
		if (slash == NULL)
			return true;
		p = slash + 1;
	}
}

bool
gw_pattern_parse(const char *text, gw_pattern *out)
{
	const char *p = text;

	out->n = 0;
	out->names = 0;
	if (strcmp(text, "/") == 0)
		return true;
	while (*p == '/')
	{
		size_t		len = strcspn(++p, "/");

		if (out->n == GW_MAX_SEGMENTS)
			return false;
		out->segment[out->n].p = p;
		out->segment[out->n].len = len;
		if (len > 2 && p[0] == '{' && p[len - 1] == '}')
		{
			out->names |= 1u << out->n;
			out->segment[out->n].p = p + 1;
			out->segment[out->n].len = len - 2;
		}
		out->n++;
		p += len;
	}
	return *p == '\0';
}

static bool
matches(const gw_pattern *pattern, const gw_path *path)
{
	if (pattern->n != path->n)
		return false;
	for (int i = 0; i < path->n; i++)
	{
		const gw_bytes *want = &pattern->segment[i];
		const gw_bytes *have = &path->segment[i];

		if (have->len == 0)
			return false;
		if (!(pattern->names >> i & 1) && (want->len != have->len || memcmp(want->p, have->p, have->len) != 0))
			return false;
	}
	return true;
}

/* Has a the first word where the other has a parameter? */
static bool
beats(const gw_pattern *a, const gw_pattern *b)
{
	unsigned	differ = a->names ^ b->names;

	return differ != 0 && !(a->names & differ & -differ);
}

int
gw_route_match(const gw_pattern *patterns, int n, const gw_path *path, gw_method method, unsigned *allowed)
{
	int			best = -1;

	*allowed = 0;
	for (int i = 0; i < n; i++)
		if (matches(&patterns[i], path))
		{
			*allowed |= 1u << patterns[i].method;
			if (patterns[i].method == method && (best < 0 || beats(&patterns[i], &patterns[best])))
				best = i;
		}
	return best;
}

static const char *const method_names[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"};

const char *
gw_method_name(gw_method method)
{
	return method_names[method < GW_N_METHODS ? method : GW_N_METHODS];
}

gw_method
gw_method_named(const char *name)
{
	gw_method	m = GW_GET;

	while (m < GW_N_METHODS && strcmp(method_names[m], name) != 0)
		m++;
	return m;
}

void
gw_allow(unsigned allowed, char *out)
{
	char	   *end = out;

	for (gw_method m = GW_GET; m < GW_OPTIONS; m++)
		if (allowed >> m & 1)
		{
			end = stpcpy(stpcpy(end, method_names[m]), ", ");
			if (m == GW_GET)
				end = stpcpy(end, "HEAD, ");
		}
	strcpy(end, method_names[GW_OPTIONS]);
}
