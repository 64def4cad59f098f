/*
 * s3.h
 *	  What a request for an object looks like on the wire, and what a store's refusal says.
 *
 * Pure: no allocation but the caller's, no clock, no locale.
 */
#ifndef MILLRACE_TASK_S3_H
#define MILLRACE_TASK_S3_H

#include <stdbool.h>

#include "task/worker/sigv4.h"

/* A store, as its server's options and the user mapping have it. */
typedef struct tsk_store
{
	const char *url;			/* http://host:port, perhaps with a final slash */
	const char *region;
	bool		virtual_hosts;	/* bucket.host instead of host/bucket */
	const char *access_key;		/* NULL: requests are not signed */
	const char *secret_key;
	const char *session_token;	/* NULL: none */
} tsk_store;

#define TSK_S3_HEADERS 8

typedef struct tsk_s3_request
{
	char		url[10240];
	int			n_headers;
	const char *headers[TSK_S3_HEADERS];	/* in `text` */
	char		text[8192];
} tsk_s3_request;

/*
 * Request of an object: method GET or PUT, path "bucket/key" (not encoded), and of a PUT its content and type (NULL:
 * none).  Anything that cannot be sent is MR_INVALID or MR_LIMIT.
 */
extern mr_code tsk_s3_prepare(const tsk_store *store, const char *method, const char *path, const void *content, size_t len,
							  const char *content_type, int64_t at, tsk_s3_request *out, mr_status *st);

/* Element <name> of the XML that a store explains an error with, as printable ASCII; "" if it is not there. */
extern void tsk_s3_element(const char *body, size_t len, const char *name, char *to, size_t room);

#endif							/* MILLRACE_TASK_S3_H */
