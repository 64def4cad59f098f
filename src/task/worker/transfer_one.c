/*
 * transfer_one.c
 *	  One request by libcurl: what it is told, what it takes in, how it ended.
 *
 * HTTP and HTTPS only, no redirects, no proxy, no .netrc, no decompression, no
 * cookies; TLS 1.2 at least; the address is checked where it is connected to,
 * whatever its name resolved to.  Callbacks run within tsk_net_turn() and throw
 * nothing: what they refuse comes back as CURLE_WRITE_ERROR.
 */
#include "task/worker/transfer_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define MAX_HEADERS (64 << 10)	/* bytes of an answer's */
#define MAX_TOLD (8 << 10)		/* kept of the body of an error */
#define MAX_UNTOLD (1 << 20)	/* of it in all */

static curl_socket_t
open_checked(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	tsk_one    *t = arg;

	if (t->net->o.refuses && t->net->o.refuses(&address->addr))
	{
		t->refused = true;
		return CURL_SOCKET_BAD;
	}
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int
note_connected(void *arg, char *remote, char *local, int remote_port, int local_port)
{
	tsk_one    *t = arg;

	t->connected = true;
	t->window = tsk_now_us(t->net);
	return CURL_PREREQFUNC_OK;
}

/* Give up from within a callback: the reason, which comes back as CURLE_WRITE_ERROR. */
static size_t
refuse(tsk_one *t, tsk_cut cut, const char *error)
{
	t->t.cut = cut;
	t->gave_up = true;
	snprintf(t->t.error, sizeof(t->t.error), "%s", error);
	return 0;
}

/* Value of a header line if it has this name (in lower case, with its colon), without blanks around it; false: it has not. */
static bool
header_value(const char *line, size_t len, const char *name, char *to, size_t room)
{
	size_t		n = strlen(name);

	if (len < n || strncasecmp(line, name, n) != 0)
		return false;
	for (line += n, len -= n; len > 0 && (*line == ' ' || *line == '\t'); line++)
		len--;
	while (len > 0 && strchr("\r\n \t", line[len - 1]))
		len--;
	if (len >= room)
		len = room - 1;
	memcpy(to, line, len);
	to[len] = '\0';
	return true;
}

static size_t
take_header(char *data, size_t size, size_t n, void *arg)
{
	tsk_one    *t = arg;
	char		ms[16];			/* no more digits than a number has room for */

	t->header_bytes += size * n;
	if (t->header_bytes > MAX_HEADERS)
		return refuse(t, TSK_NO_HTTP, "the answer's headers are larger than 64 kB");
	/* OpenAI's own form; libcurl knows the standard's two. */
	if (header_value(data, size * n, "retry-after-ms:", ms, sizeof(ms)) && strspn(ms, "0123456789.") == strlen(ms))
		t->t.retry_after_ms = strtoll(ms, NULL, 10);
	else
		(void) header_value(data, size * n, "content-type:", t->t.content_type, sizeof(t->t.content_type));
	return size * n;
}

/* Room for len bytes more of a body that shall have `expected` (-1: unknown). */
static bool
make_room(tsk_one *t, size_t len, int64_t expected)
{
	size_t		want = t->t.len + len;
	size_t		room = t->room ? t->room * 2 : 16384;
	char	   *body;

	if (want <= t->room)
		return true;
	if (expected >= (int64_t) want && (int64_t) room > expected)
		room = (size_t) expected;
	if (room < want)
		room = want;
	body = realloc(t->t.body, room);
	if (body == NULL)
		return false;
	t->t.body = body;
	t->room = room;
	return true;
}

static size_t
take_body(char *data, size_t size, size_t n, void *arg)
{
	tsk_one    *t = arg;
	size_t		len = size * n;
	size_t		keep = len;
	curl_off_t	expected = -1;
	long		status = 0;
	char		error[128];

	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &expected);
	if (status < 200 || status > 299)
	{
		if (t->received + (int64_t) len > MAX_UNTOLD)
			return refuse(t, TSK_WHOLE, "");	/* the status says enough */
		keep = t->t.len >= MAX_TOLD ? 0 : len < MAX_TOLD - t->t.len ? len : MAX_TOLD - t->t.len;
	}
	else if (expected > t->net->o.max_bytes || t->received + (int64_t) len > t->net->o.max_bytes)
	{
		if (expected > t->net->o.max_bytes)
			snprintf(error, sizeof(error), "its %lld bytes are more than the %lld allowed", (long long) expected, (long long) t->net->o.max_bytes);
		else
			snprintf(error, sizeof(error), "it is larger than the %lld bytes allowed", (long long) t->net->o.max_bytes);
		return refuse(t, TSK_LARGE, error);
	}
	else if (t->net->buffered + (int64_t) len > t->net->o.budget && t != t->net->active)
	{
		t->paused = true;
		return CURL_WRITEFUNC_PAUSE;
	}
	if (keep > 0)
	{
		if (!make_room(t, keep, expected))
			return refuse(t, TSK_MEMORY, "out of memory");
		memcpy(t->t.body + t->t.len, data, keep);
		t->t.len += keep;
		t->net->buffered += (int64_t) keep;
	}
	t->received += (int64_t) len;
	return len;
}

