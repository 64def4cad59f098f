/*
 * s3.c
 *	  Requests for objects of S3-compatible stores.  See s3.h.
 *
 * The signature covers the host, the encoded path and the content's hash; over
 * TLS the content of a PUT is left out of it, as AWS's own clients do.
 */
#include "task/worker/s3.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Append a header to out; false if there is no room. */
static bool __attribute__((format(printf, 3, 4)))
add_header(tsk_s3_request *out, size_t *used, const char *format,...)
{
	va_list		args;
	int			n;

	if (out->n_headers == TSK_S3_HEADERS)
		return false;
	va_start(args, format);
	n = vsnprintf(out->text + *used, sizeof(out->text) - *used, format, args);
	va_end(args);
	if (n < 0 || (size_t) n >= sizeof(out->text) - *used)
		return false;
	out->headers[out->n_headers++] = out->text + *used;
	*used += (size_t) n + 1;
	return true;
}

/* Authority of a URL that begins with http:// or https://. */
static const char *
host_of(const char *url, size_t *len)
{
	const char *host = strstr(url, "://");

	host = host ? host + 3 : url;
	*len = strcspn(host, "/");
	return host;
}

/* The Host header's value: without a port that is the scheme's own, as libcurl sends it. */
static bool
make_host(const tsk_store *store, const char *bucket, int bucket_len, char *to, size_t room)
{
	size_t		len;
	const char *host = host_of(store->url, &len);
	const char *port = strncmp(store->url, "https:", 6) == 0 ? ":443" : ":80";
	size_t		port_len = strlen(port);

	if (len > port_len && memcmp(host + len - port_len, port, port_len) == 0 && host[len - port_len - 1] != ':')
		len -= port_len;
	if (store->virtual_hosts)
		return (size_t) snprintf(to, room, "%.*s.%.*s", bucket_len, bucket, (int) len, host) < room;
	return (size_t) snprintf(to, room, "%.*s", (int) len, host) < room;
}

mr_code
tsk_s3_prepare(const tsk_store *store, const char *method, const char *path, const void *content, size_t len,
			   const char *content_type, int64_t at, tsk_s3_request *out, mr_status *st)
{
	bool		secure = strncmp(store->url, "https:", 6) == 0;
	int			bucket_len = (int) strcspn(path, "/");
	char		host[512];
	char		raw[2048];		/* the path as it is signed, not encoded */
	char		hash[65] = TSK_EMPTY_SHA256;
	tsk_pair	type = {"content-type", content_type};
	tsk_sigv4_key key = {store->access_key, store->secret_key, store->session_token, store->region, "s3"};
	tsk_sigv4_request r = {.method = method,.host = host,.path = raw,.n_headers = content_type ? 1 : 0,.headers = &type,.payload_sha256 = hash};
	tsk_sigv4_signed made;
	size_t		used = 0;
	mr_code		code;
	bool		good;

	out->n_headers = 0;
	/* The bucket may become part of the host. */
	if (bucket_len == 0 || (int) strspn(path, "abcdefghijklmnopqrstuvwxyz0123456789.-") != bucket_len ||
		path[bucket_len] != '/' || path[bucket_len + 1] == '\0')
		return mr_fail(st, MR_INVALID, "a path is bucket/key, the bucket of lower-case letters, digits, dots and dashes");
	if (!make_host(store, path, bucket_len, host, sizeof(host)) ||
		(size_t) snprintf(raw, sizeof(raw), "%s%s", store->virtual_hosts ? "" : "/", store->virtual_hosts ? path + bucket_len : path) >= sizeof(raw))
		return mr_fail(st, MR_LIMIT, "a path or host is too long");
	if (content != NULL && !secure)
		tsk_sha256_hex(content, len, hash);
	else if (content != NULL)
		snprintf(hash, sizeof(hash), "%s", TSK_UNSIGNED_PAYLOAD);
	if (store->access_key == NULL)
		good = tsk_uri_encode(raw, strlen(raw), 1, made.target, sizeof(made.target)) > 0;
	else
	{
		if ((code = tsk_sigv4_sign(&key, &r, at, &made, st)) != MR_OK)
			return code;
		good = add_header(out, &used, "x-amz-content-sha256: %s", hash) && add_header(out, &used, "x-amz-date: %s", made.amz_date) &&
			add_header(out, &used, "Authorization: %s", made.authorization) &&
			(store->session_token == NULL || add_header(out, &used, "x-amz-security-token: %s", store->session_token));
		explicit_bzero(made.authorization, sizeof(made.authorization));
	}
	/* Without a type libcurl would call it a form. */
	if (good && content != NULL)
		good = add_header(out, &used, content_type ? "Content-Type: %s" : "Content-Type:%s", content_type ? content_type : "");
	if (!good || (size_t) snprintf(out->url, sizeof(out->url), "%s://%s%s", secure ? "https" : "http", host, made.target) >= sizeof(out->url))
		return mr_fail(st, MR_LIMIT, "a path, a content type or a session token is too long");
	return MR_OK;
}

/* n bytes within n_within; NULL: not there. */
static const char *
find(const char *within, size_t n_within, const char *what, size_t n)
{
	for (; n_within >= n; within++, n_within--)
		if (memcmp(within, what, n) == 0)
			return within;
	return NULL;
}

void
tsk_s3_element(const char *body, size_t len, const char *name, char *to, size_t room)
{
	char		tag[64];
	int			n = snprintf(tag, sizeof(tag), "<%s>", name);
	const char *start = body ? find(body, len, tag, (size_t) n) : NULL;
	const char *end;
	size_t		used = 0;

	if (start)
	{
		start += n;
		end = find(start, len - (size_t) (start - body), "</", 2);
		for (; end && start < end && used + 1 < room; start++)
			to[used++] = *start >= ' ' && *start < 0x7f ? *start : '?';
	}
	to[used] = '\0';
}
