/*
 * window.c
 *	  Sliding windows.  See window.h.
 */
#include "task/window.h"

#include <string.h>

static int
place(int64_t slice)
{
	return (int) (slice % TSK_SLICES);
}

static void
clear(tsk_window *w, int64_t slice)
{
	w->requests[place(slice)] = 0;
	w->tokens[place(slice)] = 0;
}

/* Let the slice of this time be the newest; what has left the window is cleared. */
static void
advance(tsk_window *w, int64_t now)
{
	int64_t		slice = now / TSK_SLICE_US;
	int64_t		requests = 0;
	int64_t		tokens = 0;

	if (slice >= w->newest + TSK_SLICES)
		memset(w, 0, sizeof(*w));
	else if (slice + TSK_SLICES <= w->newest)
	{
		/* The clock was set back: nobody knows when this was, so all of it was just now. */
		for (int i = 0; i < TSK_SLICES; i++)
		{
			requests += w->requests[i];
			tokens += w->tokens[i];
		}
		memset(w, 0, sizeof(*w));
		w->requests[place(slice)] = (int32_t) (requests < INT32_MAX ? requests : INT32_MAX);
		w->tokens[place(slice)] = tokens;
	}
	else if (slice <= w->newest)
		return;					/* a clock that is a little behind another's: the later one goes */
	else
		for (int64_t s = w->newest + 1; s <= slice; s++)
			clear(w, s);
	w->newest = slice;
}

bool
tsk_window_add(tsk_window *w, int64_t at, int requests, int64_t tokens, int64_t now)
{
	int64_t		slice = at / TSK_SLICE_US;

	advance(w, now);
	if (slice > w->newest)
		slice = w->newest;
	if (slice <= w->newest - TSK_SLICES)
		return false;
	w->requests[place(slice)] += requests;
	w->tokens[place(slice)] += tokens;
	return true;
}

void
tsk_window_sum(tsk_window *w, int64_t now, int64_t *requests, int64_t *tokens)
{
	advance(w, now);
	*requests = *tokens = 0;
	for (int i = 0; i < TSK_SLICES; i++)
	{
		*requests += w->requests[i];
		*tokens += w->tokens[i];
	}
}

int64_t
tsk_window_room(tsk_window *w, int64_t requests_limit, int64_t tokens_limit, int64_t tokens, int64_t now)
{
	int64_t		requests_in,
				tokens_in;

	tsk_window_sum(w, now, &requests_in, &tokens_in);
	for (int64_t slice = w->newest - TSK_SLICES + 1;; slice++)
	{
		bool		room = (requests_limit == 0 || requests_in < requests_limit) &&
			(tokens_limit == 0 || tokens_in <= 0 || tokens_in + tokens <= tokens_limit);

		if (room || slice > w->newest)
			return slice == w->newest - TSK_SLICES + 1 ? now : (slice - 1 + TSK_SLICES) * TSK_SLICE_US;
		requests_in -= w->requests[place(slice)];
		tokens_in -= w->tokens[place(slice)];
	}
}
