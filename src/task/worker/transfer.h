/*
 * transfer.h
 *	  Many HTTP requests at once, by libcurl.
 *
 * transfer*.c are the only files here that know libcurl, and know no PostgreSQL.
 * No call waits: sleep on tsk_net_fd() for tsk_net_wait_ms() at most, turn, and
 * take what has finished.
 */
#ifndef MILLRACE_TASK_TRANSFER_H
#define MILLRACE_TASK_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sockaddr;

typedef struct tsk_net tsk_net;

typedef struct tsk_net_options
{
	int			connections;	/* kept at most */
	int			connect_timeout_ms;	/* to the end of the TLS handshake */
	int			timeout_ms;		/* of a request as a whole */
	int64_t		low_speed_bytes;	/* a second, on average over ... */
	int			low_speed_ms;	/* ... so long: less is given up; 0 bytes: never */
	int64_t		max_bytes;		/* of an answer's body */
	int64_t		budget;			/* of all bodies here; past it answers wait in the network, but for the oldest's */
	const char *ca_pem;			/* NULL: the system's */
	const char *ca_location;	/* file; NULL: the system's */
	bool		verify;
	bool		(*refuses) (const struct sockaddr *address);	/* addresses not to be connected to; NULL: none */
} tsk_net_options;

/* Why a transfer has no whole answer. */
typedef enum tsk_cut
{
	TSK_WHOLE,					/* it has: see status */
	TSK_UNCONNECTED,			/* no address, refused, TLS */
	TSK_REFUSED,				/* an address it may not have */
	TSK_LOST,					/* the connection broke */
	TSK_TRUNCATED,				/* it ended before the announced length */
	TSK_SLOW,					/* one of the limits of time */
	TSK_LARGE,					/* more than max_bytes, announced or come */
	TSK_NO_HTTP,				/* something else than HTTP, or headers without end */
	TSK_MEMORY
} tsk_cut;

typedef struct tsk_transfer
{
	void	   *subject;		/* the caller's */
	tsk_cut		cut;
	int			status;			/* HTTP; 0: none came */
	char		error[320];		/* if cut */
	char	   *body;			/* of another status than 2xx its beginning only */
	size_t		len;
	int64_t		retry_after_ms; /* 0: the server said nothing */
	char		content_type[128];	/* as the server has it, cut; "": it said none */
	int64_t		duration_us;
	int64_t		sent;			/* bytes of the request's body */
} tsk_transfer;

typedef struct tsk_call
{
	const char *method;
	const char *url;
	const char *const *headers; /* "name: value" */
	int			n_headers;
	const void *body;			/* stays the caller's until the end; NULL: none */
	size_t		body_len;
	int			timeout_ms;		/* of this one; 0: as the net's */
} tsk_call;

/* NULL, with the reason in error, if that cannot be.  options' strings are copied. */
extern tsk_net *tsk_net_open(const tsk_net_options *options, char *error, size_t error_size);
extern void tsk_net_close(tsk_net *net);	/* and all its transfers; waits for nothing */

/* Begin a request; NULL, with the reason in error, if that cannot be. */
extern tsk_transfer *tsk_start(tsk_net *net, const tsk_call *call, void *subject, char *error, size_t error_size);

/* Do what can be done now. */
extern void tsk_net_turn(tsk_net *net);

/* A transfer that has ended, which is now the caller's to free; NULL: none. */
extern tsk_transfer *tsk_net_done(tsk_net *net);

/* Free a finished one, or give up one that is not. */
extern void tsk_free(tsk_net *net, tsk_transfer *transfer);

/* Sleep on this descriptor (readable) until then: milliseconds to the next limit of time, -1: none. */
extern int	tsk_net_fd(const tsk_net *net);
extern int	tsk_net_wait_ms(const tsk_net *net);

/* Time in which nobody turned: it counts against no limit. */
extern void tsk_net_forgive(tsk_net *net, int64_t us);

#endif							/* MILLRACE_TASK_TRANSFER_H */
