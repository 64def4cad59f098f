/*
 * http.h
 *	  What the two libraries agree on about requests over HTTP: millrace.so takes
 *	  them in and checks options, millrace_worker.so carries them out.
 */
#ifndef MILLRACE_TASK_HTTP_H
#define MILLRACE_TASK_HTTP_H

#include <stdbool.h>
#include <stdint.h>

typedef enum tsk_place
{
	TSK_ON_SERVER,				/* CREATE SERVER */
	TSK_ON_MAPPING				/* CREATE USER MAPPING: secrets and who we are */
} tsk_place;

/* An option of wrapper millrace_http.  What is not listed is refused. */
typedef struct tsk_option
{
	const char *name;
	tsk_place	place;
	bool		superuser;		/* only a superuser may set it: opens our network, reads server files or weakens TLS */
	const char *words;			/* "a|b" where only these are allowed */
	int64_t		low,
				high;			/* low < high: a whole number within */
	const char *fallback;		/* where it is not given; NULL: nothing */
} tsk_option;

#define TSK_MAX_CONCURRENCY 256

/* Keys of S3 have so many bytes at most; contents put, and fetched, are no larger than this. */
#define TSK_MAX_KEY 1024
#define TSK_MAX_CONTENT (INT64_C(256) << 20)

static const tsk_option tsk_options[] = {
	{"api", TSK_ON_SERVER, false, "s3", 0, 0, NULL},
	{"url", TSK_ON_SERVER, false, NULL, 0, 0, NULL},
	{"region", TSK_ON_SERVER, false, NULL, 0, 0, "us-east-1"},
	{"addressing", TSK_ON_SERVER, false, "path|virtual", 0, 0, "path"},
	{"concurrency", TSK_ON_SERVER, false, NULL, 1, TSK_MAX_CONCURRENCY, "16"},
	{"connect_timeout_ms", TSK_ON_SERVER, false, NULL, 1, 600000, "5000"},
	{"timeout_ms", TSK_ON_SERVER, false, NULL, 1, 3600000, "60000"},
	{"low_speed_bytes", TSK_ON_SERVER, false, NULL, 0, INT64_C(1) << 40, "1000"},
	{"low_speed_ms", TSK_ON_SERVER, false, NULL, 100, 3600000, "30000"},
	{"max_bytes", TSK_ON_SERVER, false, NULL, 1, TSK_MAX_CONTENT, "67108864"},
	{"max_attempts", TSK_ON_SERVER, false, NULL, 1, 100, "8"},
	{"backoff_ms", TSK_ON_SERVER, false, NULL, 1, 3600000, "1000"},
	{"batch_timeout_ms", TSK_ON_SERVER, false, NULL, 1000, 3600000, "60000"},
	{"allow_private", TSK_ON_SERVER, true, "true|false", 0, 0, "false"},
	{"ssl_ca_pem", TSK_ON_SERVER, false, NULL, 0, 0, NULL},
	{"ssl_ca_location", TSK_ON_SERVER, true, NULL, 0, 0, NULL},
	{"ssl_verify", TSK_ON_SERVER, true, "true|false", 0, 0, "true"},
	{"access_key", TSK_ON_MAPPING, false, NULL, 0, 0, NULL},
	{"secret_key", TSK_ON_MAPPING, false, NULL, 0, 0, NULL},
	{"session_token", TSK_ON_MAPPING, false, NULL, 0, 0, NULL},
};

#define TSK_N_OPTIONS ((int) (sizeof(tsk_options) / sizeof(tsk_options[0])))

#endif							/* MILLRACE_TASK_HTTP_H */
