/*
 * test_task_outcome.c
 *	  What answers mean, pauses between attempts, classes of latency; requests for objects, and what stores explain.
 */
#include "unit.h"

#include <math.h>

#include "task/worker/outcome.h"
#include "task/worker/s3.h"

static void
statuses(void)
{
	/* every status: is it tried again?  RFC 9110 and what clients of S3 do */
	static const int again[] = {408, 409, 425, 429, 500, 502, 503, 504, 529, 599};
	int			wrong = 0;

	for (int status = 100; status < 600; status++)
	{
		tsk_transfer t = {.status = status};
		tsk_outcome o;
		bool		expected = status >= 500 && status != 501 && status != 505;

		for (size_t i = 0; i < sizeof(again) / sizeof(again[0]); i++)
			expected = expected || status == again[i];
		tsk_judge(&t, &o);
		if (o.again != expected || (o.fault == TSK_FINE) != (status / 100 == 2) || strlen(o.sqlstate) != (status / 100 == 2 ? 0 : 5))
		{
			printf("# %d\n", status);
			wrong++;
		}
	}
	ok(wrong == 0, "500 statuses");
}

static const char *
sqlstate_of(int status, const char *body, tsk_outcome *o)
{
	tsk_transfer t = {.status = status,.body = (char *) body,.len = strlen(body)};

	tsk_judge(&t, o);
	return o->sqlstate;
}

static void
refusals(void)
{
	tsk_outcome o;

	ok(strcmp(sqlstate_of(403, "<Error><Code>AccessDenied</Code><Message>No &amp; no</Message>", &o), "42501") == 0 &&
	   strcmp(o.error, "the server answered 403 AccessDenied: No &amp; no") == 0, "a forbidden object");
	ok(strcmp(sqlstate_of(403, "<Code>SignatureDoesNotMatch</Code>", &o), "28000") == 0, "a wrong secret");
	ok(strcmp(sqlstate_of(400, "<Code>ExpiredToken</Code>", &o), "28000") == 0, "an old token");
	ok(strcmp(sqlstate_of(302, "", &o), "08004") == 0 && strstr(o.error, "302, which is not followed"), "a redirect");
	ok(strcmp(sqlstate_of(404, "<Code>a\nb\xff</Code>", &o), "58P01") == 0 && strcmp(o.error, "the server answered 404 a?b?") == 0, "what is no ASCII is masked");
	ok(strcmp(sqlstate_of(404, "<Code>unended", &o), "58P01") == 0 && strcmp(o.error, "the server answered 404") == 0, "an element without end");
	{
		tsk_transfer t = {.cut = TSK_LARGE,.status = 200,.error = "x"};

		tsk_judge(&t, &o);
		ok(strcmp(o.sqlstate, "54000") == 0 && !o.again, "too large is no matter of luck");
		t.cut = TSK_TRUNCATED;
		tsk_judge(&t, &o);
		ok(strcmp(o.sqlstate, "08P01") == 0 && o.again, "truncated is");
	}
}

static void
elements(void)
{
	/* every prefix of a body, and a short room: no byte outside is touched (ASan) */
	const char *body = "<Error><Code>NoSuchKey</Code><Message>none</Message></Error>";
	char		to[5];

	for (size_t n = 0; n <= strlen(body); n++)
	{
		char	   *copy = malloc(n + 1);

		memcpy(copy, body, n);
		tsk_s3_element(copy, n, "Message", to, sizeof(to));
		free(copy);
	}
	ok(strcmp(to, "none") == 0, "an element that just fits");
	tsk_s3_element(NULL, 0, "Message", to, sizeof(to));
	ok(to[0] == '\0', "of no body");
}

static void
pauses(void)
{
	bool		good = true;

	for (int n = 1; n < 200; n++)
	{
		int64_t		most = tsk_pause_ms(n, 1000, 0.999999999, 0);

		good = good && tsk_pause_ms(n, 1000, 0.0, 0) == 0 && most <= 60000 && most >= (n < 7 ? (1000 << (n - 1)) - 1 : 59999);
	}
	ok(good, "chance within a doubling time, a minute at most");
	ok(tsk_pause_ms(1, 1000, 0.5, 7) == 7000 && tsk_pause_ms(4, 1000, 0.9, 2) == 7200 && tsk_pause_ms(1, 1, 0, INT64_MAX / 2) == 3600000,
	   "Retry-After is the floor, an hour at most");
	ok(tsk_pause_ms(1, 3600000, 0.5, 0) == 1800000, "a base above a minute stays");
}

