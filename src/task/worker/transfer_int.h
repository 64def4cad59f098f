/*
 * transfer_int.h
 *	  A net and its transfers as the files of transfer.h see them.
 *
 *	transfer.c		life of nets and transfers; sockets, limits of time
 *	transfer_one.c	what one request is told, what it takes in, how it ended
 */
#ifndef MILLRACE_TASK_TRANSFER_INT_H
#define MILLRACE_TASK_TRANSFER_INT_H

#include <curl/curl.h>

#include "task/worker/transfer.h"

/* A transfer as we see it; the caller sees its first member. */
typedef struct tsk_one
{
	tsk_transfer t;
	tsk_net    *net;
	struct tsk_one *next;		/* of active, in the order of starting, or of done */
	CURL	   *easy;
	struct curl_slist *headers;
	bool		finished;
	bool		connected;
	bool		refused;		/* its address was */
	bool		gave_up;		/* one of our callbacks refused what came */
	bool		paused;			/* for want of budget */
	size_t		room;			/* of body */
	size_t		header_bytes;
	int64_t		received;		/* of the body */
	int			timeout_ms;
	int64_t		started;		/* microseconds of our clock, which stands still while nobody turns */
	int64_t		window;			/* when the average speed began to count ... */
	int64_t		window_bytes;	/* ... and what had come and gone by then */
	char		curl_error[CURL_ERROR_SIZE];
} tsk_one;

struct tsk_net
{
	tsk_net_options o;
	CURLM	   *multi;
	int			epoll;
	int			timer;
	tsk_one    *active;
	tsk_one    *done;
	int64_t		buffered;		/* bytes of bodies */
	int64_t		forgiven;		/* microseconds that did not count */
};

/* Microseconds of the net's clock. */
extern int64_t tsk_now_us(const tsk_net *net);

/* transfer_one.c: tell a new handle all it must know; false if libcurl refuses any of it. */
extern bool tsk_configure(tsk_one *t, const tsk_call *call);

/* And libcurl's result: how it was cut, if it was. */
extern void tsk_note_result(tsk_one *t, CURLcode result);

#endif							/* MILLRACE_TASK_TRANSFER_INT_H */