bool
tsk_configure(tsk_one *t, const tsk_call *call)
{
	const tsk_net_options *o = &t->net->o;
	CURL	   *c = t->easy;
	bool		good = true;

#define SET(option, value) (good = good && curl_easy_setopt(c, (option), (value)) == CURLE_OK)
	SET(CURLOPT_URL, call->url);
	SET(CURLOPT_CUSTOMREQUEST, call->method);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_PATH_AS_IS, 1L);
	SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long) CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTP_CONTENT_DECODING, 0L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_QUICK_EXIT, 1L);	/* never wait for a resolver's thread */
	SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, o->verify ? 1L : 0L);
	SET(CURLOPT_SSL_VERIFYHOST, o->verify ? 2L : 0L);
	SET(CURLOPT_CONNECTTIMEOUT_MS, 3600000L);	/* ours come first */
	SET(CURLOPT_ERRORBUFFER, t->curl_error);
	SET(CURLOPT_HTTPHEADER, t->headers);
	SET(CURLOPT_HEADERFUNCTION, take_header);
	SET(CURLOPT_HEADERDATA, t);
	SET(CURLOPT_WRITEFUNCTION, take_body);
	SET(CURLOPT_WRITEDATA, t);
	SET(CURLOPT_PREREQFUNCTION, note_connected);
	SET(CURLOPT_PREREQDATA, t);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_checked);
	SET(CURLOPT_OPENSOCKETDATA, t);
	SET(CURLOPT_PRIVATE, t);
	if (call->body)
	{
		SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) call->body_len);
		SET(CURLOPT_POSTFIELDS, call->body);
	}
	if (o->ca_pem)
	{
		struct curl_blob pem = {(void *) o->ca_pem, strlen(o->ca_pem), CURL_BLOB_NOCOPY};

		SET(CURLOPT_CAINFO_BLOB, &pem);
	}
	if (o->ca_location)
		SET(CURLOPT_CAINFO, o->ca_location);
#undef SET
	return good;
}

static void
cut(tsk_one *t, tsk_cut how, const char *error)
{
	t->t.cut = how;
	snprintf(t->t.error, sizeof(t->t.error), "%s", error);
}

void
tsk_note_result(tsk_one *t, CURLcode result)
{
	const char *error = t->curl_error[0] ? t->curl_error : curl_easy_strerror(result);

	switch (result)
	{
		case CURLE_OK:
			break;
		case CURLE_WRITE_ERROR:
			if (!t->gave_up)
				cut(t, TSK_LOST, error);
			break;
		case CURLE_PARTIAL_FILE:
			cut(t, TSK_TRUNCATED, error);
			break;
		case CURLE_OPERATION_TIMEDOUT:
			cut(t, TSK_SLOW, error);
			break;
		case CURLE_OUT_OF_MEMORY:
			cut(t, TSK_MEMORY, error);
			break;
		case CURLE_SEND_ERROR:
		case CURLE_RECV_ERROR:
		case CURLE_GOT_NOTHING:
			cut(t, TSK_LOST, error);
			break;
		case CURLE_UNSUPPORTED_PROTOCOL:
		case CURLE_WEIRD_SERVER_REPLY:
		case CURLE_HTTP2:
		case CURLE_BAD_CONTENT_ENCODING:
			cut(t, TSK_NO_HTTP, error);
			break;
		default:
			if (t->refused)
				cut(t, TSK_REFUSED, "the server's address is of a private network");
			else
				cut(t, t->connected ? TSK_LOST : TSK_UNCONNECTED, error);
	}
}
