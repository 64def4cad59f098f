/*
 * narrow.h
 *	  Batches of results, narrowed down to the one that cannot be taken.
 */
#ifndef MILLRACE_TASK_NARROW_H
#define MILLRACE_TASK_NARROW_H

#include "postgres.h"

typedef enum tsk_result
{
	TSK_COMMITTED,
	TSK_FAULTY,					/* the fault of what is in the batch */
	TSK_TROUBLE					/* of the surroundings */
} tsk_result;

/* A transaction of its own for elements first .. first + n - 1 of the subject. */
typedef void (*tsk_step) (void *subject, int first, int n);

typedef bool (*tsk_is_fault) (int sqlstate);

/* Do a step; what was wrong in *error, in the current context, the transaction undone. */
extern tsk_result tsk_try(tsk_step step, void *subject, int first, int n, tsk_is_fault is_fault, ErrorData **error);

/*
 * Do `together` for all n elements, in as few steps as they let it, by committing good prefixes; an element that fails alone by its
 * own fault is given to `aside`, which finds why in *error.  How many were done, in this order; less than n: there is trouble, in *error.
 */
extern int	tsk_narrow(tsk_step together, tsk_step aside, void *subject, int n, tsk_is_fault is_fault, ErrorData **error);

#endif							/* MILLRACE_TASK_NARROW_H */
