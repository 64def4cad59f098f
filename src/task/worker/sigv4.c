/*
 * sigv4.c
 *	  AWS Signature Version 4 (Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header").
 *
 * The canonical request is hashed as it is made and never stored.  S3's rules where they differ from other services':
 * the path is encoded once and not normalised, and x-amz-content-sha256 is always there.
 */
#include "task/worker/sigv4.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/sha256.h"

#define DIGEST 32
#define SCOPE "%.8s/%s/%s/aws4_request"

static void
to_hex(const uint8_t digest[DIGEST], char hex[65])
{
	for (int i = 0; i < DIGEST; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

void
tsk_sha256_hex(const void *data, size_t len, char hex[65])
{
	uint8_t		digest[DIGEST];

	mr_sha256_of(data, len, digest);
	to_hex(digest, hex);
}

/* HMAC-SHA-256 (RFC 2104). */
static void
hmac(const void *key, size_t key_len, const void *data, size_t len, uint8_t digest[DIGEST])
{
	uint8_t		block[64] = {0};
	uint8_t		pad[64];
	mr_sha256	h;

	if (key_len > sizeof(block))
		mr_sha256_of(key, key_len, block);
	else
		memcpy(block, key, key_len);
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] = block[i] ^ 0x36;
	mr_sha256_init(&h);
	mr_sha256_add(&h, pad, sizeof(pad));
	mr_sha256_add(&h, data, len);
	mr_sha256_end(&h, digest);
	for (size_t i = 0; i < sizeof(pad); i++)
		pad[i] = block[i] ^ 0x5c;
	mr_sha256_init(&h);
	mr_sha256_add(&h, pad, sizeof(pad));
	mr_sha256_add(&h, digest, DIGEST);
	mr_sha256_end(&h, digest);
	explicit_bzero(block, sizeof(block));
	explicit_bzero(pad, sizeof(pad));
	explicit_bzero(&h, sizeof(h));
}

size_t
tsk_uri_encode(const char *text, size_t n, int keep_slash, char *to, size_t room)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t		used = 0;

	for (size_t i = 0; i < n; i++)
	{
		unsigned char c = (unsigned char) text[i];
		bool		plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
			c == '-' || c == '.' || c == '_' || c == '~' || (c == '/' && keep_slash);

		if (used + (plain ? 1 : 3) >= room)
			return 0;
		if (plain)
			to[used++] = (char) c;
		else
		{
			to[used++] = '%';
			to[used++] = digits[c >> 4];
			to[used++] = digits[c & 15];
		}
	}
	if (used < room)
		to[used] = '\0';
	return used;
}

/* An encoded query parameter, where it lies in the scratch memory. */
typedef struct encoded_pair
{
	const char *name;
	const char *value;
} encoded_pair;

/* Insertion sort: there are few. */
static void
sort_pairs(encoded_pair *pairs, int n)
{
	for (int i = 1; i < n; i++)
	{
		encoded_pair p = pairs[i];
		int			j = i;

		for (; j > 0; j--)
		{
			int			order = strcmp(pairs[j - 1].name, p.name);

			if (order < 0 || (order == 0 && strcmp(pairs[j - 1].value, p.value) <= 0))
				break;
			pairs[j] = pairs[j - 1];
		}
		pairs[j] = p;
	}
}

/* Encode text to scratch + *used; NULL if it does not fit. */
static const char *
encode_to(char *scratch, size_t size, size_t *used, const char *text)
{
	char	   *at = scratch + *used;
	size_t		n = strlen(text);
	size_t		len = tsk_uri_encode(text, n, false, at, size - *used);

	if ((n > 0 && len == 0) || *used + len + 1 >= size)
		return NULL;
	*used += len + 1;
	return at;
}

/*
 * out->target: the encoded path, and behind a question mark the sorted query.  *query points to the canonical query,
 * which has an equals sign after every name.
 */
