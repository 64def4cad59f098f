/*
 * window.h
 *	  How many calls were begun, and how many tokens they took, in the last 65 s.
 *	  Pure.
 *
 * A ring of slices of 2.5 s: the one that has begun and the 26 before it, so
 * what is summed up covers at least 65 s and at most 67.5 s.  A limit of one
 * minute that is compared with it is kept in every 60 s at the server, though calls take up to
 * 5 s to get there.  Times are microseconds of any clock; one that was set back
 * (by more than a window) makes all that was counted count from now.
 */
#ifndef MILLRACE_TASK_WINDOW_H
#define MILLRACE_TASK_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#define TSK_SLICE_US INT64_C(2500000)
#define TSK_SLICES 27
#define TSK_WINDOW_US ((TSK_SLICES - 1) * TSK_SLICE_US)

/* All zero: nothing was counted. */
typedef struct tsk_window
{
	int64_t		newest;			/* number of the slice that has begun */
	int64_t		tokens[TSK_SLICES];
	int32_t		requests[TSK_SLICES];
} tsk_window;

/*
 * Count, or take off, what was begun at that time, not after now.  False, and
 * nothing is done, if that is no longer in the window.
 */
extern bool tsk_window_add(tsk_window *window, int64_t at, int requests, int64_t tokens, int64_t now);

/* What is in the window. */
extern void tsk_window_sum(tsk_window *window, int64_t now, int64_t *requests, int64_t *tokens);

/*
 * When one more request of so many tokens may begin, so that limits (0: none) are
 * kept: now, or later.  A request of more tokens than the limit has the window for
 * itself.
 */
extern int64_t tsk_window_room(tsk_window *window, int64_t requests_limit, int64_t tokens_limit, int64_t tokens, int64_t now);

#endif							/* MILLRACE_TASK_WINDOW_H */
