/*
 * status.h
 *	  How the cores report failure: a code and three texts, never a jump.
 *
 * Core code (image, nn, learn, and the parts of core without postgres.h)
 * returns an mr_code and fills the caller's mr_status.  The glue turns it into
 * ereport() with mr_pg_raise(); unit tests print it.  Texts follow PostgreSQL's
 * style: message lower-case without a period, detail and hint sentences.
 */
#ifndef MILLRACE_STATUS_H
#define MILLRACE_STATUS_H

typedef enum mr_code
{
	MR_OK = 0,
	MR_INVALID,					/* bad input data or argument: 22023 */
	MR_LIMIT,					/* input exceeds a configured limit: 54000 */
	MR_UNSUPPORTED,				/* well-formed, but not something we do: 0A000 */
	MR_NOMEM,					/* allocation failed: 53200 */
	MR_CANCELED,				/* env->interrupted() asked to stop: 57014 */
	MR_CORRUPT,					/* a file of our own is damaged: XX001 */
	MR_IO,						/* the operating system refused: 58030 */
	MR_INTERNAL					/* cannot happen: XX000 */
} mr_code;

typedef struct mr_status
{
	mr_code		code;
	char		message[256];
	char		detail[512];
	char		hint[512];
} mr_status;

#if defined(__GNUC__)
#define MR_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define MR_PRINTF(f, a)
#endif

/* Set code and message; clears detail and hint.  Returns code, so that a
 * failing function ends with "return mr_fail(st, MR_INVALID, ...)".  A NULL
 * status is allowed. */
extern mr_code mr_fail(mr_status *st, mr_code code, const char *fmt,...) MR_PRINTF(3, 4);

/* Add a detail or a hint to a failure already set. */
extern void mr_detail(mr_status *st, const char *fmt,...) MR_PRINTF(2, 3);
extern void mr_hint(mr_status *st, const char *fmt,...) MR_PRINTF(2, 3);

#endif							/* MILLRACE_STATUS_H */