static mr_code
make_target(const tsk_sigv4_request *r, tsk_sigv4_signed *out, const char **query, size_t *path_len, mr_status *st)
{
	char		scratch[sizeof(out->target)];
	encoded_pair pairs[TSK_SIGV4_PAIRS];
	size_t		used = 0;
	size_t		len;

	if (r->path[0] != '/')
		return mr_fail(st, MR_INVALID, "path \"%s\" does not begin with a slash", r->path);
	if (r->n_query > TSK_SIGV4_PAIRS)
		return mr_fail(st, MR_LIMIT, "a request has more than %d query parameters", TSK_SIGV4_PAIRS);
	len = *path_len = tsk_uri_encode(r->path, strlen(r->path), true, out->target, sizeof(out->target));
	if (len == 0)
		return mr_fail(st, MR_LIMIT, "the path of a request is too long");
	for (int i = 0; i < r->n_query; i++)
	{
		pairs[i].name = encode_to(scratch, sizeof(scratch), &used, r->query[i].name);
		pairs[i].value = pairs[i].name == NULL ? NULL :
			encode_to(scratch, sizeof(scratch), &used, r->query[i].value ? r->query[i].value : "");
		if (pairs[i].value == NULL)
			return mr_fail(st, MR_LIMIT, "the query of a request is too long");
	}
	sort_pairs(pairs, r->n_query);
	*query = out->target + len + (r->n_query > 0);
	for (int i = 0; i < r->n_query; i++)
	{
		int			n = snprintf(out->target + len, sizeof(out->target) - len, "%c%s=%s", i ? '&' : '?', pairs[i].name, pairs[i].value);

		if ((size_t) n >= sizeof(out->target) - len)
			return mr_fail(st, MR_LIMIT, "the query of a request is too long");
		len += (size_t) n;
	}
	return MR_OK;
}

static bool
has_control(const char *text)
{
	for (; *text; text++)
		if (((unsigned char) *text < ' ' && *text != '\t') || *text == 0x7f)
			return true;
	return false;
}

static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char) (c + 32) : c;
}

/* Order of two header names, whatever their case. */
static int
compare_names(const char *a, const char *b)
{
	while (*a && lower(*a) == lower(*b))
		a++, b++;
	return (unsigned char) lower(*a) - (unsigned char) lower(*b);
}

static void
add_text(mr_sha256 *h, const char *text)
{
	mr_sha256_add(h, text, strlen(text));
}

static void
add_lower(mr_sha256 *h, const char *text)
{
	for (; *text; text++)
	{
		char		c = lower(*text);

		mr_sha256_add(h, &c, 1);
	}
}

