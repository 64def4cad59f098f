/*
 * io_head.c
 *	  A request's head judged, before any of its body is asked for: framing, path, token, limits, kind of body.
 */
#include "gateway/worker/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "core/sha256.h"
#include "core/utf8.h"
#include "gateway/rate.h"

#define MAX_HEADERS 100
#define MAX_HEAD (16 * 1024)	/* what is longer than libmicrohttpd's buffer, it refuses itself */
#define MAX_TARGET 8192
#define SMALL_BODY (1024 * 1024)	/* thrown away, rather than the connection closed, where the answer is made already */

static gw_rate rates;

typedef struct header
{
	const char *name;
	size_t		name_len;
	const char *value;
	size_t		len;
} header;

typedef struct headers
{
	int			n;
	size_t		bytes;
	header		h[MAX_HEADERS];
} headers;

static enum MHD_Result
collect(void *cls, enum MHD_ValueKind kind, const char *name, size_t name_len, const char *value, size_t len)
{
	headers    *all = cls;

	if (all->n < MAX_HEADERS)
	{
		header	   *h = &all->h[all->n];

		h->name = name;
		h->name_len = name_len;
		h->value = value ? value : "";
		h->len = value ? len : 0;
	}
	all->n++;
	all->bytes += name_len + len;
	return MHD_YES;
}

static const char *
find(const headers *all, const char *name)
{
	size_t		len = strlen(name);

	for (int i = 0; i < all->n; i++)
		if (all->h[i].name_len == len && strncasecmp(all->h[i].name, name, len) == 0)
			return all->h[i].value;
	return NULL;
}

static int
count(const headers *all, const char *name)
{
	size_t		len = strlen(name);
	int			n = 0;

	for (int i = 0; i < all->n; i++)
		n += all->h[i].name_len == len && strncasecmp(all->h[i].name, name, len) == 0;
	return n;
}

/* ---- request.headers */

static bool
is_secret(const header *h)
{
	static const char *const secret[] = {"authorization", "proxy-authorization", "cookie"};

	for (int i = 0; i < 3; i++)
		if (strlen(secret[i]) == h->name_len && strncasecmp(secret[i], h->name, h->name_len) == 0)
			return true;
	return false;
}

static bool
same_name(const header *a, const header *b)
{
	return a->name_len == b->name_len && strncasecmp(a->name, b->name, a->name_len) == 0;
}

static bool
keep_headers(gwi_request *r, const headers *all)
{
	const char *pipeline = gwi_set.listen[r->conn->listener].pipeline;
	size_t		most = 32 + 6 * strlen(pipeline);
	char	   *out;

	for (int i = 0; i < all->n; i++)
		most += 8 + 6 * (all->h[i].name_len + all->h[i].len);
	out = r->headers = malloc(most);
	if (out == NULL)
		return false;
	*out++ = '{';
	if (*pipeline)
	{
		out = stpcpy(out, "\":pipeline\":\"");
		out = gwi_put_json(out, pipeline, strlen(pipeline), false);
		*out++ = '"';
	}
	for (int i = 0; i < all->n; i++)
	{
		const header *h = &all->h[i];
		bool		again = false;

		for (int j = 0; j < i && !again; j++)
			again = same_name(&all->h[j], h);
		if (again || is_secret(h))
			continue;
		if (out[-1] != '{')
			*out++ = ',';
		*out++ = '"';
		out = gwi_put_json(out, h->name, h->name_len, true);
		out = stpcpy(out, "\":\"");
		out = gwi_put_json(out, h->value, h->len, false);
		for (int j = i + 1; j < all->n; j++)
			if (same_name(&all->h[j], h))
			{
				out = stpcpy(out, ", ");
				out = gwi_put_json(out, all->h[j].value, all->h[j].len, false);
			}
		*out++ = '"';
	}
	*out++ = '}';
	r->headers_len = (size_t) (out - r->headers);
	return true;
}

/* ---- steps; each makes the answer where it refuses */

static void
take_method(gwi_request *r, const char *method)
{
	snprintf(r->method_name, sizeof(r->method_name), "%s", method);
	r->head = strcmp(method, "HEAD") == 0;
	r->method = r->head ? GW_GET : gw_method_named(method);
}

/* How the body is framed must be beyond doubt. */
static void
check_framing(gwi_request *r, const headers *all)
{
	const char *coding = find(all, "transfer-encoding");
	const char *expect = find(all, "expect");
	const char *length = find(all, "content-length");

	r->announced = coding != NULL || (length && strspn(length, "0") != strlen(length));
	if ((coding && (length || strcasecmp(coding, "chunked") != 0)) ||
		count(all, "content-length") > 1 || count(all, "transfer-encoding") > 1)
	{
		r->close = true;
		gwi_error(r, coding && !length && count(all, "transfer-encoding") == 1 ? 501 : 400,
				  "the length of the request's body is in doubt", "One Content-Length, or Transfer-Encoding: chunked.");
	}
	else if (expect && strcasecmp(expect, "100-continue") != 0)
		gwi_error(r, 417, "the only expectation that can be met is 100-continue", NULL);
	else if (count(all, "host") > 1)
		gwi_error(r, 400, "the request names more than one host", NULL);
}

