/*
 * requests.h
 *	  What the SQL functions of requests share.
 */
#ifndef MILLRACE_TASK_REQUESTS_H
#define MILLRACE_TASK_REQUESTS_H

#include "postgres.h"


/* A request to be appended; Datums are 0 where there is nothing. */
typedef struct tsk_request
{
	const char *method;
	const char *path;
	const char *deliver;		/* may be NULL */
	Datum		content;		/* bytea */
	Datum		content_type;	/* text */
	Datum		tag;			/* text */
	const char *fault;			/* it has failed already: only to be told; NULL: it has not */
} tsk_request;

/* Append it to the queue of a server and a role, which is made if need be; its number.  As the extension's owner, within SPI. */
extern int64 tsk_enqueue(const tsk_request *request, const char *server, const char *owner);

#endif							/* MILLRACE_TASK_REQUESTS_H */
