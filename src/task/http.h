/*
 * http.h
 *	  What the two libraries agree on about requests over HTTP: millrace.so takes
 *	  them in and checks options, millrace_worker.so carries them out.
 */
#ifndef MILLRACE_TASK_HTTP_H
#define MILLRACE_TASK_HTTP_H

#include "core/server_pg.h"

#define TSK_MAX_CONCURRENCY 256

/* Keys of S3 have so many bytes at most; contents put, and fetched, are no larger than this. */
#define TSK_MAX_KEY 1024
#define TSK_MAX_CONTENT (INT64_C(256) << 20)

/* Options of wrapper millrace_http. */
static const mr_option tsk_options[] = {
	{"api", .place = MR_ON_SERVER, .words = "s3|ollama|openai|local"},
	{"url", .place = MR_ON_SERVER},
	{"region", .place = MR_ON_SERVER, .fallback = "us-east-1"},
	{"addressing", .place = MR_ON_SERVER, .words = "path|virtual", .fallback = "path"},
	{"concurrency", .place = MR_ON_SERVER, .low = 1, .high = TSK_MAX_CONCURRENCY, .fallback = "16"},
	{"connect_timeout_ms", .place = MR_ON_SERVER, .low = 1, .high = 600000, .fallback = "5000"},
	{"timeout_ms", .place = MR_ON_SERVER, .low = 1, .high = 3600000, .fallback = "60000"},
	{"low_speed_bytes", .place = MR_ON_SERVER, .low = 0, .high = INT64_C(1) << 40, .fallback = "1000"},
	{"low_speed_ms", .place = MR_ON_SERVER, .low = 100, .high = 3600000, .fallback = "30000"},
	{"max_bytes", .place = MR_ON_SERVER, .low = 1, .high = TSK_MAX_CONTENT, .fallback = "67108864"},
	{"max_attempts", .place = MR_ON_SERVER, .low = 1, .high = 100, .fallback = "8"},
	{"backoff_ms", .place = MR_ON_SERVER, .low = 1, .high = 3600000, .fallback = "1000"},
	{"batch_timeout_ms", .place = MR_ON_SERVER, .low = 1000, .high = 3600000, .fallback = "60000"},
	{"allow_private", .place = MR_ON_SERVER, .superuser = true, .words = "true|false", .fallback = "false"},
	{"ssl_ca_pem", .place = MR_ON_SERVER},
	{"ssl_ca_location", .place = MR_ON_SERVER, .superuser = true},
	{"ssl_verify", .place = MR_ON_SERVER, .superuser = true, .words = "true|false", .fallback = "true"},
	/* providers: ollama, openai; local has function alone */
	{"model", .place = MR_ON_SERVER},
	{"embedding_model", .place = MR_ON_SERVER},
	{"stream", .place = MR_ON_SERVER, .words = "true|false", .fallback = "false"},
	{"function", .place = MR_ON_SERVER},
	{"requests_per_minute", .place = MR_ON_SERVER, .low = 1, .high = 1000000000},
	{"tokens_per_minute", .place = MR_ON_SERVER, .low = 1, .high = INT64_C(1) << 50},
	{"cost_per_minute", .place = MR_ON_SERVER},
	{"cost_per_1k", .place = MR_ON_SERVER, .fallback = "0"},
	{"tenant_requests_per_minute", .place = MR_ON_SERVER, .low = 1, .high = 1000000000},
	{"tenant_tokens_per_minute", .place = MR_ON_SERVER, .low = 1, .high = INT64_C(1) << 50},
	{"tenant_cost_per_minute", .place = MR_ON_SERVER},
	{"access_key", .place = MR_ON_MAPPING},
	{"secret_key", .place = MR_ON_MAPPING},
	{"session_token", .place = MR_ON_MAPPING},
	{"api_key", .place = MR_ON_MAPPING},
	{"secret_file", .place = MR_ON_MAPPING, .superuser = true},
};

#define TSK_N_OPTIONS ((int) (sizeof(tsk_options) / sizeof(tsk_options[0])))

#endif							/* MILLRACE_TASK_HTTP_H */