static void
find_route(gwi_request *r)
{
	int			l = r->conn->listener;
	unsigned	allowed;
	char	   *path;
	size_t		len;
	int			found;
	char		allow[64];

	r->work = path = strdup(r->target);
	if (path == NULL)
	{
		gwi_error(r, 503, "out of memory", NULL);
		return;
	}
	/* a proxy's form: the whole address */
	if (strncasecmp(path, "http://", 7) == 0 || strncasecmp(path, "https://", 8) == 0)
	{
		char	   *host = strstr(path, "//") + 2;

		path = host + strcspn(host, "/?");
	}
	len = strcspn(path, "?#");
	if (path[len] == '?')
	{
		r->query = path + len + 1;
		r->query[strcspn(r->query, "#")] = '\0';
	}
	r->path_at = (size_t) (path - r->work);
	r->path_len = len;
	if (!gw_path_parse(path, len, &r->path))
	{
		gwi_error(r, 400, "the request's path is malformed", NULL);
		return;
	}
	found = gw_route_match(r->book->pattern[l], r->book->patterns[l], &r->path, r->method, &allowed);
	if (found >= 0)
	{
		r->pattern = &r->book->pattern[l][found];
		r->route = r->pattern->route;
		return;
	}
	if (allowed == 0)
	{
		gwi_error(r, 404, "there is nothing at this path", NULL);
		return;
	}
	gw_allow(allowed, allow);
	if (r->method == GW_OPTIONS)
	{
		gwi_answer(r, 204, NULL, NULL, NULL, 0);
		if (r->origin[0])
		{
			gwi_add(r, "Access-Control-Allow-Methods", allow);
			gwi_add(r, "Access-Control-Allow-Headers", "Authorization, Content-Type, If-None-Match");
			gwi_add(r, "Access-Control-Max-Age", "600");
		}
	}
	else
		gwi_error(r, 405, "the path does not take this method", NULL);
	gwi_add(r, "Allow", allow);
}

static void
refuse_who(gwi_request *r, const headers *all, const char *message, bool expired)
{
	const char *accept = find(all, "accept");

	gwi_error(r, 401, message, "Send Authorization: Bearer and a token, which millrace.create_api_token() makes.");
	gwi_add(r, "WWW-Authenticate", expired ? "Bearer realm=\"millrace\", error=\"invalid_token\"" : "Bearer realm=\"millrace\"");
	if (accept && strstr(accept, "text/html"))
		gwi_add(r, "WWW-Authenticate", "Basic realm=\"millrace\", charset=\"UTF-8\"");
}

const gwi_who *
gwi_find(const gwi_book *book, const uint8_t sha256[32])
{
	unsigned	i;

	memcpy(&i, sha256, sizeof(i));
	for (;; i++)
	{
		const gwi_who *who = book->who[i & (unsigned) (book->whos - 1)];

		if (who == NULL || memcmp(who->sha256, sha256, 32) == 0)
			return who;
	}
}

bool
gwi_usable(const gwi_who *who)
{
	return who->role != 0 && (who->expires_s == INT64_MAX || time(NULL) < who->expires_s);
}

bool
gwi_allows(const gwi_who *who, const gwi_route *route)
{
	size_t		len = strlen(route->scope);
	bool		scope = who->n_scopes < 0;

	for (int i = 0; i < who->n_scopes && !scope; i++)
	{
		const char *s = who->scopes[i];
		size_t		n = strcspn(s, ":");

		scope = ((n == 1 && *s == '*') || (n == len && memcmp(s, route->scope, n) == 0)) &&
			(s[n] == '\0' || (strcmp(s + n, ":read") == 0 && route->read_only));
	}
	return scope && (route->need < 0 || who->member[route->need]);
}

