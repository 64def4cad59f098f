/*
 * tasks.h
 *	  What the two libraries agree on about tasks: millrace.so takes them in,
 *	  millrace_worker.so carries them out.
 *
 * An id is a version 8 UUID: 60 bits of a sequence in front, 62 bits of chance behind.  Ids are therefore in
 * the order of submission, for one order_key in that of the commits (submit_task() holds a lock on the key), and nobody guesses one.
 */
#ifndef MILLRACE_TASK_TASKS_H
#define MILLRACE_TASK_TASKS_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "utils/uuid.h"

#define TSK_LANE_CALL	"call"
#define TSK_LANE_SQL	"sql"
#define TSK_SQL_QUEUE	"sql"	/* name of the queue of lane sql that needs no provider */

/* Leaves of task_queue take turns by time of submission, those of task_done and task_attempts by time of the end. */
#define TSK_QUEUE_LEAVES 4
#define TSK_QUEUE_LEAF_MINUTES 5
#define TSK_DONE_LEAVES 8

/* GUC millrace.task_retention, in seconds: a leaf of task_done and task_attempts is this long divided by (TSK_DONE_LEAVES - 1). */
extern int	tsk_retention_s;

/*
 * GUC millrace.task_clock_offset_ms (superusers, 0): the clock that tasks go by is ahead of the server's by so much.
 * For tests, which move it instead of waiting.  All times in the tables of tasks are by tsk_now().
 */
extern int	tsk_clock_offset_ms;
extern TimestampTz tsk_now(void);

extern int	tsk_queue_leaf(TimestampTz created_at);
extern int	tsk_done_leaf(TimestampTz finished_at);

#endif							/* MILLRACE_TASK_TASKS_H */