static void
latencies(void)
{
	bool		good = true;

	for (int64_t us = 0; us < 3000000; us += us / 17 + 1)
	{
		int			k = tsk_latency_class(us, 64);

		good = good && (double) us < pow(2, (k + 1) / 2.0) && (k == 0 || (double) us >= pow(2, k / 2.0));
	}
	ok(good, "a duration lies within the bounds of its class");
	ok(tsk_latency_class(INT64_MAX, 64) < 64 && tsk_latency_class(-5, 64) == 0, "the ends");
}

static const char *
header(const tsk_s3_request *r, const char *name)
{
	for (int i = 0; i < r->n_headers; i++)
		if (strncmp(r->headers[i], name, strlen(name)) == 0)
			return r->headers[i] + strlen(name);
	return "none";
}

static void
requests(void)
{
	tsk_store	store = {"https://s3.example:443/", "eu-1", false, "me", "secret", NULL};
	static tsk_s3_request r;
	mr_status	st;
	char		long_key[9000];

	ok(tsk_s3_prepare(&store, "GET", "b-1/a b+ü", NULL, 0, NULL, 0, &r, &st) == MR_OK && strcmp(r.url, "https://s3.example/b-1/a%20b%2B%C3%BC") == 0 &&
	   strcmp(header(&r, "x-amz-content-sha256: "), TSK_EMPTY_SHA256) == 0 && r.n_headers == 3, "by path; the scheme's port is left out");
	store.virtual_hosts = true;
	store.url = "http://[::1]:80";
	ok(tsk_s3_prepare(&store, "GET", "b-1/a", NULL, 0, NULL, 0, &r, &st) == MR_OK && strcmp(r.url, "http://b-1.[::1]/a") == 0, "by host");
	store.url = "http://[fe80::80]";
	store.virtual_hosts = false;
	ok(tsk_s3_prepare(&store, "GET", "b-1/a", NULL, 0, NULL, 0, &r, &st) == MR_OK && strcmp(r.url, "http://[fe80::80]/b-1/a") == 0, "an address that ends like a port");
	store.url = "http://minio:9000";
	store.session_token = "token";
	ok(tsk_s3_prepare(&store, "PUT", "b-1/a", "abc", 3, "image/png", 0, &r, &st) == MR_OK &&
	   strcmp(header(&r, "x-amz-content-sha256: "), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad") == 0 &&
	   strcmp(header(&r, "x-amz-security-token: "), "token") == 0 && strcmp(header(&r, "Content-Type: "), "image/png") == 0, "a put is signed with its content");
	store.url = "https://minio:9000";
	ok(tsk_s3_prepare(&store, "PUT", "b-1/a", "abc", 3, NULL, 0, &r, &st) == MR_OK &&
	   strcmp(header(&r, "x-amz-content-sha256: "), TSK_UNSIGNED_PAYLOAD) == 0 && strcmp(header(&r, "Content-Type:"), "") == 0, "over TLS without");
	store.access_key = NULL;
	ok(tsk_s3_prepare(&store, "GET", "b-1/%41", NULL, 0, NULL, 0, &r, &st) == MR_OK && r.n_headers == 0 && strcmp(r.url, "https://minio:9000/b-1/%2541") == 0,
	   "without keys nothing is signed");
	memset(long_key, 'x', sizeof(long_key));
	memcpy(long_key, "b-1/", 4);
	long_key[sizeof(long_key) - 1] = '\0';
	ok(tsk_s3_prepare(&store, "GET", long_key, NULL, 0, NULL, 0, &r, &st) == MR_LIMIT && tsk_s3_prepare(&store, "GET", "b-1", NULL, 0, NULL, 0, &r, &st) == MR_INVALID &&
	   tsk_s3_prepare(&store, "GET", "b-1/", NULL, 0, NULL, 0, &r, &st) == MR_INVALID, "paths that can be none");
}

int
main(void)
{
	statuses();
	refusals();
	elements();
	pauses();
	latencies();
	requests();
	return done_testing();
}