static void
take_who(gwi_request *r, const headers *all)
{
	const gwi_book *book = r->book;
	const gwi_who *who;
	char		token[GW_MAX_TOKEN + 1];
	char		user[GW_MAX_TOKEN + 1];
	gw_auth		auth = count(all, "authorization") > 1 ? GW_AUTH_BAD : gw_auth_read(find(all, "authorization"), token, user);
	int			wait_s;

	if (auth == GW_AUTH_NONE)
	{
		who = r->route->open ? &book->open : &book->anonymous;
		r->anonymous = true;
		if (!gwi_usable(who) || (!r->route->open && !gwi_allows(who, r->route)))
		{
			refuse_who(r, all, "the request needs a token", false);
			return;
		}
	}
	else
	{
		if (auth == GW_AUTH_TOKEN)
			mr_sha256_of(token, strlen(token), r->sha256);
		explicit_bzero(token, sizeof(token));
		who = auth == GW_AUTH_TOKEN ? gwi_find(book, r->sha256) : NULL;
		if (who == NULL || !gwi_usable(who) || (user[0] && strcmp(user, who->role_name) != 0))
		{
			refuse_who(r, all, "the token is not valid", true);
			return;
		}
		if (!gwi_allows(who, r->route))
		{
			gwi_error(r, 403, "the token is not good for this", "Its scopes or its role do not reach the route.");
			return;
		}
	}
	r->role = who->role;
	r->token = who->id;
	if ((who->per_minute > 0 && !gw_rate_take(&rates, (uint64_t) who->id, 0, who->per_minute, r->came_us, &wait_s)) ||
		(r->route->per_minute > 0 &&
		 !gw_rate_take(&rates, who->id ? (uint64_t) who->id : r->conn->address, (uint64_t) r->route->id, r->route->per_minute, r->came_us, &wait_s)))
	{
		char		text[16];

		snprintf(text, sizeof(text), "%d", wait_s);
		gwi_error(r, 429, "too many requests", NULL);
		gwi_add(r, "Retry-After", text);
	}
}

static void
check_body(gwi_request *r, const headers *all)
{
	const char *type = find(all, "content-type");
	const char *coding = find(all, "content-encoding");
	const char *length = find(all, "content-length");
	char		text[1024];
	gw_bytes	boundary,
				charset;

	if (!r->announced)
		return;
	if (length && strtoull(length, NULL, 10) > (unsigned long long) r->route->max_body)
	{
		gwi_error(r, 413, "the request's body is too large", NULL);
		return;
	}
	if (coding && strcasecmp(coding, "identity") != 0)
	{
		gwi_error(r, 415, "encoded bodies are not taken", "Send it without Content-Encoding.");
		return;
	}
	snprintf(text, sizeof(text), "%s", type ? type : "");
	r->media = gw_media_read(text, &boundary, &charset);
	if (r->media == GW_MEDIA_NONE)
		r->media = r->route->media & GWI_MEDIA(GW_MEDIA_OTHER) ? GW_MEDIA_OTHER : GW_MEDIA_JSON;
	if (!(r->route->media & GWI_MEDIA(r->media)))
		r->media = GW_MEDIA_OTHER;	/* where bytes are taken, anything is */
	if (!(r->route->media & GWI_MEDIA(r->media)))
		gwi_error(r, 415, "the path does not take a body of this Content-Type", NULL);
	else if (r->media != GW_MEDIA_OTHER && charset.len > 0 && (charset.len != 5 || strncasecmp(charset.p, "utf-8", 5) != 0))
		gwi_error(r, 415, "texts are UTF-8", NULL);
	else if (r->media == GW_MEDIA_MULTIPART)
	{
		if (boundary.len == 0 || boundary.len >= sizeof(r->boundary))
			gwi_error(r, 400, "the form has no boundary, or one of more than 70 characters", NULL);
		else
		{
			memcpy(r->boundary, boundary.p, boundary.len);
			r->boundary[boundary.len] = '\0';
		}
	}
}

static void
take_origin(gwi_request *r, const headers *all)
{
	const char *origin = find(all, "origin");

	if (origin && gwi_set.origin[0] && (strcmp(gwi_set.origin, "*") == 0 || strcmp(gwi_set.origin, origin) == 0))
		snprintf(r->origin, sizeof(r->origin), "%s", gwi_set.origin);
}

void
gwi_head(gwi_request *r, struct MHD_Connection *mhd, const char *method)
{
	headers		all;
	const char *etags;

	all.n = 0;
	all.bytes = 0;
	(void) MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, collect, &all);
	take_method(r, method);
	if (strlen(r->target) > MAX_TARGET)
	{
		r->announced = r->close = true;
		gwi_error(r, 414, "the request's path and query are too long", NULL);
		return;
	}
	if (all.n > MAX_HEADERS || all.bytes > MAX_HEAD)
	{
		r->announced = r->close = true;
		gwi_error(r, 431, "the request's headers are too many or too long", NULL);
		return;
	}
	take_origin(r, &all);
	check_framing(r, &all);
	if (r->answer == NULL)
		find_route(r);
	if (r->answer == NULL)
		take_who(r, &all);
	if (r->answer == NULL)
		check_body(r, &all);
	if (r->answer == NULL && !keep_headers(r, &all))
		gwi_error(r, 503, "out of memory", NULL);
	if (r->answer == NULL && (etags = find(&all, "if-none-match")) != NULL)
		r->etags = strdup(etags);
	if (r->answer && r->announced && !r->close && find(&all, "expect") == NULL)
	{
		const char *length = find(&all, "content-length");

		/* a small body is read, so that the answer is, too */
		r->discard = length == NULL || strtoull(length, NULL, 10) <= SMALL_BODY;
		r->discard_most = SMALL_BODY;
	}
}
