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

/*
 * Settings, which millrace.so defines (task_pg.c).  They are asked for by name, for a worker's process need not have
 * loaded it: then they are what the configuration says as text, or nothing.
 */
extern int	tsk_retention_s(void);	/* millrace.task_retention: how long what has ended is kept */
extern int	tsk_key_retention_s(void);	/* millrace.task_key_retention: how long an idempotency key is */

/*
 * The clock that tasks go by: all times in the tables of tasks.  millrace.task_clock_offset_ms (superusers, 0) sets it
 * ahead of the server's: for tests, which move it instead of waiting.
 */
extern TimestampTz tsk_now(void);

/* A leaf of task_done and task_attempts is the retention divided by (TSK_DONE_LEAVES - 1). */
extern int	tsk_queue_leaf(TimestampTz created_at);
extern int	tsk_done_leaf(TimestampTz finished_at);

#endif							/* MILLRACE_TASK_TASKS_H */