/* A header's value: trimmed, each run of spaces one space. */
static void
add_value(mr_sha256 *h, const char *text)
{
	const char *end = text + strlen(text);

	while (*text == ' ' || *text == '\t')
		text++;
	while (end > text && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	for (; text < end; text++)
		if (*text != ' ' || text[1] != ' ')
			mr_sha256_add(h, text, 1);
}

/* Every signed header in its order; returns how many, 0 with the status set. */
static int
collect_headers(const tsk_sigv4_key *key, const tsk_sigv4_request *r, const tsk_sigv4_signed *out, tsk_pair *all, mr_status *st)
{
	int			n = 0;

	if (r->n_headers > TSK_SIGV4_PAIRS)
		return mr_fail(st, MR_LIMIT, "a request has more than %d headers", TSK_SIGV4_PAIRS), 0;
	all[n++] = (tsk_pair) {"host", r->host};
	all[n++] = (tsk_pair) {"x-amz-content-sha256", r->payload_sha256};
	all[n++] = (tsk_pair) {"x-amz-date", out->amz_date};
	if (key->session_token && *key->session_token)
		all[n++] = (tsk_pair) {"x-amz-security-token", key->session_token};
	for (int i = 0; i < r->n_headers; i++)
		all[n++] = r->headers[i];
	for (int i = 0; i < n; i++)
	{
		tsk_pair	p = all[i];
		int			j = i;

		if (has_control(p.name) || has_control(p.value))
			return mr_fail(st, MR_INVALID, "header \"%.64s\" contains a control character", p.name), 0;
		for (; j > 0 && compare_names(all[j - 1].name, p.name) > 0; j--)
			all[j] = all[j - 1];
		all[j] = p;
	}
	return n;
}

/* Append lower-case names, separated by semicolons; false if they do not fit. */
static bool
list_names(const tsk_pair *all, int n, char *to, size_t room)
{
	size_t		used = 0;

	for (int i = 0; i < n; i++)
	{
		if (used + strlen(all[i].name) + 2 > room)
			return false;
		if (i)
			to[used++] = ';';
		for (const char *c = all[i].name; *c; c++)
			to[used++] = lower(*c);
	}
	to[used] = '\0';
	return true;
}

static void
hash_request(const tsk_sigv4_request *r, const tsk_sigv4_signed *out, const char *query, size_t path_len,
			 const tsk_pair *all, int n, const char *names, char hex[65])
{
	mr_sha256	h;
	uint8_t		digest[DIGEST];

	mr_sha256_init(&h);
	add_text(&h, r->method);
	add_text(&h, "\n");
	mr_sha256_add(&h, out->target, path_len);
	add_text(&h, "\n");
	if (r->n_query > 0)
		add_text(&h, query);
	add_text(&h, "\n");
	for (int i = 0; i < n; i++)
	{
		add_lower(&h, all[i].name);
		add_text(&h, ":");
		add_value(&h, all[i].value);
		add_text(&h, "\n");
	}
	add_text(&h, "\n");
	add_text(&h, names);
	add_text(&h, "\n");
	add_text(&h, r->payload_sha256);
	mr_sha256_end(&h, digest);
	to_hex(digest, hex);
}

/* The key of a day, a region and a service; then the signature of text. */
static void
sign_text(const tsk_sigv4_key *key, const char *amz_date, const char *text, char hex[65])
{
	char		first[256];
	uint8_t		d[DIGEST];
	int			n = snprintf(first, sizeof(first), "AWS4%s", key->secret_key);

	hmac(first, (size_t) n, amz_date, 8, d);
	hmac(d, DIGEST, key->region, strlen(key->region), d);
	hmac(d, DIGEST, key->service, strlen(key->service), d);
	hmac(d, DIGEST, "aws4_request", 12, d);
	hmac(d, DIGEST, text, strlen(text), d);
	to_hex(d, hex);
	explicit_bzero(first, sizeof(first));
	explicit_bzero(d, sizeof(d));
}

mr_code
tsk_sigv4_sign(const tsk_sigv4_key *key, const tsk_sigv4_request *r, int64_t at, tsk_sigv4_signed *out, mr_status *st)
{
	tsk_pair	all[TSK_SIGV4_PAIRS + 4];
	char		names[1024];
	char		hex[65];
	char		text[512];
	const char *query = "";
	size_t		path_len = 0;
	time_t		seconds = (time_t) at;
	struct tm	utc;
	mr_code		code;
	int			n;

	if (strlen(key->secret_key) > 200 || strlen(key->region) + strlen(key->service) + strlen(key->access_key) > 384)
		return mr_fail(st, MR_LIMIT, "a key, region or service is too long to sign with");
	if (has_control(r->method) || has_control(key->access_key) || has_control(key->region) || has_control(key->service))
		return mr_fail(st, MR_INVALID, "a method, access key, region or service contains a control character");
	if (gmtime_r(&seconds, &utc) == NULL || strftime(out->amz_date, sizeof(out->amz_date), "%Y%m%dT%H%M%SZ", &utc) != 16)
		return mr_fail(st, MR_INVALID, "a time is out of range to sign with");
	if ((code = make_target(r, out, &query, &path_len, st)) != MR_OK)
		return code;
	if ((n = collect_headers(key, r, out, all, st)) == 0)
		return st ? st->code : MR_INVALID;
	if (!list_names(all, n, names, sizeof(names)))
		return mr_fail(st, MR_LIMIT, "the names of a request's headers are too long");
	hash_request(r, out, query, path_len, all, n, names, hex);
	if ((size_t) snprintf(text, sizeof(text), "AWS4-HMAC-SHA256\n%s\n" SCOPE "\n%s", out->amz_date,
						  out->amz_date, key->region, key->service, hex) >= sizeof(text))
		return mr_fail(st, MR_LIMIT, "a region or service is too long to sign with");
	sign_text(key, out->amz_date, text, hex);
	if ((size_t) snprintf(out->authorization, sizeof(out->authorization),
						  "AWS4-HMAC-SHA256 Credential=%s/" SCOPE ",SignedHeaders=%s,Signature=%s",
						  key->access_key, out->amz_date, key->region, key->service, names, hex) >= sizeof(out->authorization))
		return mr_fail(st, MR_LIMIT, "an access key is too long to sign with");
	return MR_OK;
}
