/*
 * sigv4.h
 *	  AWS Signature Version 4 in the Authorization header, as S3 and stores like it check it.
 *
 * Pure: no allocation, no clock, no locale.  What is signed is what is sent: the encoded path and query come
 * back in target, to be put into the request line as they are (libcurl: CURLOPT_PATH_AS_IS).
 */
#ifndef MILLRACE_TASK_SIGV4_H
#define MILLRACE_TASK_SIGV4_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

#define TSK_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"
#define TSK_EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

#define TSK_SIGV4_PAIRS 32		/* query parameters at most, and headers at most */

typedef struct tsk_pair
{
	const char *name;
	const char *value;
} tsk_pair;

/* Whose signature, and for what.  session_token: NULL or "" where there is none. */
typedef struct tsk_sigv4_key
{
	const char *access_key;
	const char *secret_key;
	const char *session_token;
	const char *region;			/* us-east-1 where a store does not care */
	const char *service;		/* s3 */
} tsk_sigv4_key;

typedef struct tsk_sigv4_request
{
	const char *method;			/* GET, PUT, … */
	const char *host;			/* as the Host header has it: with the port unless it is the scheme's own */
	const char *path;			/* "/bucket/key", not encoded; begins with a slash */
	int			n_query;
	const tsk_pair *query;		/* not encoded, in any order; value NULL is "" */
	int			n_headers;
	const tsk_pair *headers;	/* to be signed besides host, x-amz-date, x-amz-content-sha256, x-amz-security-token */
	const char *payload_sha256; /* 64 hex digits, or TSK_UNSIGNED_PAYLOAD (over TLS) */
} tsk_sigv4_request;

/*
 * What the request needs besides what it was signed with: the headers are
 * x-amz-date, x-amz-content-sha256 (the caller's own payload_sha256), x-amz-security-token where there is a token,
 * and Authorization.
 */
typedef struct tsk_sigv4_signed
{
	char		target[8192];	/* path and query as they stand in the request line */
	char		amz_date[17];	/* 20130524T000000Z */
	char		authorization[2048];
} tsk_sigv4_signed;

/*
 * Sign a request at a time (seconds since 1970, UTC).  MR_INVALID: a control character in what becomes a header,
 * or a path without its slash; MR_LIMIT: too long or too many.
 */
extern mr_code tsk_sigv4_sign(const tsk_sigv4_key *key, const tsk_sigv4_request *request, int64_t at,
							  tsk_sigv4_signed *out, mr_status *st);

/*
 * Percent-encode n bytes as S3 does: all but A-Z a-z 0-9 - . _ ~ (and / where keep_slash), capital hex digits.
 * Returns the length, or 0 with n > 0 where to has no room for it and a final '\0'.
 */
extern size_t tsk_uri_encode(const char *text, size_t n, int keep_slash, char *to, size_t room);

/* Lower-case hex of SHA-256, for payload_sha256. */
extern void tsk_sha256_hex(const void *data, size_t len, char hex[65]);

#endif							/* MILLRACE_TASK_SIGV4_H */
